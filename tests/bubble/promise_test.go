package bubble

import (
	"net"
	"os"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node"
	"seedmesh/node/api/meshv1"
	"seedmesh/tests/faults"
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

// TestWipedVoterIsANewNode wipes a voter's disk and lets the machine join again
// under its old name. It comes back as another node: under the old id it could
// vote against what it has acknowledged.
func TestWipedVoterIsANewNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		before := m.members(0)
		m.kill(2)
		m.awaitEnd(2)
		if err := os.RemoveAll(m.data(2)); err != nil {
			t.Fatal(err)
		}
		m.await("its expiry", time.Minute, func() bool { s := m.status(0); return s != nil && s.Slots == 2 })
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
		job := newSearch(0, 100_000)
		m.mustSubmit(2, job)
		m.drain(2, job)
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
