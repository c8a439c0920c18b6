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

// An aim is how long after its start a command is struck. It is moved after every shot,
// so that strikes gather around the moment at which the command is acknowledged.
type aim time.Duration

const aimStep = aim(time.Millisecond)

// wait is a part of the fault, how far the command gets, and no wait for something to hold.
func (a *aim) wait() { time.Sleep(time.Duration(*a)) }

// moved aims later, or earlier where the last shot came late.
func (a *aim) moved(late bool) {
	if late {
		*a = max(*a-aimStep, 0)
	} else {
		*a += aimStep
	}
}

// TestCommandKilledInSubmit kills the command line in the middle of a submit, and
// submits the same under the same key through another node: there is one job. Of some of
// the dead the mesh had taken the job, and nobody was told.
func TestCommandKilledInSubmit(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 8))
	var at aim
	const shots = 300 // to give up
	landed, taken := 0, 0
	for shot := 0; landed < (*kills+1)/2 || taken == 0; shot++ {
		if shot == shots {
			t.Fatalf("of %d commands %d were killed in their submits, and of %d of them the job was taken", shot, landed, taken)
		}
		s := m.draw(r, 1000, 2)
		c := exec.Command(binary, append(s.args, "--data", m.nodes[r.IntN(3)].dir)...)
		var out strings.Builder
		c.Stdout = &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		at.wait()
		if err := c.Process.Kill(); err != nil {
			t.Logf("the command was faster: %v", err)
		}
		var exit *exec.ExitError
		killed := errors.As(c.Wait(), &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && out.Len() == 0
		known := len(m.named(m.nodes[r.IntN(3)], s.name)) > 0
		at.moved(known)
		if killed {
			m.landed("kill -9 of a command in its submit", "I2")
			landed++
			if known {
				taken++
			}
		}
		m.oneJob(s, m.submit(m.nodes[r.IntN(3)], s))
	}
	t.Logf("%d commands were killed; of %d the job was taken", landed, taken)
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
	at := aim(20 * time.Millisecond)
	for range 4 {
		all = append(all, m.stoppedSubmit(r, &at))
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
func (m *mesh) stoppedSubmit(r *rand.Rand, at *aim) *submission {
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
		at.wait()
		_ = syscall.Kill(c.Process.Pid, syscall.SIGSTOP) // not waited for, it keeps its number
		c.since = time.Now()
		state := ""
		m.await(5*time.Second, "a command that stands still or has ended", func() bool {
			state = statOf(c.Process.Pid).state
			return state == "T" || state == "Z"
		})
		stopped := state == "T" && c.said(m) == ""
		at.moved(!stopped || len(m.named(m.nodes[r.IntN(3)], s.name)) > 0)
		if stopped {
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
	at := aim(20 * time.Millisecond)
	const shots = 300 // to give up
	left, felt := (*kills+2)/3, 0
	for shot := 0; left > 0 || felt == 0; shot++ {
		if shot == shots {
			t.Fatalf("%d kills are left, and %d of the others held a command up", max(left, 0), felt)
		}
		s := m.draw(r, 1000, 2)
		leader := m.leader()
		through := m.nodes[r.IntN(3)]
		c := exec.Command(binary, append(s.args, "--data", through.dir)...)
		var out, errs strings.Builder
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		at.wait()
		if statOf(c.Process.Pid).state == "Z" {
			at.moved(true)
			_ = c.Wait() // submitted again below
		} else {
			m.kill(leader, "the leader in a submit")
			struck := time.Now()
			m.up(leader)
			if err := c.Wait(); err != nil {
				t.Fatalf("the submit through %s failed: %v\n%s", through.name, err, errs.String())
			}
			left--
			held := time.Since(struck) > 100*time.Millisecond // less than any election takes
			at.moved(!held)
			if held {
				felt++
			}
		}
		m.whole()
		id := m.submit(m.nodes[r.IntN(3)], s)
		if got := strings.TrimSpace(out.String()); got != id {
			t.Fatalf("the submit was acknowledged as %q, and again as %q", got, id)
		}
		m.oneJob(s, id)
	}
	t.Logf("%d submits were held up by the death of the leader", felt)
	m.checkDigests()
}
