package bubble

import (
	"os"
	"path/filepath"
	"slices"
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
// Then it cuts the victim off at once, before anybody can be told of the change.
type tripwire struct {
	mu      sync.Mutex // guards what follows
	found   func(node int, s *jobs.State) (victim int, ok bool)
	isolate func(victim int) *memnet.Injected
	tripped chan strike
}

// A strike is a node that is to be killed. It is cut off already where cut is set.
type strike struct {
	victim int
	cut    *memnet.Injected
}

func (w *tripwire) look(node int, _ uint64, s *jobs.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.found == nil {
		return
	}
	if victim, ok := w.found(node, s); ok {
		w.found = nil
		w.tripped <- strike{victim, w.isolate(victim)}
	}
}

// on waits for what found finds.
func (p *phases) on(found func(node int, s *jobs.State) (int, bool)) strike {
	tripped := make(chan strike, 1)
	p.tripwire.mu.Lock()
	p.found, p.tripped = found, tripped
	p.isolate = func(victim int) *memnet.Injected { return p.net.Isolate(host(victim)) }
	p.tripwire.mu.Unlock()
	return <-tripped
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
			strike func(*phases, *search) strike
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
				struck := c.strike(p, s)
				victim, cut := struck.victim, struck.cut
				if cut == nil {
					cut = p.net.Isolate(host(victim))
				}
				p.end(victim, cut)
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
func (p *phases) inPromotion(*search) strike {
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
	return strike{victim: leader}
}

// inSubmit is when the leader has just applied the submit and nobody was told.
func (p *phases) inSubmit(s *search) strike {
	leader := p.leader()
	return p.on(func(node int, st *jobs.State) (int, bool) { return node, node == leader && jobOf(st, s) != nil })
}

// inClaim is when a worker was just given its first claim.
func (p *phases) inClaim(s *search) strike {
	leader := p.leader()
	return p.on(func(node int, st *jobs.State) (int, bool) {
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

// inRun is when a worker has searched for a while and goes on.
func (p *phases) inRun(s *search) (at strike) {
	p.Helper()
	p.await("an attempt at work", time.Minute, func() bool {
		a, ok := p.record.attemptOf(s, func(a *attempt) bool { return !a.over && time.Since(a.at) > 50*time.Millisecond })
		at.victim = a.node
		return ok
	})
	return at
}

// inDelivery is when a worker has searched, sends the survivors to a second holder,
// and still holds the claim. Its packets take long, so that this lasts.
func (p *phases) inDelivery(s *search) strike {
	p.Helper()
	worker := (p.leader() + 1) % len(p.lives)
	slow := p.net.Inject(memnet.Fault{Delay: 50 * time.Millisecond}, memnet.Path{From: planeNamed("data").at(worker)})
	defer slow.Lift()
	var before uint64 // packets of earlier searches' connections
	p.await("survivors on their way", time.Minute, func() bool {
		_, delivers := p.record.attemptOf(s, func(a *attempt) bool {
			return a.node == worker && a.over && slices.ContainsFunc(p.record.held, func(h holding) bool {
				return h.node == name(worker) && h.Range.First <= a.part.First && a.part.Last <= h.Range.Last
			})
		})
		if !delivers {
			before = slow.Effect().Delayed
		}
		return delivers && slow.Effect().Delayed > before
	})
	return strike{victim: worker}
}

// inFinish is when the leader has just committed a result and its worker was not told.
func (p *phases) inFinish(s *search) strike {
	leader := p.leader()
	return p.on(func(node int, st *jobs.State) (int, bool) {
		j := jobOf(st, s)
		return node, node == leader && j != nil && j.Pieces > 0
	})
}

// inElection is when a leader was killed and its successor has just won.
func (p *phases) inElection(*search) (successor strike) {
	p.Helper()
	old := p.leader()
	term := p.status(old).Term
	p.kill(old)
	p.await("successor", time.Minute, func() bool {
		successor.victim = p.leads()
		return successor.victim >= 0 && p.status(successor.victim).Term > term
	})
	return successor
}

// inFold is when a node has pieces to fold and has not yet begun.
func (p *phases) inFold(s *search) strike {
	return p.on(func(_ int, st *jobs.State) (int, bool) {
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

// inSnapshot is when a node has just written a snapshot: a moment ago there was none.
func (p *phases) inSnapshot(*search) (at strike) {
	p.Helper()
	before := make([]string, len(p.lives))
	for i := range before {
		before[i] = p.newestSnapshot(i)
	}
	var submitted time.Time
	p.await("snapshot", 5*time.Minute, func() bool {
		if time.Since(submitted) > time.Second { // what there is to write of
			p.begin(1000)
			p.clients.Wait()
			submitted = time.Now()
		}
		at.victim = slices.IndexFunc(p.running(), func(i int) bool { return p.newestSnapshot(i) != before[i] })
		return at.victim >= 0
	})
	return at
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
