package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const mtShift = 397

// mtWords emits the function that makes outputs `from` to from+kept-1 of one
// vector of seeds for each chain, as rows of memory, and behind them a row that
// is 1 where an output is above accepted, and else 0. Only outputs of the first 227 are possible,
// which need no word that was twisted before.
func mtWords(m *machine) {
	TEXT("mtWords"+m.name, 4, signature)
	args := Load(Param("a"), GP64())
	factor, index := m.vec[m.mt], m.vec[m.mt+1]
	offsets := GP64()
	MOVQ(arg(args, argOffsets), offsets)
	VPBROADCASTD(arg(args, argFirst), factor)
	for c := range m.mt {
		VPADDD(m.at(offsets, c), factor, m.vec[c])
	}
	m.load(constant(args, stepMul), factor)

	words, left, number := GP64(), GP64(), GP64()
	MOVQ(arg(args, argWords), words)
	stride := m.mt * m.bytes
	keep := func() {
		for c := range m.mt {
			m.store(m.vec[c], m.at(words, c))
		}
		ADDQ(U32(stride), words)
	}
	// The next index goes through memory, as a load takes none of the vectors'
	// pipes, and early, so that no addition waits for it.
	slot := AllocLocal(8)
	next := func() {
		INCQ(number)
		MOVQ(number, slot)
		VPBROADCASTD(slot, index)
	}
	step := func() {
		m.mtStep(factor, index)
		next()
	}
	XORQ(number, number)
	next()

	MOVQ(arg(args, argFrom), left)
	repeat("pass", left, step)
	MOVQ(arg(args, argKept), left)
	INCQ(left)
	repeat("near", left, func() { keep(); step() })
	MOVQ(U32(mtShift-2), left)
	SUBQ(arg(args, argKept), left)
	repeat("far", left, step)
	MOVQ(arg(args, argKept), left)
	repeat("last", left, func() { step(); keep() })

	m.mtOutputs(args, stride)
	VZEROUPPER()
	RET()
}

// repeat emits a loop that may run 0 times; it uses up left.
func repeat(name string, left reg.Register, body func()) {
	TESTQ(left, left)
	JZ(LabelRef(name + "_end"))
	Label(name)
	body()
	DECQ(left)
	JNZ(LabelRef(name))
	Label(name + "_end")
}

// mtOrder is how many chains each instruction of mtStep stands behind the shift;
// xor less than there are registers besides.
type mtOrder struct{ xor, mul, add int }

// mtStep is x = factor*(x^x>>30) + index. The instructions of one chain stand
// among those of its neighbours, and in this order, because a shift and a
// product each have two of the machine's four pipes, and the other two
// instructions what is left of them. The distances are the best of many that
// were measured on Zen 5.
func (m *machine) mtStep(factor, index reg.VecPhysical) {
	spare := m.vec[m.mt+2:]
	for turn := range m.mt + m.behind.add {
		chain := func(behind int, emit func(x, t reg.VecPhysical)) {
			if c := turn - behind; 0 <= c && c < m.mt {
				emit(m.vec[c], spare[c%len(spare)])
			}
		}
		chain(m.behind.mul, func(x, _ reg.VecPhysical) { VPMULLD(factor, x, x) })
		chain(m.behind.xor, func(x, t reg.VecPhysical) { m.xor(t, x, x) })
		chain(m.behind.add, func(x, _ reg.VecPhysical) { VPADDD(index, x, x) })
		chain(0, func(x, t reg.VecPhysical) { VPSRLD(Imm(30), x, t) })
	}
}

// mtOutputs twists and tempers the rows in place, one column of vectors after
// the other.
func (m *machine) mtOutputs(args reg.Register, stride int) {
	y, after, odd, worst, here := m.vec[0], m.vec[1], m.vec[2], m.vec[3], m.vec[9]
	held := map[int]reg.VecPhysical{}
	for i, n := range []int{bit31, low31, matrix, temperB, temperC} {
		held[n] = m.vec[4+i]
		m.load(constant(args, n), held[n])
	}
	column, columns, near, far, left, distance := GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	MOVQ(arg(args, argWords), column)
	MOVQ(U32(m.mt), columns)
	MOVQ(arg(args, argKept), distance)
	INCQ(distance)
	IMUL3Q(U32(stride), distance, distance)

	Label("column")
	MOVQ(column, near)
	MOVQ(column, far)
	ADDQ(distance, far)
	MOVQ(arg(args, argKept), left)
	m.xor(worst, worst, worst)
	Label("output")
	m.load(Mem{Base: near, Disp: stride}, after)
	m.load(Mem{Base: near}, y)
	m.and(constant(args, oddAfter), after, odd)
	m.and(constant(args, oddHere), y, here)
	m.or(here, odd, odd)
	VPSLLD(Imm(31), odd, odd)
	VPSRAD(Imm(31), odd, odd)
	m.and(held[matrix], odd, odd)
	m.and(held[bit31], y, y)
	m.and(held[low31], after, after)
	m.or(after, y, y)
	VPSRLD(Imm(1), y, y)
	m.xor(odd, y, y)
	m.xor(Mem{Base: far}, y, y)
	CMPQ(arg(args, argPlain), Imm(0))
	JNE(LabelRef("tempered"))
	m.temper(y, odd, held[temperB], held[temperC])
	Label("tempered")
	VPMAXUD(y, worst, worst)
	m.store(y, Mem{Base: near})
	ADDQ(U32(stride), near)
	ADDQ(U32(stride), far)
	DECQ(left)
	JNZ(LabelRef("output"))
	VPMAXUD(constant(args, accepted), worst, worst)
	VPSUBD(constant(args, accepted), worst, worst)
	VPMINUD(constant(args, one), worst, worst)
	m.store(worst, Mem{Base: near})
	ADDQ(U32(m.bytes), column)
	DECQ(columns)
	JNZ(LabelRef("column"))
}

// temper is the output function of mt19937; t is spoilt.
func (m *machine) temper(y, t, b, c reg.VecPhysical) {
	VPSRLD(Imm(11), y, t)
	m.xor(t, y, y)
	VPSLLD(Imm(7), y, t)
	m.and(b, t, t)
	m.xor(t, y, y)
	VPSLLD(Imm(15), y, t)
	m.and(c, t, t)
	m.xor(t, y, y)
	VPSRLD(Imm(18), y, t)
	m.xor(t, y, y)
}

// mtRows is the source of the rows that mtWords made: block after block takes
// its columns.
func mtRows() source {
	var row, column reg.GPVirtual
	return source{
		name:  "mtRows",
		shift: true,
		open: func(m *machine, args reg.Register) {
			row, column = GP64(), GP64()
			MOVQ(arg(args, argWords), column)
			SUBQ(U32(m.mt*m.bytes), column)
		},
		begin: func(m *machine, _, _ reg.Register) {
			MOVQ(column, row)
			ADDQ(U32(m.chains*m.bytes), column)
		},
		step:  func(m *machine, _ reg.Register) { ADDQ(U32(m.mt*m.bytes), row) },
		value: func(m *machine, c int) { m.load(m.at(row, c), m.s(c)) },
	}
}
