package kernels

// Congruential generators modulo a power of two of compilers and textbooks.

var lcg32Word = &linear{step: affine{1664525, 1013904223}, bits: 32, shift: 0}

var lcg32 = definition{
	Generator: Generator{
		Name:       "lcg32",
		Met:        "Numerical Recipes, quick and dirty generators in embedded code",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  32,
		Definition: "x=seed. x=(1664525*x+1013904223) mod 2^32; output x (32 bits)",
		Source:     "formula (constants from common documentation; not run against the vendor runtime); stepping by libstdc++ (GCC 12.2.0) std::linear_congruential_engine",
	},
	jumps:      true,
	setupSteps: 1,
	open:       lcg32Word.open,
	backward:   lcg32Word.back,
}

var lcg64MmixWord = &linear{step: affine{6364136223846793005, 1442695040888963407}, bits: 64, shift: 0}

var lcg64Mmix = definition{
	Generator: Generator{
		Name:       "lcg64_mmix",
		Met:        "Knuth's MMIX, musl-like C libraries, home-made 64-bit generators",
		SeedBits:   64,
		StateBits:  64,
		WidthBits:  64,
		Definition: "x=seed. x=6364136223846793005*x+1442695040888963407 mod 2^64; output x",
		Source:     "formula; stepping by libstdc++ (GCC 12.2.0) std::linear_congruential_engine",
	},
	jumps:      true,
	kernel:     streamKernel{file: "lcg64"},
	setupSteps: 1,
	open:       lcg64MmixWord.open,
	backward:   lcg64MmixWord.back,
}

var ansiCRandWord = &linear{step: affine{1103515245, 12345}, bits: 31, shift: 16}

var ansiCRand = definition{
	Generator: Generator{
		Name:       "ansi_c_rand",
		Met:        "the example rand() of the C standard, and C libraries that took it over",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  15,
		Definition: "x=seed. x=(1103515245*x+12345) mod 2^32; output (x>>16)&0x7fff",
		Source:     "formula (constants from common documentation; not run against the vendor runtime); stepping by libstdc++ (GCC 12.2.0) std::linear_congruential_engine",
	},
	jumps:      true,
	setupSteps: 1,
	open:       ansiCRandWord.open,
	backward:   ansiCRandWord.back,
}

var borlandCRandWord = &linear{step: affine{22695477, 1}, bits: 31, shift: 16}

var borlandCRand = definition{
	Generator: Generator{
		Name:       "borland_c_rand",
		Met:        "Borland C and C++: srand(seed); rand()",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  15,
		Definition: "x=seed. x=(22695477*x+1) mod 2^32; output (x>>16)&0x7fff",
		Source:     "formula (constants from common documentation; not run against the vendor runtime); stepping by libstdc++ (GCC 12.2.0) std::linear_congruential_engine",
	},
	jumps:      true,
	setupSteps: 1,
	open:       borlandCRandWord.open,
	backward:   borlandCRandWord.back,
}

var delphiRandom1000 = definition{
	Generator: Generator{
		Name:       "delphi_random1000",
		Met:        "Delphi and Turbo Pascal: RandSeed := seed; Random(1000)",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  10,
		Definition: "x=seed. x=(134775813*x+1) mod 2^32; output Random(1000) = (x*1000)>>32 (64-bit product)",
		Source:     "formula (constants from common documentation; not run against the vendor runtime); stepping by libstdc++ (GCC 12.2.0) std::linear_congruential_engine",
	},
	most:       999,
	jumps:      true,
	setupSteps: 1,
	open:       openDelphiRandom1000,
	backward:   delphiRandom1000Back,
}

var vb6Rnd24Word = &linear{step: affine{16598013, 12820163}, bits: 24, shift: 0}

var vb6Rnd24 = definition{
	Generator: Generator{
		Name:      "vb6_rnd24",
		Met:       "Visual Basic 6 and VBA: Rnd, times 2^24",
		SeedBits:  24,
		StateBits: 24,
		WidthBits: 24,
		Definition: "x=seed mod 2^24 (raw state, not the VB Randomize hash). x=(16598013*x+12820163) mod 2^24; output x (VB value is x/2^24). 16598013 = 1140671485 mod " +
			"2^24",
		Source: "formula; known value: state 0x50000 gives Rnd 0.7055475 first; stepping by libstdc++ (GCC 12.2.0) std::linear_congruential_engine",
	},
	jumps:      true,
	setupSteps: 1,
	open:       vb6Rnd24Word.open,
	backward:   vb6Rnd24Word.back,
}

var delphiWord = &linear{step: affine{134775813, 1}, bits: 32}

// delphiScaled scales the whole state to 0 to 999.
func delphiScaled(x uint64) uint64 { return x * 1000 >> 32 }

func openDelphiRandom1000() stream { return mapped{delphiWord.open(), delphiScaled} }

func delphiRandom1000Back() backStream {
	back := delphiWord.rewinder()
	before := back.before
	back.before = func(state uint64) (earlier, output uint64) {
		earlier, whole := before(state)
		return earlier, delphiScaled(whole)
	}
	return back
}
