package kernels

import "math/bits"

var sfc64 = definition{
	Generator: Generator{
		Name:       "sfc64",
		Met:        "PractRand, Rust and C++ ports of sfc64 with one seed word",
		SeedBits:   64,
		StateBits:  256,
		WidthBits:  64,
		Definition: "a=b=c=seed, w=1, then 12 outputs discarded. t=a+b+w; w+=1; a=b^(b>>11); b=c+(c<<3); c=rotl(c,24)+t; output t",
		Source:     "NumPy 1.24.2 SFC64 bit generator with its state set to (seed,seed,seed,1) and 12 outputs discarded (the one-word PractRand seeding)",
	},
	kernel:     streamKernel{file: "sfc64"},
	setupSteps: 13,
	open:       plain[sfc64Engine],
}

type sfc64State struct{ a, b, c, n uint64 }

func (s *sfc64State) next() uint64 {
	out := s.a + s.b + s.n
	s.n++
	s.a = s.b ^ s.b>>11
	s.b = s.c + s.c<<3
	s.c = bits.RotateLeft64(s.c, 24) + out
	return out
}

// discard drops the outputs of the published warm-up.
func (s *sfc64State) discard() {
	for range 12 {
		s.next()
	}
}

type sfc64Engine struct{ sfc64State }

func (g *sfc64Engine) seed(seed uint64) {
	g.sfc64State = sfc64State{seed, seed, seed, 1}
	g.discard()
}
