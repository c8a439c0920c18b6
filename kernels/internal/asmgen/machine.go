package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A machine is an instruction set with its registers, and how many vectors of
// each kernel run side by side to hide the latency of one.
type machine struct {
	name   string // ends the names of its functions
	bytes  int    // of one vector
	wide   bool   // AVX-512: masks in registers, rotations
	chains int    // vectors of the filter of every kernel
	mt     int    // vectors of the initialisation of mt19937
	scalar int    // vectors whose seeds it has in general registers instead
	sets   int    // calls of it that fill a row, which is a multiple of chains
	behind mtOrder
	vec    []reg.VecPhysical
}

var machines = []*machine{
	{name: "AVX2", bytes: 32, chains: 4, mt: 13, scalar: 1, sets: 2, behind: mtOrder{xor: 1, mul: 3, add: 4, scalars: 10}, vec: []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}},
	{name: "AVX512", bytes: 64, wide: true, chains: 8, mt: 24, sets: 1, behind: mtOrder{xor: 4, mul: 10, add: 12}, vec: []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}},
}

// Registers of a filter. x is the state of the chains, s the transformed
// outputs; t are temporaries, as are s while the chains advance.
func (m *machine) x(c int) reg.VecPhysical { return m.vec[c] }
func (m *machine) s(c int) reg.VecPhysical { return m.vec[m.chains+c] }
func (m *machine) t(c int) reg.VecPhysical { return m.vec[2*m.chains+c] }

// u are the registers that are left, for constants: four, or eight on a wide
// machine.
func (m *machine) u(i int) reg.VecPhysical { return m.vec[3*m.chains+i] }

// scratch are the temporaries of the tests. A wide machine has three for all
// chains, and t is left to the generator.
func (m *machine) scratch(c int) reg.VecPhysical {
	if m.wide {
		return m.u(5 + c%3)
	}
	return m.t(c)
}

// eachChain emits one instruction for every chain, so that neighbours do not
// wait for each other.
func (m *machine) eachChain(emit func(c int)) {
	for c := range m.chains {
		emit(c)
	}
}

// at is the vector number n from a pointer on.
func (m *machine) at(base reg.Register, n int) Mem { return Mem{Base: base, Disp: n * m.bytes} }

func (m *machine) load(from Mem, to reg.VecPhysical) {
	if m.wide {
		VMOVDQU32(from, to)
		return
	}
	VMOVDQU(from, to)
}

func (m *machine) store(from reg.VecPhysical, to Mem) {
	if m.wide {
		VMOVDQU32(from, to)
		return
	}
	VMOVDQU(from, to)
}

func (m *machine) move(from, to reg.VecPhysical) {
	if m.wide {
		VMOVDQA32(from, to)
		return
	}
	VMOVDQA(from, to)
}

// xor is to = a ^ b.
func (m *machine) xor(a Op, b, to reg.VecPhysical) {
	if m.wide {
		VPXORD(a, b, to)
		return
	}
	VPXOR(a, b, to)
}

// and is to = a & b.
func (m *machine) and(a Op, b, to reg.VecPhysical) {
	if m.wide {
		VPANDD(a, b, to)
		return
	}
	VPAND(a, b, to)
}

// or is to = a | b.
func (m *machine) or(a Op, b, to reg.VecPhysical) {
	if m.wide {
		VPORD(a, b, to)
		return
	}
	VPOR(a, b, to)
}

// rotate is x = x rotated right by the field's count; t is spoilt.
func (m *machine) rotate(args reg.Register, x, t reg.VecPhysical) {
	if m.wide {
		VPRORVD(constant(args, rotateRight), x, x)
		return
	}
	VPSRLVD(constant(args, rotateRight), x, t)
	VPSLLVD(constant(args, rotateLeft), x, x)
	VPOR(t, x, x)
}

// tallyAbove takes 1 off the tally where a > b, signed; a is spoilt. On a wide
// machine the register u(4) holds ones.
func (m *machine) tallyAbove(a, b reg.VecPhysical, tally Mem) {
	if m.wide {
		VPCMPGTD(b, a, reg.K1)
		VMOVDQU32(tally, a)
		VPSUBD(m.u(4), a, reg.K1, a)
		VMOVDQU32(a, tally)
		return
	}
	VPCMPGTD(b, a, a) // -1 or 0
	VPADDD(tally, a, a)
	VMOVDQU(a, tally)
}

// hitBelow sets lanes of hit, which are 0 at first, where the tally is below b.
func (m *machine) hitBelow(b reg.VecPhysical, tally Mem, scratch, hit reg.VecPhysical) {
	if m.wide {
		VPCMPGTD(tally, b, reg.K1)
		VMOVDQA32(m.u(4), reg.K1, hit)
		return
	}
	VPCMPGTD(tally, b, scratch)
	VPOR(scratch, hit, hit)
}

// storeMask writes one bit for every lane of hit.
func (m *machine) storeMask(hit reg.VecPhysical, to Mem) {
	bits := GP32()
	if m.wide {
		VPTESTMD(hit, hit, reg.K1)
		KMOVW(reg.K1, bits)
		MOVW(bits.As16(), to)
		return
	}
	VMOVMSKPS(hit, bits)
	MOVB(bits.As8(), to)
}

// mtRow is the length in bytes of one row of outputs of mt19937.
func (m *machine) mtRow() int { return m.sets * (m.mt + m.scalar) * m.bytes }

// lanes is how many seeds one vector has.
func (m *machine) lanes() int { return m.bytes / 4 }
