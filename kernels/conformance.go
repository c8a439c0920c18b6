package kernels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Conformance reports the first way in which a device differs from the
// definition: known seeds that it misses, random searches with other survivors
// or another account than the definition written down directly, the end of the
// seed space, stopping and cancelling. Searches that the device says it does not
// support are passed over. It takes a few seconds on one core.
func Conformance(ctx context.Context, d Device) error {
	return conform(ctx, d, registry)
}

// conform is Conformance for some generators.
func conform(ctx context.Context, d Device, defs []*definition) error {
	for _, def := range defs {
		if err := conformGenerator(ctx, d, def); err != nil {
			return err
		}
	}
	return nil
}

// conformBriefly is conform for less than all of the suite where a kernel is told from
// others by its arithmetic alone.
func conformBriefly(ctx context.Context, d Device, defs []*definition) error {
	for _, def := range defs {
		checks := suite
		if def.kernel != (streamKernel{}) {
			checks = briefSuite
		}
		if err := conformTo(ctx, d, def, checks); err != nil {
			return err
		}
	}
	return nil
}

// A conformity is one check of a generator on a device.
type conformity struct {
	name string
	run  func(context.Context, Device, *definition) error
}

var suite = []conformity{
	{"planted seeds", conformPlanted},
	{"random searches", conformRandom},
	{"end of the seed space", conformEnd},
	{"stopping", conformStop},
	{"cancelling", conformCancel},
}

var briefSuite = []conformity{
	{"a planted seed", func(ctx context.Context, d Device, def *definition) error {
		return conformPlant(ctx, d, def, firstPlant)
	}},
	{"end of the seed space", conformEnd},
}

func conformGenerator(ctx context.Context, d Device, def *definition) error {
	return conformTo(ctx, d, def, suite)
}

func conformTo(ctx context.Context, d Device, def *definition, checks []conformity) error {
	for _, check := range checks {
		if err := check.run(ctx, d, def); err != nil {
			return fmt.Errorf("kernels: device %s, generator %s: %s: %w", d.Name(), def.Name, check.name, err)
		}
	}
	return nil
}

// A finding is everything that one call of Search gives.
type finding struct {
	last  uint64
	acct  Account
	ok    bool
	found []Survivor
}

// held runs a search and has its finding checked, unless the device says that it
// cannot run it.
func held(ctx context.Context, d Device, s *Search, r Range, watch func(uint64) uint64, check func(finding) error) error {
	f, err := searchOn(ctx, d, s, r, watch)
	if unsupported := (*UnsupportedError)(nil); errors.As(err, &unsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	return check(f)
}

func searchOn(ctx context.Context, d Device, s *Search, r Range, watch func(uint64) uint64) (finding, error) {
	searcher, err := d.Prepare(ctx, s)
	if err != nil {
		return finding{}, err
	}
	defer searcher.Close()
	var f finding
	f.last, f.acct, f.ok, err = searcher.Search(ctx, r, watch, func(v Survivor) error {
		f.found = append(f.found, v)
		return nil
	})
	return f, err
}

// toEnd is the watch that never stops.
func toEnd(r Range) func(uint64) uint64 { return func(uint64) uint64 { return r.Last } }

// difference says how a device's finding is not the expected one.
func (f finding) difference(want finding, s *Search, r Range) error {
	var got, expected []byte
	for _, v := range f.found {
		got = s.AppendJSON(got, v)
	}
	for _, v := range want.found {
		expected = s.AppendJSON(expected, v)
	}
	switch {
	case !bytes.Equal(got, expected):
		return fmt.Errorf("seeds %s: survivors\n%swant\n%s", r, got, expected)
	case f.last != want.last || f.ok != want.ok:
		return fmt.Errorf("seeds %s: finished to %d (%t), want %d (%t)", r, f.last, f.ok, want.last, want.ok)
	case f.acct != want.acct:
		return fmt.Errorf("seeds %s: account %v, want %v", r, f.acct, want.acct)
	}
	return nil
}

// plant makes a search whose draws are those of a seed.
func plant(def *definition, seed uint64, spec Spec, draws int) (*Search, error) {
	skip := spec.Skip.Min + (spec.Skip.Max-spec.Skip.Min)/2
	offset := spec.Offset.Min + (spec.Offset.Max-spec.Offset.Min)/2
	forward := strings.TrimSuffix(def.Name, "_reverse")
	values, err := Predict(forward, seed, skip, offset, 0, uint32(draws), spec.Observe)
	if err != nil {
		return nil, err
	}
	if def.reversed {
		slices.Reverse(values)
	}
	for _, v := range values {
		spec.Draws = append(spec.Draws, Draw{Value: v, Known: true})
	}
	spec.Generators = []string{def.Name}
	return spec.Compile(def.Name)
}

// A planted seed is looked for among its neighbours.
type planted struct {
	seed, around uint64
	spec         Spec
}

var firstPlant = planted{12345, 100, Spec{Observe: "mod:1000", Skip: Bounds{0, 8}, Offset: Bounds{2, 2}, MinMatches: 8}}

func conformPlanted(ctx context.Context, d Device, def *definition) error {
	space := def.Space().Last
	for _, p := range []planted{
		firstPlant,
		{space/3 + 77, 100, Spec{Observe: "mod:256", Skip: Bounds{1, 1}, Offset: Bounds{0, 20}, MinMatches: 8}},
		{space - 3, 3, Spec{Observe: "raw", MinMatches: 8}},
	} {
		if err := conformPlant(ctx, d, def, p); err != nil {
			return err
		}
	}
	return nil
}

func conformPlant(ctx context.Context, d Device, def *definition, p planted) error {
	s, err := plant(def, p.seed, p.spec, 8)
	if err != nil {
		return err
	}
	r := Range{p.seed - p.around, p.seed + p.around}
	return held(ctx, d, s, r, toEnd(r), func(f finding) error {
		has := slices.ContainsFunc(f.found, func(v Survivor) bool { return v.Seed == p.seed && v.Matches == 8 })
		if !has {
			return fmt.Errorf("seed %d is not among the survivors %v", p.seed, f.found)
		}
		if f.acct != AccountOf(r) || f.last != r.Last || !f.ok {
			return fmt.Errorf("seeds %s: finished to %d with account %v, want %v", r, f.last, f.acct, AccountOf(r))
		}
		return nil
	})
}

// conformSearches is how many random searches a generator is held against.
const conformSearches = 4

func conformRandom(ctx context.Context, d Device, def *definition) error {
	rng := rand.New(rand.NewPCG(7, uint64(len(def.Name))))
	for range conformSearches {
		s, err := randomSearch(rng, def)
		if err != nil {
			return err
		}
		first := rng.Uint64() & def.Space().Last / 2
		r := Range{first, first + rng.Uint64N(60)}
		err = held(ctx, d, s, r, toEnd(r), func(f finding) error { return f.difference(reference(s, r), s, r) })
		if err != nil {
			return fmt.Errorf("%w\nspec: %s", err, describe(s))
		}
	}
	return nil
}

// randomSearch is a small search in which chance survivors are common.
func randomSearch(rng *rand.Rand, def *definition) (*Search, error) {
	observe, values := randomObserve(rng, def)
	spec := Spec{
		Generators: []string{def.Name},
		Observe:    observe,
		Skip:       randomBounds(rng, 6),
		Offset:     randomBounds(rng, 12),
		Draws:      make([]Draw, 1+rng.IntN(12)),
	}
	for i := range spec.Draws {
		spec.Draws[i] = Draw{Value: rng.Uint64N(values), Known: rng.IntN(5) > 0}
		if rng.IntN(3) == 0 {
			spec.Draws[i].Width = rng.Uint64N(min(3, values-spec.Draws[i].Value))
		}
	}
	spec.Draws[rng.IntN(len(spec.Draws))].Known = true
	spec.MinMatches = 1 + rng.Uint32N(uint32(spec.Known()))
	return spec.Compile(def.Name)
}

// randomObserve is an observation of few values, and how many there are.
func randomObserve(rng *rand.Rand, def *definition) (observe string, values uint64) {
	n := 2 + rng.Uint64N(20)
	switch rng.IntN(6) {
	case 0:
		return fmt.Sprintf("scale:%d", n), n
	case 1:
		top := 1 + rng.Uint64N(4)
		return fmt.Sprintf("top:%d", top), 1 << top
	case 2:
		span := def.outputs()
		low := span.First + (span.Last-span.First)/n
		return fmt.Sprintf("range:%d:%d", low, low+(span.Last-span.First)/3), 2
	}
	return fmt.Sprintf("mod:%d", n), n
}

func randomBounds(rng *rand.Rand, most uint32) Bounds {
	low := rng.Uint32N(most)
	return Bounds{low, low + rng.Uint32N(most)}
}

func describe(s *Search) string {
	return fmt.Sprintf("%s %s skip %v offset %v need %d of %d, draws %v",
		s.Generator(), s.Observe(), s.skip, s.offset, s.need, len(s.points), s.points)
}

func conformEnd(ctx context.Context, d Device, def *definition) error {
	rng := rand.New(rand.NewPCG(11, uint64(len(def.Name))))
	s, err := randomSearch(rng, def)
	if err != nil {
		return err
	}
	last := def.Space().Last
	for _, r := range []Range{{0, 0}, {last, last}, {last - 70, last}} {
		err := held(ctx, d, s, r, toEnd(r), func(f finding) error { return f.difference(reference(s, r), s, r) })
		if err != nil {
			return err
		}
	}
	return nil
}

func conformStop(ctx context.Context, d Device, def *definition) error {
	s, err := randomSearch(rand.New(rand.NewPCG(13, uint64(len(def.Name)))), def)
	if err != nil {
		return err
	}
	r, stopAt := Range{1000, 1400}, uint64(1123)
	return held(ctx, d, s, r, func(uint64) uint64 { return stopAt }, func(f finding) error {
		f.found = slices.DeleteFunc(f.found, func(v Survivor) bool { return v.Seed > stopAt })
		part := Range{r.First, stopAt}
		return f.difference(reference(s, part), s, part)
	})
}

// conformCancel cancels a search that takes long, and one of the size that every
// kind of device can run.
func conformCancel(ctx context.Context, d Device, def *definition) error {
	for _, bounds := range []Bounds{{0, 200}, {0, 3}} {
		s, err := plant(def, 1, Spec{Observe: "mod:1000", Skip: bounds, Offset: bounds, MinMatches: 40}, 50)
		if err != nil {
			return err
		}
		if err := conformCancelled(ctx, d, s); err != nil {
			return err
		}
	}
	return nil
}

func conformCancelled(ctx context.Context, d Device, s *Search) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := s.Space()
	finished := func(finding) error { return errors.New("a cancelled search came to its end") }
	if err := held(ctx, d, s, r, func(uint64) uint64 { cancel(); return r.Last }, finished); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
