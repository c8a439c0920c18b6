package kernels

import (
	"os"
	"testing"
)

// TestExamples finds the seeds behind the files in examples/, near where they are.
func TestExamples(t *testing.T) {
	for file, tt := range map[string]struct {
		generator    string
		skip, offset uint32 // the most that the README's command searches
		around       uint64
		want         Survivor
	}{
		"php-mt-rand.txt":  {"php_mt_rand_0_999", 0, 0, 1 << 15, Survivor{Seed: 3735928559, Matches: 10, Skip: 0, Offset: 0}},
		"java-nextint.txt": {"java_random_nextint1000", 15, 7, 1 << 17, Survivor{Seed: 185426, Matches: 30, Skip: 7, Offset: 4}},
		"glibc-rand.txt":   {"glibc_rand", 7, 3, 1 << 16, Survivor{Seed: 2498927942, Matches: 30, Skip: 3, Offset: 1}},
		"std-mt19937.txt":  {"mt19937", 15, 7, 1 << 15, Survivor{Seed: 82409, Matches: 30, Skip: 11, Offset: 4}},
	} {
		t.Run(file, func(t *testing.T) {
			f, err := os.Open("../examples/" + file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			draws, err := ParseDraws(f)
			if err != nil {
				t.Fatal(err)
			}
			s := mustCompile(t, Spec{
				Generators: []string{tt.generator}, Draws: draws, Observe: "mod:1000",
				Skip: Bounds{0, tt.skip}, Offset: Bounds{0, tt.offset}, MinMatches: uint32(len(draws)),
			})
			r := Range{tt.want.Seed - tt.around, tt.want.Seed + tt.around}
			if got := mustSearch(t, s, r).found; len(got) != 1 || got[0] != tt.want {
				t.Errorf("Search(%s) found %v, want %v", r, got, tt.want)
			}
		})
	}
}
