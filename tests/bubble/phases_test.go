package bubble

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/node/api/meshv1"
	"seedmesh/tests/faults"
	"seedmesh/transport/memnet"
)

// A tripwire looks at every ledger as it changes, until it finds what it waits for.
type tripwire struct {
	mu      sync.Mutex // guards what follows
	found   func(node int, s *jobs.State) (victim int, ok bool)
	tripped chan int // gets the victim
}

func (w *tripwire) look(node int, _ uint64, s *jobs.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.found == nil {
		return
	}
	if victim, ok := w.found(node, s); ok {
		w.found = nil
		w.tripped <- victim
	}
}

// set waits for what found finds; the victim is to be killed in the same instant.
func (w *tripwire) set(found func(node int, s *jobs.State) (int, bool)) <-chan int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found, w.tripped = found, make(chan int, 1)
	return w.tripped
}

// phases is a mesh whose nodes are killed at chosen moments of a search.
type phases struct {
	*mesh
	*tripwire
	searches int
	clients  sync.WaitGroup // submits in flight
}

// begin submits a search through a node that does not lead, in the background.
func (p *phases) begin(seeds uint64) *search {
	p.Helper()
	s := newSearch(p.searches, seeds)
	p.searches++
	through := p.leads() + 1
	p.clients.Go(func() {
		if err := p.submit(through, s, time.Minute); err != nil {
			p.Error(err)
		}
	})
	return s
}

// jobOf finds a search in a ledger.
func jobOf(st *jobs.State, s *search) *jobs.Job {
	id, _ := st.Key(s.key)
	return st.Job(id)
}

// TestKillsInEveryPhase kills a node in each phase of a search's life and of the
// mesh's own: the search ends all the same, and its results are those of an
// undisturbed one.
func TestKillsInEveryPhase(t *testing.T) {
	if testing.Short() {
		t.Skip("many restarts")
	}
	inBubble(t, func(t *testing.T) {
		w := &tripwire{}
		p := &phases{mesh: newMesh(t, 5, 3, options{idle: 2, snapshotEvery: 64, observe: w.look}), tripwire: w}
		defer p.stop()
		for _, c := range []struct {
			phase  string
			seeds  uint64
			times  int
			strike func(*phases, *search) (victim int)
		}{
			{"promotion", 100_000, 1, (*phases).inPromotion},
			{"submit", 50_000, 3, (*phases).inSubmit},
			{"claim", 100_000, 3, (*phases).inClaim},
			{"run", 200_000, 3, (*phases).inRun},
			{"deliver", 200_000, 3, (*phases).inDelivery},
			{"finish", 200_000, 3, (*phases).inFinish},
			{"election", 200_000, 3, (*phases).inElection},
			{"fold", 1_500_000, 1, (*phases).inFold},
			{"snapshot", 100_000, 1, (*phases).inSnapshot},
		} {
			for range c.times {
				s := p.begin(c.seeds)
				victim := c.strike(p, s)
				cut := p.kill(victim)
				p.await("a leader", time.Minute, func() bool { l := p.leads(); return l >= 0 && l != victim })
				p.revive()
				p.clients.Wait()
				p.drain(victim, s)
				p.once(s)
				p.sameLedgers()
				faults.Landed(t, faults.Bubble, "node killed in "+c.phase, "I1 I2 I3 I4 I5 I8 I9 I10 I12", int(min(cut.Effect().Lost, 1)))
			}
		}
	})
}

// revive starts every node that does not run.
func (p *phases) revive() {
	p.Helper()
	for i := range p.lives {
		if p.at(i) == nil {
			p.up(i)
		}
	}
	p.await("whole mesh", time.Minute, func() bool { return p.whole(5, 5) })
}

// inPromotion is when the first of two new nodes follows the log and none of them votes.
func (p *phases) inPromotion(*search) int {
	p.Helper()
	p.up(3)
	p.up(4)
	leader := p.leader()
	p.await("a node to promote", time.Minute, func() bool {
		r, err := p.at(leader).API().Nodes(p.Context(), connect.NewRequest(&meshv1.NodesRequest{}))
		if err != nil {
			p.Fatal(err)
		}
		new := r.Msg.Nodes[3]
		return new.Role == "nonvoter" && new.State == "alive"
	})
	return leader
}

// inSubmit is when the leader has just applied the submit and nobody was told.
func (p *phases) inSubmit(s *search) int {
	leader := p.leader()
	return <-p.set(func(node int, st *jobs.State) (int, bool) { return node, node == leader && jobOf(st, s) != nil })
}

// inClaim is when a worker was just given its first claim.
func (p *phases) inClaim(s *search) int {
	leader := p.leader()
	return <-p.set(func(node int, st *jobs.State) (int, bool) {
		j := jobOf(st, s)
		if node != leader || j == nil || len(j.Stages[0].Held()) == 0 {
			return 0, false
		}
		return p.numberOf(st, j.Stages[0].Held()[0].Slot.Node), true
	})
}

// numberOf is a node's number in the mesh.
func (p *phases) numberOf(st *jobs.State, id jobs.NodeID) int {
	for i := range p.lives {
		if st.Node(id).Name == name(i) {
			return i
		}
	}
	return -1
}

// inRun is when a worker searches.
func (p *phases) inRun(s *search) (victim int) {
	p.Helper()
	p.await("an attempt", time.Minute, func() bool {
		p.record.mu.Lock()
		defer p.record.mu.Unlock()
		for _, a := range p.record.attempts {
			if a.part.First >= s.seeds.First && a.part.Last <= s.seeds.Last {
				victim = a.node
				return true
			}
		}
		return false
	})
	time.Sleep(100 * time.Millisecond)
	return victim
}

// inDelivery is when a worker sends survivors to a second holder.
func (p *phases) inDelivery(*search) int {
	p.Helper()
	worker := (p.leader() + 1) % len(p.lives)
	data := planeNamed("data")
	slow := p.net.Inject(memnet.Fault{Delay: 50 * time.Millisecond}, memnet.Path{From: data.at(worker)})
	defer slow.Lift()
	p.await("survivors on their way", time.Minute, func() bool { return slow.Effect().Delayed > 0 })
	return worker
}

// inFinish is when the leader has just committed a result and its worker was not told.
func (p *phases) inFinish(s *search) int {
	leader := p.leader()
	return <-p.set(func(node int, st *jobs.State) (int, bool) {
		j := jobOf(st, s)
		return node, node == leader && j != nil && j.Pieces > 0
	})
}

// inElection is when a leader was killed and its successor has just won.
func (p *phases) inElection(*search) (successor int) {
	p.Helper()
	old := p.leader()
	term := p.status(old).Term
	p.kill(old)
	p.await("successor", time.Minute, func() bool {
		successor = p.leads()
		return successor >= 0 && p.status(successor).Term > term
	})
	return successor
}

// inFold is when a node has pieces to fold and has not yet begun.
func (p *phases) inFold(s *search) int {
	return <-p.set(func(_ int, st *jobs.State) (int, bool) {
		if j := jobOf(st, s); j == nil || j.State.Terminal() {
			return 0, false
		}
		for _, n := range st.Nodes() {
			if _, due := st.FoldPlan(n.ID); due {
				return p.numberOf(st, n.ID), true
			}
		}
		return 0, false
	})
}

// inSnapshot is when a node has just written a snapshot and trims its log.
func (p *phases) inSnapshot(*search) (victim int) {
	p.Helper()
	before := make([]string, len(p.lives))
	for i := range before {
		before[i] = p.newestSnapshot(i)
	}
	p.await("snapshot", 5*time.Minute, func() bool {
		p.begin(1000)
		p.clients.Wait()
		time.Sleep(time.Second)
		for i := range before {
			if p.newestSnapshot(i) != before[i] {
				victim = i
				return true
			}
		}
		return false
	})
	return victim
}

// newestSnapshot names the last snapshot of a node; they are named by term and index.
func (p *phases) newestSnapshot(i int) string {
	entries, err := os.ReadDir(filepath.Join(p.data(i), "raft", "snapshots"))
	if err != nil {
		p.Fatal(err)
	}
	if len(entries) == 0 {
		return ""
	}
	return entries[len(entries)-1].Name()
}
