package gpu

import (
	"fmt"
	"unsafe"

	"seedmesh/kernels/dl"
)

const success = 0

// An Interface is one of the two programming interfaces: what its libraries and
// functions are called, and where they differ.
type Interface struct {
	Name      string
	libraries []string
	prefix    string  // of the functions
	absent    []int32 // error numbers for a machine without devices
	perDevice bool    // a thread is given a device, and not a context, to work with
	ptx       bool    // the driver takes PTX, without a compiler beside it
	names     functionNames

	compilers      []string // libraries that may have the compiler
	compilerPrefix string
	compileFor     func(*compiler, *library, int32) error // chooses the target
}

// functionNames are those that the two interfaces do not share.
type functionNames struct {
	count, memory, total, free, synchronize, launch, setCurrent, toDevice, toHost, fill string
}

// CUDA is NVIDIA's interface, through the driver's own library and NVRTC.
var CUDA = &Interface{
	Name:      "cuda",
	libraries: []string{"libcuda.so.1"},
	prefix:    "cu",
	absent:    []int32{100},
	ptx:       true,
	names: functionNames{
		count: "DeviceGetCount", memory: "MemAlloc_v2", total: "DeviceTotalMem_v2", free: "MemFree_v2", synchronize: "CtxSynchronize",
		launch: "LaunchKernel", setCurrent: "CtxSetCurrent", toDevice: "MemcpyHtoD_v2", toHost: "MemcpyDtoH_v2", fill: "MemsetD8_v2",
	},
	compilers: []string{
		"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so",
	},
	compilerPrefix: "nvrtc",
	compileFor:     (*compiler).forNVIDIA,
}

// HIP is AMD's interface, through its runtime and hipRTC.
var HIP = &Interface{
	Name:      "hip",
	libraries: []string{"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so", "/opt/rocm/lib/libamdhip64.so"},
	prefix:    "hip",
	absent:    []int32{100, 101},
	perDevice: true,
	names: functionNames{
		count: "GetDeviceCount", memory: "Malloc", total: "DeviceTotalMem", free: "Free", synchronize: "DeviceSynchronize",
		launch: "ModuleLaunchKernel", setCurrent: "SetDevice", toDevice: "MemcpyHtoD", toHost: "MemcpyDtoH", fill: "MemsetD8",
	},
	// The runtime has the compiler itself until version 7.
	compilers: []string{
		"libhiprtc.so.7", "libhiprtc.so.6", "libhiprtc.so", "/opt/rocm/lib/libhiprtc.so", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so",
	},
	compilerPrefix: "hiprtc",
	compileFor:     (*compiler).forAMD,
}

// A library is the functions of a driver that are used. Every one gives an error
// number. Handles and addresses on the device are uintptr.
type library struct {
	vendor *Interface
	name   string

	start         func(flags uint32) int32
	driverVersion func(version *int32) int32
	count         func(n *int32) int32
	device        func(id *int32, number int32) int32
	deviceName    func(text *byte, size, id int32) int32
	deviceBus     func(text *byte, size, id int32) int32
	deviceMemory  func(bytes *uint64, id int32) int32
	setCurrent    func(context uintptr) int32
	loadModule    func(module *uintptr, code unsafe.Pointer, options uint32, names, values unsafe.Pointer) int32
	unloadModule  func(module uintptr) int32
	function      func(kernel *uintptr, module uintptr, name *byte) int32
	alloc         func(address *uintptr, bytes uintptr) int32
	free          func(address uintptr) int32
	fill          func(address uintptr, value uint32, bytes uintptr) int32
	toDevice      func(to uintptr, from unsafe.Pointer, bytes uintptr) int32
	toHost        func(to unsafe.Pointer, from uintptr, bytes uintptr) int32
	launch        func(kernel uintptr, gridX, gridY, gridZ, blockX, blockY, blockZ, shared uint32, stream uintptr, arguments unsafe.Pointer, extra uintptr) int32
	synchronize   func() int32

	// Of CUDA only.
	attribute func(value *int32, what, id int32) int32
	retain    func(context *uintptr, id int32) int32
	release   func(id int32) int32
	errorName func(status int32, text **byte) int32
	global    func(address, bytes *uintptr, module uintptr, name *byte) int32
	// Of HIP only.
	errorText func(status int32) *byte
}

// load opens the driver's library and looks its functions up.
func (v *Interface) load(directory string) (*library, error) {
	opened, err := dl.Open(directory, v.libraries...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	l := &library{vendor: v, name: opened.Name}
	return l, opened.Bind(l.functions())
}

// functions are where the functions go, by the library's names for them.
func (l *library) functions() map[string]any {
	v := l.vendor
	list := map[string]any{
		"Init":              &l.start,
		"DriverGetVersion":  &l.driverVersion,
		v.names.count:       &l.count,
		"DeviceGet":         &l.device,
		"DeviceGetName":     &l.deviceName,
		"DeviceGetPCIBusId": &l.deviceBus,
		v.names.total:       &l.deviceMemory,
		v.names.setCurrent:  &l.setCurrent,
		"ModuleLoadDataEx":  &l.loadModule,
		"ModuleUnload":      &l.unloadModule,
		"ModuleGetFunction": &l.function,
		v.names.memory:      &l.alloc,
		v.names.free:        &l.free,
		v.names.fill:        &l.fill,
		v.names.toDevice:    &l.toDevice,
		v.names.toHost:      &l.toHost,
		v.names.launch:      &l.launch,
		v.names.synchronize: &l.synchronize,
	}
	if v.perDevice {
		list["GetErrorString"] = &l.errorText
	} else {
		list["DeviceGetAttribute"] = &l.attribute
		list["DevicePrimaryCtxRetain"] = &l.retain
		list["DevicePrimaryCtxRelease_v2"] = &l.release
		list["GetErrorName"] = &l.errorName
		list["ModuleGetGlobal_v2"] = &l.global
	}
	return prefixed(v.prefix, list)
}

func prefixed(prefix string, functions map[string]any) map[string]any {
	list := map[string]any{}
	for name, function := range functions {
		list[prefix+name] = function
	}
	return list
}

// describe is the library's own text for an error number, or nil.
func (l *library) describe(status int32) (text *byte) {
	if l.errorText != nil {
		return l.errorText(status)
	}
	if l.errorName(status, &text) != success {
		return nil
	}
	return text
}
