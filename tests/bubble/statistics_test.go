package bubble

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"seedmesh/kernels"
)

// near is how far ours may be from gonum's, of numbers of about 1 and below.
const near = 1e-9

// A match is one correlation of a record.
type match struct {
	Lag, Next int
	R, P      float64
	Holm      float64 `json:"p_holm"`
}

// A measured is a record of an analysis, or of a correlation.
type measured struct {
	Seed, Family     string
	Mean, Std        float64
	Min, Max         string
	Chi2             float64
	Chi2P            float64 `json:"chi2_p"`
	Chi2Holm         float64 `json:"chi2_p_holm"`
	Runs             int
	RunsZ            float64 `json:"runs_z"`
	RunsP            float64 `json:"runs_p"`
	RunsHolm         float64 `json:"runs_p_holm"`
	Autocorrelations []match
	Neighbours       []match
	Draws            *match
	P                float64 `json:"p_value"`
	JobP             float64 `json:"p_value_job"`
	MaxCorrelation   float64 `json:"max_correlation"`
	MeanCorrelation  float64 `json:"mean_correlation"`
	Histogram        []float64
}

const analysed = 10_000 // seeds of each job

// statistics is a job of a test that has a record of every seed.
func statistics(number int, a kernels.Analysis, draws []kernels.Draw) *search {
	s := newSearch(number, analysed)
	a.Samples, a.Seeds, a.MaxP = 600, analysed, 1
	s.spec = &kernels.Spec{Generators: []string{"msvc_rand"}, Observe: "mod:1000", Draws: draws, Analysis: &a}
	return s
}

// streamOf are the draws of a seed.
func streamOf(t *testing.T, s *search, seed uint64) []float64 {
	t.Helper()
	values, err := kernels.Predict(s.spec.Generators[0], seed, 0, 0, 0, s.spec.Analysis.Samples, s.spec.Observe)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float64, len(values))
	for i, v := range values {
		x[i] = float64(v)
	}
	return x
}

// TestStatisticsAreGonums has a mesh of three nodes analyse 10,000 seeds, in both
// ways, and holds every number of every record against gonum's.
func TestStatisticsAreGonums(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{rate: 2000})
		defer m.stop()
		observed := statistics(1, kernels.Analysis{}, nil)
		var draws []kernels.Draw
		for _, v := range streamOf(t, observed, observed.seeds.First+4711)[:40] {
			draws = append(draws, kernels.Draw{Value: uint64(v), Known: len(draws)%7 != 3})
		}
		alone := statistics(0, kernels.Analysis{Type: kernels.TypeAnalysis, Lags: kernels.DefaultLags(600), Bins: 100}, nil)
		together := statistics(1, kernels.Analysis{Type: kernels.TypeCorrelation, Lags: []uint32{1, 2, 3, 50, 125}, Neighbours: 2}, draws)
		for i, s := range []*search{alone, together} {
			m.mustSubmit(i, s)
		}
		for i, s := range []*search{alone, together} {
			m.drain(2-i, s)
			if worked := m.workers(s); worked != 3 {
				t.Errorf("%d of 3 nodes worked on %s", worked, s.spec.Analysis.Type)
			}
			records := m.measured(s)
			if len(records) != analysed {
				t.Fatalf("%d records of %s, want %d", len(records), s.spec.Analysis.Type, analysed)
			}
			for i, r := range records {
				seed := s.seeds.First + uint64(i)
				if r.Seed != strconv.FormatUint(seed, 10) {
					t.Fatalf("record %d is of seed %s, want %d", i, r.Seed, seed)
				}
				if s == alone {
					checkAlone(t, s, seed, &r)
				} else {
					checkTogether(t, s, seed, &r)
				}
				if t.Failed() {
					t.FailNow()
				}
			}
		}
		if r := m.measured(together)[4711]; r.Draws.R != 1 || r.Draws.P != 0 || r.JobP != 0 {
			t.Errorf("the seed of the draws correlates with them by %v, p %v, %v in the job", r.Draws.R, r.Draws.P, r.JobP)
		}
		m.sameLedgers()
	})
}

// workers counts the nodes that worked on a search.
func (m *mesh) workers(s *search) int {
	m.record.mu.Lock()
	defer m.record.mu.Unlock()
	nodes := map[int]bool{}
	for _, a := range m.record.attempts {
		if a.part.First >= s.seeds.First && a.part.Last <= s.seeds.Last {
			nodes[a.node] = true
		}
	}
	return len(nodes)
}

// measured reads a job's records.
func (m *mesh) measured(s *search) (all []measured) {
	m.Helper()
	lines, err := m.results(0, s)
	if err != nil {
		m.Fatal(err)
	}
	for line := range bytes.Lines(lines) {
		var r measured
		if err := json.Unmarshal(line, &r); err != nil {
			m.Fatalf("%s: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

// A comparison collects how one record differs from gonum's.
type comparison struct {
	*testing.T
	seed uint64
	p    []float64 // in the record's order
	holm []float64
}

func (c *comparison) equal(what string, got, want float64) {
	c.Helper()
	if !(math.Abs(got-want) <= near*max(1, math.Abs(want))) {
		c.Errorf("seed %d: %s = %v, gonum has %v", c.seed, what, got, want)
	}
}

// test compares a p-value, and notes its correction.
func (c *comparison) test(what string, p, holm, want float64) {
	c.Helper()
	c.equal(what, p, want)
	c.p, c.holm = append(c.p, want), append(c.holm, holm)
}

// corrected compares the corrections of all p-values: Holm's in its first form, as
// a sequence of rejections.
func (c *comparison) corrected(r *measured) {
	c.Helper()
	order := make([]int, len(c.p))
	floats.Argsort(slices.Clone(c.p), order)
	least := 0.0
	for rank, i := range order {
		least = max(least, min(1, c.p[i]*float64(len(c.p)-rank)))
		c.equal("a corrected p-value", c.holm[i], least)
	}
	c.equal("p_value", r.P, min(1, floats.Min(c.p)*float64(len(c.p))))
	if want := min(1, r.P*analysed); r.JobP != want {
		c.Errorf("seed %d: p_value_job = %v, want %v", c.seed, r.JobP, want)
	}
}

func twoSided(z float64) float64 { return 2 * distuv.UnitNormal.Survival(math.Abs(z)) }

func checkAlone(t *testing.T, s *search, seed uint64, r *measured) {
	t.Helper()
	c := &comparison{T: t, seed: seed}
	x := streamOf(t, s, seed)
	n := float64(len(x))
	mean, std := stat.PopMeanStdDev(x, nil)
	c.equal("mean", r.Mean, mean)
	c.equal("std", r.Std, std)
	if r.Min != strconv.FormatFloat(floats.Min(x), 'f', 0, 64) || r.Max != strconv.FormatFloat(floats.Max(x), 'f', 0, 64) {
		t.Errorf("seed %d: from %s to %s, gonum has %v to %v", seed, r.Min, r.Max, floats.Min(x), floats.Max(x))
	}
	sorted := slices.Sorted(slices.Values(x))
	counts := stat.Histogram(nil, floats.Span(make([]float64, 101), 0, 1000), sorted, nil)
	expected := make([]float64, 100)
	for i := range expected { // 32768 outputs: the values up to 767 have one more than the others
		for v := 10 * i; v < 10*i+10; v++ {
			expected[i] += math.Floor((32767-float64(v))/1000+1) / 32768 * n
		}
	}
	if !slices.Equal(r.Histogram, counts) {
		t.Errorf("seed %d: the histogram is %v, gonum has %v", seed, r.Histogram, counts)
	}
	chi := stat.ChiSquare(counts, expected)
	c.equal("chi2", r.Chi2, chi)
	c.test("chi2_p", r.Chi2P, r.Chi2Holm, distuv.ChiSquared{K: 99}.Survival(chi))
	z := runsScore(x, (sorted[len(x)/2]+sorted[len(x)/2-1])/2, r.Runs)
	c.equal("runs_z", r.RunsZ, z)
	c.test("runs_p", r.RunsP, r.RunsHolm, twoSided(z))
	floats.AddConst(-mean, x)
	for i, m := range r.Autocorrelations {
		lag := int(s.spec.Analysis.Lags[i])
		pairs := float64(len(x) - lag)
		want := floats.Dot(x[:len(x)-lag], x[lag:]) / pairs / (std * std)
		c.equal("autocorrelation", m.R, want)
		c.test("its p-value", m.P, m.Holm, twoSided(want*math.Sqrt(pairs)))
	}
	c.corrected(r)
}

// runsScore is Wald and Wolfowitz's, of a number of runs that must be right.
func runsScore(x []float64, median float64, runs int) float64 {
	var up, changes float64
	for i, v := range x {
		if v > median {
			up++
		}
		if i > 0 && (v > median) != (x[i-1] > median) {
			changes++
		}
	}
	if float64(runs) != changes+1 {
		return math.NaN()
	}
	n, down := float64(len(x)), float64(len(x))-up
	mu := 1 + 2*up*down/n
	return (changes + 1 - mu) / math.Sqrt((mu-1)*(mu-2)/(n-1))
}

func checkTogether(t *testing.T, s *search, seed uint64, r *measured) {
	t.Helper()
	c := &comparison{T: t, seed: seed}
	fisher := func(r float64, pairs int) float64 { return twoSided(math.Atanh(r) * math.Sqrt(float64(pairs-3))) }
	x := streamOf(t, s, seed)
	for i, m := range r.Autocorrelations {
		lag := int(s.spec.Analysis.Lags[i])
		want := stat.Correlation(x[:len(x)-lag], x[lag:], nil)
		c.equal("autocorrelation", m.R, want)
		c.test("its p-value", m.P, m.Holm, fisher(want, len(x)-lag))
	}
	var others []float64
	for j, m := range r.Neighbours {
		want := stat.Correlation(x, streamOf(t, s, seed+uint64(j)+1), nil)
		others = append(others, want)
		c.equal("correlation with a neighbour", m.R, want)
		c.test("its p-value", m.P, m.Holm, fisher(want, len(x)))
	}
	c.equal("mean_correlation", r.MeanCorrelation, stat.Mean(others, nil))
	c.equal("max_correlation", r.MaxCorrelation, floats.Norm(others, math.Inf(1)))
	var seen, drawn []float64
	for i, d := range s.spec.Draws {
		if d.Known {
			seen, drawn = append(seen, x[i]), append(drawn, float64(d.Value))
		}
	}
	want := stat.Correlation(seen, drawn, nil)
	c.equal("correlation with the draws", r.Draws.R, want)
	c.test("its p-value", r.Draws.P, r.Draws.Holm, fisher(min(want, 1), len(drawn)))
	c.corrected(r)
}
