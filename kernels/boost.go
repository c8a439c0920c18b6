package kernels

// Generators that only Boost.Random has.

var boostEcuyer1988 = definition{
	Generator: Generator{
		Name:       "boost_ecuyer1988",
		Met:        "Boost.Random: boost::ecuyer1988",
		SeedBits:   32,
		StateBits:  62,
		WidthBits:  31,
		Definition: "both components from seed: mod m, 0 becomes 1. a=40014*a mod 2147483563; b=40692*b mod 2147483399; output a-b if b<a else a-b+2147483562",
		Source:     "Boost.Random 1.74 ecuyer1988",
	},
	setupSteps: 1,
	least:      1,
	most:       2147483562,
	open:       plain[ecuyerEngine],
}

var boostKreutzer1986 = definition{
	Generator: Generator{
		Name:      "boost_kreutzer1986",
		Met:       "Boost.Random: boost::kreutzer1986",
		SeedBits:  32,
		StateBits: 1960,
		WidthBits: 20,
		Definition: "x=seed mod 714025. LCG x=(1366*x+150889) mod 714025 under shuffle_order k=97: V[0..96]=first 97, Y=next; draw: j=floor(97*Y/714025), Y=V[j], " +
			"V[j]=next, output Y",
		Source: "Boost.Random 1.74 kreutzer1986",
	},
	most:       kreutzerMod - 1,
	setupSteps: 98,
	open: func() stream {
		return stepped{&shuffled{of: outputs{from: plain[kreutzerEngine]()}, table: make([]uint64, 97), span: kreutzerMod}}
	},
}

var boostHellekalek1995 = definition{
	Generator: Generator{
		Name:       "boost_hellekalek1995",
		Met:        "Boost.Random: boost::hellekalek1995",
		SeedBits:   32,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed mod p. inversive: x=(9102*x^(p-2)+2110599482) mod p, p=2147483647 (inverse of 0 is 0)",
		Source:     "Boost.Random 1.74 hellekalek1995",
	},
	setupSteps: 1,
	most:       mersenne31 - 1,
	open:       plain[hellekalekEngine],
}

// The moduli of ecuyer1988.
const (
	ecuyerModA = 2147483563
	ecuyerModB = 2147483399
)

type ecuyerEngine struct{ a, b uint64 }

func (g *ecuyerEngine) seed(seed uint64) {
	g.a, g.b = oneForZero(seed%ecuyerModA), oneForZero(seed%ecuyerModB)
}

func (g *ecuyerEngine) next() uint64 {
	g.a = g.a * 40014 % ecuyerModA
	g.b = g.b * 40692 % ecuyerModB
	if g.b < g.a {
		return g.a - g.b
	}
	return g.a - g.b + ecuyerModA - 1
}

const kreutzerMod = 714025

type kreutzerEngine struct{ x uint64 }

func (g *kreutzerEngine) seed(seed uint64) { g.x = seed % kreutzerMod }

func (g *kreutzerEngine) next() uint64 {
	g.x = (1366*g.x + 150889) % kreutzerMod
	return g.x
}

type hellekalekEngine struct{ x uint64 }

func (g *hellekalekEngine) seed(seed uint64) { g.x = seed % mersenne31 }

// next inverts by Fermat's theorem, which makes the inverse of 0 be 0.
func (g *hellekalekEngine) next() uint64 {
	g.x = mod31(9102*powMod(g.x, mersenne31-2, mersenne31) + 2110599482)
	return g.x
}
