package opencl

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"
)

// Compile makes code for the device of a source in OpenCL C.
func (d *Device) Compile(source string) ([]byte, error) {
	text := append([]byte(source), 0)
	first := &text[0]
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(first)
	var status int32
	p := d.lib.createProgramWithSource(d.context, 1, unsafe.Pointer(&first), nil, &status)
	if status != success {
		return nil, failed("clCreateProgramWithSource", status)
	}
	code, err := d.build(p)
	return code, errors.Join(err, check("clReleaseProgram", d.lib.releaseProgram(p)))
}

func (d *Device) build(p uintptr) ([]byte, error) {
	if err := d.link(p); err != nil {
		return nil, err
	}
	var size uintptr
	if err := check("clGetProgramInfo", d.lib.getProgramInfo(p, programBinarySize, unsafe.Sizeof(size), unsafe.Pointer(&size), nil)); err != nil {
		return nil, err
	}
	if size == 0 || size > maxCode {
		return nil, fmt.Errorf("a compiled program has %d bytes; from 1 to %d are possible", size, maxCode)
	}
	code := make([]byte, size)
	first := &code[0]
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(first)
	return code, check("clGetProgramInfo", d.lib.getProgramInfo(p, programBinaries, unsafe.Sizeof(first), unsafe.Pointer(&first), nil))
}

// link makes a program's kernels ready; its error has what the compiler says.
func (d *Device) link(p uintptr) error {
	options := []byte("-cl-std=CL1.2 -w\x00")
	status := d.lib.buildProgram(p, 1, &d.id, &options[0], 0, 0)
	if status == success {
		return nil
	}
	log := make([]byte, maxLog)
	if d.lib.getProgramBuildInfo(p, d.id, programBuildLog, maxLog, unsafe.Pointer(&log[0]), nil) != success {
		return failed("clBuildProgram", status)
	}
	before, _, _ := strings.Cut(string(log), "\x00")
	return fmt.Errorf("%w: %s", failed("clBuildProgram", status), strings.TrimSpace(before))
}

// A Program is a kernel with the memory that its launches use.
type Program struct {
	device                *Device
	program, kernel       uintptr
	seeds, visited, found uintptr // buffers
}

// firstFound is how many candidates are read together with their number.
const firstFound = 255

// Load readies code that Compile made, for launches of at most so many work
// items and candidates.
func (d *Device) Load(code []byte, items, found int) (*Program, error) {
	if len(code) == 0 {
		return nil, errors.New("a compiled program is empty")
	}
	p := &Program{device: d}
	if err := p.load(code, items, found); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Program) load(code []byte, items, found int) error {
	d := p.device
	first, size := &code[0], uintptr(len(code))
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(first)
	var status, loaded int32
	p.program = d.lib.createProgramWithBinary(d.context, 1, &d.id, &size, unsafe.Pointer(&first), &loaded, &status)
	if status != success {
		return failed("clCreateProgramWithBinary", status)
	}
	if err := d.link(p.program); err != nil {
		return err
	}
	name := []byte("search\x00")
	if p.kernel = d.lib.createKernel(p.program, &name[0], &status); status != success {
		return failed("clCreateKernel", status)
	}
	for i, b := range []struct {
		buffer *uintptr
		bytes  int
	}{{&p.seeds, 16}, {&p.visited, 16 * items}, {&p.found, 4 * (1 + max(found, firstFound))}} {
		if *b.buffer = d.lib.createBuffer(d.context, memReadWrite, uintptr(b.bytes), 0, &status); status != success {
			return failed("clCreateBuffer", status)
		}
		if err := check("clSetKernelArg", d.lib.setKernelArg(p.kernel, uint32(i), unsafe.Sizeof(*b.buffer), unsafe.Pointer(b.buffer))); err != nil {
			return err
		}
	}
	return nil
}

// Launch runs so many work items over the seeds, given as the first one and
// their number, and waits for them. What an item of an earlier launch left in
// visited does not outlive it.
func (p *Program) Launch(seeds [2]uint64, items int, visited []uint64, found []uint32) (n int, err error) {
	clear(visited[:2*items])
	var head [1 + firstFound]uint32
	local := p.device.group()
	global := (uintptr(items) + local - 1) / local * local
	for _, step := range []func() error{
		func() error { return write(p, p.seeds, seeds[:]) },
		func() error { return write(p, p.visited, visited[:2*items]) },
		func() error { return write(p, p.found, head[:1]) },
		func() error {
			return check("clEnqueueNDRangeKernel", p.device.lib.enqueueNDRangeKernel(p.device.queue, p.kernel, 1, nil, &global, &local, 0, 0, 0))
		},
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

// write copies to a buffer, and returns when it is done.
func write[T any](p *Program, buffer uintptr, from []T) error {
	return check("clEnqueueWriteBuffer", p.device.lib.enqueueWriteBuffer(p.device.queue, buffer, 1, 0,
		uintptr(len(from))*unsafe.Sizeof(from[0]), unsafe.Pointer(&from[0]), 0, 0, 0))
}

// read copies from a buffer, from a number of elements on.
func read[T any](p *Program, buffer uintptr, at int, to []T) error {
	size := unsafe.Sizeof(to[0])
	return check("clEnqueueReadBuffer", p.device.lib.enqueueReadBuffer(p.device.queue, buffer, 1, uintptr(at)*size,
		uintptr(len(to))*size, unsafe.Pointer(&to[0]), 0, 0, 0))
}

// Close frees the program and its memory.
func (p *Program) Close() error {
	var err error
	for _, b := range []uintptr{p.seeds, p.visited, p.found} {
		if b != 0 {
			err = errors.Join(err, check("clReleaseMemObject", p.device.lib.releaseMemObject(b)))
		}
	}
	if p.kernel != 0 {
		err = errors.Join(err, check("clReleaseKernel", p.device.lib.releaseKernel(p.kernel)))
	}
	if p.program != 0 {
		err = errors.Join(err, check("clReleaseProgram", p.device.lib.releaseProgram(p.program)))
	}
	return err
}
