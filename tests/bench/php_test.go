package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// phpSequence is what PHP 8.2 gives: mt_srand(3735928559), then mt_rand(0, 999).
const (
	phpSeed     = "3735928559"
	phpSequence = "277\n136\n134\n657\n644\n513\n626\n337\n650\n461\n"
)

// BenchmarkPHPSequence searches all 2^32 seeds for a sequence of PHP's mt_rand(0, 999):
// on this machine alone, where the time is compared with that of a search for the first
// output of mt_rand(), and on three nodes among which this machine's processors are
// divided (on two, the third node only votes), whose rate is compared with that of the
// machine alone. All must give the same one seed.
func BenchmarkPHPSequence(b *testing.B) {
	const nodes = 3
	var config strings.Builder
	for i := range nodes {
		if threads := (runtime.NumCPU() + nodes - 1 - i) / nodes; threads > 0 {
			fmt.Fprintf(&config, "[[node.n%d.slot]]\ndevice = \"cpu\"\nthreads = %d\n", i+1, threads)
		} else {
			fmt.Fprintf(&config, "[node.n%d]\nno_slots = true\n", i+1)
		}
	}
	m := newMesh(b, nodes, config.String())
	draws := filepath.Join(b.TempDir(), "php.txt")
	if err := os.WriteFile(draws, []byte(phpSequence), 0o600); err != nil {
		b.Fatal(err)
	}
	search := func(seeds string) []string {
		return []string{"sieve", "-q", "-g", "php_mt_rand_0_999", "--observe", "raw", "-d", draws, "--seeds", seeds}
	}
	m.run(0, append(search("0:2^27"), "--wait")...) // the rates are known
	var first, alone, together float64
	for b.Loop() {
		first += timed(func() {
			command(b, m.binary, "sieve", "--local", "-q", "-g", "php_mt_rand", "--observe", "raw", "-d", m.draws(), "--seeds", "0:2^32")
		}).Seconds()
		var local, mesh string
		alone += timed(func() { local = command(b, m.binary, append(search("0:2^32"), "--local")...) }).Seconds()
		together += timed(func() { mesh = m.run(1, append(search("0:2^32"), "--wait")...) }).Seconds()
		if mesh != local || strings.Count(local, "\n") != 1 || !strings.HasPrefix(local, `{"seed":"`+phpSeed+`"`) {
			b.Fatalf("the mesh finds\n%s, this machine alone\n%s, and the seed is %s", mesh, local, phpSeed)
		}
	}
	b.ReportMetric(float64(b.N)*(1<<32)/alone, "seeds/s")
	b.ReportMetric(alone/first, "of-first-output-time")
	b.ReportMetric(alone/together, "mesh-of-local-rate")
}
