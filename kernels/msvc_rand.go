package kernels

var msvcRandWord = &linear{step: affine{214013, 2531011}, bits: 31, shift: 16}

var msvcRand = definition{
	Generator: Generator{
		Name:       "msvc_rand",
		Met:        "Microsoft Visual C++: srand(seed); rand()",
		SeedBits:   32,
		StateBits:  32,
		WidthBits:  15,
		Definition: "x=seed. x=(214013*x+2531011) mod 2^32; output (x>>16)&0x7fff. A seed and the seed XOR 2^31 give the same stream.",
		Source:     "formula with constants from common documentation; seed 1 gives 41, 18467, 6334, 26500, 19169",
	},
	jumps:      true,
	setupSteps: 1,
	open:       msvcRandWord.open,
	backward:   msvcRandWord.back,
}
