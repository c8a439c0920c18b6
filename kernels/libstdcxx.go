package kernels

// The less used generators of the C++ library; minstd_rand and mt19937 have files
// of their own.

const subtractText = "LCG e: e0=seed mod 2147483563 (0 becomes 1), e=40014*e mod 2147483563; X_0..X_{r-1}: each = sum of ceil(w/32) LCG outputs (low first, times 2^(32j)) " +
	"mod 2^w; carry=1 if X_{r-1}==0 else 0; y=X_{i-s}-X_{i-r}-carry; carry=(y<0); X_i=y mod 2^w; output X_i."

var minstdRand0Word = &lehmer{mul: 16807, prime: mersenne31}

var minstdRand0 = definition{
	Generator: Generator{
		Name:       "minstd_rand0",
		Met:        "std::minstd_rand0 and, in libstdc++, std::default_random_engine in C++",
		SeedBits:   32,
		StateBits:  31,
		WidthBits:  31,
		Definition: "x=seed mod (2^31-1), 0 becomes 1. x=16807*x mod 2147483647; output x (1..2^31-2)",
		Source:     "libstdc++ (GCC 12.2.0) std::minstd_rand0",
	},
	least:      1,
	most:       mersenne31 - 1,
	jumps:      true,
	setupSteps: 1,
	open:       minstdRand0Word.open,
	backward:   minstdRand0Word.back,
}

var ranlux24Base = definition{
	Generator: Generator{
		Name:      "ranlux24_base",
		Met:       "std::ranlux24_base in C++",
		SeedBits:  32,
		StateBits: 577,
		WidthBits: 24,
		Definition: "32-bit unsigned seed. subtract-with-carry w=24,s=10,r=24: seed 0 becomes 19780503; " +
			subtractText,
		Source: "libstdc++ (GCC 12.2.0) std::ranlux24_base",
	},
	setupSteps: 24,
	open:       ranlux24Kind.open,
}

var ranlux48Base = definition{
	Generator: Generator{
		Name:      "ranlux48_base",
		Met:       "std::ranlux48_base in C++",
		SeedBits:  32,
		StateBits: 577,
		WidthBits: 48,
		Definition: "32-bit unsigned seed. subtract-with-carry w=48,s=5,r=12: seed 0 becomes 19780503; " +
			subtractText,
		Source: "libstdc++ (GCC 12.2.0) std::ranlux48_base",
	},
	setupSteps: 24,
	open:       ranlux48Kind.open,
}

var ranlux24 = definition{
	Generator: Generator{
		Name:      "ranlux24",
		Met:       "std::ranlux24 in C++",
		SeedBits:  32,
		StateBits: 577,
		WidthBits: 24,
		Definition: "32-bit unsigned seed. subtract-with-carry w=24,s=10,r=24: seed 0 becomes 19780503; " +
			subtractText +
			" discard_block(223,23): of every 223 base outputs the first 23 are used.",
		Source: "libstdc++ (GCC 12.2.0) std::ranlux24",
	},
	setupSteps: 24,
	open: func() stream {
		return stepped{&discardBlock{of: outputs{from: ranlux24Kind.open()}, size: 223, used: 23}}
	},
}

var ranlux48 = definition{
	Generator: Generator{
		Name:      "ranlux48",
		Met:       "std::ranlux48 in C++",
		SeedBits:  32,
		StateBits: 577,
		WidthBits: 48,
		Definition: "32-bit unsigned seed. subtract-with-carry w=48,s=5,r=12: seed 0 becomes 19780503; " +
			subtractText +
			" discard_block(389,11): of every 389 base outputs the first 11 are used.",
		Source: "libstdc++ (GCC 12.2.0) std::ranlux48",
	},
	setupSteps: 24,
	open: func() stream {
		return stepped{&discardBlock{of: outputs{from: ranlux48Kind.open()}, size: 389, used: 11}}
	},
}

var knuthB = definition{
	Generator: Generator{
		Name:      "knuth_b",
		Met:       "std::knuth_b in C++",
		SeedBits:  32,
		StateBits: 7967,
		WidthBits: 31,
		Definition: "as minstd_rand0. shuffle_order(k=256) over minstd_rand0: V[0..255]=first 256 outputs, Y=next; each draw: j=floor(256*(Y-1)/(2147483646-1+1)), Y=V[j], " +
			"V[j]=next, output Y",
		Source: "libstdc++ (GCC 12.2.0) std::knuth_b",
	},
	least:      1,
	most:       mersenne31 - 1,
	setupSteps: 257,
	open: func() stream {
		return stepped{&shuffled{of: outputs{from: minstdRand0.open()}, table: make([]uint64, 256), least: 1, span: mersenne31 - 1}}
	},
}

// A subtractKind is the parameters of a subtract-with-carry generator.
type subtractKind struct {
	bits        int // of a word
	short, long int // lags
}

var (
	ranlux24Kind = &subtractKind{24, 10, 24}
	ranlux48Kind = &subtractKind{48, 5, 12}
)

func (k *subtractKind) open() stream {
	return stepped{&subtractWithCarry{subtractKind: *k, words: make([]uint64, k.long)}}
}

type subtractWithCarry struct {
	subtractKind
	words []uint64 // the last ones; the next replaces words[at]
	at    int
	carry uint64
}

func (g *subtractWithCarry) seed(seed uint64) {
	if seed == 0 {
		seed = 19780503
	}
	fill := lehmerStream{lehmer: lehmer{mul: 40014, prime: 2147483563}}
	fill.seed(seed)
	var parts [2]uint64
	for i := range g.words {
		fill.fill(parts[:(g.bits+31)/32])
		g.words[i] = (parts[0] + parts[1]<<32) & maxOfBits(g.bits)
	}
	g.at, g.carry = 0, 0
	if g.words[g.long-1] == 0 {
		g.carry = 1
	}
}

func (g *subtractWithCarry) next() uint64 {
	y := g.words[(g.at+g.long-g.short)%g.long] - g.words[g.at] - g.carry
	g.carry = y >> 63
	y &= maxOfBits(g.bits)
	g.words[g.at] = y
	g.at = (g.at + 1) % g.long
	return y
}

// A discardBlock uses the first outputs of every block and drops the rest.
type discardBlock struct {
	of         outputs
	size, used int
	given      int // outputs of the block that were used
}

func (g *discardBlock) seed(seed uint64) {
	g.of.seed(seed)
	g.given = 0
}

func (g *discardBlock) next() uint64 {
	if g.given == g.used {
		for range g.size - g.used {
			g.of.next()
		}
		g.given = 0
	}
	g.given++
	return g.of.next()
}

// A shuffled generator keeps outputs in a table, and lets the last one given
// choose the next (Bays and Durham).
type shuffled struct {
	of          outputs
	table       []uint64
	least, span uint64 // the smallest output, and how many there are
	last        uint64
}

func (g *shuffled) seed(seed uint64) {
	g.of.seed(seed)
	for i := range g.table {
		g.table[i] = g.of.next()
	}
	g.last = g.of.next()
}

func (g *shuffled) next() uint64 {
	place := &g.table[uint64(len(g.table))*(g.last-g.least)/g.span]
	g.last, *place = *place, g.of.next()
	return g.last
}
