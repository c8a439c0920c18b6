package kernels

import "math/bits"

// The PCG family beyond pcg32: other streams, the fast variants, and 128-bit states.

const pcg128Text = "state=state*0x2360ED051FC65DA44385DF649FCCF645+0x5851F42D4C957F2D14057B7EF767814F mod 2^128"

var pcg32Stream54 = definition{
	Generator: Generator{
		Name:      "pcg32_stream54",
		Met:       "pcg-cpp pcg32(seed, 54), and the demo of the minimal C library",
		SeedBits:  64,
		StateBits: 64,
		WidthBits: 32,
		Definition: "inc=2*54+1=109; x=(seed+inc)*6364136223846793005+inc. w=lo32(((old>>18)^old)>>27); output rotr32(w, old>>59) where old is the state BEFORE the step " +
			"x=x*6364136223846793005+inc mod 2^64",
		Source: "pcg-cpp 0.98.1 pcg32(seed,54); seed 42 reproduces the published demo a15c02b7 7b47f409 ba1d3330 83d2f293 bfa4784b cbed606e",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &pcg32Any{inc: func(uint64) uint64 { return 109 }} },
}

var pcg32StreamEqSeed = definition{
	Generator: Generator{
		Name:      "pcg32_stream_eq_seed",
		Met:       "pcg-cpp pcg32(seed, seed)",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 32,
		Definition: "inc=(2*seed+1) mod 2^64; x=(seed+inc)*6364136223846793005+inc. w=lo32(((old>>18)^old)>>27); output rotr32(w, old>>59) where old is the state BEFORE " +
			"the step x=x*6364136223846793005+inc mod 2^64",
		Source: "pcg-cpp 0.98.1 pcg32(seed,seed)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &pcg32Any{inc: func(seed uint64) uint64 { return 2*seed + 1 }} },
}

var pcg32Fast = definition{
	Generator: Generator{
		Name:       "pcg32_fast",
		Met:        "pcg-cpp pcg32_fast(seed)",
		SeedBits:   64,
		StateBits:  64,
		WidthBits:  32,
		Definition: "x=seed|3. XSH-RS: output lo32((old^(old>>22))>>(22+(old>>61))), old the state before x=x*6364136223846793005 mod 2^64",
		Source:     "pcg-cpp 0.98.1 pcg32_fast(seed)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return new(pcg32FastStream) },
}

var pcg64 = definition{
	Generator: Generator{
		Name:      "pcg64",
		Met:       "pcg-cpp pcg64(seed)",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 64,
		Definition: "inc=0x5851F42D4C957F2D14057B7EF767814F; x=(seed+inc)*M+inc mod 2^128. M=0x2360ED051FC65DA44385DF649FCCF645; each draw x=x*M+inc, then XSL-RR 128/64: " +
			"out=rotr64(hi^lo, state>>122) of the new state",
		Source: "pcg-cpp 0.98.1 pcg64(seed)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &pcg128Stream{start: pcg64Start, out: xslRR} },
}

var pcg64Fast = definition{
	Generator: Generator{
		Name:       "pcg64_fast",
		Met:        "pcg-cpp pcg64_fast(seed)",
		SeedBits:   64,
		StateBits:  128,
		WidthBits:  64,
		Definition: "x=seed|3 (128-bit). each draw x=x*0x2360ED051FC65DA44385DF649FCCF645 mod 2^128, then XSL-RR 128/64: out=rotr64(hi^lo, state>>122) of the new state",
		Source:     "pcg-cpp 0.98.1 pcg64_fast(seed)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &pcg128Stream{start: pcg64FastStart, out: xslRR} },
}

// A pcg32Any is pcg32 with another increment, which may depend on the seed.
type pcg32Any struct {
	inc  func(seed uint64) uint64
	step affine
	pcg  pcg32Stream
}

func (g *pcg32Any) seed(seed uint64) {
	g.step = affine{pcg32Step.mul, g.inc(seed)}
	g.pcg.x = g.step.of(seed + g.step.add)
}

func (g *pcg32Any) skip(n uint64) { g.pcg.x = g.pcg.leap.by(g.step, n).of(g.pcg.x) }

func (g *pcg32Any) fill(dst []uint64) {
	for i := range dst {
		dst[i] = uint64(xshRR(g.pcg.x))
		g.pcg.x = g.step.of(g.pcg.x)
	}
}

type pcg32FastStream struct {
	x    uint64
	leap leap
}

func (g *pcg32FastStream) seed(seed uint64) { g.x = seed | 3 }

func (g *pcg32FastStream) skip(n uint64) { g.x = g.leap.by(affine{mul: pcg32Step.mul}, n).of(g.x) }

func (g *pcg32FastStream) fill(dst []uint64) {
	for i := range dst {
		old := g.x
		g.x *= pcg32Step.mul
		dst[i] = uint64(uint32((old ^ old>>22) >> (22 + old>>61)))
	}
}

// A uint128 is a number of 128 bits; arithmetic is modulo 2^128.
type uint128 struct{ hi, lo uint64 }

func (a uint128) plus(b uint128) uint128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	return uint128{a.hi + b.hi + carry, lo}
}

func (a uint128) times(b uint128) uint128 {
	hi, lo := bits.Mul64(a.lo, b.lo)
	return uint128{hi + a.hi*b.lo + a.lo*b.hi, lo}
}

// affine128 is an affine step modulo 2^128.
type affine128 struct{ mul, add uint128 }

func (f affine128) of(x uint128) uint128 { return f.mul.times(x).plus(f.add) }

func (f affine128) then(g affine128) affine128 {
	return affine128{f.mul.times(g.mul), f.add.times(g.mul).plus(g.add)}
}

// power is n times f.
func (f affine128) power(n uint64) affine128 {
	all := affine128{mul: uint128{0, 1}}
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			all = all.then(f)
		}
		f = f.then(f)
	}
	return all
}

var (
	pcg128Mul = uint128{0x2360ED051FC65DA4, 0x4385DF649FCCF645}
	pcg128Add = uint128{0x5851F42D4C957F2D, 0x14057B7EF767814F}
)

// dxsmMul is the cheap multiplier and the one in the output of DXSM.
const dxsmMul = 0xda942042e4dd58b5

// A pcg128Stream steps a 128-bit state and outputs a hash of the new state, or
// of the old one.
type pcg128Stream struct {
	start func(seed uint64) (state uint128, step affine128)
	out   func(state uint128) uint64
	old   bool

	x      uint128
	step   affine128
	length uint64 // of the jump that is remembered
	by     affine128
	of     affine128 // the jump is a power of this step
}

func (g *pcg128Stream) seed(seed uint64) { g.x, g.step = g.start(seed) }

func (g *pcg128Stream) skip(n uint64) {
	if g.length != n || g.of != g.step {
		g.length, g.of, g.by = n, g.step, g.step.power(n)
	}
	g.x = g.by.of(g.x)
}

func (g *pcg128Stream) fill(dst []uint64) {
	for i := range dst {
		before := g.x
		g.x = g.step.of(g.x)
		if g.old {
			dst[i] = g.out(before)
		} else {
			dst[i] = g.out(g.x)
		}
	}
}

// xslRR is the output XSL-RR 128/64.
func xslRR(x uint128) uint64 { return bits.RotateLeft64(x.hi^x.lo, -int(x.hi>>58)) }

// dxsm is the output DXSM 128/64.
func dxsm(x uint128) uint64 {
	hi := x.hi
	hi ^= hi >> 32
	hi *= dxsmMul
	hi ^= hi >> 48
	return hi * (x.lo | 1)
}

func pcg64Start(seed uint64) (uint128, affine128) {
	step := affine128{pcg128Mul, pcg128Add}
	return step.of(step.add.plus(uint128{0, seed})), step
}

func pcg64FastStart(seed uint64) (uint128, affine128) {
	return uint128{0, seed | 3}, affine128{mul: pcg128Mul}
}
