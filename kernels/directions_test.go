package kernels

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestBackStreams takes outputs back from a seed, and forward again from where
// they began: the same outputs, and then the seed's own.
func TestBackStreams(t *testing.T) {
	const n = 50
	invertible := 0
	for _, def := range registry {
		if def.backward == nil {
			continue
		}
		invertible++
		rng := rand.New(rand.NewPCG(9, 9))
		for range 20 {
			seed := 1 + rng.Uint64N(def.Space().Last)
			back, forward := def.backward(), def.open()
			var earlier, again, own, follow [n]uint64
			back.seed(seed)
			back.fill(earlier[:n/2])
			back.fill(earlier[n/2:])
			forward.seed(back.at())
			forward.fill(again[:])
			forward.fill(follow[:])
			forward.seed(seed)
			forward.fill(own[:])
			slices.Reverse(again[:])
			if earlier != again || own != follow {
				t.Errorf("%s from seed %d: backwards %v, forwards from %d %v; then %v, want %v", def.Name, seed, earlier[:4], back.at(), again[:4], follow[:4], own[:4])
			}
			origin := back.at()
			back.seed(seed)
			back.skip(n)
			if back.at() != origin {
				t.Errorf("%s from seed %d: %d after a skip, want %d", def.Name, seed, back.at(), origin)
			}
		}
	}
	if invertible < 30 {
		t.Errorf("%d generators can be run backwards, want at least 30", invertible)
	}
}

// A directed is what the directions add to a record.
type directed struct {
	Seed           number
	Matches, Total int
	Origin         number
	Direction      string
	HeldOut        int `json:"held_out_matches"`
	HeldOutTotal   int `json:"held_out_total"`
	Reverse        int `json:"reverse_matches"`
}

func directedOf(t *testing.T, s *Search, v Survivor) (d directed) {
	t.Helper()
	if err := json.Unmarshal(s.AppendJSON(nil, v), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestBackward plants a window in the past of a seed, and is led back to where
// it began.
func TestBackward(t *testing.T) {
	for _, def := range registry {
		if def.backward == nil || def.reversed {
			continue
		}
		const draws, skip, offset = 12, 3, 5
		seed := def.Space().Last/3 + 1000
		back := def.backward()
		back.seed(seed)
		back.skip(offset)
		spec := Spec{Generators: []string{def.Name}, Observe: "mod:100", Direction: Backward, Offset: Bounds{0, 8}, MinMatches: draws}
		if !def.hybrid {
			spec.Skip = Bounds{0, 6}
		}
		var one [1]uint64
		for range draws {
			back.fill(one[:])
			spec.Draws = append(spec.Draws, Draw{Value: one[0] % 100, Known: true})
			back.skip(skip)
		}
		slices.Reverse(spec.Draws)
		s := mustCompile(t, spec)
		var got directed
		var at Survivor
		for _, v := range mustSearch(t, s, Range{seed - 40, seed + 40}).found {
			if v.Seed == seed {
				got, at = directedOf(t, s, v), v
			}
		}
		if got.Matches != draws || got.Direction != Backward {
			t.Fatalf("%s: the seed %d is not found: %+v", def.Name, seed, got)
		}
		if def.hybrid {
			continue // the offset may be another one
		}
		if at.Skip != skip || at.Offset != offset {
			continue // a generator with a short period in its low digits
		}
		again, err := Predict(def.Name, uint64(got.Origin), skip, 0, 0, draws, "mod:100")
		if def.leadSkip {
			again, err = Predict(def.Name, uint64(got.Origin), skip, 0, 0, draws+1, "mod:100")
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := spec.Draws; !def.leadSkip && !slices.EqualFunc(again, want, func(v uint64, d Draw) bool { return v == d.Value }) {
			t.Errorf("%s: the origin %d gives %v, want %v", def.Name, got.Origin, again, want)
		}
	}
}

// twoPart is a search on the first 8 of 12 draws, verified by the other 4.
func twoPart(t *testing.T, seed uint64, spoil int, need, confirm uint32) *Search {
	t.Helper()
	values, err := Predict("xorshift32", seed, 2, 3, 0, 12, "mod:1000")
	if err != nil {
		t.Fatal(err)
	}
	for i := range spoil {
		values[11-i] ^= 1
	}
	return mustCompile(t, Spec{
		Generators: []string{"xorshift32"}, Observe: "mod:1000", Direction: Bidirectional, Draws: drawsFrom(values...),
		Skip: Bounds{0, 4}, Offset: Bounds{0, 4}, Split: 8, MinMatches: need, ConfirmMatches: confirm,
	})
}

func TestBidirectional(t *testing.T) {
	const seed = 777_777
	for _, tt := range []struct {
		spoil         int
		need, confirm uint32
		want          bool
	}{{0, 8, 4, true}, {1, 8, 4, false}, {1, 8, 3, true}, {4, 8, 1, false}, {2, 1, 2, true}} {
		s := twoPart(t, seed, tt.spoil, tt.need, tt.confirm)
		r := Range{seed - 500, seed + 500}
		f := mustSearch(t, s, r)
		if err := f.difference(reference(s, r), s, r); err != nil {
			t.Error(err)
		}
		i := slices.IndexFunc(f.found, func(v Survivor) bool { return v.Seed == seed })
		if (i >= 0) != tt.want {
			t.Errorf("%d held-out draws spoilt, %d needed: found %t, want %t", tt.spoil, tt.confirm, i >= 0, tt.want)
		}
		if i < 0 {
			continue
		}
		want := directed{Seed: seed, Matches: 8, Total: 8, Direction: Bidirectional, HeldOut: 4 - tt.spoil, HeldOutTotal: 4}
		if got := directedOf(t, s, f.found[i]); got != want {
			t.Errorf("record %+v, want %+v", got, want)
		}
	}
}

// TestConfirmedSearches holds the searches that confirm against the definition,
// and their baseline against random draws.
func TestConfirmedSearches(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Spec)
		near   float64 // how far above the number found the baseline may lie, as a factor
	}{
		"bidirectional":        {func(s *Spec) { s.Direction, s.Split, s.MinMatches, s.ConfirmMatches = Bidirectional, 6, 2, 1 }, 1.15},
		"compat-bidirectional": {func(s *Spec) { s.Direction, s.MinMatches = CompatBidirectional, 2 }, 1.3},
		"two-phase":            {func(s *Spec) { s.Mode, s.MinMatches, s.ConfirmMatches = ModeTwoPhase, 2, 4 }, 30},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(4, 4))
			spec := Spec{Generators: []string{"splitmix64"}, Observe: "mod:50", Skip: Bounds{0, 3}, Draws: make([]Draw, 10)}
			for i := range spec.Draws {
				spec.Draws[i] = Draw{Value: rng.Uint64N(50), Known: true}
			}
			tt.change(&spec)
			s := mustCompile(t, spec)
			r := Range{0, 1000}
			if err := mustSearch(t, s, r).difference(reference(s, r), s, r); err != nil {
				t.Error(err)
			}
			s.def = scattered(s.def)
			s.confirm.def = s.def
			r = Range{0, 99_999}
			found, want := float64(len(mustSearch(t, s, r).found)), Expected(s, r.Size())
			if found < 30 || want < found-6*math.Sqrt(found) || want > tt.near*found+6*math.Sqrt(found) {
				t.Errorf("%g survivors, expected %g", found, want)
			}
			t.Logf("%g survivors, expected %g", found, want)
		})
	}
}

// TestTwoPhase is a hybrid search over exactly the survivors of a fixed one.
func TestTwoPhase(t *testing.T) {
	spec := Spec{Generators: []string{"mt19937"}, Observe: "mod:20", Skip: Bounds{0, 5}, Draws: drawsFrom(1, 7, 13, 19, 4), MinMatches: 3}
	r := Range{0, 3000}
	var want []string
	fixed := mustCompile(t, spec)
	hybrid := spec
	hybrid.Mode, hybrid.Skip, hybrid.MinMatches = ModeHybrid, Bounds{}, 4
	second := mustCompile(t, hybrid)
	for _, candidate := range mustSearch(t, fixed, r).found {
		for _, v := range mustSearch(t, second, Range{candidate.Seed, candidate.Seed}).found {
			want = append(want, string(second.AppendJSON(nil, v)))
		}
	}
	spec.Mode, spec.ConfirmMatches = ModeTwoPhase, 4
	both := mustCompile(t, spec)
	var got []string
	for _, v := range mustSearch(t, both, r).found {
		got = append(got, string(both.AppendJSON(nil, v)))
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("two-phase finds\n%s\nwant\n%s", fmt.Sprint(got), fmt.Sprint(want))
	}
}

// TestCompatBidirectional is the intersection of both ways, and rejects the true
// seed, as the original's does.
func TestCompatBidirectional(t *testing.T) {
	const seed = 4321
	values, err := Predict("compat:java_lcg", seed, 1, 0, 0, 10, "mod:1000")
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Generators: []string{"compat:java_lcg"}, Observe: "mod:1000", Skip: Bounds{0, 9}, Draws: drawsFrom(values...), MinMatches: 1}
	r := Range{0, 20_000}
	seeds := func(direction string) (list []uint64) {
		one := spec
		one.Direction = direction
		for _, v := range mustSearch(t, mustCompile(t, one), r).found {
			list = append(list, v.Seed)
		}
		return list
	}
	reverse := seeds(ReverseWindow)
	want := slices.DeleteFunc(seeds(Forward), func(seed uint64) bool { return !slices.Contains(reverse, seed) })
	if got := seeds(CompatBidirectional); len(want) < 10 || !slices.Equal(got, want) {
		t.Errorf("%d seeds, want %d", len(got), len(want))
	}
	spec.MinMatches = 5
	if got := seeds(CompatBidirectional); slices.Contains(got, seed) {
		t.Errorf("half of the draws: the true seed is among %v", got)
	}
}
