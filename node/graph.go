package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"seedmesh/jobs"
	"seedmesh/scripts"
)

// The ledger holds tasks back that need others, but does not know which: that is in
// the job's list. The leader reads it, follows what becomes of the tasks, and says
// which of those held back may start, and which never will.

const (
	resolveEvery = 100 * time.Millisecond // how often the leader looks, at most
	needsFailed  = "needs another"        // class of tasks that are set aside with one that they need
)

// dependents are the jobs with tasks that wait for others, as the leader follows
// them. Another leader begins anew, from what the ledger has.
type dependents struct {
	n    *Node
	term uint64
	jobs map[jobs.JobID]*graphed
}

// graphed is one such job.
type graphed struct {
	graph *scripts.Graph
	list  *scripts.List
	close func() error
	ready []uint64
	aside []cast
}

// cast is a task that will never start, and why.
type cast struct {
	task  uint64
	cause string
}

// runGraphs follows jobs with tasks that need others, while this node leads.
func (n *Node) runGraphs(ctx context.Context) {
	d := &dependents{n: n, jobs: map[jobs.JobID]*graphed{}}
	defer d.forget(func(jobs.JobID) bool { return true })
	for ctx.Err() == nil {
		index := n.log.Applied()
		if term, leading := n.log.Leading(); !leading || term != d.term {
			d.forget(func(jobs.JobID) bool { return true })
			d.term = term
		} else {
			d.look(ctx)
		}
		select {
		case <-ctx.Done():
		case <-n.log.Watch(index):
		case <-time.After(n.pace(time.Second)):
		}
		pause(ctx, resolveEvery)
	}
}

// forget lets go of jobs.
func (d *dependents) forget(which func(jobs.JobID) bool) {
	for id, g := range d.jobs {
		if !which(id) {
			continue
		}
		if err := g.close(); err != nil {
			d.n.cfg.Logger.Debug("a list of tasks was not closed", "job", id, "err", err)
		}
		delete(d.jobs, id)
	}
}

// look resolves what can be resolved of every job that has tasks held back.
func (d *dependents) look(ctx context.Context) {
	waiting := map[jobs.JobID][]byte{}
	d.n.log.View(func(s *jobs.State) {
		for _, j := range s.Jobs() {
			if j.Ready > 0 && !j.State.Terminal() && len(j.Stages[0].HeldBack()) > 0 {
				waiting[j.ID] = j.Spec
			}
		}
	})
	d.forget(func(id jobs.JobID) bool { return waiting[id] == nil })
	for id, spec := range waiting {
		g := d.jobs[id]
		if g == nil {
			var err error
			if g, err = d.n.openGraph(ctx, spec); err != nil {
				d.n.cfg.Logger.Warn("what the tasks of a job need cannot be read", "job", id, "err", err)
				continue
			}
			d.jobs[id] = g
		}
		if err := d.n.resolveTasks(ctx, id, g); err != nil {
			d.n.cfg.Logger.Debug("tasks were not resolved", "job", id, "err", err)
			d.forget(func(other jobs.JobID) bool { return other == id }) // and begun anew
		}
	}
}

func (n *Node) openGraph(ctx context.Context, encoded []byte) (*graphed, error) {
	spec, err := scripts.Decode(encoded)
	if err != nil || spec.List == nil {
		return nil, errors.Join(err, errors.New("the job has no list of tasks"))
	}
	g := new(graphed)
	if g.list, g.close, err = n.lists.use(ctx, n, spec); err != nil {
		return nil, err
	}
	if g.list.Count() != spec.Count() {
		err = fmt.Errorf("its list has %d tasks, the job %d", g.list.Count(), spec.Count())
	} else {
		g.graph, err = scripts.NewGraph(g.list)
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	g.ready = g.graph.Free() // those that are not held back anyway do no harm
	return g, nil
}

// resolveTasks notes what has ended since, and proposes what follows.
func (n *Node) resolveTasks(ctx context.Context, id jobs.JobID, g *graphed) error {
	var held []jobs.Range
	n.log.View(func(s *jobs.State) {
		j := s.Job(id)
		if j == nil || j.State.Terminal() {
			return
		}
		st := j.Stages[0]
		held = st.HeldBack()
		for _, p := range st.Done {
			for task := p.First; task <= p.Last; task++ {
				g.ready = append(g.ready, g.graph.Succeeded(task)...)
			}
		}
		for _, f := range st.Failed {
			for task := f.First; task <= f.Last; task++ {
				g.fail(task)
			}
		}
	})
	for _, c := range g.take(id, held) {
		outcome, err := n.propose(ctx, c)
		if err = errors.Join(err, outcome.Err()); err != nil {
			return err
		}
	}
	return nil
}

// fail notes a task that has failed for good.
func (g *graphed) fail(task uint64) {
	ready, aside := g.graph.Failed(task)
	g.ready = append(g.ready, ready...)
	if len(aside) == 0 {
		return
	}
	name := fmt.Sprint(task)
	if t, err := g.list.Task(task); err == nil && t.ID != "" {
		name = t.ID
	}
	cause := bounded(fmt.Sprintf("task %s, which it needs, did not succeed", name), jobs.MaxTextBytes)
	for _, k := range aside {
		g.aside = append(g.aside, cast{k, cause})
	}
}

// take gives the commands for what is to be resolved of what is held back.
func (g *graphed) take(id jobs.JobID, held []jobs.Range) (commands []jobs.Command) {
	slices.Sort(g.ready)
	slices.SortFunc(g.aside, func(a, b cast) int { return int(int64(a.task) - int64(b.task)) })
	var ready []jobs.Range
	for _, task := range within(g.ready, held, func(t uint64) uint64 { return t }) {
		if k := len(ready) - 1; k >= 0 && ready[k].Last+1 == task {
			ready[k].Last = task
			continue
		}
		ready = append(ready, jobs.Range{First: task, Last: task})
	}
	var aside []jobs.Failure
	for _, c := range within(g.aside, held, func(c cast) uint64 { return c.task }) {
		if k := len(aside) - 1; k >= 0 && aside[k].Range.Last+1 == c.task && aside[k].Message == c.cause {
			aside[k].Range.Last = c.task
			continue
		}
		aside = append(aside, jobs.Failure{Range: jobs.Range{First: c.task, Last: c.task}, Class: needsFailed, Message: c.cause})
	}
	g.ready, g.aside = nil, nil
	for len(ready) > 0 || len(aside) > 0 {
		c := &jobs.Resolve{Job: id}
		c.Ready, ready = cutOff(ready)
		c.Aside, aside = cutOff(aside)
		commands = append(commands, c)
	}
	return commands
}

// cutOff takes what one command has room for.
func cutOff[T any](all []T) (head, rest []T) {
	k := min(len(all), jobs.MaxResolved)
	return all[:k], all[k:]
}

// within keeps what lies in one of the ranges; both are in order.
func within[T any](all []T, ranges []jobs.Range, task func(T) uint64) (kept []T) {
	for _, v := range all {
		for len(ranges) > 0 && ranges[0].Last < task(v) {
			ranges = ranges[1:]
		}
		if len(ranges) > 0 && ranges[0].First <= task(v) {
			kept = append(kept, v)
		}
	}
	return kept
}
