package kernels

import "math/bits"

// Python seeds the Mersenne Twister with an array, even for small numbers.

const mtArrayText = "init_by_array(key): init_genrand(19650218); i=1,j=0; 624 times (or len(key) if longer): mt[i]=(mt[i]^((mt[i-1]^(mt[i-1]>>30))*1664525))+key[j]+j, i++ " +
	"(at 624: mt[0]=mt[623], i=1), j++ mod len; then 623 times: mt[i]=(mt[i]^((mt[i-1]^(mt[i-1]>>30))*1566083941))-i, i++ (same wrap); mt[0]=0x80000000. " +
	"All mod 2^32."

var pyGetrandbits32 = definition{
	Generator: Generator{
		Name:      "py_getrandbits32",
		Met:       "Python: random.seed(n); random.getrandbits(32)",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "init_by_array with the 32-bit little-endian words of |seed| (at least one word). " +
			mtText +
			" " +
			mtArrayText,
		Source: "CPython 3.11 random.Random(seed).getrandbits(32)",
	},
	setupSteps: 1900,
	open:       openPython,
}

var pyGetrandbits64 = definition{
	Generator: Generator{
		Name:      "py_getrandbits64",
		Met:       "Python: random.seed(n); random.getrandbits(64)",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 64,
		Definition: "as py_getrandbits32. " +
			mtText +
			" " +
			mtArrayText +
			" getrandbits(64) = out1 | out2<<32.",
		Source: "CPython 3.11 getrandbits(64)",
	},
	setupSteps: 1900,
	open:       results(openPython, twoWords),
}

var pyRandrange1000 = definition{
	Generator: Generator{
		Name:      "py_randrange1000",
		Met:       "Python: random.seed(n); random.randrange(1000), randint(0, 999)",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 10,
		Definition: "as py_getrandbits32. " +
			mtText +
			" " +
			mtArrayText +
			" randrange(1000): r=out>>22 (10 bits), redraw while r>=1000.",
		Source: "CPython 3.11 randrange(1000)",
	},
	setupSteps: 1900,
	most:       999,
	open:       results(openPython, randrange(1000)),
}

var pyRandom53 = definition{
	Generator: Generator{
		Name:      "py_random53",
		Met:       "Python: random.seed(n); random.random(), times 2^53",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 53,
		Definition: "as py_getrandbits32. " +
			mtText +
			" " +
			mtArrayText +
			" random() = ((out1>>5)*2^26+(out2>>6))/2^53; output the 53-bit integer.",
		Source: "CPython 3.11 random() times 2^53",
	},
	setupSteps: 1900,
	open:       results(openPython, double53),
}

func openPython() stream { return new(pythonStream) }

type pythonStream struct{ mtStream }

func (g *pythonStream) seed(seed uint64) { g.seedArray(seed) }

// heads of the embedded stream are those of other seeds.
func (g *pythonStream) heads(first, from uint64, n int, dst []uint64) {
	oneByOne{g}.heads(first, from, n, dst)
}

// mtArrayBase is the state that seeding with an array starts from.
var mtArrayBase = func() (mt [mtWords]uint32) {
	var g mtStream
	g.seed(19650218)
	g.grow(mtWords)
	return g.mt
}()

// seedArray is init_by_array with the 32-bit words of the seed, low one first:
// one word when the seed is below 2^32, else two.
func (g *mtStream) seedArray(seed uint64) {
	key := [2]uint32{uint32(seed), uint32(seed >> 32)}
	length := 1
	if key[1] != 0 {
		length = 2
	}
	g.mt = mtArrayBase
	mt := &g.mt
	i, x := 1, mt[0]
	for n := range mtWords {
		j := n % length
		x = (mt[i] ^ (x^x>>30)*1664525) + key[j] + uint32(j)
		mt[i] = x
		if i++; i == mtWords {
			mt[0], i = x, 1
		}
	}
	for range mtWords - 1 {
		x = (mt[i] ^ (x^x>>30)*1566083941) - uint32(i)
		mt[i] = x
		if i++; i == mtWords {
			mt[0], i = x, 1
		}
	}
	mt[0] = 0x80000000
	g.ready, g.next = mtWords, 0
}

// randrange is randrange(n): the top bits of each output, as many as n has,
// until they are below n. Above 32 bits a number takes two outputs, the low
// word first.
func randrange(n uint64) call {
	size := bits.Len64(n)
	if size <= 32 {
		return func(o *outputs) uint64 {
			for {
				if v := o.next() >> (32 - size); v < n {
					return v
				}
			}
		}
	}
	return func(o *outputs) uint64 {
		for {
			low := o.next()
			if v := o.next()>>(64-size)<<32 | low; v < n {
				return v
			}
		}
	}
}
