package kernels

var msvcRand = definition{
	Generator: Generator{
		Name:       "msvc_rand",
		Met:        "Microsoft Visual C++: srand(seed); rand()",
		SeedBits:   32,
		WidthBits:  15,
		Definition: "x=seed. x=(214013*x+2531011) mod 2^32; output (x>>16)&0x7fff. A seed and the seed XOR 2^31 give the same stream.",
		Source:     "formula with constants from common documentation; seed 1 gives 41, 18467, 6334, 26500, 19169",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return new(msvcStream) },
}

var msvcStep = affine{214013, 2531011}

type msvcStream struct {
	x    uint64 // the low 32 bits count
	leap leap
}

func (g *msvcStream) seed(seed uint64) { g.x = seed }

func (g *msvcStream) skip(n uint64) { g.x = g.leap.by(msvcStep, n).of(g.x) }

func (g *msvcStream) fill(dst []uint64) {
	x := g.x
	for i := range dst {
		x = x*214013 + 2531011
		dst[i] = x >> 16 & 0x7fff
	}
	g.x = x
}
