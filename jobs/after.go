package jobs

import "fmt"

// MaxAfter bounds the jobs that one job follows.
const MaxAfter = 64

// SubmitTasks adds a script job as [Submit] does, with what only script jobs have.
type SubmitTasks struct {
	Submit
	MaxParallel uint32 // tasks that run at the same time at most; 0 for as many as there are slots
	After       []Dependency
}

// A Dependency makes a job wait for the end of another. When that one ends
// otherwise than done, the job is cancelled, unless Any end will do.
type Dependency struct {
	Job JobID
	Any bool
}

func (*SubmitTasks) number() uint8 { return 18 }

func (c *SubmitTasks) fields(x *coder) {
	c.Submit.fields(x)
	num(x, &c.MaxParallel)
	dependencies(x, &c.After)
}

func dependencies(x *coder, after *[]Dependency) {
	list(x, after, MaxAfter, func(d *Dependency) {
		x.job(&d.Job)
		x.flag(&d.Any)
	})
}

func (c *SubmitTasks) apply(s *State) Outcome {
	if c.Kind != Tasks || len(c.After) > MaxAfter {
		return refuse(Invalid, "only a script job has tasks to limit, and follows %d others at most", MaxAfter)
	}
	return s.submit(&c.Submit, c)
}

// checkAfter refuses a job that follows one which does not exist.
func (c *SubmitTasks) checkAfter(s *State) Outcome {
	for _, d := range c.After {
		if s.jobs[d.Job] == nil {
			return refuse(UnknownJob, "there is no job %s to follow", d.Job)
		}
	}
	return Outcome{}
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
