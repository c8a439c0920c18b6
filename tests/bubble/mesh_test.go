// Package bubble tests whole meshes in fake time: the real raft, memberlist and
// quic-go over an in-memory network, with simulated devices. Minutes of failures
// pass in a second. What happens is not replayable; the invariants hold always.
package bubble

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"seedmesh/kernels"
	"seedmesh/node"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/slot"
	"seedmesh/transport/memnet"
)

// mesh is a mesh of nodes in one bubble.
type mesh struct {
	*testing.T
	dir   string
	net   *memnet.Network
	nodes []*node.Node // nil while stopped
	rate  float64      // seeds a second of every slot
}

func addr(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i+1) }

// newMesh starts n nodes and waits until as many vote as should.
func newMesh(t *testing.T, n, voters int, rate float64) *mesh {
	t.Helper()
	m := &mesh{T: t, dir: t.TempDir(), net: memnet.New(1), rate: rate, nodes: make([]*node.Node, n)}
	made, err := node.Init(node.Setup{Dir: m.data(0), Name: "n1", Listen: addr(0)})
	if err != nil {
		t.Fatal(err)
	}
	m.up(0)
	for i := 1; i < n; i++ {
		s := node.Setup{Dir: m.data(i), Name: fmt.Sprintf("n%d", i+1), Listen: addr(i)}
		s.Socket = func() (net.PacketConn, error) { return m.net.Listen(fmt.Sprintf("10.0.1.%d:1", i+1)) }
		if _, err := node.Join(t.Context(), s, made.Join); err != nil {
			t.Fatal(err)
		}
		m.up(i)
	}
	m.await("voters", time.Minute, func() bool {
		s := m.status()
		return s != nil && len(s.Voters) == voters && int(s.Slots) == n && s.Leader != ""
	})
	return m
}

func (m *mesh) data(i int) string { return filepath.Join(m.dir, fmt.Sprint(i+1)) }

func (m *mesh) up(i int) {
	m.Helper()
	conn, err := m.net.Listen(addr(i))
	if err != nil {
		m.Fatal(err)
	}
	c := node.DefaultConfig()
	c.Dir = m.data(i)
	if os.Getenv("BUBBLE_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	c.Node.Slots = []node.SlotConfig{{Device: "sim", SimRate: m.rate}}
	c.Seams = node.Seams{PacketConn: conn, NoSocket: true, Executor: func(i int, c node.SlotConfig) (slot.Executor, error) {
		return slot.NewInProcess(i, kernels.NewSim(kernels.SimConfig{Rate: c.SimRate})), nil
	}}
	if m.nodes[i], err = node.Open(c); err != nil {
		m.Fatal(err)
	}
}

// down stops a node. What others see is a node that says goodbye to nobody, when
// it has been cut off before.
func (m *mesh) down(i int) {
	m.Helper()
	if err := m.nodes[i].Close(); err != nil {
		m.Logf("node %d: %v", i+1, err)
	}
	m.nodes[i] = nil
}

func (m *mesh) stop() {
	for i, n := range m.nodes {
		if n != nil {
			m.down(i)
		}
	}
	time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
}

func (m *mesh) await(what string, limit time.Duration, holds func() bool) {
	m.Helper()
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			m.Fatalf("no %s within %v of fake time", what, limit)
		}
		time.Sleep(50 * time.Millisecond) // fake time
	}
}

func (m *mesh) statusOf(i int) *meshv1.StatusReply {
	if m.nodes[i] == nil {
		return nil
	}
	r, err := m.nodes[i].API().Status(m.Context(), connect.NewRequest(&meshv1.StatusRequest{}))
	if err != nil {
		return nil
	}
	return r.Msg
}

func (m *mesh) status() *meshv1.StatusReply {
	for i := range m.nodes {
		if s := m.statusOf(i); s != nil {
			return s
		}
	}
	return nil
}

// leader waits for a node that others than itself hold for the leader.
func (m *mesh) leader(except int) int {
	m.Helper()
	found := -1
	m.await("leader", time.Minute, func() bool {
		for i := range m.nodes {
			if s := m.statusOf(i); i != except && s != nil {
				for k := range m.nodes {
					if s.Leader == fmt.Sprintf("n%d", k+1) && k != except {
						found = k
						return true
					}
				}
			}
		}
		return false
	})
	return found
}

func search(t *testing.T, seeds uint64) (*kernels.Spec, kernels.Range) {
	t.Helper()
	draws, err := kernels.ParseDraws(bytes.NewReader([]byte("206 87 595 819 331 884\n")))
	if err != nil {
		t.Fatal(err)
	}
	return &kernels.Spec{
		Generators: []string{"xorshift32"}, Draws: draws, Observe: "mod:1000", Skip: kernels.Bounds{Max: 3}, MinMatches: 1,
	}, kernels.Range{First: 1, Last: seeds}
}

// submit submits through a node, again while it has no leader.
func (m *mesh) submit(i int, key string, seeds uint64) string {
	m.Helper()
	spec, r := search(m.T, seeds)
	id := ""
	m.await("acknowledged submit", time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(m.Context(), 5*time.Second)
		defer cancel()
		reply, err := m.nodes[i].API().Submit(ctx, connect.NewRequest(&meshv1.SubmitRequest{Spec: spec.Encode(), First: r.First, Last: r.Last, Key: key, ChunkTimeMs: 1000}))
		if err != nil {
			return false
		}
		id = reply.Msg.Job
		return true
	})
	return id
}

func (m *mesh) job(i int, id string) *meshv1.JobInfo {
	r, err := m.nodes[i].API().Job(m.Context(), connect.NewRequest(&meshv1.JobRequest{Job: id}))
	if err != nil {
		return nil
	}
	return r.Msg
}

// finish waits for the end of a job and verifies its ledger.
func (m *mesh) finish(i int, id string) *meshv1.JobInfo {
	m.Helper()
	var j *meshv1.JobInfo
	m.await("end of the job", 10*time.Minute, func() bool {
		j = m.job(i, id)
		return j != nil && j.State == "done"
	})
	r, err := m.nodes[i].API().Ledger(m.Context(), connect.NewRequest(&meshv1.LedgerRequest{Job: id, Verify: true}))
	if err != nil || !r.Msg.Complete || len(r.Msg.Problems) > 0 {
		m.Fatalf("ledger of %s: %v, %v", id, r, err)
	}
	return j
}

// sameLedgers checks that all nodes come to one digest at one index.
func (m *mesh) sameLedgers() {
	m.Helper()
	m.await("equal ledgers", time.Minute, func() bool {
		first := m.status()
		for i := range m.nodes {
			if s := m.statusOf(i); s != nil && (s.Applied != first.Applied || s.LedgerDigest != first.LedgerDigest) {
				return false
			}
		}
		return true
	})
	if s := m.status(); len(s.Alarms) > 0 {
		m.Fatalf("alarms: %v", s.Alarms)
	}
}

func TestMeshInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, 20_000)
		defer m.stop()
		id := m.submit(1, "k", 400_000)
		m.finish(2, id)
		m.sameLedgers()
	})
}

// TestLeaderCutOff cuts the leader off while a job runs, lets another take over,
// and heals.
func TestLeaderCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, 20_000)
		defer m.stop()
		id := m.submit(0, "k", 1_000_000)
		m.await("progress", time.Minute, func() bool { j := m.job(0, id); return j != nil && j.Pieces > 3 })
		old := m.leader(-1)
		m.net.Isolate(addr(old))
		next := m.leader(old)
		other := m.submit((old+1)%3, "k2", 1000)
		m.await("the cut-off node's expiry", time.Minute, func() bool { s := m.statusOf(next); return s != nil && s.Slots == 2 })
		m.net.HealAll()
		m.await("its return", time.Minute, func() bool { s := m.statusOf(next); return s != nil && s.Slots == 3 })
		m.finish(old, other)
		m.finish(old, id)
		m.sameLedgers()
	})
}

// TestRestartsUnderWork stops and starts each node in turn while a job runs.
func TestRestartsUnderWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, 20_000)
		defer m.stop()
		id := m.submit(0, "k", 1_500_000)
		for round := range 6 {
			i := round % 3
			m.net.Isolate(addr(i))
			m.down(i)
			m.leader(i)
			m.net.HealAll()
			m.up(i)
			m.await("its return", time.Minute, func() bool { s := m.statusOf(i); return s != nil && s.Slots == 3 && s.Leader != "" })
		}
		m.finish(1, id)
		m.sameLedgers()
	})
}
