package kernels

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestCalls holds the observations against the generators whose names say the
// same call, which are held against other people's implementations.
func TestCalls(t *testing.T) {
	for _, tt := range []struct{ generator, observe, named string }{
		{"java_random_next32", "java.nextInt:1000", "java_random_nextint1000"},
		{"java_random_next32", "java.nextInt:1024", "java_random_nextint1024"},
		{"php_mt_rand", "php.mt_rand:0:999", "php_mt_rand_0_999"},
		{"php_rand", "php.mt_rand:0:1023", "php_mt_rand_0_1023"},
		{"php_mt_engine32", "php.mt_rand:1:100", "php_mt_rand_1_100"},
		{"php_mt_rand_legacy", "php.mt_rand:0:999", "php_mt_rand_legacy_0_999"},
		{"php_mt_engine32_legacy", "php.mt_rand:0:999", "php_mt_rand_legacy_0_999"},
		{"py_getrandbits32", "python.randrange:1000", "py_randrange1000"},
		{"py_getrandbits32", "python.randrange:2^64", ""},
		{"v8_random52", "v8.floor:1000", "v8_random1000"},
		{"glibc_mrand48", "top:31", "glibc_lrand48"},
		{"lua_random64", "top:53", "lua_random_float53"},
		{"glibc_drand48", "scale:1000", "perl_rand1000"},
	} {
		if tt.named == "" {
			if _, err := parseObserve(tt.observe); err == nil {
				t.Errorf("parseObserve(%q) gave no error", tt.observe)
			}
			continue
		}
		const count = 3000
		for _, seed := range []uint64{1, 42, 1<<31 - 12345} {
			got, err := Predict(tt.generator, seed, 0, 0, 0, count, tt.observe)
			if err != nil {
				t.Fatal(err)
			}
			want, err := Predict(tt.named, seed, 0, 0, 0, count, "raw")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s seen as %s from seed %d does not give what %s does", tt.generator, tt.observe, seed, tt.named)
			}
		}
	}
}

// TestWideRandrange draws numbers of more than 32 bits, whose low word is first.
func TestWideRandrange(t *testing.T) {
	words, err := Predict("py_getrandbits32", 5, 0, 0, 0, 40, "raw")
	if err != nil {
		t.Fatal(err)
	}
	const n = 3 << 38
	var want []uint64
	for ; len(words) > 1; words = words[2:] {
		if v := words[1]>>24<<32 | words[0]; v < n {
			want = append(want, v)
		}
	}
	got, err := Predict("py_getrandbits32", 5, 0, 0, 0, uint32(len(want)), "python.randrange:824633720832")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("randrange(%d) gives %v, %v, want %v", n, got, err, want)
	}
}

// TestPoints holds every comparison against what the observation sees.
func TestPoints(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		generator, observe string
	}{
		{"mt19937", "raw"}, {"mt19937", "mod:7"}, {"mt19937", "top:3"}, {"mt19937", "scale:11"}, {"mt19937", "scale:4294967296"},
		{"mt19937", "range:1000:3000000000"}, {"mt19937", "range:0:1000000"}, {"splitmix64", "range:5:18446744073709551615"},
		{"splitmix64", "top:4"}, {"splitmix64", "scale:13"}, {"v8_random52", "v8.floor:9"}, {"php_mt_rand_legacy", "php.mt_rand:10:13"},
		{"php_mt_engine32_legacy", "php.mt_rand:10:13"}, {"java_random_next32", "java.nextInt:8"}, {"minstd_rand", "scale:5"},
		{"php_mt_rand_0_999", "scale:5"}, {"msvc_rand", "top:15"}, {"vb6_rnd24", "scale:100000000"},
	} {
		def, err := lookup(tt.generator)
		if err != nil {
			t.Fatal(err)
		}
		observe, err := parseObserve(tt.observe)
		if err != nil {
			t.Fatal(err)
		}
		v, err := observe.on(def)
		if err != nil {
			t.Fatal(err)
		}
		matched := 0
		for range 4000 {
			r := v.def.outputs()
			output := r.First + rng.Uint64N(r.Last-r.First)
			if rng.IntN(4) == 0 {
				output = []uint64{r.First, r.Last, r.First + 1, r.Last - 1}[rng.IntN(4)]
			}
			seen := v.see(output)
			values := observe.values()
			low := max(values.First, seen-min(seen, rng.Uint64N(3)))
			d := Draw{Value: low, Known: true, Width: rng.Uint64N(3)}
			d.Width = min(d.Width, values.Last-low)
			p := v.point(0, d)
			want := low <= seen && seen <= low+d.Width
			if got := p.matches(v.reduce.of(output)); got != want {
				t.Fatalf("%s seen as %s: output %d gives %d; against %s %t, want %t", tt.generator, tt.observe, output, seen, d, got, want)
			}
			m := v.reduce.matcher(p)
			test := m.any
			if m.inverse == 0 {
				test = m.anyReduced
			}
			if got := test([]uint64{output}); got != want {
				t.Fatalf("%s seen as %s: matcher of output %d against %s is %t, want %t", tt.generator, tt.observe, output, d, got, want)
			}
			if want {
				matched++
			}
			whole := v.point(0, Draw{Value: output, Known: true, Whole: true})
			if !whole.matches(v.reduce.of(output)) {
				t.Fatalf("%s seen as %s: whole output %d does not match itself", tt.generator, tt.observe, output)
			}
		}
		if matched == 0 || matched == 4000 {
			t.Errorf("%s seen as %s: %d of 4000 matched, which tests nothing", tt.generator, tt.observe, matched)
		}
	}
}

// TestObservedChance holds the baseline of each observation against searches
// for random draws. The skip keeps the windows of the offsets apart.
func TestObservedChance(t *testing.T) {
	for _, tt := range []struct {
		generator, observe string
		draws              []Draw
	}{
		{"xorshift32", "top:6", drawsFrom(17, 3)},
		{"mt19937", "scale:50", drawsFrom(17, 3)},
		{"splitmix64", "mod:1000", []Draw{{Value: 100, Width: 19, Known: true}, {Value: 990, Width: 9, Known: true}}},
		{"xorshift32", "raw", []Draw{{Value: 1 << 20, Width: 1 << 26, Known: true}, {Value: 5, Width: 1 << 25, Known: true}}},
		{"pcg32", "range:0:99999999", drawsFrom(1, 1)},
		{"java_random_next32", "java.nextInt:60", drawsFrom(0, 59)},
		{"php_mt_rand", "php.mt_rand:1:100", drawsFrom(1, 100)},
		{"php_mt_rand_legacy", "php.mt_rand:1:100", drawsFrom(1, 100)},
		{"py_getrandbits32", "python.randrange:49", drawsFrom(6, 48)},
		{"v8_random52", "v8.floor:64", drawsFrom(63, 0)},
		{"msvc_rand", "mod:1000", []Draw{{Value: 990, Width: 9, Known: true}}}, // 32768 outputs
	} {
		spec := Spec{Generators: []string{tt.generator}, Observe: tt.observe, Draws: tt.draws, Skip: Bounds{5, 5}, Offset: Bounds{3, 7}, MinMatches: 1}
		s := mustCompile(t, spec)
		s.def = scattered(s.def) // neighbouring seeds of weak generators are not independent
		r := Range{1 << 20, 1<<20 + 3999}
		found, want := float64(len(mustSearch(t, s, r).found)), Expected(s, r.Size())
		if math.Abs(found-want) > 6*math.Sqrt(want) || want < 50 {
			t.Errorf("%s seen as %s: %g survivors, expected %g", tt.generator, tt.observe, found, want)
		}
	}
}

// scattered is the generator with its seeds in another order.
func scattered(def *definition) *definition {
	d := *def
	d.open = func() stream { return scatteredStream{def.open()} }
	return &d
}

type scatteredStream struct{ stream }

func (s scatteredStream) seed(seed uint64) { s.stream.seed(stafford13(seed)) }

func TestObserveErrors(t *testing.T) {
	for _, tt := range []struct{ generator, observe string }{
		{"mt19937", ""}, {"mt19937", "mod"}, {"mt19937", "mod:"}, {"mt19937", "mod:1"}, {"mt19937", "mod:5:6"}, {"mt19937", "raw:1"},
		{"mt19937", "top:33"}, {"mt19937", "top:0"}, {"mt19937", "scale:1"}, {"mt19937", "range:5:4"}, {"mt19937", "range:0:18446744073709551615"},
		{"mt19937", "java.nextInt:10"}, {"java_random_next32", "java.nextInt:2147483648"}, {"java_random_nextint1000", "java.nextInt:10"},
		{"php_mt_rand_0_999", "php.mt_rand:0:9"}, {"php_mt_rand", "php.mt_rand:0"}, {"py_random53", "python.randrange:5"},
		{"v8_random52", "v8.floor:2^53"}, {"mt19937", "mod:2^64"},
	} {
		spec := Spec{Generators: []string{tt.generator}, Observe: tt.observe, Draws: drawsFrom(1), MinMatches: 1}
		err := spec.Validate()
		if wrong := (*SpecError)(nil); !errors.As(err, &wrong) || wrong.Do == "" {
			t.Errorf("%s seen as %q: %v, want a SpecError with a remedy", tt.generator, tt.observe, err)
		}
	}
	for _, tt := range []struct {
		observe string
		draw    Draw
	}{
		{"mod:10", Draw{Value: 10, Known: true}}, {"mod:10", Draw{Value: 8, Width: 2, Known: true}}, {"top:3", Draw{Value: 8, Known: true}},
		{"php.mt_rand:5:9", Draw{Value: 4, Known: true}}, {"php.mt_rand:5:9", Draw{Value: 5, Known: true, Whole: true}},
	} {
		spec := Spec{Generators: []string{"php_mt_rand"}, Observe: tt.observe, Draws: []Draw{tt.draw}, MinMatches: 1}
		if err := spec.Validate(); err == nil {
			t.Errorf("draw %s seen as %s is accepted", tt.draw, tt.observe)
		}
	}
}
