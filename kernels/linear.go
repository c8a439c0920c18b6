package kernels

// A linear generator steps x -> mul*x + add modulo a power of two, and outputs
// some bits of x. It jumps.
type linear struct {
	step  affine
	bits  int // of the state
	shift int // output bits from here up
	start seeding
}

func (l *linear) open() stream {
	return &linearStream{linear: *l, mask: maxOfBits(l.bits)}
}

type linearStream struct {
	linear
	mask uint64
	x    uint64 // the bits of mask count
	leap leap
}

func (g *linearStream) seed(seed uint64) {
	g.x = g.start.of(seed)
}

func (g *linearStream) skip(n uint64) { g.x = g.leap.by(g.step, n).of(g.x) }

func (g *linearStream) fill(dst []uint64) {
	x, mul, add, mask, shift := g.x, g.step.mul, g.step.add, g.mask, g.shift&63
	for i := range dst {
		x = x*mul + add
		dst[i] = x & mask >> shift
	}
	g.x = x
}

// A seeding makes a state of a seed; the zero value leaves the seed as it is.
type seeding struct {
	forZero uint64 // taken for the seed 0
	left    int    // bits by which the seed is shifted
	xor     uint64 // bits that are changed then
}

func (s *seeding) of(seed uint64) uint64 {
	if seed == 0 {
		seed = s.forZero
	}
	return seed<<s.left ^ s.xor
}

// oneForZero keeps a generator from the state 0, which it cannot leave.
func oneForZero(seed uint64) uint64 { return max(seed, 1) }

// A lehmer generator steps x -> mul*x modulo a prime below 2^32. A seed is taken
// modulo the prime, and 0 becomes 1. It jumps.
type lehmer struct{ mul, prime uint64 }

func (l *lehmer) open() stream { return &lehmerStream{lehmer: *l} }

type lehmerStream struct {
	lehmer
	x      uint64
	length uint64 // of the jump that is remembered
	jump   uint64 // mul to the power of length
}

func (g *lehmerStream) seed(seed uint64) { g.x = oneForZero(seed % g.prime) }

func (g *lehmerStream) skip(n uint64) {
	if g.length != n || g.jump == 0 {
		g.length, g.jump = n, powMod(g.mul, n, g.prime)
	}
	g.x = g.x * g.jump % g.prime
}

func (g *lehmerStream) fill(dst []uint64) {
	x, mul, prime := g.x, g.mul, g.prime
	for i := range dst {
		x = x * mul % prime
		dst[i] = x
	}
	g.x = x
}

// powMod is x to the power n modulo m, for m below 2^32.
func powMod(x, n, m uint64) uint64 {
	power := uint64(1)
	for x %= m; n > 0; n >>= 1 {
		if n&1 == 1 {
			power = power * x % m
		}
		x = x * x % m
	}
	return power
}
