package chaos

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	rounds = flag.Int("chaos.rounds", 3, "rounds of random faults on three nodes; five nodes get a third of it")
	seed   = flag.Uint64("chaos.seed", 1, "of the random choices; the mesh's own timing is not replayed")
)

const (
	simRate   = 400_000 // seeds a second of every simulated slot
	roundTime = 10      // seconds that the job of a round takes undisturbed
)

func TestRoundsOfThree(t *testing.T) { playRounds(t, 3, *rounds) }
func TestRoundsOfFive(t *testing.T)  { playRounds(t, 5, (*rounds+2)/3) }

// playRounds runs jobs, lets 1 to 3 random faults happen to each, and holds what
// they give against undisturbed runs.
func playRounds(t *testing.T, nodes, count int) {
	m := newMesh(t, nodes, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, uint64(nodes)))
	for round := range count {
		s := m.undisturbed(r, uint64(nodes*simRate*roundTime), 2)
		id := m.submit(m.nodes[r.IntN(nodes)], s)
		var did []string
		for range 1 + r.IntN(3) {
			m.atShare(id, 0.1+0.3*r.Float64())
			did = append(did, m.strike(r))
		}
		m.whole()
		j := m.check(id, s)
		t.Logf("round %d: %s; %d survivors, %d claims given out again: equal", round, strings.Join(did, ", "), s.lines(), j.Reclaimed)
	}
}

// strike makes a random fault happen and mends it after 0 to 3 s.
func (m *mesh) strike(r *rand.Rand) string {
	m.Helper()
	leader := m.leader()
	worker := (leader + 1 + r.IntN(len(m.nodes)-1)) % len(m.nodes)
	away := time.Duration(r.IntN(3000)) * time.Millisecond // the fault: how long it lasts
	what := ""
	switch r.IntN(6) {
	case 0:
		what = m.outage("the leader", away, leader)
	case 1:
		what = m.outage("a worker", away, worker)
	case 2:
		what = m.outage("all nodes", away, r.Perm(len(m.nodes))...)
	case 3:
		what = m.standstill("the leader", away, leader)
	case 4:
		what = m.standstill("a worker", away, worker)
	default:
		what = "no executor ran"
		if m.killExecutor(worker) {
			what = "executor killed"
		}
	}
	return what
}

// outage kills nodes and starts them again after a while, one after the other.
func (m *mesh) outage(role string, away time.Duration, nodes ...int) string {
	m.Helper()
	for _, i := range nodes {
		m.kill(i, role)
	}
	for _, i := range nodes {
		time.Sleep(away / time.Duration(len(nodes))) // the fault: how long nodes stay away
		m.up(i)
	}
	return fmt.Sprintf("%s killed for %v", role, away)
}

// standstill stops nodes with all their processes and lets them go on after a while.
func (m *mesh) standstill(role string, away time.Duration, nodes ...int) string {
	m.Helper()
	var pids []int
	for _, i := range nodes {
		pids = append(pids, m.family(i)...)
	}
	m.freeze(role, pids...)
	time.Sleep(away) // the fault: how long they stand still
	m.thaw(pids...)
	return fmt.Sprintf("%s stopped for %v", role, away)
}

// TestKilledTwiceBeforeRejoin kills a node, starts it, and kills it again before
// the mesh has taken it back.
func TestKilledTwiceBeforeRejoin(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	r := rand.New(rand.NewPCG(*seed, 1))
	s := m.undisturbed(r, 1<<24, 2)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.1)
	victim := (m.leader() + 1) % 3
	for range 3 {
		m.kill(victim, "a node that was just started")
		m.up(victim)
	}
	m.whole()
	m.check(id, s)
}

// TestLeaderAndWorkerTogether kills two of five at once; the job ends without
// them, and they come back to the same ledger.
func TestLeaderAndWorkerTogether(t *testing.T) {
	m := newMesh(t, 5, oneThread)
	r := rand.New(rand.NewPCG(*seed, 2))
	s := m.undisturbed(r, 1<<24, 2)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.1)
	leader := m.leader()
	other := (leader + 1 + r.IntN(4)) % 5
	m.kill(leader, "leader and worker together")
	m.kill(other, "leader and worker together")
	m.ended(id)
	m.up(leader)
	m.up(other)
	m.whole()
	m.check(id, s)
}

// TestExecutorAndAllKilled kills the executor of every node while it works, and then
// all nodes at once, which start again in another order.
func TestExecutorAndAllKilled(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 17))
	s := m.undisturbed(r, 3*simRate*6, 2)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.1)
	for i, p := range m.nodes {
		m.await(startWait, "executor of "+p.name, func() bool { return m.killExecutor(i) })
	}
	m.atShare(id, 0.4)
	m.outage("all nodes", 500*time.Millisecond, r.Perm(3)...)
	m.whole()
	m.check(id, s)
}

// standstills are past every limit of the mesh's clocks: the leader's lease and
// the election (0.15 s), the stall of a leader (0.5 s), the wait for a holder
// (1 s), the leave to start and the expiry of a node (2 s), the dead connection,
// and the patience of a command (10 s and 15 s).
var standstills = []struct {
	role  string
	away  time.Duration
	nodes func(leader int) []int
}{
	{"all nodes", 700 * time.Millisecond, func(int) []int { return []int{0, 1, 2} }},
	{"the leader", 1500 * time.Millisecond, func(l int) []int { return []int{l} }},
	{"leader and worker together", 4 * time.Second, func(l int) []int { return []int{l, (l + 1) % 3} }},
	{"a worker", 20 * time.Second, func(l int) []int { return []int{(l + 1) % 3} }},
	{"the leader", 12 * time.Second, func(l int) []int { return []int{l} }},
	{"all nodes", 16 * time.Second, func(int) []int { return []int{0, 1, 2} }},
}

// TestStandstills stops nodes for longer and longer while a job runs. Those that
// come back after their work was given to others must not get it counted twice.
func TestStandstills(t *testing.T) {
	t.Parallel() // with the frozen executor: both wait more than they work
	list := standstills[:4]
	if *rounds >= 10 {
		list = slices.Concat(standstills, standstills)
	}
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 3))
	for _, st := range list {
		s := m.undisturbed(r, 3*simRate*4, 2)
		id := m.submit(m.nodes[0], s)
		m.atShare(id, 0.1)
		m.standstill(st.role, st.away, st.nodes(m.leader())...)
		m.whole()
		m.check(id, s)
	}
}

// TestFrozenExecutor stops an executor alone for longer than its node lets it be
// silent: the node kills it, and the piece is worked again.
func TestFrozenExecutor(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1, simulated(simRate))
	s := m.undisturbed(rand.New(rand.NewPCG(*seed, 4)), simRate*6, 2)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.1)
	pids := m.executors(m.nodes[0].cmd.Process.Pid)
	if len(pids) != 1 {
		t.Fatalf("%d executors run, want 1", len(pids))
	}
	m.freeze("an executor", pids...)
	m.await(jobWait, "end of the frozen executor", func() bool { return statOf(pids[0]).state != "T" })
	m.check(id, s)
}
