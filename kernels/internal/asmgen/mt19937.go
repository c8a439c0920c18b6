package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const mtShift = 397

// mtWords emits the function that makes outputs `from` to from+kept-1 of one set
// of seeds, as rows of memory, and behind them a row that is 1 where an output
// is above accepted, and else 0, if any may be. Only outputs of the first 227 are
// possible, which need no word that was twisted before.
func mtWords(m *machine) {
	TEXT("mtWords"+m.name, 4, signature)
	args := Load(Param("a"), GP64())
	slots := AllocLocal(24)
	index, words := slots, slots.Offset(8)
	s := mtState{
		machine: m, factor: m.vec[m.mt], index: m.vec[m.mt+1], spare: m.vec[m.mt+2:],
		number: GP64(), scalarFactor: slots.Offset(16), scalarSpare: []reg.GPVirtual{GP64(), GP64()},
	}
	at := s.scalarSpare[0]
	MOVQ(arg(args, argOffsets), at)
	VPBROADCASTD(arg(args, argFirst), s.factor)
	for c := range m.mt {
		VPADDD(m.at(at, c), s.factor, m.vec[c])
	}
	m.load(constant(args, stepMul), s.factor)
	if m.scalar > 0 {
		s.shift = GP32()
		MOVL(constant(args, stepMul), s.shift)
		MOVL(s.shift, s.scalarFactor)
		MOVL(U32(mtTop), s.shift)
	}
	for i := range m.scalar * m.lanes() {
		x := GP32()
		MOVL(arg(args, argFirst), x)
		ADDL(m.at(at, m.mt).Offset(4*i), x)
		s.scalars = append(s.scalars, x)
	}

	left := GP64()
	MOVQ(arg(args, argWords), at)
	MOVQ(at, words)
	keep := func() {
		MOVQ(words, at)
		for c := range m.mt {
			m.store(m.vec[c], m.at(at, c))
		}
		for i, x := range s.scalars {
			MOVL(x, m.at(at, m.mt).Offset(4*i))
		}
		ADDQ(U32(m.mtRow()), words)
	}
	// The next index goes through memory, as a load takes none of the vectors'
	// pipes, and early, so that no addition waits for it.
	next := func() {
		INCQ(s.number)
		MOVQ(s.number, index)
		VPBROADCASTD(index, s.index)
	}
	step := func() {
		s.step()
		next()
	}
	XORQ(s.number, s.number)
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

	m.mtOutputs(args)
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

// mtTop is the distance of a state's two upper bits from its lower end.
const mtTop = 30

// mtState is where mtWords has the states of a set of seeds: each chain has a
// vector, and the seeds behind those of the chains have general registers. What
// steps these finds room beside the vector instructions.
type mtState struct {
	*machine
	factor, index reg.VecPhysical
	spare         []reg.VecPhysical

	scalars      []reg.GPVirtual
	number       reg.GPVirtual // the index
	shift        reg.GPVirtual // mtTop
	scalarFactor Mem
	scalarSpare  []reg.GPVirtual
}

// mtOrder is how many chains the instructions of mtState.step stand behind the
// shift, and how many shifts stand before the scalars.
type mtOrder struct{ xor, mul, add, scalars int }

// step is x = factor*(x^x>>30) + index. The instructions of one chain stand
// among those of its neighbours, and in this order, because a shift and a
// product each have two of the machine's four pipes, and the other two
// instructions what is left of them. The distances are the best of many that
// were measured on Zen 5.
func (s *mtState) step() {
	for turn := range s.mt + s.behind.add {
		if turn == s.behind.scalars {
			s.stepScalars()
		}
		chain := func(behind int, emit func(x, t reg.VecPhysical)) {
			if c := turn - behind; 0 <= c && c < s.mt {
				emit(s.vec[c], s.spare[c%len(s.spare)])
			}
		}
		chain(s.behind.mul, func(x, _ reg.VecPhysical) { VPMULLD(s.factor, x, x) })
		chain(s.behind.xor, func(x, t reg.VecPhysical) { s.xor(t, x, x) })
		chain(s.behind.add, func(x, _ reg.VecPhysical) { VPADDD(s.index, x, x) })
		chain(0, func(x, t reg.VecPhysical) { VPSRLD(Imm(mtTop), x, t) })
	}
}

func (s *mtState) stepScalars() {
	for i, x := range s.scalars {
		t := s.scalarSpare[i%len(s.scalarSpare)].As32()
		SHRXL(s.shift, x, t)
		XORL(t, x)
		IMULL(s.scalarFactor, x)
		ADDL(s.number.As32(), x)
	}
}

// mtOutputs twists and tempers the rows in place, one column of vectors after
// the other.
func (m *machine) mtOutputs(args reg.Register) {
	stride := m.mtRow()
	y, after, odd, worst := m.vec[0], m.vec[1], m.vec[2], m.vec[3]
	held := map[int]reg.VecPhysical{}
	for i, n := range []int{bit31, low31, matrix, temperB, temperC} {
		held[n] = m.vec[4+i]
		m.load(constant(args, n), held[n])
	}
	column, columns, near, far, left, distance, chooser := GP64(), GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	MOVQ(arg(args, argWords), column)
	MOVQ(U32(m.mt+m.scalar), columns)
	MOVQ(arg(args, argKept), distance)
	INCQ(distance)
	IMUL3Q(U32(stride), distance, distance)
	IMUL3L(U32(stride), arg(args, argChooser), chooser.As32())

	Label("column")
	MOVQ(column, near)
	MOVQ(column, far)
	ADDQ(distance, far)
	MOVQ(arg(args, argKept), left)
	m.xor(worst, worst, worst)
	Label("output")
	m.load(Mem{Base: near, Disp: stride}, after)
	m.load(Mem{Base: near}, y)
	m.load(Mem{Base: near, Index: chooser, Scale: 1}, odd)
	VPSLLD(Imm(31), odd, odd)
	VPSRAD(Imm(31), odd, odd)
	m.and(held[matrix], odd, odd)
	m.and(held[bit31], y, y)
	m.and(held[low31], after, after)
	m.or(after, y, y)
	VPSRLD(Imm(1), y, y)
	m.xor(odd, y, y)
	m.xor(Mem{Base: far}, y, y)
	CMPL(arg(args, argPlain), Imm(0))
	JNE(LabelRef("tempered"))
	m.temper(y, odd, held[temperB], held[temperC])
	Label("tempered")
	VPMAXUD(y, worst, worst)
	m.store(y, Mem{Base: near})
	ADDQ(U32(stride), near)
	ADDQ(U32(stride), far)
	DECQ(left)
	JNZ(LabelRef("output"))
	const every = math.MaxUint32 // output is accepted
	CMPL(constant(args, accepted), U32(every))
	JE(LabelRef("accepted"))
	VPMAXUD(constant(args, accepted), worst, worst)
	VPSUBD(constant(args, accepted), worst, worst)
	VPMINUD(constant(args, one), worst, worst)
	m.store(worst, Mem{Base: near})
	Label("accepted")
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
			SUBQ(U32(m.mtRow()), column)
		},
		begin: func(m *machine, _, _ reg.Register) {
			MOVQ(column, row)
			ADDQ(U32(m.chains*m.bytes), column)
		},
		step:  func(m *machine, _ reg.Register) { ADDQ(U32(m.mtRow()), row) },
		value: func(m *machine, c int) { m.load(m.at(row, c), m.s(c)) },
	}
}
