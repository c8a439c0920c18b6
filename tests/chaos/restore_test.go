package chaos

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestLostMajority takes the disks of two of three voters away. Nothing is
// acknowledged until one of them is back as it was at its end; then the mesh goes on with
// all that it had acknowledged.
func TestLostMajority(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 21))
	s, late := m.undisturbed(r, 3*simRate*2, 1), m.undisturbed(r, simRate, 1)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.2)
	leader := m.leader()
	lost := []int{leader, (leader + 1) % 3}
	for _, i := range lost {
		m.kill(i, "one of two voters whose disks are lost")
		m.rename(m.nodes[i].dir, m.nodes[i].dir+".lost")
	}
	last := m.nodes[(leader+2)%3]
	if _, stderr, code := m.exec(append(late.args, "--data", last.dir, "--connect-timeout", "2s")...); code != 6 {
		t.Fatalf("without a majority a submit exits %d, want 6: %s", code, stderr)
	}
	m.run("jobs", "--data", last.dir)
	for _, i := range lost {
		m.rename(m.nodes[i].dir+".lost", m.nodes[i].dir)
		m.up(i)
		m.submit(last, late) // one of them is enough
	}
	m.whole()
	m.ended(id)
	m.check(id, s)
}

// TestBackup copies the data directories of stopped nodes and loses the machines. From the
// copies comes the mesh with all that it had, and it works.
func TestBackup(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 22))
	early, late := m.undisturbed(r, 3*simRate, 1), m.undisturbed(r, 3*simRate, 1)
	id := m.submit(m.nodes[0], early)
	m.ended(id)
	m.await(startWait, "two copies of everything", func() bool { j := m.job(id); return j != nil && j.UnderReplicated == 0 })
	for _, p := range m.nodes {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("%s does not stop in good order: %v", p.name, err)
		}
	}
	for i, p := range m.nodes {
		if out, err := exec.Command("cp", "-a", p.dir, p.dir+".copy").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.RemoveAll(p.dir); err != nil {
			t.Fatal(err)
		}
		m.rename(p.dir+".copy", p.dir)
		m.up(i)
		m.landed("data directory put back from a copy", holds)
	}
	m.whole()
	m.check(id, early)
	lateID := m.submit(m.nodes[1], late)
	m.ended(lateID)
	m.check(lateID, late)
}

func (m *mesh) rename(from, to string) {
	m.Helper()
	if err := os.Rename(from, to); err != nil {
		m.Fatal(err)
	}
}
