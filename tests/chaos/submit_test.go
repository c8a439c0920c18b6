package chaos

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCommandKilledInSubmit kills the command line in the middle of a submit, and
// submits the same under the same key through another node: there is one job.
func TestCommandKilledInSubmit(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 8))
	for landed := 0; landed < (*kills+1)/2; {
		s := m.draw(r, 1000, 2)
		c := exec.Command(binary, append(s.args, "--data", m.nodes[r.IntN(3)].dir)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) // the fault: how far the command gets
		if err := c.Process.Kill(); err != nil {
			t.Logf("the command was faster: %v", err)
		}
		var exit *exec.ExitError
		if err := c.Wait(); errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			m.landed("kill -9 of a command in its submit", "I2")
			landed++
		}
		m.oneJob(s, m.submit(m.nodes[r.IntN(3)], s))
	}
	m.checkDigests()
}

// TestCommandStoppedInSubmit stops commands in the middle of their submits, for
// longer and longer, the last one for longer than it would try. Then it gets through, or gives
// up with the exit code that says that nothing is lost; submitted again, there is one job.
func TestCommandStoppedInSubmit(t *testing.T) {
	t.Parallel() // with the standstills of nodes: it waits more than it works
	m := newMesh(t, 3, simulated(simRate))
	m.checks = "I2 I12"
	r := rand.New(rand.NewPCG(*seed, 16))
	var all []*submission
	for range 4 {
		all = append(all, m.stoppedSubmit(r))
	}
	for i, away := range []time.Duration{500 * time.Millisecond, 2500 * time.Millisecond, 6 * time.Second, 20 * time.Second} {
		c := all[i]
		time.Sleep(time.Until(c.since.Add(away))) // the fault: how long it stands still
		m.thaw(c.Process.Pid)
		err := c.Wait()
		if code := c.ProcessState.ExitCode(); err != nil && code != 6 {
			t.Fatalf("a submit that stood still for %v exits %d: %v\n%s", away, code, err, c.errs.String())
		}
		id := m.submit(m.nodes[r.IntN(3)], c.search)
		if got := c.said(m); err == nil && got != id {
			t.Fatalf("the submit that stood still for %v was acknowledged as %q, and again as %q", away, got, id)
		}
		m.oneJob(c.search, id)
		t.Logf("a submit that stood still for %v: exit code %d", away, c.ProcessState.ExitCode())
	}
	m.checkDigests()
}

// A submission is a command that was stopped in its submit.
type submission struct {
	*exec.Cmd
	search search
	since  time.Time
	out    string // path of what it prints
	errs   strings.Builder
}

// said is what the command has printed.
func (s *submission) said(m *mesh) string {
	m.Helper()
	b, err := os.ReadFile(s.out)
	if err != nil {
		m.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// stoppedSubmit stops a command that has not been told of its job yet.
func (m *mesh) stoppedSubmit(r *rand.Rand) *submission {
	m.Helper()
	for {
		s := m.draw(r, 1000, 2)
		c := &submission{search: s, out: filepath.Join(m.dir, s.name+".out"), Cmd: exec.Command(binary, append(s.args, "--data", m.nodes[r.IntN(3)].dir)...)}
		out, err := os.Create(c.out)
		if err != nil {
			m.Fatal(err)
		}
		c.Stdout, c.Stderr = out, &c.errs
		if err := c.Start(); err != nil {
			m.Fatal(err)
		}
		out.Close()
		time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) // the fault: how far the command gets
		_ = syscall.Kill(c.Process.Pid, syscall.SIGSTOP)         // not waited for, it keeps its number
		c.since = time.Now()
		state := ""
		m.await(5*time.Second, "a command that stands still or has ended", func() bool {
			state = statOf(c.Process.Pid).state
			return state == "T" || state == "Z"
		})
		if state == "T" && c.said(m) == "" {
			m.landed("SIGSTOP of a command in its submit", m.checks)
			return c
		}
		m.thaw(c.Process.Pid) // it was faster
		_ = c.Wait()
	}
}

// oneJob proves that all nodes know one job under the search's name.
func (m *mesh) oneJob(s search, id string) {
	m.Helper()
	for _, p := range m.nodes {
		if ids := m.named(p, s.name); len(ids) != 1 || ids[0] != id {
			m.Fatalf("%s has the jobs %v under the key of %s", p.name, ids, id)
		}
	}
}

// TestLeaderKilledInSubmit kills the leader, or the node that the command line
// speaks to, in the middle of a submit. The command gets through by itself, and
// submitted again it names the same job.
func TestLeaderKilledInSubmit(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	m.checks = "I2 I12"
	r := rand.New(rand.NewPCG(*seed, 9))
	for range (*kills + 2) / 3 {
		s := m.draw(r, 1000, 2)
		leader := m.leader()
		through := m.nodes[r.IntN(3)]
		c := exec.Command(binary, append(s.args, "--data", through.dir)...)
		var out, errs strings.Builder
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) // the fault: how far the command gets
		m.kill(leader, "the leader in a submit")
		m.up(leader)
		if err := c.Wait(); err != nil {
			t.Fatalf("the submit through %s failed: %v\n%s", through.name, err, errs.String())
		}
		m.whole()
		id := m.submit(m.nodes[r.IntN(3)], s)
		if got := strings.TrimSpace(out.String()); got != id {
			t.Fatalf("the submit was acknowledged as %q, and again as %q", got, id)
		}
		m.oneJob(s, id)
	}
	m.checkDigests()
}
