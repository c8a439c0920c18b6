package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"seedmesh/jobs"
)

const trueTasks = 5000

// BenchmarkTrueTasks runs 5,000 tasks that do nothing on one node of two slots,
// durable and with the default isolation, beside xargs -P2 in the same run, and
// GNU parallel where it is installed. The bar is 0.6 of xargs.
func BenchmarkTrueTasks(b *testing.B) {
	m := newMesh(b, 1, strings.Repeat("[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n", 2))
	m.run(0, "exec", "--wait", "-q", "--", "true") // the slots are warm
	var ours, theirs time.Duration
	for b.Loop() {
		ours += timed(func() { m.run(0, "exec", "--wait", "-q", "--array", fmt.Sprintf("1-%d", trueTasks), "--", "true") })
		theirs += timed(func() { command(b, "sh", "-c", fmt.Sprintf("seq %d | xargs -P2 -n1 true", trueTasks)) })
	}
	rate := func(took time.Duration) float64 { return float64(trueTasks) * float64(b.N) / took.Seconds() }
	b.ReportMetric(rate(ours), "tasks/s")
	b.ReportMetric(rate(theirs), "xargs/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "of-xargs")
	if _, err := exec.LookPath("parallel"); err == nil {
		took := timed(func() { command(b, "sh", "-c", fmt.Sprintf("seq %d | parallel -j2 true", trueTasks)) })
		b.ReportMetric(float64(trueTasks)/took.Seconds(), "parallel/s")
	}
}

// BenchmarkMillionTasksDone has three nodes run a million tasks that do nothing to
// their end, which takes a quarter of an hour and more, and reports what the leader is then:
// its memory, its newest snapshot, for how long writing one holds the ledger up, and how long it
// takes to list the jobs. It runs where SEEDMESH_BENCH_LONG is set.
func BenchmarkMillionTasksDone(b *testing.B) {
	if os.Getenv("SEEDMESH_BENCH_LONG") == "" {
		b.Skip("SEEDMESH_BENCH_LONG is not set")
	}
	const tasks = 1_000_000
	m := newMesh(b, 3, "raft.snapshot_every = 256\n[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n") // a million tasks are few thousand entries
	for b.Loop() {
		took := timed(func() { m.run(0, "exec", "--wait", "-q", "--array", fmt.Sprintf("1-%d", tasks), "--", "true") })
		b.ReportMetric(tasks/took.Seconds(), "tasks/s")
		list := timed(func() {
			var all []struct{ State string }
			if err := json.Unmarshal([]byte(m.run(0, "jobs", "--json")), &all); err != nil || len(all) != 1 || all[0].State != "done" {
				b.Fatalf("the jobs: %+v, %v", all, err)
			}
		})
		b.ReportMetric(list.Seconds(), "jobs-s")
		for i, p := range m.nodes {
			if m.leads(i) {
				size, pause := snapshot(b, p.dir)
				b.ReportMetric(resident(b, p.cmd.Process.Pid)/(1<<20), "leader-MB")
				b.ReportMetric(size/(1<<20), "snapshot-MB")
				b.ReportMetric(pause.Seconds(), "pause-s")
			}
		}
	}
}

// snapshot gives the size in bytes of the newest snapshot of a node's ledger, and how
// long it takes to make one of it.
func snapshot(b *testing.B, dir string) (size float64, pause time.Duration) {
	b.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(found) == 0 {
		b.Fatalf("no snapshot in %s, %v", dir, err)
	}
	text, err := os.ReadFile(slices.Max(found))
	if err != nil {
		b.Fatal(err)
	}
	const indexBytes = 8 // before the ledger stands the index that it shows
	s, err := jobs.Restore(text[indexBytes:])
	if err != nil {
		b.Fatal(err)
	}
	return float64(len(text)), timed(func() { s.Snapshot() })
}
