package main

import (
	. "github.com/mmcloughlin/avo/build"   //nolint:staticcheck // the assembly reads as assembly
	. "github.com/mmcloughlin/avo/operand" //nolint:staticcheck // the assembly reads as assembly
	"github.com/mmcloughlin/avo/reg"
)

// xorshift32 is x^=x<<13; x^=x>>17; x^=x<<5.
func xorshift32() source {
	return source{
		name:  "xorshift32",
		open:  func(*machine, reg.Register) {},
		begin: seeds,
		step: func(m *machine, _ reg.Register) {
			half := func(emit func(c int)) {
				m.eachChain(emit)
				m.eachChain(func(c int) { m.xor(m.s(c), m.x(c), m.x(c)) })
			}
			half(func(c int) { VPSLLD(Imm(13), m.x(c), m.s(c)) })
			half(func(c int) { VPSRLD(Imm(17), m.x(c), m.s(c)) })
			half(func(c int) { VPSLLD(Imm(5), m.x(c), m.s(c)) })
		},
	}
}

// lcg32 is x = stepMul*x + stepAdd modulo 2^32. With seedLeft the state is kept
// that many bits further left, so that it is modulo a smaller power of two.
func lcg32() source {
	return source{
		name:  "lcg32",
		shift: true,
		open: func(m *machine, args reg.Register) {
			m.load(constant(args, stepMul), m.u(2))
			m.load(constant(args, stepAdd), m.u(3))
		},
		begin: func(m *machine, args, offsets reg.Register) {
			seeds(m, args, offsets)
			m.eachChain(func(c int) { VPSLLVD(constant(args, seedLeft), m.x(c), m.x(c)) })
		},
		step: func(m *machine, _ reg.Register) {
			m.eachChain(func(c int) { VPMULLD(m.u(2), m.x(c), m.x(c)) })
			m.eachChain(func(c int) { VPADDD(m.u(3), m.x(c), m.x(c)) })
		},
	}
}

// lcg31 is x = mul*x + add modulo 2^31-1. stepMul and stepAdd are twice mul and
// add in every 64 bits, so that a product has its bits from 31 on in its upper
// half. A seed that is 0 modulo 2^31-1 becomes leastSeed.
func lcg31() source {
	return source{
		name: "lcg31",
		open: func(m *machine, args reg.Register) {
			m.load(constant(args, stepMul), m.u(2))
			m.load(constant(args, stepAdd), m.u(3))
			if m.wide {
				lanes := GP32()
				MOVL(U32(0x5555), lanes)
				KMOVW(lanes, reg.K2)
				MOVL(U32(0xAAAA), lanes)
				KMOVW(lanes, reg.K3)
			}
		},
		begin: func(m *machine, args, offsets reg.Register) {
			seeds(m, args, offsets)
			m.eachChain(func(c int) {
				VPSRLD(Imm(31), m.x(c), m.s(c))
				m.and(constant(args, low31), m.x(c), m.x(c))
				VPADDD(m.s(c), m.x(c), m.x(c))
				m.reduce31(args, c)
				VPMAXUD(constant(args, leastSeed), m.x(c), m.x(c))
			})
		},
		step: func(m *machine, args reg.Register) {
			m.eachChain(func(c int) { VPSRLQ(Imm(32), m.x(c), m.t(c)) })
			m.eachChain(func(c int) { VPMULUDQ(m.u(2), m.x(c), m.s(c)) })
			m.eachChain(func(c int) { VPMULUDQ(m.u(2), m.t(c), m.t(c)) })
			m.eachChain(func(c int) { VPADDQ(m.u(3), m.s(c), m.s(c)) })
			m.eachChain(func(c int) { VPADDQ(m.u(3), m.t(c), m.t(c)) })
			m.eachChain(func(c int) { m.halves(m.s(c), m.t(c), m.x(c)) })
			m.eachChain(func(c int) { VPSRLD(Imm(1), m.s(c), m.s(c)) })
			m.eachChain(func(c int) { VPADDD(m.s(c), m.x(c), m.x(c)) })
			m.eachChain(func(c int) { m.reduce31(args, c) })
		},
	}
}

// reduce31 takes 2^31-1 off x(c) when it is not below; s(c) is spoilt.
func (m *machine) reduce31(args reg.Register, c int) {
	VPSUBD(constant(args, low31), m.x(c), m.s(c))
	VPMINUD(m.s(c), m.x(c), m.x(c))
}

// halves gathers from the 64-bit products of even and odd lanes the upper
// halves in high and the lower halves in even.
func (m *machine) halves(even, odd, high reg.VecPhysical) {
	if m.wide {
		VMOVDQA32(odd, high)
		VPSHUFD(Imm(0xF5), even, reg.K2, high)
		VPSHUFD(Imm(0xA0), odd, reg.K3, even)
		return
	}
	VPSRLQ(Imm(32), even, high)
	VPBLENDD(Imm(0xAA), odd, high, high)
	VPSLLQ(Imm(32), odd, odd)
	VPBLENDD(Imm(0xAA), odd, even, even)
}
