package kernels

import (
	"errors"
	"io/fs"
	"os"
)

// Why there is no limit.
var (
	errNoPace    = errors.New("no limit is computed for OpenCL, whose devices do not say how many instructions they begin in a cycle")
	errNoClock   = errors.New("no limit is computed where the driver does not state the clock and the number of units")
	errUncounted = errors.New("a limit is computed for the kernels of mt19937 and xorshift32 only, whose instructions are counted")
)

// AcceleratorLimit is how many seeds of a search an accelerator could test in a
// second if every lane began an integer instruction in every cycle, instructions
// left out that only move data. It is known for CUDA and HIP devices, from the clock and
// the units that the driver states, and for the kernels of mt19937 and xorshift32, whose
// instructions are counted. Else the error says why it is not.
func AcceleratorLimit(d Device, s *Search) (seedsPerSecond float64, err error) {
	var dev driver
	switch d := d.(type) {
	case *vetted:
		dev = d.driver
	case *accelerator:
		dev = d.driver
	}
	g, isGPU := dev.(interface{ Pace(root fs.FS) float64 })
	plan, err := s.planAccelerator(d.Name())
	switch {
	case err != nil:
		return 0, err
	case !isGPU:
		return 0, errNoPace
	case plan.file() != families[kernelMt] && plan.file() != families[kernelXorshift32]:
		return 0, errUncounted
	}
	pace := g.Pace(os.DirFS("/"))
	if pace <= 0 {
		return 0, errNoClock
	}
	return pace / plan.laneInstructions(d.Name() == HIP), nil
}

// slowMultiply is how many cycles of a lane RDNA takes for a 32-bit multiplication.
// NVIDIA takes one, and has the addition behind it for nothing.
const slowMultiply = 4

// laneInstructions is how many instructions a seed takes on a lane.
func (p *acceleratorPlan) laneInstructions(amd bool) float64 {
	st := p.stages[0]
	n, multiplies := st.instructions(acceleratorUnit, &p.form, &p.transform), 0.0
	if p.transform.multiplier != 1 {
		multiplies += float64(len(st.rows))
	}
	if p.form.kernel == kernelMt {
		steps := float64(st.from + st.kept + mtShift - 1)
		multiplies += steps
		if !amd {
			n -= steps
		}
	}
	if amd {
		n += (slowMultiply - 1) * multiplies
	}
	return n
}
