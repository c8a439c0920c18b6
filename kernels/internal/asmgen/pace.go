package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// paceRounds is how many instructions each register gets in a turn of the loop.
const paceRounds = 4

// pace emits the function that runs `rows` turns of a loop of independent
// additions, as many in a turn as paceRounds times the registers: the pace at
// which the machine can issue vector instructions at best.
func pace(m *machine) {
	TEXT("pace"+m.name, 4, signature)
	args := Load(Param("a"), GP64())
	left := GP64()
	MOVQ(arg(args, argRows), left)
	for _, v := range m.vec {
		m.xor(v, v, v)
	}
	Label("turn")
	for range paceRounds {
		for _, v := range m.vec {
			VPADDD(v, v, v)
		}
	}
	DECQ(left)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
}
