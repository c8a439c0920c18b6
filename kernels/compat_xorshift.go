package kernels

var compatXorshift32 = func() definition {
	d := compatible("xorshift32", 32, 32, 32, steps,
		"As xorshift32: x=seed; x^=x<<13; x^=x>>17; x^=x<<5; output x.",
		func() stream { return new(xorshift32Stream) })
	d.backward = xorshift32Back
	return d
}()

var compatXorshift64 = func() definition {
	d := compatible("xorshift64", 64, 64, 64, steps,
		"x=seed. x^=x>>12; x^=x<<25; x^=x>>27; x*=0x2545F4914F6CDD1D; the product is stored as the state; output x (64 bit). "+
			"The published xorshift64* multiplies only the output.",
		plain[compatXorshift64Engine])
	d.backward = compatXorshift64Back
	d.kernel = streamKernel{file: "xorshift64", variant: 2}
	return d
}()

var compatXorshift128 = compatible("xorshift128", 32, 128, 32, steps,
	"x=seed, y=362436069, z=521288629, w=88675123. t=x^(x<<11); x=y; y=z; z=w; w=w^(w>>19)^t^(t>>8); output w (32 bit). "+
		"The published generator has x=123456789.",
	plain[xorshift128Engine]).withKernel(streamKernel{file: "xorshift128"})

type compatXorshift64Engine struct{ x uint64 }

func (g *compatXorshift64Engine) seed(seed uint64) { g.x = seed }

func (g *compatXorshift64Engine) next() uint64 {
	x := g.x
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	g.x = x * 0x2545F4914F6CDD1D
	return g.x
}

func compatXorshift64Back() backStream {
	inverse := inverseOf(0x2545F4914F6CDD1D)
	return &rewinder{start: itself, seedOf: itself, before: func(state uint64) (earlier, output uint64) {
		return unstar(state * inverse), state
	}}
}
