package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
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
			m.laneMasks()
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

// laneMasks sets K2 to the even lanes and K3 to the odd ones.
func (m *machine) laneMasks() {
	if !m.wide {
		return
	}
	lanes := GP32()
	MOVL(U32(0x5555), lanes)
	KMOVW(lanes, reg.K2)
	MOVL(U32(0xAAAA), lanes)
	KMOVW(lanes, reg.K3)
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

// lcg48 is y = stepMul*y + stepAdd modulo 2^48, in the upper 48 bits of 64-bit
// lanes, so that its word, bits 16 to 47, is the upper half of a lane. Of every
// four seeds the first two are in the register low and the other two in t; one
// instruction gathers their words. A wide machine has registers enough to keep
// the states while their words are tested; else they are in memory then.
func lcg48() source {
	low := func(m *machine) func(c int) reg.VecPhysical {
		if m.wide {
			return m.x
		}
		return m.s
	}
	states := func(m *machine, args reg.Register, move func(state reg.VecPhysical, at Mem)) {
		if m.wide {
			return
		}
		at := GP64()
		MOVQ(arg(args, argWords), at)
		m.eachChain(func(c int) {
			move(m.s(c), m.at(at, 2*c))
			move(m.t(c), m.at(at, 2*c+1))
		})
	}
	store := func(m *machine, args reg.Register) {
		states(m, args, func(state reg.VecPhysical, at Mem) { m.store(state, at) })
	}
	return source{
		name:  "lcg48",
		shift: true,
		open:  func(*machine, reg.Register) {},
		begin: func(m *machine, args, offsets reg.Register) {
			low := low(m)
			VPBROADCASTQ(arg(args, argFirst), m.u(2))
			m.xor(m.u(3), m.u(3), m.u(3))
			m.eachChain(func(c int) {
				m.load(m.at(offsets, c), m.t(c))
				VPUNPCKLDQ(m.u(3), m.t(c), low(c))
				VPUNPCKHDQ(m.u(3), m.t(c), m.t(c))
			})
			for _, half := range []func(int) reg.VecPhysical{low, m.t} {
				m.eachChain(func(c int) {
					y := half(c)
					VPADDQ(m.u(2), y, y)
					VPSLLVQ(constant(args, seedLeft), y, y)
					m.xor(constant(args, seedXor), y, y)
				})
			}
			if m.wide {
				m.load(constant(args, stepMul), m.u(2))
			}
			m.load(constant(args, stepAdd), m.u(3))
			store(m, args)
		},
		enter: func(m *machine, args reg.Register) {
			states(m, args, func(state reg.VecPhysical, at Mem) { m.load(at, state) })
		},
		step: func(m *machine, args reg.Register) {
			low := low(m)
			m.eachChain(func(c int) { m.step48(args, low(c), m.x(c)) })
			m.eachChain(func(c int) { m.step48(args, m.t(c), m.x(c)) })
		},
		leave: store,
		value: func(m *machine, c int) { VSHUFPS(Imm(0xDD), m.t(c), low(m)(c), m.s(c)) },
	}
}

// step48 steps the 64-bit lanes of y; t is spoilt. AVX2 has no 64-bit product:
// the two products of a lower and an upper half are added to the upper half of
// the product of the lower halves.
func (m *machine) step48(args reg.Register, y, t reg.VecPhysical) {
	if m.wide {
		VPMULLQ(m.u(2), y, y)
		VPADDQ(m.u(3), y, y)
		return
	}
	VPMULLD(constant(args, stepHigh), y, t)
	VPMULUDQ(constant(args, stepMul), y, y)
	VPADDQ(m.u(3), y, y)
	VPSLLQ(Imm(32), t, m.u(2))
	VPADDD(m.u(2), t, t)
	VPSRLQ(Imm(32), t, t)
	VPSLLQ(Imm(32), t, t)
	VPADDQ(t, y, y)
}
