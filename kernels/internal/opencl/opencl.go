// Package opencl drives the accelerators that a machine has OpenCL drivers for.
//
// The vendors' loader is opened at run time, so that the binary needs no C
// compiler and runs where there is no driver. It knows one kernel, "search", of
// the shape that kernels/src/search.h gives it; what is searched for is not its
// business.
//
// Read opencl.go for the devices, program.go for programs and launches,
// library.go for the functions of the loader.
package opencl

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// Numbers of the OpenCL 1.2 specification.
const (
	success           = 0
	deviceNotFound    = -1
	platformNotFound  = -1001
	deviceTypeAll     = 0xFFFFFFFF
	deviceTypeCPU     = 1 << 1
	deviceType        = 0x1000
	deviceName        = 0x102B
	deviceVendor      = 0x102C
	driverVersion     = 0x102D
	deviceVersion     = 0x102F
	deviceAvailable   = 0x1027
	deviceCompiler    = 0x1028
	deviceMemory      = 0x101F
	devicePCI         = 0x410F // of the extension cl_khr_pci_bus_info
	programBinarySize = 0x1165
	programBinaries   = 0x1166
	programBuildLog   = 0x1183
	memReadWrite      = 1 << 0
)

// Bounds of what is asked of a loader.
const (
	maxPlatforms = 16
	maxDevices   = 64        // of a platform
	maxText      = 1 << 12   // bytes of a device's name
	maxLog       = 1 << 14   // bytes of a compiler's messages that are shown
	maxCode      = 256 << 20 // bytes of a compiled program
)

// ErrNone says that the machine has no OpenCL: no loader, no driver, or no device.
var ErrNone = errors.New("there is no OpenCL on this machine")

// A Device is one device with a context and a queue of its own. It is used by
// one goroutine at a time.
type Device struct {
	lib      *library
	id       uintptr
	context  uintptr
	queue    uintptr
	identity string
	pci      string
	memory   uint64
	cpu      bool
}

// Open opens the device of a number, counted from 0 over all platforms in the
// loader's order, which is looked for in a directory first, unless that is "".
// Its error is or wraps [ErrNone] where there is none at all.
func Open(directory string, index int) (*Device, error) {
	lib, err := load(directory, loaderName)
	if err != nil {
		return nil, err
	}
	ids, err := lib.devices()
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: its loader knows no device", ErrNone)
	}
	if index < 0 || index >= len(ids) {
		return nil, fmt.Errorf("there is no OpenCL device %d; the last one is %d", index, len(ids)-1)
	}
	return open(lib, ids[index])
}

func open(lib *library, id uintptr) (*Device, error) {
	d := &Device{lib: lib, id: id}
	for _, what := range []uint32{deviceVendor, deviceName, deviceVersion, driverVersion} {
		text, err := lib.text(id, what)
		if err != nil {
			return nil, err
		}
		d.identity += text + "; "
	}
	d.identity = strings.TrimSuffix(d.identity, "; ")
	for _, must := range []struct {
		what uint32
		name string
	}{{deviceAvailable, "is not available"}, {deviceCompiler, "has no compiler"}} {
		var yes uint32
		if err := lib.info(id, must.what, unsafe.Pointer(&yes), unsafe.Sizeof(yes)); err != nil {
			return nil, err
		}
		if yes == 0 {
			return nil, fmt.Errorf("the OpenCL device %s %s", d.identity, must.name)
		}
	}
	var kind uint64
	if err := lib.info(id, deviceType, unsafe.Pointer(&kind), unsafe.Sizeof(kind)); err != nil {
		return nil, err
	}
	d.cpu = kind&deviceTypeCPU != 0
	if err := lib.info(id, deviceMemory, unsafe.Pointer(&d.memory), unsafe.Sizeof(d.memory)); err != nil {
		return nil, err
	}
	var at [4]uint32 // domain, bus, device, function
	if lib.info(id, devicePCI, unsafe.Pointer(&at), unsafe.Sizeof(at)) == nil {
		d.pci = fmt.Sprintf("%04x:%02x:%02x.%x", at[0], at[1], at[2], at[3])
	}
	var status int32
	if d.context = lib.createContext(0, 1, &d.id, 0, 0, &status); status != success {
		return nil, failed("clCreateContext", status)
	}
	if d.queue = lib.createCommandQueue(d.context, d.id, 0, &status); status != success {
		return nil, errors.Join(failed("clCreateCommandQueue", status), check("clReleaseContext", lib.releaseContext(d.context)))
	}
	return d, nil
}

// Identity names the vendor, the device, and the versions of OpenCL and the driver.
func (d *Device) Identity() string { return d.identity }

// PCI is the device's place on the bus, such as 0000:01:00.0, or "" for one that
// has none or whose driver does not say it.
func (d *Device) PCI() string { return d.pci }

// Memory is how many bytes the device has.
func (d *Device) Memory() uint64 { return d.memory }

// Lanes is 16 on a processor, whose compilers make vector instructions of
// vectors only.
func (d *Device) Lanes() int {
	if d.cpu {
		return 16
	}
	return 1
}

// group is how many work items run together. It is the same in all launches,
// because some drivers compile a kernel again for every other one.
func (d *Device) group() uintptr {
	if d.cpu {
		return 1
	}
	return 64
}

// Close lets go of the device; its programs are closed before.
func (d *Device) Close() error {
	return errors.Join(
		check("clReleaseCommandQueue", d.lib.releaseCommandQueue(d.queue)),
		check("clReleaseContext", d.lib.releaseContext(d.context)))
}

// devices are those of all platforms.
func (l *library) devices() ([]uintptr, error) {
	platforms := make([]uintptr, maxPlatforms)
	var n uint32
	switch status := l.getPlatformIDs(maxPlatforms, &platforms[0], &n); status {
	case success:
	case platformNotFound:
		return nil, fmt.Errorf("%w: its loader knows no driver", ErrNone)
	default:
		return nil, failed("clGetPlatformIDs", status)
	}
	var all []uintptr
	for _, platform := range platforms[:min(n, maxPlatforms)] {
		ids := make([]uintptr, maxDevices)
		switch status := l.getDeviceIDs(platform, deviceTypeAll, maxDevices, &ids[0], &n); status {
		case success:
			all = append(all, ids[:min(n, maxDevices)]...)
		case deviceNotFound:
		default:
			return nil, failed("clGetDeviceIDs", status)
		}
	}
	return all, nil
}

func (l *library) info(device uintptr, what uint32, value unsafe.Pointer, size uintptr) error {
	return check("clGetDeviceInfo", l.getDeviceInfo(device, what, size, value, nil))
}

func (l *library) text(device uintptr, what uint32) (string, error) {
	text := make([]byte, maxText)
	err := l.info(device, what, unsafe.Pointer(&text[0]), maxText)
	before, _, _ := strings.Cut(string(text), "\x00")
	return strings.TrimSpace(before), err
}

// An Error is a call that the driver refused, with the number it gave.
type Error struct {
	Call   string
	Status int32
}

func (e *Error) Error() string { return fmt.Sprintf("%s gave error %d", e.Call, e.Status) }

func failed(call string, status int32) error { return &Error{call, status} }

func check(call string, status int32) error {
	if status == success {
		return nil
	}
	return failed(call, status)
}
