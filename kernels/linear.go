package kernels

// A linear generator steps x -> mul*x + add modulo a power of two, and outputs
// some bits of x. It jumps.
type linear struct {
	step  affine
	bits  int // of the state
	shift int // output bits from here up
	start seeding

	// seedOf is the seed of a state; nil when a state is its own seed.
	seedOf func(state uint64) uint64
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

func (l *linear) back() backStream { return l.rewinder() }

func (l *linear) rewinder() *rewinder {
	inverse := inverseOf(l.step.mul)
	mask := maxOfBits(l.bits)
	r := &rewinder{start: l.start.of, seedOf: l.seedOf, before: func(state uint64) (earlier, output uint64) {
		return (state - l.step.add) * inverse & mask, state & mask >> l.shift
	}}
	if r.seedOf == nil {
		r.seedOf = func(state uint64) uint64 { return state & mask }
	}
	return r
}

// inverseOf is the inverse of an odd number modulo 2^64.
func inverseOf(odd uint64) uint64 {
	inverse := odd // right in the low 3 bits; each round doubles them
	for range 5 {
		inverse *= 2 - odd*inverse
	}
	return inverse
}

// oneForZero is the start of generators that cannot leave the state 0.
func oneForZero(seed uint64) uint64 { return max(seed, 1) }

// A lehmer generator steps x -> mul*x modulo a prime below 2^32. It jumps.
type lehmer struct {
	mul, prime uint64
	whole      bool // the seed is not taken modulo the prime
}

// start is the state of a seed, for which 0 becomes 1.
func (l *lehmer) start(seed uint64) uint64 {
	if l.whole {
		return oneForZero(seed)
	}
	return oneForZero(seed % l.prime)
}

func (l *lehmer) open() stream { return &lehmerStream{lehmer: *l} }

type lehmerStream struct {
	lehmer
	x      uint64
	length uint64 // of the jump that is remembered
	jump   uint64 // mul to the power of length
}

func (g *lehmerStream) seed(seed uint64) { g.x = g.start(seed) }

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

func (l *lehmer) back() backStream {
	inverse := powMod(l.mul, l.prime-2, l.prime)
	return &rewinder{start: l.start, seedOf: itself, before: func(state uint64) (earlier, output uint64) {
		return state * inverse % l.prime, state
	}}
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
