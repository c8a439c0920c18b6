package kernels

// PHP's Mersenne Twister, as it is since 7.1 and in the mode MT_RAND_PHP, which is
// what PHP 5.2.1 to 7.0 did; php_mt_rand.go has the two best known names.

const phpLegacyText = "MT_RAND_PHP twist quirk: the 0x9908b0df term is chosen by the low bit of mt[i] (old u), not of mt[i+1]."

const mtText = "MT19937: state mt[0..623]; twist y=(mt[i]&0x80000000)|(mt[i+1 mod 624]&0x7fffffff), mt[i]=mt[i+397 mod 624]^(y>>1)^(0x9908b0df if y odd), in place " +
	"for i=0..623; temper y^=y>>11; y^=(y<<7)&0x9d2c5680; y^=(y<<15)&0xefc60000; y^=y>>18."

const mtGenrandText = "init_genrand: mt[0]=seed, mt[i]=1812433253*(mt[i-1]^(mt[i-1]>>30))+i mod 2^32; first output after a full twist."

var phpMtEngine32 = definition{
	Generator: Generator{
		Name:      "php_mt_engine32",
		Met:       "PHP 8.2 and later: Random\\Engine\\Mt19937, whole words",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" Output all 32 bits.",
		Source: "PHP 8.2.36 Random\\Engine\\Mt19937 generate()",
	},
	setupSteps: mtShift,
	open:       func() stream { return new(mtStream) },
}

var phpMtEngine32Legacy = definition{
	Generator: Generator{
		Name:      "php_mt_engine32_legacy",
		Met:       "PHP 8.2 and later: Random\\Engine\\Mt19937(seed, MT_RAND_PHP), whole words",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" " +
			phpLegacyText +
			" Output all 32 bits.",
		Source: "PHP 8.2.36 Random\\Engine\\Mt19937(seed, MT_RAND_PHP) generate()",
	},
	setupSteps: mtShift,
	open:       openPHPLegacy,
}

var phpMtRandLegacy = definition{
	Generator: Generator{
		Name:      "php_mt_rand_legacy",
		Met:       "PHP 5.2.1 to 7.0: mt_srand($seed); mt_rand(), and later with MT_RAND_PHP",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 31,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" " +
			phpLegacyText +
			" mt_rand() = output>>1.",
		Source: "PHP 8.2.36 mt_srand(seed, MT_RAND_PHP); mt_rand()",
	},
	setupSteps: mtShift,
	open:       openPHPLegacy31,
}

var phpMtRandLegacy0999 = definition{
	Generator: Generator{
		Name:      "php_mt_rand_legacy_0_999",
		Met:       "PHP 5.2.1 to 7.0: mt_srand($seed); mt_rand(0, 999), and later with MT_RAND_PHP",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 10,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" " +
			phpLegacyText +
			" Legacy range scaling: lo+floor((hi-lo+1)*(r31/2^31)) with r31=output>>1 (double arithmetic).",
		Source: "PHP 8.2.36 mt_srand(seed, MT_RAND_PHP); mt_rand(0,999)",
	},
	setupSteps: mtShift,
	most:       999,
	open:       func() stream { return mapped{openPHPLegacy31(), phpScaled(0, 999)} },
}

var phpMtRand1100 = definition{
	Generator: Generator{
		Name:      "php_mt_rand_1_100",
		Met:       "PHP 7.1 and later: mt_srand($seed); mt_rand(1, 100)",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 7,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" mt_rand(lo,hi) in MT_RAND_MT19937 mode uses all 32 bits: n=hi-lo+1; power of two: r&(n-1); else redraw while r > 2^32-1-(2^32-1 mod n)-1; output " +
			"lo+r%n.",
		Source: "PHP 8.2.36 mt_srand(seed); mt_rand(1,100)",
	},
	setupSteps: mtShift,
	least:      1,
	most:       100,
	open:       openPHPRange(1, 100),
}

var phpMtRand01023 = definition{
	Generator: Generator{
		Name:      "php_mt_rand_0_1023",
		Met:       "PHP 7.1 and later: mt_srand($seed); mt_rand(0, 1023)",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 10,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" mt_rand(lo,hi) in MT_RAND_MT19937 mode uses all 32 bits: n=hi-lo+1; power of two: r&(n-1); else redraw while r > 2^32-1-(2^32-1 mod n)-1; output " +
			"lo+r%n.",
		Source: "PHP 8.2.36 mt_srand(seed); mt_rand(0,1023)",
	},
	setupSteps: mtShift,
	most:       1023,
	open:       openPHPRange(0, 1023),
}

var phpRand = definition{
	Generator: Generator{
		Name:      "php_rand",
		Met:       "PHP 7.1 and later: srand($seed); rand()",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 31,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" rand() = mt_rand() = output>>1 (srand is an alias of mt_srand).",
		Source: "PHP 8.2.36 srand(seed); rand()",
	},
	setupSteps: mtShift,
	open:       func() stream { return new(phpMtStream) },
}

var phpRand0999 = definition{
	Generator: Generator{
		Name:      "php_rand_0_999",
		Met:       "PHP 7.1 and later: srand($seed); rand(0, 999)",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 10,
		Definition: "32-bit unsigned seed. mt_srand(seed): " +
			mtGenrandText +
			" " +
			mtText +
			" rand(0,999) after srand(seed) gives the same as mt_rand(0,999): mt_rand(lo,hi) in MT_RAND_MT19937 mode uses all 32 bits: n=hi-lo+1; power of two: " +
			"r&(n-1); else redraw while r > 2^32-1-(2^32-1 mod n)-1; output lo+r%n.",
		Source: "PHP 8.2.36 srand(seed); rand(0,999)",
	},
	setupSteps: mtShift,
	most:       999,
	open:       openPHPRange(0, 999),
}

var phpPcgOneseq128xslrr64 = definition{
	Generator: Generator{
		Name:      "php_pcg_oneseq128xslrr64",
		Met:       "PHP 8.2 and later: Random\\Engine\\PcgOneseq128XslRr64(seed)",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 64,
		Definition: "state=0; step; state+=seed (zero-extended to 128 bits here: seed as unsigned 64); step. " +
			pcg128Text +
			"; each draw steps, then outputs XSL-RR 128/64: out=rotr64(hi^lo, state>>122) of the new state",
		Source: "PHP 8.2.36 Random\\Engine\\PcgOneseq128XslRr64(int)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &pcg128Stream{start: phpPcgStart, out: xslRR} },
}

func openPHPLegacy() stream { return stepped{&twister{kind: phpLegacyTwister}} }

func openPHPLegacy31() stream { return halved{openPHPLegacy()} }

// halved is a stream without the low bit of its outputs.
type halved struct{ stream }

func (g halved) fill(dst []uint64) {
	g.stream.fill(dst)
	halve(dst)
}

// phpScaled is the legacy way into a range, in doubles, with their rounding.
func phpScaled(low, high uint64) func(uint64) uint64 {
	size := float64(high) - float64(low) + 1
	return func(r31 uint64) uint64 { return low + uint64(size*(float64(r31)/(1<<31))) }
}

// phpPcgStart is the seeding step of the engine for a seed of 64 bits.
func phpPcgStart(seed uint64) (state uint128, step affine128) {
	step = affine128{pcg128Mul, pcg128Add}
	return step.of(step.add.plus(uint128{0, seed})), step
}
