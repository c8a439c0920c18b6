package kernels

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
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

// A vectorForm is a generator in terms of a kernel. The word that the kernel
// makes is shifted right; with a modulus the output is low plus the word modulo
// the modulus.
type vectorForm struct {
	kernel   int
	step     affine
	start    seeding // of LCGs
	left     int     // bits by which the state of a 32-bit LCG is kept further left
	shift    int
	quirk    bool // mt19937 with the low bit of the other word, as PHP 5 had it
	modulus  uint64
	low      uint64
	accepted uint64 // larger words are drawn again
}

// maxWord is the largest word of a kernel.
const maxWord = 1<<32 - 1

// vectorFormOf is the form of the generators that vectors can run.
func vectorFormOf(s stream) (f vectorForm, ok bool) {
	f.accepted = maxWord
	switch g := s.(type) {
	case *mtStream:
		f.kernel = kernelMt
	case *phpMtStream:
		f.kernel, f.shift = kernelMt, 1
	case *phpMtRangeStream:
		f.kernel, f.low, f.accepted = kernelMt, g.low, g.last
		if g.n <= maxWord {
			f.modulus = g.n
		}
		return f, g.n > 1
	case stepped:
		e, isTwister := g.engine.(*twister)
		f.kernel, f.quirk = kernelMt, true
		return f, isTwister && e.kind.quirk
	case halved:
		f, ok = vectorFormOf(g.stream)
		f.shift++
		return f, ok
	case *xorshift32Stream:
		f.kernel = kernelXorshift32
	case *minstdStream:
		f.kernel, f.step, f.start.forZero = kernelLcg31, affine{mul: minstdStep.mul}, 1
	case *lehmerStream:
		f.kernel, f.step, f.start.forZero = kernelLcg31, affine{mul: g.mul}, 1
		return f, g.prime == mersenne31
	case *compatLcg32Stream:
		f.kernel, f.step = kernelLcg31, affine(compatLcg32Step)
	case *linearStream:
		return f.linear(&g.linear)
	default:
		return f, false
	}
	return f, true
}

// linear completes the form of a generator modulo a power of two.
func (f *vectorForm) linear(l *linear) (vectorForm, bool) {
	f.step, f.start = l.step, l.start
	switch {
	case l.bits <= 32 && l.start.left == 0 && l.start.xor == 0:
		f.kernel, f.left, f.shift = kernelLcg32, 32-l.bits, 32-l.bits+l.shift
		return *f, true
	case l.bits == 48 && l.shift >= 16:
		f.kernel, f.shift = kernelLcg48, l.shift-16
		return *f, true
	}
	return *f, false
}

// constants sets what the generator's kernel reads.
func (f *vectorForm) constants(a *vectorArgs) {
	a.set(constShiftRight, uint32(f.shift))
	a.set(constOne, 1)
	a.set(constBit31, 1<<31)
	a.set(constLow31, mersenne31)
	switch f.kernel {
	case kernelMt:
		a.set(constStepMul, mtFactor)
		a.set(constMatrix, mtMatrix)
		a.set(constTemperB, 0x9d2c5680)
		a.set(constTemperC, 0xefc60000)
		a.set(constAccepted, uint32(f.accepted))
		a.set(constOddHere, 0)
		a.set(constOddAfter, 1)
		if f.quirk {
			a.set(constOddHere, 1)
			a.set(constOddAfter, 0)
		}
	case kernelLcg32:
		a.set(constStepMul, uint32(f.step.mul))
		a.set(constStepAdd, uint32(f.step.add)<<f.left)
		a.set(constSeedLeft, uint32(f.left))
	case kernelLcg31:
		a.setLong(constStepMul, 2*f.step.mul)
		a.setLong(constStepAdd, 2*f.step.add)
		a.set(constLeastSeed, uint32(f.start.forZero))
	case kernelLcg48:
		a.setLong(constStepMul, f.step.mul)
		a.setLong(constStepHigh, bits.RotateLeft64(f.step.mul, 32))
		a.setLong(constStepAdd, f.step.add)
		a.setLong(constSeedLeft, uint64(f.start.left))
		a.setLong(constSeedXor, f.start.xor)
	}
}

// A transform makes the words that one draw matches neighbouring numbers: it
// multiplies and rotates right, as a matcher does.
type transform struct {
	modulus    uint64 // 0 when words are compared whole
	multiplier uint32
	rotate     int
}

// A span is the transformed words from first to last.
type span struct{ first, last uint32 }

// everySpan is every word, which is more than a filter can compare with.
var everySpan = span{0, maxWord}

func newTransform(modulus uint64) transform {
	if modulus == 0 {
		return transform{multiplier: 1}
	}
	m := reduction{modulus}.matcher(point{})
	return transform{modulus, uint32(m.inverse), m.shift}
}

// of is the transformed word.
func (t *transform) of(word uint32) uint32 {
	return bits.RotateLeft32(word*t.multiplier, -t.rotate)
}

// span is where the words equal to value modulo the modulus go. Those are
// value, value+modulus and so on, and their transforms follow each other: with d
// the modulus without its factors of 2, the transform of n before it is rotated
// is (n + w*2^32)/d for the one w below d that makes it whole, which is the same
// w for all of them, so that they keep their order.
func (t *transform) span(value uint32) span {
	first := t.of(value)
	if t.modulus == 0 {
		return span{first, first}
	}
	return span{first, first + uint32((maxWord-uint64(value))/t.modulus)}
}

// A target is a known draw as a filter tests it.
type target struct {
	point int
	spans []span // any of which matches
}

// maxSpans is the most spans of a target.
const maxSpans = 64

// targets are the known draws that vectors can test. The others, which many
// words match, are left to the reference.
func (s *Search) targets(f *vectorForm) (t transform, list []target) {
	o := s.observe
	if o.modulus > s.def.outputs().Last {
		o.modulus = 0 // outputs are compared whole
	}
	t = newTransform(cmp.Or(f.modulus, o.modulus))
	for i, p := range s.points {
		spans := intervalSpans(p)
		if t.modulus != 0 {
			spans = f.residueSpans(o, p, &t)
		}
		if len(spans) <= maxSpans && !slices.Contains(spans, everySpan) {
			list = append(list, target{i, spans})
		}
	}
	return t, list
}

// intervalSpans are the words in a point's interval, which may go around the end
// of all numbers.
func intervalSpans(p point) (list []span) {
	end := p.value + p.width
	if end < p.value {
		list = append(list, span{0, uint32(min(end, maxWord))})
		end = 1<<64 - 1
	}
	if p.value <= maxWord {
		list = append(list, span{uint32(p.value), uint32(min(end, maxWord))})
	}
	return list
}

// residueSpans are the residues, modulo the transform's modulus, of the words
// that match a point, or everySpan for too many.
func (f *vectorForm) residueSpans(o reduction, p point, t *transform) (list []span) {
	if p.width >= maxSpans {
		return []span{everySpan}
	}
	for i := range p.width + 1 {
		value := p.value + i
		if f.modulus == 0 {
			if value <= maxWord {
				list = append(list, t.span(uint32(value)))
			}
			continue
		}
		if o.modulus != 0 && value < f.low { // the first output from low on that is seen so
			value += (f.low - value + o.modulus - 1) / o.modulus * o.modulus
		}
		for f.low <= value && value-f.low < f.modulus && len(list) <= maxSpans {
			list = append(list, t.span(uint32(value-f.low)))
			if o.modulus == 0 {
				break
			}
			value += o.modulus
		}
	}
	return list
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
	form, ok := vectorFormOf(s.def.open())
	if !ok || s.need == 0 {
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
			s.rate(u, f, st, targets[:first])
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
func (s *Search) rate(u *vectorUnit, f *vectorForm, st *stage, targets []target) {
	first := len(targets)
	var chance float64
	for _, t := range targets {
		chance += s.observe.chance(s.points[t.point], s.def.outputs()) / float64(first)
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
	if f.kernel != kernelXorshift32 && f.kernel != kernelLcg31 {
		perRow++ // the shift
	}
	n := 2 * st.groups
	for _, row := range st.rows {
		n += perRow + 3*len(row.tests)
	}
	if f.kernel == kernelMt {
		steps += mtShift - 1
		n += int(st.kept) * 13
		if !st.plain {
			n += int(st.kept) * 13
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
