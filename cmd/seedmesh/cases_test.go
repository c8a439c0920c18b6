package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A sieveCase is a search whose complete answer other implementations gave.
type sieveCase struct {
	ID        string
	Generator string
	Modulus   uint64
	Draws     json.RawMessage
	Search    struct {
		SeedStart  json.Number `json:"seed_start"`
		SeedCount  json.Number `json:"seed_count"`
		SkipMin    uint32      `json:"skip_min"`
		SkipMax    uint32      `json:"skip_max"`
		OffsetMin  uint32      `json:"offset_min"`
		OffsetMax  uint32      `json:"offset_max"`
		StrictNeed int         `json:"strict_min_matches"`
	}
	Survivors struct {
		Complete  bool
		LooseNeed int             `json:"loose_min_matches"`
		Strict    [][]json.Number // seed, skip, offset, matches
		Loose     [][]json.Number
	}
}

// survivor is a record as the command line prints it.
type survivor struct {
	Seed    string `json:"seed"`
	Matches uint64 `json:"matches"`
	Skip    uint64 `json:"best_skip"`
	Offset  uint64 `json:"best_offset"`
}

// best keeps the best row of each seed: rows are in order of skip and offset, so
// that the first of the best ones wins.
func best(t *testing.T, rows [][]json.Number) map[string]survivor {
	list := make(map[string]survivor)
	for _, row := range rows {
		s := survivor{row[0].String(), number(t, row[3]), number(t, row[1]), number(t, row[2])}
		if have, ok := list[s.Seed]; !ok || s.Matches > have.Matches {
			list[s.Seed] = s
		}
	}
	return list
}

func number(t *testing.T, n json.Number) uint64 {
	v, err := strconv.ParseUint(n.String(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func printed(t *testing.T, lines string) map[string]survivor {
	list := make(map[string]survivor)
	for line := range strings.Lines(lines) {
		var s survivor
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list[s.Seed] = s
	}
	return list
}

// Bounds of the seeds of a case: in every test, and in a short one.
const (
	testCase  = 1 << 22
	shortCase = 1 << 17
)

// TestCases cracks every case through the command line, under the strict and the
// loose threshold.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("../../kernels/testdata/cases/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var c sieveCase
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &c); err != nil {
				t.Fatal(err)
			}
			start, seeds := number(t, c.Search.SeedStart), number(t, c.Search.SeedCount)
			if !c.Survivors.Complete || seeds > testCase || testing.Short() && seeds > shortCase {
				t.Skip("this case is for a faster device")
			}
			for _, set := range []struct {
				need int
				rows [][]json.Number
			}{{c.Search.StrictNeed, c.Survivors.Strict}, {c.Survivors.LooseNeed, c.Survivors.Loose}} {
				r := runWith(t.Context(), t, nil, string(c.Draws), "sieve", "--local", "--json", "--draws", "-", "--generator", c.Generator,
					"--observe", fmt.Sprintf("mod:%d", c.Modulus), "--min-matches", strconv.Itoa(set.need),
					"--seeds", fmt.Sprintf("%d:%d", start, start+seeds),
					"--skip", fmt.Sprintf("%d:%d", c.Search.SkipMin, c.Search.SkipMax),
					"--offset", fmt.Sprintf("%d:%d", c.Search.OffsetMin, c.Search.OffsetMax))
				if r.code != 0 {
					t.Fatalf("need %d: exit code %d: %s", set.need, r.code, r.stderr)
				}
				if got, want := printed(t, r.stdout), best(t, set.rows); !maps.Equal(got, want) {
					t.Errorf("need %d: got %d survivors, want %d:\n%v\n%v", set.need, len(got), len(want), got, want)
				}
			}
		})
	}
}

// TestExamples cracks what real software made, over the whole range that
// examples/README.md gives. The answer is not written down: it is the only seed
// that explains every draw.
func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of search")
	}
	for file, generator := range map[string]string{"java-nextint.txt": "java_random_nextint1000", "std-mt19937.txt": "mt19937"} {
		t.Run(file, func(t *testing.T) {
			r := runWith(t.Context(), t, nil, "", "sieve", "--local", "-q", "-g", generator, "-d", "../../examples/"+file, "-s", "0:2^24", "--skip", "0:15", "--offset", "0:7")
			if r.code != 0 || r.stderr != "" || len(printed(t, r.stdout)) != 1 || !strings.Contains(r.stdout, `"match_rate":1,`) {
				t.Errorf("got %+v, want one survivor", r)
			}
		})
	}
}

// TestGolden runs the original system's reference cases: seed 12345, offset 2,
// skip 3, 8 draws, and how many seeds have a match, forward and reversed.
func TestGolden(t *testing.T) {
	for name, tt := range map[string]struct {
		draws             string
		forward, reversed int
	}{
		"xorshift32":   {"450 676 943 618 89 941 771 938", 69, 76},
		"xorshift64":   {"497 406 435 758 499 306 999 233", 71, 67},
		"xorshift128":  {"535 997 604 176 465 1 870 651", 84, 79},
		"pcg32":        {"947 389 467 798 822 531 43 486", 66, 73},
		"lcg32":        {"218 653 552 898 85 539 510 769", 61, 65},
		"java_lcg":     {"925 347 872 955 305 324 530 426", 58, 69},
		"minstd":       {"8 529 287 182 252 770 752 98", 69, 71},
		"mt19937":      {"737 250 385 227 122 226 599 741", 11, 10},
		"xoshiro256pp": {"942 818 412 145 607 331 574 1", 72, 83},
		"philox4x32":   {"804 98 11 716 515 760 394 435", 75, 60},
		"sfc64":        {"171 510 471 701 457 406 70 593", 71, 68},
	} {
		t.Run(name, func(t *testing.T) {
			seeds := "12000:13000"
			if name == "mt19937" {
				seeds = "12300:12400"
			}
			sieve := func(need string, more ...string) map[string]survivor {
				args := append([]string{"sieve", "--local", "-d", "-", "-s", seeds, "--skip", "0:8", "--offset", "2", "--min-matches", need}, more...)
				r := runWith(t.Context(), t, nil, strings.ReplaceAll(tt.draws, " ", "\n"), args...)
				if r.code != 0 {
					t.Fatalf("exit code %d: %s", r.code, r.stderr)
				}
				return printed(t, r.stdout)
			}
			forward := sieve("1", "-g", "compat:"+name)
			if len(forward) != tt.forward || forward["12345"] != (survivor{"12345", 8, 3, 2}) {
				t.Errorf("forward: %d seeds match, want %d; the planted one is %v", len(forward), tt.forward, forward["12345"])
			}
			for _, how := range [][]string{{"-g", "compat:" + name + "_reverse"}, {"-g", "compat:" + name, "--direction", "reverse-window"}} {
				reversed := sieve("1", how...)
				if len(reversed) != tt.reversed || reversed["12345"].Matches > 1 {
					t.Errorf("%v: %d seeds match, want %d; the planted one is %v", how, len(reversed), tt.reversed, reversed["12345"])
				}
			}
			found := sieve("2", "-g", "compat:"+name)
			want := map[string]survivor{"12345": {"12345", 8, 3, 2}}
			if name == "minstd" {
				want["12224"] = survivor{"12224", 2, 5, 2}
			}
			if !maps.Equal(found, want) {
				t.Errorf("at 2 of 8: got %v, want %v", found, want)
			}
		})
	}
}
