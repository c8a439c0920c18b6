package slot

import (
	"errors"
	"strings"
	"testing"
	"time"

	"seedmesh/kernels"
	"seedmesh/kernels/shim"
)

// shimConfig is a slot on libraries that run CUDA or HIP on the CPU.
func shimConfig(t *testing.T, kind string, fault *shim.Fault) Config {
	t.Helper()
	c := Config{Device: kind, Locks: t.TempDir()}
	c.Accelerator.Libraries = shim.Libraries(t, kind == kernels.HIP, fault)
	return c
}

// TestAcceleratorExecutors runs a search on each kind of accelerator, and one that
// only the CPU can do, in an executor: the first one after the conformance suite.
func TestAcceleratorExecutors(t *testing.T) {
	if testing.Short() {
		t.Skip("the conformance suite takes a while")
	}
	t.Run("cuda without NVRTC", func(t *testing.T) {
		p := testAcceleratorExecutor(t, shimConfig(t, kernels.CUDA, &shim.Fault{Kind: shim.NoCompiler}))
		if got, want := p.About().Driver, "shim 0; cuda driver 12345; embedded PTX, NVRTC missing"; got != want {
			t.Errorf("the device is %q, want %q", got, want)
		}
	})
	for _, kind := range kernels.Accelerators() {
		t.Run(kind, func(t *testing.T) {
			config := Config{Device: kind}
			if kind != kernels.OpenCL {
				config = shimConfig(t, kind, nil)
			} else if d, err := kernels.OpenAccelerator(kernels.AcceleratorConfig{Kind: kind}); err != nil {
				t.Skip(err)
			} else if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			testAcceleratorExecutor(t, config)
		})
	}
}

func testAcceleratorExecutor(t *testing.T, config Config) *process {
	cpu := newTestProcess(t, Config{}, defaultLimits)
	p := newTestProcess(t, config, defaultLimits)
	if p.Pid() != 0 {
		t.Error("an accelerator's executor was started before it was needed")
	}
	if err := p.Ready(t.Context(), false); err != nil || p.Pid() == 0 {
		t.Fatalf("Ready = %v", err)
	}
	for _, generator := range []string{"xorshift32", "pcg32"} {
		task := smallTask()
		spec := kernels.Spec{Generators: []string{generator}, Observe: "mod:1000", Draws: []kernels.Draw{{Value: 7, Known: true}}, MinMatches: 1}
		task.Spec, task.Generator = spec.Encode(), generator
		var found [2][]kernels.Survivor
		for i, on := range []Executor{cpu, p} {
			task.Emit = func(batch []kernels.Survivor) error { found[i] = append(found[i], batch...); return nil }
			if r, err := on.Run(t.Context(), task); err != nil || r.Last != task.Range.Last {
				t.Fatalf("%s: %+v, %v", generator, r, err)
			}
		}
		if len(found[0]) < 10 || len(found[0]) != len(found[1]) {
			t.Errorf("%s: %d survivors, the CPU has %d", generator, len(found[1]), len(found[0]))
		}
	}
	if cpu.About().Driver != "" || p.About().Driver == "" {
		t.Errorf("the drivers are %q of the CPU and %q", cpu.About().Driver, p.About().Driver)
	}
	return p
}

// TestBadLibraries has drivers do what they may do wrong. Each takes its executor
// down and nothing else, and the error says what it was.
func TestBadLibraries(t *testing.T) {
	cpu := newTestProcess(t, Config{}, defaultLimits)
	for name, tt := range map[string]struct {
		fault shim.Fault
		want  string
	}{
		"no device":              {shim.Fault{Kind: shim.Bare}, "no such driver or device"},
		"a symbol missing":       {shim.Fault{Kind: shim.Missing}, "LaunchKernel"},
		"an error at the start":  {shim.Fault{Call: "Init", Kind: shim.Fails}, "gave error 719"},
		"an error in a launch":   {shim.Fault{Call: "Launch", Kind: shim.Fails}, "gave error 719"},
		"an error in a compiler": {shim.Fault{Call: "CompileProgram", Kind: shim.Fails}, "gave error 719"},
		"a wrong answer":         {shim.Fault{Kind: shim.Loses}, "is not used"},
		"a hang at the start":    {shim.Fault{Call: "Init", Kind: shim.Hangs}, "it hangs"},
		"a hang in a launch":     {shim.Fault{Call: "Launch", Kind: shim.Hangs}, "it hangs"},
		"an abort at the start":  {shim.Fault{Call: "Init", Kind: shim.Aborts}, "SIGABRT"},
		"an abort in a launch":   {shim.Fault{Call: "Launch", Kind: shim.Aborts}, "SIGABRT"},
	} {
		for _, kind := range []string{kernels.CUDA, kernels.HIP} {
			t.Run(name+", "+kind, func(t *testing.T) {
				limits := defaultLimits
				if tt.fault.Kind == shim.Hangs {
					limits.ready = 2 * time.Second
				}
				p := newTestProcess(t, shimConfig(t, kind, &tt.fault), limits)
				e := wantClass(t, p.Ready(t.Context(), false), NotStarted)
				if !strings.Contains(e.Error(), tt.want) || e.Pid == 0 || alive(e.Pid) {
					t.Errorf("Ready = %.600v, want %q; the executor %d runs: %t", e, tt.want, e.Pid, alive(e.Pid))
				}
				if _, err := cpu.Run(t.Context(), smallTask()); err != nil {
					t.Errorf("another slot was affected: %v", err)
				}
			})
		}
	}
}

// TestPTXRefused has a driver without NVRTC be older than the PTX that comes with
// seedmesh: the error says so, and what to do.
func TestPTXRefused(t *testing.T) {
	p := newTestProcess(t, shimConfig(t, kernels.CUDA, &shim.Fault{Kind: shim.NewPTX}), defaultLimits)
	e := wantClass(t, p.Ready(t.Context(), false), NotStarted)
	for _, want := range []string{"CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the shim refuses it", "embedded PTX, NVRTC missing", "update NVIDIA's driver"} {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("Ready = %.900v, want %q", e, want)
		}
	}
}

// TestNoSuchDevice has an executor asked for devices that this machine lacks.
func TestNoSuchDevice(t *testing.T) {
	for _, kind := range kernels.Accelerators() {
		var none *kernels.NoDeviceError
		if _, _, err := newDevice(deviceConfig{name: kind, accelerator: acceleratorConfig{Number: 200}}); !errors.As(err, &none) || none.Remedy() == "" {
			t.Errorf("newDevice(%s) = %v, want that there is none", kind, err)
		}
		c := Config{Device: kind}
		c.Accelerator.Number = 200
		e := wantClass(t, newTestProcess(t, c, defaultLimits).Ready(t.Context(), false), NotStarted)
		if !strings.Contains(e.Error(), kind+":200 cannot be opened") {
			t.Errorf("Ready = %v, want the reason", e)
		}
	}
}

// TestOneExecutorForEachGPU has two slots ask for one GPU.
func TestOneExecutorForEachGPU(t *testing.T) {
	if testing.Short() {
		t.Skip("the conformance suite takes a while")
	}
	first := shimConfig(t, kernels.CUDA, nil)
	holder := newTestProcess(t, first, defaultLimits)
	if err := holder.Ready(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	second := first
	second.Index, second.Dir = 1, holder.cfg.Dir // which has the programs, and that the device passed
	p := newTestProcess(t, second, defaultLimits)
	if e := wantClass(t, p.Ready(t.Context(), false), NotStarted); !strings.Contains(e.Error(), "the GPU 00f0:0a:00.0 is in use") {
		t.Errorf("Ready = %v, want that the GPU is in use", e)
	}
	second.Index, second.Shared = 2, true
	if err := newTestProcess(t, second, defaultLimits).Ready(t.Context(), false); err != nil {
		t.Errorf("shared: %v", err)
	}
	second.Index, second.Shared, second.Accelerator.Number = 3, false, 1
	if err := newTestProcess(t, second, defaultLimits).Ready(t.Context(), false); err != nil {
		t.Errorf("the other GPU: %v", err)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context(), false); err != nil {
		t.Errorf("after the first one was closed: %v", err)
	}
}

// TestGFXReachesTheLibrary has a library that knows its GPU under another name only.
func TestGFXReachesTheLibrary(t *testing.T) {
	config := shimConfig(t, kernels.HIP, &shim.Fault{Call: "CompileProgram", Kind: shim.Picky})
	for gfx, want := range map[string]string{"": "no such driver or device", "10.3.0": "CompileProgram gave error 719"} {
		config.GFX = gfx
		e := wantClass(t, newTestProcess(t, config, defaultLimits).Ready(t.Context(), false), NotStarted)
		if !strings.Contains(e.Error(), want) {
			t.Errorf("with gfx %q: %v, want %q", gfx, e, want)
		}
	}
}
