package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// eachUnit runs a test on every vector unit of the CPU.
func eachUnit(t *testing.T, test func(t *testing.T, u *vectorUnit)) {
	units := vectorUnits()
	if len(units) == 0 {
		t.Skip("the CPU has no vector unit that there are kernels for")
	}
	for _, u := range units {
		t.Run(u.name, func(t *testing.T) { test(t, u) })
	}
}

// TestConformanceVectors is the suite on every unit, for the generators that
// have vectors and wherever these are possible.
func TestConformanceVectors(t *testing.T) {
	eachUnit(t, func(t *testing.T, u *vectorUnit) {
		d := cpu{threads: 2, unit: u, always: true}
		for _, def := range vectorised() {
			if err := conformGenerator(t.Context(), d, def); err != nil {
				t.Errorf("generator %s: %v", def.Name, err)
			}
		}
	})
}

// TestVectorMemory demands that no vector in the memory of a filter lies in two
// cache lines, which would halve the pace of loads. Go aligns the memory so as
// long as its sizes and the fields of vectorFilter stay what they are.
func TestVectorMemory(t *testing.T) {
	const line = 64
	eachUnit(t, func(t *testing.T, u *vectorUnit) {
		for _, name := range []string{"mt19937", "xorshift32", "compat:java_lcg"} {
			def, err := lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := plant(def, 1, Spec{Observe: "mod:1000", Skip: Bounds{0, 4}, MinMatches: 3}, 5)
			if err != nil {
				t.Fatal(err)
			}
			plan, ok := s.planVectors(u)
			if !ok {
				t.Fatalf("%s: no vectors", name)
			}
			for i, stage := range plan.stages {
				f := newVectorFilter(u, plan, stage)
				for what, at := range map[string]unsafe.Pointer{
					"constants": unsafe.Pointer(&f.args.constants),
					"tallies":   unsafe.Pointer(f.args.tallies),
					"words":     unsafe.Pointer(f.args.words),
				} {
					if over := uintptr(at) % line; over != 0 {
						t.Errorf("%s, stage %d: the %s begin %d bytes behind the start of a cache line", name, i, what, over)
					}
				}
			}
		}
	})
}

// vectorised are the generators with vector kernels. A name that states a
// variable skip has none.
func vectorised() (defs []*definition) {
	for _, d := range registry {
		if _, ok := vectorFormOf(d.open()); ok && !d.hybrid {
			defs = append(defs, d)
		}
	}
	return defs
}

// TestVectorSearches holds random searches over random ranges against the Go
// path: starts that are not aligned, ranges shorter than a vector and longer
// than a window, the end of the seeds.
func TestVectorSearches(t *testing.T) {
	rounds := uint64(400)
	if testing.Short() {
		rounds = 60
	}
	eachUnit(t, func(t *testing.T, u *vectorUnit) {
		defs := vectorised()
		vectors, survivors := 0, 0
		for seed := *replay; seed < *replay+rounds; seed++ {
			rng := rand.New(rand.NewPCG(seed, 9))
			s, err := randomVectorSearch(rng, defs[rng.IntN(len(defs))])
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := s.planVectors(u); ok {
				vectors++
			}
			r := randomRange(rng, s.Space())
			want, err := searchOn(t.Context(), cpu{threads: 1}, s, r, toEnd(r))
			if err != nil {
				t.Fatal(err)
			}
			got, err := searchOn(t.Context(), cpu{threads: 1, unit: u, always: true}, s, r, toEnd(r))
			if err != nil {
				t.Fatal(err)
			}
			survivors += len(got.found)
			if err := got.difference(want, s, r); err != nil {
				t.Fatalf("%s: %.400s\nreplay: go test ./kernels -run VectorSearches -seed=%d", describe(s), err, seed)
			}
		}
		if vectors < int(rounds)/2 || survivors < int(rounds) {
			t.Errorf("%d of %d searches had vectors and %d survivors were compared; the test proves too little", vectors, rounds, survivors)
		}
	})
}

// randomVectorSearch has survivors by chance or by planting, with moduli from
// odd to powers of two and whole outputs.
func randomVectorSearch(rng *rand.Rand, def *definition) (*Search, error) {
	modulus := 2 + rng.Uint64N(300)
	spec := Spec{
		Generators: []string{def.Name},
		Observe:    fmt.Sprintf("mod:%d", modulus),
		Skip:       randomBounds(rng, 4),
		Offset:     randomBounds(rng, 6),
	}
	if rng.IntN(3) == 0 {
		spec.Offset = Bounds{rng.Uint32N(200), 0}
		spec.Offset.Max = spec.Offset.Min + rng.Uint32N(40)
	}
	if rng.IntN(3) == 0 { // planted in the middle of what randomRange gives
		forms := []string{"raw", "mod:1000", "mod:2^20", "mod:4294967295", "mod:7", "scale:1000", "top:5", "range:100:500"}
		if slices.Contains([]*definition{&phpMtRand, &phpRand, &phpMtRandLegacy}, def) {
			forms = []string{"php.mt_rand:3:64", "php.mt_rand:0:1999999999"}
		}
		spec.Observe = forms[rng.IntN(len(forms))]
		spec.MinMatches = 1 + rng.Uint32N(5)
		s, err := plant(def, plantedSeed(def.Space()), spec, 5)
		if err == nil && rng.IntN(2) == 0 {
			widen(rng, s)
		}
		return s, err
	}
	spec.Draws = make([]Draw, 1+rng.IntN(6))
	for i := range spec.Draws {
		spec.Draws[i] = Draw{Value: rng.Uint64N(modulus), Known: rng.IntN(5) > 0}
	}
	spec.Draws[rng.IntN(len(spec.Draws))].Known = true
	spec.MinMatches = uint32(spec.Known()) - rng.Uint32N(uint32(min(3, spec.Known())))
	return spec.Compile(def.Name)
}

// widen makes intervals of a search's draws, some around the end of all numbers.
func widen(rng *rand.Rand, s *Search) {
	for i := range s.points {
		less, more := rng.Uint64N(4), rng.Uint64N(1<<rng.IntN(20))
		s.points[i].value -= less
		s.points[i].width += less + more
	}
	s.plan.matcher = s.observe.matcher(s.points[0])
}

func plantedSeed(space Range) uint64 { return space.Last/2 + 4711 }

func randomRange(rng *rand.Rand, space Range) Range {
	size := 1 + rng.Uint64N([]uint64{40, 700, 9000}[rng.IntN(3)])
	switch rng.IntN(3) {
	case 0:
		return Range{space.Last - size + 1, space.Last}
	case 1:
		first := plantedSeed(space) - size/2
		return Range{first, first + size - 1}
	}
	first := rng.Uint64() & space.Last / 2
	return Range{first, first + size - 1}
}

// TestSpan holds the span of every value against the words that are equal to it
// modulo the modulus.
func TestSpan(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	for _, modulus := range []uint64{0, 2, 3, 5, 7, 8, 10, 1000, 1024, 4096, 65521, 1 << 20, 1<<32 - 5, 1<<32 - 1} {
		tr := newTransform(modulus)
		o := reduction{modulus}
		for range 2000 {
			value, size := uint64(rng.Uint32()), uint64(1)
			if modulus > 0 {
				value %= modulus
				size = (maxWord-value)/modulus + 1
			}
			sp := tr.span(uint32(value))
			if got := uint64(sp.last-sp.first) + 1; sp.last < sp.first || got != size {
				t.Fatalf("modulus %d: span(%d) = %v with %d words, want %d", modulus, value, sp, got, size)
			}
			for _, word := range []uint32{
				0, 1, 1<<32 - 1, rng.Uint32(), uint32(value), uint32(value + modulus), uint32(value - modulus),
				uint32(value + modulus*rng.Uint64N(size)), uint32(value + modulus*(size-1)),
			} {
				in := sp.first <= tr.of(word) && tr.of(word) <= sp.last
				if matches := o.of(uint64(word)) == value; in != matches {
					t.Fatalf("modulus %d: span(%d) = %v has word %d, transformed %d: %t, want %t", modulus, value, sp, word, tr.of(word), in, matches)
				}
			}
		}
	}
}

func TestUntemper(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 0))
	for range 1000 {
		if y := rng.Uint32(); mtUntemper(mtTemper(y)) != y {
			t.Fatalf("mtUntemper(mtTemper(%#x)) = %#x", y, mtUntemper(mtTemper(y)))
		}
	}
}

// TestRefusedWords finds seeds of which PHP draws a word again, so that the
// outputs are not where vectors look for them.
func TestRefusedWords(t *testing.T) {
	eachUnit(t, func(t *testing.T, u *vectorUnit) {
		for seed, refused := range map[uint64]int{1472677: 2, 2180022: 1, 8153190: 7} {
			words := make([]uint64, 8)
			g := phpMtRand0to999.open().(*phpMtRangeStream)
			g.mtStream.seed(seed)
			g.mtStream.fill(words)
			if words[refused] <= g.last {
				t.Fatalf("word %d of seed %d is %d, which PHP accepts", refused, seed, words[refused])
			}
			for _, spec := range []Spec{
				{Observe: "raw", Offset: Bounds{0, 3}, MinMatches: 6},
				{Observe: "raw", Offset: Bounds{8, 8}, MinMatches: 6},
				{Observe: "mod:10", Skip: Bounds{1, 1}, MinMatches: 5},
			} {
				s, err := plant(&phpMtRand0to999, seed, spec, 6)
				if err != nil {
					t.Fatal(err)
				}
				r := Range{seed - 100, seed + 100}
				f, err := searchOn(t.Context(), cpu{threads: 1, unit: u, always: true}, s, r, toEnd(r))
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(f.found, func(v Survivor) bool { return v.Seed == seed }) {
					t.Errorf("%s: seed %d, of which a word is refused, was not found", describe(s), seed)
				}
			}
		}
	})
}
