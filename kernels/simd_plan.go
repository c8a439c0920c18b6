package kernels

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strings"
)

// Vector kernels: how a generator makes its next outputs from its state.
const (
	kernelMt         = iota // initialisation and first outputs of mt19937
	kernelXorshift32        // x^=x<<13; x^=x>>17; x^=x<<5
	kernelLcg32             // affine modulo 2^32 or a smaller power of two
	kernelLcg31             // affine modulo 2^31-1
	kernelLcg48             // affine modulo 2^48; the word is bits 16 to 47
	vectorKernels
)

// A vectorForm is a generator in terms of a kernel. The output is the 32-bit
// word of the kernel shifted right, and then taken modulo modulus if that is
// not 0.
type vectorForm struct {
	kernel    int
	step      affine
	seedLeft  uint32 // bits by which an LCG's state is kept further left
	seedXor   uint64 // a 48-bit LCG's state is the seed with these bits changed
	shift     uint32
	modulus   uint64
	leastSeed uint32
	accepted  uint32 // larger words are drawn again; 0: none are
}

// vectorForms are the generators that have vector kernels, each with its
// _reverse name.
var vectorForms = map[string]vectorForm{
	"compat:java_lcg":    {kernel: kernelLcg48, step: javaStep},
	"java_random_next32": {kernel: kernelLcg48, step: javaStep, seedXor: javaStep.mul},
	"compat:lcg32":       {kernel: kernelLcg31, step: affine{1103515245, 12345}},
	"compat:minstd":      {kernel: kernelLcg31, step: affine{mul: 48271}, leastSeed: 1},
	"compat:mt19937":     {kernel: kernelMt},
	"compat:xorshift32":  {kernel: kernelXorshift32},
	"lcg32":              {kernel: kernelLcg32, step: affine{1664525, 1013904223}},
	"minstd_rand":        {kernel: kernelLcg31, step: affine{mul: 48271}, leastSeed: 1},
	"msvc_rand":          {kernel: kernelLcg32, step: affine{214013, 2531011}, seedLeft: 1, shift: 17},
	"mt19937":            {kernel: kernelMt},
	"php_mt_rand":        {kernel: kernelMt, shift: 1},
	"php_mt_rand_0_999":  {kernel: kernelMt, modulus: 1000, accepted: phpLast1000},
	"xorshift32":         {kernel: kernelXorshift32},
}

// constants sets what the generator's kernel reads.
func (f *vectorForm) constants(a *vectorArgs) {
	a.set(constShiftRight, f.shift)
	a.set(constSeedLeft, f.seedLeft)
	a.set(constLeastSeed, f.leastSeed)
	a.set(constOne, 1)
	a.set(constBit31, 1<<31)
	a.set(constLow31, mersenne31)
	switch f.kernel {
	case kernelMt:
		a.set(constStepMul, mtFactor)
		a.set(constMatrix, mtMatrix)
		a.set(constTemperB, 0x9d2c5680)
		a.set(constTemperC, 0xefc60000)
		a.set(constAccepted, f.accepted)
		if f.accepted == 0 {
			a.set(constAccepted, 1<<32-1)
		}
	case kernelLcg32:
		a.set(constStepMul, uint32(f.step.mul))
		a.set(constStepAdd, uint32(f.step.add)<<f.seedLeft)
	case kernelLcg31:
		a.setLong(constStepMul, 2*f.step.mul&(1<<32-1))
		a.setLong(constStepAdd, 2*f.step.add)
	case kernelLcg48:
		a.setLong(constStepMul, f.step.mul)
		a.setLong(constStepHigh, bits.RotateLeft64(f.step.mul, 32))
		a.setLong(constStepAdd, f.step.add)
		a.setLong(constSeedLeft, uint64(f.seedLeft))
		a.setLong(constSeedXor, f.seedXor)
	}
}

// A transform makes the outputs that are observed as one value neighbouring
// numbers: it multiplies and rotates right, as a matcher does.
type transform struct {
	modulus    uint64 // 0 when whole outputs are observed
	multiplier uint32
	rotate     int
}

// A span is the transformed outputs from first to last.
type span struct{ first, last uint32 }

func newTransform(modulus uint64) transform {
	if modulus == 0 {
		return transform{multiplier: 1}
	}
	m := observation{modulus}.matcher(0)
	return transform{modulus, uint32(m.inverse), m.shift}
}

// of is the transformed output.
func (t *transform) of(output uint32) uint32 {
	return bits.RotateLeft32(output*t.multiplier, -t.rotate)
}

// span is where the outputs equal to value modulo the modulus go. Those are
// value, value+modulus and so on, and their transforms follow each other: with d
// the modulus without its factors of 2, the transform of n before it is rotated
// is (n + w*2^32)/d for the one w below d that makes it whole, which is the same
// w for all of them, so that they keep their order. ok is false when no output
// is equal to value.
func (t *transform) span(value uint64) (s span, ok bool) {
	if value > math.MaxUint32 {
		return span{}, false
	}
	first := t.of(uint32(value))
	if t.modulus == 0 {
		return span{first, first}, true
	}
	return span{first, first + uint32((math.MaxUint32-value)/t.modulus)}, true
}

// maxSpans is the most spans of one draw that a filter tests.
const maxSpans = 16

// vectorSpans lays out every known draw, and says whether vectors can test them.
func (s *Search) vectorSpans(f *vectorForm) (t transform, spans [][]span, ok bool) {
	o := s.observe
	if o.modulus > s.def.outputs().Last {
		o.modulus = 0 // outputs are observed whole
	}
	t = newTransform(cmp.Or(f.modulus, o.modulus))
	for _, p := range s.points {
		var of []span
		for value := p.value; len(of) <= maxSpans; value += o.modulus {
			if sp, ok := t.span(value); ok && (f.modulus == 0 || value < f.modulus) {
				of = append(of, sp)
			}
			if f.modulus == 0 || o.modulus == 0 || value >= f.modulus {
				break
			}
		}
		if len(of) > maxSpans {
			return transform{}, nil, false
		}
		spans = append(spans, of)
	}
	return t, spans, true
}

// A vectorPlan is how vectors find the candidates of a search: the stages look
// at ever fewer seeds, ever more closely.
type vectorPlan struct {
	form      vectorForm
	transform transform
	stages    []*stage
	cost      float64 // nanoseconds for each seed of the range, roughly
}

// maxVectorBlock is the most seeds of one block of a vector search.
const maxVectorBlock = 1 << 20

// blockSeeds is how many seeds make a block: whole windows.
func (p *vectorPlan) blockSeeds() uint64 {
	windows := uint64(blockNanos / p.cost / vectorWindow)
	return min(max(windows*vectorWindow, vectorWindow), maxVectorBlock)
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
// vectors cannot find the candidates.
func (s *Search) planVectors(u *vectorUnit) (plan *vectorPlan, ok bool) {
	form, ok := vectorForms[strings.TrimSuffix(s.def.Name, "_reverse")]
	if !ok || s.need == 0 {
		return nil, false
	}
	t, spans, ok := s.vectorSpans(&form)
	if !ok {
		return nil, false
	}
	stages := s.stages(u, &form, &t, spans)
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

// stages are those that are possible, by how many draws they look at.
func (s *Search) stages(u *vectorUnit, f *vectorForm, t *transform, spans [][]span) (list []*stage) {
	misses := len(s.points) - s.need
	for first := misses + 1; first <= len(s.points); first++ {
		if first > misses+maxFirst && first < len(s.points) {
			continue
		}
		if st, ok := s.newStage(f, spans[:first], first-misses); ok {
			st.refuse(f, t)
			st.untemper(f, t)
			s.rate(u, f, st, first)
			list = append(list, st)
		}
	}
	return list
}

// newStage lays out the stage that looks at the first draws, of which spans are
// given, for so many hits.
func (s *Search) newStage(f *vectorForm, spans [][]span, hits int) (*stage, bool) {
	pairs := mulSat(s.skip.Count(), s.offset.Count())
	last := s.plan.base + s.position(s.skip.Max, s.offset.Max, len(spans)-1)
	if mulSat(pairs, uint64(len(spans))) > maxStageTests || last >= maxStageSteps ||
		f.kernel == kernelMt && last >= mtRowsMost || hits > 1 && pairs > maxStageGroups {
		return nil, false
	}
	at := map[uint64][]stageTest{} // by output number
	group := 0
	for skip := s.skip.Min; skip <= s.skip.Max; skip++ {
		for offset := s.offset.Min; offset <= s.offset.Max; offset++ {
			for i, of := range spans {
				output := s.plan.base + s.position(skip, offset, i)
				for _, sp := range of {
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
	if f.accepted == 0 && f.kernel == kernelMt {
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
	if f.accepted == 0 || len(st.rows) == 0 {
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
func (s *Search) rate(u *vectorUnit, f *vectorForm, st *stage, first int) {
	var chance float64
	for _, p := range s.points[:first] {
		chance += s.observe.chance(p.value, s.def.outputs()) / float64(first)
	}
	pairs := float64(mulSat(s.skip.Count(), s.offset.Count()))
	st.passes = min(1, pairs*math.Exp(logBinomialTail(first, st.hits, chance)))

	st.cost = st.instructions(u, f) / float64(u.lanes) / roughPace
}

// roughPace is how many vector instructions one core issues in a nanosecond.
const roughPace = 10

// instructions is how many vector instructions the stage takes for one vector
// of seeds, those left out that only move data: the work that no other order of
// the same instructions saves.
func (st *stage) instructions(u *vectorUnit, f *vectorForm) float64 {
	step := [vectorKernels]uint64{kernelMt: 4, kernelXorshift32: 6, kernelLcg32: 2, kernelLcg31: 13, kernelLcg48: u.step48}[f.kernel]
	steps, perRow := st.from+st.kept, 1+u.rotate
	if f.kernel == kernelMt || f.kernel == kernelLcg32 {
		perRow++ // the shift
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
		n += share * st.instructions(u, &p.form)
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
