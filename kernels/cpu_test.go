package kernels

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var replay = flag.Uint64("seed", 1, "first seed of the random searches")

// TestRandomSearches holds early stopping, the shared chain and the first test
// against the definition written down directly.
func TestRandomSearches(t *testing.T) {
	rounds := uint64(300)
	if testing.Short() {
		rounds = 60
	}
	for seed := *replay; seed < *replay+rounds; seed++ {
		rng := rand.New(rand.NewPCG(seed, 0))
		s, err := randomSearch(rng, registry[rng.IntN(len(registry))])
		if err != nil {
			t.Fatal(err)
		}
		first := rng.Uint64() & s.Space().Last / 2
		r := Range{first, first + rng.Uint64N(100)}
		if err := mustSearch(t, s, r).difference(reference(s, r), s, r); err != nil {
			t.Fatalf("%s: %v\nreplay: go test ./kernels -run RandomSearches -seed=%d", describe(s), err, seed)
		}
	}
}

// TestPieces cuts a range at random, and expects the same bytes.
func TestPieces(t *testing.T) {
	s := mustCompile(t, Spec{
		Generators: []string{"xorshift32"}, Observe: "mod:10", Skip: Bounds{0, 2}, Offset: Bounds{0, 2},
		MinMatches: 3, Draws: drawsFrom(1, 2, 3, 4),
	})
	whole := Range{100, 100_000}
	bytesOf := func(ranges []Range) (b []byte, acct Account) {
		for _, r := range ranges {
			f := mustSearch(t, s, r)
			acct = acct.Add(f.acct)
			for _, v := range f.found {
				b = s.AppendJSON(b, v)
			}
		}
		return b, acct
	}
	want, _ := bytesOf([]Range{whole})
	if len(want) == 0 {
		t.Fatal("the search has no survivors to compare")
	}
	rng := rand.New(rand.NewPCG(3, 0))
	for range 5 {
		var cut []Range
		for at := whole.First; ; {
			r := Range{at, min(whole.Last, at+rng.Uint64N(30_000))}
			cut = append(cut, r)
			if r.Last == whole.Last {
				break
			}
			at = r.Last + 1
		}
		got, acct := bytesOf(cut)
		if !bytes.Equal(got, want) || acct != AccountOf(whole) {
			t.Fatalf("cut as %v: %d bytes, account %v; want %d bytes, %v", cut, len(got), acct, len(want), AccountOf(whole))
		}
	}
}

func TestEndOfSpace(t *testing.T) {
	s := mustCompile(t, Spec{Generators: []string{"splitmix64"}, Observe: "mod:2", MinMatches: 0, KeepAll: true, Draws: drawsFrom(1)})
	r := Range{math.MaxUint64 - 200_000, math.MaxUint64}
	f := mustSearch(t, s, r)
	if uint64(len(f.found)) != r.Count() || f.acct != AccountOf(r) || f.last != r.Last || !f.ok {
		t.Errorf("Search(%s) found %d, account %v, last %d; want %d, %v, %d", r, len(f.found), f.acct, f.last, r.Count(), AccountOf(r), r.Last)
	}
	if !slices.IsSortedFunc(f.found, func(a, b Survivor) int { return int(int64(a.Seed - b.Seed)) }) {
		t.Error("the survivors are not in order of seed")
	}
}

// TestWatchStops stops at seeds before, inside and at the end of the range.
func TestWatchStops(t *testing.T) {
	s := mustCompile(t, Spec{Generators: []string{"minstd_rand"}, Observe: "mod:3", MinMatches: 1, Draws: drawsFrom(1)})
	r := Range{1000, 300_000}
	for _, stop := range []uint64{1000, 1001, 70_000, 150_000, 299_999, 300_000, math.MaxUint64} {
		var found []Survivor
		seen := uint64(0)
		searcher, _ := NewCPU(2).Prepare(t.Context(), s)
		last, acct, ok, err := searcher.Search(t.Context(), r, func(done uint64) uint64 {
			if done < seen {
				t.Errorf("watch saw %d after %d", done, seen)
			}
			seen = done
			if done > 0 {
				return stop
			}
			return r.Last
		}, func(v Survivor) error { found = append(found, v); return nil })
		want := min(stop, r.Last)
		if last != want || !ok || err != nil {
			t.Fatalf("stop at %d: Search = %d, %t, %v; want %d", stop, last, ok, err, want)
		}
		if part := (Range{r.First, last}); acct != AccountOf(part) {
			t.Errorf("stop at %d: account %v, want %v", stop, acct, AccountOf(part))
		}
		found = slices.DeleteFunc(found, func(v Survivor) bool { return v.Seed > last })
		if want := mustSearch(t, s, Range{r.First, last}).found; !slices.Equal(found, want) {
			t.Errorf("stop at %d: %d survivors, want %d", stop, len(found), len(want))
		}
	}
	f, err := searchOn(t.Context(), NewCPU(2), s, r, func(uint64) uint64 { return r.First - 1 })
	if f.ok || err != nil || f.acct != (Account{}) {
		t.Errorf("stop before the range: %+v, %v; want nothing finished", f, err)
	}
}

// TestCancel cancels searches whose single seeds would take minutes to years.
func TestCancel(t *testing.T) {
	for name, spec := range map[string]Spec{
		"many seeds": {Generators: []string{"mt19937"}, Observe: "mod:1000", Draws: drawsFrom(1), MinMatches: 1},
		"many pairs": {Generators: []string{"xorshift32"}, Observe: "mod:1000", Draws: drawsFrom(slices.Repeat([]uint64{1}, 50)...),
			Skip: Bounds{0, MaxSkip}, Offset: Bounds{0, 5000}, MinMatches: 20},
		"beyond the chain": {Generators: []string{"glibc_rand"}, Observe: "mod:1000", Draws: drawsFrom(slices.Repeat([]uint64{1}, 50)...),
			Skip: Bounds{0, MaxSkip}, Offset: Bounds{0, MaxOffset}, MinMatches: 50},
		"far offset": {Generators: []string{"php_mt_rand_0_999"}, Observe: "mod:1000", Draws: drawsFrom(1),
			Offset: Bounds{MaxOffset, MaxOffset}, MinMatches: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustCompile(t, spec)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var cancelled time.Time
			r := s.Space()
			_, err := searchOn(ctx, NewCPU(2), s, r, func(uint64) uint64 {
				if cancelled.IsZero() {
					cancelled = time.Now()
					cancel()
				}
				return r.Last
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Search = %v, want %v", err, context.Canceled)
			}
			t.Logf("returned %v after the cancel", time.Since(cancelled))
		})
	}
}

func TestEmitError(t *testing.T) {
	s := mustCompile(t, Spec{Generators: []string{"minstd_rand"}, Observe: "mod:3", MinMatches: 1, Draws: drawsFrom(1)})
	searcher, _ := NewCPU(2).Prepare(t.Context(), s)
	full := errors.New("disk full")
	r := Range{0, 1 << 30}
	if _, _, _, err := searcher.Search(t.Context(), r, toEnd(r), func(Survivor) error { return full }); !errors.Is(err, full) {
		t.Errorf("Search = %v, want %v", err, full)
	}
}

// TestLongChains looks at windows that are longer than the chain that is kept,
// with the first draw inside of it and beyond.
func TestLongChains(t *testing.T) {
	for name, spec := range map[string]Spec{
		"last draws beyond": {Skip: Bounds{MaxSkip - 1, MaxSkip}, Offset: Bounds{7, 8}, MinMatches: 66},
		"wildcards first":   {Skip: Bounds{MaxSkip, MaxSkip}, Offset: Bounds{0, 1}, MinMatches: 20},
		"all pairs beyond":  {Offset: Bounds{0, maxChain + 1}, Skip: Bounds{0, 0}, MinMatches: 70},
	} {
		t.Run(name, func(t *testing.T) {
			spec.Observe = "mod:1000"
			const seed = 0xC0FFEE
			def, _ := lookup("splitmix64")
			s, err := plant(def, seed, spec, 70)
			if err != nil {
				t.Fatal(err)
			}
			if name == "wildcards first" {
				for i := range s.points[:50] {
					s.points[i].value = 5000
				}
				s.points = s.points[50:]
				s.layOut()
			}
			want := Survivor{Seed: seed, Matches: uint16(len(s.points)), Skip: uint16(spec.Skip.Min + (spec.Skip.Max-spec.Skip.Min)/2), Offset: spec.Offset.Min + (spec.Offset.Max-spec.Offset.Min)/2}
			if name == "all pairs beyond" {
				want.Offset = (maxChain + 1) / 2
			}
			if got := mustSearch(t, s, Range{seed, seed}).found; !slices.Equal(got, []Survivor{want}) {
				t.Errorf("found %v, want %v", got, want)
			}
		})
	}
}

func TestAccountOf(t *testing.T) {
	for _, r := range []Range{{0, 0}, {5, 1000}, {math.MaxUint64 - 999, math.MaxUint64}, {1<<32 - 5, 1<<32 + 5}} {
		var want Account
		for seed := r.First; ; seed++ {
			want.visit(seed)
			if seed == r.Last {
				break
			}
		}
		if got := AccountOf(r); got != want {
			t.Errorf("AccountOf(%s) = %v, want %v", r, got, want)
		}
	}
	if got, want := AccountOf(Range{0, math.MaxUint64}).Add(Account{}), (Account{0, 1 << 63, 0x8000000000000000}); got.Count != want.Count || got.Sum != want.Sum {
		t.Errorf("AccountOf(the whole space) = %v, want count and sum of %v", got, want)
	}
}

func drawsFrom(values ...uint64) []Draw {
	draws := make([]Draw, len(values))
	for i, v := range values {
		draws[i] = Draw{Value: v, Known: true}
	}
	return draws
}
