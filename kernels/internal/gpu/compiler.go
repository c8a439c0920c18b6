package gpu

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"seedmesh/kernels/dl"
)

// Bounds of what is taken from a compiler.
const (
	maxLog   = 1 << 14   // bytes of its messages that are shown
	maxCode  = 256 << 20 // bytes of a compiled program
	maxArchs = 256       // targets of it
)

// Numbers of the attributes that name a device of NVIDIA's: its major and minor
// compute capability.
const (
	capabilityMajor = 75
	capabilityMinor = 76
)

// A compiler makes machine code, as a library: NVRTC or hipRTC.
type compiler struct {
	vendor   *Interface
	identity string
	options  []string

	version     func(major, minor *int32) int32
	create      func(program *uintptr, source, name *byte, headers int32, texts, names uintptr) int32
	compile     func(program uintptr, options int32, texts unsafe.Pointer) int32
	logSize     func(program uintptr, size *uintptr) int32
	log         func(program uintptr, text *byte) int32
	destroy     func(program *uintptr) int32
	codeSize    func(program uintptr, size *uintptr) int32
	code        func(program uintptr, code *byte) int32
	errorString func(status int32) *byte

	// Of NVRTC only.
	archCount func(n *int32) int32
	archs     func(list *int32) int32
	ptxSize   func(program uintptr, size *uintptr) int32
	ptx       func(program uintptr, code *byte) int32
}

// ErrNoCompiler says that a machine has a driver, and not the compiler for it.
var ErrNoCompiler = errors.New("the driver is there, and the library of its compiler is not")

// loadCompiler opens a compiler for a device.
func (v *Interface) loadCompiler(l *library, directory string, device int32) (*compiler, error) {
	c, err := v.openCompiler(directory)
	if err != nil {
		return nil, err
	}
	return c, v.compileFor(c, l, device)
}

// openCompiler opens the first of the libraries that has the compiler.
func (v *Interface) openCompiler(directory string) (*compiler, error) {
	var errs []error
	for _, name := range v.compilers {
		opened, err := dl.Open(directory, name)
		if err == nil {
			c := &compiler{vendor: v}
			if err = opened.Bind(c.functions()); err == nil {
				return c, c.identify()
			}
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrNoCompiler, errors.Join(errs...))
}

func (c *compiler) functions() map[string]any {
	list := map[string]any{
		"Version":           &c.version,
		"CreateProgram":     &c.create,
		"CompileProgram":    &c.compile,
		"GetProgramLogSize": &c.logSize,
		"GetProgramLog":     &c.log,
		"DestroyProgram":    &c.destroy,
		"GetErrorString":    &c.errorString,
	}
	if c.vendor == HIP {
		list["GetCodeSize"], list["GetCode"] = &c.codeSize, &c.code
	} else {
		list["GetCUBINSize"], list["GetCUBIN"] = &c.codeSize, &c.code
		list["GetPTXSize"], list["GetPTX"] = &c.ptxSize, &c.ptx
		list["GetNumSupportedArchs"], list["GetSupportedArchs"] = &c.archCount, &c.archs
	}
	return prefixed(c.vendor.compilerPrefix, list)
}

func (c *compiler) identify() error {
	var major, minor int32
	err := c.check("Version", c.version(&major, &minor))
	c.identity = fmt.Sprintf("%s %d.%d", c.vendor.compilerPrefix, major, minor)
	return err
}

// forNVIDIA compiles for the very device. For one that is newer than the compiler
// it makes what the driver compiles on, for the newest device that it knows.
func (c *compiler) forNVIDIA(l *library, device int32) error {
	var major, minor, n int32
	if err := errors.Join(
		l.check("DeviceGetAttribute", l.attribute(&major, capabilityMajor, device)),
		l.check("DeviceGetAttribute", l.attribute(&minor, capabilityMinor, device)),
		c.check("GetNumSupportedArchs", c.archCount(&n))); err != nil {
		return err
	}
	if n < 1 || n > maxArchs {
		return fmt.Errorf("%s has %d targets", c.identity, n)
	}
	known := make([]int32, n)
	if err := c.check("GetSupportedArchs", c.archs(&known[0])); err != nil {
		return err
	}
	is, best := major*10+minor, int32(0)
	for _, arch := range known {
		if arch <= is {
			best = max(best, arch)
		}
	}
	c.identity += fmt.Sprintf(" for sm_%d", is)
	switch best {
	case 0:
		return fmt.Errorf("%s cannot compile for a device as old as sm_%d", c.identity, is)
	case is:
		c.options = []string{fmt.Sprintf("--gpu-architecture=sm_%d", is)}
	default:
		c.options = []string{fmt.Sprintf("--gpu-architecture=compute_%d", best)}
		c.codeSize, c.code = c.ptxSize, c.ptx
	}
	return nil
}

// forAMD leaves the target to the compiler, which asks the runtime for that of
// the current device. So it follows HSA_OVERRIDE_GFX_VERSION.
func (c *compiler) forAMD(*library, int32) error { return nil }

// Compile makes code for the device of a source in CUDA C++. Its error is
// [ErrNoCompiler] where there is none.
func (d *Device) Compile(source string) (code []byte, err error) {
	if d.compiler == nil {
		return nil, ErrNoCompiler
	}
	err = d.on(func() error {
		code, err = d.compiler.build(source)
		return err
	})
	return code, err
}

func (c *compiler) build(source string) (code []byte, err error) {
	text, name := append([]byte(source), 0), []byte("search\x00")
	var program uintptr
	if err := c.check("CreateProgram", c.create(&program, &text[0], &name[0], 0, 0, 0)); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.check("DestroyProgram", c.destroy(&program))) }()
	var pinner runtime.Pinner
	defer pinner.Unpin()
	options := make([]*byte, len(c.options)+1) // one more, so that there is a first
	for i, option := range c.options {
		options[i] = &append([]byte(option), 0)[0]
		pinner.Pin(options[i])
	}
	if status := c.compile(program, int32(len(c.options)), unsafe.Pointer(&options[0])); status != success {
		return nil, fmt.Errorf("%w: %s", c.check("CompileProgram", status), c.messages(program))
	}
	var size uintptr
	if err := c.check("GetCodeSize", c.codeSize(program, &size)); err != nil {
		return nil, err
	}
	if size == 0 || size > maxCode {
		return nil, fmt.Errorf("a compiled program has %d bytes; from 1 to %d are possible", size, maxCode)
	}
	code = make([]byte, size)
	return code, c.check("GetCode", c.code(program, &code[0]))
}

// messages are what the compiler said, as far as it can be had.
func (c *compiler) messages(program uintptr) string {
	var size uintptr
	if c.logSize(program, &size) != success || size == 0 || size > maxCode {
		return ""
	}
	log := make([]byte, size)
	if c.log(program, &log[0]) != success {
		return ""
	}
	before, _, _ := strings.Cut(string(log[:min(size, maxLog)]), "\x00")
	return strings.TrimSpace(before)
}

func (c *compiler) check(call string, status int32) error {
	if status == success {
		return nil
	}
	return &Error{c.vendor.compilerPrefix + call, status, goString(c.errorString(status))}
}

// CompileFor makes code of a source for a target without a device of that kind,
// such as gfx1030.
func CompileFor(v *Interface, target, source string) ([]byte, error) {
	c, err := v.openCompiler("")
	if err != nil {
		return nil, err
	}
	c.options = []string{"--gpu-architecture=" + target}
	return c.build(source)
}
