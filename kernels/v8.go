package kernels

// Math.random of V8, with a fixed seed.

const v8Text = "xorshift128+ step: x=s0; y=s1; s0=y; x^=x<<23; x^=x>>17; x^=y; x^=y>>26; s1=x. A cache of 64 values (new s0>>12 after each step) is filled, then " +
	"handed out in REVERSE order (64th first), then refilled."

var v8Random52 = definition{
	Generator: Generator{
		Name:      "v8_random52",
		Met:       "Node.js and Chrome with --random-seed=n: Math.random(), times 2^52",
		SeedBits:  31,
		StateBits: 128,
		WidthBits: 52,
		Definition: "node --random-seed=seed, a fresh V8 context; s0=Murmur64(seed sign-extended from 32 to 64 bits), s1=Murmur64(~(that 64-bit seed)). " +
			murmur64Text +
			" " +
			v8Text +
			" Output the 52-bit integer; Math.random() = value/2^52.",
		Source: "Node.js 20.20.2 (V8 11.3) Math.random() times 2^52 in a new vm context",
	},
	setupSteps: 64,
	open:       openV8,
}

var v8Random1000 = definition{
	Generator: Generator{
		Name:      "v8_random1000",
		Met:       "Node.js and Chrome with --random-seed=n: Math.floor(Math.random() * 1000)",
		SeedBits:  31,
		StateBits: 128,
		WidthBits: 10,
		Definition: "as v8_random52; s0=Murmur64(seed sign-extended from 32 to 64 bits), s1=Murmur64(~(that 64-bit seed)). " +
			murmur64Text +
			" " +
			v8Text +
			" Output floor(Math.random()*1000).",
		Source: "Node.js 20.20.2 (V8 11.3) Math.floor(Math.random()*1000)",
	},
	most:       999,
	setupSteps: 64,
	open:       func() stream { return mapped{openV8(), v8Floor(1000)} },
}

// v8Cache is how many values are made at once, to be handed out last one first.
const v8Cache = 64

func openV8() stream { return stepped{new(v8Engine)} }

type v8Engine struct {
	s0, s1 uint64
	cache  [v8Cache]uint64
	left   int // values not yet handed out
}

func (g *v8Engine) seed(seed uint64) {
	wide := uint64(int64(int32(uint32(seed))))
	g.s0, g.s1, g.left = murmur64(wide), murmur64(^wide), 0
}

func (g *v8Engine) next() uint64 {
	if g.left == 0 {
		for i := range g.cache {
			x, y := g.s0, g.s1
			g.s0 = y
			x ^= x << 23
			x ^= x >> 17
			x ^= y
			g.s1 = x ^ y>>26
			g.cache[i] = g.s0 >> 12
		}
		g.left = v8Cache
	}
	g.left--
	return g.cache[g.left]
}

// v8Floor is Math.floor(Math.random() * n), in doubles, with their rounding.
func v8Floor(n uint64) func(uint64) uint64 {
	return func(output uint64) uint64 { return uint64(float64(output) / (1 << 52) * float64(n)) }
}
