package kernels

import (
	"fmt"

	"seedmesh/kernels/internal/opencl"
)

// OpenOpenCL opens the OpenCL device of a number, counted from 0 over all
// drivers. It keeps compiled programs in a directory, unless that is "". It
// refuses every search when the device does not pass [Conformance].
func OpenOpenCL(index int, directory string) (Device, error) {
	d, err := opencl.Open(index)
	if err != nil {
		return nil, &NoDeviceError{fmt.Sprintf("%s:%d", OpenCL, index), err}
	}
	return newVetted(OpenCL, openCLDriver{d}, codeCache(directory)), nil
}

// Devices are the kinds of device that can search for the generator, the CPU first.
func (g Generator) Devices() []string {
	if g.NotAccelerated() != "" {
		return []string{"cpu"}
	}
	return []string{"cpu", OpenCL}
}

// NotAccelerated says why only the CPU can search for the generator, or nothing.
func (g Generator) NotAccelerated() string {
	d, err := lookup(g.Name)
	if err != nil {
		return err.Error()
	}
	return d.notAccelerated()
}

// openCLDriver is the driver; the package beside it knows no interface of this one.
type openCLDriver struct{ *opencl.Device }

func (d openCLDriver) Load(code []byte, items, found int) (program, error) {
	p, err := d.Device.Load(code, items, found)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// OpenCL is the name of the devices that [OpenOpenCL] opens.
const OpenCL = "opencl"

// A NoDeviceError says why a device cannot be opened.
type NoDeviceError struct {
	Device string
	Err    error
}

func (e *NoDeviceError) Error() string {
	return fmt.Sprintf("kernels: the device %s cannot be opened: %v", e.Device, e.Err)
}

func (e *NoDeviceError) Unwrap() error { return e.Err }

// Remedy says what a machine needs for it.
func (e *NoDeviceError) Remedy() string {
	return "install the OpenCL driver of the device's vendor and the loader libOpenCL.so.1 (on Debian: ocl-icd-libopencl1), or leave the slot out"
}
