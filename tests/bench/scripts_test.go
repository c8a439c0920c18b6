package bench

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
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
