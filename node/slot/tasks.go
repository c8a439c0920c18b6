package slot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"seedmesh/kernels"
	"seedmesh/node/slot/slotpb"
	"seedmesh/scripts"
)

// This file is an executor's side of script jobs.

// A leave says until when tasks may be started.
type leave struct {
	mu    sync.Mutex
	until int64
	moved chan struct{} // closed with each move
}

func newLeave(until int64) *leave { return &leave{until: until, moved: make(chan struct{})} }

// move changes the leave, unless it was taken away.
func (l *leave) move(until int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until == 0 {
		return
	}
	l.until = until
	close(l.moved)
	l.moved = make(chan struct{})
}

// use waits until a task may be started, and then keeps the leave as it is until
// started is called. Without a started, the leave was taken away.
func (l *leave) use(ctx context.Context) (started func(), err error) {
	for {
		l.mu.Lock()
		until, moved := l.until, l.moved
		switch {
		case ctx.Err() != nil:
			l.mu.Unlock()
			return nil, ctx.Err()
		case until == 0:
			l.mu.Unlock()
			return nil, nil
		case monotonicNow() < until:
			return l.mu.Unlock, nil
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-moved:
		}
	}
}

// runnerFor is the runner of a place; it is made once, for all jobs.
func (s *server) runnerFor(m *slotpb.Place) (*scripts.Runner, error) {
	p := scripts.Place{Base: m.GetBase(), Name: m.GetName(), UID: int(m.GetUid()), GID: int(m.GetGid()), Groups: m.GetGroups(), Hide: m.GetHide(), Env: m.GetEnv(), Slot: s.index}
	p.Installed = scripts.InstalledAt(m.GetDirectories(), p.Env...)
	if s.runner != nil && reflect.DeepEqual(p, s.place) {
		return s.runner, nil
	}
	if s.runner != nil {
		r := s.runner
		if s.runner = nil; r.Close() != nil {
			return nil, errors.New("the place of the scripts cannot be left")
		}
	}
	s.place = p
	if m.GetGroup() != "" {
		p.Group = scripts.OpenGroup(m.GetGroup())
	}
	r, err := scripts.NewRunner(p)
	if err != nil {
		return nil, errors.Join(err, p.Group.Close())
	}
	s.runner = r
	return r, nil
}

func (s *server) beginScripts(ctx context.Context, m *slotpb.Scripts) error {
	r := kernels.Range{First: m.First, Last: m.Last}
	if r.First > r.Last {
		return s.report(errorReport(m.Id, BadTask, emptyRange(0, r).Message))
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &job{id: m.Id, cancel: cancel, done: make(chan struct{}), leave: newLeave(m.Leave)}
	j.stop.Store(m.Last)
	s.current = j
	go func() { // leave waits for it
		defer close(j.done)
		defer cancel()
		s.use.Lock()
		defer s.use.Unlock()
		if s.idle != nil {
			s.idle.Stop()
		}
		last := s.workScripts(ctx, j, m)
		if s.runner != nil && s.runner.HasWorker() {
			s.idle = time.AfterFunc(WorkerIdle, func() { _ = s.endWorker() }) // what is stuck is found by the next task
		}
		_ = s.reportOf(j, last, true) // a broken pipe ends the loop of commands too
	}()
	return nil
}

// WorkerIdle is how long a persistent worker waits for another claim of its job.
const WorkerIdle = 5 * time.Second

// endWorker ends the persistent worker, if there is one.
func (s *server) endWorker() error {
	s.use.Lock()
	defer s.use.Unlock()
	if s.runner == nil {
		return nil
	}
	return s.runner.EndWorker()
}

// workScripts runs the tasks of a claim and gives the last frame.
func (s *server) workScripts(ctx context.Context, j *job, m *slotpb.Scripts) *slotpb.Report {
	began := time.Now()
	t := &taskRun{server: s, job: j, first: m.First}
	err := t.open(m)
	if err == nil {
		var beats sync.WaitGroup
		stop := make(chan struct{})
		beats.Go(func() { t.beat(stop) })
		err = errors.Join(t.run(ctx, m), t.close()) // to tidy up may take a while too
		close(stop)
		beats.Wait()
	} else {
		err = errors.Join(err, t.close())
	}
	var e *Error
	switch {
	case ctx.Err() != nil:
		return errorReport(j.id, cancelled, "cancelled")
	case errors.Is(err, scripts.ErrStuck):
		return errorReport(j.id, Stuck, err.Error())
	case errors.As(err, &e):
		return errorReport(j.id, e.Class, e.Message)
	case err != nil:
		return errorReport(j.id, Failed, err.Error())
	}
	return doneReport(j.id, outcome{t.some, t.last, t.account, time.Since(began)})
}

// A taskRun is the work on the tasks of one claim.
type taskRun struct {
	server  *server
	job     *job
	spec    *scripts.Spec
	file    *os.File // of the list, or nil
	list    *scripts.List
	items   *scripts.Items
	runner  *scripts.Runner
	first   uint64
	some    bool
	last    uint64
	account kernels.Account

	mu      sync.Mutex // guards what follows
	waiting [][]byte   // outcomes that were not sent yet
	bytes   int
	done    uint64
}

func (t *taskRun) open(m *slotpb.Scripts) (err error) {
	if t.spec, err = scripts.Decode(m.Spec); err != nil {
		return &Error{Class: BadTask, Message: err.Error(), Err: err}
	}
	if t.spec.List != nil || t.spec.Split != nil {
		if t.file, err = os.Open(m.List); err != nil {
			return &Error{Class: BadTask, Message: err.Error(), Err: err}
		}
		if t.spec.Split != nil {
			t.items, err = scripts.OpenItems(t.file)
		} else {
			t.list, err = scripts.OpenList(t.file)
		}
		if err != nil {
			return &Error{Class: BadTask, Message: err.Error(), Err: err}
		}
	}
	if t.runner, err = t.server.runnerFor(m.Place); err != nil {
		return err
	}
	return t.runner.Reset()
}

func (t *taskRun) close() (err error) {
	if t.runner != nil {
		err = t.runner.Tidy()
	}
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}

func (t *taskRun) task(n uint64) (scripts.Task, error) {
	if t.list != nil {
		return t.list.Task(n)
	}
	return t.spec.Task(n)
}

// run works through the tasks until the last that is wanted.
func (t *taskRun) run(ctx context.Context, m *slotpb.Scripts) error {
	links := make([]scripts.Link, len(m.Links))
	for i, l := range m.Links {
		links[i] = scripts.Link{Source: l.Source, Path: l.Path}
	}
	for n, last := m.First, uint64(0); ; n = last + 1 {
		if t.some && n > t.job.stop.Load() {
			break
		}
		task, err := t.task(n)
		if err != nil {
			return &Error{Class: BadTask, Message: err.Error(), Err: err}
		}
		last = n
		a := scripts.Attempt{Spec: t.spec, Task: task, Number: n, Count: m.Attempt, Links: t.spec.LinksFor(task, links), Memory: m.Memory, Start: t.job.leave.use}
		if t.items != nil {
			last += min(max(m.Batch, 1)-1, m.Last-n)
			a.Part = &scripts.Part{Split: t.spec.Split, Items: t.items, First: n, Last: last}
			a.Task.ID = a.Part.Name()
		}
		o, err := t.runner.Run(ctx, a)
		if errors.Is(err, scripts.ErrNotStarted) {
			break
		}
		if err != nil {
			return err
		}
		if err := t.ended(o); err != nil {
			return err
		}
		if last == m.Last || o.Class == scripts.Stuck {
			break
		}
	}
	return t.flush()
}

// ended notes an outcome. What fails is only the pipe to the node.
func (t *taskRun) ended(o scripts.Outcome) error {
	b, err := json.Marshal(o)
	if err == nil && len(b) > maxOutcome {
		o.Class, o.Message, o.Outputs = scripts.InvalidOutput, fmt.Sprintf("the list of its outputs has %d bytes, the limit is %d", len(b), maxOutcome), nil
		b, err = json.Marshal(o)
	}
	if err != nil {
		return fmt.Errorf("executor: %w", err)
	}
	if err := t.makeRoom(len(b)); err != nil {
		return err
	}
	one := kernels.AccountOf(kernels.Range{First: o.Task, Last: o.End()})
	t.account.Count += one.Count
	t.account.Sum += one.Sum
	t.account.SumSq += one.SumSq
	t.some, t.last = true, o.End()
	t.mu.Lock()
	t.waiting = append(t.waiting, b)
	t.bytes += len(b)
	t.done += o.Units()
	full := t.bytes > maxEndedBytes || len(o.Outputs) > 0
	t.mu.Unlock()
	if full {
		return t.flush()
	}
	return nil
}

// makeRoom sends what is waiting when an outcome does not fit into a frame with it.
func (t *taskRun) makeRoom(size int) error {
	t.mu.Lock()
	fits := t.bytes+size <= maxOutcome
	t.mu.Unlock()
	if fits {
		return nil
	}
	return t.flush()
}

// flush sends what is waiting.
func (t *taskRun) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return nil
	}
	m := &slotpb.Ended{Id: t.job.id, Outcomes: t.waiting}
	t.waiting, t.bytes = nil, 0
	return t.server.report(&slotpb.Report{Kind: &slotpb.Report_Ended{Ended: m}})
}

// beat gives signs of life, and what has ended, until stop is closed.
func (t *taskRun) beat(stop <-chan struct{}) {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		t.mu.Lock()
		done := t.done
		t.mu.Unlock()
		if t.flush() != nil || t.server.report(progressReport(t.job.id, done)) != nil {
			return // a broken pipe ends the loop of commands too
		}
	}
}
