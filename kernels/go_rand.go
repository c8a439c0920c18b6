package kernels

import (
	"encoding/binary"
	"math/rand" //nolint:depguard // its generator is the one that is searched for
	randv2 "math/rand/v2"
)

// The generators of Go's standard library.

const goALFGText = "rngSource: ALFG(607,273); x=seed mod 2147483647 (0 becomes 89482311), seedrand x=48271*x mod 2147483647 by Schrage; 20 warm-up steps, then for " +
	"i=0..606: u=seedrand<<40 ^ seedrand<<20 ^ seedrand ^ rngCooked[i], the table of Go's math/rand; tap=0, feed=334; draw: tap--, feed-- (mod 607), " +
	"vec[feed]+=vec[tap], output vec[feed] (64-bit)."

var goV1Uint64 = definition{
	Generator: Generator{
		Name:       "go_v1_uint64",
		Met:        "Go: math/rand, rand.New(rand.NewSource(n)).Uint64()",
		SeedBits:   63,
		StateBits:  38848,
		WidthBits:  64,
		Definition: goALFGText,
		Source:     "Go 1.26.8 math/rand rand.New(rand.NewSource(seed)).Uint64()",
	},
	setupSteps: 1300,
	open:       openGoALFG,
}

var goV1Intn1000 = definition{
	Generator: Generator{
		Name:      "go_v1_intn1000",
		Met:       "Go: math/rand, rand.New(rand.NewSource(n)).Intn(1000), rand.Seed(n); rand.Intn(1000)",
		SeedBits:  63,
		StateBits: 38848,
		WidthBits: 10,
		Definition: goALFGText +
			" Intn(1000): v=(output&(2^63-1))>>32; redraw while v > 2^31-1-(2^31 mod 1000); output v%1000.",
		Source: "Go 1.26.8 math/rand Intn(1000)",
	},
	setupSteps: 1300,
	most:       999,
	open:       results(openGoALFG, goIntn31(1000)),
}

var goV2Pcg = definition{
	Generator: Generator{
		Name:      "go_v2_pcg",
		Met:       "Go: math/rand/v2, rand.NewPCG(n, 0)",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 64,
		Definition: "rand.NewPCG(seed, 0). state hi=seed, lo=0; each draw: " +
			pcg128Text +
			", then on the NEW state hi^=hi>>32; hi*=0xda942042e4dd58b5; hi^=hi>>48; output hi*(lo|1)",
		Source: "Go 1.26.8 math/rand/v2 PCG",
	},
	setupSteps: 1,
	jumps:      true,
	open:       openGoPCG,
}

var goV2PcgSeedSeed = definition{
	Generator: Generator{
		Name:      "go_v2_pcg_seed_seed",
		Met:       "Go: math/rand/v2, rand.NewPCG(n, n)",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 64,
		Definition: "rand.NewPCG(seed, seed). state hi=seed, lo=seed; each draw: " +
			pcg128Text +
			", then on the NEW state hi^=hi>>32; hi*=0xda942042e4dd58b5; hi^=hi>>48; output hi*(lo|1)",
		Source: "Go 1.26.8 math/rand/v2 PCG",
	},
	setupSteps: 1,
	jumps:      true,
	open:       func() stream { return &pcg128Stream{start: goPCGTwiceStart, out: dxsm} },
}

var goV2PcgIntn1000 = definition{
	Generator: Generator{
		Name:      "go_v2_pcg_intn1000",
		Met:       "Go: math/rand/v2, rand.New(rand.NewPCG(n, 0)).IntN(1000)",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 10,
		Definition: "rand.NewPCG(seed, 0). state hi=seed, lo=0; each draw: " +
			pcg128Text +
			", then on the NEW state hi^=hi>>32; hi*=0xda942042e4dd58b5; hi^=hi>>48; output hi*(lo|1). IntN(1000): p=hi32(output)*1000; redraw while lo32(p) < " +
			"2^32 mod 1000; output p>>32",
		Source: "Go 1.26.8 rand.New(rand.NewPCG(seed,0)).IntN(1000)",
	},
	setupSteps: 1,
	most:       999,
	open:       results(openGoPCG32, scaledBelow(1000, 1<<32%1000)),
}

var goV2Chacha8 = definition{
	Generator: Generator{
		Name:      "go_v2_chacha8",
		Met:       "Go: math/rand/v2, rand.NewChaCha8 of a key that starts with the 8 bytes of n, low one first, and is 0 after them",
		SeedBits:  64,
		StateBits: 2400,
		WidthBits: 64,
		Definition: "ChaCha8Rand of C2SP: 8-round ChaCha of 4 interleaved blocks, a new key after every 16 blocks. Key: the seed as 8 little-endian bytes, then 24 zero " +
			"bytes.",
		Source: "Go 1.26.8 math/rand/v2 ChaCha8",
	},
	setupSteps: 50,
	open:       plain[goChaCha8Engine],
}

func openGoPCG() stream { return &pcg128Stream{start: goPCGStart, out: dxsm} }

// openGoPCG32 gives the high halves, which IntN takes.
func openGoPCG32() stream { return mapped{openGoPCG(), func(v uint64) uint64 { return v >> 32 }} }

func goPCGStart(seed uint64) (uint128, affine128) {
	return uint128{seed, 0}, affine128{pcg128Mul, pcg128Add}
}

func goPCGTwiceStart(seed uint64) (uint128, affine128) {
	return uint128{seed, seed}, affine128{pcg128Mul, pcg128Add}
}

// The lags of Go's additive generator.
const (
	goLong  = 607
	goShort = 273
)

func openGoALFG() stream { return stepped{new(goALFGEngine)} }

type goALFGEngine struct {
	vec       [goLong]uint64
	tap, feed int
}

func (g *goALFGEngine) seed(seed uint64) {
	g.vec = goSeedWords(seed)
	for i := range g.vec {
		g.vec[i] ^= goTable[i]
	}
	g.tap, g.feed = 0, goLong-goShort
}

// goSeedWords is the part of the state that depends on the seed alone.
func goSeedWords(seed uint64) (words [goLong]uint64) {
	x := seed % mersenne31
	if x == 0 {
		x = 89482311
	}
	next := func() uint64 {
		x = mod31(x * 48271)
		return x
	}
	for range 20 {
		next()
	}
	for i := range words {
		words[i] = next()<<40 ^ next()<<20 ^ next()
	}
	return words
}

func (g *goALFGEngine) next() uint64 {
	g.tap, g.feed = goBefore(g.tap), goBefore(g.feed)
	g.vec[g.feed] += g.vec[g.tap]
	return g.vec[g.feed]
}

func goBefore(i int) int {
	if i == 0 {
		return goLong - 1
	}
	return i - 1
}

// goTable is the constant part of the state, rngCooked. It is won from the
// standard library: the first 607 outputs are its whole state after as many
// steps, and the steps can be undone.
var goTable = func() [goLong]uint64 {
	const seed = 1
	source := rand.New(rand.NewSource(seed))
	var g goALFGEngine
	g.feed = goLong - goShort
	for range goLong {
		g.tap, g.feed = goBefore(g.tap), goBefore(g.feed)
		g.vec[g.feed] = source.Uint64()
	}
	for range goLong {
		g.vec[g.feed] -= g.vec[g.tap]
		g.tap, g.feed = (g.tap+1)%goLong, (g.feed+1)%goLong
	}
	for i, word := range goSeedWords(seed) {
		g.vec[i] ^= word
	}
	return g.vec
}()

// goIntn31 is Intn(n) for n below 2^31.
func goIntn31(n uint64) call {
	last := 1<<31 - 1 - 1<<31%n
	return func(o *outputs) uint64 {
		for {
			if v := o.next() << 1 >> 33; v <= last {
				return v % n
			}
		}
	}
}

type goChaCha8Engine struct{ rng *randv2.ChaCha8 }

func (g *goChaCha8Engine) seed(seed uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	if g.rng == nil {
		g.rng = randv2.NewChaCha8(key)
		return
	}
	g.rng.Seed(key)
}

func (g *goChaCha8Engine) next() uint64 { return g.rng.Uint64() }
