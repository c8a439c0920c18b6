package chaos

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// filler writes an output of a stated size, whose bytes follow from the task.
const filler = `import hashlib, sys, time
n, size = int(sys.argv[1]), int(sys.argv[2])
block = hashlib.sha256(b"%d" % n).digest() * 2048
with open(sys.argv[3], "wb") as f:
    left = size
    while left > 0:
        left -= f.write(block[:left])
time.sleep(0.05)
print("made", n)
`

// filled is what task n of [filler] writes.
func filled(n, size int) [32]byte {
	digest := sha256.Sum256(fmt.Append(nil, n))
	block := bytes.Repeat(digest[:], 2048)
	h := sha256.New()
	for left := size; left > 0; left -= min(left, len(block)) {
		h.Write(block[:min(left, len(block))])
	}
	return [32]byte(h.Sum(nil))
}

// TestPythonTasks runs tasks in Python whose outputs have 1 KB to 50 MB, kills nodes
// at random meanwhile, and asks each node for every output: 500 tasks and 10 kills at
// full size.
func TestPythonTasks(t *testing.T) {
	tasks, most := 60, 5<<20
	if *rounds >= fullRounds {
		tasks, most = 500, 50<<20
	}
	m := newMesh(t, 3, oneThread+oneThread)
	m.checks = "I1 I3 I4"
	r := rand.New(rand.NewPCG(*seed, 11))
	sizes := make([]int, tasks)
	var entries []string
	for n := range sizes {
		sizes[n] = int(1024 * math.Pow(float64(most)/1024, r.Float64()))
		entries = append(entries, fmt.Sprintf(`{"job_id":"t%d","script":"fill.py","args":["%d","%d","out/%d.bin"],"expected_output":"out/%d.bin"}`, n, n, sizes[n], n, n))
	}
	work := filepath.Join(m.dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"fill.py": filler, "jobs.json": "[" + strings.Join(entries, ",") + "]"} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(work)
	id := strings.TrimSpace(m.run("script", "--data", m.nodes[0].dir, "--attempts", "9", "--chunk-time", "1s", "jobs.json"))
	const deaths = 10
	for k := range deaths {
		m.atShare(id, 0.9*float64(k)/deaths)
		victim := r.IntN(len(m.nodes))
		if k%2 == 0 {
			victim = m.leader()
		}
		m.kill(victim, "a node at its tasks in Python")
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond) // how long it is away is part of the fault
		m.up(victim)
	}
	m.await(5*jobWait, "end of the job", func() bool {
		j := m.job(id)
		return j != nil && (j.State == "done" || j.State == "failed")
	})
	for i, p := range m.nodes {
		m.checkFilled(id, p, filepath.Join(m.dir, fmt.Sprintf("delivered-%d", i)), sizes)
	}
	for _, p := range m.nodes {
		if left := lyingAbout(t, p); len(left) > 0 {
			t.Errorf("%s keeps %q", p.name, left)
		}
	}
	m.stop()
	if left := marked(m); len(left) > 0 {
		t.Errorf("the processes %v outlived the mesh", left)
	}
}

// fullRounds is from how many rounds on the long tests run at full size.
const fullRounds = 30

// checkFilled has a node deliver the outputs, and holds each against what it must be.
func (m *mesh) checkFilled(id string, p *proc, dir string, sizes []int) {
	m.Helper()
	m.run("results", id, "--data", p.dir, "-o", dir)
	files := 0
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files != len(sizes) {
		m.Fatalf("%s delivers %d files, %v, want %d", p.name, files, err, len(sizes))
	}
	for n, size := range sizes {
		b, err := os.ReadFile(filepath.Join(dir, "out", fmt.Sprintf("%d.bin", n)))
		if err != nil || len(b) != size || sha256.Sum256(b) != filled(n, size) {
			m.Fatalf("%s: the output of task %d is wrong, %d bytes of %d: %v", p.name, n, len(b), size, err)
		}
	}
	lines := strings.Split(strings.TrimSpace(m.run("results", id, "--data", p.dir)), "\n")
	seen := map[string]bool{}
	for _, line := range lines {
		seen[line[:strings.Index(line, ",")]] = true
	}
	if len(lines) != len(sizes) || len(seen) != len(sizes) {
		m.Errorf("%s has %d outcomes of %d tasks, want %d", p.name, len(lines), len(seen), len(sizes))
	}
	if verified := m.run("ledger", id, "--verify", "--data", p.dir); !strings.Contains(verified, "true") {
		m.Errorf("the ledger of %s: %s", p.name, verified)
	}
	if err := os.RemoveAll(dir); err != nil {
		m.Error(err)
	}
}

// lyingAbout lists the files that a node's slots keep of tasks that have ended.
func lyingAbout(t *testing.T, p *proc) (left []string) {
	t.Helper()
	for _, dir := range []string{"work", "tmp", "out"} {
		found, err := filepath.Glob(filepath.Join("/var/tmp", siteOf(p), "*", dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

// scorer scores the items of its part: each takes memory and a little time.
const scorer = `import json, sys, time
held, scores = [], []
for line in open(sys.argv[1]):
    held.append(bytearray(1 << 20))
    for i in range(0, 1 << 20, 4096): held[-1][i] = 1
    scores.append({"item": json.loads(line)["n"], "score": json.loads(line)["n"] ** 2})
    time.sleep(0.02)
with open(sys.argv[2], "w") as f:
    for s in scores: f.write(json.dumps(s) + "\n")
`

// TestSplitFitsMemory splits an input over twelve slots of a node with little memory:
// chunks grow until they fit a slot's share of it, the slots stay busy, and the joined
// output has every item once, in order.
func TestSplitFitsMemory(t *testing.T) {
	const items, slots = 12_000, 12
	m := newMesh(t, 1, "[scripts]\nmemory_mib = 1024\n"+strings.Repeat(oneThread, slots))
	p := m.nodes[0]
	var input, want strings.Builder
	for n := range items {
		fmt.Fprintf(&input, "{\"n\": %d}\n", n)
		fmt.Fprintf(&want, "{\"item\": %d, \"score\": %d}\n", n, n*n)
	}
	work := filepath.Join(m.dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"score.py": scorer, "items.jsonl": input.String()} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(work)
	id := strings.TrimSpace(m.run("exec", "--data", p.dir, "--split", "items.jsonl", "--chunk-size", "auto", "--output", "scores.jsonl", "--", "python3", "score.py", "items.jsonl", "scores.jsonl"))
	var busy, looks, most int
	m.await(jobWait, "end of the job", func() bool {
		most = max(most, residentMiB(m))
		j := m.job(id)
		var nodes []struct{ Busy int }
		m.json(&nodes, "nodes", "--json", "--data", p.dir)
		if share := shareOf(j); share > 0.2 && share < 0.8 {
			busy += nodes[0].Busy
			looks++
		}
		return j.State == "done" || j.State == "failed"
	})
	if j := m.job(id); j.State != "done" {
		t.Fatalf("the job is %s: %s", j.State, j.LastError)
	}
	if looks < 5 || busy*10 < looks*slots*9 {
		t.Errorf("in %d looks %d slots were busy, want nine of ten of %d", looks, busy, looks*slots)
	}
	if most > 1024 || most < 256 {
		t.Errorf("the tasks used %d MiB at most, want most of the node's 1024, and no more", most)
	}
	t.Logf("%d looks, %.1f of %d slots busy, %d MiB at most, %d tasks, %d failures", looks, float64(busy)/float64(max(looks, 1)), slots, most, len(m.listed(id, p)), m.job(id).Failures)
	m.run("results", id, "--data", p.dir, "-o", filepath.Join(m.dir, "out"))
	if b, err := os.ReadFile(filepath.Join(m.dir, "out", "scores.jsonl")); err != nil || string(b) != want.String() {
		t.Errorf("the joined output has %d bytes, %v, want %d", len(b), err, want.Len())
	}
}

// doubler doubles the numbers of its part, and fails at a bad one until it is told
// that all is well.
const doubler = `#!/bin/sh
test -e "$1" || ! grep -q bad rows.csv || exit 9
sed 's/^\([0-9]*\),.*/\1,\1/' rows.csv > doubled.csv
`

// TestSplitFindsBadItems sets aside the items that make their task fail, and only
// those, tries them again as a job of their own, and joins what was made.
func TestSplitFindsBadItems(t *testing.T) {
	const rows = 60
	m := newMesh(t, 1, oneThread+oneThread)
	p := m.nodes[0]
	well := filepath.Join(m.openDir("shared"), "well")
	var input, want, bad strings.Builder
	input.WriteString("n,word\n")
	want.WriteString("n,word\n")
	bad.WriteString("n,word\n")
	for n := range rows {
		word, to := "good", &want
		if n == 17 || n == 44 {
			word, to = "bad", &bad
		}
		fmt.Fprintf(&input, "%d,%s\n", n, word)
		fmt.Fprintf(to, "%d,%d\n", n, n)
	}
	work := filepath.Join(m.dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"double.sh": doubler, "rows.csv": input.String()} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(work)
	id := strings.TrimSpace(m.run("exec", "--data", p.dir, "--split", "rows.csv", "--output", "doubled.csv", "--", "./double.sh", well))
	if _, stderr, code := m.exec("job", "wait", id, "--data", p.dir); code != 3 {
		t.Fatalf("wait: exit %d, %s", code, stderr)
	}
	failed := 0
	for name, task := range m.listed(id, p) {
		if task.State == "failed" {
			failed++
			if name != "17-17" && name != "44-44" || task.Class != "exit code" {
				t.Errorf("task %s is set aside: %s", name, task.Class)
			}
		}
	}
	if failed != 2 {
		t.Errorf("%d items are set aside, want 2", failed)
	}
	joined := func(id string) string {
		out := filepath.Join(m.dir, id)
		m.run("results", id, "--partial", "--data", p.dir, "-o", out)
		b, err := os.ReadFile(filepath.Join(out, "doubled.csv"))
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if got := joined(id); got != want.String() {
		t.Errorf("the joined output is %q, want %q", got, want.String())
	}
	if err := os.WriteFile(well, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var again struct{ Job string }
	m.json(&again, "job", "retry", id, "--json", "--data", p.dir)
	m.run("job", "wait", again.Job, "--data", p.dir)
	if got := joined(again.Job); got != bad.String() {
		t.Errorf("the output of the items that were tried again is %q, want %q", got, bad.String())
	}
}

// TestPythonExamplesRefuse gives the examples in Python what cannot be done: each says so
// in a line or two, without the stack of an exception, and with the exit status that the
// command line has.
func TestPythonExamplesRefuse(t *testing.T) {
	dir := t.TempDir()
	draws, words := filepath.Join(dir, "draws.txt"), filepath.Join(dir, "words.txt")
	for name, text := range map[string]string{draws: "206\n*\n87\n", words: "206\nbanana\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	client, stopped := "../../clients/python", filepath.Join(dir, "stopped")
	search := func(draws, seeds, data string) []string {
		return []string{"parameter_search.py", draws, "--generator", "xorshift32", "--seeds", seeds, "--data", data}
	}
	if err := os.Mkdir(stopped, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		argv []string
		path string // of Python's modules
		code int
		says string
	}{
		"no client":       {search(draws, "0:10", stopped), dir, 2, "put PYTHONPATH=clients/python before"},
		"no arguments":    {[]string{"parameter_search.py"}, client, 2, "are required"},
		"no such file":    {search(filepath.Join(dir, "missing"), "0:10", stopped), client, 2, "missing cannot be read"},
		"no number":       {search(words, "0:10", stopped), client, 2, "line 2: 'banana' is not a whole number"},
		"no range":        {search(draws, "10", stopped), client, 2, "'10' is not FIRST:END"},
		"no directory":    {search(draws, "0:10", filepath.Join(dir, "none")), client, 6, "there is no data directory"},
		"no node running": {append(search(draws, "0:10", stopped), "--patience", "0.1"), client, 6, "cannot be reached"},
		"no mesh":         {[]string{"worker.py"}, client, 2, "a node starts it"},
	} {
		t.Run(name, func(t *testing.T) {
			c := exec.CommandContext(t.Context(), "python3", append([]string{"../../examples/" + tt.argv[0]}, tt.argv[1:]...)...)
			c.Env = append(os.Environ(), "PYTHONPATH="+tt.path, "PYTHONDONTWRITEBYTECODE=1")
			out, err := c.CombinedOutput()
			if code := c.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.says) || strings.Contains(string(out), "Traceback") {
				t.Errorf("%v: exit %d, want %d and %q:\n%s", err, code, tt.code, tt.says, out)
			}
		})
	}
}
