package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in the struct vectorArgs of package kernels, which explains them.
const (
	argFirst   = 8 * iota
	argOffsets // *uint32
	argProgram // *uint32
	argRows
	argTallies // *uint32
	argGroups
	argMasks // *byte
	argBlocks
	argWords // *uint32: rows of mt19937, states of lcg48
	argFrom
	argKept
	argPlain
	argConstants

	argChooser = argPlain + 4 // both are uint32
)

// Constants are kept as whole vectors from argConstants on.
const (
	multiplier = iota // of the transform
	rotateRight
	rotateLeft // 32 less rotateRight
	shiftRight
	below // a tally below this one is a hit; tallies count downwards from 0
	stepMul
	stepAdd
	seedLeft
	leastSeed
	one
	bit31
	low31
	matrix
	temperB
	temperC
	accepted
	stepHigh // the multiplier's upper and lower half in every 64 bits
	seedXor
)

const constantBytes = 64

func constant(args reg.Register, n int) Mem {
	return Mem{Base: args, Disp: argConstants + n*constantBytes}
}

func arg(args reg.Register, offset int) Mem { return Mem{Base: args, Disp: offset} }

// signature stands for func(a *vectorArgs), whose type is not known here.
const signature = "func(a uintptr)"
