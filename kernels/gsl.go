package kernels

// The generators of the GNU Scientific Library whose definition is complete here;
// gsl_mt19937 and gsl_rand48 stand with their relatives.

var gslRanduWord = &linear{step: affine{65539, 0}, bits: 31, shift: 0, start: seeding{forZero: 1}}

var gslRandu = definition{
	Generator: Generator{
		Name:       "gsl_randu",
		Met:        "GNU Scientific Library: gsl_rng_randu, IBM RANDU",
		SeedBits:   31,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed, 0 becomes 1. x=65539*x mod 2^31",
		Source:     "GSL 2.7.1 gsl_rng_randu",
	},
	jumps:      true,
	setupSteps: 1,
	open:       gslRanduWord.open,
	backward:   gslRanduWord.back,
}

var gslRandWord = &linear{step: affine{1103515245, 12345}, bits: 31, shift: 0}

var gslRand = definition{
	Generator: Generator{
		Name:       "gsl_rand",
		Met:        "GNU Scientific Library: gsl_rng_rand, BSD rand()",
		SeedBits:   31,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed. x=(1103515245*x+12345) mod 2^31",
		Source:     "GSL 2.7.1 gsl_rng_rand",
	},
	jumps:      true,
	setupSteps: 1,
	open:       gslRandWord.open,
	backward:   gslRandWord.back,
}

var gslTransputerWord = &linear{step: affine{1664525, 0}, bits: 32, shift: 0, start: seeding{forZero: 1}}

var gslTransputer = definition{
	Generator: Generator{
		Name:       "gsl_transputer",
		Met:        "GNU Scientific Library: gsl_rng_transputer",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "x=seed, 0 becomes 1. x=1664525*x mod 2^32",
		Source:     "GSL 2.7.1 gsl_rng_transputer",
	},
	jumps:      true,
	setupSteps: 1,
	open:       gslTransputerWord.open,
	backward:   gslTransputerWord.back,
}

var gslVaxWord = &linear{step: affine{69069, 1}, bits: 32, shift: 0}

var gslVax = definition{
	Generator: Generator{
		Name:       "gsl_vax",
		Met:        "GNU Scientific Library: gsl_rng_vax, VAX MTH$RANDOM",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "x=seed. x=(69069*x+1) mod 2^32",
		Source:     "GSL 2.7.1 gsl_rng_vax",
	},
	jumps:      true,
	setupSteps: 1,
	open:       gslVaxWord.open,
	backward:   gslVaxWord.back,
}

var gslBorosh13Word = &linear{step: affine{1812433253, 0}, bits: 32, shift: 0, start: seeding{forZero: 1}}

var gslBorosh13 = definition{
	Generator: Generator{
		Name:       "gsl_borosh13",
		Met:        "GNU Scientific Library: gsl_rng_borosh13",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "x=seed, 0 becomes 1. x=1812433253*x mod 2^32",
		Source:     "GSL 2.7.1 gsl_rng_borosh13",
	},
	jumps:      true,
	setupSteps: 1,
	open:       gslBorosh13Word.open,
	backward:   gslBorosh13Word.back,
}

var gslWaterman14Word = &linear{step: affine{1566083941, 0}, bits: 32, shift: 0, start: seeding{forZero: 1}}

var gslWaterman14 = definition{
	Generator: Generator{
		Name:       "gsl_waterman14",
		Met:        "GNU Scientific Library: gsl_rng_waterman14",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "x=seed, 0 becomes 1. x=1566083941*x mod 2^32",
		Source:     "GSL 2.7.1 gsl_rng_waterman14",
	},
	jumps:      true,
	setupSteps: 1,
	open:       gslWaterman14Word.open,
	backward:   gslWaterman14Word.back,
}

var gslMinstdWord = &lehmer{mul: 16807, prime: mersenne31, whole: true}

var gslMinstd = definition{
	Generator: Generator{
		Name:       "gsl_minstd",
		Met:        "GNU Scientific Library: gsl_rng_minstd",
		SeedBits:   31,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed, 0 becomes 1. x=16807*x mod 2147483647",
		Source:     "GSL 2.7.1 gsl_rng_minstd",
	},
	most:       mersenne31 - 1,
	jumps:      true,
	setupSteps: 1,
	open:       gslMinstdWord.open,
	backward:   gslMinstdWord.back,
}

var gslFishman18Word = &lehmer{mul: 62089911, prime: mersenne31}

var gslFishman18 = definition{
	Generator: Generator{
		Name:       "gsl_fishman18",
		Met:        "GNU Scientific Library: gsl_rng_fishman18",
		SeedBits:   31,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed mod 2147483647, 0 becomes 1. x=62089911*x mod 2147483647",
		Source:     "GSL 2.7.1 gsl_rng_fishman18",
	},
	least:      1,
	most:       mersenne31 - 1,
	jumps:      true,
	setupSteps: 1,
	open:       gslFishman18Word.open,
	backward:   gslFishman18Word.back,
}

var gslFishman20Word = &lehmer{mul: 48271, prime: mersenne31}

var gslFishman20 = definition{
	Generator: Generator{
		Name:       "gsl_fishman20",
		Met:        "GNU Scientific Library: gsl_rng_fishman20",
		SeedBits:   31,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed mod 2147483647, 0 becomes 1. x=48271*x mod 2147483647",
		Source:     "GSL 2.7.1 gsl_rng_fishman20",
	},
	least:      1,
	most:       mersenne31 - 1,
	jumps:      true,
	setupSteps: 1,
	open:       gslFishman20Word.open,
	backward:   gslFishman20Word.back,
}

var gslLecuyer21Word = &lehmer{mul: 40692, prime: ecuyerModB}

var gslLecuyer21 = definition{
	Generator: Generator{
		Name:       "gsl_lecuyer21",
		Met:        "GNU Scientific Library: gsl_rng_lecuyer21",
		SeedBits:   31,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed mod 2147483399, 0 becomes 1. x=40692*x mod 2147483399",
		Source:     "GSL 2.7.1 gsl_rng_lecuyer21",
	},
	least:      1,
	most:       ecuyerModB - 1,
	jumps:      true,
	setupSteps: 1,
	open:       gslLecuyer21Word.open,
	backward:   gslLecuyer21Word.back,
}

var gslTaus = definition{
	Generator: Generator{
		Name:      "gsl_taus",
		Met:       "GNU Scientific Library: gsl_rng_taus",
		SeedBits:  32,
		StateBits: 96,
		WidthBits: 32,
		Definition: "seed 0 becomes 1; L(n)=69069*n mod 2^32; s1=L(seed), s2=L(s1), s3=L(s2); 6 outputs discarded. T(s,a,b,c,d)=((s&c)<<d) ^ (((s<<a) mod 2^32 ^ s)>>b); " +
			"s1=T(s1,13,19,4294967294,12); s2=T(s2,2,25,4294967288,4); s3=T(s3,3,11,4294967280,17); output s1^s2^s3.",
		Source: "GSL 2.7.1 gsl_rng_taus",
	},
	setupSteps: 10,
	open:       plain[gslTausEngine],
}

var gslTaus2 = definition{
	Generator: Generator{
		Name:      "gsl_taus2",
		Met:       "GNU Scientific Library: gsl_rng_taus2",
		SeedBits:  32,
		StateBits: 96,
		WidthBits: 32,
		Definition: "as gsl_taus, but s1<2 gets +2, s2<8 gets +8, s3<16 gets +16 as each is made. T(s,a,b,c,d)=((s&c)<<d) ^ (((s<<a) mod 2^32 ^ s)>>b); " +
			"s1=T(s1,13,19,4294967294,12); s2=T(s2,2,25,4294967288,4); s3=T(s3,3,11,4294967280,17); output s1^s2^s3.",
		Source: "GSL 2.7.1 gsl_rng_taus2",
	},
	setupSteps: 10,
	open:       plain[gslTaus2Engine],
}

var gslKnuthran2 = definition{
	Generator: Generator{
		Name:       "gsl_knuthran2",
		Met:        "GNU Scientific Library: gsl_rng_knuthran2",
		SeedBits:   31,
		StateBits:  62,
		WidthBits:  31,
		Definition: "x0=x1=seed mod 2147483647 (seed 0 becomes 1). x_n=(271828183*x_{n-1}-314159269*x_{n-2}) mod 2147483647",
		Source:     "GSL 2.7.1 gsl_rng_knuthran2",
	},
	setupSteps: 1,
	most:       mersenne31 - 1,
	open:       plain[gslKnuthran2Engine],
}

var gslCmrg = definition{
	Generator: Generator{
		Name:      "gsl_cmrg",
		Met:       "GNU Scientific Library: gsl_rng_cmrg",
		SeedBits:  32,
		StateBits: 186,
		WidthBits: 31,
		Definition: "seed 0 becomes 1; s=69069*s mod 2^32 before each of x1,x2,x3 (mod m1), y1,y2,y3 (mod m2); 7 outputs discarded. m1=2147483647,m2=2145483479; " +
			"x_n=(63308*x_{n-2}-183326*x_{n-3}) mod m1; y_n=(86098*y_{n-1}-539608*y_{n-3}) mod m2; output x-y if x>=y else x-y+m1 (x1,y1 are the newest)",
		Source: "GSL 2.7.1 gsl_rng_cmrg",
	},
	setupSteps: 10,
	most:       mersenne31 - 1,
	open:       plain[gslCmrgEngine],
}

var gslGfsr4 = definition{
	Generator: Generator{
		Name:      "gsl_gfsr4",
		Met:       "GNU Scientific Library: gsl_rng_gfsr4",
		SeedBits:  32,
		StateBits: 524288,
		WidthBits: 32,
		Definition: "seed 0 becomes 4357; for i=0..16383: word built MSB first from 32 top bits of s=69069*s mod 2^32; then for i=0..31: k=7+3i, " +
			"ra[k]=(ra[k]&(2^32-1>>i))|(0x80000000>>i); nd=32. nd=(nd+1)&16383; ra[nd]=ra[nd-471]^ra[nd-1586]^ra[nd-6988]^ra[nd-9689] (indices &16383); output " +
			"ra[nd]",
		Source: "GSL 2.7.1 gsl_rng_gfsr4",
	},
	setupSteps: 40,
	open:       plain[gslGfsr4Engine],
}

var gslCoveyou = definition{
	Generator: Generator{
		Name:       "gsl_coveyou",
		Met:        "GNU Scientific Library: gsl_rng_coveyou",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "seed mod 4: 0 gives x=seed+2; 1 and 2 give x=seed (an odd x for 1, as GSL does); 3 gives x=seed-1; mod 2^32. x=x*(x+1) mod 2^32",
		Source:     "GSL 2.7.1 gsl_rng_coveyou",
	},
	setupSteps: 1,
	open:       plain[gslCoveyouEngine],
}

// gslSpread is the generator that spreads a seed over a state.
type gslSpread uint32

func (s *gslSpread) next() uint32 {
	*s *= 69069
	return uint32(*s)
}

type gslTausState struct{ s1, s2, s3 uint32 }

func (g *gslTausState) next() uint64 {
	step := func(s, a, b, c, d uint32) uint32 { return s&c<<d ^ (s<<a^s)>>b }
	g.s1 = step(g.s1, 13, 19, 4294967294, 12)
	g.s2 = step(g.s2, 2, 25, 4294967288, 4)
	g.s3 = step(g.s3, 3, 11, 4294967280, 17)
	return uint64(g.s1 ^ g.s2 ^ g.s3)
}

// start spreads the seed, lifts words below their least value, and warms up.
func (g *gslTausState) start(seed uint64, least [3]uint32) {
	spread := gslSpread(max(uint32(seed), 1))
	for i, s := range []*uint32{&g.s1, &g.s2, &g.s3} {
		if *s = spread.next(); *s < least[i] {
			*s += least[i]
			spread = gslSpread(*s)
		}
	}
	for range 6 {
		g.next()
	}
}

type gslTausEngine struct{ gslTausState }

func (g *gslTausEngine) seed(seed uint64) { g.start(seed, [3]uint32{}) }

type gslTaus2Engine struct{ gslTausState }

func (g *gslTaus2Engine) seed(seed uint64) { g.start(seed, [3]uint32{2, 8, 16}) }

type gslKnuthran2Engine struct{ last, before uint64 }

func (g *gslKnuthran2Engine) seed(seed uint64) {
	g.last = oneForZero(seed) % mersenne31
	g.before = g.last
}

func (g *gslKnuthran2Engine) next() uint64 {
	x := mod31(mod31(271828183*g.last) + mersenne31 - mod31(314159269*g.before))
	g.last, g.before = x, g.last
	return x
}

const gslCmrgModY = 2145483479 // the first modulus is 2^31 - 1

// A gslCmrgEngine keeps the last three values of each component, the newest
// first.
type gslCmrgEngine struct{ x, y [3]uint64 }

func (g *gslCmrgEngine) seed(seed uint64) {
	spread := gslSpread(max(uint32(seed), 1))
	for i := range g.x {
		g.x[i] = uint64(spread.next()) % mersenne31
	}
	for i := range g.y {
		g.y[i] = uint64(spread.next()) % gslCmrgModY
	}
	for range 7 {
		g.next()
	}
}

func (g *gslCmrgEngine) next() uint64 {
	x := (63308*g.x[1] + 183326*(mersenne31-g.x[2])) % mersenne31
	y := (86098*g.y[0] + 539608*(gslCmrgModY-g.y[2])) % gslCmrgModY
	g.x = [3]uint64{x, g.x[0], g.x[1]}
	g.y = [3]uint64{y, g.y[0], g.y[1]}
	if x < y {
		x += mersenne31
	}
	return x - y
}

const gslGfsr4Words = 1 << 14

// gslGfsr4Powers[i] is how far the spread has come before word i, in which each
// of 32 steps gives one bit.
var gslGfsr4Powers = func() *[gslGfsr4Words]uint32 {
	step := gslSpread(1)
	for range 32 {
		step.next()
	}
	powers := new([gslGfsr4Words]uint32)
	powers[0] = 1
	for i := range powers[1:] {
		powers[i+1] = powers[i] * uint32(step)
	}
	return powers
}()

// A gslGfsr4Engine makes the words of a seed as they are asked for: an output
// needs four of the many.
type gslGfsr4Engine struct {
	start uint32
	made  [gslGfsr4Words]bool
	words [gslGfsr4Words]uint32
	at    int // of the last word
}

func (g *gslGfsr4Engine) seed(seed uint64) {
	if seed == 0 {
		seed = gslMtZero
	}
	g.start, g.at = uint32(seed), 32
	clear(g.made[:])
}

func (g *gslGfsr4Engine) next() uint64 {
	g.at = (g.at + 1) % gslGfsr4Words
	word := g.word(471) ^ g.word(1586) ^ g.word(6988) ^ g.word(9689)
	g.words[g.at], g.made[g.at] = word, true
	return uint64(word)
}

// word is the one that lies so far behind the one being made.
func (g *gslGfsr4Engine) word(back int) uint32 {
	i := (g.at - back) & (gslGfsr4Words - 1)
	if !g.made[i] {
		g.words[i], g.made[i] = g.first(i), true
	}
	return g.words[i]
}

// first is a word of the seed. In 32 words a triangle of bits is set and
// cleared, so that they are independent.
func (g *gslGfsr4Engine) first(i int) (word uint32) {
	spread := gslSpread(g.start * gslGfsr4Powers[i])
	for range 32 {
		word = word<<1 | spread.next()>>31
	}
	if n := (i - 7) / 3; i >= 7 && i%3 == 1 && n < 32 {
		word = word&(0xffffffff>>n) | 0x80000000>>n
	}
	return word
}

type gslCoveyouEngine struct{ x uint32 }

func (g *gslCoveyouEngine) seed(seed uint64) {
	g.x = uint32(seed)
	switch seed % 4 {
	case 0:
		g.x += 2
	case 3:
		g.x--
	}
}

func (g *gslCoveyouEngine) next() uint64 {
	g.x *= g.x + 1
	return uint64(g.x)
}
