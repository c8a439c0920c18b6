package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Vendors of GPUs, by their PCI vendor ids.
var vendors = map[string]string{"0x10de": "nvidia", "0x1002": "amd"}

const (
	pciDevices    = "bus/pci/devices"
	displayClass  = "0x03" // first byte of the class of display controllers
	computeClass  = "0x12" // of processing accelerators
	maxAttribute  = 4 << 10
	maxPCIDevices = 4096 // that are looked at
)

// lostFromBus is said of a GPU that is gone.
const lostFromBus = "it is lost from the bus: switch the machine off and on, and reseat the card if it comes again"

// pciGPUs lists the GPUs on the PCI bus below sys, the tree of /sys, in the
// order of their addresses. A machine without such a bus has none.
func pciGPUs(sys fs.FS) ([]*Device, error) {
	entries, err := fs.ReadDir(sys, pciDevices)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("host: the PCI bus: %w", err)
	}
	var list []*Device
	for _, e := range entries[:min(len(entries), maxPCIDevices)] {
		at := path.Join(pciDevices, e.Name())
		vendor, known := vendors[attribute(sys, at, "vendor")]
		class := attribute(sys, at, "class")
		if known && (strings.HasPrefix(class, displayClass) || strings.HasPrefix(class, computeClass)) {
			list = append(list, pciGPU(sys, at, vendor, normalPCI(e.Name())))
		}
	}
	slices.SortFunc(list, func(a, b *Device) int { return strings.Compare(a.PCI, b.PCI) })
	return list, nil
}

// pciGPU reads what does not depend on the vendor.
func pciGPU(sys fs.FS, at, vendor, pci string) *Device {
	d := newDevice(vendor, pci)
	d.Driver = driverOf(sys, at)
	switch {
	case fallenOff(sys, at):
		d.note(Sick, lostFromBus)
	case d.Driver == "":
		d.note(Unknown, "no driver is bound to it: install the vendor's driver")
	case attribute(sys, at, "power/runtime_status") == "suspended":
		d.asleep = true
	}
	return d
}

// driverOf is the kernel driver that is bound to a device, with its version
// where it states one.
func driverOf(sys fs.FS, at string) string {
	target, err := fs.ReadLink(sys, path.Join(at, "driver"))
	if err != nil {
		return ""
	}
	name := path.Base(target)
	if version := attribute(sys, "module", name, "version"); version != "" {
		return name + " " + version
	}
	return name
}

// fallenOff tells a device whose configuration space reads as ones: nothing
// answers at its address any more.
func fallenOff(sys fs.FS, at string) bool {
	f, err := sys.Open(path.Join(at, "config"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it is only read
	var id [4]byte
	n, _ := f.Read(id[:])
	return n == len(id) && bytes.Equal(id[:], []byte{0xff, 0xff, 0xff, 0xff})
}

// attribute is the trimmed text of a file below sys, or empty where it cannot be read.
func attribute(sys fs.FS, parts ...string) string {
	f, err := sys.Open(path.Join(parts...))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it is only read
	text := make([]byte, maxAttribute)
	n, err := f.Read(text)
	if n <= 0 || err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(text[:n]), "?"))
}

// number is an attribute that is a whole number.
func number(sys fs.FS, parts ...string) (uint64, bool) {
	n, err := strconv.ParseUint(attribute(sys, parts...), 0, 64)
	return n, err == nil
}

// normalPCI writes an address as the kernel does: four digits of domain, lower case.
func normalPCI(s string) string {
	s = strings.ToLower(s)
	for strings.IndexByte(s, ':') > 4 && s[0] == '0' {
		s = s[1:]
	}
	return s
}
