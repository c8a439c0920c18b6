package kernels

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"seedmesh/kernels/src"
)

// A driver without a compiler loads the general form of a kernel, which comes with
// this program, and is given what the search at hand is. See src/general.cu.

// A generalDriver is one without a compiler.
type generalDriver interface {
	// LoadPTX is [driver.Load] for a text in PTX, whose variable "parameters" is set
	// to the bytes given.
	LoadPTX(ptx, parameters []byte, items, found int) (program, error)
}

// A generalRow is a [stageRow]. Its tests follow those of the row before.
type generalRow struct {
	Steps   [2]uint64
	Tests   uint32
	Refused uint32
}

type generalTest struct{ First, Width, Group uint32 }

// generalParameters is search_parameters of src/general.cu, in order and without gaps.
type generalParameters struct {
	SeedXor, Modulus                                                 uint64
	Variant, Drop                                                    uint32
	PerItem, Most, From, Quirk, Plain, Accepted, SeedLeft, LeastSeed uint32
	Shift, Multiplier, Rotate                                        uint32
	RowCount, Groups, Hits                                           uint32
	Rows                                                             [maxProgramTests]generalRow
	Tests                                                            [maxProgramTests]generalTest
}

// ready makes the program of a plan.
func (a *accelerator) ready(p *acceleratorPlan) (program, error) {
	if d, ok := a.driver.(generalDriver); ok {
		return d.LoadPTX(p.ptx(), p.parameters(), maxLaunchItems, maxLaunchFound)
	}
	return a.codes.load(a.driver, p.source(a.driver.Lanes()))
}

// ptx is the general form of the plan's kernel.
func (p *acceleratorPlan) ptx() []byte { return src.Text("ptx/" + p.file() + ".ptx") }

// parameters are the plan's one stage for the general form.
func (p *acceleratorPlan) parameters() []byte {
	st, f := p.stages[0], &p.form
	g := &generalParameters{
		SeedXor: f.start.xor, Modulus: p.modulus, Variant: uint32(p.stream.variant), Drop: uint32(p.drop), PerItem: uint32(p.perItem()), Most: maxLaunchFound, From: uint32(st.from),
		Quirk: uint32(toNumber(f.quirk)), Plain: uint32(toNumber(st.plain)), Accepted: uint32(f.accepted),
		SeedLeft: uint32(f.left + f.start.left), LeastSeed: uint32(f.start.forZero),
		Shift: uint32(f.shift), Multiplier: p.transform.multiplier, Rotate: uint32(p.transform.rotate),
		RowCount: uint32(len(st.rows)), Groups: uint32(st.groups), Hits: uint32(st.hits),
	}
	tests := g.Tests[:0]
	for i, row := range st.rows {
		to := &g.Rows[i]
		copy(to.Steps[:], f.stepBy(row.steps))
		to.Tests, to.Refused = uint32(len(row.tests)), uint32(toNumber(p.refuses(i)))
		for _, t := range row.tests {
			tests = append(tests, generalTest{t.span.first, t.span.last - t.span.first, uint32(t.group)})
		}
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, g); err != nil {
		panic(fmt.Sprintf("kernels: %v", err)) // its fields have sizes
	}
	return b.Bytes()
}
