package chaos

import (
	"errors"
	"math/rand/v2"
	"os/exec"
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
