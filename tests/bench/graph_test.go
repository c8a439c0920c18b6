package bench

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The tasks of [needing] come in groups: one, those that need it, and one that needs
// all of these.
const groupOfTasks = 1000

// needing writes a jobs file of tasks that do nothing and need others.
func needing(b *testing.B, tasks int) string {
	b.Helper()
	name := filepath.Join(b.TempDir(), "jobs.json")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	w, comma := bufio.NewWriter(f), "["
	for i := range tasks {
		first, needs := i-i%groupOfTasks, ""
		switch place := i % groupOfTasks; {
		case place == groupOfTasks-1:
			var all []string
			for k := first + 1; k < i; k++ {
				all = append(all, fmt.Sprintf(`"t%d"`, k))
			}
			needs = strings.Join(all, ",")
		case place > 0:
			needs = fmt.Sprintf(`"t%d"`, first)
		}
		_, _ = fmt.Fprintf(w, `%s{"job_id":"t%d","script":"/bin/true","args":[],"needs":[%s]}`+"\n", comma, i, needs)
		comma = ","
	}
	_, _ = w.WriteString("]\n")
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return name
}

// BenchmarkMillionTasksNeed submits a jobs file of a million tasks that need others on
// three voters, lists it, shows it and cancels it, and reports the memory of the command
// and of the largest node. Where SEEDMESH_BENCH_LONG is set, the tasks also run, which
// takes a quarter of an hour and more.
func BenchmarkMillionTasksNeed(b *testing.B) {
	const tasks = 1_000_000
	m := newMesh(b, 3, "[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n")
	file := needing(b, tasks)
	submit, list, show, cancel, command := math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1), 0.0
	for b.Loop() {
		var id []byte
		c := exec.Command(m.binary, "script", file, "--data", m.nodes[0].dir)
		submit = min(submit, timed(func() { id, _ = c.Output() }).Seconds())
		used, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
		if !c.ProcessState.Success() || !ok {
			b.Fatalf("script: %v", c.ProcessState)
		}
		command = max(command, float64(used.Maxrss)*1024)
		job := strings.TrimSpace(string(id))
		list = min(list, timed(func() { m.run(1, "jobs") }).Seconds())
		show = min(show, timed(func() { m.run(2, "job", "show", job) }).Seconds())
		cancel = min(cancel, timed(func() { m.run(2, "job", "cancel", job) }).Seconds())
	}
	b.ReportMetric(submit, "submit-s")
	b.ReportMetric(list, "list-s")
	b.ReportMetric(show, "show-s")
	b.ReportMetric(cancel, "cancel-s")
	b.ReportMetric(command/(1<<20), "command-MB")
	if os.Getenv("SEEDMESH_BENCH_LONG") != "" {
		took := timed(func() { m.run(0, "script", file, "--wait", "-q") })
		b.ReportMetric(tasks/took.Seconds(), "tasks/s")
	}
	largest := 0.0
	for _, p := range m.nodes {
		largest = max(largest, resident(b, p.cmd.Process.Pid))
	}
	b.ReportMetric(largest/(1<<20), "node-MB")
}
