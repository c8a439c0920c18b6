package chaos

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// refuses starts a node that must not start, and proves that what it says names
// the file and what to do.
func (m *mesh) refuses(i int, kind, file string) {
	m.Helper()
	p := m.nodes[i]
	ctx, cancel := context.WithTimeout(m.Context(), startWait)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "up", "--data", p.dir)
	var said strings.Builder
	c.Stderr = &said
	_ = c.Run() // its exit code tells
	stderr, code := said.String(), c.ProcessState.ExitCode()
	if code != 1 || !strings.Contains(stderr, file) || !strings.Contains(stderr, "seedmesh: ") || strings.Count(lastError(stderr), "\n") < 2 {
		m.Fatalf("%s: up exits %d, want 1 and an error that names %s and what to do:\n%s", kind, code, file, stderr)
	}
	if strings.Contains(stderr, "goroutine ") {
		m.Fatalf("%s: the node panicked:\n%s", kind, stderr)
	}
	m.Logf("%s: %s", kind, lastError(stderr))
	m.landed(kind, "refused, with the file and what to do")
}

// replace takes a node out of the mesh for good and lets a new one join.
func (m *mesh) replace(i int) {
	m.Helper()
	p, other := m.nodes[i], m.nodes[(i+1)%len(m.nodes)]
	m.await(startWait, "expiry of "+p.name, func() bool { s := other.status(); return s != nil && int(s.Slots) == len(m.nodes)-1 })
	m.run("node", "rm", p.name, "--data", other.dir)
	var made struct{ Join string }
	m.json(&made, "token", "create", "--json", "--data", other.dir)
	p.dir += "-new"
	m.run("join", made.Join, "--data", p.dir, "--name", p.name, "--listen", p.addr)
	m.up(i)
	m.whole()
}

// TestDamagedDataDirectory damages what a node wrote while it is down. It must not
// start on it; the job goes on without it, and a new node takes its place.
func TestDamagedDataDirectory(t *testing.T) {
	m := newMesh(t, 3, "[raft]\nsnapshot_every = 64\n"+simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 10))
	for range 80 {
		m.write(r)
	}
	victim := (m.leader() + 1) % 3
	dir := m.nodes[victim].dir
	m.await(startWait, "snapshot", func() bool { return len(m.snapshotsOf(victim)) > 0 })
	s := m.undisturbed(r, 3*simRate*4, 2)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.2)
	m.kill(victim, "a node, to damage its files")
	for _, tt := range []struct {
		kind, file string
		change     func([]byte) []byte
	}{
		{"damaged log: cut off", "raft/log.db", halved},
		{"damaged log: its head", "raft/log.db", func(b []byte) []byte { b[40] ^= 1; return b }},
		{"damaged log: gone", "raft/log.db", func([]byte) []byte { return nil }},
		{"damaged snapshot", strings.TrimPrefix(m.snapshotsOf(victim)[0], dir+"/"), flipped},
		{"damaged certificate", "node.pem", flipped},
		{"damaged certificate of the cluster", "ca.pem", flipped},
		{"damaged key", "node.key", halved},
		{"damaged key of the cluster", "ca.key", halved},
		{"damaged identity", "identity.json", halved},
	} {
		path := filepath.Join(dir, tt.file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m.damage(path, tt.change)
		names := tt.file
		if tt.kind == "damaged snapshot" {
			names = filepath.Dir(names)
		}
		m.refuses(victim, tt.kind, names)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.ended(id)
	m.damage(filepath.Join(dir, "raft", "log.db"), entryFlipped)
	m.refuses(victim, "damaged log: an entry", "raft/log.db")
	m.replace(victim)
	m.check(id, s)
}

// snapshotsOf lists the files of a node's snapshots that are complete.
func (m *mesh) snapshotsOf(i int) []string {
	m.Helper()
	files, err := filepath.Glob(filepath.Join(m.nodes[i].dir, "raft", "snapshots", "*[0-9]", "state.bin"))
	if err != nil {
		m.Fatal(err)
	}
	return files
}

// entryFlipped changes a generator's name wherever the log has it: the pages of the
// log stay right, only the meaning of its entries would be another.
func entryFlipped(b []byte) []byte {
	return bytes.ReplaceAll(b, []byte("xorshift32"), []byte("xorshift64"))
}

// TestDamagedBlob damages copies of results under a running node. Results are
// read from the other copy, what is damaged is found and said, and there are two
// right copies again in the end.
func TestDamagedBlob(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 11))
	s := m.undisturbed(r, 3*simRate*2, 1)
	id := m.submit(m.nodes[0], s)
	m.ended(id)
	m.await(startWait, "two copies of everything", func() bool { j := m.job(id); return j != nil && j.UnderReplicated == 0 })
	m.verified(id)
	for i, p := range m.nodes {
		blobs := m.blobsOf(i)
		if len(blobs) == 0 {
			continue
		}
		victim := blobs[r.IntN(len(blobs))]
		m.damage(victim, []func([]byte) []byte{flipped, halved}[i%2])
		m.landed("damaged blob", holds)
		if i == 0 { // the first to notice is the account, with exit 1 and the seeds; then the results
			_, stderr, code := m.exec("ledger", id, "--verify", "--data", m.nodes[1].dir)
			if code != 1 || !strings.Contains(stderr, "damaged") {
				t.Fatalf("ledger --verify of a damaged blob exits %d: %s", code, stderr)
			}
		}
		if got := m.run("results", id, "--data", p.dir); got != string(s.local) {
			t.Fatalf("results of %s, whose blob is damaged, differ from the undisturbed search", p.name)
		}
		m.await(startWait, "the damage to be mended", func() bool {
			j := m.job(id)
			return j != nil && j.UnderReplicated == 0 && m.intact(id)
		})
	}
	m.check(id, s)
}

// TestBlobDamagedWhileDown damages a copy while its node is down: the node finds
// it by itself when it is back.
func TestBlobDamagedWhileDown(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	s := m.undisturbed(rand.New(rand.NewPCG(*seed, 12)), 3*simRate*2, 1)
	id := m.submit(m.nodes[0], s)
	m.ended(id)
	m.await(startWait, "two copies of everything", func() bool { j := m.job(id); return j != nil && j.UnderReplicated == 0 })
	victim := (m.leader() + 1) % 3
	for len(m.blobsOf(victim)) == 0 {
		victim = (victim + 1) % 3
	}
	m.kill(victim, "a node, to damage its files")
	for _, b := range m.blobsOf(victim) {
		m.damage(b, flipped)
		m.landed("damaged blob, its node down", holds)
	}
	m.up(victim)
	m.whole()
	m.await(startWait, "the damage to be found", func() bool { return strings.Contains(m.logOf(victim), "a blob is damaged on this disk") })
	m.await(startWait, "the damage to be mended", func() bool {
		j := m.job(id)
		return j != nil && j.UnderReplicated == 0 && m.intact(id)
	})
	m.check(id, s)
}

// verified proves that every copy of a job's results is right.
func (m *mesh) verified(id string) {
	m.Helper()
	m.run("ledger", id, "--verify", "--data", m.nodes[0].dir)
}

// intact tells whether every copy is right.
func (m *mesh) intact(id string) bool {
	m.Helper()
	_, _, code := m.exec("ledger", id, "--verify", "--data", m.nodes[0].dir)
	return code == 0
}

// blobsOf lists the files of a node's blobs.
func (m *mesh) blobsOf(i int) (files []string) {
	m.Helper()
	err := filepath.WalkDir(filepath.Join(m.nodes[i].dir, "blobs", "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		m.Fatal(err)
	}
	return files
}

// TestTwoStarts starts a second process on the data directory of a running node, and
// two at once on that of a dead one.
func TestTwoStarts(t *testing.T) {
	m := newMesh(t, 1, simulated(simRate))
	for range 2 {
		_, stderr, code := m.exec("up", "--data", m.nodes[0].dir)
		if code != 1 || !strings.Contains(stderr, "in use by another seedmesh process") || !strings.Contains(stderr, "--data") {
			t.Fatalf("a second start exits %d: %s", code, stderr)
		}
		m.landed("two starts on one data directory", "refused, the first undisturbed")
	}
	if s := m.nodes[0].status(); s == nil || s.Leader != "n1" {
		t.Errorf("the first node is disturbed: %v", s)
	}
	m.kill(0, "a node, to start it twice")
	m.upTwice(0)
	m.whole()
}

// upTwice starts a node twice at once, and proves that one of the processes says why
// it ends. The other one is the node.
func (m *mesh) upTwice(i int) {
	m.Helper()
	p := m.nodes[i]
	before := len(m.logOf(i))
	m.up(i)
	loser := p.cmd
	m.up(i)
	m.await(startWait, "end of one of two starts", func() bool {
		if statOf(p.cmd.Process.Pid).state == "Z" {
			loser, p.cmd = p.cmd, loser
		}
		return statOf(loser.Process.Pid).state == "Z"
	})
	_ = loser.Wait() // its exit code tells
	if code, said := loser.ProcessState.ExitCode(), m.logOf(i)[before:]; code != 1 || !strings.Contains(said, "in use by another seedmesh process") {
		m.Fatalf("the second of two starts exits %d: %s", code, said)
	}
	m.landed("two starts at once on one data directory", "one refused, the other undisturbed")
}
