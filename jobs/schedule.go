package jobs

import (
	"cmp"
	"math/bits"
	"slices"
)

// Everything here is a function of the state and a moment: who gets what next,
// and what should be cut, copied or joined.

// A choice is the work that a slot would be given.
type choice struct {
	job      JobID
	stage    uint32
	open     int // position in the stage's open list
	rng      Range
	attempts uint32
	twin     *Claim // of a speculative claim
}

// Offer tells whether the slot would be given a claim at the moment now, when it
// holds fewer than want. It changes nothing, so that idle slots cost no log entries.
func (s *State) Offer(id SlotID, want uint32, now Instant) bool {
	n := s.nodes[id.Node]
	if n == nil || !n.Alive {
		return false
	}
	_, ok := s.pick(id, want, now)
	return ok
}

// pick chooses by priority, then order of submission, then position: the next
// open piece; for a slot with nothing to do, in the end, a second claim on a
// piece that is late.
func (s *State) pick(id SlotID, want uint32, now Instant) (choice, bool) {
	n := s.nodes[id.Node]
	if int(id.Index) >= len(n.Slots) || len(n.Slots[id.Index].Claims) >= int(min(want, 2)) {
		return choice{}, false
	}
	if _, quarantined := n.Slots[id.Index].Quarantined(); quarantined {
		return choice{}, false
	}
	idle := len(n.Slots[id.Index].Claims) == 0
	for _, j := range s.queue {
		if j.State == Paused || !j.takes(n, n.Slots[id.Index]) || s.held(j) || j.MaxParallel > 0 && !idle || !s.Supplied(j, n) {
			continue
		}
		if c, ok := s.pickOpen(j, id, idle, now); ok {
			return c, true
		}
	}
	if !idle {
		return choice{}, false
	}
	for _, j := range s.queue {
		if j.State == Paused || j.Kind == Tasks { // the last task is long, not late
			continue
		}
		if c, ok := s.pickLate(j, id, now); ok {
			return c, true
		}
	}
	return choice{}, false
}

func (s *State) pickOpen(j *Job, id SlotID, idle bool, now Instant) (choice, bool) {
	for i, st := range j.Stages {
		if st.Barrier && !complete(j.Stages[:i]) {
			break
		}
		for k, o := range st.Open {
			if o.NotBefore > now || o.Attempts > 0 && o.Avoid == id && s.fleet.slots > 1 && now < o.NotBefore+avoidMS {
				continue
			}
			size, ok := s.size(j, st, id, idle)
			if !ok {
				break
			}
			head, _, _ := o.take(size)
			return choice{job: j.ID, stage: uint32(i), open: k, rng: head, attempts: o.Attempts}, true
		}
	}
	return choice{}, false
}

func complete(stages []*Stage) bool {
	for _, st := range stages {
		if len(st.Open) > 0 || len(st.claims) > 0 || len(st.Failed) > 0 {
			return false
		}
	}
	return true
}

// size is how many units a slot gets: its rate times the chunk time; less
// towards the end, so that all slots end together; the grain while its rate is
// unknown. A slot that has work already gets nothing reserved from the last scraps.
func (s *State) size(j *Job, st *Stage, id SlotID, idle bool) (uint64, bool) {
	rate := s.slot(id).rate(st.Shape)
	open := st.openUnits()
	if rate == 0 {
		share := max(open/max(2*uint64(s.fleet.slots), 1), 1)
		return min(st.Grain, share, MaxClaimSeeds), idle
	}
	least := max(mulDiv(rate, min(probeTimeMS, j.ChunkTimeMS), rateTimeMS), 1)
	share := mulDiv(open, rate, max(2*s.fleet.rates[st.Shape], 1))
	if !idle && share < least {
		return 0, false
	}
	full := mulDiv(rate, j.ChunkTimeMS, rateTimeMS)
	return min(max(min(full, share), least), MaxClaimSeeds), true
}

func (st *Stage) openUnits() uint64 {
	var total Count
	for _, o := range st.Open {
		if !o.Blocked() {
			total = total.Add(o.Size())
		}
	}
	return total.Saturated()
}

// mulDiv is a*b/c without overflow, at most 2^64-1.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return 1<<64 - 1
	}
	q, _ := bits.Div64(hi, lo, c)
	return q
}

// pickLate finds the claim that would end last and that this slot would end
// sooner, or that is long overdue.
func (s *State) pickLate(j *Job, id SlotID, now Instant) (choice, bool) {
	var best *Claim
	var bestEnd Instant
	var stage uint32
	for i, st := range j.Stages {
		mine := s.slot(id).rate(st.Shape)
		for _, c := range st.claims {
			if c.Twin != 0 || c.Slot == id || c.Attempts >= j.Attempts {
				continue
			}
			end, overdue := s.expectedEnd(j, st, c)
			late := now > overdue
			sooner := mine > 0 && now+duration(c.Range, mine)+probeTimeMS < end
			if (late || sooner) && (best == nil || end > bestEnd) {
				best, bestEnd, stage = c, end, uint32(i)
			}
		}
	}
	if best == nil {
		return choice{}, false
	}
	return choice{job: j.ID, stage: stage, rng: best.Range, attempts: best.Attempts, twin: best}, true
}

// expectedEnd is when a claim should end by its slot's rate, and when it is so
// late that a second slot should try.
func (s *State) expectedEnd(j *Job, st *Stage, c *Claim) (end, overdue Instant) {
	start := c.StartedAt
	sl := s.slot(c.Slot)
	rate := sl.rate(st.Shape)
	if start == notStarted {
		first := s.claims[sl.Claims[0]]
		start, _ = s.expectedEnd(s.jobs[first.Job], s.jobs[first.Job].Stages[first.Stage], first)
	}
	need := Instant(j.ChunkTimeMS)
	if rate > 0 {
		need = duration(c.Range, rate)
	}
	return start + need, start + 3*need + 2_000
}

// duration is how many ms a slot of the given rate needs for r.
func duration(r Range, rate uint64) Instant {
	const longest = 1 << 50
	return Instant(min(mulDiv(r.Size().Saturated(), rateTimeMS, rate), longest))
}

// rateTimeMS is the time in ms that a rate counts the units of.
const rateTimeMS = 1_000_000

// rate is the slot's rate for a shape, 0 when unknown.
func (sl *Slot) rate(shape string) uint64 {
	for _, r := range sl.Rates {
		if r.Shape == shape {
			return r.Rate
		}
	}
	return 0
}

// measure learns a slot's rate from a finished piece, as a moving average.
func (s *State) measure(id SlotID, shape string, done Range, busyMS uint64) {
	if busyMS == 0 {
		return
	}
	seen := max(mulDiv(done.Size().Saturated(), rateTimeMS, busyMS), 1)
	sl := s.slot(id)
	old := sl.rate(shape)
	rate := seen
	if old > 0 {
		rate = max(mulDiv(old, 7, 10)+mulDiv(seen, 3, 10), 1)
	}
	kept := make([]ShapeRate, 0, len(sl.Rates)+1)
	for _, r := range sl.Rates {
		if r.Shape != shape {
			kept = append(kept, r)
		}
	}
	if len(kept) == MaxShapesAtSlot {
		s.fleet.learned(kept[0].Shape, kept[0].Rate, 0)
		kept = kept[1:]
	}
	s.change(&slotRecord{id, sl}, func() { sl.Rates = append(kept, ShapeRate{shape, rate}) })
	s.fleet.learned(shape, old, rate)
}

// fleet sums up all living slots. It follows from the rest of the state and is
// kept true by whoever changes that, so that looking at a state writes nothing.
type fleet struct {
	slots int
	rates map[string]uint64 // by shape: the sum of the known rates
}

// join counts a living node's slots in.
func (f *fleet) join(n *Node) {
	f.slots += len(n.Slots)
	for _, sl := range n.Slots {
		for _, r := range sl.Rates {
			f.learned(r.Shape, 0, r.Rate)
		}
	}
}

// leave counts a node's slots out, if they were in.
func (f *fleet) leave(n *Node) {
	if !n.Alive {
		return
	}
	f.slots -= len(n.Slots)
	for _, sl := range n.Slots {
		for _, r := range sl.Rates {
			f.learned(r.Shape, r.Rate, 0)
		}
	}
}

// learned adjusts a sum to a slot's new rate.
func (f *fleet) learned(shape string, old, rate uint64) {
	if f.rates[shape] += rate - old; f.rates[shape] == 0 {
		delete(f.rates, shape)
	}
}

// TrimPlan names the claims that should give up a part, because slots stand idle
// and nothing is open: reserved ones first, then running ones with more than
// trimWorthMS to go, the longest first. At most one claim for each idle slot.
func (s *State) TrimPlan(now Instant) []Claim {
	idle := s.idleSlots(func(*Node, *Slot) bool { return true })
	if idle == 0 {
		return nil
	}
	var reserved, running []Claim
	ends := map[uint64]Instant{} // of the running, by their fences
	for _, j := range s.queue {
		suits := func(n *Node, sl *Slot) bool { return j.takes(n, sl) && s.Supplied(j, n) }
		if j.State == Paused || s.held(j) || j.Kind == Tasks && s.idleSlots(suits) == 0 {
			continue
		}
		for i, st := range j.Stages {
			if st.Barrier && !complete(j.Stages[:i]) {
				break
			}
			if st.openUnits() > 0 {
				return nil
			}
			for _, c := range st.claims {
				end, _ := s.expectedEnd(j, st, c)
				switch {
				case c.Twin != 0:
				case c.StartedAt == notStarted:
					reserved = append(reserved, *c)
				case end > now+trimWorthMS && s.slot(c.Slot).rate(st.Shape) > 0:
					running = append(running, *c)
					ends[c.Fence] = end
				}
			}
		}
	}
	slices.SortStableFunc(running, func(a, b Claim) int { return cmp.Compare(ends[b.Fence], ends[a.Fence]) })
	all := append(reserved, running...)
	return all[:min(idle, len(all))]
}

// idleSlots counts the living slots that have nothing, of those that will do.
func (s *State) idleSlots(will func(*Node, *Slot) bool) (idle int) {
	for _, n := range s.nodes {
		if !n.Alive {
			continue
		}
		for _, sl := range n.Slots {
			if _, quarantined := sl.Quarantined(); !quarantined && len(sl.Claims) == 0 && will(n, sl) {
				idle++
			}
		}
	}
	return idle
}

// trimWorthMS is how much of a claim must be left for a trim to be worth it: two
// pieces of probeTimeMS.
const trimWorthMS = 2 * probeTimeMS

// Limits of folding: how many neighbours make a fold worth it, and how large a
// folded blob may grow.
const (
	foldLeast    = 32
	foldMost     = 4096
	foldMaxBytes = 64 << 20
)

// A FoldTask is a run of committed pieces whose blobs should become one.
type FoldTask struct {
	Job       JobID
	Stage     uint32
	Range     Range
	Survivors uint64
	Pieces    []Piece
}

// FoldPlan finds a run of pieces that node should fold: every run has one
// living node to do it, the first holder of its first blob that lives.
func (s *State) FoldPlan(node NodeID) (FoldTask, bool) {
	for _, j := range s.jobsBySeq() {
		for i, st := range j.Stages {
			if len(st.Done) < foldLeast {
				continue
			}
			for from := 0; from < len(st.Done); {
				to, survivors := foldRun(st.Done, from)
				if to-from >= foldLeast && s.folder(st.Done[from:to]) == node {
					run := st.Done[from:to]
					return FoldTask{j.ID, uint32(i), Range{run[0].First, run[len(run)-1].Last}, survivors, clonePieces(run)}, true
				}
				from = to
			}
		}
	}
	return FoldTask{}, false
}

// foldRun finds the longest run of adjacent pieces from a position on that fits
// into one blob. A piece that is not loose is a run of its own.
func foldRun(done []Piece, from int) (to int, survivors uint64) {
	var bytes uint64
	for to = from; to < len(done) && to-from < foldMost; to++ {
		p := done[to]
		if to > from && (!done[to-1].follows(p.Range) || bytes+p.Bytes > foldMaxBytes || !loose(p) || !loose(done[to-1])) {
			break
		}
		bytes += p.Bytes
		survivors += p.Survivors
	}
	return to, survivors
}

// loose tells whether a piece is worth folding, and not lost.
func loose(p Piece) bool {
	return p.Bytes <= foldMaxBytes/4 && (p.Survivors == 0 || len(p.Holders) > 0)
}

func (s *State) folder(run []Piece) NodeID {
	for _, p := range run {
		for _, h := range p.Holders {
			if n := s.nodes[h]; n != nil && n.Alive {
				return h
			}
		}
	}
	return NodeID{}
}

// repairDelayMS is how long a holder may be away before its pieces are copied.
const repairDelayMS = 5_000

// A RepairTask is a piece with too few living holders, and who should fetch it.
type RepairTask struct {
	Job   JobID
	Stage uint32
	Piece Piece
}

// RepairPlan lists, up to limit, the pieces that node should fetch a copy of:
// of each under-replicated piece with a living holder, the first living node
// behind its holders in the order of ids that has no copy.
func (s *State) RepairPlan(node NodeID, now Instant, limit int) []RepairTask {
	var plan []RepairTask
	order := sortedKeys(s.nodes, compareNodes)
	s.underHeld(now-repairDelayMS, func(j *Job, stage uint32, p Piece) bool {
		if s.repairer(order, p) == node {
			p.Holders = append([]NodeID(nil), p.Holders...)
			plan = append(plan, RepairTask{j.ID, stage, p})
		}
		return len(plan) < limit
	})
	return plan
}

func (s *State) repairer(order []NodeID, p Piece) NodeID {
	start := 0
	for i, id := range order {
		if id == p.Holders[0] {
			start = i
		}
	}
	for k := range order {
		n := s.nodes[order[(start+k)%len(order)]]
		if n.Alive && !holds(p, n.ID) {
			return n.ID
		}
	}
	return NodeID{}
}

func holds(p Piece, id NodeID) bool {
	for _, h := range p.Holders {
		if h == id {
			return true
		}
	}
	return false
}

// underHeld visits the pieces that have fewer present holders than they need
// but at least one. A holder is present when it lives or left after since.
func (s *State) underHeld(since Instant, visit func(*Job, uint32, Piece) bool) {
	need := s.CopiesRequired()
	for _, j := range s.jobsBySeq() {
		for i, st := range j.Stages {
			for _, p := range st.Done {
				if p.Survivors == 0 {
					continue
				}
				alive, present := 0, 0
				for _, h := range p.Holders {
					n := s.nodes[h]
					switch {
					case n == nil:
					case n.Alive:
						alive++
						present++
					case n.Since > since:
						present++
					}
				}
				if alive > 0 && present < need && !visit(j, uint32(i), p) {
					return
				}
			}
		}
	}
}

func clonePieces(ps []Piece) []Piece {
	out := append([]Piece(nil), ps...)
	for i := range out {
		out[i].Holders = append([]NodeID(nil), out[i].Holders...)
	}
	return out
}
