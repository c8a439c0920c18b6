package kernels

import (
	"errors"
	"fmt"
	"slices"
)

// Types of an [Analysis]; docs/ANALYSIS.md says what their numbers mean.
const (
	TypeAnalysis    = "analysis"    // each seed's stream on its own: chi-square, runs, lags
	TypeCorrelation = "correlation" // with itself at lags, with neighbouring seeds' streams, with draws
)

// Limits of an analysis.
const (
	MinSamples      = 20      // draws of each stream
	MaxSamples      = 1 << 20 // draws of each stream
	MaxLags         = 400     // distances that a stream is compared with itself at
	MaxBins         = 1000    // of the histogram
	MaxNeighbours   = 8       // seeds after each whose streams it is compared with
	MaxAnalysed     = 1 << 32 // seeds in one job, over all generators
	MinExpected     = 5       // draws that chance must put into each bin, for chi-square to be one
	minPairs        = 10      // draws that a stream must share with what it is compared with
	samplesPerLag   = 4       // a lag is at most this part of a stream
	maxStreamMemory = 1 << 22 // draws that one thread keeps
)

// An Analysis asks for statistics of the stream of every seed, instead of for the
// seeds that explain draws.
type Analysis struct {
	Type       string   `json:"type"`       // [TypeAnalysis] or [TypeCorrelation]
	Samples    uint32   `json:"samples"`    // draws of each stream
	Seeds      uint64   `json:"seeds"`      // of the whole job, over all generators: p-values are multiplied by it
	MaxP       float64  `json:"max_p"`      // seeds with a larger p_value have no record; 1 keeps all
	Lags       []uint32 `json:"lags"`       // in rising order
	Bins       uint32   `json:"bins"`       // of an analysis
	Neighbours uint32   `json:"neighbours"` // of a correlation
}

// DefaultLags are those of the original system for a stream of so many draws: 1
// to 10, even ones to 30, and the days of calendars, up to a limit that grows
// with the stream.
func DefaultLags(samples uint32) []uint32 {
	most := min(20, samples/4)
	switch {
	case samples >= 10000:
		most = min(200, samples/50)
	case samples >= 1000:
		most = min(100, samples/20)
	case samples >= 100:
		most = min(50, samples/10)
	}
	lags := []uint32{7, 14, 21, 28, 30, 60, 90, 180, 365}
	for lag := uint32(1); lag <= 10; lag++ {
		lags = append(lags, lag)
	}
	for lag := uint32(12); lag <= 30; lag += 2 {
		lags = append(lags, lag)
	}
	slices.Sort(lags)
	return slices.DeleteFunc(slices.Compact(lags), func(lag uint32) bool { return lag > most })
}

// DefaultBins are the original system's 100, or fewer where not each of them would
// have twice the draws that it needs.
func DefaultBins(samples uint32, values Range) uint32 {
	return uint32(min(100, uint64(samples)/(2*MinExpected), addSat(values.Last-values.First, 1)))
}

// Values are what can be seen of a generator's outputs under an observation.
func Values(generator, observe string) (Range, error) {
	def, err := lookup(generator)
	if err != nil {
		return Range{}, err
	}
	o, err := parseObserve(observe)
	if err != nil {
		return Range{}, err
	}
	sight, err := o.on(def)
	if err != nil {
		return Range{}, err
	}
	return o.seen(sight), nil
}

// seen is the range of what can be seen of one generator's outputs.
func (o observation) seen(v sight) Range {
	values, outputs := o.values(), v.def.outputs()
	if o.form.name == "raw" || o.form.name == "mod" && outputs.Last <= values.Last {
		return outputs
	}
	return values
}

// checkAnalysis checks what an analysis asks for beyond the checks that it shares
// with searches.
func (s *Spec) checkAnalysis() error {
	a := s.Analysis
	longest := uint32(0)
	for i, lag := range a.Lags {
		if lag == 0 || i > 0 && lag <= a.Lags[i-1] {
			return &SpecError{fmt.Sprintf("the lags %v do not rise from 1 on", a.Lags), "write each of --lags once"}
		}
		longest = lag
	}
	switch {
	case a.Type != TypeAnalysis && a.Type != TypeCorrelation:
		return &SpecError{fmt.Sprintf("the type of analysis %q is unknown", clip(a.Type)), "there are analysis and correlation"}
	case a.Samples < MinSamples || a.Samples > MaxSamples:
		return &SpecError{fmt.Sprintf("%d draws of each stream were asked for, and an analysis takes %d to %d", a.Samples, MinSamples, MaxSamples), "use another --samples"}
	case len(a.Lags) > MaxLags:
		return &SpecError{fmt.Sprintf("%d lags were given, and the limit is %d", len(a.Lags), MaxLags), "give fewer with --lags or --lmax"}
	case longest > a.Samples/samplesPerLag:
		return &SpecError{fmt.Sprintf("the lag %d is more than a quarter of %d draws", longest, a.Samples), "use a smaller one in --lags, or more --samples"}
	case !(a.MaxP > 0 && a.MaxP <= 1):
		return &SpecError{fmt.Sprintf("the largest p-value %v is not above 0 and up to 1", a.MaxP), "use --max-p 1 for a record of every seed"}
	case a.Seeds == 0 || a.Seeds > MaxAnalysed:
		return &SpecError{fmt.Sprintf("%d seeds were given, and an analysis takes 1 to %d", a.Seeds, uint64(MaxAnalysed)), "give fewer with --seeds"}
	case s.Skip.Min != s.Skip.Max || s.Offset.Min != s.Offset.Max:
		return &SpecError{"a range of skips or offsets was given, and a stream has one of each", "use --skip N --offset N"}
	case s.MinMatches != 0 || s.ConfirmMatches != 0 || len(s.Strategies) > 0 || or(s.Mode, ModeFixed) != ModeFixed || or(s.Direction, Forward) != Forward:
		return &SpecError{"an analysis has neither needs nor modes nor directions", "leave them out"}
	}
	for _, name := range s.Generators {
		if def, err := lookup(name); err != nil || def.reversed || def.hybrid {
			return errors.Join(err, &SpecError{fmt.Sprintf("%s says how draws are compared, and an analysis compares none", name), "use the name without _reverse and _hybrid"})
		}
	}
	if a.Type == TypeAnalysis {
		return s.checkBins()
	}
	return s.checkPartners()
}

// checkBins checks a histogram: chi-square is one only when every bin is likely
// enough to be met.
func (s *Spec) checkBins() error {
	a := s.Analysis
	switch {
	case len(s.Draws) > 0 || a.Neighbours > 0:
		return &SpecError{"an analysis looks at one stream, and others were given", "use correlation"}
	case a.Bins < 2 || a.Bins > MaxBins:
		return &SpecError{fmt.Sprintf("%d bins were asked for, and a histogram has 2 to %d", a.Bins, MaxBins), "use another --bins"}
	}
	for _, name := range s.Generators {
		values, err := Values(name, s.Observe)
		if err != nil {
			return err
		}
		if uint64(a.Bins)-1 > values.Last-values.First {
			return &SpecError{fmt.Sprintf("%d bins were asked for, and %s of %s gives %d values", a.Bins, s.Observe, name, values.Count()), "use fewer --bins"}
		}
		_, chances, err := s.bins(name)
		if err != nil {
			return err
		}
		if least := slices.Min(chances) * float64(a.Samples); least < MinExpected {
			return &SpecError{
				fmt.Sprintf("a bin would have %.3g draws of %s by chance, and chi-square needs %d", least, name, MinExpected), "use fewer --bins, or more --samples",
			}
		}
	}
	return nil
}

// checkPartners checks what a stream is compared with in a correlation.
func (s *Spec) checkPartners() error {
	a := s.Analysis
	switch {
	case a.Bins != 0:
		return &SpecError{"a correlation has no histogram", "leave --bins out"}
	case a.Neighbours > MaxNeighbours:
		return &SpecError{fmt.Sprintf("%d neighbours were asked for, and the limit is %d", a.Neighbours, MaxNeighbours), "use fewer --neighbours"}
	case (uint64(a.Neighbours)+1)*uint64(a.Samples) > maxStreamMemory:
		return &SpecError{fmt.Sprintf("%d streams of %d draws are more than fit into memory", a.Neighbours+1, a.Samples), "use fewer --neighbours or --samples"}
	case len(a.Lags) == 0 && a.Neighbours == 0 && len(s.Draws) == 0:
		return &SpecError{"there is nothing to correlate a stream with", "give --lmax, --neighbours or --draws"}
	case len(s.Draws) == 0:
		return nil
	case len(s.Draws) > int(a.Samples):
		return &SpecError{fmt.Sprintf("%d draws were given, and the streams have %d", len(s.Draws), a.Samples), "use more --samples, or a --window of the draws"}
	case s.Known() < minPairs:
		return &SpecError{fmt.Sprintf("%d draws are known, and a correlation needs %d", s.Known(), minPairs), "give more draws"}
	}
	for i, d := range s.Draws {
		if d.Known && d.Width > 0 {
			return &SpecError{fmt.Sprintf("draw number %d is the interval %s, and a correlation needs numbers", i+1, d), "write * where the number is not known"}
		}
	}
	return nil
}

// bins are the first value of each bin of the histogram, which divide what can be
// seen evenly, and the probability of each under uniform outputs.
func (s *Spec) bins(generator string) (starts []uint64, chances []float64, err error) {
	def, err := lookup(generator)
	if err != nil {
		return nil, nil, err
	}
	o, err := parseObserve(s.Observe)
	if err != nil {
		return nil, nil, err
	}
	v, err := o.on(def)
	if err != nil {
		return nil, nil, err
	}
	values, n := o.seen(v), uint64(s.Analysis.Bins)
	each, rest := (values.Last-values.First)/n, (values.Last-values.First)%n // of one value less than there are
	for i := range n {
		starts = append(starts, values.First+i*each+i*(rest+1)/n)
	}
	for i, first := range starts {
		last := values.Last
		if i+1 < len(starts) {
			last = starts[i+1] - 1
		}
		p := v.point(0, Draw{Value: first, Width: last - first, Known: true})
		chances = append(chances, v.reduce.chance(p, v.def.outputs()))
	}
	return starts, chances, nil
}

// compileAnalysis lays a valid analysis out for a generator.
func (s *Spec) compileAnalysis(def *definition) (*Search, error) {
	observe, err := parseObserve(s.Observe)
	if err != nil {
		return nil, err
	}
	sight, err := observe.on(def)
	if err != nil {
		return nil, err
	}
	candidates := s.candidatesOf(def.Name)
	search := &Search{
		def: sight.def, observe: sight.reduce, sight: sight, observed: observe.String(), draws: int(s.Analysis.Samples),
		skip: skipsOf(candidates, s.Skip), offset: s.Offset, direction: Forward, candidates: candidates,
		analysis: &analysis{Analysis: *s.Analysis},
	}
	if s.Analysis.Type == TypeAnalysis {
		search.analysis.starts, search.analysis.chances, err = s.bins(def.Name)
		return search, err
	}
	for i, d := range s.Draws {
		if d.Known {
			search.points = append(search.points, sight.point(uint64(i), d))
			v := d.Value
			if d.Whole {
				v = sight.see(v)
			}
			search.analysis.draws = append(search.analysis.draws, float64(v))
		}
	}
	return search, nil
}

// analysis is an [Analysis] laid out for one generator.
type analysis struct {
	Analysis
	starts  []uint64  // first value of each bin
	chances []float64 // of each bin
	draws   []float64 // known ones; their places are the search's points
}

// tests is how many p-values each seed has.
func (a *analysis) tests() int {
	if a.Type == TypeAnalysis {
		return 2 + len(a.Lags)
	}
	n := len(a.Lags) + int(a.Neighbours)
	if len(a.draws) > 0 {
		n++
	}
	return n
}

// steps is the work of one seed, in generator advances.
func (s *Search) analysisSteps() uint64 {
	return addSat(uint64(s.offset.Max), mulSat(uint64(s.draws), uint64(s.skip.Max)+1))
}

// analysisCost is a rough guess of the nanoseconds that one seed takes on one core.
func (s *Search) analysisCost() uint64 {
	perDraw := 30 + uint64(len(s.analysis.Lags)) + uint64(s.analysis.Neighbours)
	return addSat(s.def.setupSteps/2, addSat(2*s.analysisSteps(), mulSat(perDraw, uint64(s.draws))))
}
