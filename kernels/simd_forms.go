package kernels

import "math/bits"

// Vector kernels: how a generator makes its next outputs from its state.
const (
	kernelMt         = iota // initialisation and first outputs of mt19937
	kernelXorshift32        // x^=x<<13; x^=x>>17; x^=x<<5
	kernelLcg32             // affine modulo 2^32 or a smaller power of two
	kernelLcg31             // affine modulo 2^31-1
	kernelLcg48             // affine modulo 2^48; the word is bits 16 to 47
	vectorKernels
)

// A vectorForm is a generator in terms of a kernel. The word that the kernel
// makes is shifted right; with a modulus the output is low plus the word modulo
// the modulus.
type vectorForm struct {
	kernel   int
	step     affine
	start    seeding // of LCGs
	left     int     // bits by which the state of a 32-bit LCG is kept further left
	shift    int
	quirk    bool // mt19937 with the low bit of the other word, as PHP 5 had it
	modulus  uint64
	low      uint64
	accepted uint64 // larger words are drawn again
}

// maxWord is the largest word of a kernel.
const maxWord = 1<<32 - 1

// vectorFormOf is the form of the generators that vectors can run.
func vectorFormOf(s stream) (f vectorForm, ok bool) {
	f.accepted = maxWord
	switch g := s.(type) {
	case *mtStream:
		f.kernel = kernelMt
	case *phpMtStream:
		f.kernel, f.shift = kernelMt, 1
	case *phpMtRangeStream:
		f.kernel, f.low, f.accepted = kernelMt, g.low, g.last
		if g.n <= maxWord {
			f.modulus = g.n
		}
		return f, g.n > 1
	case stepped:
		e, isTwister := g.engine.(*twister)
		f.kernel, f.quirk = kernelMt, true
		return f, isTwister && e.kind.quirk
	case halved:
		f, ok = vectorFormOf(g.stream)
		f.shift++
		return f, ok
	case *xorshift32Stream:
		f.kernel = kernelXorshift32
	case *minstdStream:
		f.kernel, f.step, f.start.forZero = kernelLcg31, affine{mul: minstdStep.mul}, 1
	case *lehmerStream:
		f.kernel, f.step, f.start.forZero = kernelLcg31, affine{mul: g.mul}, 1
		return f, g.prime == mersenne31 && !g.whole
	case *compatLcg32Stream:
		f.kernel, f.step = kernelLcg31, affine(compatLcg32Step)
	case *linearStream:
		return f.linear(&g.linear)
	default:
		return f, false
	}
	return f, true
}

// linear completes the form of a generator modulo a power of two.
func (f *vectorForm) linear(l *linear) (vectorForm, bool) {
	f.step, f.start = l.step, l.start
	switch {
	case l.bits <= 32 && l.start.left == 0 && l.start.xor == 0:
		f.kernel, f.left, f.shift = kernelLcg32, 32-l.bits, 32-l.bits+l.shift
		return *f, true
	case l.bits == 48 && l.shift >= 16:
		f.kernel, f.shift = kernelLcg48, l.shift-16
		return *f, true
	}
	return *f, false
}

// constants sets what the generator's kernel reads.
func (f *vectorForm) constants(a *vectorArgs) {
	a.set(constShiftRight, uint32(f.shift))
	a.set(constOne, 1)
	a.set(constBit31, 1<<31)
	a.set(constLow31, mersenne31)
	switch f.kernel {
	case kernelMt:
		a.set(constStepMul, mtFactor)
		a.set(constMatrix, mtMatrix)
		a.set(constTemperB, 0x9d2c5680)
		a.set(constTemperC, 0xefc60000)
		a.set(constAccepted, uint32(f.accepted))
		if !f.quirk {
			a.chooser = 1
		}
	case kernelLcg32:
		a.set(constStepMul, uint32(f.step.mul))
		a.set(constStepAdd, uint32(f.step.add)<<f.left)
		a.set(constSeedLeft, uint32(f.left))
	case kernelLcg31:
		a.setLong(constStepMul, 2*f.step.mul)
		a.setLong(constStepAdd, 2*f.step.add)
		a.set(constLeastSeed, uint32(f.start.forZero))
	case kernelLcg48:
		const left = 16 // by which states are kept further left, in 64 bits
		a.setLong(constStepMul, f.step.mul)
		a.setLong(constStepHigh, bits.RotateLeft64(f.step.mul, 32))
		a.setLong(constStepAdd, f.step.add<<left)
		a.setLong(constSeedLeft, uint64(f.start.left+left))
		a.setLong(constSeedXor, f.start.xor<<left)
	}
}
