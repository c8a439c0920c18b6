package main

import (
	"strings"
	"testing"
)

// TestOldAnalyses has the original's statistics refused with the command that answers
// them, and runs that command.
func TestOldAnalyses(t *testing.T) {
	for name, tt := range map[string]struct{ kind, job, want string }{
		"correlation":  {"correlation", `{"seeds":[7,8,9],"prng_type":"lcg","samples":200,"lmax":3}`, "seedmesh correlation -g lcg32 --seeds 7:10 --samples 200 --observe raw --lmax 3"},
		"its defaults": {"correlation", `{}`, "seedmesh correlation -g mt19937 --seeds 12345:12346 --samples 10000 --observe raw --lmax 20"},
		"statistical":  {"statistical", `{"seeds":["5"],"mapping_type":"scale","target_range":500}`, "seedmesh analysis -g xorshift32 --seeds 5:6 --samples 10000 --observe scale:500"},
		"analysis":     {"analysis", `{"seed":3,"prng_type":"mt","samples":1000}`, "seedmesh analysis -g mt19937 --seeds 3:4 --samples 1000 --observe mod:1000"},
		"another":      {"draw_matching", `{}`, ""},
		"not readable": {"analysis", `{"seeds":"x"}`, ""},
		"no seed":      {"analysis", `{"seeds":[1.5]}`, ""},
	} {
		got := analysisCommand(tt.kind, []byte(tt.job))
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if got == "" {
			continue
		}
		if r := runWith(t.Context(), t, nil, "", append(strings.Fields(got)[1:], "--local")...); r.code != 0 || !strings.Contains(r.stdout, `"seed"`) {
			t.Errorf("%s: %d, %q, %q", got, r.code, r.stdout, r.stderr)
		}
	}
	oldFiles(t)
	if r := runWith(t.Context(), t, serveFake(t, newOldServer()), "", "distributed-worker", "--job-file", "other.json"); r.code != exitUsage || !strings.Contains(r.stderr, "seedmesh correlation -g mt19937") {
		t.Errorf("the worker says %q", r.stderr)
	}
}
