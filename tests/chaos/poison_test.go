package chaos

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPoisonTask has one task of a job fail wherever it runs: it is tried on both nodes
// and then set aside, the rest is done, the summary has its last words, the exit code is
// 3; and when what it lacked is there, job retry --failed runs it alone.
func TestPoisonTask(t *testing.T) {
	m := newMesh(t, 2, oneThread)
	well, data := filepath.Join(m.openDir("shared"), "well"), m.nodes[1].dir
	_, stderr, code := m.exec("exec", "--data", data, "--name", "poison", "--array", "1-20", "--chunk-time", "100ms", "--wait", "-q", "--", "sh", "-c",
		"[ $SEEDMESH_TASK != 6 ] || [ -e "+well+" ] || { echo the well is dry >&2; exit 9; }")
	if code != 3 || strings.Count(stderr, "task 7: ") != 1 || !strings.Contains(stderr, "exit code") || !strings.Contains(stderr, "the well is dry") {
		t.Errorf("exit %d, want 3, and the last words of task 7 in\n%s", code, stderr)
	}
	for name, task := range m.listed("poison", m.nodes[0]) {
		if want := map[bool]string{true: "failed", false: "done"}[name == "7"]; task.State != want {
			t.Errorf("task %s is %s, want %s", name, task.State, want)
		}
	}
	var shown struct {
		Attempts []struct{ Node, Class string }
	}
	m.json(&shown, "task", "show", "poison/7", "--json", "--data", data)
	on := map[string]int{}
	for _, a := range shown.Attempts {
		on[a.Node]++
	}
	if len(shown.Attempts) != 3 || len(on) != 2 {
		t.Errorf("it was tried %v, want three times, on both nodes", shown.Attempts)
	}
	put(t, well, "")
	var again struct{ Job string }
	m.json(&again, "job", "retry", "--failed", "poison", "--json", "--data", data)
	m.run("job", "wait", again.Job, "--data", data)
	if tasks := m.listed(again.Job, m.nodes[0]); len(tasks) != 1 || tasks["7"].State != "done" {
		t.Errorf("the job of what had failed has the tasks %v, want 7 alone, done", tasks)
	}
}

// TestNodesOfDifferentSizes runs tasks that are too large for one of two nodes: the other
// does all of them, and no attempt fails.
func TestNodesOfDifferentSizes(t *testing.T) {
	sized := func(mib int) string { return fmt.Sprintf("[scripts]\nmemory_mib = %d\n%s", mib, oneThread) }
	m := newMesh(t, 2, sized(256))
	small, large := m.nodes[0], m.nodes[1]
	put(t, m.config, sized(1024))
	if err := large.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = large.cmd.Wait()
	m.up(1)
	m.whole()
	id := ""
	m.await(startWait, "node that says it is large", func() bool { // before it does, the job is refused
		out, _, code := m.exec("exec", "--data", small.dir, "--array", "1-40", "--mem", "512M", "--chunk-time", "100ms", "--", "sleep", "0.05")
		id = strings.TrimSpace(out)
		return code == 0
	})
	m.run("job", "wait", id, "--data", small.dir)
	if j := m.job(id); j.Failures != 0 || j.Done != "40" {
		t.Errorf("%s tasks are done, and %d attempts failed: %s", j.Done, j.Failures, j.LastError)
	}
	for name, task := range m.listed(id, small) {
		if task.Node != large.name {
			t.Errorf("task %s ran on %q, want %s", name, task.Node, large.name)
		}
	}
	if _, stderr, code := m.exec("exec", "--data", small.dir, "--node", small.name, "--mem", "512M", "--", "true"); code != 7 || !strings.Contains(stderr, "256 MiB, on "+small.name) {
		t.Errorf("a task that fits on no node that --node names: exit %d, %s", code, stderr)
	}
}
