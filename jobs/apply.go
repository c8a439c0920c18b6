package jobs

import (
	"bytes"
	"cmp"
	"slices"
)

func (c *Submit) apply(s *State) Outcome { return s.submit(c, &Terms{}) }

// submit adds a job, on the terms of a script job.
func (s *State) submit(c *Submit, terms *Terms) Outcome {
	if k, known := s.keys[c.Key]; known && c.Key != "" {
		if k.Request != c.RequestDigest {
			return refuse(KeyConflict, "the key %q belongs to another request, job %s", c.Key, k.Job)
		}
		return Outcome{Job: k.Job}
	}
	if _, taken := s.jobs[c.ID]; taken || c.ID == 0 {
		return refuse(IDTaken, "job id %s is in use", c.ID)
	}
	if refused := c.check(s); refused.Refusal != nil {
		return refused
	}
	if refused := terms.check(s); refused.Refusal != nil {
		return refused
	}
	s.submits++
	j := &Job{
		ID: c.ID, Seq: s.submits, Key: c.Key, Name: c.Name, Kind: c.Kind, Spec: bytes.Clone(c.Spec),
		ChunkTimeMS: cmp.Or(c.ChunkTimeMS, DefaultChunkTimeMS), Attempts: cmp.Or(c.Attempts, DefaultAttempts),
		TimeoutMS: c.TimeoutMS, Expected: c.Expected, SubmittedAt: s.now, Submitter: c.Submitter,
		Priority: c.Priority, State: Queued, Terms: *terms,
	}
	j.After, j.Nodes = slices.Clone(terms.After), slices.Clone(terms.Nodes)
	for _, spec := range c.Stages {
		j.Stages = append(j.Stages, &Stage{StageSpec: spec, Open: spec.opened(terms.Ready)})
	}
	s.jobs[j.ID] = j
	s.enqueue(j)
	s.addJobRecords(j)
	if c.Key != "" {
		k := &keyRecord{Key: c.Key, Request: c.RequestDigest, Job: j.ID}
		s.keys[c.Key] = k
		s.in(k)
	}
	for _, d := range terms.After {
		if other := s.jobs[d.Job]; other.State.Terminal() && other.State != Done && !d.Any {
			s.cancelAfter(j, other)
		}
	}
	return Outcome{Job: j.ID}
}

// check refuses what no ledger can work on.
func (c *Submit) check(s *State) Outcome {
	switch {
	case len(s.jobs) >= MaxJobs:
		return refuse(Limit, "%d jobs exist already: remove some that have ended (seedmesh job rm)", MaxJobs)
	case len(s.keys) >= MaxKeys:
		return refuse(Limit, "%d idempotency keys are remembered already; they live for 7 days after their jobs", MaxKeys)
	case c.Kind != Seeds && c.Kind != Tasks:
		return refuse(Invalid, "%d is not a kind of job", c.Kind)
	case len(c.Stages) == 0 || len(c.Stages) > MaxStages:
		return refuse(Limit, "a job has 1 to %d stages, not %d", MaxStages, len(c.Stages))
	case c.Attempts > MaxAttempts:
		return refuse(Limit, "a piece may be tried %d times at most, not %d", MaxAttempts, c.Attempts)
	case len(c.Key) > MaxKeyBytes || len(c.Name) > MaxNameBytes || len(c.Spec) > MaxSpecBytes:
		return refuse(Limit, "key, name or specification exceeds its %d, %d or %d bytes", MaxKeyBytes, MaxNameBytes, MaxSpecBytes)
	}
	for _, st := range c.Stages {
		if !st.Range.Valid() || st.Grain == 0 {
			return refuse(Invalid, "stage %q has no units or no grain", st.Label)
		}
	}
	return Outcome{}
}

// addJobRecords enters all of a job's records into the digest.
func (s *State) addJobRecords(j *Job) { j.eachRecord(s.in) }

func (j *Job) eachRecord(do func(record)) {
	do(&jobFixed{j})
	do(&jobCourse{j})
	for i, st := range j.Stages {
		index := uint32(i)
		do(&stageCourse{j.ID, index, st})
		for _, o := range st.Open {
			do(&openRecord{j.ID, index, o})
		}
		for _, p := range st.Done {
			do(&pieceRecord{j.ID, index, p})
		}
		for _, f := range st.Failed {
			do(&failedRecord{j.ID, index, f})
		}
		for _, t := range st.Traces {
			do(&traceRecord{j.ID, index, t})
		}
	}
}

func (c *Control) apply(s *State) Outcome {
	j := s.jobs[c.Job]
	switch {
	case j == nil:
		return refuse(UnknownJob, "there is no job %s", c.Job)
	case c.Action == Remove && !j.State.Terminal():
		return refuse(JobNotEnded, "job %s is %s", c.Job, j.State)
	case c.Action == Remove:
		s.remove(j)
		return Outcome{Job: c.Job}
	case c.Action == Cancel && j.State == Cancelled:
		return Outcome{Job: c.Job}
	case j.State.Terminal():
		return refuse(JobEnded, "job %s has ended: it is %s", c.Job, j.State)
	}
	switch c.Action {
	case Cancel:
		s.finishJob(j, Cancelled)
	case Pause:
		s.change(&jobCourse{j}, func() { j.State = Paused })
	case Resume:
		s.change(&jobCourse{j}, func() { j.State = j.working() })
	case SetPriority:
		s.change(&jobCourse{j}, func() { j.Priority = c.Priority })
		s.dequeue(j)
		s.enqueue(j)
	default:
		return refuse(Invalid, "%d is not an action", c.Action)
	}
	return Outcome{Job: c.Job}
}

// working is the state of a job that is neither paused nor over.
func (j *Job) working() JobState {
	if j.StartedAt > 0 {
		return Running
	}
	return Queued
}

func (j *Job) claims() []*Claim {
	var all []*Claim
	for _, st := range j.Stages {
		all = append(all, st.claims...)
	}
	return all
}

func (s *State) remove(j *Job) {
	j.eachRecord(s.out)
	s.forgetRequired(j.ID)
	delete(s.jobs, j.ID)
	if k := s.keys[j.Key]; k != nil && k.Job == j.ID {
		s.change(k, func() { k.Expires = s.now + keyLifeMS })
		s.dying = append(s.dying, k.Key)
	}
}

func (s *State) enqueue(j *Job) {
	i, _ := slices.BinarySearchFunc(s.queue, j, func(a, b *Job) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Seq, b.Seq))
	})
	s.queue = slices.Insert(s.queue, i, j)
}

func (s *State) dequeue(j *Job) {
	s.queue = slices.DeleteFunc(s.queue, func(o *Job) bool { return o == j })
}

// finishJob ends a job, and whatever is still held of it.
func (s *State) finishJob(j *Job, state JobState) {
	for _, held := range j.claims() {
		s.reopen(held, held.Range, held.Attempts, 0, SlotID{})
		s.end(held)
	}
	s.change(&jobCourse{j}, func() { j.State, j.FinishedAt = state, s.now })
	s.dequeue(j)
	s.cancelFollowers(j)
}

func (c *Hello) apply(s *State) Outcome {
	n := s.nodes[c.Node]
	switch {
	case n == nil:
		return refuse(UnknownNode, "node %s is not a member of this mesh: join it with a token", c.Node)
	case n.Role == Client:
		return refuse(WrongRole, "node %s joined as a client and offers no slots", n.Name)
	case c.Incarnation < n.Incarnation || c.Incarnation == n.Incarnation && !n.Alive:
		return refuse(StaleIncarnation, "incarnation %d of node %s is over", c.Incarnation, n.Name)
	case len(c.Slots) > MaxSlots:
		return refuse(Limit, "a node has at most %d slots, not %d", MaxSlots, len(c.Slots))
	case c.Incarnation == n.Incarnation:
		return Outcome{}
	}
	s.endClaims(n)
	s.fleet.leave(n)
	s.change(n, func() {
		n.Incarnation, n.Alive, n.Since, n.Addr, n.Version = c.Incarnation, true, s.now, c.Addr, c.Version
	})
	old := n.Slots
	for i := range old {
		s.out(&slotRecord{SlotID{n.ID, uint32(i)}, old[i]})
	}
	n.Slots = make([]*Slot, len(c.Slots))
	for i, spec := range c.Slots {
		n.Slots[i] = &Slot{Device: spec.Device, Label: spec.Label}
		if i < len(old) && old[i].Device == spec.Device {
			n.Slots[i].Rates = old[i].Rates
		}
		if i < len(old) {
			if _, yes := old[i].Quarantined(); yes {
				n.Slots[i].Label = old[i].Label
			}
		}
		s.in(&slotRecord{SlotID{n.ID, uint32(i)}, n.Slots[i]})
	}
	s.fleet.join(n)
	return Outcome{}
}

func (c *Expire) apply(s *State) Outcome {
	n := s.nodes[c.Node]
	if n == nil || n.Incarnation != c.Incarnation {
		return refuse(StaleIncarnation, "incarnation %d of node %s is not the current one", c.Incarnation, c.Node)
	}
	if n.Alive {
		s.endClaims(n)
		s.fleet.leave(n)
		s.change(n, func() { n.Alive, n.Since = false, s.now })
	}
	return Outcome{}
}

// endClaims opens again whatever a node holds, without counting an attempt.
func (s *State) endClaims(n *Node) {
	for _, sl := range n.Slots {
		s.vacate(sl)
	}
}

// vacate opens again whatever a slot holds, without counting an attempt.
func (s *State) vacate(sl *Slot) {
	for len(sl.Claims) > 0 {
		c := s.claims[sl.Claims[0]]
		j := s.jobs[c.Job]
		s.change(&jobCourse{j}, func() { j.Reclaimed++ })
		s.reopen(c, c.Range, c.Attempts, 0, SlotID{})
		s.end(c)
	}
}

func (c *Take) apply(s *State) Outcome {
	if refused := s.checkActor(c.Slot.Node, c.Incarnation); refused.Refusal != nil {
		return refused
	}
	pick, ok := s.pick(c.Slot, c.Want, s.now)
	if !ok {
		return refuse(NothingToDo, "no work for the slot")
	}
	j := s.jobs[pick.job]
	st := j.Stages[pick.stage]
	s.fence++
	claim := &Claim{
		Fence: s.fence, Job: pick.job, Stage: pick.stage, Range: pick.rng, Slot: c.Slot, Incarnation: c.Incarnation,
		Attempts: pick.attempts, GrantedAt: s.now, StartedAt: notStarted,
	}
	if pick.twin != nil {
		claim.Speculative, claim.Twin = true, pick.twin.Fence
		s.change(pick.twin, func() { pick.twin.Twin = claim.Fence })
	} else {
		s.takeOpen(j, pick.stage, pick.open, claim.Range)
	}
	sl := s.slot(c.Slot)
	if len(sl.Claims) == 0 {
		claim.StartedAt = s.now
	}
	s.change(&slotRecord{c.Slot, sl}, func() { sl.Claims = append(sl.Claims, claim.Fence) })
	s.claims[claim.Fence] = claim
	st.addClaim(claim)
	s.in(claim)
	if j.State == Queued {
		s.change(&jobCourse{j}, func() { j.State, j.StartedAt = Running, max(s.now, 1) })
	}
	granted := *claim
	return Outcome{Job: j.ID, Claim: &granted}
}

// checkActor refuses commands of a node's earlier lives.
func (s *State) checkActor(id NodeID, incarnation uint64) Outcome {
	n := s.nodes[id]
	switch {
	case n == nil:
		return refuse(UnknownNode, "node %s is not a member of this mesh", id)
	case !n.Alive || n.Incarnation != incarnation:
		return refuse(StaleIncarnation, "incarnation %d of node %s is over", incarnation, n.Name)
	}
	return Outcome{}
}

// current finds the claim that a node speaks of, if it is still that node's.
func (s *State) current(fence uint64, id NodeID, incarnation uint64) (*Claim, Outcome) {
	c := s.claims[fence]
	if c == nil || c.Slot.Node != id || c.Incarnation != incarnation {
		return nil, refuse(StaleClaim, "claim %d is not current", fence)
	}
	return c, Outcome{}
}

func (c *Finish) apply(s *State) Outcome {
	claim, refused := s.current(c.Fence, c.Node, c.Incarnation)
	if claim == nil {
		return refused
	}
	if c.Last < claim.Range.First || c.Last > claim.Range.Last {
		return refuse(BadRange, "a finish up to %d is outside of its claim %s", c.Last, claim.Range)
	}
	if s.jobs[claim.Job].Kind == Tasks {
		return refuse(Invalid, "claim %d is of tasks, which are settled", c.Fence)
	}
	done := Range{claim.Range.First, c.Last}
	if c.Account != AccountOf(done) {
		return refuse(WrongAccount, "the account of %s is %v, it must be %v", done, c.Account, AccountOf(done))
	}
	holders, refused := s.checkHolders(c.Survivors, c.Blob, c.Holders)
	if refused.Refusal != nil {
		return refused
	}
	j := s.jobs[claim.Job]
	st := j.Stages[claim.Stage]
	s.measure(claim.Slot, st.Shape, done, c.BusyMS)
	s.change(&stageCourse{j.ID, claim.Stage, st}, func() { st.Account = st.Account.Add(c.Account) })
	s.change(&jobCourse{j}, func() {
		j.Survivors += c.Survivors
		j.Pieces++
		j.Busy += c.BusyMS
	})
	s.addPiece(j, claim.Stage, Piece{done, c.Survivors, c.Blob, c.Bytes, holders})
	if twin := s.claims[claim.Twin]; twin != nil { // the first finish wins
		s.unpair(claim, twin)
		s.end(twin)
	}
	if rest, more := claim.Range.after(c.Last); more {
		s.reopen(claim, rest, claim.Attempts, 0, SlotID{})
	}
	s.end(claim)
	s.completeJob(j)
	return Outcome{Job: j.ID}
}

// checkHolders says whether a result has the copies that it needs, and sorts them.
func (s *State) checkHolders(survivors uint64, blob Digest, holders []NodeID) ([]NodeID, Outcome) {
	if survivors == 0 {
		if blob != (Digest{}) || len(holders) > 0 {
			return nil, refuse(Invalid, "a piece without survivors has no blob")
		}
		return nil, Outcome{}
	}
	sorted := slices.Clone(holders)
	slices.SortFunc(sorted, compareNodes)
	sorted = slices.Compact(sorted)
	for _, h := range sorted {
		if n := s.nodes[h]; n == nil || n.Role == Client {
			return nil, refuse(UnknownNode, "holder %s is not a storing member of this mesh", h)
		}
	}
	if blob == (Digest{}) || len(sorted) < s.CopiesRequired() || len(sorted) > MaxHolders {
		return nil, refuse(UnderHeld, "the result has %d holders, it needs %d", len(sorted), s.CopiesRequired())
	}
	return sorted, Outcome{}
}

// CopiesRequired is how many holders a result needs now: two, or one where only
// one node lives.
func (s *State) CopiesRequired() int {
	alive := 0
	for _, n := range s.nodes {
		if n.Alive {
			alive++
		}
	}
	return min(copies, alive)
}

func (c *Fail) apply(s *State) Outcome {
	claim, refused := s.current(c.Fence, c.Node, c.Incarnation)
	if claim == nil {
		return refused
	}
	if !c.Charged.Valid() || !claim.Range.Contains(c.Charged) {
		return refuse(BadRange, "a failure of %s is outside of its claim %s", c.Charged, claim.Range)
	}
	j := s.jobs[claim.Job]
	attempts, twin := claim.Attempts+1, s.claims[claim.Twin]
	s.change(&jobCourse{j}, func() {
		j.Failures++
		j.LastError = c.Class + ": " + c.Message
	})
	switch {
	case twin != nil: // the other claim still works on the range, and carries the count
		s.change(twin, func() { twin.Attempts = attempts })
	case attempts >= j.Attempts:
		s.addFailed(j, claim.Stage, FailedRange{c.Charged, attempts, c.Class, c.Message})
		s.reopenAround(claim, c.Charged)
	default:
		s.reopen(claim, c.Charged, attempts, s.now+Backoff(c.Class, attempts), claim.Slot)
		s.reopenAround(claim, c.Charged)
	}
	s.end(claim)
	s.completeJob(j)
	return Outcome{Job: j.ID}
}

// reopenAround opens what a claim holds beside a part of it.
func (s *State) reopenAround(c *Claim, part Range) {
	if part.First > c.Range.First {
		s.reopen(c, Range{c.Range.First, part.First - 1}, c.Attempts, 0, SlotID{})
	}
	if rest, more := c.Range.after(part.Last); more {
		s.reopen(c, rest, c.Attempts, 0, SlotID{})
	}
}

// waits are the first waits in ms after failures whose cause lies outside of the piece, and
// takes a while to end: a GPU is reset, a node that has the inputs starts again, a disk gets
// room. After all others it is backoffBaseMS, since another slot may try at once.
var waits = map[string]Instant{
	"gpu fault":     5_000,
	"input missing": 10_000,
	"storage":       10_000,
	"disk full":     10_000,
}

// Backoff is the wait in ms before a piece is tried again that has failed so often, the last
// time in this way: it doubles with each attempt.
func Backoff(class string, attempts uint32) Instant {
	first := cmp.Or(waits[class], backoffBaseMS)
	return min(first<<min(max(attempts, 1)-1, 20), backoffMaxMS)
}

func (c *Release) apply(s *State) Outcome {
	claim, refused := s.current(c.Fence, c.Node, c.Incarnation)
	if claim == nil {
		return refused
	}
	s.reopen(claim, claim.Range, claim.Attempts, 0, SlotID{})
	s.end(claim)
	return Outcome{Job: claim.Job}
}

func (c *Trim) apply(s *State) Outcome {
	claim, refused := s.current(c.Fence, c.Node, c.Incarnation)
	if claim == nil {
		return refused
	}
	rest, more := claim.Range.after(c.Last)
	switch {
	case c.Last < claim.Range.First:
		return refuse(BadRange, "a trim to %d leaves nothing of claim %s", c.Last, claim.Range)
	case claim.Twin != 0:
		return refuse(Invalid, "claim %d is worked on twice and cannot be trimmed", c.Fence)
	case !more:
		return Outcome{Job: claim.Job}
	}
	s.change(claim, func() { claim.Range.Last = c.Last })
	s.addOpen(s.jobs[claim.Job], claim.Stage, Open{Range: rest, Attempts: claim.Attempts})
	return Outcome{Job: claim.Job}
}

func (c *Fold) apply(s *State) Outcome {
	if n := s.nodes[c.Node]; n == nil || !n.Alive {
		return refuse(StaleIncarnation, "node %s is not alive", c.Node)
	}
	j := s.jobs[c.Job]
	if j == nil || int(c.Stage) >= len(j.Stages) || !c.Range.Valid() {
		return refuse(UnknownJob, "there is no stage %d of job %s", c.Stage, c.Job)
	}
	holders, refused := s.checkHolders(c.Survivors, c.Blob, c.Holders)
	if refused.Refusal != nil {
		return refused
	}
	st := j.Stages[c.Stage]
	from, to, survivors := st.tiling(c.Range)
	if to-from < 2 || survivors != c.Survivors {
		return refuse(NotFoldable, "%s is not made up of committed pieces with %d survivors", c.Range, c.Survivors)
	}
	for _, p := range st.Done[from:to] {
		s.out(&pieceRecord{c.Job, c.Stage, p})
	}
	folded := Piece{c.Range, c.Survivors, c.Blob, c.Bytes, holders}
	st.Done = slices.Replace(st.Done, from, to, folded)
	s.in(&pieceRecord{c.Job, c.Stage, folded})
	return Outcome{Job: c.Job}
}

// tiling finds the pieces Done[from:to] that make up r exactly; none otherwise.
func (st *Stage) tiling(r Range) (from, to int, survivors uint64) {
	from, found := st.pieceAt(r.First)
	if !found {
		return 0, 0, 0
	}
	for to = from; to < len(st.Done); to++ {
		p := st.Done[to]
		if p.Last > r.Last || to > from && !st.Done[to-1].follows(p.Range) {
			break
		}
		if survivors += p.Survivors; p.Last == r.Last {
			return from, to + 1, survivors
		}
	}
	return 0, 0, 0
}

// pieceAt finds the committed piece that begins at first.
func (st *Stage) pieceAt(first uint64) (int, bool) {
	return slices.BinarySearchFunc(st.Done, first, func(p Piece, f uint64) int { return cmp.Compare(p.First, f) })
}

// holding finds the piece that a Hold or Drop speaks of.
func (s *State) holding(c *Hold) (*Job, *Stage, int, Outcome) {
	j := s.jobs[c.Job]
	if j == nil || int(c.Stage) >= len(j.Stages) {
		return nil, nil, 0, refuse(UnknownJob, "there is no stage %d of job %s", c.Stage, c.Job)
	}
	st := j.Stages[c.Stage]
	i, found := st.pieceAt(c.First)
	if !found || st.Done[i].Blob != c.Blob || c.Blob == (Digest{}) {
		return nil, nil, 0, refuse(NoSuchHolding, "no piece at %d has the blob %s", c.First, c.Blob)
	}
	return j, st, i, Outcome{}
}

func (c *Hold) apply(s *State) Outcome {
	j, st, i, refused := s.holding(c)
	if refused.Refusal != nil {
		return refused
	}
	at, held := slices.BinarySearchFunc(st.Done[i].Holders, c.Node, compareNodes)
	if n := s.nodes[c.Node]; n == nil || n.Role == Client {
		return refuse(UnknownNode, "node %s is not a storing member of this mesh", c.Node)
	}
	if !held && len(st.Done[i].Holders) < MaxHolders {
		s.setHolders(j, c.Stage, i, slices.Insert(slices.Clone(st.Done[i].Holders), at, c.Node))
	}
	return Outcome{Job: c.Job}
}

func (c *Drop) apply(s *State) Outcome {
	j, _, i, refused := s.holding((*Hold)(c))
	if refused.Refusal != nil {
		return refused
	}
	s.unhold(j, c.Stage, i, c.Node)
	return Outcome{Job: c.Job}
}

func (s *State) setHolders(j *Job, stage uint32, i int, holders []NodeID) {
	p := &j.Stages[stage].Done[i]
	s.out(&pieceRecord{j.ID, stage, *p})
	p.Holders = holders
	s.in(&pieceRecord{j.ID, stage, *p})
}

// unhold takes a holder from a piece. A piece without any is worked again,
// unless its job has ended: a final state stays what it is.
func (s *State) unhold(j *Job, stage uint32, i int, id NodeID) (reopened bool) {
	st := j.Stages[stage]
	at, held := slices.BinarySearchFunc(st.Done[i].Holders, id, compareNodes)
	if !held {
		return false
	}
	s.setHolders(j, stage, i, slices.Delete(slices.Clone(st.Done[i].Holders), at, at+1))
	p := st.Done[i]
	if len(p.Holders) > 0 || j.State.Terminal() {
		return false
	}
	s.out(&pieceRecord{j.ID, stage, p})
	st.Done = slices.Delete(st.Done, i, i+1)
	s.change(&stageCourse{j.ID, stage, st}, func() { st.Account = st.Account.Sub(AccountOf(p.Range)) })
	s.change(&jobCourse{j}, func() {
		j.Survivors -= p.Survivors
		j.Reclaimed++
	})
	s.addOpen(j, stage, Open{Range: p.Range})
	return true
}
