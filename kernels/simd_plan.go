package kernels

import (
	"math"
	"slices"
)

// A vectorPlan is how vectors find the candidates of a search: the stages look
// at ever fewer seeds, ever more closely.
type vectorPlan struct {
	form      vectorForm
	transform transform
	stages    []*stage
	cost      float64 // nanoseconds for each seed of the range, roughly
}

// unsureOfZero says that the kernels do not know what the seed 0 stands for.
func (p *vectorPlan) unsureOfZero() bool {
	return p.form.start.forZero != 0 && p.form.kernel != kernelLcg31
}

// maxVectorBlock is the most seeds of one block of a vector search.
const maxVectorBlock = 1 << 22

// blockSeeds is how many seeds make a block: whole windows, if these are quick.
func (p *vectorPlan) blockSeeds() uint64 {
	n := uint64(blockNanos / p.cost)
	if n > vectorWindow {
		return min(n/vectorWindow*vectorWindow, maxVectorBlock)
	}
	return max(n, vectorBatch)
}

// Bounds of a stage, so that its memory stays in the caches.
const (
	maxStageTests  = 1 << 15
	maxStageGroups = 1 << 9
	maxStageSteps  = 1 << 13 // outputs of a seed
)

// A stage asks that of the first known draws some skip and offset match as many
// as every survivor must.
type stage struct {
	rows       []stageRow
	groups     int     // pairs of skip and offset, or one when any match is enough
	hits       int     // that a group needs
	from, kept uint64  // outputs that are made
	plain      bool    // the outputs of mt19937 are tested before they are tempered
	passes     float64 // expected share of the wrong seeds that pass
	cost       float64 // nanoseconds for each seed that is looked at, roughly
}

// A stageRow is an output that is tested.
type stageRow struct {
	steps uint64 // from the row before, or from the seed
	tests []stageTest
}

type stageTest struct {
	span  span
	group int
}

// planVectors is the cheapest plan of one or two stages; ok is false when
// vectors cannot find the candidates: no kernel makes the outputs, every seed is
// tested fully, or what is searched are not the generator's seeds.
func (s *Search) planVectors(u *vectorUnit) (plan *vectorPlan, ok bool) {
	form, ok := vectorFormOf(s.def.open())
	if !ok || s.plan.hits <= 0 || s.strategies != nil || s.candidates != nil {
		return nil, false
	}
	t, targets := s.targets(&form)
	stages := s.stages(u, &form, &t, targets)
	best := &vectorPlan{form: form, transform: t, cost: math.Inf(1)}
	for i, a := range stages {
		if cost := a.cost + a.passes*s.testCost(); cost < best.cost {
			best.stages, best.cost = []*stage{a}, cost
		}
		for _, b := range stages[i+1:] {
			if cost := a.cost + a.passes*b.cost + b.passes*s.testCost(); cost < best.cost {
				best.stages, best.cost = []*stage{a, b}, cost
			}
		}
	}
	return best, len(best.stages) > 0
}

// maxFirst is how many draws beyond the misses the stages short of all draws
// look at.
const maxFirst = 8

// stages are those that are possible, by how many targets they look at.
func (s *Search) stages(u *vectorUnit, f *vectorForm, t *transform, targets []target) (list []*stage) {
	misses := len(s.points) - s.need
	for first := misses + 1; first <= len(targets); first++ {
		if first > misses+maxFirst && first < len(targets) {
			continue
		}
		if st, ok := s.newStage(f, targets[:first], first-misses); ok {
			st.refuse(f, t)
			st.untemper(f, t)
			s.rate(u, f, t, st, targets[:first])
			list = append(list, st)
		}
	}
	return list
}

// newStage lays out the stage that looks at the first targets for so many hits.
func (s *Search) newStage(f *vectorForm, targets []target, hits int) (*stage, bool) {
	pairs := mulSat(s.skip.Count(), s.offset.Count())
	last := s.plan.base + s.position(s.skip.Max, s.offset.Max, targets[len(targets)-1].point)
	if mulSat(pairs, uint64(len(targets))) > maxStageTests || last >= maxStageSteps ||
		f.kernel == kernelMt && last >= mtRowsMost || hits > 1 && pairs > maxStageGroups {
		return nil, false
	}
	at := map[uint64][]stageTest{} // by output number
	group := 0
	for skip := s.skip.Min; skip <= s.skip.Max; skip++ {
		for offset := s.offset.Min; offset <= s.offset.Max; offset++ {
			for _, target := range targets {
				output := s.plan.base + s.position(skip, offset, target.point)
				for _, sp := range target.spans {
					if test := (stageTest{sp, group}); hits > 1 || !slices.Contains(at[output], test) {
						at[output] = append(at[output], test)
					}
				}
			}
			if hits > 1 {
				group++
			}
		}
	}
	st := &stage{groups: max(group, 1), hits: hits}
	st.layOut(at, f)
	return st, len(st.rows) > 0
}

// layOut puts the tests in order of their outputs.
func (st *stage) layOut(at map[uint64][]stageTest, f *vectorForm) {
	outputs := make([]uint64, 0, len(at))
	for output := range at {
		outputs = append(outputs, output)
	}
	slices.Sort(outputs)
	if len(outputs) == 0 {
		return
	}
	if f.accepted == maxWord && f.kernel == kernelMt {
		st.from = outputs[0]
	}
	next := st.from
	for _, output := range outputs {
		st.rows = append(st.rows, stageRow{output + 1 - next, at[output]})
		next = output + 1
	}
	st.kept = next - st.from
}

// refuse makes a hit of every seed of which a word is drawn again, since its
// outputs are not where the stage looks for them. The row behind the outputs
// says which.
func (st *stage) refuse(f *vectorForm, t *transform) {
	if f.accepted == maxWord || len(st.rows) == 0 {
		return
	}
	refused := t.of(1)
	row := stageRow{steps: 1}
	for range st.hits {
		row.tests = append(row.tests, stageTest{span{refused, refused}, 0})
	}
	st.rows = append(st.rows, row)
}

// untemper saves the tempering of every output where whole outputs are looked
// for: those are untempered once.
func (st *stage) untemper(f *vectorForm, t *transform) {
	if f.kernel != kernelMt || f.shift != 0 || t.modulus != 0 {
		return
	}
	for _, row := range st.rows {
		for _, test := range row.tests {
			if test.span.first != test.span.last {
				return
			}
		}
	}
	st.plain = true
	for _, row := range st.rows {
		for i, test := range row.tests {
			word := mtUntemper(test.span.first)
			row.tests[i].span = span{word, word}
		}
	}
}

// mtUntemper is the word that mtTemper makes y of.
func mtUntemper(y uint32) uint32 {
	y ^= y >> 18
	y ^= y << 15 & 0xefc60000
	x := y
	for range 4 { // each round makes 7 more bits right
		x = y ^ x<<7&0x9d2c5680
	}
	y = x
	for range 2 { // and here 11
		x = y ^ x>>11
	}
	return x
}

// rate estimates what the stage costs and how many wrong seeds pass.
func (s *Search) rate(u *vectorUnit, f *vectorForm, t *transform, st *stage, targets []target) {
	first := len(targets)
	var chance float64
	for _, t := range targets {
		chance += s.observe.chance(s.points[t.point], s.def.outputs()) / float64(first)
	}
	pairs := float64(mulSat(s.skip.Count(), s.offset.Count()))
	st.passes = min(1, pairs*math.Exp(logBinomialTail(first, st.hits, chance)))

	st.cost = st.instructions(u, f, t) / float64(u.lanes) / roughPace
}

// roughPace is how many vector instructions one core issues in a nanosecond.
const roughPace = 10

// instructions is how many vector instructions the stage takes for one vector
// of seeds, those left out that only move data: the work that no other order of
// the same instructions saves.
func (st *stage) instructions(u *vectorUnit, f *vectorForm, t *transform) float64 {
	step := [vectorKernels]uint64{kernelMt: 4, kernelXorshift32: 6, kernelLcg32: 2, kernelLcg31: 13, kernelLcg48: u.step48}[f.kernel]
	steps, perRow := st.from+st.kept, 0
	shifts := f.kernel != kernelXorshift32 && f.kernel != kernelLcg31
	if shifts {
		perRow++
	}
	if t.multiplier != 1 || !shifts {
		perRow++
	}
	if t.rotate != 0 {
		perRow += u.rotate
	}
	n := 2 * st.groups
	for _, row := range st.rows {
		n += perRow + 3*len(row.tests)
	}
	if f.kernel == kernelMt {
		steps += mtShift - 1
		n += int(st.kept) * 10
		if !st.plain {
			n += int(st.kept) * 10
		}
	}
	return float64(step*steps) + float64(n)
}

// instructions is the work of the whole plan for one vector of seeds.
func (p *vectorPlan) instructions(u *vectorUnit) (n float64) {
	share := 1.0
	for _, st := range p.stages {
		n += share * st.instructions(u, &p.form, &p.transform)
		share = st.passes
	}
	return n
}

// testCost is a rough guess of the nanoseconds that the reference takes for the
// full test of a seed.
func (s *Search) testCost() float64 {
	pairs := float64(mulSat(s.skip.Count(), s.offset.Count()))
	return 500 + 2*float64(s.def.setupSteps) + 3*pairs*float64(len(s.points)-s.need+1)
}

// encode writes the stage as the kernels read it: for each row its steps and
// tests, for each test the numbers that make it one comparison, and the place
// of its tally in bytes.
func (st *stage) encode(u *vectorUnit) []uint32 {
	var program []uint32
	for _, row := range st.rows {
		program = append(program, uint32(row.steps), uint32(len(row.tests)))
		for _, t := range row.tests {
			program = append(program,
				t.span.first+math.MaxInt32,
				uint32(math.MaxInt32-1)-(t.span.last-t.span.first),
				uint32(t.group*u.blockSeeds()*4))
		}
	}
	return program
}
