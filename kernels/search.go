package kernels

import (
	"fmt"
	"slices"
	"sync"
)

// A Search is one generator's part of a [Spec], checked and laid out for
// devices. It never changes after [Spec.Compile].
type Search struct {
	def       *definition
	observe   reduction
	sight     sight
	observed  string  // the observation in its canonical form
	points    []point // known draws, in rising order of index
	draws     int
	need      int
	skip      Bounds
	offset    Bounds
	direction string
	plan      plan

	candidates   []Candidate // that are tested instead of a range of seeds
	strategies   []Strategy  // of a variable skip; nil for a fixed one
	confirm      *Search     // that tests the survivors once more; may be nil
	confirmation confirmation
	tracers      sync.Pool // of *sieve, for records

	analysis *analysis // instead of the test of a seed; nil for a search
}

// A point is a known draw: its place in the window, and the interval that the
// reduced output must lie in, which may go around the end of all numbers.
type point struct {
	index uint64
	value uint64 // the interval's first number
	width uint64 // how many more it has
}

// matches reports whether a reduced output is in the interval.
func (p *point) matches(v uint64) bool { return v-p.value <= p.width }

// A plan is how a seed is tested cheaply before it is tested fully. Positions
// are output numbers less base, the first output that any comparison looks at.
type plan struct {
	base  uint64
	span  uint64 // positions that the full test may look at
	head  uint64 // positions that the first test looks at
	first int    // known draws in the first test
	hits  int    // how many of them some skip and offset must match

	// When first is 1, one matcher is run over these stretches of the head.
	matcher   matcher
	stretches []stretch
}

type stretch struct{ from, end uint64 }

// Compile checks the spec and lays it out for one of its generators.
func (s *Spec) Compile(generator string) (*Search, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if !slices.Contains(s.Generators, generator) {
		return nil, &SpecError{
			fmt.Sprintf("the generator %q is not one of the search's", clip(generator)),
			"name it with --generator",
		}
	}
	def, err := lookup(generator)
	if err != nil {
		return nil, err
	}
	return s.compile(def)
}

// A layer is one test of a part of the draws: with strategies a variable skip,
// without them a fixed one.
type layer struct {
	direction  string
	from, end  int // of the draws
	need       uint32
	strategies []Strategy
}

// compile lays a valid spec out for a generator: a search, and what its
// survivors must pass besides.
func (s *Spec) compile(def *definition) (*Search, error) {
	if s.Analysis != nil {
		return s.compileAnalysis(def)
	}
	first := layer{direction: or(s.Direction, Forward), end: len(s.Draws), need: s.MinMatches}
	if def.reversed {
		first.direction = ReverseWindow
	}
	second := first
	var how confirmation
	switch mode := s.modeOf(def); {
	case mode == ModeHybrid:
		first.strategies = s.strategies()
	case mode == ModeTwoPhase:
		how = anew
		second.need, second.strategies = s.ConfirmMatches, s.strategies()
	case first.direction == Bidirectional:
		how = heldOut
		first.end, second.from = int(s.Split), int(s.Split)
		second.need = s.ConfirmMatches
	case first.direction == CompatBidirectional:
		how = besides
		second.direction = ReverseWindow
	}
	search, err := s.layer(def, first)
	if err != nil || how == "" {
		return search, err
	}
	search.confirmation = how
	search.confirm, err = s.layer(def, second)
	return search, err
}

// layer lays one test out.
func (s *Spec) layer(def *definition, l layer) (*Search, error) {
	observe, err := parseObserve(s.Observe)
	if err != nil {
		return nil, err
	}
	sight, err := observe.on(def)
	if err != nil {
		return nil, err
	}
	if l.direction == Backward {
		if sight.def, err = sight.def.backwards(); err != nil {
			return nil, err
		}
	}
	candidates := s.candidatesOf(def.Name)
	search := &Search{
		def: sight.def, observe: sight.reduce, sight: sight, observed: observe.String(), draws: l.end - l.from, need: int(l.need),
		skip: skipsOf(candidates, s.Skip), offset: s.Offset, direction: l.direction, strategies: l.strategies, candidates: candidates,
	}
	draws := s.Draws
	if l.direction == ReverseWindow || l.direction == Backward {
		draws = slices.Clone(draws)
		slices.Reverse(draws)
	}
	for i := l.from; i < l.end; i++ {
		if d := draws[i]; d.Known {
			search.points = append(search.points, sight.point(uint64(i), d))
		}
	}
	if l.strategies != nil {
		search.layOutHybrid()
	} else {
		search.layOut()
	}
	return search, nil
}

// layOut chooses the first test. Of any need that allows a misses, some of the
// first a+1 known draws match; with one draw more, at least two do.
func (s *Search) layOut() {
	misses := len(s.points) - s.need
	p := &s.plan
	p.first = 1
	if misses > 0 {
		p.first = min(misses+2, len(s.points))
	}
	p.hits = p.first - misses
	p.base = s.start(s.skip.Min, s.offset.Min) + s.points[0].index*(uint64(s.skip.Min)+1)
	p.head = s.position(s.skip.Max, s.offset.Max, p.first-1) + 1
	p.span = s.position(s.skip.Max, s.offset.Max, len(s.points)-1) + 1
	p.matcher = s.observe.matcher(s.points[0])
	if p.first > 1 {
		return
	}
	width := s.offset.Count()
	stride := s.position(s.skip.Min+1, s.offset.Min, 0) // how far one more skip moves the first draw
	if s.skip.Min == s.skip.Max || width >= stride {
		p.stretches = []stretch{{0, p.head}}
		return
	}
	for i := range s.skip.Count() {
		p.stretches = append(p.stretches, stretch{i * stride, i*stride + width})
	}
}

// start is the output number of the window's first draw.
func (s *Search) start(skip, offset uint32) uint64 {
	if s.def.leadSkip {
		return uint64(offset) + uint64(skip)
	}
	return uint64(offset)
}

// position is where the i-th known draw is, counted from the plan's base.
func (s *Search) position(skip, offset uint32, i int) uint64 {
	return s.start(skip, offset) + s.points[i].index*(uint64(skip)+1) - s.plan.base
}

// Generator is the registered name.
func (s *Search) Generator() string { return s.def.Name }

// Family is the label of the search's survivors in every output.
func (s *Search) Family() string { return s.def.Name }

// Direction is one of the directions of a [Spec].
func (s *Search) Direction() string { return s.direction }

// Known is how many draws are compared: the total of every record.
func (s *Search) Known() int { return len(s.points) }

// Draws is the length of the window, unknown draws included.
func (s *Search) Draws() int { return s.draws }

// Need is how many draws must match.
func (s *Search) Need() int { return s.need }

// Skip is how many outputs may have been discarded between two draws.
func (s *Search) Skip() Bounds { return s.skip }

// Offset is how many outputs may have been discarded before the first draw.
func (s *Search) Offset() Bounds { return s.offset }

// Observe is the observation in its canonical form.
func (s *Search) Observe() string { return s.observed }

// Space is the whole seed space of the generator, or the positions in the list
// of its candidates.
func (s *Search) Space() Range {
	if s.candidates != nil {
		return Range{0, uint64(len(s.candidates)) - 1}
	}
	return s.def.Space()
}

// Over is the range to search when the asked one was asked for: a list of
// candidates is searched as a whole.
func (s *Search) Over(asked Range) Range {
	if s.candidates != nil {
		return s.Space()
	}
	return asked
}

// CheckSeeds refuses a range that goes beyond the generator's seed space.
func (s *Search) CheckSeeds(r Range) error {
	space := s.Space()
	if r.First > r.Last || r.Last > space.Last {
		return &SpecError{
			fmt.Sprintf("the seeds %s are not in the seed space %s of %s", r, space, s.def.Name),
			fmt.Sprintf("use --seeds %s or a part of it", space),
		}
	}
	return nil
}

// StepsPerSeed is the work of one seed without early stopping, in generator
// advances: the sum over all skips s and offsets o of o + draws*(s+1), or
// 2^64-1 when that is more.
//
// With a variable skip it is what the strategies look at when the skip stays the
// one they expect first.
func (s *Search) StepsPerSeed() uint64 {
	if s.analysis != nil {
		return s.analysisSteps()
	}
	if s.strategies != nil {
		return s.hybridSteps()
	}
	if s.candidates != nil {
		return s.candidateSteps()
	}
	skips, offsets := s.skip.Count(), s.offset.Count()
	sumOffset := sumTo(uint64(s.offset.Max)) - sumTo(uint64(s.offset.Min)) + uint64(s.offset.Min)
	sumSkip := sumTo(uint64(s.skip.Max)) - sumTo(uint64(s.skip.Min)) + uint64(s.skip.Min) + skips
	return addSat(mulSat(skips, sumOffset), mulSat(mulSat(offsets, uint64(s.draws)), sumSkip))
}

// skips is how many skips are tried for a seed.
func (s *Search) skips() uint64 {
	if s.candidates != nil {
		return 1
	}
	return s.skip.Count()
}

// Grain is how many seeds make a small first probe: a quarter of a second on
// one core, roughly.
func (s *Search) Grain() uint64 {
	if s.analysis != nil {
		return max(250_000_000/s.cost(), 1)
	}
	return min(max(250_000_000/s.cost(), 256), 1<<20)
}

// cost is a rough guess of the nanoseconds that one seed takes on one core.
func (s *Search) cost() uint64 {
	if s.analysis != nil {
		return s.analysisCost()
	}
	outputs := addSat(s.def.setupSteps/2, mulSat(2, s.plan.head))
	if s.strategies != nil {
		return addSat(outputs, s.hybridSteps())
	}
	if s.plan.first == 1 {
		return addSat(3, outputs)
	}
	pairs := mulSat(s.skips(), s.offset.Count())
	return addSat(outputs, mulSat(pairs, uint64(s.plan.first)))
}

// addSat is a+b, or 2^64-1 when that is more.
func addSat(a, b uint64) uint64 {
	if a+b < a {
		return 1<<64 - 1
	}
	return a + b
}
