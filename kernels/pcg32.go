package kernels

import "math/bits"

var pcg32 = definition{
	Generator: Generator{
		Name:      "pcg32",
		Met:       "pcg-cpp pcg32, and the minimal C library with its default stream",
		SeedBits:  64,
		StateBits: 64,
		WidthBits: 32,
		Definition: "inc=1442695040888963407; x=(seed+inc)*6364136223846793005+inc. Each output: old=x; " +
			"x=x*6364136223846793005+inc; w=low 32 bits of ((old>>18)^old)>>27; output w rotated right by old>>59 (32 bit).",
		Source: "pcg-cpp 0.98.1 pcg32(seed)",
	},
	jumps:      true,
	kernel:     streamKernel{file: "pcg32"},
	setupSteps: 1,
	open:       func() stream { return new(pcg32Stream) },
	backward:   pcg32Back,
}

var pcg32Step = affine{6364136223846793005, 1442695040888963407}

type pcg32Stream struct {
	x    uint64
	leap leap
}

func (g *pcg32Stream) seed(seed uint64) { g.x = pcg32Step.of(seed + pcg32Step.add) }

func (g *pcg32Stream) skip(n uint64) { g.x = g.leap.by(pcg32Step, n).of(g.x) }

func (g *pcg32Stream) fill(dst []uint64) {
	x := g.x
	for i := range dst {
		dst[i] = uint64(xshRR(x))
		x = x*6364136223846793005 + 1442695040888963407
	}
	g.x = x
}

// xshRR is the output XSH-RR 64/32.
func xshRR(x uint64) uint32 { return bits.RotateLeft32(uint32((x>>18^x)>>27), -int(x>>59)) }

// pcg32Earlier undoes the step.
func pcg32Earlier(x uint64) uint64 { return (x - pcg32Step.add) * pcg32Inverse }

var pcg32Inverse = inverseOf(pcg32Step.mul)

func pcg32Back() backStream {
	return &rewinder{
		start:  func(seed uint64) uint64 { return pcg32Step.of(seed + pcg32Step.add) },
		seedOf: func(state uint64) uint64 { return pcg32Earlier(state) - pcg32Step.add },
		before: pcg32Before,
	}
}

// pcg32Before outputs from the earlier state.
func pcg32Before(state uint64) (earlier, output uint64) {
	earlier = pcg32Earlier(state)
	return earlier, uint64(xshRR(earlier))
}
