package kernels

import "math/bits"

// Blackman and Vigna's xoshiro and xoroshiro generators.

const xoshiro256Text = "xoshiro256 step (after the output): t=s1<<17; s2^=s0; s3^=s1; s1^=s2; s0^=s3; s2^=t; s3=rotl(s3,45)."

const xoshiro128Text = "xoshiro128 step (32-bit words, after the output): t=s1<<9; s2^=s0; s3^=s1; s1^=s2; s0^=s3; s2^=t; s3=rotl(s3,11)."

const splitmix64Text = "splitmix64: s+=0x9E3779B97F4A7C15; z=s; z=(z^(z>>30))*0xBF58476D1CE4E5B9; z=(z^(z>>27))*0x94D049BB133111EB; out z^(z>>31)."

var xoshiro256pp = definition{
	Generator: Generator{
		Name:      "xoshiro256pp",
		Met:       "gonum Xoshiro256plusplus, Julia and Rust rand (which seed otherwise)",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "state words filled in order with consecutive splitmix64 outputs started from s=seed. out=rotl(s0+s3,23)+s0. " +
			xoshiro256Text +
			" " +
			splitmix64Text,
		Source: "gonum v0.17.0 mathext/prng Xoshiro256plusplus",
	},
	kernel:     streamKernel{file: "xoshiro256"},
	setupSteps: 1,
	open:       func() stream { return stepped{&xoshiro256Engine{start: xoshiro256Fill, out: xoshiro256plusplusOut}} },
}

var xoshiro256ss = definition{
	Generator: Generator{
		Name:      "xoshiro256ss",
		Met:       "gonum Xoshiro256starstar, GNU Fortran and .NET (which seed otherwise)",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "state words filled in order with consecutive splitmix64 outputs started from s=seed. out=rotl(s1*5,7)*9. " +
			xoshiro256Text +
			" " +
			splitmix64Text,
		Source: "gonum v0.17.0 mathext/prng Xoshiro256starstar",
	},
	kernel:     streamKernel{file: "xoshiro256", variant: 1},
	setupSteps: 1,
	open:       func() stream { return stepped{&xoshiro256Engine{start: xoshiro256Fill, out: xoshiro256starstarOut}} },
}

var xoshiro256plus = definition{
	Generator: Generator{
		Name:      "xoshiro256plus",
		Met:       "gonum Xoshiro256plus, floating-point simulation code",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "state words filled in order with consecutive splitmix64 outputs started from s=seed. out=s0+s3. " +
			xoshiro256Text +
			" " +
			splitmix64Text,
		Source: "gonum v0.17.0 mathext/prng Xoshiro256plus",
	},
	kernel:     streamKernel{file: "xoshiro256", variant: 2},
	setupSteps: 1,
	open:       func() stream { return stepped{&xoshiro256Engine{start: xoshiro256Fill, out: xoshiro256plusOut}} },
}

var xoshiro128pp = definition{
	Generator: Generator{
		Name:      "xoshiro128pp",
		Met:       "32-bit devices and shaders, Rust Xoshiro128PlusPlus",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 32,
		Definition: "A,B = first two splitmix64 outputs from s=seed; s0=lo32(A),s1=hi32(A),s2=lo32(B),s3=hi32(B). out=rotl32(s0+s3,7)+s0. " +
			xoshiro128Text +
			" " +
			splitmix64Text,
		Source: "formula (Vigna); step reproduces the published reference outputs 641,1573767,3222811527,... for state 1,2,3,4",
	},
	kernel:     streamKernel{file: "xoshiro128"},
	setupSteps: 1,
	open:       func() stream { return stepped{&xoshiro128Engine{out: xoshiro128plusplusOut}} },
}

var xoshiro128ss = definition{
	Generator: Generator{
		Name:      "xoshiro128ss",
		Met:       "32-bit devices, JavaScript libraries",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 32,
		Definition: "as xoshiro128pp. out=rotl32(s1*5,7)*9. " +
			xoshiro128Text +
			" " +
			splitmix64Text,
		Source: "formula (Vigna)",
	},
	kernel:     streamKernel{file: "xoshiro128", variant: 1},
	setupSteps: 1,
	open:       func() stream { return stepped{&xoshiro128Engine{out: xoshiro128starstarOut}} },
}

var xoroshiro128plus = definition{
	Generator: Generator{
		Name:      "xoroshiro128plus",
		Met:       "Vigna's xoroshiro128+ (24, 16, 37), LuaJIT-like runtimes and games",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 64,
		Definition: "state words filled in order with consecutive splitmix64 outputs started from s=seed (s0,s1). out=s0+s1; s1^=s0; s0=rotl(s0,24)^s1^(s1<<16); " +
			"s1=rotl(s1,37). " +
			splitmix64Text,
		Source: "formula (Vigna, 24/16/37)",
	},
	kernel:     streamKernel{file: "plus128"},
	setupSteps: 1,
	open:       plain[xoroshiro128plusEngine],
}

// xoshiro256 is the state and step that several generators share.
type xoshiro256 struct{ s0, s1, s2, s3 uint64 }

func (s *xoshiro256) step() {
	t := s.s1 << 17
	s.s2 ^= s.s0
	s.s3 ^= s.s1
	s.s1 ^= s.s2
	s.s0 ^= s.s3
	s.s2 ^= t
	s.s3 = bits.RotateLeft64(s.s3, 45)
}

// xoshiro256Fill is the published advice for a seed of one word.
func xoshiro256Fill(seed uint64) xoshiro256 {
	fill := splitmix64Stream{seed}
	return xoshiro256{fill.next(), fill.next(), fill.next(), fill.next()}
}

func xoshiro256plusplusOut(s *xoshiro256) uint64 { return bits.RotateLeft64(s.s0+s.s3, 23) + s.s0 }
func xoshiro256starstarOut(s *xoshiro256) uint64 { return bits.RotateLeft64(s.s1*5, 7) * 9 }
func xoshiro256plusOut(s *xoshiro256) uint64     { return s.s0 + s.s3 }

type xoshiro256Engine struct {
	xoshiro256
	start func(seed uint64) xoshiro256
	out   func(*xoshiro256) uint64
}

func (g *xoshiro256Engine) seed(seed uint64) { g.xoshiro256 = g.start(seed) }

func (g *xoshiro256Engine) next() uint64 {
	v := g.out(&g.xoshiro256)
	g.step()
	return v
}

type xoshiro128 struct{ s0, s1, s2, s3 uint32 }

func (s *xoshiro128) step() {
	t := s.s1 << 9
	s.s2 ^= s.s0
	s.s3 ^= s.s1
	s.s1 ^= s.s2
	s.s0 ^= s.s3
	s.s2 ^= t
	s.s3 = bits.RotateLeft32(s.s3, 11)
}

func xoshiro128plusplusOut(s *xoshiro128) uint32 { return bits.RotateLeft32(s.s0+s.s3, 7) + s.s0 }
func xoshiro128starstarOut(s *xoshiro128) uint32 { return bits.RotateLeft32(s.s1*5, 7) * 9 }

type xoshiro128Engine struct {
	xoshiro128
	out func(*xoshiro128) uint32
}

func (g *xoshiro128Engine) seed(seed uint64) {
	fill := splitmix64Stream{seed}
	a, b := fill.next(), fill.next()
	g.xoshiro128 = xoshiro128{uint32(a), uint32(a >> 32), uint32(b), uint32(b >> 32)}
}

func (g *xoshiro128Engine) next() uint64 {
	v := g.out(&g.xoshiro128)
	g.step()
	return uint64(v)
}

type xoroshiro128 struct{ s0, s1 uint64 }

// step uses the shifts of the plus scrambler.
func (s *xoroshiro128) step() {
	s.s1 ^= s.s0
	s.s0 = bits.RotateLeft64(s.s0, 24) ^ s.s1 ^ s.s1<<16
	s.s1 = bits.RotateLeft64(s.s1, 37)
}

type xoroshiro128plusEngine struct{ xoroshiro128 }

func (g *xoroshiro128plusEngine) seed(seed uint64) {
	fill := splitmix64Stream{seed}
	g.s0, g.s1 = fill.next(), fill.next()
}

func (g *xoroshiro128plusEngine) next() uint64 {
	v := g.s0 + g.s1
	g.step()
	return v
}
