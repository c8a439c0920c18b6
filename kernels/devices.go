package kernels

// Identity names a device with its driver, or is its name.
func Identity(d Device) string {
	if v, ok := d.(*vetted); ok {
		return v.driver.Identity()
	}
	return d.Name()
}

// PCI is where on its machine's bus a device is, such as 0000:01:00.0, or "" for
// what is no accelerator or does not say.
func PCI(d Device) string {
	if v, ok := d.(*vetted); ok {
		if at, ok := v.driver.(interface{ PCI() string }); ok {
			return at.PCI()
		}
	}
	return ""
}
