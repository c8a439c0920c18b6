package kernels

// The other generators of the GNU C library; glibc_rand has a file of its own.

const feedbackText = "r0=seed (0 becomes 1) as signed 32; r_i=16807*r_{i-1} mod 2147483647 by Schrage: hi=r/127773, lo=r%127773 (C truncation), 16807*lo-2836*hi, " +
	"+2147483647 if negative,"

var glibcRandR = definition{
	Generator: Generator{
		Name:       "glibc_rand_r",
		Met:        "C on Linux: rand_r(&seed)",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  31,
		Definition: "n=seed. step n=n*1103515245+12345 mod 2^32 three times: r=(n>>16)%2048; r=(r<<10)^((n>>16)%1024); r=(r<<10)^((n>>16)%1024); output r",
		Source:     "glibc 2.36 rand_r",
	},
	setupSteps: 1,
	open:       plain[glibcRandREngine],
}

var glibcRandomType0Word = &linear{step: affine{1103515245, 12345}, bits: 31, shift: 0, start: seeding{forZero: 1}}

var glibcRandomType0 = definition{
	Generator: Generator{
		Name:       "glibc_random_type0",
		Met:        "C on Linux: initstate(seed, buffer, 8); random()",
		SeedBits:   32,
		StateBits:  31,
		WidthBits:  31,
		Definition: "initstate(seed, buf, 8); 0 becomes 1. x=(x*1103515245+12345)&0x7fffffff; output x",
		Source:     "glibc 2.36 initstate_r/random_r",
	},
	jumps:      true,
	setupSteps: 1,
	open:       glibcRandomType0Word.open,
	backward:   glibcRandomType0Word.back,
}

var glibcRandomType1 = definition{
	Generator: Generator{
		Name:      "glibc_random_type1",
		Met:       "C on Linux: initstate(seed, buffer, 32); random()",
		SeedBits:  32,
		StateBits: 224,
		WidthBits: 31,
		Definition: "initstate(seed, buf, 32). additive feedback degree 7 sep 3: " +
			feedbackText +
			" for i=1..6; r_i=r_{i-7} for the next 3; then r_i=r_{i-3}+r_{i-7} mod 2^32; the first 70 of those sums are discarded; output r_i>>1 (31 bits)",
		Source: "glibc 2.36 initstate_r/random_r",
	},
	setupSteps: 77,
	open:       (&feedback{7, 3}).open,
}

var glibcRandomType2 = definition{
	Generator: Generator{
		Name:      "glibc_random_type2",
		Met:       "C on Linux: initstate(seed, buffer, 64); random()",
		SeedBits:  32,
		StateBits: 480,
		WidthBits: 31,
		Definition: "initstate(seed, buf, 64). additive feedback degree 15 sep 1: " +
			feedbackText +
			" for i=1..14; r_i=r_{i-15} for the next 1; then r_i=r_{i-1}+r_{i-15} mod 2^32; the first 150 of those sums are discarded; output r_i>>1 (31 bits)",
		Source: "glibc 2.36 initstate_r/random_r",
	},
	setupSteps: 165,
	open:       (&feedback{15, 1}).open,
}

var glibcRandomType4 = definition{
	Generator: Generator{
		Name:      "glibc_random_type4",
		Met:       "C on Linux: initstate(seed, buffer, 256); random()",
		SeedBits:  32,
		StateBits: 2016,
		WidthBits: 31,
		Definition: "initstate(seed, buf, 256). additive feedback degree 63 sep 1: " +
			feedbackText +
			" for i=1..62; r_i=r_{i-63} for the next 1; then r_i=r_{i-1}+r_{i-63} mod 2^32; the first 630 of those sums are discarded; output r_i>>1 (31 bits)",
		Source: "glibc 2.36 initstate_r/random_r",
	},
	setupSteps: 693,
	open:       (&feedback{63, 1}).open,
}

type glibcRandREngine struct{ n uint32 }

func (g *glibcRandREngine) seed(seed uint64) { g.n = uint32(seed) }

func (g *glibcRandREngine) next() uint64 {
	part := func() uint32 {
		g.n = g.n*1103515245 + 12345
		return g.n >> 16
	}
	r := part() % 2048
	r = r<<10 ^ part()%1024
	return uint64(r<<10 ^ part()%1024)
}

// A feedback generator adds the words of two lags; the type of glibc's random
// with degree 31 is glibc_rand.
type feedback struct{ degree, separation int }

func (f *feedback) open() stream {
	return stepped{&feedbackEngine{feedback: *f, ring: make([]uint32, f.degree)}}
}

type feedbackEngine struct {
	feedback
	ring []uint32 // the last words; the next replaces ring[at]
	at   int
}

func (g *feedbackEngine) seed(seed uint64) {
	word := uint32(max(seed, 1))
	g.ring[0] = word
	x := mod31(uint64(int64(int32(word)) + 2*mersenne31)) // a signed seed, made positive
	for i := 1; i < g.degree; i++ {
		x = mod31(x * 16807)
		g.ring[i] = uint32(x)
	}
	g.at = g.separation
	for range 10 * g.degree {
		g.next()
	}
}

func (g *feedbackEngine) next() uint64 {
	w := g.ring[g.at] + g.ring[(g.at+g.degree-g.separation)%g.degree]
	g.ring[g.at] = w
	g.at = (g.at + 1) % g.degree
	return uint64(w >> 1)
}
