package kernels

// The 48-bit congruential generator of System V, as C libraries, Perl, Boost and GSL have it.

const rand48Text = "48-bit LCG X=(0x5DEECE66D*X+0xB) mod 2^48;"

var glibcLrand48 = definition{
	Generator: Generator{
		Name:      "glibc_lrand48",
		Met:       "C on Linux: srand48(seed); lrand48()",
		SeedBits:  32,
		StateBits: 48,
		WidthBits: 31,
		Definition: "srand48(seed): X=(seed<<16)|0x330E. " +
			rand48Text +
			" output X>>17",
		Source: "glibc 2.36 lrand48_r",
	},
	jumps:      true,
	setupSteps: 1,
	open:       (&linear{step: affine{0x5DEECE66D, 0xB}, bits: 48, shift: 17, start: rand48Start}).open,
}

var glibcMrand48 = definition{
	Generator: Generator{
		Name:      "glibc_mrand48",
		Met:       "C on Linux: srand48(seed); mrand48(), as an unsigned number",
		SeedBits:  32,
		StateBits: 48,
		WidthBits: 32,
		Definition: "srand48(seed): X=(seed<<16)|0x330E. " +
			rand48Text +
			" output X>>16 as unsigned 32 (C returns it signed)",
		Source: "glibc 2.36 mrand48_r",
	},
	jumps:      true,
	setupSteps: 1,
	open:       (&linear{step: affine{0x5DEECE66D, 0xB}, bits: 48, shift: 16, start: rand48Start}).open,
}

var glibcDrand48 = definition{
	Generator: Generator{
		Name:      "glibc_drand48",
		Met:       "C on Linux: srand48(seed); drand48(), times 2^48",
		SeedBits:  32,
		StateBits: 48,
		WidthBits: 48,
		Definition: "srand48(seed): X=(seed<<16)|0x330E. " +
			rand48Text +
			" output X (drand48() = X/2^48)",
		Source: "glibc 2.36 drand48_r times 2^48 (exact)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       (&linear{step: affine{0x5DEECE66D, 0xB}, bits: 48, shift: 0, start: rand48Start}).open,
}

var perlRand48 = definition{
	Generator: Generator{
		Name:      "perl_rand48",
		Met:       "Perl 5.20 and later: srand($seed); rand(), times 2^48",
		SeedBits:  32,
		StateBits: 48,
		WidthBits: 48,
		Definition: "srand(seed): X=(seed<<16)+0x330E. " +
			rand48Text +
			" output X (rand() = X/2^48)",
		Source: "Perl 5.36.0 rand() times 2^48 (exact)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       (&linear{step: affine{0x5DEECE66D, 0xB}, bits: 48, shift: 0, start: rand48Start}).open,
}

var perlRand1000 = definition{
	Generator: Generator{
		Name:      "perl_rand1000",
		Met:       "Perl 5.20 and later: srand($seed); int(rand(1000))",
		SeedBits:  32,
		StateBits: 48,
		WidthBits: 10,
		Definition: "srand(seed): X=(seed<<16)+0x330E. " +
			rand48Text +
			" output floor(1000*X/2^48) (double arithmetic int(rand(1000)))",
		Source: "Perl 5.36.0 int(rand(1000))",
	},
	most:       999,
	jumps:      true,
	setupSteps: 1,
	open:       openPerlRand1000,
}

var boostRand48 = definition{
	Generator: Generator{
		Name:      "boost_rand48",
		Met:       "Boost.Random: boost::rand48",
		SeedBits:  32,
		StateBits: 48,
		WidthBits: 31,
		Definition: "X=(seed<<16)|0x330E. " +
			rand48Text +
			" output X>>17",
		Source: "Boost.Random 1.74 rand48",
	},
	jumps:      true,
	setupSteps: 1,
	open:       (&linear{step: affine{0x5DEECE66D, 0xB}, bits: 48, shift: 17, start: rand48Start}).open,
}

var gslRand48 = definition{
	Generator: Generator{
		Name:      "gsl_rand48",
		Met:       "GNU Scientific Library: gsl_rng_rand48",
		SeedBits:  32,
		StateBits: 48,
		WidthBits: 32,
		Definition: "seed 0: X=0x1234ABCD330E; else X=(seed<<16)|0x330E. " +
			rand48Text +
			" output X>>16",
		Source: "GSL 2.7.1 gsl_rng_rand48",
	},
	jumps:      true,
	setupSteps: 1,
	open:       (&linear{step: affine{0x5DEECE66D, 0xB}, bits: 48, shift: 16, start: gslRand48Start}).open,
}

var rand48Step = affine{0x5DEECE66D, 0xB}

var (
	rand48Start    = seeding{left: 16, xor: 0x330E}
	gslRand48Start = seeding{forZero: 0x1234ABCD, left: 16, xor: 0x330E}
)

// openPerlRand1000 scales the whole state to 0 to 999 in doubles, as Perl does,
// with their rounding.
func openPerlRand1000() stream {
	l := linear{step: rand48Step, bits: 48, start: rand48Start}
	return mapped{l.open(), func(x uint64) uint64 { return uint64(float64(x) / (1 << 48) * 1000) }}
}
