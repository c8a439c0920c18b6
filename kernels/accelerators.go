package kernels

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"seedmesh/kernels/internal/gpu"
	"seedmesh/kernels/internal/opencl"
)

// The kinds of accelerators: the programming interfaces that reach them.
const (
	CUDA   = "cuda"
	HIP    = "hip"
	OpenCL = "opencl"
)

// Accelerators are the kinds, the most direct one first.
func Accelerators() []string { return []string{CUDA, HIP, OpenCL} }

// AcceleratorConfig says which accelerator to open, and what it may take.
type AcceleratorConfig struct {
	Kind      string
	Number    int    // from 0, over all devices of the interface
	Libraries string // directory in which drivers' libraries are looked for first, or ""
	Programs  string // directory of compiled programs, or "" to keep none
	// MemoryFraction is how much of its memory it may take, above 0 and up to 1; 0
	// for the default: 0.8 on AMD, whose cards may hold a display, and 0.9 on others.
	MemoryFraction float64
	Embedded       bool // CUDA: the embedded PTX is used though the machine has NVRTC
	Again          bool // whether it has to pass the conformance suite though it is known to have
}

const (
	amdMemoryFraction = 0.8
	memoryFraction    = 0.9
)

// OpenAccelerator opens an accelerator. It refuses every search until it passed
// [Conformance], which [Vet] does beforehand. Its error is a [*NoDeviceError].
func OpenAccelerator(c AcceleratorConfig) (Device, error) {
	d, err := openDriver(c)
	if err != nil {
		return nil, &NoDeviceError{c.Kind, c.Number, err}
	}
	if c.MemoryFraction == 0 {
		c.MemoryFraction = defaultFraction(c.Kind, d.Identity())
	}
	if most := c.MemoryFraction * float64(d.Memory()); most < launchMemory {
		err := fmt.Errorf("%.3g of its memory is %.0f bytes, and a launch takes %d", c.MemoryFraction, most, launchMemory)
		return nil, &NoDeviceError{c.Kind, c.Number, errors.Join(err, d.Close())}
	}
	v := newVetted(c.Kind, d, codeCache(c.Programs))
	v.again = c.Again
	return v, nil
}

// amdVendor begins the identity of AMD's cards under OpenCL; its processors are AuthenticAMD.
const amdVendor = "Advanced Micro Devices"

func defaultFraction(kind, identity string) float64 {
	if kind == HIP || kind == OpenCL && strings.HasPrefix(identity, amdVendor) {
		return amdMemoryFraction
	}
	return memoryFraction
}

func openDriver(c AcceleratorConfig) (driver, error) {
	switch c.Kind {
	case CUDA:
		return openGPU(gpu.CUDA, c)
	case HIP:
		return openGPU(gpu.HIP, c)
	case OpenCL:
		d, err := opencl.Open(c.Libraries, c.Number)
		if err != nil {
			return nil, err
		}
		return openCLDriver{d}, nil
	}
	return nil, fmt.Errorf("there is no accelerator of the kind %q", c.Kind)
}

func openGPU(v *gpu.Interface, c AcceleratorConfig) (driver, error) {
	d, err := gpu.Open(v, c.Libraries, c.Number, c.Embedded)
	if err != nil {
		return nil, err
	}
	if !d.Compiles() {
		return ptxDriver{gpuDriver{d}}, nil
	}
	return gpuDriver{d}, nil
}

// These are the drivers; the packages beside know no interface of this one.
type (
	openCLDriver struct{ *opencl.Device }
	gpuDriver    struct{ *gpu.Device }
	ptxDriver    struct{ gpuDriver } // without a compiler
)

func (d openCLDriver) Load(code []byte, items, found int) (program, error) {
	p, err := d.Device.Load(code, items, found)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (d gpuDriver) Load(code []byte, items, found int) (program, error) {
	p, err := d.Device.Load(code, items, found)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (d ptxDriver) LoadPTX(ptx, parameters []byte, items, found int) (program, error) {
	p, err := d.Device.LoadPTX(ptx, parameters, items, found)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// PCI is where on its machine's bus a device is, such as 0000:01:00.0, or "" for
// what is no accelerator or does not say.
func PCI(d Device) string {
	if v, ok := d.(*vetted); ok {
		return v.driver.PCI()
	}
	return ""
}

// Identity names a device with its driver, or is its name.
func Identity(d Device) string {
	if v, ok := d.(*vetted); ok {
		return v.driver.Identity()
	}
	return d.Name()
}

// Memory is how many bytes an accelerator has, or 0.
func Memory(d Device) uint64 {
	if v, ok := d.(*vetted); ok {
		return v.driver.Memory()
	}
	return 0
}

// NotAccelerated says why only the CPU can search for the generator, or nothing.
func (g Generator) NotAccelerated() string {
	d, err := lookup(g.Name)
	if err != nil {
		return err.Error()
	}
	return d.notAccelerated()
}

// LeftToCPU says why a slot on a device of a kind has the CPU do the search, or nothing:
// also for CPUs.
func (s *Search) LeftToCPU(kind string) string {
	if !slices.Contains(Accelerators(), kind) {
		return ""
	}
	var unsupported *UnsupportedError
	if _, err := s.planAccelerator(kind); errors.As(err, &unsupported) {
		return unsupported.Reason
	}
	return ""
}

// Devices are the kinds of device that can search for the generator, the CPU
// first. The accelerators' kernels are one source, so that it is all or none.
func (g Generator) Devices() []string {
	if g.NotAccelerated() != "" {
		return []string{"cpu"}
	}
	return append([]string{"cpu"}, Accelerators()...)
}

// A NoDeviceError says why a device cannot be opened.
type NoDeviceError struct {
	Kind   string
	Number int
	Err    error
}

func (e *NoDeviceError) Error() string {
	return fmt.Sprintf("kernels: the device %s:%d cannot be opened: %v", e.Kind, e.Number, e.Err)
}

func (e *NoDeviceError) Unwrap() error { return e.Err }

// Remedy says what a machine needs for it.
func (e *NoDeviceError) Remedy() string {
	switch e.Kind {
	case CUDA:
		return "install NVIDIA's driver, which has libcuda.so.1, or leave the slot out; NVRTC (libnvrtc.so.12, of the CUDA toolkit) makes it faster"
	case HIP:
		return "install AMD's ROCm runtime with hipRTC (on Debian: libamdhip64-5 and libhiprtc-builtins5), or use device = \"opencl\""
	}
	return "install the OpenCL driver of the device's vendor and the loader libOpenCL.so.1 (on Debian: ocl-icd-libopencl1), or leave the slot out"
}
