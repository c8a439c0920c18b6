package jobs

import (
	"cmp"
	"slices"
)

// Limits of what is kept of failed tasks.
const (
	MaxFailures = 64   // failed ranges in one [Settle]
	MaxTraces   = 4096 // segments of failed attempts that a stage remembers; the oldest is forgotten first
)

// Settle commits what became of the tasks of a claim, from its first up to Last:
// those in Failed have failed, the others are done. The claim goes on behind
// Last with More, as long as it has anything there; else the rest is open again.
type Settle struct {
	Fence       uint64
	Node        NodeID
	Incarnation uint64
	Last        uint64
	More        bool
	Account     Account // of the tasks that are done
	Failed      []Failure
	Blob        Digest // segment with the outcomes of all of them
	Bytes       uint64
	Holders     []NodeID
	BusyMS      uint64
}

// A Failure is a run of tasks whose attempt failed in one way.
type Failure struct {
	Range   Range
	Free    bool // the attempt does not count: the task was not at fault
	Class   string
	Message string
}

// A Trace names a segment with failed attempts of the tasks of a range.
type Trace struct {
	Range   Range
	Blob    Digest
	Bytes   uint64
	Holders []NodeID // in rising order
}

type traceRecord struct {
	job   JobID
	index uint32
	Trace
}

func (*Settle) number() uint8   { return 17 }
func (c *Settle) Actor() NodeID { return c.Node }

func (c *Settle) fields(x *coder) {
	x.u64(&c.Fence)
	x.node(&c.Node)
	x.u64(&c.Incarnation)
	x.u64(&c.Last)
	x.flag(&c.More)
	x.account(&c.Account)
	list(x, &c.Failed, MaxFailures, func(f *Failure) { f.fields(x) })
	x.fixed(c.Blob[:])
	x.u64(&c.Bytes)
	list(x, &c.Holders, MaxHolders, x.node)
	x.u64(&c.BusyMS)
}

func (f *Failure) fields(x *coder) {
	x.rng(&f.Range)
	x.flag(&f.Free)
	x.str(&f.Class, MaxTextBytes)
	x.str(&f.Message, MaxTextBytes)
}

func (t *Trace) fields(x *coder) {
	x.rng(&t.Range)
	x.fixed(t.Blob[:])
	x.u64(&t.Bytes)
	list(x, &t.Holders, MaxHolders, x.node)
}

func (r *traceRecord) fields(x *coder) {
	x.job(&r.job)
	num(x, &r.index)
	r.Trace.fields(x)
}

func (c *Settle) apply(s *State) Outcome {
	claim, refused := s.current(c.Fence, c.Node, c.Incarnation)
	if claim == nil {
		return refused
	}
	j := s.jobs[claim.Job]
	if j.Kind != Tasks {
		return refuse(Invalid, "claim %d is not of tasks", c.Fence)
	}
	if c.Last < claim.Range.First { // said twice: they are settled, and the claim goes on behind them
		return Outcome{Job: j.ID}
	}
	if c.Last > claim.Range.Last {
		return refuse(BadRange, "tasks up to %d are outside of the claim %s", c.Last, claim.Range)
	}
	settled := Range{claim.Range.First, c.Last}
	done, ok := c.done(settled)
	if !ok {
		return refuse(BadRange, "the failed tasks are out of order, or outside of %s", settled)
	}
	var account Account
	for _, r := range done {
		account = account.Add(AccountOf(r))
	}
	if c.Account != account {
		return refuse(WrongAccount, "the account of %s is %v, it must be %v", settled, c.Account, account)
	}
	holders, refused := s.checkHolders(1, c.Blob, c.Holders)
	if refused.Refusal != nil {
		return refused
	}
	st := j.Stages[claim.Stage]
	s.measure(claim.Slot, st.Shape, settled, c.BusyMS)
	s.change(&stageCourse{j.ID, claim.Stage, st}, func() { st.Account = st.Account.Add(account) })
	s.change(&jobCourse{j}, func() {
		j.Survivors += account.Count
		j.Pieces += uint64(len(done))
		j.Busy += c.BusyMS
	})
	for _, r := range done {
		s.addPiece(j, claim.Stage, Piece{r, r.Last - r.First + 1, c.Blob, c.Bytes, holders})
	}
	c.fail(s, j, claim)
	if len(c.Failed) > 0 {
		s.addTrace(j, claim.Stage, Trace{Range{c.Failed[0].Range.First, c.Failed[len(c.Failed)-1].Range.Last}, c.Blob, c.Bytes, holders})
	}
	rest, more := claim.Range.after(c.Last)
	if more && c.More {
		s.advance(claim, st, rest)
		return Outcome{Job: j.ID}
	}
	if more {
		s.reopen(claim, rest, claim.Attempts, 0, SlotID{})
	}
	s.end(claim)
	s.completeJob(j)
	return Outcome{Job: j.ID}
}

// done lists what lies between the failed ranges; ok is false when those are out
// of order, or not within r.
func (c *Settle) done(r Range) (runs []Range, ok bool) {
	next, over := r.First, false // over: a failed range ends with r
	for _, f := range c.Failed {
		if over || !f.Range.Valid() || !r.Contains(f.Range) || f.Range.First < next {
			return nil, false
		}
		if f.Range.First > next {
			runs = append(runs, Range{next, f.Range.First - 1})
		}
		over = f.Range.Last == r.Last
		next = f.Range.Last + 1
	}
	if !over {
		runs = append(runs, Range{next, r.Last})
	}
	return runs, true
}

// fail charges the failed tasks: they wait for another try, or are set aside.
func (c *Settle) fail(s *State, j *Job, claim *Claim) {
	for _, f := range c.Failed {
		attempts := claim.Attempts
		if !f.Free {
			attempts++
		}
		s.change(&jobCourse{j}, func() {
			j.Failures += f.Range.Size().Saturated()
			j.LastError = f.Class + ": " + f.Message
		})
		if attempts >= j.Attempts {
			s.addFailed(j, claim.Stage, FailedRange{f.Range, attempts, f.Class, f.Message})
			continue
		}
		s.addOpen(j, claim.Stage, Open{f.Range, attempts, s.now + Backoff(f.Class, attempts), claim.Slot})
	}
}

// advance makes a claim go on with the rest of its range.
func (s *State) advance(c *Claim, st *Stage, rest Range) {
	i, _ := slices.BinarySearchFunc(st.claims, c, compareClaims)
	st.claims = slices.Delete(st.claims, i, i+1)
	s.change(c, func() {
		c.Range = rest
		if c.StartedAt != notStarted {
			c.StartedAt = s.now
		}
	})
	st.addClaim(c)
}

func (s *State) addTrace(j *Job, stage uint32, t Trace) {
	st := j.Stages[stage]
	if len(st.Traces) == MaxTraces {
		s.out(&traceRecord{j.ID, stage, st.Traces[0]})
		st.Traces = slices.Delete(st.Traces, 0, 1)
	}
	st.Traces = append(st.Traces, t)
	s.in(&traceRecord{j.ID, stage, t})
}

// A TaskState is where one task of a job stands.
type TaskState struct {
	Stage    uint32
	State    string // open, blocked, waiting, running, done or failed
	Attempts uint32 // failed ones
	Slot     SlotID // of a running task
	Class    string // of a failed task
	Message  string
	Segments []Trace // that may have its attempts, the oldest first
}

// Task finds a task of a job; ok is false when no stage has it.
func (s *State) Task(j *Job, number uint64) (t TaskState, ok bool) {
	one := Range{number, number}
	for i, st := range j.Stages {
		if !st.Range.Contains(one) {
			continue
		}
		t = s.taskIn(st, number)
		t.Stage = uint32(i)
		for _, trace := range st.Traces {
			if trace.Range.Contains(one) {
				trace.Holders = slices.Clone(trace.Holders)
				t.Segments = append(t.Segments, trace)
			}
		}
		if k, found := st.pieceWith(number); found {
			p := st.Done[k]
			t.Segments = append(t.Segments, Trace{p.Range, p.Blob, p.Bytes, slices.Clone(p.Holders)})
		}
		return t, true
	}
	return t, false
}

func (s *State) taskIn(st *Stage, number uint64) TaskState {
	one := Range{number, number}
	if _, done := st.pieceWith(number); done {
		return TaskState{State: "done"}
	}
	for _, f := range st.Failed {
		if f.Contains(one) {
			return TaskState{State: "failed", Attempts: f.Attempts, Class: f.Class, Message: f.Message}
		}
	}
	for _, c := range st.claims {
		if c.Range.Contains(one) {
			return TaskState{State: "running", Attempts: c.Attempts, Slot: c.Slot}
		}
	}
	for _, o := range st.Open {
		if o.Contains(one) && o.Blocked() {
			return TaskState{State: "blocked"}
		}
		if o.Contains(one) && o.Attempts > 0 {
			return TaskState{State: "waiting", Attempts: o.Attempts}
		}
	}
	return TaskState{State: "open"}
}

// pieceWith finds the committed piece that covers a unit.
func (st *Stage) pieceWith(unit uint64) (int, bool) {
	return slices.BinarySearchFunc(st.Done, unit, func(p Piece, u uint64) int {
		if p.Last < u {
			return -1
		}
		return cmp.Compare(p.First, min(p.First, u)) // 1 when the piece lies behind u
	})
}
