// Command asmgen writes the vector kernels of package kernels as Go assembly:
//
//	go run . -out ../../simd_amd64.s
//
// It is a module of its own, so that the assembler library stays out of the
// program's dependencies. Read machine.go for the two instruction sets,
// filter.go for how seeds are tested, mt19937.go and steps.go for the
// generators; the caller's side is kernels/simd.go.
package main

import (
	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("amd64")
	for _, m := range machines {
		pace(m)
		mtWords(m)
		filter(m, mtRows())
		filter(m, xorshift32())
		filter(m, lcg32())
		filter(m, lcg31())
		filter(m, lcg48())
	}
	Generate()
}
