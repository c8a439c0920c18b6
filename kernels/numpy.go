package kernels

import "math/bits"

// NumPy: the legacy RandomState, and the bit generators, which are seeded through
// SeedSequence.

const seedSequenceText = "SeedSequence(int): entropy = 32-bit LE words of seed (at least one). hashmix(v): v^=hc; hc*=0x931e8875; v*=hc; v^=v>>16 (hc starts 0x43b0d7e5). " +
	"mix(x,y): r=0xca01f9dd*x-0x4973f715*y; r^=r>>16. pool[i<4]=hashmix(entropy[i] or 0); for i in 0..3 for j in 0..3, j!=i: " +
	"pool[j]=mix(pool[j],hashmix(pool[i])). generate_state word i: hc2 starts 0x8b51f9dd; d=pool[i mod 4]^hc2; hc2*=0x58f38ded; d*=hc2; d^=d>>16. 64-bit " +
	"words = two 32-bit words, low first."

var npLegacyMt19937 = definition{
	Generator: Generator{
		Name:      "np_legacy_mt19937",
		Met:       "NumPy: np.random.seed(n), RandomState(n), raw words",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "32-bit unsigned seed, init_genrand. " +
			mtText +
			" " +
			mtGenrandText,
		Source: "NumPy 1.24.2 RandomState(seed) raw 32-bit outputs",
	},
	setupSteps: mtShift,
	open:       func() stream { return new(mtStream) },
}

var npLegacyRandint1000 = definition{
	Generator: Generator{
		Name:      "np_legacy_randint1000",
		Met:       "NumPy: np.random.seed(n); np.random.randint(0, 1000)",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 10,
		Definition: "32-bit unsigned seed, init_genrand. " +
			mtText +
			" " +
			mtGenrandText +
			" randint(0,1000): r=out&1023, redraw while r>999.",
		Source: "NumPy 1.24.2 RandomState(seed).randint(0,1000)",
	},
	setupSteps: mtShift,
	most:       999,
	open:       results(mt19937.open, maskedBelow(1000, 1023)),
}

var npLegacyRandom53 = definition{
	Generator: Generator{
		Name:      "np_legacy_random53",
		Met:       "NumPy: np.random.seed(n); np.random.rand(), random_sample(), times 2^53",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 53,
		Definition: "32-bit unsigned seed, init_genrand. " +
			mtText +
			" " +
			mtGenrandText +
			" random_sample = ((out1>>5)*2^26+(out2>>6))/2^53; output the 53-bit integer.",
		Source: "NumPy 1.24.2 RandomState(seed).random_sample() times 2^53",
	},
	setupSteps: mtShift,
	open:       results(mt19937.open, double53),
}

var npMt19937 = definition{
	Generator: Generator{
		Name:      "np_mt19937",
		Met:       "NumPy: MT19937(n).random_raw()",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "SeedSequence(seed) 624 words = mt, mt[0]=0x80000000, position 623: the first output is tempered mt[623], the twist comes after it. " +
			seedSequenceText +
			" " +
			mtText,
		Source: "NumPy 1.24.2 MT19937(seed).random_raw()",
	},
	setupSteps: 1500,
	open:       func() stream { return stepped{new(numpyTwister)} },
}

var npSeedsequence32 = definition{
	Generator: Generator{
		Name:      "np_seedsequence32",
		Met:       "NumPy: SeedSequence(n).generate_state(...), 32-bit words",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 32,
		Definition: "SeedSequence(seed). " +
			seedSequenceText +
			" Outputs are the 32-bit words of generate_state(8192); index above 8192 not given.",
		Source: "NumPy 1.24.2 SeedSequence(seed).generate_state(8192)",
	},
	setupSteps: 40,
	open:       plain[seedSequenceEngine],
}

var npPcg64 = definition{
	Generator: Generator{
		Name:      "np_pcg64",
		Met:       "NumPy: default_rng(n).bit_generator.random_raw(), PCG64(n)",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "w=4 64-bit words of SeedSequence(seed): initstate=w0<<64|w1, inc=((w2<<64|w3)<<1)|1; state=(initstate+inc)*M+inc. " +
			seedSequenceText +
			" M=0x2360ED051FC65DA44385DF649FCCF645; each draw: state=state*M+inc mod 2^128, then XSL-RR 128/64: out=rotr64(hi^lo, state>>122)",
		Source: "NumPy 1.24.2 PCG64(seed)",
	},
	setupSteps: 40,
	jumps:      true,
	open:       openNumpyPCG,
}

var npPcg64dxsm = definition{
	Generator: Generator{
		Name:      "np_pcg64dxsm",
		Met:       "NumPy: PCG64DXSM(n)",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "exactly as np_pcg64 (the full 128-bit multiplier M is used in the seeding step, the cheap one only afterwards). " +
			seedSequenceText +
			" each draw: output from the OLD state: hi^=hi>>32; hi*=C; hi^=hi>>48; hi*=(lo|1); then state=state*C+inc mod 2^128; C=0xda942042e4dd58b5",
		Source: "NumPy 1.24.2 PCG64DXSM(seed)",
	},
	setupSteps: 40,
	jumps:      true,
	open:       func() stream { return &pcg128Stream{start: numpyDxsmStart, out: dxsm, old: true} },
}

var npPhilox4x64 = definition{
	Generator: Generator{
		Name:      "np_philox4x64",
		Met:       "NumPy: Philox(n)",
		SeedBits:  64,
		StateBits: 384,
		WidthBits: 64,
		Definition: "key=2 64-bit words of SeedSequence(seed); counter starts at 0 and is incremented BEFORE each block (first block uses counter 1). " +
			seedSequenceText +
			" " +
			philox4x64Text,
		Source: "NumPy 1.24.2 Philox(seed)",
	},
	setupSteps: 40,
	jumps:      true,
	open:       func() stream { return &blockStream{words: 4, first: 1, start: numpyPhiloxKey, block: philox4x64} },
}

var npPhilox4x64Key = definition{
	Generator: Generator{
		Name:      "np_philox4x64_key",
		Met:       "NumPy: Philox(key=n)",
		SeedBits:  64,
		StateBits: 384,
		WidthBits: 64,
		Definition: "key=(seed,0), counter incremented BEFORE each block (first block uses counter 1). " +
			philox4x64Text,
		Source: "NumPy 1.24.2 Philox(key=seed, counter=0)",
	},
	setupSteps: 40,
	jumps:      true,
	open:       func() stream { return &blockStream{words: 4, first: 1, start: keyOfSeed, block: philox4x64} },
}

var npSfc64 = definition{
	Generator: Generator{
		Name:      "np_sfc64",
		Met:       "NumPy: SFC64(n)",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "a,b,c=3 64-bit words of SeedSequence(seed), w=1, 12 outputs discarded. " +
			seedSequenceText +
			" t=a+b+w; w+=1; a=b^(b>>11); b=c+(c<<3); c=rotl(c,24)+t; output t",
		Source: "NumPy 1.24.2 SFC64(seed)",
	},
	setupSteps: 50,
	open:       plain[numpySfcEngine],
}

var npPcg64Integers1000 = definition{
	Generator: Generator{
		Name:      "np_pcg64_integers1000",
		Met:       "NumPy: default_rng(n).integers(0, 1000)",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 10,
		Definition: "as np_pcg64. 32-bit stream = low half then high half of each np_pcg64 output; integers(0,1000): p=v*1000; redraw while lo32(p) < (2^32-1000) mod " +
			"1000; output p>>32. " +
			seedSequenceText,
		Source: "NumPy 1.24.2 Generator(PCG64(seed)).integers(0,1000)",
	},
	setupSteps: 40,
	most:       999,
	open:       results(openNumpyPCG32, scaledBelow(1000, (1<<32-1000)%1000)),
}

var npPcg64Random53 = definition{
	Generator: Generator{
		Name:      "np_pcg64_random53",
		Met:       "NumPy: default_rng(n).random(), times 2^53",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 53,
		Definition: "as np_pcg64. random() = (np_pcg64 output >> 11)/2^53; output the 53-bit integer. " +
			seedSequenceText,
		Source: "NumPy 1.24.2 Generator(PCG64(seed)).random() times 2^53",
	},
	setupSteps: 40,
	jumps:      true,
	open:       func() stream { return mapped{openNumpyPCG(), top53} },
}

// A seedSequence spreads a seed over as many 32-bit words as are asked for.
type seedSequence struct {
	pool [4]uint32
	hash uint32
	at   int
}

func newSeedSequence(seed uint64) (s seedSequence) {
	hash := uint32(0x43b0d7e5)
	mix := func(v uint32) uint32 {
		v ^= hash
		hash *= 0x931e8875
		v *= hash
		return v ^ v>>16
	}
	s.pool[0] = mix(uint32(seed))
	s.pool[1] = mix(uint32(seed >> 32))
	s.pool[2] = mix(0)
	s.pool[3] = mix(0)
	for i := range s.pool {
		for j := range s.pool {
			if i != j {
				r := 0xca01f9dd*s.pool[j] - 0x4973f715*mix(s.pool[i])
				s.pool[j] = r ^ r>>16
			}
		}
	}
	s.hash = 0x8b51f9dd
	return s
}

func (s *seedSequence) next32() uint32 {
	d := s.pool[s.at%4] ^ s.hash
	s.at++
	s.hash *= 0x58f38ded
	d *= s.hash
	return d ^ d>>16
}

func (s *seedSequence) next64() uint64 {
	low := uint64(s.next32())
	return uint64(s.next32())<<32 | low
}

type seedSequenceEngine struct{ seedSequence }

func (g *seedSequenceEngine) seed(seed uint64) { g.seedSequence = newSeedSequence(seed) }
func (g *seedSequenceEngine) next() uint64     { return uint64(g.next32()) }

// A numpyTwister starts with the last word of its state.
type numpyTwister struct {
	mt      mtStream
	started bool
}

func (g *numpyTwister) seed(seed uint64) {
	words := newSeedSequence(seed)
	for i := range g.mt.mt {
		g.mt.mt[i] = words.next32()
	}
	g.mt.mt[0] = 0x80000000
	g.mt.ready, g.mt.next = mtWords, 0
	g.started = false
}

func (g *numpyTwister) next() uint64 {
	if !g.started {
		g.started = true
		return uint64(mtTemper(g.mt.mt[mtWords-1]))
	}
	g.mt.twist(1)
	return uint64(mtTemper(g.mt.mt[g.mt.next-1]))
}

func openNumpyPCG() stream { return &pcg128Stream{start: numpyPCGStart, out: xslRR} }

func openNumpyPCG32() stream { return stepped{&halves{of: outputs{from: openNumpyPCG()}}} }

func numpyPCGStart(seed uint64) (uint128, affine128) {
	words := newSeedSequence(seed)
	state := uint128{words.next64(), words.next64()}
	inc := uint128{words.next64(), words.next64()}
	step := affine128{pcg128Mul, uint128{inc.hi<<1 | inc.lo>>63, inc.lo<<1 | 1}}
	return step.of(state.plus(step.add)), step
}

// numpyDxsmStart seeds with the large multiplier and steps with the cheap one.
func numpyDxsmStart(seed uint64) (uint128, affine128) {
	state, step := numpyPCGStart(seed)
	step.mul = uint128{0, dxsmMul}
	return state, step
}

func numpyPhiloxKey(seed uint64) [2]uint64 {
	words := newSeedSequence(seed)
	return [2]uint64{words.next64(), words.next64()}
}

type numpySfcEngine struct{ sfc64State }

func (g *numpySfcEngine) seed(seed uint64) {
	words := newSeedSequence(seed)
	g.sfc64State = sfc64State{words.next64(), words.next64(), words.next64(), 1}
	g.discard()
}

// halves gives each 64-bit output as two numbers, the low half first.
type halves struct {
	of   outputs
	high uint64
	left bool // high is still to come
}

func (h *halves) seed(seed uint64) {
	h.of.seed(seed)
	h.left = false
}

func (h *halves) next() uint64 {
	if h.left = !h.left; !h.left {
		return h.high
	}
	v := h.of.next()
	h.high = v >> 32
	return v & (1<<32 - 1)
}

// scaledBelow is the high half of n times a 32-bit output, drawn again while the
// low half is below least (Lemire).
func scaledBelow(n, least uint64) call {
	return func(o *outputs) uint64 {
		for {
			high, low := bits.Mul64(o.next()<<32, n)
			if low>>32 >= least {
				return high
			}
		}
	}
}
