package kernels

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestTail holds the binomial tail against sums of exact terms.
func TestTail(t *testing.T) {
	const precision = 600 // bits
	for _, tt := range []struct {
		n, need int
		p       float64
	}{{1, 1, 0.5}, {8, 2, 0.001}, {30, 30, 0.001}, {30, 15, 0.5}, {30, 2, 0.5}, {512, 6, 0.001}, {2, 1, 0.001}, {100, 1, 0.1}, {60, 59, 1e-4}, {400, 200, 0.5}} {
		p := new(big.Float).SetPrec(precision).SetFloat64(tt.p)
		q := new(big.Float).SetPrec(precision).Sub(big.NewFloat(1), p)
		sum := new(big.Float).SetPrec(precision)
		for i := tt.need; i <= tt.n; i++ {
			term := new(big.Float).SetPrec(precision).SetInt(new(big.Int).Binomial(int64(tt.n), int64(i)))
			for range i {
				term.Mul(term, p)
			}
			for range tt.n - i {
				term.Mul(term, q)
			}
			sum.Add(sum, term)
		}
		want, _ := sum.Float64()
		if got := math.Exp(logBinomialTail(tt.n, tt.need, tt.p)); math.Abs(got-want) > 1e-9*want {
			t.Errorf("P[Binomial(%d, %g) >= %d] = %g, want %g", tt.n, tt.p, tt.need, got, want)
		}
	}
}

// TestExpected uses the figures of the original system's description.
func TestExpected(t *testing.T) {
	for name, tt := range map[string]struct {
		spec  Spec
		draws int
		seeds float64
		want  float64
		near  float64 // relative
	}{
		"window of two":            {Spec{Skip: Bounds{0, 56}, MinMatches: 1}, 2, 1, 0.108, 0.01},
		"window of 512":            {Spec{Skip: Bounds{0, 20}, MinMatches: 6}, 512, 1, 3.3e-4, 0.02},
		"window of eight":          {Spec{Skip: Bounds{0, 16}, MinMatches: 2}, 8, 1, 4.7e-4, 0.02},
		"all of 30, whole space":   {Spec{MinMatches: 30}, 30, 1 << 32, 4.29e9 * 1e-90, 0.01},
		"all of 200, below 1e-308": {Spec{MinMatches: 200}, 200, 1 << 32, 0, 0},
		"every seed":               {Spec{MinMatches: 0, KeepAll: true}, 3, 1000, 1000, 1e-12},
	} {
		t.Run(name, func(t *testing.T) {
			tt.spec.Generators, tt.spec.Observe = []string{"xorshift32"}, "mod:1000"
			tt.spec.Draws = drawsFrom(make([]uint64, tt.draws)...)
			got := Expected(mustCompile(t, tt.spec), tt.seeds)
			if math.Abs(got-tt.want) > tt.near*tt.want {
				t.Errorf("Expected = %g, want %g", got, tt.want)
			}
		})
	}
}

// TestExpectedCounts holds the baseline against counting, for an output range
// that the modulus does not divide.
func TestExpectedCounts(t *testing.T) {
	s := mustCompile(t, Spec{
		Generators: []string{"php_mt_rand_0_999"}, Observe: "mod:700", Offset: Bounds{0, 9},
		MinMatches: 1, Draws: drawsFrom(650, 100), // one and two of the 1000 outputs
	})
	r := Range{0, 99_999}
	found, want := float64(len(mustSearch(t, s, r).found)), Expected(s, r.Size())
	if math.Abs(found-want) > 6*math.Sqrt(want) {
		t.Errorf("%g survivors, expected %g", found, want)
	}
}

// TestWindowsOfChance holds the baseline against searches for simulated random
// draws: the windows that the original system ran for months on, and longer ones.
func TestWindowsOfChance(t *testing.T) {
	for name, tt := range map[string]struct {
		spec   Spec
		draws  int
		warned bool
	}{
		"window of two, one of them": {Spec{Skip: Bounds{0, 56}, MinMatches: 1}, 2, true},
		"two of eight":               {Spec{Observe: "mod:100", Skip: Bounds{0, 16}, MinMatches: 2}, 8, true},
		"all of ten":                 {Spec{Skip: Bounds{0, 16}, MinMatches: 10}, 10, false},
	} {
		rng := rand.New(rand.NewPCG(9, uint64(tt.draws)))
		r := Range{0, 1999}
		var found, expected float64
		for range 20 { // windows
			spec := tt.spec
			spec.Generators, spec.Observe = []string{"compat:xorshift64"}, or(spec.Observe, "mod:1000")
			values := make([]uint64, tt.draws)
			for i := range values {
				values[i] = rng.Uint64N(100)
			}
			spec.Draws = drawsFrom(values...)
			s := mustCompile(t, spec)
			s.def = scattered(s.def) // neighbouring seeds of weak generators are not independent
			n := uint64(len(mustSearch(t, s, r).found))
			if Indistinguishable(Expected(s, r.Size()), n) != tt.warned {
				t.Errorf("%s: %d survivors where %g are expected: warned %t", name, n, Expected(s, r.Size()), !tt.warned)
			}
			found += float64(n)
			expected += Expected(s, r.Size())
		}
		if math.Abs(found-expected) > 6*math.Sqrt(expected)+0.02*expected || tt.warned && expected < 500 {
			t.Errorf("%s: %g survivors of random draws, expected %g", name, found, expected)
		}
	}
}

func TestIndistinguishable(t *testing.T) {
	for _, tt := range []struct {
		expected float64
		found    uint64
		want     bool
	}{{0.5, 0, false}, {0.5, 1, false}, {2, 10, true}, {2, 100, false}, {1e6, 1_380_000, true}, {2, 0, true}} {
		if got := Indistinguishable(tt.expected, tt.found); got != tt.want {
			t.Errorf("Indistinguishable(%g, %d) = %t, want %t", tt.expected, tt.found, got, tt.want)
		}
	}
}

func TestReduce(t *testing.T) {
	for _, m := range []uint64{2, 3, 7, 8, 1000, 1 << 31, 1<<32 - 1, 1 << 40, math.MaxUint64} {
		o := reduction{m}
		for _, most := range []uint64{999, 1<<32 - 1, math.MaxUint64} {
			for _, v := range []uint64{0, 1, 2, 6, 7, 998, 999, 1<<32 - 1, 1 << 32, 1<<63 + 12345, math.MaxUint64 - 1, math.MaxUint64} {
				v = min(v, most)
				got := []uint64{v}
				o.reduce(got, most)
				if got[0] != v%m {
					t.Errorf("%d mod %d with outputs to %d = %d, want %d", v, m, most, got[0], v%m)
				}
				for _, d := range []uint64{0, 1, m - 1, v % m} {
					matcher := o.matcher(point{value: d})
					if got, want := matcher.any([]uint64{v}), v%m == d; got != want {
						t.Errorf("matcher of %d mod %d on %d = %t, want %t", d, m, v, got, want)
					}
				}
			}
		}
	}
}
