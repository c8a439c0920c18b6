package kernels

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func goodSpec() Spec {
	return Spec{
		Generators: []string{"xorshift32", "mt19937"}, Observe: "mod:1000", MinMatches: 2,
		Skip: Bounds{0, 16}, Offset: Bounds{1, 2}, Draws: []Draw{{Value: 71, Known: true}, {}, {Value: 3456789012, Known: true, Whole: true}},
	}
}

func TestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Spec)
		want   string // part of the message; empty for no error
	}{
		"as it is":             {func(s *Spec) {}, ""},
		"no generator":         {func(s *Spec) { s.Generators = nil }, "0 generators"},
		"unknown generator":    {func(s *Spec) { s.Generators = []string{"xorshfit32"} }, `"xorshfit32"`},
		"unknown mode":         {func(s *Spec) { s.Mode = "fluid" }, `"fluid"`},
		"unknown direction":    {func(s *Spec) { s.Direction = "sideways" }, `"sideways"`},
		"reversed twice":       {func(s *Spec) { s.Generators, s.Direction = []string{"compat:lcg32_reverse"}, ReverseWindow }, "turn them back"},
		"skips for hybrid":     {func(s *Spec) { s.Mode = ModeHybrid }, "finds the skips itself"},
		"hybrid":               {func(s *Spec) { s.Mode, s.Skip = ModeHybrid, Bounds{} }, ""},
		"hybrid, both ways":    {func(s *Spec) { s.Mode, s.Skip, s.Direction = ModeHybrid, Bounds{}, CompatBidirectional }, "fixed skip"},
		"two phases":           {func(s *Spec) { s.Mode, s.ConfirmMatches = ModeTwoPhase, 2 }, ""},
		"two phases, one need": {func(s *Spec) { s.Mode = ModeTwoPhase }, "0 matches are needed of the 2"},
		"two phases, hybrid name": {func(s *Spec) {
			s.Generators, s.Mode, s.ConfirmMatches = []string{"compat:lcg32_hybrid"}, ModeTwoPhase, 1
		}, "variable skip already"},
		"need for no phase": {func(s *Spec) { s.ConfirmMatches = 1 }, "nothing is confirmed"},
		"strategy out of nowhere": {func(s *Spec) {
			s.Mode, s.ConfirmMatches, s.Strategies = ModeTwoPhase, 2, []Strategy{{"balanced_hybrid", 1, 1}}
		}, "balanced_hybrid"},
		"strategies, fixed skip":  {func(s *Spec) { s.Strategies = presets }, "no skip changes"},
		"strategies, hybrid name": {func(s *Spec) { s.Generators = append(s.Generators, "compat:lcg32_hybrid"); s.Strategies = presets }, ""},
		"too many strategies":     {func(s *Spec) { s.Strategies = make([]Strategy, MaxStrategies+1) }, "17 strategies"},
		"split":                   {func(s *Spec) { s.Direction, s.Split, s.MinMatches, s.ConfirmMatches = Bidirectional, 1, 1, 1 }, ""},
		"split, nothing known": {func(s *Spec) {
			s.Draws[0] = Draw{}
			s.Direction, s.Split, s.MinMatches, s.ConfirmMatches = Bidirectional, 1, 1, 1
		}, "no known draws on one side"},
		"split at the end":      {func(s *Spec) { s.Direction, s.Split, s.MinMatches, s.ConfirmMatches = Bidirectional, 3, 1, 1 }, "after 3 of 3"},
		"split, first need":     {func(s *Spec) { s.Direction, s.Split, s.ConfirmMatches = Bidirectional, 1, 1 }, "2 matches are needed"},
		"split, second need":    {func(s *Spec) { s.Direction, s.Split, s.MinMatches, s.ConfirmMatches = Bidirectional, 1, 1, 2 }, "2 matches are needed of the 1"},
		"split, one direction":  {func(s *Spec) { s.Split = 1 }, "not divided"},
		"backward":              {func(s *Spec) { s.Generators, s.Direction = []string{"xorshift32"}, Backward }, ""},
		"backward, large state": {func(s *Spec) { s.Direction = Backward }, "mt19937 cannot be searched backwards"},
		"backward, a call": {func(s *Spec) {
			s.Generators, s.Draws, s.Observe, s.Direction = []string{"java_random_next32"}, drawsFrom(1, 2), "java.nextInt:9", Backward
		}, "java.nextInt"},
		"unknown observation":       {func(s *Spec) { s.Observe = "bottom:8" }, `"bottom:8"`},
		"modulus 1":                 {func(s *Spec) { s.Observe = "mod:1" }, `number 1 of`},
		"interval over the modulus": {func(s *Spec) { s.Draws[0] = Draw{Value: 998, Width: 2, Known: true} }, "draw number 1 is 998:1000"},
		"draw at the modulus":       {func(s *Spec) { s.Draws[0].Value = 1000 }, "draw number 1 is 1000"},
		"no known draw":             {func(s *Spec) { s.Draws = make([]Draw, 3) }, "no known draw"},
		"too many draws":            {func(s *Spec) { s.Draws = drawsFrom(make([]uint64, MaxDraws+1)...) }, "4097 draws"},
		"most draws":                {func(s *Spec) { s.Draws = drawsFrom(make([]uint64, MaxDraws)...) }, ""},
		"skip backwards":            {func(s *Spec) { s.Skip = Bounds{3, 2} }, "starts at 3, after its end 2"},
		"skip above 16 bits":        {func(s *Spec) { s.Skip.Max = 65536 }, "65536"},
		"offset above the limit":    {func(s *Spec) { s.Offset.Max = MaxOffset + 1 }, "16777217"},
		"need above the draws":      {func(s *Spec) { s.MinMatches = 3 }, "3 matches"},
		"need above 2^31":           {func(s *Spec) { s.MinMatches = math.MaxUint32 }, "4294967295 matches"},
		"need of nothing":           {func(s *Spec) { s.MinMatches = 0 }, "every seed"},
		"need of nothing, wanted":   {func(s *Spec) { s.MinMatches, s.KeepAll = 0, true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := goodSpec()
			tt.change(&s)
			err := s.Validate()
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Validate = %v, want no error", err)
				}
				return
			}
			var remedy interface{ Remedy() string }
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, &remedy) || remedy.Remedy() == "" {
				t.Errorf("Validate = %v, want %q with a remedy", err, tt.want)
			}
		})
	}
}

func TestNeed(t *testing.T) {
	for _, tt := range []struct {
		threshold float64
		known     int
		want      uint32
	}{{1, 30, 30}, {0.7, 30, 21}, {0.7, 10, 7}, {0.25, 8, 2}, {0.26, 8, 3}, {0.01, 512, 6}, {0, 9, 0}, {0.666667, 30, 21}, {2. / 3, 30, 20}} {
		if got := Need(tt.threshold, tt.known); got != tt.want {
			t.Errorf("Need(%g, %d) = %d, want %d", tt.threshold, tt.known, got, tt.want)
		}
	}
}

func TestEncodeSpec(t *testing.T) {
	s := goodSpec()
	const want = `{"version":2,"generators":["mt19937","xorshift32"],"draws":["71","*","=3456789012"],"observe":"mod:1000",` +
		`"skip":{"min":0,"max":16},"offset":{"min":1,"max":2},"min_matches":2,"mode":"fixed","direction":"forward","keep_all":false}`
	if got := string(s.Encode()); got != want {
		t.Errorf("Encode =\n%s, want\n%s", got, want)
	}
	back, err := DecodeSpec([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Draws, s.Draws) || string(back.Encode()) != want {
		t.Errorf("DecodeSpec = %+v, want %+v", back, s)
	}
	if old, err := DecodeSpec([]byte(strings.Replace(want, `"version":2`, `"version":1`, 1))); err != nil || string(old.Encode()) != want {
		t.Errorf("DecodeSpec of version 1 = %+v, %v", old, err)
	}
	for name, text := range map[string]string{
		"unknown field": strings.Replace(want, `"mode"`, `"model"`, 1),
		"other version": strings.Replace(want, `"version":2`, `"version":3`, 1),
		"two values":    want + want,
		"cut off":       want[:100],
		"bad draw":      strings.Replace(want, `"71"`, `"-71"`, 1),
		"invalid":       strings.Replace(want, `"71"`, `"7100"`, 1),
		"too long":      want + strings.Repeat(" ", MaxSpecBytes),
	} {
		if _, err := DecodeSpec([]byte(text)); err == nil {
			t.Errorf("%s: DecodeSpec gave no error", name)
		}
	}
	long := goodSpec()
	long.Draws = drawsFrom(slices.Repeat([]uint64{math.MaxUint64}, MaxDraws)...)
	long.Observe = "raw"
	if n := len(long.Encode()); n > MaxSpecBytes {
		t.Errorf("the longest draws encode to %d bytes, above the limit of %d", n, MaxSpecBytes)
	}
}

func FuzzDecodeSpec(f *testing.F) {
	s := goodSpec()
	f.Add(s.Encode())
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSpec(b)
		if err != nil {
			return
		}
		once := s.Encode()
		back, err := DecodeSpec(once)
		if err != nil {
			t.Fatalf("DecodeSpec(%s) = %v", once, err)
		}
		if twice := back.Encode(); !bytes.Equal(once, twice) {
			t.Fatalf("Encode = %s, then %s", once, twice)
		}
		for _, name := range s.Generators {
			if _, err := s.Compile(name); err != nil {
				t.Fatalf("Compile(%s) of a valid spec = %v", name, err)
			}
		}
	})
}

func TestSearchAccessors(t *testing.T) {
	s := goodSpec()
	search, err := s.Compile("mt19937")
	if err != nil {
		t.Fatal(err)
	}
	// the sum over 17 skips and offsets 1 and 2 of o + 3*(s+1)
	if got, want := search.StepsPerSeed(), uint64(17*3+2*3*153); got != want {
		t.Errorf("StepsPerSeed = %d, want %d", got, want)
	}
	if search.Known() != 2 || search.Draws() != 3 || search.Need() != 2 || search.Space() != (Range{0, 1<<32 - 1}) {
		t.Errorf("known %d, draws %d, need %d, space %s", search.Known(), search.Draws(), search.Need(), search.Space())
	}
	if err := search.CheckSeeds(Range{0, 1 << 32}); err == nil {
		t.Error("CheckSeeds took a seed of 33 bits")
	}
	s.Skip, s.Offset, s.Draws = Bounds{0, MaxSkip}, Bounds{0, MaxOffset}, drawsFrom(make([]uint64, MaxDraws)...)
	huge := mustCompile(t, s)
	if got := huge.StepsPerSeed(); got != math.MaxUint64 {
		t.Errorf("StepsPerSeed of the largest search = %d, want %d", got, uint64(math.MaxUint64))
	}
	if got := huge.Grain(); got != 256 {
		t.Errorf("Grain of the largest search = %d, want 256", got)
	}
	if _, err := s.Compile("pcg32"); err == nil {
		t.Error("Compile took a generator that was not asked for")
	}
}

func TestRecord(t *testing.T) {
	s := goodSpec()
	search, _ := s.Compile("mt19937")
	v := Survivor{Seed: math.MaxUint64, Matches: 1, Skip: 3, Offset: 2}
	const want = `{"seed":"18446744073709551615","family":"mt19937","matches":1,"total":2,"match_rate":0.5,"best_skip":3,"best_offset":2}` + "\n"
	if got := string(search.AppendJSON(nil, v)); got != want {
		t.Errorf("AppendJSON = %s, want %s", got, want)
	}
	s.Direction = ReverseWindow
	search, _ = s.Compile("mt19937")
	if got := string(search.AppendJSON(nil, v)); !strings.HasSuffix(got, `,"best_offset":2,"direction":"reverse-window"}`+"\n") {
		t.Errorf("AppendJSON = %s, want a direction at the end", got)
	}
}

func TestPredict(t *testing.T) {
	got, err := Predict("php_mt_rand_0_999", 42, 0, 0, 4, 3, "mod:1000")
	if want := []uint64{26, 335, 620}; !slices.Equal(got, want) || err != nil {
		t.Errorf("Predict = %v, %v, want %v", got, err, want)
	}
	got, err = Predict("php_mt_rand_0_999", 42, 1, 1, 1, 3, "mod:10")
	if want := []uint64{4, 5, 4}; !slices.Equal(got, want) || err != nil { // outputs 3, 5, 7: 414 335 924
		t.Errorf("Predict = %v, %v, want %v", got, err, want)
	}
	got, err = Predict("compat:xorshift32", 12345, 3, 2, 0, 3, "mod:1000") // the golden case
	if want := []uint64{450, 676, 943}; !slices.Equal(got, want) || err != nil {
		t.Errorf("Predict = %v, %v, want %v", got, err, want)
	}
	for name, call := range map[string]func() ([]uint64, error){
		"unknown generator": func() ([]uint64, error) { return Predict("x", 1, 0, 0, 0, 1, "raw") },
		"reversed":          func() ([]uint64, error) { return Predict("compat:lcg32_reverse", 1, 0, 0, 0, 1, "raw") },
		"wide seed":         func() ([]uint64, error) { return Predict("mt19937", 1<<32, 0, 0, 0, 1, "raw") },
		"too many":          func() ([]uint64, error) { return Predict("mt19937", 1, 0, 0, 0, MaxPredict+1, "raw") },
		"too far":           func() ([]uint64, error) { return Predict("mt19937", 1, MaxSkip, 0, 1<<30, 1, "raw") },
	} {
		if _, err := call(); err == nil {
			t.Errorf("%s: Predict gave no error", name)
		}
	}
}

func TestLookup(t *testing.T) {
	list := Generators()
	if len(list) != 133+44 || !slices.IsSortedFunc(list, func(a, b Generator) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("Generators gives %d, want 177 in order of name", len(list))
	}
	for _, g := range list {
		if found, err := Lookup(g.Name); err != nil || found != g {
			t.Errorf("Lookup(%q) = %v, %v", g.Name, found, err)
		}
		if g.Met == "" || g.Definition == "" || g.Source == "" || g.WidthBits == 0 || g.StateBits == 0 {
			t.Errorf("%s is not described: %+v", g.Name, g)
		}
	}
	for name, want := range map[string]string{
		"xorshfit32": "xorshift32", "java": "java_l32x64mix", "php_mtrand": "php_mt_rand", "xoshiro256+": "xoshiro256pp",
		"mt19938": "mt19937", "": "", "something else altogether": "", "mt": "mt19937", "pcg": "pcg32", "lcg64": "lcg64_mmix", "NumPy": "np_legacy_mt19937",
	} {
		_, err := Lookup(name)
		var unknown *UnknownGeneratorError
		if !errors.As(err, &unknown) {
			t.Fatalf("Lookup(%q) = %v, want an UnknownGeneratorError", name, err)
		}
		if want != "" && !slices.Contains(unknown.Near, want) || want == "" && len(unknown.Near) > 0 {
			t.Errorf("Lookup(%q) is near %v, want %q", name, unknown.Near, want)
		}
	}
}

func FuzzParseObserve(f *testing.F) {
	for _, form := range observeForms {
		f.Add(form.name + ":5:9")
		f.Add(form.name + ":2^3")
		f.Add(form.name)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseObserve(text)
		if err != nil {
			return
		}
		if back, err := parseObserve(o.String()); err != nil || back.String() != o.String() {
			t.Fatalf("%q is %s, which reads as %v, %v", text, o, back, err)
		}
		for _, name := range []string{"mt19937", "java_random_next32", "php_mt_rand", "py_getrandbits32", "v8_random52", "vb6_rnd24"} {
			def, _ := lookup(name)
			v, err := o.on(def)
			if err != nil {
				continue
			}
			values := o.values()
			for _, value := range []uint64{values.First, values.Last} {
				if p := v.point(0, Draw{Value: value, Known: true}); v.reduce.chance(p, v.def.outputs()) < 0 {
					t.Fatalf("%s of %s: a chance below 0", o, name)
				}
			}
		}
	})
}

// TestNearest tells typing errors from other words.
func TestNearest(t *testing.T) {
	for typed, want := range map[string]string{"sieev": "sieve", "stat": "status", "zzzzzz": "", "": "", strings.Repeat("s", 1000): ""} {
		if got := Nearest(typed, []string{"sieve", "status"}); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", typed, got, want)
		}
	}
}
