package kernels

var mulberry32 = definition{
	Generator: Generator{
		Name:       "mulberry32",
		Met:        "JavaScript: the short seeded generator of many gists and games",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "s=seed. s+=0x6D2B79F5; z=s; z=(z^(z>>15))*(z|1); z^=z+(z^(z>>7))*(z|61); output z^(z>>14) (32-bit)",
		Source:     "formula",
	},
	jumps:      true,
	kernel:     streamKernel{file: "mulberry32"},
	setupSteps: 1,
	open:       func() stream { return new(mulberry32Stream) },
	backward:   mulberry32Back,
}

const mulberry32Gap = 0x6D2B79F5

type mulberry32Stream struct{ s uint32 }

func (g *mulberry32Stream) seed(seed uint64) { g.s = uint32(seed) }

func (g *mulberry32Stream) skip(n uint64) { g.s += uint32(n) * mulberry32Gap }

func (g *mulberry32Stream) fill(dst []uint64) {
	for i := range dst {
		g.s += mulberry32Gap
		dst[i] = mulberry32Mix(uint64(g.s))
	}
}

func mulberry32Mix(state uint64) uint64 {
	z := uint32(state)
	z = (z ^ z>>15) * (z | 1)
	z ^= z + (z^z>>7)*(z|61)
	return uint64(z ^ z>>14)
}

func mulberry32Back() backStream {
	return &rewinder{start: itself, seedOf: low32, before: func(s uint64) (uint64, uint64) { return low32(s - mulberry32Gap), mulberry32Mix(s) }}
}
