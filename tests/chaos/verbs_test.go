package chaos

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"seedmesh/transport"
)

// fields lists an object's keys.
func fields(t *testing.T, b string) []string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(b), &object); err != nil {
		var list []map[string]any
		if err := json.Unmarshal([]byte(b), &list); err != nil || len(list) == 0 {
			t.Fatalf("neither an object nor a list of some: %s", b)
		}
		object = list[0]
	}
	return slices.Collect(maps.Keys(object))
}

// TestJSONContract holds what scripts may rely on.
func TestJSONContract(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	s := m.undisturbed(rand.New(rand.NewPCG(7, 7)), 1<<20, 2)
	data := func(i int) []string { return []string{"--data", m.nodes[i].dir} }
	submitted := m.run(append(s.args, "--json", "--name", "contract", "--data", m.nodes[1].dir)...)
	if got := fields(t, submitted); !slices.Contains(got, "job") {
		t.Fatalf("sieve --json gave %s", submitted)
	}
	m.run(append([]string{"job", "wait", "contract"}, data(2)...)...)
	for _, tt := range []struct {
		verb []string
		want []string
	}{
		{[]string{"job", "show", "last"}, []string{"id", "name", "kind", "state", "done", "total", "rate", "eta_seconds", "survivors", "expected_by_chance", "failures", "retries"}},
		{[]string{"jobs"}, []string{"id", "name", "kind", "state", "done", "total", "rate", "eta_seconds", "survivors", "expected_by_chance", "failures", "retries"}},
		{[]string{"nodes"}, []string{"name", "address", "state", "role", "leader", "version", "slots", "busy"}},
		{[]string{"status"}, []string{"cluster", "node", "leader", "term", "applied", "ledger_digest", "voters", "nodes", "slots", "busy"}},
		{[]string{"ledger", "contract"}, []string{"job", "complete", "gaps", "overlaps", "seeds", "sum", "sum_sq", "pieces", "reclaimed", "under_replicated"}},
		{[]string{"token", "create"}, []string{"token", "join", "role", "expires", "uses"}},
	} {
		out := m.run(slices.Concat(tt.verb, []string{"--json"}, data(0))...)
		got := fields(t, out)
		for _, f := range tt.want {
			if !slices.Contains(got, f) {
				t.Errorf("%s --json has no field %q: %s", strings.Join(tt.verb, " "), f, out)
			}
		}
	}
	plan := m.run(slices.Concat([]string{"plan"}, s.args, []string{"--json"}, data(0))...)
	for _, f := range []string{"generator", "chunks", "expected_by_chance", "steps", "eta_seconds", "method", "slots"} {
		if !slices.Contains(fields(t, plan), f) {
			t.Errorf("plan sieve --json has no field %q: %s", f, plan)
		}
	}
}

// TestOneKeyIsOneJob submits the same and another request under one key through
// different nodes.
func TestOneKeyIsOneJob(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	r := rand.New(rand.NewPCG(8, 8))
	s, other := m.draw(r, 1<<20, 2), m.draw(r, 1<<20, 2)
	first := m.run(append(s.args, "--key", "k1", "--data", m.nodes[0].dir)...)
	for _, p := range m.nodes {
		if again := m.run(append(s.args, "--key", "k1", "--data", p.dir)...); again != first {
			t.Errorf("the same request under the same key through %s is job %s, not %s", p.name, again, first)
		}
	}
	_, stderr, code := m.exec(append(other.args, "--key", "k1", "--data", m.nodes[1].dir)...)
	if code != 2 || !strings.Contains(stderr, "k1") {
		t.Errorf("another request under the same key: exit %d, want 2: %s", code, stderr)
	}
}

// TestPauseResumeCancel checks the course of a job that a user changes.
func TestPauseResumeCancel(t *testing.T) {
	m := newMesh(t, 3, simulated(20_000))
	s := m.draw(rand.New(rand.NewPCG(9, 9)), 1<<22, 2)
	id := m.submit(m.nodes[2], s)
	m.atShare(id, 0.01)
	m.run("job", "pause", id, "--data", m.nodes[0].dir)
	busy := func() uint32 {
		if s := m.status(); s != nil {
			return s.Busy
		}
		return 99
	}
	m.await(startWait, "idle slots after a pause", func() bool { return busy() == 0 })
	if j := m.job(id); j.State != "paused" {
		t.Fatalf("a paused job is %s", j.State)
	}
	m.run("job", "resume", id, "--data", m.nodes[1].dir)
	m.await(startWait, "busy slots after a resume", func() bool { return busy() > 0 })
	m.run("job", "cancel", id, "--data", m.nodes[1].dir)
	m.await(startWait, "idle slots after a cancel", func() bool { return busy() == 0 })
	if _, _, code := m.exec("job", "wait", id, "--data", m.nodes[0].dir); code != 3 {
		t.Errorf("job wait of a cancelled job exits %d, want 3", code)
	}
	if _, stderr, code := m.exec("job", "resume", id, "--data", m.nodes[0].dir); code == 0 {
		t.Errorf("a cancelled job was resumed: %s", stderr)
	}
}

// TestSmallMeshes checks what one and two nodes say that they cannot survive, and
// that two lose nothing when one is killed.
func TestSmallMeshes(t *testing.T) {
	one := newMesh(t, 1, oneThread)
	if s := one.status(); !strings.Contains(s.Survives, "nothing") {
		t.Errorf("one node says it survives %q", s.Survives)
	}
	m := newMesh(t, 2, oneThread)
	if s := m.status(); !strings.Contains(s.Survives, "both must be up") {
		t.Errorf("two nodes say they survive %q", s.Survives)
	}
	s := m.undisturbed(rand.New(rand.NewPCG(10, 10)), 1<<24, 2)
	id := m.submit(m.nodes[1], s)
	m.atShare(id, 0.2)
	m.kill(0, "one of two nodes")
	_, stderr, code := m.exec(append(s.args, "--key", "refused", "--name", "refused", "--data", m.nodes[1].dir, "--connect-timeout", "2s")...)
	if code != 6 || !strings.Contains(stderr, "no leader with a quorum") || !strings.Contains(stderr, "seedmesh status") || strings.Count(stderr, "\n") > 3 {
		t.Errorf("a submit without a quorum exits %d, want 6 and what to do: %s", code, stderr)
	}
	if _, stderr, code := m.exec("job", "cancel", id, "--data", m.nodes[1].dir, "--connect-timeout", "2s"); code != 6 {
		t.Errorf("a cancel without a quorum exits %d, want 6: %s", code, stderr)
	}
	m.await(startWait, "word that there is no quorum, and whom to start", func() bool {
		out := m.run("status", "--data", m.nodes[1].dir)
		return strings.Contains(out, "no quorum; start "+m.nodes[0].name)
	})
	m.run("nodes", "--data", m.nodes[1].dir)
	if out := m.run("jobs", "--data", m.nodes[1].dir); !strings.Contains(out, s.name) {
		t.Errorf("jobs without a quorum does not know of %s: %s", s.name, out)
	}
	m.up(0)
	m.whole()
	m.check(id, s)
	for _, p := range m.nodes { // the first leaves a mesh, the second one nobody that answers
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("a planned stop of %s ends with %v", p.name, err)
		}
	}
}

// TestBadJoins checks what a joiner is told.
func TestBadJoins(t *testing.T) {
	m := newMesh(t, 1, oneThread)
	foreign := newMesh(t, 1, oneThread)
	token := func(m *mesh) string {
		var made struct{ Token string }
		m.json(&made, "token", "create", "--json", "--data", m.nodes[0].dir)
		return made.Token
	}
	join := func(name, tokenAtAddr string) (string, int) {
		_, stderr, code := m.exec("join", tokenAtAddr, "--data", filepath.Join(m.dir, "join-"+name), "--name", name, "--listen", freeAddr(t))
		return stderr, code
	}
	addr := m.nodes[0].addr
	good := token(m)
	for name, tt := range map[string]struct {
		arg  string
		name string
		code int
		says string
	}{
		"damaged":  {"mesh1-nonsense@" + addr, "a", 2, "token"},
		"foreign":  {token(foreign) + "@" + addr, "b", 4, "another mesh"},
		"no token": {addr, "c", 2, "@HOST:PORT"},
		"taken":    {good + "@" + addr, "n1", 2, "n1"},
	} {
		stderr, code := join(tt.name, tt.arg)
		if code != tt.code || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: exit %d, want %d and an error that names %q: %s", name, code, tt.code, tt.says, stderr)
		}
	}
	if stderr, code := join("d", good+"@"+addr); code != 0 {
		t.Fatalf("a good join: exit %d: %s", code, stderr)
	}
	if stderr, code := join("e", good+"@"+addr); code != 4 || !strings.Contains(stderr, "spent") {
		t.Errorf("a used token: exit %d, want 4: %s", code, stderr)
	}
	_, stderr, code := m.exec("init", "--data", m.nodes[0].dir, "--listen", freeAddr(t))
	if code == 0 || !strings.Contains(stderr, "in use") {
		t.Errorf("init over a running node: exit %d: %s", code, stderr)
	}
	_, stderr, code = m.exec("up", "--data", m.nodes[0].dir)
	if code == 0 || !strings.Contains(stderr, "in use") {
		t.Errorf("a second node on one directory: exit %d: %s", code, stderr)
	}
}

// TestStrangersGetNoAnswer tries every kind of stream without a certificate, and
// with one of another cluster.
func TestStrangersGetNoAnswer(t *testing.T) {
	m := newMesh(t, 1, oneThread)
	ca, err := transport.NewAuthority("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	key, err := transport.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id := transport.NewID()
	csr, err := transport.CertificateRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, id, "voter", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := transport.NewIdentity(cert, key, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ep, err := transport.Open(transport.Config{Conn: conn, Identity: identity})
	if err != nil {
		t.Fatal(err)
	}
	defer ep.Close()
	for _, kind := range []transport.Kind{"seedmesh-gossip/1", "seedmesh-raft/1", "seedmesh-forward/1", "seedmesh-session/1", "seedmesh-blob/1", "seedmesh-admit/1", transport.KindHTTP3} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if c, err := ep.Dial(ctx, kind, transport.Peer{Addr: m.nodes[0].addr}); err == nil {
			_ = c.Close()
			t.Errorf("%s: a node of another cluster was answered", kind)
		}
		cancel()
	}
	if c, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}}).Dial("tcp", m.nodes[0].addr); err == nil {
		_ = c.Close()
		t.Error("something listens on TCP")
	}
	m.checkSocket()
}

// checkSocket: the data directory and its socket are for the node's user alone.
func (m *mesh) checkSocket() {
	m.Helper()
	for name, want := range map[string]os.FileMode{"": 0o700, "api.sock": 0o600, "node.key": 0o600, "ca.key": 0o600} {
		info, err := os.Stat(filepath.Join(m.nodes[0].dir, name))
		if err != nil || info.Mode().Perm() != want {
			m.Errorf("%q: %v, mode %v, want %v", name, err, info, want)
		}
	}
}

// TestPlannedStopHandsOver stops the leader with SIGTERM: it exits 0, another
// leads at once, and the job goes on.
func TestPlannedStopHandsOver(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	s := m.undisturbed(rand.New(rand.NewPCG(11, 11)), 1<<24, 2)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.2)
	i := m.leader()
	if err := m.nodes[i].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := m.nodes[i].cmd.Wait(); err != nil {
		t.Errorf("a planned stop ended with %v", err)
	}
	if next := m.leader(); next == i {
		t.Errorf("%s leads after its stop", m.nodes[i].name)
	}
	m.up(i)
	m.whole()
	m.check(id, s)
}

// TestRemoteCommandLine asks a node over the mesh port with another's identity.
func TestRemoteCommandLine(t *testing.T) {
	m := newMesh(t, 2, oneThread)
	out := m.run("status", "--json", "--data", m.nodes[1].dir, "--node", m.nodes[0].addr)
	if !strings.Contains(out, fmt.Sprintf("%q", m.nodes[0].name)) {
		t.Errorf("status of %s over the mesh port: %s", m.nodes[0].name, out)
	}
}
