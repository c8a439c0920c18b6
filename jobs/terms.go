package jobs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits of [Terms].
const (
	MaxAfter     = 64 // jobs that one job follows
	MaxSelectors = 16
)

// Terms are what only script jobs have.
type Terms struct {
	MaxParallel uint32 // tasks that run at the same time at most; 0 for as many as there are slots
	After       []Dependency
	// Nodes are selectors of slots, any of which will do; none is all slots. A
	// selector is words with commas between, which must all hold: the name of a
	// node, or a word of a slot's label.
	Nodes []string
	// Ready is how many tasks, from the first, may start at once; those behind wait
	// for a [Resolve]. 0 is all.
	Ready uint64
	// MemoryMiB is what each task is to have; a slot whose node says that it gives
	// less takes none. 0 is any slot.
	MemoryMiB uint64
}

// A Dependency makes a job wait for the end of another. When that one ends
// otherwise than done, the job is cancelled, unless Any end will do.
type Dependency struct {
	Job JobID
	Any bool
}

// Bits beside MaxParallel say that there is more than what the first programs wrote.
const (
	moreTerms   = 1 << 32 // Nodes and Ready
	memoryTerm  = 1 << 33
	termsBeyond = 1 << 34 // what only newer programs write
)

func (t *Terms) fields(x *coder) {
	more := len(t.Nodes) > 0 || t.Ready > 0
	v := uint64(t.MaxParallel)
	if more {
		v |= moreTerms
	}
	memory := t.MemoryMiB > 0
	if memory {
		v |= memoryTerm
	}
	x.u64(&v)
	if x.decoding {
		more, memory = v&moreTerms != 0, v&memoryTerm != 0
		if t.MaxParallel = uint32(v); v >= termsBeyond {
			x.fail(&NewerError{"a term of a script job"})
		}
	}
	list(x, &t.After, MaxAfter, func(d *Dependency) {
		x.job(&d.Job)
		x.flag(&d.Any)
	})
	if more {
		list(x, &t.Nodes, MaxSelectors, func(n *string) { x.str(n, MaxTextBytes) })
		x.u64(&t.Ready)
	}
	if memory {
		x.u64(&t.MemoryMiB)
	}
	if x.decoding && (more && len(t.Nodes) == 0 && t.Ready == 0 || memory && t.MemoryMiB == 0) {
		x.fail(errCorrupt)
	}
}

// check refuses terms that no ledger can keep.
func (t *Terms) check(s *State) Outcome {
	if len(t.After) > MaxAfter || len(t.Nodes) > MaxSelectors {
		return refuse(Limit, "a job follows %d others at most, and has %d selectors", MaxAfter, MaxSelectors)
	}
	for _, d := range t.After {
		if s.jobs[d.Job] == nil {
			return refuse(UnknownJob, "there is no job %s to follow", d.Job)
		}
	}
	return Outcome{}
}

// Words of a slot's label.
const (
	SeedsOnly   = "seeds only" // the slot is given no tasks
	LabelPrefix = "label:"     // a label of its node
	VendorBegin = "vendor:"    // who made its GPU
	MemoryBegin = "mib:"       // MiB of memory that its node gives to tasks, together
)

// has tells whether a word is one of the slot's label.
func (sl *Slot) has(word string) bool {
	for w := range strings.SplitSeq(sl.Label, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// Memory is how many MiB its node gives to tasks together; ok is false when that was
// not said.
func (sl *Slot) Memory() (mib uint64, ok bool) {
	for w := range strings.SplitSeq(sl.Label, ",") {
		if digits, found := strings.CutPrefix(w, MemoryBegin); found {
			mib, err := strconv.ParseUint(digits, 10, 43)
			return mib, err == nil
		}
	}
	return 0, false
}

// TakesTasks tells whether the slot is given tasks of script jobs.
func (sl *Slot) TakesTasks() bool { return !sl.has(SeedsOnly) }

// Suits tells whether a slot takes work of a job with these terms: it is selected, and
// its node has room for a task, as far as is known.
func (t *Terms) Suits(n *Node, sl *Slot) bool {
	mib, said := sl.Memory()
	return t.selects(n, sl) && (!said || t.MemoryMiB <= mib)
}

func (t *Terms) selects(n *Node, sl *Slot) bool {
	return len(t.Nodes) == 0 || slices.ContainsFunc(t.Nodes, func(selector string) bool {
		for word := range strings.SplitSeq(selector, ",") {
			if word != n.Name && !sl.has(word) {
				return false
			}
		}
		return true
	})
}

// takes tells whether a slot may be given work of a job at all.
func (j *Job) takes(n *Node, sl *Slot) bool {
	return j.Kind != Tasks || sl.TakesTasks() && j.Suits(n, sl)
}

// SubmitTasks adds a script job as [Submit] does, on terms of its own.
type SubmitTasks struct {
	Submit
	Terms
}

func (*SubmitTasks) number() uint8 { return 18 }

func (c *SubmitTasks) fields(x *coder) {
	c.Submit.fields(x)
	c.Terms.fields(x)
}

func (c *SubmitTasks) apply(s *State) Outcome {
	if c.Kind != Tasks {
		return refuse(Invalid, "only a script job has terms of its own")
	}
	return s.submit(&c.Submit, &c.Terms)
}

// held tells whether a script job gets no further claims for now: it waits for
// another, or has as many as it may.
func (s *State) held(j *Job) bool {
	if j.Kind != Tasks {
		return false
	}
	for _, d := range j.After {
		if other := s.jobs[d.Job]; other != nil && !other.State.Terminal() {
			return true
		}
	}
	claims := 0
	for _, st := range j.Stages {
		claims += len(st.claims)
	}
	return j.MaxParallel > 0 && claims >= int(j.MaxParallel)
}

// cancelFollowers ends the jobs that were to follow one which did not succeed.
func (s *State) cancelFollowers(of *Job) {
	if of.State == Done {
		return
	}
	var lost []*Job
	for _, j := range s.queue {
		for _, d := range j.After {
			if d.Job == of.ID && !d.Any {
				lost = append(lost, j)
				break
			}
		}
	}
	for _, j := range lost {
		s.cancelAfter(j, of)
	}
}

// cancelAfter ends a job because one that it follows has ended so.
func (s *State) cancelAfter(j, of *Job) {
	if j.State.Terminal() { // by way of another one
		return
	}
	s.change(&jobCourse{j}, func() { j.LastError = fmt.Sprintf("job %s, which it follows, is %s", of.ID, of.State) })
	s.finishJob(j, Cancelled)
}
