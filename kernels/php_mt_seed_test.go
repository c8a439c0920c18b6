package kernels

import (
	"slices"
	"testing"
)

func TestParsePHPPattern(t *testing.T) {
	both := []string{"php_mt_rand", "php_mt_rand_legacy"}
	known := func(low, high uint64) Draw { return Draw{Value: low, Width: high - low, Known: true} }
	for text, want := range map[string]PHPPattern{
		"1328851649":             {Draws: drawsFrom(1328851649), Observe: "raw", Generators: both},
		"1000 2000":              {Draws: []Draw{known(1000, 2000)}, Observe: "raw", Generators: both},
		"14 14 0 56  25 30 0 56": {Draws: []Draw{known(14, 14), known(25, 30)}, Observe: "php.mt_rand:0:56", Generators: both},
		"0 0 0 0  14 14 0 56":    {Draws: []Draw{{}, known(14, 14)}, Observe: "php.mt_rand:0:56", Generators: both},
		"1328851649 1328851649 0 2147483647 0x54df":   {Draws: drawsFrom(1328851649, 0x54df), Observe: "raw", Generators: both},
		"1 1 0 1  1073741823 1073741823 0 2147483647": {Draws: []Draw{known(1<<30, 1<<31-1), known(1<<30-1, 1<<30-1)}, Observe: "raw", Generators: both[1:], Mixed: true},
	} {
		got, err := ParsePHPPattern(text)
		if err != nil || !slices.Equal(got.Draws, want.Draws) || got.Observe != want.Observe || !slices.Equal(got.Generators, want.Generators) || got.Mixed != want.Mixed {
			t.Errorf("ParsePHPPattern(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1 2 3", "1 2 3 4 5 6 7", "5 4", "-1", "2147483648", "5 6 0 5", "x"} {
		if got, err := ParsePHPPattern(text); err == nil {
			t.Errorf("ParsePHPPattern(%q) = %+v, want an error", text, got)
		}
	}
}

// TestPHPPatternFinds uses the seeds that the program's own description finds:
// 1234567890 under both versions, and 534142874 and 658126103 under one.
func TestPHPPatternFinds(t *testing.T) {
	for text, want := range map[string]map[string][]uint64{
		"1328851649": {"php_mt_rand": {534142874, 1234567890}, "php_mt_rand_legacy": {658126103, 1234567890}},
		"1328851649 1328851649 0 2147483647  1423851145": {"php_mt_rand_legacy": {1234567890}, "php_mt_rand": nil},
		"14 14 0 56  25 25 0 56  8 8 0 56  21 21 0 56  18 18 0 56  10 10 0 56  53 53 0 56  47 47 0 56  4 4 0 56  3 3 0 56": {
			"php_mt_rand_legacy": {2709990964}},
	} {
		p, err := ParsePHPPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		for generator, seeds := range want {
			spec := Spec{Generators: p.Generators, Draws: p.Draws, Observe: p.Observe, MinMatches: uint32(len(p.Draws))}
			s, err := spec.Compile(generator)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, around := range []uint64{534142874, 658126103, 1234567890, 2709990964} {
				for _, v := range mustSearch(t, s, Range{around - 50, around + 50}).found {
					got = append(got, v.Seed)
				}
			}
			if !slices.Equal(got, seeds) {
				t.Errorf("%s under %s finds %v, want %v", text, generator, got, seeds)
			}
		}
	}
}
