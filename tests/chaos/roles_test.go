package chaos

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"seedmesh/transport"
)

// joinAs lets a directory join with a token of a role.
func (m *mesh) joinAs(role, name string, args ...string) (dir string) {
	m.Helper()
	var made struct{ Join string }
	m.json(&made, "token", "create", "--role", role, "--json", "--data", m.nodes[0].dir)
	dir = filepath.Join(m.dir, name)
	m.run(append([]string{"join", made.Join, "--data", dir, "--name", name}, args...)...)
	return dir
}

// TestClient is a machine that submits and reads: it has no node, and may change
// nothing about the members.
func TestClient(t *testing.T) {
	m := newMesh(t, 1, oneThread)
	dir := m.joinAs("client", "laptop")
	s := m.undisturbed(rand.New(rand.NewPCG(21, 21)), 1<<20, 2)
	id := strings.TrimSpace(m.run(append(s.args, "--data", dir)...))
	m.run("job", "wait", id, "--data", dir)
	if got := m.run("results", id, "--data", dir); got != string(s.local) {
		t.Errorf("the client read %d bytes of results, the undisturbed search gave %d", len(got), len(s.local))
	}
	for _, verb := range [][]string{{"token", "create"}, {"token", "revoke", "0000"}, {"node", "rm", "n1"}} {
		if _, stderr, code := m.exec(append(verb, "--data", dir)...); code != 4 {
			t.Errorf("%s of a client exits %d, want 4: %s", strings.Join(verb, " "), code, stderr)
		}
	}
	if _, stderr, code := m.exec("up", "--data", dir); code != 1 || !strings.Contains(stderr, "client") {
		t.Errorf("up of a client exits %d: %s", code, stderr)
	}
	m.refusedStreams(dir, "seedmesh-gossip/1", "seedmesh-raft/1", "seedmesh-forward/1", "seedmesh-session/1", "seedmesh-blob/1", "seedmesh-admit/1")
	var made struct{ Join string }
	m.json(&made, "token", "create", "--json", "--data", m.nodes[0].dir)
	if _, stderr, code := m.exec("join", made.Join, "--data", filepath.Join(m.dir, "bare"), "--name", "bare"); code != 2 || !strings.Contains(stderr, "--listen") {
		t.Errorf("a node that joins without an address: exit %d: %s", code, stderr)
	}
}

// TestWorker is a node without the right to vote: it cannot speak as a voter nor
// let others in.
func TestWorker(t *testing.T) {
	m := newMesh(t, 1, oneThread)
	p := &proc{name: "w", addr: freeAddr(t)}
	p.dir = m.joinAs("worker", p.name, "--listen", p.addr)
	m.nodes = append(m.nodes, p)
	m.up(1)
	m.await(startWait, "two nodes", func() bool { s := m.status(); return s != nil && s.Slots == 2 })
	if _, stderr, code := m.exec("token", "create", "--role", "voter", "--data", p.dir); code != 4 {
		t.Errorf("a worker makes a voter's token: exit %d, want 4: %s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "ca.key")); err == nil {
		t.Error("a worker has the CA's key")
	}
	m.refusedStreams(p.dir, "seedmesh-raft/1")
}

// TestRemovedNodeIsTold removes a node as soon as it has stopped, and starts it again: it says
// so, and what to do, and stops; nobody else is disturbed.
func TestRemovedNodeIsTold(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	victim := (m.leader() + 1) % 3
	p, other := m.nodes[victim], m.nodes[(victim+1)%3]
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	m.run("node", "rm", p.name, "--data", other.dir)
	m.up(victim)
	code := m.exited(victim, func() {})
	said := lastError(m.logOf(victim))
	if code != 4 || !strings.Contains(said, "node "+p.name+" was removed from its mesh, seedmesh;") || !strings.Contains(said, "seedmesh join TOKEN@HOST:PORT") {
		t.Errorf("a node that was removed exits %d: %s", code, said)
	}
	t.Logf("a node that was removed says: %s", said)
	r := rand.New(rand.NewPCG(23, 23))
	s := m.undisturbed(r, 3*simRate, 1)
	id := m.submit(other, s)
	m.ended(id)
	m.checkOn(other, id, s)
}

// refusedStreams dials the first node with the identity of a directory.
func (m *mesh) refusedStreams(dir string, kinds ...transport.Kind) {
	m.Helper()
	var files [3][]byte
	for i, name := range []string{"node.pem", "node.key", "ca.pem"} {
		var err error
		if files[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			m.Fatal(err)
		}
	}
	identity, err := transport.NewIdentity(files[0], files[1], files[2])
	if err != nil {
		m.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		m.Fatal(err)
	}
	ep, err := transport.Open(transport.Config{Conn: conn, Identity: identity})
	if err != nil {
		m.Fatal(err)
	}
	defer ep.Close()
	dial := func(kind transport.Kind) error {
		ctx, cancel := context.WithTimeout(m.Context(), 5*time.Second)
		defer cancel()
		c, err := ep.Dial(ctx, kind, transport.Peer{Addr: m.nodes[0].addr})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	ctx, cancel := context.WithTimeout(m.Context(), 5*time.Second)
	defer cancel()
	if err := ep.Ping(ctx, transport.Peer{Addr: m.nodes[0].addr}); err != nil {
		m.Errorf("ping, which all may: %v", err)
	}
	for _, kind := range kinds {
		if err := dial(kind); err == nil {
			m.Errorf("%s was opened with the certificate of %s", kind, dir)
		}
	}
}
