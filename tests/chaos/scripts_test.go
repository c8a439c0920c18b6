package chaos

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"seedmesh/tests/faults"
)

// maker writes its input over and over into an output whose size depends on the
// task, after a while, so that there is something to kill.
const maker = `#!/bin/sh
set -e
mkdir -p made
n=$1
sleep 0.0$((n % 9))
i=0
: > made/$n.bin
while [ $i -le $((n * 7 % 160)) ]; do cat seed.bin >> made/$n.bin; i=$((i+1)); done
echo made $n
(setsid sleep 300 > /dev/null 2>&1 &)
`

// made is what task n of [maker] writes.
func made(seed []byte, n int) [32]byte {
	return sha256.Sum256(bytes.Repeat(seed, n*7%160+1))
}

// TestScriptsSurviveKills kills nodes, the leader most of all, while a script job
// with inputs and outputs runs, and holds every output against what it must be.
func TestScriptsSurviveKills(t *testing.T) {
	const tasks, kills = 300, 8
	r := rand.New(rand.NewPCG(*seed, 7))
	m := newMesh(t, 3, oneThread)
	m.checks = "I1 I3 I4"
	work := filepath.Join(m.dir, "work")
	seedBytes := make([]byte, 16<<10)
	for i := range seedBytes {
		seedBytes[i] = byte(r.Uint32())
	}
	for name, b := range map[string][]byte{"make.sh": []byte(maker), "seed.bin": seedBytes} {
		if err := os.MkdirAll(work, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(work, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(work)
	id := strings.TrimSpace(m.run("exec", "--data", m.nodes[0].dir, "--array", fmt.Sprintf("1-%d", tasks), "--chunk-time", "1s",
		"--input", "seed.bin", "--output", "made/{}.bin", "--attempts", "9", "--", "./make.sh", "{}"))
	for k := range kills {
		m.atShare(id, float64(k)/kills)
		victim := m.leader()
		if k%2 == 1 {
			victim = r.IntN(len(m.nodes))
		}
		m.kill(victim, "a node at its tasks")
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond) // how long it is away is part of the fault
		m.up(victim)
	}
	m.await(jobWait, "end of the job", func() bool {
		j := m.job(id)
		return j != nil && (j.State == "done" || j.State == "failed")
	})
	for i, p := range m.nodes {
		out := filepath.Join(m.dir, fmt.Sprintf("out-%d", i))
		m.run("results", id, "--data", p.dir, "-o", out)
		files, err := filepath.Glob(filepath.Join(out, "made", "*"))
		if err != nil || len(files) != tasks {
			t.Fatalf("%s delivers %d files, %v, want %d", p.name, len(files), err, tasks)
		}
		for n := 1; n <= tasks; n++ {
			b, err := os.ReadFile(filepath.Join(out, "made", fmt.Sprintf("%d.bin", n)))
			if err != nil || sha256.Sum256(b) != made(seedBytes, n) {
				t.Fatalf("%s: the output of task %d is wrong, %d bytes: %v", p.name, n, len(b), err)
			}
		}
		lines := strings.Split(strings.TrimSpace(m.run("results", id, "--data", p.dir)), "\n")
		if len(lines) != tasks || !strings.Contains(lines[4], `"task":"5","number":4,`) {
			t.Errorf("%s has the outcomes of %d tasks, the fifth is %s", p.name, len(lines), lines[min(4, len(lines)-1)])
		}
		if verified := m.run("ledger", id, "--verify", "--data", p.dir); !strings.Contains(verified, "true") {
			t.Errorf("the ledger of %s: %s", p.name, verified)
		}
	}
	m.stop()
	if left := marked(m); len(left) > 0 {
		t.Errorf("the processes %v outlived the mesh", left)
	}
}

// TestShortTasksSurviveAKill kills a node of its own in the midst of thousands of
// tasks that end as soon as they begin, with many of them in each commit.
func TestShortTasksSurviveAKill(t *testing.T) {
	const tasks = 5000
	m := newMesh(t, 1, strings.Repeat(oneThread, 2))
	m.checks = "I1 I3 I4"
	id := strings.TrimSpace(m.run("exec", "--data", m.nodes[0].dir, "--array", fmt.Sprintf("1-%d", tasks), "--", "true"))
	m.atShare(id, 0.5)
	m.kill(0, "the only node, at short tasks")
	m.up(0)
	m.await(jobWait, "end of the job", func() bool {
		j := m.job(id)
		return j != nil && j.State == "done"
	})
	seen := map[int]bool{}
	for line := range strings.Lines(m.run("results", id, "--data", m.nodes[0].dir)) {
		var outcome struct{ Number int }
		if err := json.Unmarshal([]byte(line), &outcome); err != nil || seen[outcome.Number] {
			t.Fatalf("%s: twice, or %v", line, err)
		}
		seen[outcome.Number] = true
	}
	if len(seen) != tasks {
		t.Errorf("%d of %d tasks have an outcome", len(seen), tasks)
	}
	if verified := m.run("ledger", id, "--verify", "--data", m.nodes[0].dir); !strings.Contains(verified, "true") {
		t.Errorf("the ledger: %s", verified)
	}
}

// marked lists the processes that scripts of the mesh's nodes have left.
func marked(m *mesh) (left []string) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range environs {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(b, []byte("SEEDMESH_PLACE=")) {
			continue
		}
		for _, p := range m.nodes {
			if bytes.Contains(b, []byte(siteOf(p))) {
				left = append(left, filepath.Dir(name))
			}
		}
	}
	return left
}

// siteOf is where a node's scripts run.
func siteOf(p *proc) string {
	return fmt.Sprintf("seedmesh-%x", sha256Prefix(p.dir))
}

func sha256Prefix(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:6]
}

// TestHostileScripts runs programs that do harm, in one job, and a harmless task
// between any two of them. Each harmful one is classified, and the node goes on.
func TestHostileScripts(t *testing.T) {
	site := filepath.Join(t.TempDir(), "site") // small, so that it can be filled
	m := newMesh(t, 0, "")
	if err := os.Mkdir(site, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(site); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) { // scripts of other users pass through
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.tmpfs(site, 256<<20)
	m = newMesh(t, 1, fmt.Sprintf("[scripts]\ndir = %q\n%s%s", site, oneThread, oneThread))
	p := m.nodes[0]
	hostile := []struct{ name, class, script string }{
		{"ignores-term", "timeout", "trap '' TERM; while :; do sleep 1; done"},
		{"forks-twice", "ok", "(setsid sleep 300 &) ; echo 1 > out"},
		{"floods", "ok", "head -c 5000000000 /dev/zero; echo 1 > out"},
		{"fills-its-directory", "disk full", "cat /dev/zero > big; sleep 60"},
		{"bombs-with-forks", "timeout", "b() { b | b & }; b; sleep 60"},
		{"half-an-output", "invalid output", `printf '{"a": [1, 2' > out`},
		{"nan", "invalid output", `printf '{"a": NaN}' > out`},
		{"bombs-with-brackets", "invalid output", `head -c 100000000 /dev/zero | tr '\0' '[' > out`},
		{"no-output", "missing output", "true"},
		{"leaves-for-tomorrow", "missing output", "echo 1 > yesterday; mkdir -p ../work/d; echo 1 > $TMPDIR/out"},
		{"takes-yesterdays", "missing output", "true"},
		{"link-out", "invalid output", "ln -s " + filepath.Join(p.dir, "node.key") + " out"},
		{"hard-link-out", "exit code", "ln /etc/shadow out"},
		{"reads-the-keys", "exit code", "cat " + filepath.Join(p.dir, "node.key")},
		{"reads-the-other-slot", "exit code", "cat ../../0/work/* ../../1/work/* ../../0/tmp/* ../../1/tmp/* 2> /dev/null | grep secret"},
		{"speaks-to-the-socket", "exit code", "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"" + filepath.Join(p.dir, "api.sock") + "\")'"},
		{"kills-its-parent", "exit code", "kill -9 $PPID"},
		{"exits-137", "exit code", "exit 137"},
		{"kills-itself", "signal", "kill -9 $$"},
		{"closes-all", "ok", "echo 1 > out; exec 0<&- 1>&- 2>&-"},
		{"too-large", "invalid output", "truncate -s 1T out"},
	}
	var lists [2][]string // the second, for what fills the disk that all share, comes after the first
	for i, h := range hostile {
		output, seconds, turn := "out", 5, 0
		switch h.name {
		case "takes-yesterdays":
			output = "yesterday"
		case "floods":
			seconds = 120
		case "fills-its-directory":
			turn = 1
		}
		lists[turn] = append(lists[turn], fmt.Sprintf(`{"job_id":%q,"script":"/bin/sh","args":["-c",%q],"expected_output":%q,"timeout":%d}`, h.name, h.script, output, seconds),
			fmt.Sprintf(`{"job_id":"good-%d","script":"/bin/sh","args":["-c","echo secret > note; echo {} > out"],"expected_output":"out"}`, i))
	}
	if _, stderr, code := m.exec("exec", "--data", p.dir, "--output", "../*", "--", "true"); code != 2 || !strings.Contains(stderr, "working directory") {
		t.Errorf("an output pattern that leaves the working directory: exit %d, %s", code, stderr)
	}
	before := m.run("jobs", "--data", p.dir)
	got := map[string]string{}
	for _, list := range lists {
		file := filepath.Join(m.dir, "jobs.json")
		if err := os.WriteFile(file, []byte("["+strings.Join(list, ",")+"]"), 0o600); err != nil {
			t.Fatal(err)
		}
		id := strings.TrimSpace(m.run("script", "--data", p.dir, "--attempts", "1", "--timeout", "60s", "--valid", "json", "--ok", "0", file))
		if _, stderr, code := m.exec("job", "wait", id, "--data", p.dir); code != 3 {
			t.Fatalf("wait: exit %d\n%s", code, stderr)
		}
		var tasks []struct{ Task, State, Class string }
		m.json(&tasks, "task", "ls", id, "--json", "--data", p.dir)
		for _, v := range tasks {
			got[v.Task] = v.Class
		}
	}
	for i, h := range hostile {
		if got[h.name] != h.class {
			t.Errorf("%s is %q, want %q", h.name, got[h.name], h.class)
		}
		if good := fmt.Sprintf("good-%d", i); got[good] != "ok" {
			t.Errorf("%s is %q", good, got[good])
		}
	}
	faults.Landed(t, faults.Process, "hostile script", "I3 I6", len(hostile))
	if !p.running() || before == m.run("jobs", "--data", p.dir) {
		t.Error("the node did not live through it")
	}
	if left := marked(m); len(left) > 0 {
		t.Errorf("the processes %v outlived their tasks", left)
	}
}

// TestScriptLimit runs 99 tasks on a node of 12 slots of which 4 take scripts,
// and kills the node twice: all 99 are done, and never more than 4 at once, also when
// those are counted that a killed node may have left running.
func TestScriptLimit(t *testing.T) {
	m := newMesh(t, 1, "[node]\nmax_concurrent_script_jobs = 4\n"+strings.Repeat("[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n", 12))
	m.checks = "I1 I3"
	p := m.nodes[0]
	count := filepath.Join(m.dir, "count")
	if err := os.Mkdir(count, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir := count; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) { // scripts of another user pass through
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	id := strings.TrimSpace(m.run("exec", "--data", p.dir, "--array", "1-99", "--chunk-time", "500ms", "--", "/bin/sh", "-c",
		"touch "+count+"/$$; n=0; for f in "+count+"/*; do grep -qs 'State:.[^ZX]' /proc/${f##*/}/status && n=$((n+1)); done; echo $n; sleep 0.1; rm "+count+"/$$"))
	interrupted := 0
	for _, share := range []float64{0.2, 0.6} {
		m.atShare(id, share)
		m.kill(0, "the only node, at its tasks")
		left, _ := filepath.Glob(count + "/*")
		interrupted += len(left)
		m.up(0)
	}
	m.await(jobWait, "end of the job", func() bool {
		j := m.job(id)
		return j != nil && j.State == "done" && j.Done == "99"
	})
	if interrupted == 0 {
		t.Error("no task ran when its node was killed")
	}
	most := 0
	for n := 1; n <= 99; n++ {
		var at int
		out := m.run("task", "logs", fmt.Sprintf("%s/%d", id, n), "--data", p.dir)
		if _, err := fmt.Sscan(out, &at); err != nil || at < 1 || at > 4 {
			t.Errorf("task %d saw %q tasks at once, want 1 to 4", n, out)
		}
		most = max(most, at)
	}
	if most < 2 {
		t.Errorf("there were never more than %d tasks at once: the limit was not put to the test", most)
	}
}

// TestScriptMemory runs tasks that need more than their job says on a node of
// many slots and little memory. Those that are killed for it count as no attempt
// and run again with more; in the end all are done, and nobody is killed any more.
func TestScriptMemory(t *testing.T) {
	m := newMesh(t, 1, "[scripts]\nmemory_mib = 600\n"+strings.Repeat("[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n", 8))
	p := m.nodes[0]
	// tail holds a line without an end in memory: 120 MB of it.
	id := strings.TrimSpace(m.run("exec", "--data", p.dir, "--array", "1-30", "--mem", "64M", "--attempts", "1", "--", "/bin/sh", "-c",
		"head -c 120000000 /dev/zero | tail | wc -c; sleep 1"))
	m.await(jobWait, "end of the job", func() bool {
		j := m.job(id)
		return j != nil && (j.State == "done" || j.State == "failed")
	})
	j := m.job(id)
	if j.State != "done" || j.Done != "30" {
		t.Fatalf("the job is %s with %s done: %s", j.State, j.Done, j.LastError)
	}
	if j.Failures == 0 || j.Failures > 24 {
		t.Errorf("%d attempts were killed for want of memory, want some, and not many: the need is learned", j.Failures)
	}
	faults.Landed(t, faults.Process, "task killed for want of memory", "I1 I3 I6", int(j.Failures))
	for n := 1; n <= 30; n++ {
		if out := m.run("task", "logs", fmt.Sprintf("%s/%d", id, n), "--data", p.dir); strings.TrimSpace(out) != "120000000" {
			t.Errorf("task %d says %q", n, out)
		}
	}
}

// eater needs so many MiB for some time.
const eater = "import sys, time; b = bytearray(int(sys.argv[1]) << 20); b[::4096] = b'1' * len(b[::4096]); time.sleep(0.5)"

// TestMemoryOfTwelveSlots runs tasks of 300 MB, and others that need more than their
// job says, on a node of twelve slots that gives scripts 2 GiB: all are done, all
// together never use more, and what was killed for it is killed no more once it is learned.
func TestMemoryOfTwelveSlots(t *testing.T) {
	const limit, each = 2048, 24
	m := newMesh(t, 1, fmt.Sprintf("[scripts]\nmemory_mib = %d\n", limit)+strings.Repeat(oneThread, 12))
	p := m.nodes[0]
	honest := strings.TrimSpace(m.run("exec", "--data", p.dir, "--array", fmt.Sprintf("1-%d", each), "--mem", "300M", "--attempts", "1", "--chunk-time", "1s", "--", "python3", "-c", eater, "280"))
	modest := strings.TrimSpace(m.run("exec", "--data", p.dir, "--array", fmt.Sprintf("1-%d", each), "--mem", "100M", "--attempts", "1", "--chunk-time", "1s", "--", "python3", "-c", eater, "280"))
	most := 0
	m.await(jobWait, "end of both jobs", func() bool {
		most = max(most, residentMiB(m))
		a, b := m.job(honest), m.job(modest)
		return a != nil && b != nil && (a.State == "done" || a.State == "failed") && (b.State == "done" || b.State == "failed")
	})
	for _, id := range []string{honest, modest} {
		if j := m.job(id); j.State != "done" || j.Done != fmt.Sprint(each) {
			t.Fatalf("the job is %s with %s done: %s", j.State, j.Done, j.LastError)
		}
	}
	if most > limit || most < limit/4 {
		t.Errorf("the tasks used %d MiB at most, the node gives %d", most, limit)
	}
	killed := m.job(modest).Failures
	if killed == 0 || killed > 3*12 || m.job(honest).Failures > 0 {
		t.Errorf("%d and %d attempts were killed: want none of the job that said what it needs, and of the other some, until that was learned", m.job(honest).Failures, killed)
	}
	again := strings.TrimSpace(m.run("exec", "--data", p.dir, "--array", fmt.Sprintf("1-%d", each), "--mem", "300M", "--attempts", "1", "--", "python3", "-c", eater, "280"))
	m.run("job", "wait", again, "--data", p.dir)
	if j := m.job(again); j.Failures > 0 {
		t.Errorf("%d attempts were killed where enough was asked for", j.Failures)
	}
	faults.Landed(t, faults.Process, "task killed for want of memory", "I1 I3 I6", int(killed))
	t.Logf("%d MiB of %d at most, %d attempts killed", most, limit, killed)
}

// residentMiB is the memory of all scripts of the mesh's nodes, without what they share.
func residentMiB(m *mesh) int {
	pages := 0
	for _, dir := range marked(m) {
		var total, resident, shared int
		if b, err := os.ReadFile(filepath.Join(dir, "statm")); err == nil {
			if _, err := fmt.Sscan(string(b), &total, &resident, &shared); err == nil {
				pages += resident - shared
			}
		}
	}
	return pages * os.Getpagesize() >> 20
}

// TestNoTaskAfterCancel cancels and pauses a job of very short tasks, each of which
// notes when it began: none begins after the command has returned.
func TestNoTaskAfterCancel(t *testing.T) {
	m := newMesh(t, 1, oneThread+oneThread)
	p := m.nodes[0]
	stamps := filepath.Join(m.dir, "stamps")
	if err := os.Mkdir(stamps, 0o777); err != nil {
		t.Fatal(err)
	}
	for dir := stamps; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) { // scripts of another user pass through
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for round, verb := range []string{"cancel", "pause", "cancel", "pause"} {
		dir := filepath.Join(stamps, fmt.Sprint(round))
		if err := errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
			t.Fatal(err)
		}
		id := strings.TrimSpace(m.run("exec", "--data", p.dir, "--array", "1-1000000", "--", "/bin/sh", "-c", "date +%s%N > "+dir+"/$$"))
		m.await(startWait, "tasks under way", func() bool {
			begun, err := os.ReadDir(dir)
			return err == nil && len(begun) > 20
		})
		m.run("job", verb, id, "--data", p.dir)
		returned := time.Now()
		m.run("exec", "--data", p.dir, "--priority", "1", "--wait", "-q", "--array", "1-20", "--", "true") // both slots have ended what they ran
		files, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			var began int64
			b, err := os.ReadFile(f)
			if _, scanned := fmt.Sscan(string(b), &began); err != nil || scanned != nil {
				continue // ended in the middle of it
			}
			if at := time.Unix(0, began); at.After(returned) {
				t.Errorf("%s: a task began %v after it had returned", verb, at.Sub(returned))
			}
		}
		if verb == "pause" {
			m.run("job", "cancel", id, "--data", p.dir)
		}
	}
}
