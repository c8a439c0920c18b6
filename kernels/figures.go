package kernels

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

// MaxFigures bounds the bytes of a record's figures.
const MaxFigures = 8 * (MaxLags + MaxBins + 16)

// Versions of the records of analyses, which they state as their schema.
const (
	analysisSchema    = "seedmesh.analysis/1"
	correlationSchema = "seedmesh.correlation/1"
)

// figures are what an analyst measured of one seed, in the order in which it did.
// Everything else in a record follows from them: see judge.
type figures []uint64

func (f figures) number(v float64) figures { return append(f, math.Float64bits(v)) }
func (f figures) count(n uint64) figures   { return append(f, n) }

// String is the figures as a [Survivor] carries them: 8 bytes each, little-endian.
func (f figures) String() string {
	b := make([]byte, 0, 8*len(f))
	for _, v := range f {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return string(b)
}

// parseFigures gives none for what no analyst wrote.
func (a *analysis) parseFigures(s string) figures {
	if len(s) != 8*a.size() {
		return nil
	}
	f := make(figures, a.size())
	for i := range f {
		f[i] = binary.LittleEndian.Uint64([]byte(s[8*i : 8*i+8]))
	}
	return f
}

// Places of the figures of an analysis. The lags follow, and the histogram.
const (
	figureMean = iota
	figureDeviation
	figureLeast
	figureMost
	figureRuns
	figureAbove
	figureLags
)

// size is how many figures each seed has.
func (a *analysis) size() int {
	if a.Type == TypeAnalysis {
		return figureLags + len(a.Lags) + int(a.Bins)
	}
	return a.tests()
}

func (f figures) at(i int) float64 { return math.Float64frombits(f[i]) }

// floats are those from one place to another.
func (f figures) floats(from, to int) []float64 {
	list := make([]float64, 0, to-from)
	for i := from; i < to; i++ {
		list = append(list, f.at(i))
	}
	return list
}

// A verdict is what the figures of one seed mean.
type verdict struct {
	chi, score float64   // of an analysis: chi-square, and the runs in standard deviations
	degrees    int       // of chi-square
	p          []float64 // of an analysis: chi-square, runs, lags; of a correlation: lags, neighbours, draws
	corrected  []float64 // p, for the number of tests of this seed
	seed       float64   // the smallest of corrected
	job        float64   // for the number of seeds of the job
}

func (a *analysis) judge(f figures) (v verdict) {
	n := int(a.Samples)
	if a.Type == TypeAnalysis {
		v.degrees = len(a.chances) - 1
		v.chi = chiSquare(f[figureLags+len(a.Lags):], a.chances, float64(n))
		v.score = runsScore(f[figureRuns], f[figureAbove], uint64(n))
		v.p = append(v.p, chiSquareChance(v.chi, v.degrees), twoSided(v.score))
		for i, lag := range a.Lags {
			v.p = append(v.p, twoSided(float64(f.at(figureLags+i)*math.Sqrt(float64(n-int(lag))))))
		}
	} else {
		for i, r := range f.floats(0, a.size()) {
			v.p = append(v.p, correlationChance(r, a.pairs(i)))
		}
	}
	v.corrected = holm(v.p)
	v.seed = slices.Min(v.corrected)
	v.job = min(1, v.seed*float64(a.Seeds))
	return v
}

// pairs is how many pairs the i-th test of a correlation has.
func (a *analysis) pairs(i int) int {
	switch {
	case i < len(a.Lags):
		return int(a.Samples - a.Lags[i])
	case i < len(a.Lags)+int(a.Neighbours):
		return int(a.Samples)
	}
	return len(a.draws)
}

// wants tells whether a seed with these figures has a record.
func (a *analysis) wants(f figures) bool { return a.MaxP == 1 || a.judge(f).seed <= a.MaxP }

// analysisRecord is a record of [TypeAnalysis], in the original's words for what
// it measured too.
type analysisRecord struct {
	Seed    uint64  `json:"seed,string"`
	Family  string  `json:"family"`
	Schema  string  `json:"schema"`
	Skip    uint16  `json:"skip"`
	Offset  uint32  `json:"offset"`
	Samples uint32  `json:"samples"`
	Mean    figure  `json:"mean"`
	Std     figure  `json:"std"`
	Min     uint64  `json:"min,string"`
	Max     uint64  `json:"max,string"`
	Chi     figure  `json:"chi2"`
	Degrees int     `json:"chi2_dof"`
	ChiP    figure  `json:"chi2_p"`
	ChiHolm figure  `json:"chi2_p_holm"`
	Runs    uint64  `json:"runs"`
	RunsZ   figure  `json:"runs_z"`
	RunsP   figure  `json:"runs_p"`
	RunHolm figure  `json:"runs_p_holm"`
	Lags    []match `json:"autocorrelations"`
	P       figure  `json:"p_value"`
	JobP    figure  `json:"p_value_job"`
	Counts  figures `json:"histogram"`
}

// correlationRecord is a record of [TypeCorrelation].
type correlationRecord struct {
	Seed       uint64  `json:"seed,string"`
	Family     string  `json:"family"`
	Schema     string  `json:"schema"`
	Skip       uint16  `json:"skip"`
	Offset     uint32  `json:"offset"`
	Samples    uint32  `json:"samples"`
	Lags       []match `json:"autocorrelations"`
	Neighbours []match `json:"neighbours"`
	Draws      *match  `json:"draws,omitempty"`
	Most       figure  `json:"max_correlation"`
	Mean       figure  `json:"mean_correlation"`
	P          figure  `json:"p_value"`
	JobP       figure  `json:"p_value_job"`
}

// A match is one correlation and what it means.
type match struct {
	Lag  uint32 `json:"lag,omitempty"`
	Next uint32 `json:"next,omitempty"` // the neighbour is the seed that lies so far after this one
	R    figure `json:"r"`
	P    figure `json:"p"`
	Holm figure `json:"p_holm"`
}

// A figure is written with the fewest digits that give it back.
type figure float64

// MarshalJSON writes what a record says where a figure is none.
func (v figure) MarshalJSON() ([]byte, error) {
	if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(v), 'g', -1, 64), nil
}

// appendAnalysis appends the record of a seed as one line of JSON.
func (s *Search) appendAnalysis(dst []byte, v Survivor) []byte {
	a := s.analysis
	f := a.parseFigures(v.Figures)
	var record any
	switch {
	case f == nil: // an executor went wrong
		record = map[string]string{"seed": strconv.FormatUint(v.Seed, 10), "error": "its figures are not those of this analysis"}
	case a.Type == TypeAnalysis:
		record = s.analysed(v, f, a.judge(f))
	default:
		record = s.correlated(v, f, a.judge(f))
	}
	line, err := json.Marshal(record)
	if err != nil {
		panic(err) // numbers always marshal
	}
	return append(append(dst, line...), '\n')
}

func (s *Search) analysed(v Survivor, f figures, d verdict) *analysisRecord {
	a := s.analysis
	r := &analysisRecord{
		Seed: v.Seed, Family: s.Family(), Schema: analysisSchema, Skip: v.Skip, Offset: v.Offset, Samples: a.Samples,
		Mean: figure(f.at(figureMean)), Std: figure(f.at(figureDeviation)), Min: f[figureLeast], Max: f[figureMost],
		Chi: figure(d.chi), Degrees: d.degrees, ChiP: figure(d.p[0]), ChiHolm: figure(d.corrected[0]),
		Runs: f[figureRuns], RunsZ: figure(d.score), RunsP: figure(d.p[1]), RunHolm: figure(d.corrected[1]),
		Lags: []match{}, P: figure(d.seed), JobP: figure(d.job), Counts: f[figureLags+len(a.Lags):],
	}
	for i, lag := range a.Lags {
		r.Lags = append(r.Lags, match{Lag: lag, R: figure(f.at(figureLags + i)), P: figure(d.p[2+i]), Holm: figure(d.corrected[2+i])})
	}
	return r
}

func (s *Search) correlated(v Survivor, f figures, d verdict) *correlationRecord {
	a := s.analysis
	r := &correlationRecord{
		Seed: v.Seed, Family: s.Family(), Schema: correlationSchema, Skip: v.Skip, Offset: v.Offset, Samples: a.Samples,
		Lags: []match{}, Neighbours: []match{}, P: figure(d.seed), JobP: figure(d.job),
	}
	at := func(i int) match { return match{R: figure(f.at(i)), P: figure(d.p[i]), Holm: figure(d.corrected[i])} }
	for i, lag := range a.Lags {
		m := at(i)
		m.Lag = lag
		r.Lags = append(r.Lags, m)
	}
	others := f.floats(len(a.Lags), len(a.Lags)+int(a.Neighbours))
	for j, v := range others {
		m := at(len(a.Lags) + j)
		m.Next = uint32(j) + 1
		r.Neighbours = append(r.Neighbours, m)
		r.Most = max(r.Most, figure(math.Abs(v)))
	}
	if len(others) > 0 {
		r.Mean = figure(sum(others) / float64(len(others)))
	}
	if len(a.draws) > 0 {
		m := at(a.size() - 1)
		r.Draws = &m
	}
	return r
}

// TypeOf is the type of the job that an encoded spec asks for, in the original
// system's words: sieve, reverse_sieve, analysis or correlation.
func TypeOf(spec []byte) string {
	var w struct {
		Analysis   *struct{ Type string }
		Candidates json.RawMessage
	}
	switch err := json.Unmarshal(spec, &w); {
	case err == nil && w.Analysis != nil:
		return w.Analysis.Type
	case err == nil && len(w.Candidates) > 0:
		return "reverse_sieve"
	}
	return "sieve"
}
