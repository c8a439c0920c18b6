package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A source is where a filter has its outputs from: a generator that is stepped
// in registers, or the rows that mt19937 wrote to memory.
type source struct {
	name  string
	shift bool // outputs are shifted right before the transform
	// open loads constants once for a call, begin the chains of the next block.
	open  func(m *machine, args reg.Register)
	begin func(m *machine, args, offsets reg.Register)
	// step advances every chain by one output; it stands in a loop between the
	// optional enter and leave.
	enter, step, leave func(m *machine, args reg.Register)
	// value, when set, loads the output of a chain to s(c); else it is x(c).
	value func(m *machine, c int)
}

// filter emits the function that tests blocks of seeds. The program has for
// each row the steps to it, the number of tests, and for each test the upper
// end of a span, its lowest difference and the tally that counts it.
func filter(m *machine, src source) {
	TEXT(src.name+m.name, 4, signature)
	args := Load(Param("a"), GP64())
	offsets, tallies, masks, blocks := GP64(), GP64(), GP64(), GP64()
	MOVQ(arg(args, argOffsets), offsets)
	MOVQ(arg(args, argTallies), tallies)
	MOVQ(arg(args, argMasks), masks)
	MOVQ(arg(args, argBlocks), blocks)
	if m.wide {
		m.load(constant(args, one), m.u(4))
	}
	src.open(m, args)

	Label("block")
	m.clearTallies(args, tallies)
	src.begin(m, args, offsets)
	program, rows := GP64(), GP64()
	MOVQ(arg(args, argProgram), program)
	MOVQ(arg(args, argRows), rows)

	Label("row")
	left := GP64()
	MOVL(Mem{Base: program}, left.As32())
	if src.enter != nil {
		src.enter(m, args)
	}
	Label("step")
	src.step(m, args)
	DECQ(left)
	JNZ(LabelRef("step"))
	if src.leave != nil {
		src.leave(m, args)
	}
	m.transform(args, src)
	MOVL(Mem{Base: program, Disp: 4}, left.As32())
	ADDQ(Imm(8), program)
	Label("test")
	tally := GP64()
	VPBROADCASTD(Mem{Base: program}, m.u(0))
	VPBROADCASTD(Mem{Base: program, Disp: 4}, m.u(1))
	MOVL(Mem{Base: program, Disp: 8}, tally.As32())
	ADDQ(tallies, tally)
	ADDQ(Imm(12), program)
	const behind = 2 // chains, fewer than there are scratch registers
	for turn := range m.chains + behind {
		if turn < m.chains {
			VPSUBD(m.s(turn), m.u(0), m.scratch(turn))
		}
		if c := turn - behind; c >= 0 {
			m.tallyAbove(m.scratch(c), m.u(1), m.at(tally, c))
		}
	}
	DECQ(left)
	JNZ(LabelRef("test"))
	DECQ(rows)
	JNZ(LabelRef("row"))

	m.judge(args, tallies, masks)
	ADDQ(U32(m.chains*m.lanes()/8), masks)
	ADDQ(U32(m.chains*m.bytes), offsets)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// transform makes s of the outputs: shifted, multiplied and rotated so that the
// outputs that a draw matches are a span of neighbouring numbers.
func (m *machine) transform(args reg.Register, src source) {
	from := m.x
	if src.value != nil {
		from = m.s
		m.eachChain(func(c int) { src.value(m, c) })
	}
	if src.shift {
		m.eachChain(func(c int) { VPSRLVD(constant(args, shiftRight), from(c), m.s(c)) })
		from = m.s
	}
	turn := func() { m.eachChain(func(c int) { VPMULLD(constant(args, multiplier), from(c), m.s(c)) }) }
	if !src.shift {
		turn()
	} else {
		unless(constant(args, multiplier), 1, "multiplied", turn)
	}
	unless(constant(args, rotateRight), 0, "rotated", func() {
		m.eachChain(func(c int) { m.rotate(args, m.s(c), m.scratch(c)) })
	})
}

// unless emits what is left out where a constant has the value, which costs no
// instruction of the vectors.
func unless(c Mem, value uint8, done string, emit func()) {
	CMPL(c, Imm(uint64(value)))
	JE(LabelRef(done))
	emit()
	Label(done)
}

// clearTallies sets the tallies of all groups to 0.
func (m *machine) clearTallies(args, tallies reg.Register) {
	at, left := GP64(), GP64()
	m.xor(m.t(0), m.t(0), m.t(0))
	MOVQ(tallies, at)
	MOVQ(arg(args, argGroups), left)
	Label("clear")
	m.eachChain(func(c int) { m.store(m.t(0), m.at(at, c)) })
	ADDQ(U32(m.chains*m.bytes), at)
	DECQ(left)
	JNZ(LabelRef("clear"))
}

// judge writes the mask of the seeds of which some group has its hits.
func (m *machine) judge(args, tallies, masks reg.Register) {
	at, left := GP64(), GP64()
	MOVQ(tallies, at)
	MOVQ(arg(args, argGroups), left)
	m.load(constant(args, below), m.u(0))
	m.eachChain(func(c int) { m.xor(m.t(c), m.t(c), m.t(c)) })
	Label("judge")
	m.eachChain(func(c int) { m.hitBelow(m.u(0), m.at(at, c), m.s(c), m.t(c)) })
	ADDQ(U32(m.chains*m.bytes), at)
	DECQ(left)
	JNZ(LabelRef("judge"))
	m.eachChain(func(c int) { m.storeMask(m.t(c), Mem{Base: masks, Disp: c * m.lanes() / 8}) })
}

// seeds loads x with the seeds of the block: first + offset.
func seeds(m *machine, args, offsets reg.Register) {
	VPBROADCASTD(arg(args, argFirst), m.u(0))
	m.eachChain(func(c int) { VPADDD(m.at(offsets, c), m.u(0), m.x(c)) })
}
