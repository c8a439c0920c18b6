package jobs

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "replay this one simulation")
	simSeeds = flag.Uint64("sim.seeds", 300, "how many simulations to run")
	simSteps = flag.Int("sim.steps", 3000, "operations of one simulation")
)

// TestLedgerUnderFaults runs a mesh of workers against the ledger over a network
// that loses, repeats and delays, with nodes that die and come back, and checks
// the invariants after each step. Every choice comes from one seed.
func TestLedgerUnderFaults(t *testing.T) {
	if *simSeed != 0 {
		runSim(t, *simSeed)
		return
	}
	for shard := range uint64(8) {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for seed := shard + 1; seed <= *simSeeds; seed += 8 {
				runSim(t, seed)
			}
		})
	}
}

func runSim(t *testing.T, seed uint64) {
	t.Helper()
	sim := newSim(seed)
	if err := sim.run(*simSteps); err != nil {
		t.Fatalf("seed %d: %v\nreplay: go test ./jobs -run LedgerUnderFaults -sim.seed=%d", seed, err, seed)
	}
}

type simNode struct {
	id    NodeID
	inc   uint64
	up    bool
	slots int
}

// sim is a mesh as the ledger sees it: commands that arrive, late, twice or never.
type sim struct {
	*rand.Rand
	leader, replica *State
	nodes           []*simNode
	wire            []Request // on their way to the leader
	clock           Instant   // of the present leader
	step            int
	nextID          uint64
	submitted       map[string]Digest
	ended           map[JobID]JobState
	log             [][]byte // entries, when kept
	keepLog         bool
	maxQueue        int // jobs at once: with few, slots stand idle and claims are worked on twice
	finishes        int
	faults          int
}

func newSim(seed uint64) *sim {
	m := &sim{
		Rand: rand.New(rand.NewPCG(seed, 0)), leader: NewState(), replica: NewState(),
		submitted: map[string]Digest{}, ended: map[JobID]JobState{},
	}
	m.maxQueue = m.IntN(7)
	for i := range 2 + m.IntN(4) {
		m.nodes = append(m.nodes, &simNode{id: NodeID{byte(i + 1)}, slots: 1 + m.IntN(3)})
	}
	return m
}

func (m *sim) run(steps int) error {
	if err := m.members(); err != nil {
		return err
	}
	for m.step = 1; m.step <= steps; m.step++ {
		m.clock += Instant(m.IntN(400))
		m.act()
		if err := m.deliver(); err != nil {
			return fmt.Errorf("step %d: %w", m.step, err)
		}
	}
	if m.finishes == 0 || m.faults == 0 {
		return fmt.Errorf("nothing happened: %d finishes, %d faults", m.finishes, m.faults)
	}
	return m.drain()
}

func (m *sim) members() error {
	if err := m.commit(Request{Command: &Admit{Node: m.nodes[0].id, Name: "n0", Role: Voter}}); err != nil {
		return err
	}
	token := Token{Hash: Digest{9}, Role: Voter, ExpiresMS: 1000, Uses: MaxNodes}
	if err := m.commit(Request{Command: &Mint{token}}); err != nil {
		return err
	}
	for i, n := range m.nodes[1:] {
		if err := m.commit(Request{Command: &Admit{Node: n.id, Name: fmt.Sprintf("n%d", i+1), Token: token.Hash}}); err != nil {
			return err
		}
	}
	for _, n := range m.nodes {
		m.start(n)
	}
	return nil
}

func (m *sim) start(n *simNode) {
	n.inc++
	n.up = true
	m.send(&Hello{Node: n.id, Incarnation: n.inc, Slots: make([]SlotSpec, n.slots)})
}

func (m *sim) send(c Command) { m.wire = append(m.wire, Request{Command: c}) }

// act lets one thing happen: a user, a worker, a fault.
func (m *sim) act() {
	n := m.nodes[m.IntN(len(m.nodes))]
	switch p := m.IntN(100); {
	case p < 4:
		m.submit()
	case p < 6:
		m.control()
	case p < 8: // killed; back at once, or later
		n.up = false
		m.faults++
		if m.IntN(2) == 0 {
			m.start(n)
		}
	case p < 11:
		if !n.up {
			m.start(n)
		}
	case p < 12 && m.IntN(8) == 0: // removed for good, and admitted again
		m.faults++
		m.send(&Forget{n.id})
		m.send(&Admit{Node: n.id, Name: fmt.Sprintf("n%d", m.IntN(6)), Token: Digest{9}})
	case p < 13: // the leader takes a node for dead, rightly or not
		m.faults++
		if ledger := m.leader.Node(n.id); ledger != nil {
			m.send(&Expire{n.id, ledger.Incarnation})
		}
	case p < 14: // a new leader, whose clock is behind
		m.clock -= Instant(m.IntN(int(m.clock)/2 + 1))
	case p < 15:
		_ = m.resolve(func(r Request) error { m.send(r.Command); return nil }) // it never fails
	case p < 17:
		m.upkeep(n)
	case p < 19:
		m.preload(n)
	case p < 21:
		m.quarantine(n)
	case p < 55:
		if n.up {
			m.send(&Take{SlotID{n.id, uint32(m.IntN(n.slots))}, n.inc, uint32(1 + m.IntN(2))})
		}
	default:
		m.work(n)
	}
}

// ranges are awkward on purpose: short, long, and at both ends of the space.
func (m *sim) someRange() Range {
	switch kind := m.IntN(5); {
	case kind == 0 && m.maxQueue > 2: // never ends, so that nothing is ever late
		return Range{0, 1<<64 - 1}
	case kind == 1:
		return Range{1<<64 - 1 - uint64(m.IntN(100_000)), 1<<64 - 1}
	case kind == 2:
		first := m.Uint64() >> 1
		return Range{first, first}
	default:
		first := uint64(m.IntN(1 << 40))
		return Range{first, first + uint64(m.IntN(1_000_000))}
	}
}

func (m *sim) submit() {
	if len(m.leader.queue) > m.maxQueue {
		return
	}
	m.nextID++
	c := &Submit{
		ID: JobID(m.nextID), Key: fmt.Sprintf("key-%d", m.IntN(40)), RequestDigest: Digest{byte(m.IntN(2))}, Kind: Seeds + Kind(m.IntN(2)),
		Name: "job", Spec: []byte{1, 2, 3}, Priority: int32(m.IntN(3)), ChunkTimeMS: uint64(100 + m.IntN(5000)),
		Attempts: uint32(1 + m.IntN(4)), Stages: make([]StageSpec, 1+m.IntN(3)),
	}
	for i := range c.Stages {
		r := m.someRange()
		if r.Size().Hi > 0 { // the whole space would never end at these rates: one small piece of it is left
			c.ChunkTimeMS = 1
		}
		c.Stages[i] = StageSpec{Label: "g", Range: r, Grain: 1 + r.Size().Saturated()/uint64(2+m.IntN(40)), Shape: fmt.Sprintf("s%d", m.IntN(2*MaxShapesAtSlot)), Barrier: m.IntN(4) == 0}
	}
	if c.Kind != Tasks || m.IntN(2) == 0 {
		m.wire = append(m.wire, Request{ID: m.requestID(), Command: c})
		return
	}
	x := &SubmitTasks{Submit: *c, Terms: Terms{MaxParallel: uint32(m.IntN(3)), Ready: uint64(m.IntN(3) * m.IntN(100_000)), MemoryMiB: uint64(m.IntN(2) * m.IntN(3))}}
	if all := m.leader.Jobs(); len(all) > 0 && m.IntN(2) == 0 {
		x.After = append(x.After, Dependency{all[m.IntN(len(all))].ID, m.IntN(2) == 0})
	}
	if m.IntN(2) == 0 {
		m.wire = append(m.wire, Request{ID: m.requestID(), Command: &SubmitRequiring{SubmitTasks: *x, Preloads: []string{"p" + fmt.Sprint(m.IntN(3))}}})
		return
	}
	m.wire = append(m.wire, Request{ID: m.requestID(), Command: x})
}

// resolve lets some of the tasks that are held back start, and sets others aside,
// and is sometimes wrong about what is held back.
func (m *sim) resolve(send func(Request) error) error {
	for _, j := range m.leader.Jobs() {
		for i, st := range j.Stages {
			for _, r := range st.HeldBack() {
				x := &Resolve{Job: j.ID, Stage: uint32(i)}
				head, rest, more := r.take(1 + m.Uint64N(2*(r.Last-r.First)|1))
				if x.Ready = append(x.Ready, head, head); more && m.IntN(2) == 0 {
					x.Aside = append(x.Aside, Failure{Range: rest, Class: "c", Message: "m"})
				}
				if err := send(Request{Command: x}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// quarantine has a slot quarantined, by a node or a person, released or readmitted.
func (m *sim) quarantine(n *simNode) {
	id := SlotID{n.id, uint32(m.IntN(n.slots))}
	switch m.IntN(6) {
	case 0:
		m.send(&Quarantine{Node: n.id, Incarnation: n.inc, Slot: id, Life: n.inc, Reason: "it lies"})
	case 1:
		m.send(&Confine{Slot: id, Reason: "it smells"})
	default:
		m.release(id, n, m.send)
	}
}

// release releases a slot, and has its node readmit it if it was released before.
func (m *sim) release(id SlotID, n *simNode, do func(Command)) {
	ledger := m.leader.Node(n.id)
	if ledger == nil || int(id.Index) >= len(ledger.Slots) {
		return
	}
	if _, yes := ledger.Slots[id.Index].Quarantined(); yes {
		do(&Confine{Slot: id, Lift: true})
	}
	if since, yes := m.leader.Node(n.id).Slots[id.Index].Released(); yes {
		do(&Readmit{Slot: id, Incarnation: n.inc, Since: since})
	}
}

// preload puts one, drops one, asks for a verification, or has a node say how one stands.
func (m *sim) preload(n *simNode) {
	name := "p" + fmt.Sprint(m.IntN(3))
	switch m.IntN(8) {
	case 0:
		m.send(&DropPreload{name})
	case 1:
		m.send(&CheckPreload{name})
	case 2, 3:
		m.send(m.put(name))
	default:
		m.send(&Report{name, Load{Node: n.id, Incarnation: n.inc, Round: uint64(m.IntN(3)), Ready: m.IntN(3) > 0}})
	}
}

func (m *sim) put(name string) *PutPreload {
	return &PutPreload{Name: name, Path: "/" + name, To: "all", Files: []PreloadFile{{"f", Digest{1}, 1, false}}}
}

func (m *sim) requestID() (id [16]byte) {
	for i := range id {
		id[i] = byte(m.Uint32())
	}
	return id
}

func (m *sim) control() {
	all := m.leader.Jobs()
	if len(all) == 0 {
		return
	}
	j := all[m.IntN(len(all))]
	action := []Action{Pause, Resume, Resume, Resume, SetPriority, Cancel, Remove}[m.IntN(7)]
	m.wire = append(m.wire, Request{m.requestID(), &Control{j.ID, action, int32(m.IntN(3))}})
}

// upkeep is what nodes do beside their work: fold, repair, find a blob lost, trim.
func (m *sim) upkeep(n *simNode) {
	if f, ok := m.leader.FoldPlan(n.id); ok {
		m.send(&Fold{f.Job, f.Stage, f.Range, f.Survivors, m.blob(f.Survivors), f.Survivors * 16, n.id, m.holders(f.Survivors)})
		return
	}
	if plan := m.leader.RepairPlan(n.id, m.clock, 3); len(plan) > 0 {
		r := plan[m.IntN(len(plan))]
		m.send(&Hold{r.Job, r.Stage, r.Piece.First, r.Piece.Blob, n.id})
		return
	}
	trims := m.leader.TrimPlan(m.clock)
	if m.IntN(4) == 0 { // a worker may shorten what it holds at any time
		trims = m.leader.Claims(SlotID{n.id, uint32(m.IntN(n.slots))})
	}
	if len(trims) > 0 {
		c := trims[0]
		m.send(&Trim{c.Fence, c.Slot.Node, c.Incarnation, c.Range.First + (c.Range.Last-c.Range.First)/2})
		return
	}
	if m.IntN(4) == 0 {
		m.loseBlob(n)
	}
}

func (m *sim) loseBlob(n *simNode) {
	for _, j := range m.leader.Jobs() {
		for i, st := range j.Stages {
			for _, p := range st.Done {
				if holds(p, n.id) && m.IntN(3) == 0 {
					m.faults++
					m.send(&Drop{j.ID, uint32(i), p.First, p.Blob, n.id})
					return
				}
			}
		}
	}
}

func (m *sim) blob(survivors uint64) Digest {
	if survivors == 0 {
		return Digest{}
	}
	return Digest{byte(m.Uint32()), byte(m.Uint32()), byte(m.Uint32()), 1}
}

func (m *sim) holders(survivors uint64) (ids []NodeID) {
	if survivors > 0 {
		for _, n := range m.nodes {
			if n.up && len(ids) < 2 {
				ids = append(ids, n.id)
			}
		}
	}
	return ids
}

// work ends a claim that the node holds, or one that it held long ago.
func (m *sim) work(n *simNode) {
	if !n.up {
		return
	}
	held := m.leader.Claims(SlotID{n.id, uint32(m.IntN(n.slots))})
	if len(held) == 0 {
		if m.leader.fence > 0 { // a finish from the past
			m.faults++
			f := 1 + m.Uint64N(m.leader.fence)
			m.send(&Finish{Fence: f, Node: n.id, Incarnation: max(n.inc, 1) - uint64(m.IntN(2)), Last: m.Uint64()})
		}
		return
	}
	c := held[0]
	switch m.IntN(10) {
	case 0:
		m.faults++
		part := Range{c.Range.First + m.Uint64N(c.Range.Last-c.Range.First+1|1)/2, c.Range.Last}
		m.send(&Fail{c.Fence, n.id, n.inc, part, "test", "planted failure"})
	case 1:
		m.send(&Release{held[len(held)-1].Fence, n.id, n.inc})
	default:
		last := c.Range.Last
		if m.IntN(4) == 0 {
			last = c.Range.First + (c.Range.Last-c.Range.First)/3
		}
		if m.leader.Job(c.Job).Kind == Tasks {
			m.send(m.settle(n, c, last))
			return
		}
		var survivors uint64
		if m.IntN(2) == 0 {
			survivors = uint64(m.IntN(50))
		}
		f := &Finish{
			Fence: c.Fence, Node: n.id, Incarnation: n.inc, Last: last, Account: AccountOf(Range{c.Range.First, last}), Survivors: survivors,
			Blob: m.blob(survivors), Bytes: survivors * 16, Holders: m.holders(survivors), BusyMS: uint64(1 + m.IntN(9000)),
		}
		if m.IntN(20) == 0 {
			m.faults++
			f.Account.Sum++ // an executor that skipped a seed
		}
		m.send(f)
	}
}

// settle commits tasks of a claim, some of which fail; now and then with a wrong account.
func (m *sim) settle(n *simNode, c Claim, last uint64) *Settle {
	x := &Settle{
		Fence: c.Fence, Node: n.id, Incarnation: n.inc, Last: last, More: m.IntN(2) == 0, Account: AccountOf(Range{c.Range.First, last}),
		Blob: m.blob(1), Bytes: 64, Holders: m.holders(1), BusyMS: uint64(1 + m.IntN(9000)),
	}
	for first := c.Range.First; m.IntN(3) == 0 && len(x.Failed) < MaxFailures; {
		f := first + m.Uint64N(last-first+1|1)/2
		r := Range{f, f + (last-f)/4}
		x.Failed = append(x.Failed, Failure{r, m.IntN(4) == 0, "test", "planted failure"})
		x.Account = x.Account.Sub(AccountOf(r))
		if r.Last == last {
			break
		}
		first = r.Last + 1
	}
	if m.IntN(20) == 0 {
		m.faults++
		x.Account.Count++ // an executor that left a task out
	}
	return x
}

// deliver lets messages arrive: in any order, some never, some again.
func (m *sim) deliver() error {
	for len(m.wire) > 0 && m.IntN(5) > 0 {
		i := m.IntN(len(m.wire))
		r := m.wire[i]
		switch m.IntN(12) {
		case 0:
			m.faults++
			m.wire = slices.Delete(m.wire, i, i+1)
			continue
		case 1:
			m.faults++ // delivered now and again later
		default:
			m.wire = slices.Delete(m.wire, i, i+1)
		}
		if err := m.commit(r); err != nil {
			return fmt.Errorf("%T: %w", r.Command, err)
		}
	}
	if len(m.wire) > 200 {
		m.wire = m.wire[100:]
	}
	return nil
}

// commit puts a request through the log: both replicas get the same bytes.
func (m *sim) commit(r Request) error {
	before := m.expectation(r.Command)
	entry := Entry{At: m.clock, Requests: []Request{r}}
	b := entry.Encode()
	if m.keepLog {
		m.log = append(m.log, b)
	}
	var outcome Outcome
	for _, s := range []*State{m.leader, m.replica} {
		e, err := DecodeEntry(b)
		if err != nil {
			return err
		}
		if !bytes.Equal(e.Encode(), b) {
			return fmt.Errorf("entry changes when coded again")
		}
		outcome = s.Apply(e)[0]
	}
	if err := before.check(m, r.Command, outcome); err != nil {
		return err
	}
	return m.check()
}
