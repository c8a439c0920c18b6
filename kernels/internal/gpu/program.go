package gpu

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"
)

// group is how many work items run together.
const group = 128

// firstFound is how many candidates are read together with their number.
const firstFound = 255

// A Program is a kernel with the memory that its launches use.
type Program struct {
	device                *Device
	module, kernel        uintptr
	seeds, visited, found uintptr // addresses on the device
}

// Load readies code that Compile made, for launches of at most so many work
// items and candidates.
func (d *Device) Load(code []byte, items, found int) (*Program, error) {
	if len(code) == 0 {
		return nil, errors.New("a compiled program is empty")
	}
	return d.load(code, nil, items, found)
}

// LoadPTX is Load for a text in PTX, which the driver compiles, and whose variable
// "parameters" is set to the bytes given. Its error is a [*PTXError] where the driver
// does not take the text.
func (d *Device) LoadPTX(text, parameters []byte, items, found int) (*Program, error) {
	p, err := d.load(text, parameters, items, found)
	if cause := (*Error)(nil); errors.As(err, &cause) && slices.Contains(ptxRefused, cause.Status) {
		err = &PTXError{err}
	}
	return p, err
}

// ptxRefused are the error numbers of CUDA for a program that is of no use to the
// driver: not for it, not for the device, no PTX, no compiler, newer than the driver's
// compiler, or compiling is switched off.
var ptxRefused = []int32{200, 209, 218, 221, 222, 223}

// A PTXError is a driver that does not take the PTX that comes with this program.
type PTXError struct{ Err error }

func (e *PTXError) Error() string {
	return fmt.Sprintf("the driver does not take the PTX that comes with seedmesh: %v", e.Err)
}

func (e *PTXError) Unwrap() error { return e.Err }

// Remedy says what the driver needs.
func (e *PTXError) Remedy() string {
	return "update NVIDIA's driver (R470 or later), install NVRTC (libnvrtc.so.12, of the CUDA toolkit), or use device = \"opencl\""
}

func (d *Device) load(code, parameters []byte, items, found int) (*Program, error) {
	p := &Program{device: d}
	if err := d.on(func() error { return p.load(code, parameters, items, found) }); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Program) load(code, parameters []byte, items, found int) error {
	l := p.device.lib
	if err := p.loadModule(code); err != nil {
		return err
	}
	if parameters != nil {
		if err := p.set(parameters); err != nil {
			return err
		}
	}
	name := []byte("search\x00")
	if err := l.check("ModuleGetFunction", l.function(&p.kernel, p.module, &name[0])); err != nil {
		return err
	}
	for _, b := range []struct {
		buffer *uintptr
		bytes  int
	}{{&p.seeds, 16}, {&p.visited, 16 * items}, {&p.found, 4 * (1 + max(found, firstFound))}} {
		if err := l.check(l.vendor.names.memory, l.alloc(b.buffer, uintptr(b.bytes))); err != nil {
			return err
		}
	}
	return nil
}

// Numbers of the options with which CUDA's driver says what is wrong with PTX.
const (
	optionErrors     = 5
	optionErrorsSize = 6
)

// loadModule loads code, with what the driver has to say where it does not.
func (p *Program) loadModule(code []byte) error {
	l := p.device.lib
	code = append(code[:len(code):len(code)], 0) // some forms of code are texts
	if !l.vendor.ptx {
		return l.check("ModuleLoadDataEx", l.loadModule(&p.module, unsafe.Pointer(&code[0]), 0, nil, nil))
	}
	log := make([]byte, maxLog)
	names := [...]uint32{optionErrors, optionErrorsSize}
	values := [...]uintptr{uintptr(unsafe.Pointer(&log[0])), maxLog - 1}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&log[0])
	status := l.loadModule(&p.module, unsafe.Pointer(&code[0]), uint32(len(names)), unsafe.Pointer(&names[0]), unsafe.Pointer(&values[0]))
	err := l.check("ModuleLoadDataEx", status)
	if text := strings.TrimSpace(goString(&log[0])); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// set writes the module's variable "parameters", which must have that size.
func (p *Program) set(parameters []byte) error {
	l, name := p.device.lib, []byte("parameters\x00")
	var address, size uintptr
	if err := l.check("ModuleGetGlobal", l.global(&address, &size, p.module, &name[0])); err != nil {
		return err
	}
	if size != uintptr(len(parameters)) {
		return fmt.Errorf("the parameters of the PTX have %d bytes, and those of a search %d", size, len(parameters))
	}
	return write(p, address, parameters)
}

// Launch runs so many work items over the seeds, given as the first one and
// their number, and waits for them. What an item of an earlier launch left in
// visited does not outlive it.
func (p *Program) Launch(seeds [2]uint64, items int, visited []uint64, found []uint32) (n int, err error) {
	err = p.device.on(func() error {
		n, err = p.launch(seeds, items, visited, found)
		return err
	})
	return n, err
}

func (p *Program) launch(seeds [2]uint64, items int, visited []uint64, found []uint32) (n int, err error) {
	l := p.device.lib
	var head [1 + firstFound]uint32
	for _, step := range []func() error{
		func() error { return write(p, p.seeds, seeds[:]) },
		func() error { return l.check(l.vendor.names.fill, l.fill(p.visited, 0, uintptr(16*items))) },
		func() error { return write(p, p.found, head[:1]) },
		func() error { return p.start(items) },
		func() error { return l.check(l.vendor.names.synchronize, l.synchronize()) },
		func() error { return read(p, p.visited, 0, visited[:2*items]) },
		func() error { return read(p, p.found, 0, head[:]) },
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	n = int(head[0])
	k := copy(found[:min(n, len(found))], head[1:])
	if rest := found[k:min(max(n, k), len(found))]; len(rest) > 0 {
		err = read(p, p.found, 1+k, rest)
	}
	return n, err
}

// start queues the kernel with the addresses of its memory.
func (p *Program) start(items int) error {
	l := p.device.lib
	arguments := [...]unsafe.Pointer{unsafe.Pointer(&p.seeds), unsafe.Pointer(&p.visited), unsafe.Pointer(&p.found)}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(p)
	pinner.Pin(&arguments)
	blocks := uint32((items + group - 1) / group)
	return l.check(l.vendor.names.launch, l.launch(p.kernel, blocks, 1, 1, group, 1, 1, 0, 0, unsafe.Pointer(&arguments[0]), 0))
}

// write copies to the device, and returns when it is done.
func write[T any](p *Program, to uintptr, from []T) error {
	l := p.device.lib
	return l.check(l.vendor.names.toDevice, l.toDevice(to, unsafe.Pointer(&from[0]), uintptr(len(from))*unsafe.Sizeof(from[0])))
}

// read copies from the device, from a number of elements on.
func read[T any](p *Program, from uintptr, at int, to []T) error {
	l, size := p.device.lib, unsafe.Sizeof(to[0])
	return l.check(l.vendor.names.toHost, l.toHost(unsafe.Pointer(&to[0]), from+uintptr(at)*size, uintptr(len(to))*size))
}

// Close frees the program and its memory.
func (p *Program) Close() error {
	l := p.device.lib
	return p.device.on(func() (err error) {
		for _, address := range []uintptr{p.seeds, p.visited, p.found} {
			if address != 0 {
				err = errors.Join(err, l.check(l.vendor.names.free, l.free(address)))
			}
		}
		if p.module != 0 {
			err = errors.Join(err, l.check("ModuleUnload", l.unloadModule(p.module)))
		}
		return err
	})
}
