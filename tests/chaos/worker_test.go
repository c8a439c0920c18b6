package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"seedmesh/tests/faults"
)

// serving is a persistent worker as the example has them: it says who did each
// task, dies of some, and calls its hook.
const serving = `
import os, worker
calls = 0
def hook():
    global calls
    calls += 1
def score(args):
    n = int(args[0])
    if n % 50 == 7 and os.environ["SEEDMESH_ATTEMPT"] == "1": os._exit(9)
    if n == 99: raise ValueError("no score")
    with open("out-%d" % n, "w") as f: f.write("%d" % (n * n))
    return {"n": n, "pid": os.getpid(), "calls": calls}
worker.serve(score, between=hook)
`

// TestPersistentWorkers runs a job over the example's helper, with workers that die
// and a node that is killed.
func TestPersistentWorkers(t *testing.T) {
	needsPython(t)
	const tasks = 400
	m := newMesh(t, 2, oneThread)
	helper, err := os.ReadFile("../../examples/worker.py")
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(m.dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"worker.py": string(helper), "scorer.py": serving} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(work)
	id := strings.TrimSpace(m.run("exec", "--data", m.nodes[0].dir, "--mode", "worker", "--array", "0-399", "--attempts", "2", "--chunk-time", "1s",
		"--input", "worker.py", "--output", "out-{}", "--output", "stdout:json", "--", "python3", "scorer.py", "::", "{}"))
	m.atShare(id, 0.3)
	m.kill(1, "a node with a persistent worker")
	m.up(1)
	m.await(jobWait, "end of the job", func() bool {
		j := m.job(id)
		return j != nil && (j.State == "done" || j.State == "failed")
	})
	j := m.job(id)
	if j.Failed != "1" || j.Failures < 10 { // eight deaths, and twice the one without a score
		t.Errorf("the job is %s, %s tasks have failed in %d attempts: %s", j.State, j.Failed, j.Failures, j.LastError)
	}
	m.run("results", "--partial", id, "--data", m.nodes[0].dir, "-o", "got")
	files, _ := filepath.Glob("got/out-*")
	if b, err := os.ReadFile("got/out-20"); err != nil || string(b) != "400" || len(files) != tasks-1 {
		t.Errorf("%d files; out-20 is %q, %v", len(files), b, err)
	}
	lines := m.run("results", "--partial", id, "--data", m.nodes[0].dir)
	workers, fresh := map[string]int{}, 0
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		_, rest, _ := strings.Cut(line, `"pid":`)
		pid, rest, _ := strings.Cut(rest, ",")
		workers[pid]++
		if strings.HasPrefix(rest, `"calls":0}`) {
			fresh++
		}
	}
	if fresh != len(workers) {
		t.Errorf("%d tasks of %d workers were done before any hook ran", fresh, len(workers))
	}
	if len(workers) < 8 || len(workers) > 80 { // two of them at least, eight deaths, a kill; claims that follow each other share one
		t.Errorf("%d workers did %d tasks", len(workers), tasks)
	}
	if _, logs, _ := m.exec("task", "logs", "--data", m.nodes[0].dir, id+"/99"); !strings.Contains(logs, "ValueError: no score") {
		t.Errorf("the words of the failed task are %q", logs)
	}
	faults.Landed(t, faults.Process, "death of a persistent worker", "I1 I3", int(j.Failures)-2)
	m.stop()
	if left := marked(m); len(left) > 0 {
		t.Errorf("the processes %v outlived the mesh", left)
	}
}
