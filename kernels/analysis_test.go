package kernels

import (
	"context"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func someAnalysis(seeds uint64) Spec {
	return Spec{
		Generators: []string{"lcg32"}, Observe: "mod:1000",
		Analysis: &Analysis{Type: TypeAnalysis, Samples: 200, Seeds: seeds, MaxP: 1, Lags: DefaultLags(200), Bins: 20},
	}
}

func someCorrelation(seeds uint64) Spec {
	return Spec{
		Generators: []string{"lcg32"}, Observe: "mod:1000", Skip: Bounds{2, 2}, Offset: Bounds{5, 5},
		Draws:    drawsFrom(5, 17, 900, 3, 44, 100, 20, 71, 800, 12, 1),
		Analysis: &Analysis{Type: TypeCorrelation, Samples: 200, Seeds: seeds, MaxP: 1, Lags: []uint32{1, 2, 50}, Neighbours: 3},
	}
}

// linesOf are the records of a finding.
func linesOf(s *Search, found []Survivor) string {
	var b []byte
	for _, v := range found {
		b = s.AppendJSON(b, v)
	}
	return string(b)
}

// TestAnalysesAreAlike holds every device, and every way to cut a range, against
// one thread that works through all of it.
func TestAnalysesAreAlike(t *testing.T) {
	const seeds = 300
	for name, spec := range map[string]Spec{"analysis": someAnalysis(seeds), "correlation": someCorrelation(seeds)} {
		for _, first := range []uint64{0, 1<<32 - seeds} {
			s := mustCompile(t, spec)
			r := Range{first, first + seeds - 1}
			want := linesOf(s, mustSearch(t, s, r).found)
			if n := strings.Count(want, "\n"); n != seeds {
				t.Fatalf("%s: %d records of %d seeds", name, n, seeds)
			}
			for _, d := range []Device{NewCPU(1), NewCPU(3), NewSim(SimConfig{Rate: 1e6})} {
				var got string
				for at := r.First; ; {
					part := Range{at, min(at+36, r.Last)}
					f, err := searchOn(context.Background(), d, s, part, toEnd(part))
					if err != nil || f.acct != AccountOf(part) {
						t.Fatalf("%s on %s: account %v, %v", name, d.Name(), f.acct, err)
					}
					got += linesOf(s, f.found)
					if at = part.Last + 1; part.Last == r.Last {
						break
					}
				}
				if got != want {
					t.Errorf("%s in parts on %s differs", name, d.Name())
				}
			}
		}
	}
}

// TestMaxP keeps exactly the records whose p-value is small enough, and as many as
// chance gives at most.
func TestMaxP(t *testing.T) {
	const seeds = 4000
	r := Range{0, seeds - 1}
	all := mustCompile(t, someAnalysis(seeds))
	spec := someAnalysis(seeds)
	spec.Analysis.MaxP = 0.05
	some := mustCompile(t, spec)
	var want []Survivor
	for _, v := range mustSearch(t, all, r).found {
		if all.analysis.judge(all.analysis.parseFigures(v.Figures)).seed <= 0.05 {
			want = append(want, v)
		}
	}
	got := mustSearch(t, some, r).found
	if linesOf(some, got) != linesOf(some, want) || len(want) == 0 {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	if most := Expected(some, seeds); most != 200 || float64(len(got)) > most+6*math.Sqrt(most) {
		t.Errorf("%d records, and chance gives at most %v", len(got), most)
	}
}

// TestAnalysisIsCancelled ends an analysis whose first seed takes long.
func TestAnalysisIsCancelled(t *testing.T) {
	spec := someAnalysis(1)
	spec.Analysis.Samples = MaxSamples
	spec.Analysis.Lags = nil
	for lag := range uint32(MaxLags) {
		spec.Analysis.Lags = append(spec.Analysis.Lags, lag+1)
	}
	s := mustCompile(t, spec)
	if err := conformCancelled(t.Context(), NewCPU(1), s); err != nil {
		t.Error(err)
	}
}

func TestAnalysisEncoding(t *testing.T) {
	for _, spec := range []Spec{someAnalysis(7), someCorrelation(7)} {
		b := spec.Encode()
		got, err := DecodeSpec(b)
		if err != nil || string(got.Encode()) != string(b) {
			t.Errorf("%s becomes %v, %v", b, got, err)
		}
		if TypeOf(b) != spec.Analysis.Type {
			t.Errorf("TypeOf(%s) = %s", b, TypeOf(b))
		}
	}
	if search := (&Spec{Generators: []string{"lcg32"}, Observe: "mod:10", Draws: drawsFrom(1), MinMatches: 1}); TypeOf(search.Encode()) != "sieve" {
		t.Error("a search is not a sieve")
	}
}

func TestAnalysisIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"unknown type":         func(s *Spec) { s.Analysis.Type = "x" },
		"few draws":            func(s *Spec) { s.Analysis.Samples = MinSamples - 1 },
		"many draws":           func(s *Spec) { s.Analysis.Samples = MaxSamples + 1 },
		"long lag":             func(s *Spec) { s.Analysis.Lags = []uint32{51} },
		"lag 0":                func(s *Spec) { s.Analysis.Lags = []uint32{0} },
		"lags fall":            func(s *Spec) { s.Analysis.Lags = []uint32{2, 1} },
		"many lags":            func(s *Spec) { s.Analysis.Lags = make([]uint32, MaxLags+1) },
		"unlikely bins":        func(s *Spec) { s.Analysis.Bins = 41 },
		"many bins":            func(s *Spec) { s.Analysis.Bins = MaxBins + 1 },
		"more bins than seen":  func(s *Spec) { s.Observe = "mod:10" },
		"neighbours":           func(s *Spec) { s.Analysis.Neighbours = 1 },
		"draws":                func(s *Spec) { s.Draws = drawsFrom(1) },
		"no seeds":             func(s *Spec) { s.Analysis.Seeds = 0 },
		"many seeds":           func(s *Spec) { s.Analysis.Seeds = MaxAnalysed + 1 },
		"no p-value":           func(s *Spec) { s.Analysis.MaxP = 0 },
		"skips":                func(s *Spec) { s.Skip = Bounds{0, 1} },
		"a need":               func(s *Spec) { s.MinMatches = 1 },
		"a reversed generator": func(s *Spec) { s.Generators = []string{"compat:lcg32_reverse"} },
	} {
		spec := someAnalysis(1)
		change(&spec)
		var refused *SpecError
		if err := spec.Validate(); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*Spec){
		"bins":             func(s *Spec) { s.Analysis.Bins = 20 },
		"many neighbours":  func(s *Spec) { s.Analysis.Neighbours = MaxNeighbours + 1 },
		"much memory":      func(s *Spec) { s.Analysis.Samples, s.Analysis.Neighbours = MaxSamples, 4 },
		"few known draws":  func(s *Spec) { s.Draws = s.Draws[:minPairs-1] },
		"more than stream": func(s *Spec) { s.Draws = drawsFrom(make([]uint64, 201)...) },
		"an interval":      func(s *Spec) { s.Draws[0].Width = 1 },
		"nothing":          func(s *Spec) { s.Analysis.Lags, s.Analysis.Neighbours, s.Draws = nil, 0, nil },
	} {
		spec := someCorrelation(1)
		change(&spec)
		var refused *SpecError
		if err := spec.Validate(); !errors.As(err, &refused) {
			t.Errorf("correlation, %s: %v", name, err)
		}
	}
}

// TestStuckStreams looks at streams that do not vary: they are the opposite of
// chance, and none of their numbers is none.
func TestStuckStreams(t *testing.T) {
	for _, spec := range []Spec{someAnalysis(1), someCorrelation(1)} {
		spec.Generators = []string{"xorshift32"} // whose seed 0 gives zeros for ever
		s := mustCompile(t, spec)
		line := linesOf(s, mustSearch(t, s, Range{0, 0}).found)
		if strings.Contains(line, "null") || s.analysis.Type == TypeAnalysis && !strings.Contains(line, `"p_value":0,`) {
			t.Errorf("a stream of zeros: %s", line)
		}
	}
}

// TestPortableFunctions holds the functions that are equal on every machine
// against those of package math.
func TestPortableFunctions(t *testing.T) {
	near := func(name string, x, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 1e-12*math.Abs(want)) {
			t.Errorf("%s(%v) = %v, want %v", name, x, got, want)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		x := rng.Float64() * 26
		near("errorRest", x, errorRest(x), math.Erfc(x))
		m, exponent := exponential(x * 27)
		near("exponential", x*27, math.Ldexp(m, exponent), math.Exp(-x*27))
		near("logarithm", x*1e3, logarithm(x*1e3), math.Log(x*1e3))
	}
	for _, x := range []float64{0, 1e-300, 1, 2, errorSeries, errorEnd, 1e9} {
		near("errorRest", x, errorRest(x), math.Erfc(x))
	}
}

// TestChiSquareChance sums the tail of even degrees in exact fractions, and goes
// from there to odd ones by what lies between.
func TestChiSquareChance(t *testing.T) {
	for _, degrees := range []int{2, 10, 98, 500, 998} {
		for _, share := range []float64{0.01, 0.5, 1, 1.5, 3} {
			x := math.Round(share * float64(degrees))
			term, total := big.NewFloat(1).SetPrec(200), new(big.Float).SetPrec(200)
			for i := range degrees / 2 {
				total.Add(total, term)
				term.Mul(term, big.NewFloat(x/2))
				term.Quo(term, big.NewFloat(float64(i+1)))
			}
			exponent := total.MantExp(total)
			mantissa, _ := total.Float64()
			want := math.Exp(-x/2 + math.Log(mantissa) + float64(exponent)*math.Ln2)
			got := chiSquareChance(x, degrees)
			if math.Abs(got-want) > 1e-11*want {
				t.Errorf("chiSquareChance(%v, %d) = %v, want %v", x, degrees, got, want)
			}
			if below, above := chiSquareChance(x, degrees-1), chiSquareChance(x, degrees+1); !(below < got+1e-12 && got < above+1e-12) || x > 5 && got < 0.9 && below >= got {
				t.Errorf("chi-square %v: %v, %v and %v do not rise with the degrees from %d", x, below, got, above, degrees-1)
			}
		}
	}
	if got := chiSquareChance(1e9, 99); got != 0 {
		t.Errorf("chiSquareChance(1e9, 99) = %v", got)
	}
}

func TestHolm(t *testing.T) {
	got := holm([]float64{0.01, 0.04, 0.03, 0.005, 0.9})
	want := []float64{0.04, 0.09, 0.09, 0.025, 0.9}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-15 {
			t.Fatalf("holm = %v, want %v", got, want)
		}
	}
}
