package kernels

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestCompatHybrid holds the variable skip against cases of an independent
// program: every survivor, its strategy and its skips.
func TestCompatHybrid(t *testing.T) {
	var cases []struct {
		Generator  string
		Draws      []uint64
		Modulus    uint64
		Offset     uint32
		SeedStart  number `json:"seed_start"`
		SeedCount  uint64 `json:"seed_count"`
		MinMatches uint32 `json:"min_matches"`
		Survivors  []hybridRecord
	}
	readJSON(t, "testdata/compat-hybrid.json", &cases)
	if len(cases) != 22 {
		t.Fatalf("%d cases, want 22", len(cases))
	}
	for _, c := range cases {
		spec := Spec{
			Generators: []string{c.Generator}, Draws: drawsFrom(c.Draws...), Observe: fmt.Sprintf("mod:%d", c.Modulus),
			Offset: Bounds{c.Offset, c.Offset}, MinMatches: c.MinMatches,
		}
		s := mustCompile(t, spec)
		var got []hybridRecord
		for _, v := range mustSearch(t, s, Range{uint64(c.SeedStart), uint64(c.SeedStart) + c.SeedCount - 1}).found {
			got = append(got, hybridRecordOf(t, s, v))
		}
		if !slices.EqualFunc(got, c.Survivors, hybridRecord.equal) {
			t.Errorf("%s finds\n%v\nwant\n%v", c.Generator, got, c.Survivors)
		}
	}
}

// A hybridRecord is the part of a record that the cases state.
type hybridRecord struct {
	Seed        number
	Matches     int
	Strategy    string
	SkipPattern []int `json:"skip_pattern"`
}

func (r hybridRecord) equal(o hybridRecord) bool {
	return r.Seed == o.Seed && r.Matches == o.Matches && r.Strategy == o.Strategy && slices.Equal(r.SkipPattern, o.SkipPattern)
}

func hybridRecordOf(t *testing.T, s *Search, v Survivor) (r hybridRecord) {
	t.Helper()
	line := s.AppendJSON(nil, v)
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return r
}

// TestHybridAgainstDefinition searches for random draws with random strategies.
func TestHybridAgainstDefinition(t *testing.T) {
	survivors := 0
	for seed := *replay; seed < *replay+60; seed++ {
		rng := rand.New(rand.NewPCG(seed, 3))
		spec := Spec{
			Generators: []string{[]string{"xorshift32", "mt19937", "compat:pcg32_hybrid", "java_random_nextint1000"}[rng.IntN(4)]},
			Observe:    "mod:10", Mode: ModeHybrid, Offset: randomBounds(rng, 5), Draws: make([]Draw, 1+rng.IntN(12)), MinMatches: 1,
		}
		for i := range spec.Draws {
			spec.Draws[i] = Draw{Value: rng.Uint64N(10), Known: i == 0 || rng.IntN(5) > 0}
		}
		spec.MinMatches += rng.Uint32N(uint32(spec.Known()))
		for range rng.IntN(4) {
			st, err := ParseStrategy(fmt.Sprintf("%d:%d", 1+rng.IntN(4), rng.IntN(7)))
			if err != nil {
				t.Fatal(err)
			}
			spec.Strategies = append(spec.Strategies, st)
		}
		s := mustCompile(t, spec)
		r := Range{1000, 1060}
		found := mustSearch(t, s, r).found
		survivors += len(found)
		if err := (finding{r.Last, AccountOf(r), true, found}).difference(reference(s, r), s, r); err != nil {
			t.Fatalf("%s: %v\nreplay: go test ./kernels -run HybridAgainst -seed=%d", describe(s), err, seed)
		}
		for _, v := range found {
			record := hybridRecordOf(t, s, v)
			st, _ := ParseStrategy(record.Strategy)
			n, skips := referenceTrail(s, st, referenceReach(s, v.Seed)[v.Offset:])
			if n != record.Matches || fmt.Sprint(skips) != fmt.Sprint(record.SkipPattern) {
				t.Fatalf("seed %d of %s: record %v, want skips %v\nreplay: go test ./kernels -run HybridAgainst -seed=%d", v.Seed, describe(s), record, skips, seed)
			}
		}
	}
	if survivors < 100 {
		t.Errorf("%d survivors, which tests little", survivors)
	}
}

// TestHybridBeyondChain follows a window that leaves the chain that is kept.
func TestHybridBeyondChain(t *testing.T) {
	const seed, offset = 99, maxChain - 20
	values, err := Predict("splitmix64", seed, 6, offset, 0, 12, "mod:1000000")
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Generators: []string{"splitmix64"}, Observe: "mod:1000000", Mode: ModeHybrid, Draws: drawsFrom(values...), MinMatches: 12, Strategies: presets[:1], Offset: Bounds{5, offset}}
	s := mustCompile(t, spec)
	v := newSieve(s)
	v.abort = neverAborted
	v.begin(seed, nil)
	// The first draw is looked for around the skip that is expected first.
	got := v.follow(0, offset+1-firstExpected, 12, v.trail)
	if want := append([]int32{firstExpected - 1}, slices.Repeat([]int32{6}, 11)...); got != 12 || !slices.Equal(v.trail, want) {
		t.Errorf("follow finds %d of 12 with skips %v, want %v", got, v.trail, want)
	}
}

// TestHybridChance holds the baseline against searches for random draws.
func TestHybridChance(t *testing.T) {
	for _, tt := range []struct {
		strategies []string
		draws      int
		modulus    uint64
		need       uint32
	}{
		{nil, 12, 1000, 4},
		{[]string{"strict_continuous"}, 12, 100, 3},
		{[]string{"balanced_hybrid"}, 20, 200, 5},
		{[]string{"extreme_tolerance"}, 10, 1000, 2},
		{[]string{"2:0"}, 8, 10, 2},
	} {
		rng := rand.New(rand.NewPCG(5, uint64(tt.draws)))
		spec := Spec{Generators: []string{"splitmix64"}, Observe: fmt.Sprintf("mod:%d", tt.modulus), Mode: ModeHybrid, MinMatches: tt.need}
		for range tt.draws {
			spec.Draws = append(spec.Draws, Draw{Value: rng.Uint64N(tt.modulus), Known: true})
		}
		for _, name := range tt.strategies {
			st, err := ParseStrategy(name)
			if err != nil {
				t.Fatal(err)
			}
			spec.Strategies = append(spec.Strategies, st)
		}
		s := mustCompile(t, spec)
		s.def = scattered(s.def)
		r := Range{0, 19_999}
		found, want := float64(len(mustSearch(t, s, r).found)), Expected(s, r.Size())
		if math.Abs(found-want) > 6*math.Sqrt(want)+0.1*want || want < 30 {
			t.Errorf("%v, need %d of %d: %g survivors, expected %g", tt.strategies, tt.need, tt.draws, found, want)
		}
		t.Logf("%v, need %d of %d: %g survivors, expected %g", tt.strategies, tt.need, tt.draws, found, want)
		for _, st := range s.strategies {
			p := s.matchChance()
			exact, most := st.logPasses(tt.draws, int(tt.need), p), st.logPassesAtMost(tt.draws, int(tt.need), p)
			if most < exact-1e-9 {
				t.Errorf("%s, need %d of %d: the bound %g is below the exact %g", st.Name, tt.need, tt.draws, math.Exp(most), math.Exp(exact))
			}
		}
	}
}

func TestParseStrategy(t *testing.T) {
	for text, want := range map[string]Strategy{
		"balanced_hybrid": {"balanced_hybrid", 7, 10}, "7:10": {"7:10", 7, 10}, "1:0": {"1:0", 1, 0},
		"0:5": {}, "5": {}, "": {}, "5:4097": {}, "4097:1": {}, "balanced": {}, "1:2:3": {},
	} {
		got, err := ParseStrategy(text)
		if got != want || (err != nil) != (want == Strategy{}) {
			t.Errorf("ParseStrategy(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestCommonSkip(t *testing.T) {
	for _, tt := range []struct {
		skips []int32
		want  uint16
	}{{[]int32{-1, -1}, 0}, {[]int32{7, 3, 7, -1, -1, -1}, 7}, {[]int32{9, 4, 4, 9}, 4}, {[]int32{70_000, -1}, MaxSkip}} {
		for range 10 {
			if got := (&trail{skips: tt.skips}).commonSkip(); got != tt.want {
				t.Errorf("the common skip of %v is %d, want %d", tt.skips, got, tt.want)
			}
		}
	}
}
