package opencl

import (
	"fmt"
	"unsafe"

	"seedmesh/kernels/dl"
)

// A library is the functions of the loader that are used, under their names
// without cl. Handles are uintptr; lists of events are never used.
type library struct {
	getPlatformIDs          func(n uint32, ids *uintptr, found *uint32) int32
	getDeviceIDs            func(platform uintptr, kind uint64, n uint32, ids *uintptr, found *uint32) int32
	getDeviceInfo           func(device uintptr, what uint32, size uintptr, value unsafe.Pointer, sizeFound *uintptr) int32
	createContext           func(properties uintptr, n uint32, devices *uintptr, notify, data uintptr, status *int32) uintptr
	releaseContext          func(context uintptr) int32
	createCommandQueue      func(context, device uintptr, properties uint64, status *int32) uintptr
	releaseCommandQueue     func(queue uintptr) int32
	createProgramWithSource func(context uintptr, n uint32, texts unsafe.Pointer, lengths *uintptr, status *int32) uintptr
	createProgramWithBinary func(context uintptr, n uint32, devices, lengths *uintptr, codes unsafe.Pointer, loaded, status *int32) uintptr
	buildProgram            func(program uintptr, n uint32, devices *uintptr, options *byte, notify, data uintptr) int32
	getProgramInfo          func(program uintptr, what uint32, size uintptr, value unsafe.Pointer, sizeFound *uintptr) int32
	getProgramBuildInfo     func(program, device uintptr, what uint32, size uintptr, value unsafe.Pointer, sizeFound *uintptr) int32
	releaseProgram          func(program uintptr) int32
	createKernel            func(program uintptr, name *byte, status *int32) uintptr
	setKernelArg            func(kernel uintptr, index uint32, size uintptr, value unsafe.Pointer) int32
	releaseKernel           func(kernel uintptr) int32
	createBuffer            func(context uintptr, flags uint64, size uintptr, host uintptr, status *int32) uintptr
	releaseMemObject        func(buffer uintptr) int32
	enqueueNDRangeKernel    func(queue, kernel uintptr, dimensions uint32, offset, global, local *uintptr, events uint32, wait, event uintptr) int32
	enqueueReadBuffer       func(queue, buffer uintptr, blocking uint32, offset, size uintptr, to unsafe.Pointer, events uint32, wait, event uintptr) int32
	enqueueWriteBuffer      func(queue, buffer uintptr, blocking uint32, offset, size uintptr, from unsafe.Pointer, events uint32, wait, event uintptr) int32
}

// functions are where the functions go, by the loader's names for them.
func (l *library) functions() map[string]any {
	return map[string]any{
		"clGetPlatformIDs":          &l.getPlatformIDs,
		"clGetDeviceIDs":            &l.getDeviceIDs,
		"clGetDeviceInfo":           &l.getDeviceInfo,
		"clCreateContext":           &l.createContext,
		"clReleaseContext":          &l.releaseContext,
		"clCreateCommandQueue":      &l.createCommandQueue,
		"clReleaseCommandQueue":     &l.releaseCommandQueue,
		"clCreateProgramWithSource": &l.createProgramWithSource,
		"clCreateProgramWithBinary": &l.createProgramWithBinary,
		"clBuildProgram":            &l.buildProgram,
		"clGetProgramInfo":          &l.getProgramInfo,
		"clGetProgramBuildInfo":     &l.getProgramBuildInfo,
		"clReleaseProgram":          &l.releaseProgram,
		"clCreateKernel":            &l.createKernel,
		"clSetKernelArg":            &l.setKernelArg,
		"clReleaseKernel":           &l.releaseKernel,
		"clCreateBuffer":            &l.createBuffer,
		"clReleaseMemObject":        &l.releaseMemObject,
		"clEnqueueNDRangeKernel":    &l.enqueueNDRangeKernel,
		"clEnqueueReadBuffer":       &l.enqueueReadBuffer,
		"clEnqueueWriteBuffer":      &l.enqueueWriteBuffer,
	}
}

// loaderName is the loader that the drivers of all vendors share.
const loaderName = "libOpenCL.so.1"

// load opens a loader and looks its functions up.
func load(directory, name string) (*library, error) {
	opened, err := dl.Open(directory, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	l := new(library)
	return l, opened.Bind(l.functions())
}
