package kernels

import (
	"fmt"
	"math"
	"strings"

	"seedmesh/kernels/src"
)

// families are the kinds of generator as src names their files.
var families = [vectorKernels]string{
	kernelMt: "mt19937", kernelXorshift32: "xorshift32", kernelLcg32: "lcg32", kernelLcg31: "lcg31", kernelLcg48: "lcg48",
}

// Bounds of one launch.
const (
	maxLaunchItems  = 1 << 18
	maxLaunchFound  = 1 << 20 // candidates; a launch with more is made again with fewer seeds
	maxProgramTests = 1 << 10 // comparisons in a program: what a compiler takes a second for
)

// An acceleratorPlan is how an accelerator finds the candidates of a search.
type acceleratorPlan struct {
	vectorPlan
	stream    streamKernel // instead of the form's kernel
	narrowing              // of a stream's outputs
}

// file is that of the kernel in src, without its ending.
func (p *acceleratorPlan) file() string { return or(p.stream.file, families[p.form.kernel]) }

const variableSkip = "its skip may change between two draws, which only the CPU follows"

// planAccelerator chooses the one stage that finds the candidates of a search.
// It fails with an [*UnsupportedError].
func (s *Search) planAccelerator(device string) (*acceleratorPlan, error) {
	no := func(reason string) (*acceleratorPlan, error) {
		return nil, &UnsupportedError{device, s.def.Name, reason}
	}
	switch {
	case s.analysis != nil:
		return no("it is an analysis, whose records are computed alike on every machine")
	case s.def.notAccelerated() != "":
		return no(s.def.notAccelerated())
	case s.candidates != nil:
		return no("its seeds are a list of candidates")
	case s.strategies != nil:
		return no(variableSkip)
	}
	best := &acceleratorPlan{vectorPlan: vectorPlan{form: streamForm, cost: math.Inf(1)}, stream: s.def.kernel}
	var targets []target
	if best.stream == (streamKernel{}) {
		best.form, _ = vectorFormOf(s.def.open())
		best.transform, targets = s.targets(&best.form)
	} else if best.narrowing, best.transform, targets = s.narrow(); targets == nil {
		return no("its draws cannot be told by 32 bits of an output")
	}
	for _, st := range s.stages(acceleratorUnit, &best.form, &best.transform, targets) {
		if cost := st.cost + st.passes*s.testCost(); cost < best.cost && st.comparisons() <= maxProgramTests {
			best.stages, best.cost = []*stage{st}, cost
		}
	}
	if best.stages == nil {
		return no(fmt.Sprintf("the skips and offsets take more than the %d comparisons of a program", maxProgramTests))
	}
	return best, nil
}

// How many seeds a work item looks at: more of them where each is quick, so that
// what the items report is little beside the work; fewer where that already gives
// all units of a device something to do in a short launch.
const (
	quickPerItem = 1024
	heavyPerItem = 256
	heavySeed    = 400 // instructions for a seed
)

func (p *acceleratorPlan) perItem() uint64 {
	if p.stages[0].instructions(acceleratorUnit, &p.form, &p.transform) > heavySeed {
		return heavyPerItem
	}
	return quickPerItem
}

// launchMemory is how many bytes on a device the launches of a program use.
const launchMemory = 16 + 16*maxLaunchItems + 4*(1+maxLaunchFound)

// acceleratorUnit is a rough idea of an accelerator, for the choice of a stage.
var acceleratorUnit = &vectorUnit{lanes: 1 << 10, rotate: 1, step48: 2}

// comparisons is how many the stage makes for a seed, those included that only
// look at a group's tally.
func (st *stage) comparisons() int {
	n := st.groups
	for _, row := range st.rows {
		n += len(row.tests)
	}
	return n
}

// source is the program of a plan's one stage, with everything that is known
// of the search as constants.
func (p *acceleratorPlan) source(lanes int) string {
	var b strings.Builder
	st := p.stages[0]
	for _, c := range []struct {
		name  string
		value uint64
	}{
		{"LANES", uint64(lanes)},
		{"PER_ITEM", p.perItem()},
		{"MOST", maxLaunchFound},
		{"FROM", st.from},
		{"KEPT", max(st.kept, 1)},
		{"QUIRK", toNumber(p.form.quirk)},
		{"PLAIN", toNumber(st.plain)},
		{"ACCEPTED", p.form.accepted},
		{"SEED_LEFT", uint64(p.form.left + p.form.start.left)},
		{"SEED_XOR", p.form.start.xor},
		{"LEAST_SEED", p.form.start.forZero},
		{"VARIANT", p.stream.variant},
		{"MODULUS", p.modulus},
		{"DROP", uint64(p.drop)},
	} {
		suffix := "u"
		if c.value > maxWord {
			suffix = "ul"
		}
		fmt.Fprintf(&b, "#define %s %d%s\n", c.name, c.value, suffix)
	}
	b.Write(src.Text("prelude.h"))
	b.Write(src.Text(p.file() + ".h"))
	if p.stream != (streamKernel{}) {
		b.Write(src.Text("stream.h"))
	}
	p.writeCandidates(&b, st)
	b.Write(src.Text("search.h"))
	return b.String()
}

func toNumber(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// writeCandidates writes the stage out, row by row, as the function that gives
// a number above 0 for every seed that passes.
func (p *acceleratorPlan) writeCandidates(b *strings.Builder, st *stage) {
	fmt.Fprintf(b, "\nFN UV seen(UV word) {\n\tUV x = (word >> %du) * %du;\n", p.form.shift, p.transform.multiplier)
	if r := p.transform.rotate; r != 0 {
		fmt.Fprintf(b, "\tx = (x >> %du) | (x << %du);\n", r, 32-r)
	}
	fmt.Fprintf(b, "\treturn x;\n}\n\nFN UV candidates(u64 first) {\n\tstate g;\n\tUV x, hit = 0;\n")
	for group := range st.groups {
		fmt.Fprintf(b, "\tUV t%d = 0;\n", group)
	}
	fmt.Fprintf(b, "\tstart(&g, first);\n")
	for i, row := range st.rows {
		if p.refuses(i) {
			fmt.Fprintf(b, "\tx = seen(refused(&g) << %du);\n", p.form.shift)
		} else {
			fmt.Fprintf(b, "\tstep(&g, %s);\n\tx = seen(word(&g));\n", p.form.writtenSteps(row.steps))
		}
		for _, t := range row.tests {
			fmt.Fprintf(b, "\tt%d += HIT(x - %du <= %du);\n", t.group, t.span.first, t.span.last-t.span.first)
		}
	}
	for group := range st.groups {
		fmt.Fprintf(b, "\thit |= HIT(t%d >= %du);\n", group, st.hits)
	}
	fmt.Fprintf(b, "\treturn hit;\n}\n\n")
}

// refuses tells the row of the stage that asks whether a word is drawn again.
func (p *acceleratorPlan) refuses(row int) bool {
	return p.form.accepted != maxWord && row == len(p.stages[0].rows)-1
}

// stepBy is how a kernel is told to make n steps: their number, or the one
// affine step that they are together.
func (f *vectorForm) stepBy(n uint64) []uint64 {
	switch f.kernel {
	case kernelLcg32:
		leap := f.step.power(n)
		return []uint64{leap.mul & maxWord, leap.add << f.left & maxWord}
	case kernelLcg31:
		leap := affine31(f.step).power(n)
		return []uint64{leap.mul, leap.add}
	case kernelLcg48:
		leap := f.step.power(n)
		return []uint64{leap.mul & (1<<48 - 1), leap.add & (1<<48 - 1)}
	}
	return []uint64{n}
}

// writtenSteps is stepBy as arguments in a source.
func (f *vectorForm) writtenSteps(n uint64) string {
	suffix := "u"
	if f.kernel == kernelLcg48 {
		suffix = "ul"
	}
	var list []string
	for _, number := range f.stepBy(n) {
		list = append(list, fmt.Sprintf("%d%s", number, suffix))
	}
	return strings.Join(list, ", ")
}
