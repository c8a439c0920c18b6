package kernels

var compatXorshift32 = compatible("xorshift32", 32, 32, steps,
	"As xorshift32: x=seed; x^=x<<13; x^=x>>17; x^=x<<5; output x.",
	func() stream { return new(xorshift32Stream) })

var compatXorshift64 = compatible("xorshift64", 64, 64, steps,
	"x=seed. x^=x>>12; x^=x<<25; x^=x>>27; x*=0x2545F4914F6CDD1D; the product is stored as the state; output x (64 bit). "+
		"The published xorshift64* multiplies only the output.",
	func() stream { return new(compatXorshift64Stream) })

var compatXorshift128 = compatible("xorshift128", 32, 32, steps,
	"x=seed, y=362436069, z=521288629, w=88675123. t=x^(x<<11); x=y; y=z; z=w; w=w^(w>>19)^t^(t>>8); output w (32 bit). "+
		"The published generator has x=123456789.",
	func() stream { return new(compatXorshift128Stream) })

type compatXorshift64Stream struct{ x uint64 }

func (g *compatXorshift64Stream) seed(seed uint64) { g.x = seed }

func (g *compatXorshift64Stream) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g *compatXorshift64Stream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = g.next()
	}
}

func (g *compatXorshift64Stream) next() uint64 {
	x := g.x
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	g.x = x * 0x2545F4914F6CDD1D
	return g.x
}

type compatXorshift128Stream struct{ x, y, z, w uint32 }

func (g *compatXorshift128Stream) seed(seed uint64) {
	*g = compatXorshift128Stream{uint32(seed), 362436069, 521288629, 88675123}
}

func (g *compatXorshift128Stream) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g *compatXorshift128Stream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = uint64(g.next())
	}
}

func (g *compatXorshift128Stream) next() uint32 {
	t := g.x ^ g.x<<11
	g.x, g.y, g.z = g.y, g.z, g.w
	g.w ^= g.w>>19 ^ t ^ t>>8
	return g.w
}
