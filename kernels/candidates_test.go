package kernels

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseCandidates(t *testing.T) {
	two := []Candidate{{Seed: 5, Skip: 3}, {Seed: 18446744073709551615}}
	for name, tt := range map[string]struct {
		text string
		want []Candidate
	}{
		"numbers":       {"[5, 18446744073709551615]", []Candidate{{Seed: 5}, two[1]}},
		"objects":       {`[{"seed":5,"skip":3},{"seed":"18446744073709551615"}]`, two},
		"survivors":     {`{"seed":"5","family":"mt19937","best_skip":3}` + "\n" + `{"seed":"6","family":"pcg32","best_skip":0}`, []Candidate{{5, 3, "mt19937"}, {6, 0, "pcg32"}}},
		"text":          {"# mine\n5 3\n\n18446744073709551615\n", two},
		"text, family":  {"5 3 mt19937", []Candidate{{5, 3, "mt19937"}}},
		"CSV":           {"seed,family,matches,best_skip\r\n5,mt19937,4,3\r\n6,pcg32,4,0\r\n", []Candidate{{5, 3, "mt19937"}, {6, 0, "pcg32"}}},
		"CSV, blanks":   {"Skip;Seed\n3;5\n;18446744073709551615", two},
		"CSV, a word":   {"seed,skip\n5,many", nil},
		"CSV, ragged":   {"seed,skip\n5\n", nil},
		"CSV, one":      {"seed\n5\n18446744073709551615", []Candidate{{Seed: 5}, two[1]}},
		"CSV, empty":    {"seed,skip\n", nil},
		"nothing":       {" ", nil},
		"negative":      {"-5", nil},
		"skip too long": {"5 65536", nil},
		"no seed":       {`[{"skip":1}]`, nil},
		"four words":    {"1 2 mt19937 x", nil},
		"broken":        {`[{"seed":1}`, nil},
	} {
		got, err := ParseCandidates(strings.NewReader(tt.text))
		var refused *SpecError
		if !slices.Equal(got, tt.want) || (tt.want == nil) != errors.As(err, &refused) {
			t.Errorf("%s: ParseCandidates = %v, %v, want %v", name, got, err, tt.want)
		}
	}
}

// TestCandidates tests a list against a window: each seed at its own skip alone.
func TestCandidates(t *testing.T) {
	const seed = 1234
	values, err := Predict("mt19937", seed, 2, 1, 0, 9, "mod:100")
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{
		Generators: []string{"mt19937", "minstd_rand"}, Observe: "mod:100", Draws: drawsFrom(values...), Offset: Bounds{0, 3}, MinMatches: 2,
		Candidates: []Candidate{{Seed: seed, Skip: 2}, {Seed: 99, Skip: 1}, {Seed: seed, Skip: 3}, {Seed: seed, Skip: 2}, {5, 0, "minstd_rand"}},
	}
	for n := range uint64(3000) { // candidates that pass by chance
		spec.Candidates = append(spec.Candidates, Candidate{Seed: 5000 + n, Skip: uint32(n % 5)})
	}
	back, err := DecodeSpec(spec.Encode())
	if err != nil {
		t.Fatal(err)
	}
	s, err := back.Compile("mt19937")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Space(); got != (Range{0, 3002}) {
		t.Fatalf("the space is %v, want the positions of 3003 candidates", got)
	}
	var want []byte
	fixed := spec
	fixed.Candidates = nil
	for _, c := range spec.candidatesOf("mt19937") {
		fixed.Skip = Bounds{c.Skip, c.Skip}
		one := mustCompile(t, fixed)
		for _, v := range mustSearch(t, one, Range{c.Seed, c.Seed}).found {
			want = one.AppendJSON(want, v)
		}
	}
	var got []byte
	f := mustSearch(t, s, s.Space())
	for _, v := range f.found {
		got = s.AppendJSON(got, v)
	}
	if string(got) != string(want) || !strings.Contains(string(got), `{"seed":"1234","family":"mt19937","matches":9,"total":9,"match_rate":1,"best_skip":2,"best_offset":1}`) {
		t.Errorf("the candidates give\n%swant\n%s", got, want)
	}
	if f.acct != AccountOf(s.Space()) {
		t.Errorf("account %v, want %v", f.acct, AccountOf(s.Space()))
	}
	if n, expected := float64(len(f.found)), Expected(s, 3003); n < 20 || n < expected/2 || n > expected*2 {
		t.Errorf("%g candidates pass, %g are expected", n, expected)
	}
}

func TestCandidateErrors(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"skips":            func(s *Spec) { s.Skip = Bounds{0, 1} },
		"hybrid":           func(s *Spec) { s.Mode = ModeHybrid },
		"hybrid name":      func(s *Spec) { s.Generators = []string{"compat:lcg32_hybrid"} },
		"both ways":        func(s *Spec) { s.Direction = CompatBidirectional },
		"family not named": func(s *Spec) { s.Candidates[0].Family = "pcg32" },
		"beyond the space": func(s *Spec) { s.Candidates[0].Seed = 1 << 32 },
		"too many":         func(s *Spec) { s.Candidates = make([]Candidate, MaxCandidates+1) },
	} {
		spec := Spec{Generators: []string{"mt19937"}, Observe: "mod:10", Draws: drawsFrom(1, 2), MinMatches: 1, Candidates: []Candidate{{Seed: 1}}}
		if err := spec.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&spec)
		if refused := (*SpecError)(nil); !errors.As(spec.Validate(), &refused) {
			t.Errorf("%s: Validate = %v, want a SpecError", name, spec.Validate())
		}
	}
}
