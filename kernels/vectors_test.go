package kernels

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A number is an unsigned integer that JSON may hold as a decimal string.
type number uint64

func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseUint(strings.Trim(string(b), `"`), 10, 64)
	*n = number(v)
	return err
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestVectors holds the generators against outputs of other people's
// implementations, reached by filling, by skipping and by heads.
func TestVectors(t *testing.T) {
	var file struct {
		Generators []struct {
			Name      string
			WidthBits int `json:"width_bits"`
			SeedBits  int `json:"seed_bits"`
			Vectors   []struct {
				Seed  number
				First []number
				At    map[string]number
			}
		}
	}
	readJSON(t, "testdata/vectors.json", &file)
	if len(file.Generators) != 133 {
		t.Fatalf("%d generators in the vectors, want 133", len(file.Generators))
	}
	for _, g := range file.Generators {
		def, err := lookup(g.Name)
		if err != nil {
			t.Fatal(err)
		}
		if def.WidthBits != g.WidthBits || def.SeedBits != g.SeedBits {
			t.Errorf("%s: %d-bit outputs of %d-bit seeds, want %d and %d", g.Name, def.WidthBits, def.SeedBits, g.WidthBits, g.SeedBits)
		}
		for _, v := range g.Vectors {
			seed := uint64(v.Seed)
			for i, want := range v.First {
				checkOutput(t, def, seed, uint64(i), uint64(want))
			}
			for n, want := range v.At {
				n, _ := strconv.ParseUint(n, 10, 64)
				checkOutput(t, def, seed, n-1, uint64(want))
			}
		}
	}
}

// TestCompatVectors holds the compat: generators against the outputs that the
// original's kernels gave for seed 12345.
func TestCompatVectors(t *testing.T) {
	for name, want := range map[string]string{
		"xorshift32":   "c6e5747a 652a09af a7e08fa0 748e41ea",
		"xorshift64":   "9857fb32c9efb5e4 45c65ca53c73507b ba02190e64d267d7 19c3417f03062c47",
		"xorshift128":  "04c96a5b c33b225a 4d7a661b 00e7340c",
		"pcg32":        "00000000 703543c9 5b7e0b52 70f35605",
		"lcg32":        "53dc2f45 0a9d1296 5c030300 197a8bc8",
		"java_lcg":     "1b1b0df3 cc5abf83 041c7096 a9fe4e79",
		"minstd":       "2384cbd7 5cdff56b 59553395 7879bfd3",
		"mt19937":      "edfb51e2 e3e12de5 50fdfd1d 21760881",
		"xoshiro256pp": "42c2656bba5de410 18dc0b823f214664 e3f80c8a70889c58 308e314e3450faaa",
		"philox4x32":   "d1fa3e81 00b66929 6c2cd495 b63e5c16",
		"sfc64":        "9e3779b97f4aac4f 587dd8fdda08a6a4 f1d33d1b6aab8d0a eab415601f082d3f",
	} {
		for _, suffix := range []string{"", "_reverse"} {
			def, err := lookup("compat:" + name + suffix)
			if err != nil {
				t.Fatal(err)
			}
			for i, hex := range strings.Fields(want) {
				v, _ := strconv.ParseUint(hex, 16, 64)
				checkOutput(t, def, 12345, uint64(i), v)
			}
		}
	}
}

// checkOutput reaches output number n of a seed in every way there is.
func checkOutput(t *testing.T, def *definition, seed, n, want uint64) {
	t.Helper()
	var one [1]uint64
	g := def.open()
	g.seed(seed)
	g.skip(n)
	g.fill(one[:])
	if one[0] != want {
		t.Errorf("%s seed %d: output %d after a skip = %d, want %d", def.Name, seed, n, one[0], want)
	}
	all := make([]uint64, n+1)
	g.seed(seed)
	g.fill(all[:n/2])
	g.fill(all[n/2:])
	if all[n] != want {
		t.Errorf("%s seed %d: output %d of a fill = %d, want %d", def.Name, seed, n, all[n], want)
	}
	h, ok := g.(headStream)
	if !ok {
		return
	}
	for _, from := range []uint64{0, n / 2, n} {
		const rows, row = mtLanes + 1, 3
		width := int(n - from + 1)
		if seed < row || width > 2000 {
			continue
		}
		dst := make([]uint64, rows*width)
		h.heads(seed-row, from, width, dst)
		if got := dst[(row+1)*width-1]; got != want {
			t.Errorf("%s seed %d: output %d of heads from %d = %d, want %d", def.Name, seed, n, from, got, want)
		}
	}
}

// A sieveCase is a search with its complete answer, made by other programs.
type sieveCase struct {
	Generator string
	Kind      string
	Modulus   uint64
	Draws     []uint64
	Search    struct {
		SeedStart        number `json:"seed_start"`
		SeedCount        uint64 `json:"seed_count"`
		SkipMin          uint32 `json:"skip_min"`
		SkipMax          uint32 `json:"skip_max"`
		OffsetMin        uint32 `json:"offset_min"`
		OffsetMax        uint32 `json:"offset_max"`
		StrictMinMatches uint32 `json:"strict_min_matches"`
	}
	Truth     struct{ Seed number }
	Survivors struct {
		LooseMinMatches uint32 `json:"loose_min_matches"`
		Loose, Strict   [][4]number
	}
}

func (c *sieveCase) spec(need uint32) Spec {
	s := Spec{
		Generators: []string{c.Generator},
		Observe:    fmt.Sprintf("mod:%d", c.Modulus),
		Skip:       Bounds{c.Search.SkipMin, c.Search.SkipMax},
		Offset:     Bounds{c.Search.OffsetMin, c.Search.OffsetMax},
		MinMatches: need,
	}
	for _, v := range c.Draws {
		s.Draws = append(s.Draws, Draw{Value: v, Known: true})
	}
	return s
}

// best derives the survivors from a listing of every skip and offset, which is
// ordered by seed, then skip, then offset.
func best(rows [][4]number, r Range) []Survivor {
	var list []Survivor
	for _, row := range rows {
		v := Survivor{Seed: uint64(row[0]), Skip: uint16(row[1]), Offset: uint32(row[2]), Matches: uint16(row[3])}
		switch last := len(list) - 1; {
		case v.Seed < r.First || v.Seed > r.Last:
		case last < 0 || list[last].Seed != v.Seed:
			list = append(list, v)
		case v.Matches > list[last].Matches:
			list[last] = v
		}
	}
	return list
}

// casesFS are the cases, in the binary, so that it can be carried to another machine.
//
//go:embed testdata/cases/*.json
var casesFS embed.FS

// allCases reads them, by their file's name.
func allCases(t testing.TB) map[string]sieveCase {
	t.Helper()
	files, err := fs.Glob(casesFS, "testdata/cases/*.json")
	if err != nil || len(files) != 41 {
		t.Fatalf("%d cases, want 41; %v", len(files), err)
	}
	list := map[string]sieveCase{}
	for _, file := range files {
		var c sieveCase
		b, err := casesFS.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		list[strings.TrimSuffix(filepath.Base(file), ".json")] = c
	}
	return list
}

// hold searches for a case's sets of survivors on a device, so many seeds around
// the truth. It gives the device's [UnsupportedError] where it cannot.
func (c sieveCase) hold(ctx context.Context, d Device, around uint64) error {
	first, truth := uint64(c.Search.SeedStart), uint64(c.Truth.Seed)
	r := Range{first, first + c.Search.SeedCount - 1}
	r.First = max(r.First, truth-min(truth, around))
	r.Last = min(r.Last, truth+min(around, math.MaxUint64-truth))
	for _, tt := range []struct {
		name string
		need uint32
		rows [][4]number
	}{
		{"loose", c.Survivors.LooseMinMatches, c.Survivors.Loose},
		{"strict", c.Search.StrictMinMatches, c.Survivors.Strict},
	} {
		spec := c.spec(tt.need)
		s, err := spec.Compile(c.Generator)
		if err != nil {
			return err
		}
		got, err := searchOn(ctx, d, s, r, toEnd(r))
		if err != nil {
			return err
		}
		if want := best(tt.rows, r); !slices.Equal(got.found, want) {
			return fmt.Errorf("%s set over %s: %d survivors\n%v\nwant %d\n%v", tt.name, r, len(got.found), got.found, len(want), want)
		}
		if got.acct != AccountOf(r) || got.last != r.Last {
			return fmt.Errorf("%s set over %s: finished to %d with %v", tt.name, r, got.last, got.acct)
		}
	}
	return nil
}

func TestCases(t *testing.T) {
	for name, c := range allCases(t) {
		t.Run(name, func(t *testing.T) {
			around := c.Search.SeedCount // seeds on each side of the truth
			if c.Kind == "wide" || strings.Contains(c.Generator, "mt") {
				around = min(around, 1<<17) // slow
			}
			if testing.Short() {
				around = 3000
			}
			if err := c.hold(t.Context(), NewCPU(2), around); err != nil {
				t.Error(err)
			}
		})
	}
}

func mustCompile(t testing.TB, spec Spec) *Search {
	t.Helper()
	s, err := spec.Compile(spec.Generators[0])
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return s
}

func mustSearch(t testing.TB, s *Search, r Range) finding {
	t.Helper()
	f, err := searchOn(context.Background(), NewCPU(2), s, r, toEnd(r))
	if err != nil {
		t.Fatalf("Search(%s): %v", r, err)
	}
	return f
}

// TestGoldenCases are the original's published cases: seed 12345, offset 2,
// skip 3, and how many seeds match at least one draw forwards and reversed.
func TestGoldenCases(t *testing.T) {
	for name, tt := range map[string]struct {
		residues         []uint64
		forward, reverse int
	}{
		"xorshift32":   {[]uint64{450, 676, 943, 618, 89, 941, 771, 938}, 69, 76},
		"xorshift64":   {[]uint64{497, 406, 435, 758, 499, 306, 999, 233}, 71, 67},
		"xorshift128":  {[]uint64{535, 997, 604, 176, 465, 1, 870, 651}, 84, 79},
		"pcg32":        {[]uint64{947, 389, 467, 798, 822, 531, 43, 486}, 66, 73},
		"lcg32":        {[]uint64{218, 653, 552, 898, 85, 539, 510, 769}, 61, 65},
		"java_lcg":     {[]uint64{925, 347, 872, 955, 305, 324, 530, 426}, 58, 69},
		"minstd":       {[]uint64{8, 529, 287, 182, 252, 770, 752, 98}, 69, 71},
		"mt19937":      {[]uint64{737, 250, 385, 227, 122, 226, 599, 741}, 11, 10},
		"xoshiro256pp": {[]uint64{942, 818, 412, 145, 607, 331, 574, 1}, 72, 83},
		"philox4x32":   {[]uint64{804, 98, 11, 716, 515, 760, 394, 435}, 75, 60},
		"sfc64":        {[]uint64{171, 510, 471, 701, 457, 406, 70, 593}, 71, 68},
	} {
		t.Run(name, func(t *testing.T) {
			r := Range{12000, 12999}
			if name == "mt19937" {
				r = Range{12300, 12399}
			}
			run := func(generator string, need uint32) []Survivor {
				spec := Spec{Generators: []string{generator}, Observe: "mod:1000", Skip: Bounds{0, 8}, Offset: Bounds{2, 2}, MinMatches: need}
				for _, v := range tt.residues {
					spec.Draws = append(spec.Draws, Draw{Value: v, Known: true})
				}
				return mustSearch(t, mustCompile(t, spec), r).found
			}
			if got := len(run("compat:"+name, 1)); got != tt.forward {
				t.Errorf("%d seeds with a match forwards, want %d", got, tt.forward)
			}
			if got := len(run("compat:"+name+"_reverse", 1)); got != tt.reverse {
				t.Errorf("%d seeds with a match reversed, want %d", got, tt.reverse)
			}
			want := []Survivor{{Seed: 12345, Matches: 8, Skip: 3, Offset: 2}}
			if name == "minstd" {
				want = []Survivor{{Seed: 12224, Matches: 2, Skip: 5, Offset: 2}, {Seed: 12345, Matches: 8, Skip: 3, Offset: 2}}
			}
			if got := run("compat:"+name, Need(0.25, 8)); !slices.Equal(got, want) {
				t.Errorf("survivors at 0.25: %v, want %v", got, want)
			}
			for _, v := range run("compat:"+name+"_reverse", Need(0.25, 8)) {
				if v.Seed == 12345 {
					t.Errorf("reversed at 0.25 keeps %v", v)
				}
			}
		})
	}
}

// TestStuckSeed is a seed that only GSL's minstd does not reduce: the modulus.
func TestStuckSeed(t *testing.T) {
	for name, want := range map[string]uint64{"gsl_minstd": 0, "minstd_rand0": 16807, "gsl_fishman20": 48271} {
		got, err := Predict(name, mersenne31, 0, 0, 0, 3, "raw")
		if err != nil || got[0] != want {
			t.Errorf("%s of its modulus gives %v, %v, want %d first", name, got, err, want)
		}
	}
}
