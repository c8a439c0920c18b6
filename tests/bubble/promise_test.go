package bubble

import (
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/node"
	"seedmesh/node/api/meshv1"
	"seedmesh/tests/faults"
	"seedmesh/transport/memnet"
)

// attemptsOf is how many attempts a node has begun behind a moment.
func (r *record) attemptsOf(node int, since time.Time) (count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if a.node == node && a.at.After(since) {
			count++
		}
	}
	return count
}

// held counts the claims of a node on a search, by its own ledger.
func (m *mesh) held(s *search, i int) (claims int) {
	m.Helper()
	r, err := m.at(i).API().Ledger(m.Context(), connect.NewRequest(&meshv1.LedgerRequest{Job: s.id}))
	if err != nil {
		m.Fatal(err)
	}
	for _, h := range r.Msg.Held {
		if h.Node == name(i) {
			claims++
		}
	}
	return claims
}

// TestCutOffWorkerStartsNothing cuts a worker off while it works on one claim and
// has reserved another. What runs may end; the other may not begin once the
// leader may have given it to somebody else.
func TestCutOffWorkerStartsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		victim := (m.leader() + 1) % 3
		warm, long := newSearch(0, 600_000), newSearch(1, 4_000_000)
		warm.chunk, long.chunk = 5_000, 10_000
		m.mustSubmit(0, warm)
		m.drain(0, warm) // its rate is known
		began := time.Now()
		m.mustSubmit(0, long)
		m.await("an attempt", time.Minute, func() bool { return m.record.attemptsOf(victim, began) >= 2 })
		m.await("a claim behind it", time.Minute, func() bool { return m.held(long, victim) >= 2 })
		begun := m.record.attemptsOf(victim, began)
		m.await("an attempt that just begins", time.Minute, func() bool { return m.record.attemptsOf(victim, began) > begun })
		m.await("a claim behind it", time.Minute, func() bool { return m.held(long, victim) >= 2 })
		alone := m.net.Isolate(host(victim))
		cut := time.Now()
		time.Sleep(30 * time.Second) // of fake time: what runs has ended
		if n := m.record.attemptsOf(victim, cut.Add(2*time.Second+250*time.Millisecond)); n > 0 {
			t.Errorf("the node began %d attempts without leave", n)
		}
		alone.Lift()
		m.drain(victim, long)
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "worker cut off at work", "I1 I3 I5 I8 I9 I12", int(min(alone.Effect().Lost, 1)))
	})
}

// TestGossipTakesNoWork cuts a worker off from the gossip alone, until it counts as dead
// there. The leader can still reach it, so it keeps its work and stays a member.
func TestGossipTakesNoWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		expired := false
		m := newMesh(t, 3, 3, options{observe: func(_ int, _ uint64, s *jobs.State) {
			mu.Lock()
			defer mu.Unlock()
			expired = slices.ContainsFunc(s.Nodes(), func(n *jobs.Node) bool { return !n.Alive }) || expired
		}})
		defer m.stop()
		leader := m.leader()
		worker := (leader + 1) % 3
		long := newSearch(0, 3_000_000)
		m.mustSubmit(leader, long)
		m.await("work for the worker", time.Minute, func() bool { return m.held(long, worker) > 0 })
		mu.Lock()
		expired = false // from here on
		mu.Unlock()
		cut := m.net.Inject(memnet.Fault{Loss: 1}, m.paths(worker, planeNamed("gossip"), true, true)...)
		m.await("gossip of a death", time.Minute, func() bool { return m.members(leader)[name(worker)].State == "dead" })
		at := time.Now()
		m.drain(leader, long)
		if n := m.record.attemptsOf(worker, at); n == 0 {
			t.Error("the worker got no more work")
		}
		mu.Lock()
		if expired {
			t.Error("a node was taken out that the leader could reach")
		}
		mu.Unlock()
		cut.Lift()
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "gossip cut until a node counts as dead there", "I1 I5 I12", int(min(cut.Effect().Lost, 1)))
	})
}

// TestWipedVoterIsANewNode wipes a voter's disk and lets the machine join again
// under its old name. It comes back as another node: under the old id it could
// vote against what it has acknowledged.
func TestWipedVoterIsANewNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		before := m.members(0)
		early := newSearch(0, 200_000)
		m.mustSubmit(0, early)
		m.drain(0, early)
		m.kill(2)
		m.awaitEnd(2)
		if err := os.RemoveAll(m.data(2)); err != nil {
			t.Fatal(err)
		}
		m.await("its expiry", time.Minute, func() bool { s := m.status(0); return s != nil && s.Slots == 2 })
		if m.job(0, early.id).UnderReplicated == 0 {
			t.Error("no result was on the disk that was wiped")
		}
		if _, err := m.at(0).API().RemoveNode(m.Context(), connect.NewRequest(&meshv1.RemoveNodeRequest{Node: name(2)})); err != nil {
			t.Fatal(err)
		}
		token, err := m.at(0).API().CreateToken(m.Context(), connect.NewRequest(&meshv1.CreateTokenRequest{Role: "voter", Uses: 1}))
		if err != nil {
			t.Fatal(err)
		}
		s := node.Setup{Dir: m.data(2), Name: name(2), Listen: addr(2), Socket: func() (net.PacketConn, error) { return m.net.Listen("10.0.1.9:1") }}
		if _, err := node.Join(t.Context(), s, token.Msg.Join); err != nil {
			t.Fatal(err)
		}
		after := m.members(0)
		was, is := before[name(2)], after[name(2)]
		if is == nil || was.Id == is.Id || is.Role != "nonvoter" {
			t.Errorf("%s was %v, and after the loss of its disk it is %v", name(2), was, is)
		}
		m.up(2)
		m.await("its return", time.Minute, func() bool { s := m.status(2); return s != nil && s.Slots == 3 && s.Leader != "" })
		m.await("new copies of what only one node holds", time.Minute, func() bool { return m.job(2, early.id).UnderReplicated == 0 })
		late := newSearch(1, 100_000)
		m.mustSubmit(2, late)
		m.drain(2, early)
		m.drain(2, late)
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "voter's disk wiped", "I2 I9 I12", 1)
	})
}

// members lists the members by name, as a node sees them.
func (m *mesh) members(i int) map[string]*meshv1.NodeInfo {
	m.Helper()
	r, err := m.at(i).API().Nodes(m.Context(), connect.NewRequest(&meshv1.NodesRequest{Linearizable: true}))
	if err != nil {
		m.Fatal(err)
	}
	all := map[string]*meshv1.NodeInfo{}
	for _, n := range r.Msg.Nodes {
		all[n.Name] = n
	}
	return all
}
