package kernels

var xorshift32 = definition{
	Generator: Generator{
		Name:       "xorshift32",
		Met:        "embedded code, games, shaders, textbook examples",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "x=seed (32 bit; 0 stays 0 for ever). x^=x<<13; x^=x>>17; x^=x<<5; output x.",
		Source:     "Marsaglia 2003, Xorshift RNGs; seed 2463534242 first gives 723471715",
	},
	setupSteps: 1,
	open:       func() stream { return new(xorshift32Stream) },
	backward:   xorshift32Back,
}

type xorshift32Stream struct{ x uint32 }

func (g *xorshift32Stream) seed(seed uint64) { g.x = uint32(seed) }

func (g *xorshift32Stream) skip(n uint64) {
	for range n {
		g.x = xorshift32Step(g.x)
	}
}

func (g *xorshift32Stream) fill(dst []uint64) {
	x := g.x
	for i := range dst {
		x = xorshift32Step(x)
		dst[i] = uint64(x)
	}
	g.x = x
}

// heads runs four seeds side by side, since one chain alone waits for itself.
func (g *xorshift32Stream) heads(first, from uint64, n int, dst []uint64) {
	for ; len(dst) >= 4*n; first, dst = first+4, dst[4*n:] {
		a, b, c, d := uint32(first), uint32(first+1), uint32(first+2), uint32(first+3)
		for range from {
			a, b, c, d = xorshift32Step(a), xorshift32Step(b), xorshift32Step(c), xorshift32Step(d)
		}
		da, db, dc, dd := dst[:n], dst[n:][:n], dst[2*n:][:n], dst[3*n:][:n]
		for i := range n {
			a, b, c, d = xorshift32Step(a), xorshift32Step(b), xorshift32Step(c), xorshift32Step(d)
			da[i], db[i], dc[i], dd[i] = uint64(a), uint64(b), uint64(c), uint64(d)
		}
	}
	for ; len(dst) >= n; first, dst = first+1, dst[n:] {
		g.seed(first)
		g.skip(from)
		g.fill(dst[:n])
	}
}

func xorshift32Step(x uint32) uint32 {
	x ^= x << 13
	x ^= x >> 17
	x ^= x << 5
	return x
}

func xorshift32Back() backStream {
	return &rewinder{start: itself, seedOf: itself, before: func(state uint64) (earlier, output uint64) {
		x := low32(unshiftLeft(state, 5))
		x = unshiftRight(x, 17)
		return low32(unshiftLeft(x, 13)), state
	}}
}
