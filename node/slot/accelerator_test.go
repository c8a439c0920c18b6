package slot

import (
	"errors"
	"testing"

	"seedmesh/kernels"
)

// TestOpenCLExecutor runs a search on the first OpenCL device, and one that only
// the CPU can do, in an executor: the first one after the conformance suite.
func TestOpenCLExecutor(t *testing.T) {
	if testing.Short() {
		t.Skip("the conformance suite takes a while")
	}
	switch d, err := kernels.OpenOpenCL(0, ""); {
	case err != nil:
		t.Skip(err)
	default:
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cpu := newTestProcess(t, Config{}, defaultLimits)
	p := newTestProcess(t, Config{Device: kernels.OpenCL}, defaultLimits)
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
}

// TestNoSuchDevice has an executor asked for a device that no machine has.
func TestNoSuchDevice(t *testing.T) {
	var none *kernels.NoDeviceError
	if _, _, err := newDevice(deviceConfig{name: kernels.OpenCL, number: 200}); !errors.As(err, &none) || none.Remedy() == "" {
		t.Errorf("newDevice = %v, want that there is none", err)
	}
	p := newTestProcess(t, Config{Device: kernels.OpenCL, Number: 200}, defaultLimits)
	_, err := p.Run(t.Context(), smallTask())
	wantClass(t, err, NotStarted)
}
