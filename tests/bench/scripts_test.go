package bench

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const trueTasks = 5000

// BenchmarkTrueTasks runs 5,000 tasks that do nothing on one node of two slots,
// durable and with the default isolation, beside xargs -P2 in the same run, and
// GNU parallel where it is installed. The bar is 0.6 of xargs.
func BenchmarkTrueTasks(b *testing.B) {
	dir := b.TempDir()
	binary := filepath.Join(dir, "seedmesh")
	command(b, "go", "build", "-o", binary, "seedmesh/cmd/seedmesh")
	config := filepath.Join(dir, "cluster.toml")
	if err := os.WriteFile(config, []byte(strings.Repeat("[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n", 2)), 0o600); err != nil {
		b.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	command(b, binary, "init", "--data", data, "--name", "bench", "--listen", freeAddr(b))
	up := exec.Command(binary, "up", "--data", data, "--config", config)
	up.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := up.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	}()
	mesh := func() {
		command(b, binary, "exec", "--data", data, "--wait", "-q", "--array", fmt.Sprintf("1-%d", trueTasks), "--", "true")
	}
	command(b, binary, "exec", "--data", data, "--wait", "-q", "--", "true") // the slots are warm
	var ours, theirs time.Duration
	for b.Loop() {
		ours += timed(mesh)
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

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// command runs a program, which must succeed.
func command(b *testing.B, name string, args ...string) {
	b.Helper()
	c := exec.Command(name, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Run(); err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
}

func freeAddr(b *testing.B) string {
	b.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().String()
}
