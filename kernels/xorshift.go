package kernels

// The xorshift generators of Marsaglia and Vigna; xorshift32 has a file of its own.

var xorshift64 = definition{
	Generator: Generator{
		Name:       "xorshift64",
		Met:        "embedded code, games, Monte Carlo programs",
		SeedBits:   64,
		StateBits:  64,
		WidthBits:  64,
		Definition: "x=seed (0 stays 0 for ever). x^=x<<13; x^=x>>7; x^=x<<17; output x (64-bit)",
		Source:     "formula (Marsaglia 2003); reproduces 8748534153485358512 for seed 88172645463325252",
	},
	kernel:     streamKernel{file: "xorshift64"},
	setupSteps: 1,
	open:       plain[xorshift64Engine],
	backward:   xorshift64Back,
}

var xorshift64star = definition{
	Generator: Generator{
		Name:       "xorshift64star",
		Met:        "Vigna's xorshift64*, games and small libraries",
		SeedBits:   64,
		StateBits:  64,
		WidthBits:  64,
		Definition: "x=seed (0 stays 0 for ever). x^=x>>12; x^=x<<25; x^=x>>27; output x*0x2545F4914F6CDD1D mod 2^64 (state is x, not the product)",
		Source:     "formula (Vigna)",
	},
	kernel:     streamKernel{file: "xorshift64", variant: 1},
	setupSteps: 1,
	open:       plain[xorshift64starEngine],
	backward:   xorshift64starBack,
}

var xorshift128 = definition{
	Generator: Generator{
		Name:       "xorshift128",
		Met:        "Marsaglia's paper, npm seedrandom xor128, older game engines (Unity seeds it otherwise)",
		SeedBits:   32,
		StateBits:  128,
		WidthBits:  32,
		Definition: "x=seed, y=362436069, z=521288629, w=88675123. t=x^(x<<11); x=y; y=z; z=w; w=w^(w>>19)^t^(t>>8); output w (32-bit)",
		Source:     "npm seedrandom 3.0.5 xor128 with the state set explicitly; reproduces 3701687786 for x=123456789",
	},
	kernel:     streamKernel{file: "xorshift128"},
	setupSteps: 1,
	open:       plain[xorshift128Engine],
}

var xorwow = definition{
	Generator: Generator{
		Name:      "xorwow",
		Met:       "Marsaglia's paper, npm seedrandom xorwow; the step of cuRAND's default generator, which seeds otherwise",
		SeedBits:  32,
		StateBits: 192,
		WidthBits: 32,
		Definition: "x=seed, y=362436069, z=521288629, w=88675123, v=5783321, d=6615241 (this is NOT the curand_init seeding). t=x^(x>>2); x=y;y=z;z=w;w=v; " +
			"v=(v^(v<<4))^(t^(t<<1)); d+=362437; output d+v (32-bit)",
		Source: "npm seedrandom 3.0.5 xorwow with the state set explicitly; reproduces 246875399 for x=123456789",
	},
	setupSteps: 1,
	open:       plain[xorwowEngine],
}

var xorshift128plus = definition{
	Generator: Generator{
		Name:      "xorshift128plus",
		Met:       "Vigna's xorshift128+ (shifts 23, 18, 5), filled from splitmix64",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 64,
		Definition: "state words filled in order with consecutive splitmix64 outputs started from s=seed (s0,s1). out=s0+s1; x=s0; y=s1; s0=y; x^=x<<23; " +
			"s1=x^y^(x>>18)^(y>>5). " +
			splitmix64Text,
		Source: "formula (Vigna, shifts 23/18/5)",
	},
	kernel:     streamKernel{file: "plus128", variant: 1},
	setupSteps: 1,
	open:       plain[xorshift128plusEngine],
}

type xorshift64Engine struct{ x uint64 }

func (g *xorshift64Engine) seed(seed uint64) { g.x = seed }

func (g *xorshift64Engine) next() uint64 {
	g.x ^= g.x << 13
	g.x ^= g.x >> 7
	g.x ^= g.x << 17
	return g.x
}

type xorshift64starEngine struct{ x uint64 }

func (g *xorshift64starEngine) seed(seed uint64) { g.x = seed }

func (g *xorshift64starEngine) next() uint64 {
	g.x ^= g.x >> 12
	g.x ^= g.x << 25
	g.x ^= g.x >> 27
	return g.x * 0x2545F4914F6CDD1D
}

type xorshift128Engine struct{ x, y, z, w uint32 }

func (g *xorshift128Engine) seed(seed uint64) {
	*g = xorshift128Engine{uint32(seed), 362436069, 521288629, 88675123}
}

func (g *xorshift128Engine) next() uint64 {
	t := g.x ^ g.x<<11
	g.x, g.y, g.z = g.y, g.z, g.w
	g.w ^= g.w>>19 ^ t ^ t>>8
	return uint64(g.w)
}

type xorwowEngine struct{ x, y, z, w, v, d uint32 }

func (g *xorwowEngine) seed(seed uint64) {
	*g = xorwowEngine{uint32(seed), 362436069, 521288629, 88675123, 5783321, 6615241}
}

func (g *xorwowEngine) next() uint64 {
	t := g.x ^ g.x>>2
	g.x, g.y, g.z, g.w = g.y, g.z, g.w, g.v
	g.v = g.v ^ g.v<<4 ^ t ^ t<<1
	g.d += 362437
	return uint64(g.d + g.v)
}

type xorshift128plusEngine struct{ s0, s1 uint64 }

func (g *xorshift128plusEngine) seed(seed uint64) {
	fill := splitmix64Stream{seed}
	g.s0, g.s1 = fill.next(), fill.next()
}

func (g *xorshift128plusEngine) next() uint64 {
	x, y := g.s0, g.s1
	out := x + y
	g.s0 = y
	x ^= x << 23
	g.s1 = x ^ y ^ x>>18 ^ y>>5
	return out
}

func xorshift64Back() backStream {
	return &rewinder{start: itself, seedOf: itself, before: func(state uint64) (earlier, output uint64) {
		return unshiftLeft(unshiftRight(unshiftLeft(state, 17), 7), 13), state
	}}
}

// unstar undoes the shifts of xorshift64star.
func unstar(state uint64) uint64 { return unshiftRight(unshiftLeft(unshiftRight(state, 27), 25), 12) }

func xorshift64starBack() backStream {
	return &rewinder{start: itself, seedOf: itself, before: func(state uint64) (earlier, output uint64) {
		return unstar(state), state * 0x2545F4914F6CDD1D
	}}
}
