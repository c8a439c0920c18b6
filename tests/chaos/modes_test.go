package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestModesOnAMesh runs every mode and direction on three nodes, with a bystander
// killed while they run, and compares the bytes with those of one machine.
func TestModesOnAMesh(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	draws := filepath.Join(m.dir, "draws.txt")
	if err := os.WriteFile(draws, []byte(m.run("predict", "-g", "mt19937", "--seed", "4242", "--skip", "2", "--offset", "1", "--count", "12")), 0o600); err != nil {
		t.Fatal(err)
	}
	var candidates strings.Builder
	for seed := range 2000 {
		fmt.Fprintf(&candidates, "%d %d\n", 4000+seed, seed%5)
	}
	list := filepath.Join(m.dir, "candidates.txt")
	if err := os.WriteFile(list, []byte(candidates.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	const sieve = "sieve -s 0:200000 --offset 0:2 "
	var searches []search
	var ids []string
	for i, args := range []string{
		sieve + "-g compat:mt19937_hybrid,compat:lcg32_hybrid_reverse --min-matches 4",
		sieve + "-g mt19937 --mode hybrid --strategy strict_continuous,8:30 --min-matches 4",
		sieve + "-g mt19937 --mode two-phase --skip 0:4 --min-matches 2 --confirm-threshold 0.2",
		sieve + "-g mt19937 --direction bidirectional --skip 0:4 --min-matches 1 --confirm-threshold 0.2",
		sieve + "-g compat:java_lcg --compat-bidirectional --skip 0:9 --min-matches 1",
		sieve + "-g xorshift32 --direction backward --skip 0:4 --min-matches 2",
		sieve + "-g py_getrandbits32 --observe python.randrange:1000 --skip 0:4 --min-matches 2",
		"reverse-sieve --candidates " + list + " -g mt19937,minstd_rand --offset 0:20 --min-matches 2",
	} {
		name := fmt.Sprintf("mode-%d", i)
		s := search{name: name, args: append(strings.Fields(args), "-d", draws, "--name", name)}
		out := filepath.Join(m.dir, fmt.Sprintf("local-%d.jsonl", i))
		m.run(append(s.args, "--local", "-q", "-o", out)...)
		var err error
		if s.local, err = os.ReadFile(out); err != nil || len(s.local) == 0 {
			t.Fatalf("%s: the undisturbed search gave %d bytes: %v", args, len(s.local), err)
		}
		searches = append(searches, s)
		ids = append(ids, m.submit(m.nodes[i%3], s))
		if i == 3 {
			m.kill(2, "a worker")
			m.up(2)
		}
	}
	for i, s := range searches {
		m.check(ids[i], s)
	}
}
