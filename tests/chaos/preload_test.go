package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"seedmesh/tests/faults"
)

// restoreWait is how long a node may take to put a preload back.
const restoreWait = 30 * time.Second

// shelves is a configuration that gives each node a directory for preloads.
func shelves(dir string, nodes int) string {
	text := oneThread
	for i := range nodes {
		text += fmt.Sprintf("[node.n%d]\npreload_dirs = [%q]\n", i+1, filepath.Join(dir, fmt.Sprintf("shelf-%d", i+1)))
	}
	return text
}

// TestPreload keeps files on chosen nodes while their directories are wiped, their
// files changed and they themselves killed, and runs a job that requires them.
func TestPreload(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // scripts of another user are to read what is in it
		t.Fatal(err)
	}
	m := newMesh(t, 2, shelves(dir, 3))
	at := func(node int, name string) string {
		return filepath.Join(dir, fmt.Sprintf("shelf-%d", node), "step3", name)
	}
	want := map[string][]byte{"train.json": []byte(`[1]`), "holdout.json": bytes.Repeat([]byte("2"), 40<<20)}
	var files []string
	for name, b := range want {
		files = append(files, filepath.Join(dir, name))
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(node int) bool {
		if _, err := os.Stat(at(node, ".ready")); err != nil {
			return false
		}
		for name, b := range want {
			if got, err := os.ReadFile(at(node, name)); err != nil || !bytes.Equal(got, b) {
				t.Errorf("node %d has a marker, and %s has %d bytes, %v", node, name, len(got), err)
			}
		}
		return true
	}
	restored := func(node int, what string) {
		t.Helper()
		began := time.Now()
		m.await(restoreWait, what, func() bool { return ready(node) })
		faults.Measure(t, faults.Process, "preload put back: "+what, time.Since(began))
	}
	data := m.nodes[0].dir
	out := m.run(append([]string{"preload", "put", "history", "--data", data, "--to", "n1,n3", "--path", "step3"}, files...)...)
	if !ready(1) || strings.Count(out, "ready") != 1 || ready(2) {
		t.Fatalf("put says\n%s", out)
	}
	m.run(append([]string{"preload", "put", "history", "--data", data, "--to", "n1,n3", "--path", "step3"}, files...)...) // the same again
	if _, _, code := m.exec("preload", "put", "history", "--data", data, "--to", "all", "--path", "step3", files[0]); code != 2 {
		t.Errorf("another one of its name: exit %d", code)
	}
	if out, _, code := m.exec("preload", "put", "escape", "--data", data, "--to", "all", "--path", "/etc/seedmesh", files[0]); code != 1 || !strings.Contains(out, "preload_dirs") {
		t.Errorf("a path that nobody allows: exit %d\n%s", code, out)
	}
	m.run("preload", "rm", "escape", "--data", data)

	if err := os.RemoveAll(filepath.Dir(at(1, ""))); err != nil {
		t.Fatal(err)
	}
	restored(1, "a wiped directory")
	if err := os.WriteFile(at(1, "train.json"), []byte("[2]"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.await(restoreWait, "change that is noticed", func() bool {
		b, err := os.ReadFile(at(1, "train.json"))
		return err == nil && string(b) == "[1]"
	})
	restored(1, "a changed file")
	if out := m.run("preload", "verify", "history", "--data", data); !strings.Contains(out, "ready") {
		t.Errorf("verify says\n%s", out)
	}

	job := strings.TrimSpace(m.run("exec", "--data", data, "--array", "1-6", "--attempts", "1", "--require-preload", "history", "--", "cat", at(1, ".ready")))
	m.await(jobWait, "end of the job", func() bool { j := m.job(job); return j != nil && (j.State == "done" || j.State == "failed") })
	if out := m.run("results", "--partial", job, "--data", data); strings.Count(out, `"node":"n1"`) != 6 {
		t.Errorf("tasks ran elsewhere than where their preload is:\n%s", out)
	}

	for try := 0; ; try++ { // until it is killed in the middle of a copy
		m.kill(0, "a node with preloads")
		if err := os.RemoveAll(filepath.Dir(at(1, ""))); err != nil {
			t.Fatal(err)
		}
		m.up(0)
		m.await(restoreWait, "copy that is begun", func() bool { _, err := os.Stat(at(1, "")); return err == nil })
		m.kill(0, "a node that copies a preload")
		if _, err := os.Stat(at(1, ".ready")); err != nil {
			break
		}
		if try == 20 {
			t.Fatal("it is never killed in the middle")
		}
		m.up(0)
	}
	m.up(0)
	restored(1, "after a kill half-way")

	var made struct{ Join string }
	m.json(&made, "token", "create", "--data", data, "--json")
	p := &proc{name: "n3", dir: filepath.Join(m.dir, "3"), addr: freeAddr(t)}
	m.nodes = append(m.nodes, p)
	m.run("join", made.Join, "--data", p.dir, "--name", p.name, "--listen", p.addr)
	m.up(2)
	restored(3, "a node that joined")
	m.await(restoreWait, "report of the new node", func() bool { return strings.Count(m.run("preload", "ls", "history", "--data", data), " ready ") == 2 })
	m.run("preload", "rm", "history", "--data", data)
	m.await(restoreWait, "end of all copies", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, "shelf-*", "step3"))
		return err == nil && len(left) == 0
	})
}
