package chaos

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// twoThreads are two slots of one thread each.
const twoThreads = oneThread + oneThread

// python prepares a run of a program with the client's module at hand.
func (m *mesh) python(args ...string) *exec.Cmd {
	m.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		m.Fatal(err)
	}
	c := exec.Command("python3", args...)
	c.Dir = root
	c.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "clients", "python"), "PYTHONDONTWRITEBYTECODE=1", "SEEDMESH_DATA="+m.nodes[0].dir)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

func needsPython(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}
}

// drawsOf gives what mt19937 draws from the seed 4242, two outputs lost each time.
func (m *mesh) drawsOf(count string) string {
	m.Helper()
	return m.run("predict", "--generator", "mt19937", "--seed", "4242", "--skip", "2", "--offset", "0", "--count", count)
}

// TestPythonClient runs the client's own tests against a real node.
func TestPythonClient(t *testing.T) {
	needsPython(t)
	m := newMesh(t, 1, twoThreads)
	c := m.python("clients/python/test_seedmesh.py")
	c.Env = append(c.Env, "DRAWS="+strings.Join(strings.Fields(m.drawsOf("10")), " "))
	if out, err := c.CombinedOutput(); err != nil || !regexp.MustCompile(`Ran [1-9]\d* tests[^\n]*\n\nOK\n`).Match(out) {
		t.Errorf("%v\n%s", err, out)
	}
}

// readsOn submits two jobs, the second while the node is away, and reads the
// results of the first across another of its ends.
const readsOn = `
import seedmesh, sys
mesh = seedmesh.Mesh(patience=60)
job = mesh.exec(["sh", "-c", "printf '{\"n\": \"%060d\"}' {}"], array=(1, 6000), capture=True)
job.wait()
def pause(what):
    print(what, flush=True)
    sys.stdin.readline()
pause("job " + job.id)
second = mesh.exec(["true"], key="away")
assert mesh.exec(["true"], key="away").id == second.id
rows = job.results()
seen = [int(next(rows)["stdout"]["n"])]
pause("reading")
seen += [int(r["stdout"]["n"]) for r in rows]
assert seen == list(range(1, 6001)), (len(seen), seen[:5])
second.wait()
print("done")
`

// TestPythonClientOutlivesItsNode kills the client's node before a submission, and
// in the middle of results.
func TestPythonClientOutlivesItsNode(t *testing.T) {
	needsPython(t)
	m := newMesh(t, 1, twoThreads)
	c := m.python("-c", readsOn)
	var errs bytes.Buffer
	c.Stderr = &errs
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, what := range []string{"job ", "reading"} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), what) {
			t.Fatalf("it says %q, want %q; %v\n%s", lines.Text(), what, c.Wait(), errs.String())
		}
		m.kill(0, "the node of a Python client")
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		m.up(0)
	}
	if !lines.Scan() || lines.Text() != "done" {
		t.Errorf("it says %q", lines.Text())
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s", err, errs.String())
	}
}

// TestParameterSearch runs the example, and once more: what is there is not done twice.
func TestParameterSearch(t *testing.T) {
	needsPython(t)
	m := newMesh(t, 1, twoThreads)
	draws := filepath.Join(m.dir, "draws.txt")
	if err := os.WriteFile(draws, []byte(m.drawsOf("10")), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c := m.python("examples/parameter_search.py", draws, "--generator", "mt19937", "--seeds", "0:65536", "--offset", "0")
		out, err := c.CombinedOutput()
		trials := strings.Count(string(out), "by chance")
		if err != nil || trials != 20 || !strings.Contains(string(out), "\nbest: window 4, skip 0:3, seed 4242\n") {
			t.Errorf("%v, %d trials\n%s", err, trials, out)
		}
		var list []struct{ Name string }
		m.json(&list, "jobs", "-a", "--json", "--data", m.nodes[0].dir)
		if len(list) != 20 {
			t.Errorf("%d jobs", len(list))
		}
	}
}
