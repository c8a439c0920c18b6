package bubble

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"seedmesh/kernels"
	"seedmesh/node"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/slot"
)

// recorder is an executor that remembers when it was told to begin.
type recorder struct {
	slot.Executor
	mu     sync.Mutex // guards starts
	starts []time.Time
}

func (r *recorder) Run(ctx context.Context, t slot.Task) (slot.Result, error) {
	r.mu.Lock()
	r.starts = append(r.starts, time.Now())
	r.mu.Unlock()
	return r.Executor.Run(ctx, t)
}

func (r *recorder) startsAfter(t time.Time) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.starts {
		if s.After(t) {
			n++
		}
	}
	return n
}

// record starts a node again with an executor that is watched.
func (m *mesh) record(i int) *recorder {
	m.Helper()
	m.down(i)
	conn, err := m.net.Listen(addr(i))
	if err != nil {
		m.Fatal(err)
	}
	r := &recorder{Executor: slot.NewInProcess(0, kernels.NewSim(kernels.SimConfig{Rate: m.rate}))}
	c := node.DefaultConfig()
	c.Dir = m.data(i)
	c.Node.Slots = []node.SlotConfig{{Device: "sim", SimRate: m.rate}}
	c.Seams = node.Seams{PacketConn: conn, NoSocket: true, Executor: func(int, node.SlotConfig) (slot.Executor, error) { return r, nil }}
	if m.nodes[i], err = node.Open(c); err != nil {
		m.Fatal(err)
	}
	m.await("its return", time.Minute, func() bool { s := m.statusOf(i); return s != nil && s.Slots == 3 && s.Leader != "" })
	return r
}

// submitLong submits a search whose pieces take a while.
func (m *mesh) submitLong(i int, key string, seeds uint64, chunk time.Duration) string {
	m.Helper()
	spec, r := search(m.T, seeds)
	reply, err := m.nodes[i].API().Submit(m.Context(), connect.NewRequest(&meshv1.SubmitRequest{
		Spec: spec.Encode(), First: r.First, Last: r.Last, Key: key, ChunkTimeMs: uint64(chunk.Milliseconds()),
	}))
	if err != nil {
		m.Fatal(err)
	}
	return reply.Msg.Job
}

// TestCutOffWorkerStartsNothing cuts a worker off while it works on one claim and
// has reserved another. What runs may end; the other may not begin once the
// leader may have given it to somebody else.
func TestCutOffWorkerStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, 20_000)
		defer m.stop()
		victim := (m.leader(-1) + 1) % 3
		r := m.record(victim)
		m.finish(0, m.submitLong(0, "warm", 1_000_000, 5*time.Second)) // its rate is known
		began := time.Now()
		id := m.submitLong(0, "k", 20_000_000, 10*time.Second)
		m.await("two attempts", time.Minute, func() bool { return r.startsAfter(began) >= 2 })
		m.net.Isolate(addr(victim))
		cut := time.Now()
		time.Sleep(30 * time.Second) // of fake time: what runs has ended
		if n := r.startsAfter(cut.Add(2*time.Second + 250*time.Millisecond)); n > 0 {
			t.Errorf("the node began %d attempts without leave", n)
		}
		m.net.HealAll()
		m.finish(victim, id)
		m.sameLedgers()
	})
}

// TestWipedVoterIsANewNode wipes a voter's disk and lets the machine join again
// under its old name. It comes back as another node: under the old id it could
// vote against what it has acknowledged.
func TestWipedVoterIsANewNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, 20_000)
		defer m.stop()
		before := m.members(0)
		m.down(2)
		if err := os.RemoveAll(m.data(2)); err != nil {
			t.Fatal(err)
		}
		m.await("its expiry", time.Minute, func() bool { s := m.statusOf(0); return s != nil && s.Slots == 2 })
		token, err := m.nodes[0].API().CreateToken(m.Context(), connect.NewRequest(&meshv1.CreateTokenRequest{Role: "voter", Uses: 1}))
		if err != nil {
			t.Fatal(err)
		}
		s := node.Setup{Dir: m.data(2), Name: "n3", Listen: addr(2), Socket: func() (net.PacketConn, error) { return m.net.Listen("10.0.1.9:1") }}
		if _, err := node.Join(t.Context(), s, token.Msg.Join); err != nil {
			t.Fatal(err)
		}
		after := m.members(0)
		was, is := before["n3"], after["n3"]
		if is == nil || was.Id == is.Id || is.Role != "nonvoter" {
			t.Errorf("n3 was %v, and after the loss of its disk it is %v", was, is)
		}
		m.up(2)
		m.await("its return", time.Minute, func() bool { s := m.statusOf(2); return s != nil && s.Slots == 3 && s.Leader != "" })
		m.finish(2, m.submit(2, "k", 100_000))
		m.sameLedgers()
	})
}

// members lists the members by name, as a node sees them.
func (m *mesh) members(i int) map[string]*meshv1.NodeInfo {
	m.Helper()
	r, err := m.nodes[i].API().Nodes(m.Context(), connect.NewRequest(&meshv1.NodesRequest{Linearizable: true}))
	if err != nil {
		m.Fatal(err)
	}
	all := map[string]*meshv1.NodeInfo{}
	for _, n := range r.Msg.Nodes {
		all[n.Name] = n
	}
	return all
}
