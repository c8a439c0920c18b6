package kernels

var splitmix64 = definition{
	Generator: Generator{
		Name:      "splitmix64",
		Met:       "seeding of xoshiro and others, gonum SplitMix64, Java SplittableRandom.nextLong",
		SeedBits:  64,
		StateBits: 64,
		WidthBits: 64,
		Definition: "s=seed. Each output: s+=0x9E3779B97F4A7C15; z=s; z=(z^(z>>30))*0xBF58476D1CE4E5B9; " +
			"z=(z^(z>>27))*0x94D049BB133111EB; output z^(z>>31) (64 bit).",
		Source: "gonum v0.17.0 mathext/prng SplitMix64",
	},
	jumps:      true,
	kernel:     streamKernel{file: "splitmix64"},
	setupSteps: 1,
	open:       func() stream { return new(splitmix64Stream) },
	backward:   func() backStream { return weylBack(splitmix64Gap, stafford13) },
}

const splitmix64Gap = 0x9E3779B97F4A7C15

type splitmix64Stream struct{ s uint64 }

func (g *splitmix64Stream) seed(seed uint64) { g.s = seed }

func (g *splitmix64Stream) skip(n uint64) { g.s += n * splitmix64Gap }

func (g *splitmix64Stream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = g.next()
	}
}

func (g *splitmix64Stream) next() uint64 {
	g.s += splitmix64Gap
	return stafford13(g.s)
}
