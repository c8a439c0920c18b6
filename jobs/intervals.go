package jobs

import (
	"cmp"
	"slices"
)

// This file moves ranges between the lists of a stage and keeps the digest true.

// addOpen enters an open range, joined with untried neighbours.
func (s *State) addOpen(j *Job, stage uint32, o Open) {
	st := j.Stages[stage]
	i, _ := st.openAt(o.First)
	untried := func(k int) bool {
		return k >= 0 && k < len(st.Open) && st.Open[k].Attempts == 0 && st.Open[k].Blocked() == o.Blocked()
	}
	from, to := i, i
	if o.Attempts == 0 {
		if untried(i-1) && st.Open[i-1].follows(o.Range) {
			from, o.First = i-1, st.Open[i-1].First
		}
		if untried(i) && o.follows(st.Open[i].Range) {
			to, o.Last = i+1, st.Open[i].Last
		}
	}
	for _, joined := range st.Open[from:to] {
		s.out(&openRecord{j.ID, stage, joined})
	}
	st.Open = slices.Replace(st.Open, from, to, o)
	s.in(&openRecord{j.ID, stage, o})
}

func (st *Stage) openAt(first uint64) (int, bool) {
	return slices.BinarySearchFunc(st.Open, first, func(o Open, f uint64) int { return cmp.Compare(o.First, f) })
}

// takeOpen removes r, the head of the open range at position i.
func (s *State) takeOpen(j *Job, stage uint32, i int, r Range) {
	st := j.Stages[stage]
	o := st.Open[i]
	s.out(&openRecord{j.ID, stage, o})
	rest, more := o.after(r.Last)
	if !more {
		st.Open = slices.Delete(st.Open, i, i+1)
		return
	}
	o.Range = rest
	st.Open[i] = o
	s.in(&openRecord{j.ID, stage, o})
}

// reopen opens r, a part of claim c, unless the claim's twin still works on it.
func (s *State) reopen(c *Claim, r Range, attempts uint32, notBefore Instant, avoid SlotID) {
	if s.claims[c.Twin] != nil {
		return
	}
	s.addOpen(s.jobs[c.Job], c.Stage, Open{r, attempts, notBefore, avoid})
}

// addPiece enters a committed piece. Neighbours without survivors become one.
func (s *State) addPiece(j *Job, stage uint32, p Piece) {
	st := j.Stages[stage]
	i, _ := st.pieceAt(p.First)
	from, to := i, i
	if p.Survivors == 0 {
		if i > 0 && st.Done[i-1].Survivors == 0 && st.Done[i-1].follows(p.Range) {
			from, p.First = i-1, st.Done[i-1].First
		}
		if i < len(st.Done) && st.Done[i].Survivors == 0 && p.follows(st.Done[i].Range) {
			to, p.Last = i+1, st.Done[i].Last
		}
	}
	for _, joined := range st.Done[from:to] {
		s.out(&pieceRecord{j.ID, stage, joined})
	}
	st.Done = slices.Replace(st.Done, from, to, p)
	s.in(&pieceRecord{j.ID, stage, p})
}

func (s *State) addFailed(j *Job, stage uint32, f FailedRange) {
	st := j.Stages[stage]
	i, _ := slices.BinarySearchFunc(st.Failed, f.First, func(o FailedRange, first uint64) int { return cmp.Compare(o.First, first) })
	st.Failed = slices.Insert(st.Failed, i, f)
	s.in(&failedRecord{j.ID, stage, f})
}

func compareClaims(a, b *Claim) int {
	return cmp.Or(cmp.Compare(a.Range.First, b.Range.First), cmp.Compare(a.Fence, b.Fence))
}

func (st *Stage) addClaim(c *Claim) {
	i, _ := slices.BinarySearchFunc(st.claims, c, compareClaims)
	st.claims = slices.Insert(st.claims, i, c)
}

// end takes a claim off the ledger; the slot's reserved claim becomes its
// running one. What the claim held must have been accounted for before.
func (s *State) end(c *Claim) {
	if twin := s.claims[c.Twin]; twin != nil {
		s.unpair(c, twin)
	}
	s.out(c)
	delete(s.claims, c.Fence)
	st := s.jobs[c.Job].Stages[c.Stage]
	i, _ := slices.BinarySearchFunc(st.claims, c, compareClaims)
	st.claims = slices.Delete(st.claims, i, i+1)

	sl := s.slot(c.Slot)
	s.change(&slotRecord{c.Slot, sl}, func() {
		sl.Claims = slices.DeleteFunc(slices.Clone(sl.Claims), func(f uint64) bool { return f == c.Fence })
	})
	if len(sl.Claims) == 0 {
		return
	}
	if next := s.claims[sl.Claims[0]]; next.StartedAt == notStarted {
		s.change(next, func() { next.StartedAt = s.now })
	}
}

// unpair makes two claims on one range strangers: whichever is ended next ends alone.
func (s *State) unpair(a, b *Claim) {
	for _, c := range []*Claim{a, b} {
		s.change(c, func() { c.Twin, c.Speculative = 0, false })
	}
}

func (s *State) slot(id SlotID) *Slot { return s.nodes[id.Node].Slots[id.Index] }

// completeJob ends a job of which nothing can be given out and nothing is held. A
// stage behind a barrier is never reached once something before it has failed.
func (s *State) completeJob(j *Job) {
	failed := false
	for _, st := range j.Stages {
		if st.Barrier && failed {
			break
		}
		if len(st.Open) > 0 || len(st.claims) > 0 {
			return
		}
		failed = failed || len(st.Failed) > 0
	}
	if failed {
		s.finishJob(j, Failed)
		return
	}
	s.finishJob(j, Done)
}
