package main

import (
	"strings"
	"testing"
)

// TestChanceIsTold has every result and plan carry the expectation, and a warning where
// it is no smaller than what was found.
func TestChanceIsTold(t *testing.T) {
	const (
		two   = "330 807"
		eight = "330 807 904 42 323 450 676 943"
		more  = "use more draws or a higher threshold"
	)
	for name, tt := range map[string]struct {
		draws, args string
		warning     string // empty for none
	}{
		"a window of 2":       {two, "sieve -g xorshift32 -d - -s 0:2^16 --skip 0:20 --threshold 0.5", more},
		"a window of 8":       {eight, "sieve -g xorshift32 -d - -s 0:2^16 --skip 0:20", ""},
		"planned":             {two, "plan sieve -g xorshift32 -d - -s 0:2^16 --skip 0:20 --threshold 0.5", "cannot tell a true seed from chance"},
		"planned, 8 draws":    {eight, "plan sieve -g xorshift32 -d - -s 0:2^16 --skip 0:20", ""},
		"analyses of all":     {"", "analysis -g lcg32 -s 0:100", ""},
		"analyses that stand": {"", "analysis -g lcg32 -s 0:100 --max-p 0.5", "use a smaller --max-p"},
	} {
		r := runWith(t.Context(), t, nil, tt.draws, append(strings.Fields(tt.args), "--local")...)
		if r.code != 0 || !strings.Contains(r.stdout+r.stderr, "expected_by_chance") {
			t.Errorf("%s: got %+v, want the expectation", name, r)
		}
		if !strings.Contains(r.stderr, tt.warning) || strings.Contains(r.stderr, "warning:") != (tt.warning != "") {
			t.Errorf("%s: it says %q, want the warning %q", name, r.stderr, tt.warning)
		}
	}
}
