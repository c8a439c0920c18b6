package kernels

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Generator describes one PRNG that a search can be about, for a person who
// chooses one and for a machine that checks an implementation against it.
type Generator struct {
	Name       string `json:"name"`
	Met        string `json:"met"`        // where a user meets it
	SeedBits   int    `json:"seed_bits"`  // the seeds are 0 to 2^SeedBits - 1
	StateBits  int    `json:"state_bits"` // what the generator keeps between two outputs
	WidthBits  int    `json:"width_bits"` // every output is below 2^WidthBits
	Definition string `json:"definition"` // plain text with all constants
	Invertible bool   `json:"invertible"` // it can be searched backward
	Source     string `json:"source"`     // the implementation that it equals bit for bit
}

// Space is the generator's whole seed space.
func (g Generator) Space() Range { return Range{0, maxOfBits(g.SeedBits)} }

// Generators lists every generator, sorted by name.
func Generators() []Generator {
	list := make([]Generator, len(registry))
	for i, d := range registry {
		list[i] = d.described()
	}
	return list
}

// Lookup finds a generator by its exact name. An unknown name gives an
// [*UnknownGeneratorError] that knows the nearest names.
func Lookup(name string) (Generator, error) {
	d, err := lookup(name)
	if err != nil {
		return Generator{}, err
	}
	return d.described(), nil
}

// described is what a person reads about the generator.
func (d *definition) described() Generator {
	g := d.Generator
	g.Invertible = d.backward != nil
	return g
}

// A definition is a registered generator: what a person reads, and the Go
// reference that every device is held against.
type definition struct {
	Generator

	// least and most bound the outputs; a zero most stands for 2^WidthBits - 1.
	least, most uint64

	// leadSkip is the original system's rule: the skip also applies before the
	// first draw. reversed says that the name itself reverses the draw list.
	leadSkip, reversed bool

	// hybrid says that the name itself states a variable skip.
	hybrid bool

	// jumps says that skipping any distance takes constant time.
	jumps bool

	// setupSteps is what seeding costs, in generator advances.
	setupSteps uint64

	// open makes a stream; it has no output before its first seed call.
	open func() stream

	// kernel is that of accelerators, for a generator that vectors do not run.
	kernel streamKernel

	// backward makes the stream of the outputs before a seed's first one, the
	// last of them first; nil for generators whose states are not its seeds.
	backward func() backStream
}

// outputs is the range of values that an output can have.
func (d *definition) outputs() Range {
	if d.most == 0 {
		return Range{d.least, maxOfBits(d.WidthBits)}
	}
	return Range{d.least, d.most}
}

// A stream is the output sequence of one seed at a time.
type stream interface {
	seed(seed uint64)  // go to output number 0 of this seed
	skip(n uint64)     // discard the next n outputs
	fill(dst []uint64) // write the next len(dst) outputs
}

// A backStream is the outputs that come before output number 0 of a seed, the
// nearest first.
type backStream interface {
	stream
	// at is the seed whose outputs come right after those that were taken.
	at() uint64
}

// A headStream can produce the outputs of neighbouring seeds faster together
// than one after the other.
type headStream interface {
	stream
	// heads writes the outputs from number `from` on, n of them, of the seeds
	// first, first+1, ... into dst, which holds one row of n for each seed. The
	// stream's own position is undefined afterwards.
	heads(first, from uint64, n int, dst []uint64)
}

// skipPiece is the most outputs that one call to skip discards, so that a
// search notices within a millisecond that it has been cancelled.
const skipPiece = 1 << 17

// registry holds every definition, sorted by name. A new generator is a new
// file with a definition, and one line here.
var registry = sorted(slices.Concat(
	[]*definition{
		&ansiCRand,
		&boostEcuyer1988,
		&boostHellekalek1995,
		&boostKreutzer1986,
		&boostMt11213b,
		&boostRand48,
		&borlandCRand,
		&delphiRandom1000,
		&glibcDrand48,
		&glibcLrand48,
		&glibcMrand48,
		&glibcRand,
		&glibcRandR,
		&glibcRandomType0,
		&glibcRandomType1,
		&glibcRandomType2,
		&glibcRandomType4,
		&goV1Intn1000,
		&goV1Uint64,
		&goV2Chacha8,
		&goV2Pcg,
		&goV2PcgIntn1000,
		&goV2PcgSeedSeed,
		&gslBorosh13,
		&gslCmrg,
		&gslCoveyou,
		&gslFishman18,
		&gslFishman20,
		&gslGfsr4,
		&gslKnuthran2,
		&gslLecuyer21,
		&gslMinstd,
		&gslMt19937,
		&gslRand,
		&gslRand48,
		&gslRandu,
		&gslTaus,
		&gslTaus2,
		&gslTransputer,
		&gslVax,
		&gslWaterman14,
		&javaL32x64mix,
		&javaL64x128mix,
		&javaL64x256mix,
		&javaRandomNext32,
		&javaRandomNextDouble53,
		&javaRandomNextFloat24,
		&javaRandomNextInt1000,
		&javaRandomNextInt1024,
		&javaRandomNextLong,
		&javaSplittableNextint,
		&javaSplittableNextint1000,
		&javaXoroshiro128pp,
		&javaXoshiro256pp,
		&knuthB,
		&lcg32,
		&lcg64Mmix,
		&luaRandom0999,
		&luaRandom64,
		&luaRandomFloat53,
		&minstdRand,
		&minstdRand0,
		&msvcRand,
		&mt19937,
		&mt19937x64,
		&mulberry32,
		&npLegacyMt19937,
		&npLegacyRandint1000,
		&npLegacyRandom53,
		&npMt19937,
		&npPcg64,
		&npPcg64Integers1000,
		&npPcg64Random53,
		&npPcg64dxsm,
		&npPhilox4x64,
		&npPhilox4x64Key,
		&npSeedsequence32,
		&npSfc64,
		&pcg32,
		&pcg32Fast,
		&pcg32Stream54,
		&pcg32StreamEqSeed,
		&pcg64,
		&pcg64Fast,
		&perlRand1000,
		&perlRand48,
		&philox2x3210,
		&philox2x6410,
		&philox4x3210,
		&philox4x6410,
		&phpMtEngine32,
		&phpMtEngine32Legacy,
		&phpMtRand,
		&phpMtRand01023,
		&phpMtRand0to999,
		&phpMtRand1100,
		&phpMtRandLegacy,
		&phpMtRandLegacy0999,
		&phpPcgOneseq128xslrr64,
		&phpRand,
		&phpRand0999,
		&pyGetrandbits32,
		&pyGetrandbits64,
		&pyRandom53,
		&pyRandrange1000,
		&ranlux24,
		&ranlux24Base,
		&ranlux48,
		&ranlux48Base,
		&rubyRand1000,
		&rubyRand232,
		&rubyRand53,
		&sfc64,
		&splitmix64,
		&threefry2x3220,
		&threefry2x6420,
		&threefry4x3220,
		&threefry4x6420,
		&v8Random1000,
		&v8Random52,
		&vb6Rnd24,
		&xoroshiro128plus,
		&xorshift128,
		&xorshift128plus,
		&xorshift32,
		&xorshift64,
		&xorshift64star,
		&xorwow,
		&xoshiro128pp,
		&xoshiro128ss,
		&xoshiro256plus,
		&xoshiro256pp,
		&xoshiro256ss,
	},
	compatibles,
))

func sorted(defs []*definition) []*definition {
	slices.SortFunc(defs, byName)
	return defs
}

func byName(a, b *definition) int { return cmp.Compare(a.Name, b.Name) }

func lookup(name string) (*definition, error) {
	i, ok := slices.BinarySearchFunc(registry, name, func(d *definition, name string) int {
		return cmp.Compare(d.Name, name)
	})
	if !ok {
		return nil, &UnknownGeneratorError{Name: name, Near: nearest(name)}
	}
	return registry[i], nil
}

// An UnknownGeneratorError says that no generator has the name, and which
// names are nearest to it.
type UnknownGeneratorError struct {
	Name string
	Near []string
}

func (e *UnknownGeneratorError) Error() string {
	return fmt.Sprintf("kernels: no generator is called %q", clip(e.Name))
}

// Remedy names the nearest generators.
func (e *UnknownGeneratorError) Remedy() string {
	if len(e.Near) == 0 {
		return "list them with: seedmesh generators"
	}
	return fmt.Sprintf("did you mean %s? list them with: seedmesh generators", strings.Join(e.Near, " or "))
}

// maxNear is how many names an [UnknownGeneratorError] offers.
const maxNear = 3

// nearest gives the names that are a typing error or a missing part away from name, or
// those that a user meets where name says.
func nearest(name string) []string {
	name = strings.ToLower(clip(name))
	type candidate struct {
		name string
		cost int
	}
	var found []candidate
	for _, d := range registry {
		short := strings.TrimPrefix(d.Name, "compat:")
		cost := min(EditDistance(name, d.Name), EditDistance(strings.ReplaceAll(name, "-", "_"), short))
		switch {
		case len(name) > 1 && strings.HasPrefix(d.Name, name):
			cost = min(cost, 1)
		case name != "" && (strings.Contains(d.Name, name) || strings.Contains(name, short)):
			cost = min(cost, 2)
		}
		if cost <= max(2, len(name)/3) {
			found = append(found, candidate{d.Name, cost})
		}
	}
	if len(found) == 0 && len(name) > 2 {
		for _, d := range registry {
			if strings.Contains(strings.ToLower(d.Met), name) {
				found = append(found, candidate{name: d.Name})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), compare(isCompatible(a.name), isCompatible(b.name)))
	})
	var names []string
	for _, c := range found[:min(maxNear, len(found))] {
		names = append(names, c.name)
	}
	return names
}

// isCompatible reports whether the name is one of the original system's.
func isCompatible(name string) bool { return strings.HasPrefix(name, "compat:") }

// compare puts false before true.
func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Nearest is the candidate that is a typing error away from what was typed, or "".
func Nearest(typed string, candidates []string) string {
	const most = 60 // bytes that are compared
	typed = typed[:min(len(typed), most)]
	best, cost := "", max(2, len(typed)/3)+1
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		d := EditDistance(typed, c)
		if len(typed) >= 3 && strings.HasPrefix(c, typed) {
			d = min(d, 1)
		}
		if d < cost && d < len(c) {
			best, cost = c, d
		}
	}
	return best
}

// EditDistance is the number of bytes to insert, delete or replace that make a to b.
func EditDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// clip shortens what a person typed so that a message stays one line.
func clip(s string) string {
	const most = 60 // bytes
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// maxOfBits is 2^bits - 1, for 1 to 64 bits.
func maxOfBits(bits int) uint64 { return (1<<64 - 1) >> (64 - bits) }
