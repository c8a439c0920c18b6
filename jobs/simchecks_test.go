package jobs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// What the simulation of sim_test.go demands: of every outcome, of every ledger that it
// passes through, and of the end of its work.

// expectation is what must hold after a command, noted before it.
type expectation struct {
	now    Instant
	fence  uint64
	claim  *Claim // that the command speaks of, when it is current
	digest Digest
}

func (m *sim) expectation(c Command) expectation {
	e := expectation{now: m.leader.now, fence: m.leader.fence, digest: m.leader.Digest()}
	var fence, inc uint64
	var node NodeID
	switch c := c.(type) {
	case *Finish:
		fence, inc, node = c.Fence, c.Incarnation, c.Node
	case *Settle:
		fence, inc, node = c.Fence, c.Incarnation, c.Node
	case *Fail:
		fence, inc, node = c.Fence, c.Incarnation, c.Node
	case *Trim:
		fence, inc, node = c.Fence, c.Incarnation, c.Node
	case *Release:
		fence, inc, node = c.Fence, c.Incarnation, c.Node
	}
	if held, ok := m.leader.Claim(fence); ok && held.Incarnation == inc && held.Slot.Node == node {
		e.claim = &held
	}
	return e
}

func (e expectation) check(m *sim, c Command, o Outcome) error {
	if m.leader.now < e.now {
		return fmt.Errorf("log time went back from %d to %d", e.now, m.leader.now)
	}
	switch c := c.(type) {
	case *Finish:
		if o.Err() != nil {
			break
		}
		m.finishes++
		if e.claim == nil {
			return fmt.Errorf("finish of the stale claim %d accepted", c.Fence)
		}
		if c.Last > e.claim.Range.Last || c.Account != AccountOf(Range{e.claim.Range.First, c.Last}) {
			return fmt.Errorf("finish up to %d with account %v accepted for %s", c.Last, c.Account, e.claim.Range)
		}
		if c.Survivors > 0 && len(c.Holders) < m.leader.CopiesRequired() {
			return fmt.Errorf("finish with %d holders accepted", len(c.Holders))
		}
	case *Settle:
		if o.Err() != nil {
			break
		}
		if e.claim != nil && c.Last < e.claim.Range.First { // said twice
			if m.leader.Digest() != e.digest && m.leader.now == e.now {
				return fmt.Errorf("settle up to %d, said again, changed the ledger", c.Last)
			}
			break
		}
		m.finishes++
		if e.claim == nil || c.Last > e.claim.Range.Last || len(c.Holders) < m.leader.CopiesRequired() {
			return fmt.Errorf("settle %+v accepted for %+v", c, e.claim)
		}
		account := c.Account
		for _, f := range c.Failed {
			account = account.Add(AccountOf(f.Range))
		}
		if account != AccountOf(Range{e.claim.Range.First, c.Last}) {
			return fmt.Errorf("settle up to %d with account %v accepted for %s", c.Last, c.Account, e.claim.Range)
		}
	case *Fail, *Trim, *Release:
		if o.Err() == nil && e.claim == nil {
			return fmt.Errorf("%T of a stale claim accepted", c)
		}
	case *Take:
		if o.Claim != nil && (o.Claim.Fence <= e.fence || m.leader.Job(o.Claim.Job).State != Running && m.leader.Job(o.Claim.Job).State != Queued) {
			return fmt.Errorf("claim %+v granted at fence %d", o.Claim, e.fence)
		}
		if o.Claim != nil && !m.leader.Supplied(m.leader.Job(o.Claim.Job), m.leader.Node(c.Slot.Node)) {
			return fmt.Errorf("claim %+v granted to a node without the preloads of its job", o.Claim)
		}
	case *Hello:
		if o.Err() == nil {
			for fence, held := range m.leader.claims {
				if held.Slot.Node == c.Node && held.Incarnation < c.Incarnation {
					return fmt.Errorf("claim %d outlived its incarnation", fence)
				}
			}
		}
	case *SubmitRequiring:
		return e.check(m, &c.Submit, o)
	case *SubmitTasks:
		return e.check(m, &c.Submit, o)
	case *Submit:
		if o.Err() == nil {
			if was, known := m.submitted[c.Key]; known && was != c.RequestDigest && m.leader.keys[c.Key].Request != c.RequestDigest {
				return fmt.Errorf("key %s gave job %s for another request", c.Key, o.Job)
			}
			m.submitted[c.Key] = c.RequestDigest
		}
	}
	return nil
}

// check holds the ledger against its invariants.
func (m *sim) check() error {
	s := m.leader
	if s.Digest() != m.replica.Digest() {
		return fmt.Errorf("replicas differ")
	}
	if m.IntN(64) == 0 {
		if err := m.checkSnapshot(); err != nil {
			return err
		}
	}
	perKey := map[string]int{}
	for id, j := range s.jobs {
		if perKey[j.Key]++; perKey[j.Key] > 1 {
			return fmt.Errorf("two jobs under key %s", j.Key)
		}
		if was, ended := m.ended[id]; ended && j.State != was {
			return fmt.Errorf("job %s was %s and is %s", id, was, j.State)
		}
		if j.State.Terminal() {
			m.ended[id] = j.State
		}
		if err := checkJob(s, j); err != nil {
			return fmt.Errorf("job %s: %w", id, err)
		}
	}
	return checkSlots(s)
}

func (m *sim) checkSnapshot() error {
	b := m.leader.Snapshot()
	restored, err := Restore(b)
	switch {
	case err != nil:
		return fmt.Errorf("restore: %w", err)
	case restored.Digest() != m.leader.Digest():
		return fmt.Errorf("the digest kept step by step is not that of the records")
	case !reflect.DeepEqual(restored.fleet, m.leader.fleet):
		return fmt.Errorf("the sums over the slots kept step by step are %v, recomputed %v", m.leader.fleet, restored.fleet)
	case !bytes.Equal(restored.Snapshot(), b):
		return fmt.Errorf("snapshot changes when restored")
	}
	m.replica = restored // goes on from the snapshot, as a node that was away
	return nil
}

// checkJob checks that every unit is in exactly one place, and the sums.
func checkJob(s *State, j *Job) error {
	var survivors uint64
	for i, st := range j.Stages {
		var all []Range
		for _, o := range st.Open {
			all = append(all, o.Range)
		}
		for _, f := range st.Failed {
			all = append(all, f.Range)
		}
		var account Account
		for _, p := range st.Done {
			all = append(all, p.Range)
			account = account.Add(AccountOf(p.Range))
			survivors += p.Survivors
			if p.Survivors > 0 && len(p.Holders) == 0 && !j.State.Terminal() {
				return fmt.Errorf("piece %s has no holder", p.Range)
			}
		}
		for _, c := range st.claims {
			if s.claims[c.Fence] != c || j.State.Terminal() {
				return fmt.Errorf("claim %d is dangling", c.Fence)
			}
			if !c.Speculative {
				all = append(all, c.Range)
			} else if twin := s.claims[c.Twin]; twin == nil || twin.Range != c.Range || twin.Speculative || twin.Twin != c.Fence {
				return fmt.Errorf("speculative claim %d without its twin", c.Fence)
			}
		}
		slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
		next := st.Range.First
		for k, r := range all {
			if r.First != next || !st.Range.Contains(r) || !r.Valid() {
				return fmt.Errorf("stage %d: unit %d is in no place or two: %v", i, next, all)
			}
			next = r.Last + 1
			if k == len(all)-1 && r.Last != st.Range.Last {
				return fmt.Errorf("stage %d ends at %d", i, r.Last)
			}
		}
		if account != st.Account {
			return fmt.Errorf("stage %d: account %v, pieces give %v", i, st.Account, account)
		}
		if j.State == Done && (len(st.Open)+len(st.Failed) > 0 || st.Account != AccountOf(st.Range)) {
			return fmt.Errorf("done with a gap")
		}
	}
	if survivors != j.Survivors {
		return fmt.Errorf("%d survivors counted, pieces have %d", j.Survivors, survivors)
	}
	return nil
}

func checkSlots(s *State) error {
	held := 0
	for _, n := range s.nodes {
		for i, sl := range n.Slots {
			if len(sl.Claims) > 2 {
				return fmt.Errorf("slot %d of %s holds %d claims", i, n.Name, len(sl.Claims))
			}
			if reason, yes := sl.Quarantined(); yes && len(sl.Claims) > 0 {
				return fmt.Errorf("slot %d of %s, quarantined for %q, holds %d claims", i, n.Name, reason, len(sl.Claims))
			}
			for k, fence := range sl.Claims {
				c := s.claims[fence]
				if c == nil || !n.Alive || c.Incarnation != n.Incarnation || (c.StartedAt == notStarted) != (k == 1) {
					return fmt.Errorf("slot %d of %s: claim %d is %+v", i, n.Name, fence, c)
				}
				held++
			}
		}
	}
	if held != len(s.claims) {
		return fmt.Errorf("%d claims, slots hold %d", len(s.claims), held)
	}
	return nil
}

// drain heals everything and works without faults until nothing is left to do,
// then checks that the ledger has folded to its bound.
func (m *sim) drain() error {
	m.wire = nil
	for i, n := range m.nodes {
		n.inc++
		n.up = true
		if err := m.commit(Request{Command: &Admit{Node: n.id, Name: fmt.Sprintf("m%d", i), Token: Digest{9}}}); err != nil {
			return err
		}
		if err := m.commit(Request{Command: &Hello{Node: n.id, Incarnation: n.inc, Slots: make([]SlotSpec, n.slots)}}); err != nil {
			return err
		}
		for k := range n.slots {
			var err error
			m.release(SlotID{n.id, uint32(k)}, n, func(c Command) { err = errors.Join(err, m.commit(Request{Command: c})) })
			if err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"p0", "p1", "p2"} {
		_ = m.commit(Request{Command: m.put(name)}) // it may be there
		for _, n := range m.nodes {
			if err := m.commit(Request{Command: &Report{name, Load{Node: n.id, Incarnation: n.inc, Ready: true}}}); err != nil {
				return err
			}
		}
	}
	for round := 0; len(m.leader.queue) > 0; round++ {
		if round > 20_000 {
			return fmt.Errorf("the queue does not drain: %d jobs left", len(m.leader.queue))
		}
		m.clock += 1000
		if err := errors.Join(m.resolve(m.commit), m.drainRound()); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	return m.bound()
}

func (m *sim) drainRound() error {
	for _, j := range slices.Clone(m.leader.queue) {
		action := Resume
		if m.leader.openUnits(j) > 1<<40 {
			action = Cancel // a search of the whole space, which no simulation ends
		}
		if err := m.commit(Request{Command: &Control{Job: j.ID, Action: action}}); err != nil {
			return err
		}
	}
	for _, n := range m.nodes {
		for i := range n.slots {
			slot := SlotID{n.id, uint32(i)}
			if err := m.commit(Request{Command: &Take{slot, n.inc, 1}}); err != nil {
				return err
			}
			for _, c := range m.leader.Claims(slot) {
				busy := 1 + (c.Range.Last-c.Range.First)/1000 // a million units a second
				var f Command = &Finish{Fence: c.Fence, Node: n.id, Incarnation: n.inc, Last: c.Range.Last, Account: AccountOf(c.Range), BusyMS: busy}
				if m.leader.Job(c.Job).Kind == Tasks {
					f = &Settle{
						Fence: c.Fence, Node: n.id, Incarnation: n.inc, Last: c.Range.Last, Account: AccountOf(c.Range), Blob: m.blob(1), Bytes: 16,
						Holders: m.holders(1), BusyMS: busy,
					}
				}
				if err := m.commit(Request{Command: f}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *State) openUnits(j *Job) uint64 {
	var sum Count
	for _, st := range j.Stages {
		sum = sum.Add(Count{Lo: st.openUnits()})
	}
	return sum.Saturated()
}

// bound folds until nothing more can be folded and holds the size of the ledger
// against what should be left of it, whatever has been done.
func (m *sim) bound() error {
	for again := true; again; {
		again = false
		for _, n := range m.nodes {
			if f, ok := m.leader.FoldPlan(n.id); ok {
				again = true
				c := &Fold{f.Job, f.Stage, f.Range, f.Survivors, m.blob(f.Survivors), f.Survivors * 16, n.id, m.holders(f.Survivors)}
				if err := m.commit(Request{Command: c}); err != nil {
					return err
				}
			}
		}
	}
	for id, j := range m.leader.jobs {
		runs, records := 0, 0
		for _, st := range j.Stages {
			records += len(st.Done)
			for i := range st.Done {
				if i == 0 || !st.Done[i-1].follows(st.Done[i].Range) {
					runs++
				}
			}
		}
		if records > runs*foldLeast {
			return fmt.Errorf("job %s: %d pieces in %d runs are more than folding leaves", id, records, runs)
		}
	}
	return nil
}
