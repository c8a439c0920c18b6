package kernels

// The relatives of mt19937 that are written down plainly, one word at a time.

var mt19937x64 = definition{
	Generator: Generator{
		Name:      "mt19937_64",
		Met:       "std::mt19937_64 in C++, the authors' mt19937-64, Stata and Maple style tools",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 64,
		Definition: "64-bit unsigned seed. MT19937-64: mt[0]=seed, mt[i]=6364136223846793005*(mt[i-1]^(mt[i-1]>>62))+i; n=312,m=156, upper mask 0xFFFFFFFF80000000, lower " +
			"0x7FFFFFFF, a=0xB5026F5AA96619E9; temper y^=(y>>29)&0x5555555555555555; y^=(y<<17)&0x71D67FFFEDA60000; y^=(y<<37)&0xFFF7EEE000000000; y^=y>>43.",
		Source: "libstdc++ (GCC 12.2.0) std::mt19937_64",
	},
	setupSteps: 312,
	open:       plain[mt64Engine],
}

var boostMt11213b = definition{
	Generator: Generator{
		Name:      "boost_mt11213b",
		Met:       "Boost.Random: boost::mt11213b",
		SeedBits:  32,
		StateBits: 11232,
		WidthBits: 32,
		Definition: "32-bit unsigned seed. MT with n=351,m=175,r=19: mt[0]=seed, mt[i]=1812433253*(mt[i-1]^(mt[i-1]>>30))+i; twist y=(mt[i]&0xFFF80000)|(mt[i+1]&0x7FFFF), " +
			"a=0xCCAB8EE7; temper y^=y>>11; y^=(y<<7)&0x31B6AB00; y^=(y<<15)&0xFFE50000; y^=y>>17",
		Source: "Boost.Random 1.74 mt11213b",
	},
	setupSteps: 351,
	open:       func() stream { return stepped{&twister{kind: mt11213bTwister}} },
}

var gslMt19937 = definition{
	Generator: Generator{
		Name:      "gsl_mt19937",
		Met:       "GNU Scientific Library: gsl_rng_mt19937, its default",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "seed 0 becomes 4357, else init_genrand. " +
			mtText +
			" " +
			mtGenrandText,
		Source: "GSL 2.7.1 gsl_rng_mt19937",
	},
	setupSteps: mtShift,
	open:       func() stream { return new(gslMtStream) },
}

// A twisterKind is the parameters of a 32-bit twister.
type twisterKind struct {
	words, shift int
	lower        uint32 // mask of the bits taken from the next word
	matrix       uint32
	quirk        bool // the low bit of the word itself chooses the matrix
	temper       func(uint32) uint32
}

var (
	phpLegacyTwister = twisterKind{mtWords, mtShift, 0x7fffffff, mtMatrix, true, mtTemper}
	mt11213bTwister  = twisterKind{351, 175, 0x7ffff, 0xCCAB8EE7, false, mt11213bTemper}
)

func mt11213bTemper(y uint32) uint32 {
	y ^= y >> 11
	y ^= y << 7 & 0x31B6AB00
	y ^= y << 15 & 0xFFE50000
	return y ^ y>>17
}

type twister struct {
	kind twisterKind
	mt   [mtWords]uint32
	at   int
}

func (g *twister) seed(seed uint64) {
	x := uint32(seed)
	g.mt[0], g.at = x, 0
	for i := 1; i < g.kind.words; i++ {
		x = mtFactor*(x^x>>30) + uint32(i)
		g.mt[i] = x
	}
}

func (g *twister) next() uint64 {
	k := &g.kind
	here, after := g.mt[g.at], g.mt[(g.at+1)%k.words]
	y := here&^k.lower | after&k.lower
	chooser := y
	if k.quirk {
		chooser = here
	}
	y = g.mt[(g.at+k.shift)%k.words] ^ y>>1 ^ -(chooser&1)&k.matrix
	g.mt[g.at] = y
	g.at = (g.at + 1) % k.words
	return uint64(k.temper(y))
}

// A gslMtStream takes another seed for 0.
type gslMtStream struct{ mtStream }

const gslMtZero = 4357

func (g *gslMtStream) seed(seed uint64) {
	if seed == 0 {
		seed = gslMtZero
	}
	g.mtStream.seed(seed)
}

func (g *gslMtStream) heads(first, from uint64, n int, dst []uint64) {
	if first == 0 && len(dst) >= n {
		g.seed(0)
		g.skip(from)
		g.fill(dst[:n])
		first, dst = 1, dst[n:]
	}
	g.mtStream.heads(first, from, n, dst)
}

const (
	mt64Words = 312
	mt64Shift = 156
)

type mt64Engine struct {
	mt [mt64Words]uint64
	at int
}

func (g *mt64Engine) seed(seed uint64) {
	x := seed
	g.mt[0], g.at = x, 0
	for i := 1; i < mt64Words; i++ {
		x = 6364136223846793005*(x^x>>62) + uint64(i)
		g.mt[i] = x
	}
}

func (g *mt64Engine) next() uint64 {
	y := g.mt[g.at]&0xFFFFFFFF80000000 | g.mt[(g.at+1)%mt64Words]&0x7FFFFFFF
	y = g.mt[(g.at+mt64Shift)%mt64Words] ^ y>>1 ^ -(y&1)&0xB5026F5AA96619E9
	g.mt[g.at] = y
	g.at = (g.at + 1) % mt64Words
	y ^= y >> 29 & 0x5555555555555555
	y ^= y << 17 & 0x71D67FFFEDA60000
	y ^= y << 37 & 0xFFF7EEE000000000
	return y ^ y>>43
}
