package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"seedmesh/scripts"
)

// openDir makes a directory that scripts of any user can write to.
func (m *mesh) openDir(name string) string {
	m.Helper()
	at := filepath.Join(m.dir, name)
	if err := os.Mkdir(at, 0o777); err != nil {
		m.Fatal(err)
	}
	for dir := at; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			m.Fatal(err)
		}
	}
	return at
}

// listed are the tasks of a job by name.
func (m *mesh) listed(id string, at *proc) map[string]struct{ Task, State, Class, Message, Node string } {
	m.Helper()
	var tasks []struct{ Task, State, Class, Message, Node string }
	m.json(&tasks, "task", "ls", id, "--json", "--limit", "100000", "--data", at.dir)
	all := map[string]struct{ Task, State, Class, Message, Node string }{}
	for _, t := range tasks {
		all[t.Task] = t
	}
	return all
}

// TestNeeds runs tasks that need others, some of which fail, and kills the leader
// twice: none starts before those that it needs, what needs a failed one is set
// aside with the reason, and what needs no more than its end runs.
func TestNeeds(t *testing.T) {
	const chains = 30
	m := newMesh(t, 3, oneThread+oneThread)
	m.checks = "I1 I3"
	made := m.openDir("made")
	var entries []string
	entry := func(id, script string, needs ...string) {
		for _, n := range needs {
			if n, any := strings.CutSuffix(n, ":any"); !any {
				script = fmt.Sprintf("test -e %s/%s || exit 99; ", made, n) + script
			}
		}
		entries = append(entries, fmt.Sprintf(`{"job_id":%q,"script":"/bin/sh","args":["-c",%q],"needs":["%s"]}`, id, script+fmt.Sprintf("; mkdir -p %s/%s", made, id), strings.Join(needs, `","`)))
	}
	var lasts []string
	for i := range chains { // in an order that is not theirs
		a, b, c, d := fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i), fmt.Sprint("d", i)
		entry(d, "true", c, b)
		entry(c, "sleep 0.1", a)
		lasts = append(lasts, d)
		if i%10 == 3 { // fails: b and d never start, c's do
			entry(b, "exit 7", a)
		} else {
			entry(b, "sleep 0.1", a)
		}
		entries = append(entries, fmt.Sprintf(`{"job_id":%q,"script":"/bin/sh","args":["-c","sleep 0.1; mkdir -p %s/%s"]}`, a, made, a))
	}
	anyway := make([]string, len(lasts))
	for i, n := range lasts {
		anyway[i] = n + ":any"
	}
	entry("in-the-end", "true", anyway...)
	entry("never", "true", lasts...)
	entry("nor-this", "true", "never")
	file := filepath.Join(m.dir, "jobs.json")
	if err := os.WriteFile(file, []byte("["+strings.Join(entries, ",")+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(m.run("script", "--data", m.nodes[0].dir, "--attempts", "1", "--chunk-time", "500ms", file))
	for _, share := range []float64{0.1, 0.5} {
		m.atShare(id, share)
		leader := m.leader()
		m.kill(leader, "the leader, while tasks wait for others")
		m.up(leader)
	}
	m.await(jobWait, "end of the job", func() bool {
		j := m.job(id)
		return j != nil && (j.State == "done" || j.State == "failed")
	})
	tasks := m.listed(id, m.nodes[1])
	if len(tasks) != 4*chains+3 {
		t.Errorf("%d tasks are listed", len(tasks))
	}
	for name, task := range tasks {
		state, class, message := "done", "ok", ""
		number := strings.TrimLeft(name, "abcd")
		switch lost := strings.HasSuffix(number, "3") && number != "in-the-end"; {
		case name == "never" || name == "nor-this" || lost && name[0] == 'd':
			state, class, message = "failed", "needs another", "which it needs, did not succeed"
		case lost && name[0] == 'b':
			state, class = "failed", "exit code"
		}
		if task.State != state || task.Class != class || !strings.Contains(task.Message, message) || class == "exit code" && !strings.Contains(task.Message, "exit status 7") {
			t.Errorf("task %s is %s: %s: %s, want %s: %s", name, task.State, task.Class, task.Message, state, class)
		}
	}
	cycle := filepath.Join(m.dir, "cycle.json")
	if err := os.WriteFile(cycle, []byte(`[{"job_id":"x","script":"/bin/true","needs":["y"]},{"job_id":"y","script":"/bin/true","needs":["x"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := m.exec("script", "--data", m.nodes[0].dir, cycle); code != 2 || !strings.Contains(stderr, "x needs y needs x") {
		t.Errorf("a cycle: exit %d, %s", code, stderr)
	}
}

// TestSelectors runs tasks on the nodes that a job selects, and on no other.
func TestSelectors(t *testing.T) {
	m := newMesh(t, 3, "[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n[node.n2]\nlabels = [\"fast\", \"big\"]\n[node.n3]\nlabels = [\"fast\"]\ngpu_vendor = \"amd\"\n")
	for selector, want := range map[string]string{"n1": "n1", "label:big": "n2", "label:fast": "n2 n3", "label:fast,vendor:amd": "n3"} {
		id := strings.TrimSpace(m.run("exec", "--data", m.nodes[0].dir, "--array", "1-12", "--chunk-time", "200ms", "--node", selector, "--", "sleep", "0.2"))
		m.run("job", "wait", id, "--data", m.nodes[0].dir)
		nodes := map[string]bool{}
		for _, task := range m.listed(id, m.nodes[0]) {
			nodes[task.Node] = true
		}
		for _, p := range m.nodes {
			if nodes[p.name] != strings.Contains(want, p.name) {
				t.Errorf("--node %s ran on %v, want %s", selector, nodes, want)
			}
		}
	}
	if _, stderr, code := m.exec("exec", "--data", m.nodes[0].dir, "--node", "label:bgi", "--", "true"); code != 1 || !strings.Contains(stderr, "no slot of this mesh suits") {
		t.Errorf("a label that nobody has: exit %d, %s", code, stderr)
	}
	file := filepath.Join(m.dir, "jobs.json")
	if err := os.WriteFile(file, []byte(`[{"job_id":"a","script":"/bin/true"},{"job_id":"b","script":"/bin/true","needs":["a"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Tasks, Blocked, Parallel uint64
		Slots                    []struct{ Node string }
	}
	m.json(&plan, "plan", "script", "--data", m.nodes[0].dir, "--node", "label:fast", "--json", file)
	if plan.Tasks != 2 || plan.Blocked != 1 || plan.Parallel != 2 || len(plan.Slots) != 2 {
		t.Errorf("the plan is %+v", plan)
	}
}

// TestLargeSearch searches for more draws than the log has room for.
func TestLargeSearch(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	file := filepath.Join(m.dir, "draws.txt")
	draws := m.run("predict", "--generator", "splitmix64", "--seed", "777", "--count", "4000", "--observe", "raw")
	if err := os.WriteFile(file, []byte(draws), 0o600); err != nil || len(draws) < 70_000 {
		t.Fatalf("%d bytes of draws, %v", len(draws), err)
	}
	search := []string{"sieve", "--generator", "splitmix64", "--observe", "raw", "--draws", file, "--seeds", "0:20000"}
	want := m.run(append(search, "--local")...)
	if !strings.Contains(want, `"seed":"777"`) {
		t.Fatalf("the search on one machine finds %q", want)
	}
	id := strings.TrimSpace(m.run(append(search, "--data", m.nodes[0].dir)...))
	m.run("job", "wait", id, "--data", m.nodes[2].dir)
	for _, p := range m.nodes {
		if got := m.run("results", id, "--data", p.dir); got != want {
			t.Errorf("%s has %q, the search on one machine gives %q", p.name, got, want)
		}
		if verified := m.run("ledger", id, "--verify", "--data", p.dir); !strings.Contains(verified, "true") {
			t.Errorf("the ledger of %s: %s", p.name, verified)
		}
	}
}

// TestUnprivilegedNode runs scripts of a node that is not root's: they see neither
// its keys nor is its socket open to them, and others use it as ever.
func TestUnprivilegedNode(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run a node as another user")
	}
	if scripts.LandlockVersion() == 0 {
		t.Skip("this kernel has no Landlock")
	}
	m := newMesh(t, 1, "")
	p := m.nodes[0]
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	user := 1<<30 + os.Getpid()
	m.openDir("shared")
	for _, dir := range []string{p.dir, filepath.Join("/var/tmp", siteOf(p)), p.dir + ".log"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, user, user))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(binary), 0o755); err != nil {
		t.Fatal(err)
	}
	m.as = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
	m.up(0)
	m.whole()
	var status struct{ Scripts string }
	m.json(&status, "status", "--json", "--data", p.dir)
	if !strings.Contains(status.Scripts, "Landlock") {
		t.Fatalf("scripts are %s", status.Scripts)
	}
	socket := "python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(\"" + filepath.Join(p.dir, "api.sock") + "\"); s.send(b\"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\"); print(s.recv(10))'"
	for name, script := range map[string]string{
		"key":         "cat " + filepath.Join(p.dir, "node.key"),
		"socket":      socket + " | grep HTTP",
		"socket-late": "setsid sh -c \"(" + strings.ReplaceAll(socket, `"`, `\"`) + " > said) &\"; sleep 1; grep HTTP said",
		"kill":        "kill -9 $(cat " + filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid), "stat") + " | cut -d' ' -f1)",
	} {
		if out, stderr, code := m.exec("exec", "--data", p.dir, "--attempts", "1", "--wait", "-q", "--", "/bin/sh", "-c", script); code != 3 {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, stderr)
		}
	}
	m.run("exec", "--data", p.dir, "--attempts", "1", "--wait", "-q", "--output", "out", "--", "/bin/sh", "-c", "echo > out; cat /etc/passwd")
	if !p.running() {
		t.Error("the node did not live through it")
	}
}
