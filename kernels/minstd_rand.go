package kernels

var minstdRand = definition{
	Generator: Generator{
		Name:       "minstd_rand",
		Met:        "std::minstd_rand in C++",
		SeedBits:   32,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed mod (2^31-1), 0 becomes 1. x=48271*x mod 2147483647; output x (1..2^31-2).",
		Source:     "libstdc++ (GCC 12.2.0) std::minstd_rand",
	},
	least:      1,
	most:       mersenne31 - 1,
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return new(minstdStream) },
	backward:   (&lehmer{mul: 48271, prime: mersenne31}).back,
}

var minstdStep = affine31{mul: 48271}

type minstdStream struct {
	x    uint64
	leap leap31
}

func (g *minstdStream) seed(seed uint64) {
	g.x = mod31(seed)
	if g.x == 0 {
		g.x = 1
	}
}

func (g *minstdStream) skip(n uint64) { g.x = g.leap.by(minstdStep, n).of(g.x) }

func (g *minstdStream) fill(dst []uint64) {
	x := g.x
	for i := range dst {
		x *= 48271 // below 2^47
		x = x&mersenne31 + x>>31
		if x >= mersenne31 {
			x -= mersenne31
		}
		dst[i] = x
	}
	g.x = x
}
