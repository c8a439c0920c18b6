// Package gpu drives NVIDIA's and AMD's accelerators through CUDA and HIP, whose
// programming interfaces are one, under two names.
//
// The drivers' libraries are opened at run time. The package knows one kernel,
// "search", of the shape that kernels/src/search.h gives it; what is searched for
// is not its business.
//
// Read gpu.go for the devices, compiler.go for the compilers that come as
// libraries, program.go for programs and launches, library.go for the functions
// of the two interfaces.
package gpu

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"
)

const maxText = 1 << 8 // bytes of a device's name

// ErrNone says that the machine has no driver of an interface, or no device for it.
var ErrNone = errors.New("there is no such driver or device on this machine")

// A Device is one device. It is used by one goroutine at a time.
type Device struct {
	lib      *library
	compiler *compiler // nil for none
	id       int32
	context  uintptr
	identity string
	pci      string
	memory   uint64
}

// Open opens the device of a number, counted from 0 in the order of the interface.
// Libraries are looked for in a directory first, unless that is "". A device of
// NVIDIA's is opened without a compiler where there is none, or if embedded says so:
// it takes PTX only. The error is or wraps [ErrNone] where there is no driver or no
// device at all.
func Open(v *Interface, directory string, number int, embedded bool) (*Device, error) {
	lib, err := v.load(directory)
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := lib.start(0); status != success {
		if slices.Contains(v.absent, status) {
			return nil, fmt.Errorf("%w: %w", ErrNone, lib.failed("Init", status))
		}
		return nil, lib.failed("Init", status)
	}
	var n int32
	switch status := lib.count(&n); {
	case slices.Contains(v.absent, status) || status == success && n == 0:
		return nil, fmt.Errorf("%w: %s knows no device", ErrNone, lib.name)
	case status != success:
		return nil, lib.failed("DeviceGetCount", status)
	case number < 0 || number >= int(n):
		return nil, fmt.Errorf("there is no device %d for %s; the last one is %d", number, v.Name, n-1)
	}
	d := &Device{lib: lib}
	if err := d.open(int32(number)); err != nil {
		return nil, err
	}
	if err := d.findCompiler(directory, embedded); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// findCompiler opens a compiler for the device, or does without.
func (d *Device) findCompiler(directory string, embedded bool) error {
	v := d.lib.vendor
	if embedded && v.ptx {
		d.identity += "; embedded PTX"
		return nil
	}
	c, err := v.loadCompiler(d.lib, directory, d.id)
	switch {
	case v.ptx && errors.Is(err, ErrNoCompiler):
		d.identity += "; embedded PTX, NVRTC missing"
	case err != nil:
		return err
	default:
		d.compiler = c
		d.identity += "; " + c.identity
	}
	return nil
}

// open looks at a device and, last of all, holds its context.
func (d *Device) open(number int32) error {
	l := d.lib
	if err := l.check("DeviceGet", l.device(&d.id, number)); err != nil {
		return err
	}
	name, err := d.text("DeviceGetName", l.deviceName)
	if err != nil {
		return err
	}
	pci, err := d.text("DeviceGetPCIBusId", l.deviceBus)
	if err != nil {
		return err
	}
	d.pci = strings.ToLower(pci)
	if err := l.check("DeviceTotalMem", l.deviceMemory(&d.memory, d.id)); err != nil {
		return err
	}
	var driver int32
	if err := l.check("DriverGetVersion", l.driverVersion(&driver)); err != nil {
		return err
	}
	d.identity = fmt.Sprintf("%s; %s driver %d", name, l.vendor.Name, driver)
	if l.vendor.perDevice { // the context is the device's own, and always there
		d.context = uintptr(d.id)
		return nil
	}
	return l.check("DevicePrimaryCtxRetain", l.retain(&d.context, d.id))
}

func (d *Device) text(call string, get func(*byte, int32, int32) int32) (string, error) {
	text := make([]byte, maxText)
	err := d.lib.check(call, get(&text[0], maxText, d.id))
	before, _, _ := strings.Cut(string(text), "\x00")
	return strings.TrimSpace(before), err
}

// Identity names the device, and the versions of its driver and compiler.
func (d *Device) Identity() string { return d.identity }

// Compiles tells whether there is a compiler for the device. One without takes PTX.
func (d *Device) Compiles() bool { return d.compiler != nil }

// PCI is the device's place on the bus, such as 0000:01:00.0.
func (d *Device) PCI() string { return d.pci }

// Memory is how many bytes the device has.
func (d *Device) Memory() uint64 { return d.memory }

// Lanes is 1: each thread of a GPU is a lane by itself.
func (d *Device) Lanes() int { return 1 }

// Close lets go of the device; its programs are closed before.
func (d *Device) Close() error {
	if d.lib.vendor.perDevice {
		return nil
	}
	return d.lib.check("DevicePrimaryCtxRelease", d.lib.release(d.id))
}

// on runs a function on a thread for which the device is the current one.
func (d *Device) on(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := d.lib.check("CtxSetCurrent", d.lib.setCurrent(d.context)); err != nil {
		return err
	}
	return f()
}

// An Error is a call that a library refused, with the number it gave.
type Error struct {
	Call   string
	Status int32
	Text   string // what the library calls the number, or ""
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s gave error %d", e.Call, e.Status)
	}
	return fmt.Sprintf("%s gave error %d, %s", e.Call, e.Status, e.Text)
}

func (l *library) failed(call string, status int32) error {
	return &Error{l.vendor.prefix + call, status, goString(l.describe(status))}
}

func (l *library) check(call string, status int32) error {
	if status == success {
		return nil
	}
	return l.failed(call, status)
}

// goString copies a text of a library, of at most maxText bytes.
func goString(p *byte) string {
	if p == nil {
		return ""
	}
	text := unsafe.Slice(p, maxText)
	for i := range maxText { // it may end right before memory that is not there
		if text[i] == 0 {
			return string(text[:i])
		}
	}
	return string(text)
}
