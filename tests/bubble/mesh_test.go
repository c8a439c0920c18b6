// Package bubble tests whole meshes in fake time: the real raft, memberlist and
// quic-go over an in-memory network, with simulated devices. Minutes of failures
// pass in a second. What happens is not replayable; the invariants hold always.
//
// Read mesh_test.go for the mesh, faults_test.go for what befalls it,
// checks_test.go for what must hold, then the tests.
package bubble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node"
	"seedmesh/node/api"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/node/slot"
	"seedmesh/transport"
	"seedmesh/transport/memnet"
)

// TestMain keeps the data directories in memory where that is possible: here
// nothing dies but goroutines, so that syncing a disk shows nothing.
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() {
		os.Setenv("TMPDIR", memory)
	}
	os.Exit(m.Run())
}

// inBubble runs a test in fake time, beside other tests of this package.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// options of a mesh; the zero value is one of default nodes.
type options struct {
	rate          float64 // seeds a second of every slot; 0 for defaultRate
	snapshotEvery int     // entries; 0 for the log's own default
	idle          int     // last nodes that have joined and are not yet started
	diverges      bool    // ledgers are made to differ
	checkShare    float64 // of pieces that are searched twice
	slotless      int     // number of the node, from 1, that has no slots; 0 for none
	liar          int     // number of the node, from 1, whose device misses survivors; 0 for none
	observe       func(node int, index uint64, s *jobs.State)
}

const defaultRate = 20_000

// missEvery is how seldom a liar's seeds are missed: in every piece of some seconds.
const missEvery = 1000

// mesh is a mesh of nodes in one bubble.
type mesh struct {
	*testing.T
	options
	dir    string
	net    *memnet.Network
	record *record
	skew   []time.Duration // of each node's wall clock, from its next start on

	mu    sync.Mutex // guards what follows
	lives []life
}

// life is a node from a start to its end.
type life struct {
	node  *node.Node       // nil while stopped
	cut   *memnet.Injected // of a killed node, until its next start
	ended chan struct{}    // closed when a stopped node's last goroutine has ended
}

// host is a node's machine, and addr its port there.
func host(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }
func addr(i int) string { return host(i) + ":7946" }
func name(i int) string { return fmt.Sprintf("n%d", i+1) }

// newMesh starts n nodes and waits until as many vote as should.
func newMesh(t *testing.T, n, voters int, o options) *mesh {
	t.Helper()
	if o.rate == 0 {
		o.rate = defaultRate
	}
	m := &mesh{
		T: t, options: o, dir: t.TempDir(), net: memnet.New(1), record: newRecord(),
		skew: make([]time.Duration, n), lives: make([]life, n),
	}
	made, err := node.Init(node.Setup{Dir: m.data(0), Name: name(0), Listen: addr(0)})
	if err != nil {
		t.Fatal(err)
	}
	m.up(0)
	for i := 1; i < n; i++ {
		s := node.Setup{Dir: m.data(i), Name: name(i), Listen: addr(i)}
		s.Socket = func() (net.PacketConn, error) { return m.net.Listen(fmt.Sprintf("10.0.1.%d:1", i+1)) }
		if _, err := node.Join(t.Context(), s, made.Join); err != nil {
			t.Fatal(err)
		}
		if i < n-o.idle {
			m.up(i)
		}
	}
	slots := n - o.idle - min(o.slotless, 1)
	m.await("voters", time.Minute, func() bool { return m.whole(slots, voters) })
	return m
}

// whole tells whether every running node sees so many slots and voters, and one leader.
func (m *mesh) whole(slots, voters int) bool {
	for _, i := range m.running() {
		s := m.status(i)
		if int(s.Slots) != slots || len(s.Voters) != voters || s.Leader == "" || s.Leader != m.status(m.running()[0]).Leader {
			return false
		}
	}
	return true
}

func (m *mesh) data(i int) string { return filepath.Join(m.dir, fmt.Sprint(i+1)) }

// up starts a node, behind the end of its last life.
func (m *mesh) up(i int) {
	m.Helper()
	m.awaitEnd(i)
	c := node.DefaultConfig()
	c.Dir = m.data(i)
	if os.Getenv("BUBBLE_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	if c.Node.NoSlots = m.slotless == i+1; !c.Node.NoSlots {
		c.Node.Slots = []node.SlotConfig{{Device: "sim", SimRate: m.rate}}
	}
	c.Search.CheckShare = m.checkShare
	if m.snapshotEvery > 0 {
		c.Raft.SnapshotEvery = m.snapshotEvery
	}
	skew := m.skew[i]
	c.Seams = node.Seams{
		PacketConn: m.listen(addr(i)), NoSocket: true,
		Executor: func(_ int, c node.SlotConfig) (slot.Executor, error) {
			sim := kernels.SimConfig{Rate: c.SimRate}
			if m.liar == i+1 {
				sim.MissEvery = missEvery
			}
			return m.record.watch(i, slot.NewInProcess(0, kernels.NewSim(sim))), nil
		},
		DialFrom: func(kind transport.Kind) net.PacketConn {
			if p, known := planeOf(kind); known {
				return m.listen(p.at(i))
			}
			return nil
		},
		Clock: func() time.Time { return time.Now().Add(skew) },
		Observe: func(index uint64, s *jobs.State) {
			if !m.diverges {
				m.record.applied(i, index, s)
			}
			if m.observe != nil {
				m.observe(i, index, s)
			}
		},
	}
	n, err := node.Open(c)
	if err != nil {
		m.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lives[i] = life{node: n}
}

// awaitEnd waits until nothing is left of a stopped node's last life.
func (m *mesh) awaitEnd(i int) {
	m.Helper()
	m.mu.Lock()
	last := m.lives[i]
	m.mu.Unlock()
	if last.ended != nil {
		select {
		case <-last.ended:
		case <-time.After(endLimit):
			m.Fatalf("%s does not end", name(i))
		}
	}
	if last.cut != nil {
		last.cut.Lift()
	}
}

func (m *mesh) listen(addr string) net.PacketConn {
	m.Helper()
	conn, err := m.net.Listen(addr)
	if err != nil {
		m.Fatal(err)
	}
	return conn
}

// endLimit is how long the end of a node may take, of fake time.
const endLimit = time.Minute

// kill ends a node as others see a death: its packets stop at once, and it says
// goodbye to nobody. It returns at once; the fault counts the packets lost.
func (m *mesh) kill(i int) *memnet.Injected {
	cut := m.net.Isolate(host(i))
	m.end(i, cut)
	return cut
}

// end closes a node in the background.
func (m *mesh) end(i int, cut *memnet.Injected) {
	ended := make(chan struct{})
	m.mu.Lock()
	n := m.lives[i].node
	m.lives[i] = life{cut: cut, ended: ended}
	m.mu.Unlock()
	go func() {
		defer close(ended)
		if err := n.Close(); err != nil {
			m.Logf("node %s: %v", name(i), err)
		}
	}()
}

// at is a node, or nil while it is stopped.
func (m *mesh) at(i int) *node.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lives[i].node
}

// running lists the nodes that run.
func (m *mesh) running() (all []int) {
	for i := range m.lives {
		if m.at(i) != nil {
			all = append(all, i)
		}
	}
	return all
}

// stop ends all nodes.
func (m *mesh) stop() {
	m.record.report(m.T)
	m.net.HealAll()
	for _, i := range m.running() {
		m.end(i, nil)
		m.awaitEnd(i)
	}
	for i := range m.lives {
		m.awaitEnd(i)
	}
	time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
}

// await looks until something holds, at most for limit of fake time.
func (m *mesh) await(what string, limit time.Duration, holds func() bool) {
	m.Helper()
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			m.record.report(m.T)
			m.Fatalf("no %s within %v of fake time; %s", what, limit, m.summary())
		}
		time.Sleep(lookEvery)
	}
}

const lookEvery = 20 * time.Millisecond // of fake time

func (m *mesh) summary() string {
	text := ""
	for _, i := range m.running() {
		s := m.status(i)
		text += fmt.Sprintf("\n%s: leader %q term %d applied %d slots %d voters %v alarms %v", name(i), s.Leader, s.Term, s.Applied, s.Slots, s.Voters, s.Alarms)
	}
	return text
}

// clientOf calls a node's API as a program on its machine does.
func clientOf(n *node.Node) meshv1connect.MeshClient {
	plain := connect.WithAcceptCompression("gzip", nil, nil)
	return meshv1connect.NewMeshClient(&http.Client{Transport: local{api.Handler(n.API())}}, "http://node", plain)
}

// local is a way to a handler in this process.
type local struct{ http.Handler }

func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w.Result(), nil
}

// status is how the mesh stands in a node's view; empty when the node has stopped.
func (m *mesh) status(i int) *meshv1.StatusReply {
	n := m.at(i)
	if n == nil {
		return &meshv1.StatusReply{}
	}
	r, err := n.API().Status(m.Context(), connect.NewRequest(&meshv1.StatusRequest{}))
	if err != nil {
		m.Fatal(err)
	}
	return r.Msg
}

// leads is the running node that leads in its own view and in the newest term, or -1.
func (m *mesh) leads() int {
	leader, term := -1, uint64(0)
	for _, i := range m.running() {
		if s := m.status(i); s.Term > term {
			term, leader = s.Term, -1
			if s.Leader == name(i) {
				leader = i
			}
		} else if s.Term == term && s.Leader == name(i) {
			leader = i
		}
	}
	return leader
}

// leader waits for a node that leads.
func (m *mesh) leader() (leader int) {
	m.Helper()
	m.await("leader", time.Minute, func() bool { leader = m.leads(); return leader >= 0 })
	return leader
}

// job looks at a job in a node's view; nil when the node does not know it.
func (m *mesh) job(i int, id string) *meshv1.JobInfo {
	r, err := m.at(i).API().Job(m.Context(), connect.NewRequest(&meshv1.JobRequest{Job: id}))
	if err != nil {
		return nil
	}
	return r.Msg
}

// persistently repeats a call until it succeeds, through one running node after
// the other, as a person would who finds one of them gone.
func (m *mesh) persistently(what string, first int, limit time.Duration, call func(context.Context, meshv1connect.MeshClient) error) error {
	err := errors.New("no node runs")
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); first++ {
		n := m.at(first % len(m.lives))
		if n == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		ctx, cancel := context.WithTimeout(m.Context(), tryFor)
		err = call(ctx, clientOf(n))
		cancel()
		if err == nil {
			return nil
		}
		time.Sleep(lookEvery)
	}
	return fmt.Errorf("no %s within %v of fake time: %w", what, limit, err)
}

const tryFor = 3 * time.Second // of fake time, for one call through one node
