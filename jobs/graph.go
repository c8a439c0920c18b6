package jobs

import (
	"math"
	"slices"
)

// Tasks that need others are held back in the list of open ranges, with a moment
// that never comes. Whoever knows what each task needs, which the ledger does not,
// says with [Resolve] which of them may start, and which never will.

// heldBack is Open.NotBefore of tasks that wait for others.
const heldBack Instant = math.MaxInt64

// MaxResolved bounds the ranges of each list of a [Resolve].
const MaxResolved = 512

// Resolve opens tasks that need to wait no longer, and sets aside those that can
// never start. What is not held back any more stays as it is, so that it may come
// twice.
type Resolve struct {
	Job   JobID
	Stage uint32
	Ready []Range
	Aside []Failure
}

func (*Resolve) number() uint8 { return 20 }

// Actor is nobody: which node leads is not the ledger's to know.
func (*Resolve) Actor() NodeID { return NodeID{} }

func (c *Resolve) fields(x *coder) {
	x.job(&c.Job)
	num(x, &c.Stage)
	list(x, &c.Ready, MaxResolved, x.rng)
	list(x, &c.Aside, MaxResolved, func(f *Failure) { f.fields(x) })
}

func (c *Resolve) apply(s *State) Outcome {
	j := s.jobs[c.Job]
	switch {
	case j == nil || int(c.Stage) >= len(j.Stages):
		return refuse(UnknownJob, "there is no stage %d of job %s", c.Stage, c.Job)
	case j.State.Terminal():
		return refuse(JobEnded, "job %s has ended: it is %s", c.Job, j.State)
	case len(c.Ready) > MaxResolved || len(c.Aside) > MaxResolved || !c.valid():
		return refuse(Invalid, "the ranges are empty, or more than %d", MaxResolved)
	}
	for _, r := range c.Ready {
		for _, part := range s.takeHeldBack(j, c.Stage, r) {
			s.addOpen(j, c.Stage, Open{Range: part})
		}
	}
	for _, f := range c.Aside {
		for _, part := range s.takeHeldBack(j, c.Stage, f.Range) {
			s.addFailed(j, c.Stage, FailedRange{part, 0, f.Class, f.Message})
			s.change(&jobCourse{j}, func() { j.LastError = f.Class + ": " + f.Message })
		}
	}
	s.completeJob(j)
	return Outcome{Job: j.ID}
}

func (c *Resolve) valid() bool {
	return !slices.ContainsFunc(c.Ready, func(r Range) bool { return !r.Valid() }) &&
		!slices.ContainsFunc(c.Aside, func(f Failure) bool { return !f.Range.Valid() })
}

// takeHeldBack takes what is held back of a range, and gives its parts.
func (s *State) takeHeldBack(j *Job, stage uint32, r Range) (parts []Range) {
	st := j.Stages[stage]
	i, found := st.openAt(r.First)
	if !found && i > 0 {
		i--
	}
	for i < len(st.Open) && st.Open[i].First <= r.Last {
		o := st.Open[i]
		if o.NotBefore != heldBack || o.Last < r.First {
			i++
			continue
		}
		part := Range{max(o.First, r.First), min(o.Last, r.Last)}
		var rest []Open
		if part.First > o.First {
			rest = append(rest, Open{Range: Range{o.First, part.First - 1}, NotBefore: heldBack})
		}
		if part.Last < o.Last {
			rest = append(rest, Open{Range: Range{part.Last + 1, o.Last}, NotBefore: heldBack})
		}
		s.out(&openRecord{j.ID, stage, o})
		for _, left := range rest {
			s.in(&openRecord{j.ID, stage, left})
		}
		st.Open = slices.Replace(st.Open, i, i+1, rest...)
		i += len(rest)
		parts = append(parts, part)
	}
	return parts
}

// HeldBack lists the tasks of a stage that wait for others.
func (st *Stage) HeldBack() []Range {
	var all []Range
	for _, o := range st.Open {
		if o.Blocked() {
			all = append(all, o.Range)
		}
	}
	return all
}

// Blocked tells whether the range waits for other tasks.
func (o Open) Blocked() bool { return o.NotBefore == heldBack }

// opened lists what of a stage is open at first: the tasks from number ready on
// wait for others, unless it is 0.
func (s *StageSpec) opened(ready uint64) []Open {
	first, rest := s.Range, Range{}
	if ready == 0 || ready > first.Last-first.First {
		return []Open{{Range: first}}
	}
	rest = Range{first.First + ready, first.Last}
	first.Last = rest.First - 1
	return []Open{{Range: first}, {Range: rest, NotBefore: heldBack}}
}
