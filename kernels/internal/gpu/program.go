package gpu

import (
	"errors"
	"runtime"
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
	p := &Program{device: d}
	if err := d.on(func() error { return p.load(code, items, found) }); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Program) load(code []byte, items, found int) error {
	l := p.device.lib
	code = append(code[:len(code):len(code)], 0) // some forms of code are texts
	if err := l.check("ModuleLoadData", l.loadModule(&p.module, unsafe.Pointer(&code[0]))); err != nil {
		return err
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
