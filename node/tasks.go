package node

import (
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"time"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/blob"
	"seedmesh/node/slot"
	"seedmesh/scripts"
)

// A claim of tasks is settled in pieces while the slot goes on. A piece is closed
// by the first of these.
const (
	pieceTime     = time.Second
	pieceOutcomes = 4096
	pieceBytes    = 32 << 20 // of outputs
	piecesWaiting = 2        // closed pieces of a slot, beyond which it waits
	lastWords     = 300      // bytes of a failed task's output that go into the ledger
)

// piece is a run of tasks of one claim and what became of them.
type piece struct {
	segment *blob.SegmentWriter
	last    uint64
	account jobs.Account
	failed  []jobs.Failure
	began   time.Time // when its first outcome came
	ended   time.Time // when its last outcome came
	busy    time.Duration
	more    bool // the slot goes on with the claim
}

// pieces gathers the outcomes of an attempt at tasks and settles them. Its add,
// tick and end are called by one goroutine, one after the other.
type pieces struct {
	w       *worker
	a       *attempt
	limit   uint64        // bytes of memory that one task may use; 0 for none
	batch   uint64        // items that one task gets, where that is not the job's to say; else 0
	target  time.Duration // of such a task
	first   uint64        // of the open piece
	since   time.Time     // the slot has worked on the open piece
	open    *piece
	closed  chan *piece
	settled chan struct{} // closed when nothing more will be settled
}

func (w *worker) newPieces(ctx context.Context, a *attempt) *pieces {
	p := &pieces{w: w, a: a, target: min(chunkTarget, a.chunkTime/2), first: a.claim.Range.First, closed: make(chan *piece, piecesWaiting), settled: make(chan struct{})}
	w.n.goDo(func() {
		defer close(p.settled)
		for c := range p.closed {
			w.settlePiece(ctx, a, c)
		}
	})
	return p
}

// runTasks has the executor do the tasks of a claim.
func (w *worker) runTasks(ctx context.Context, p *pieces, spec []byte) (slot.Result, error) {
	s, err := scripts.Decode(spec)
	if err != nil {
		return slot.Result{}, &beyondError{p.a.claim.Job, err}
	}
	links, list, err := w.n.site.supply(ctx, s)
	if err != nil {
		return slot.Result{}, &inputError{err}
	}
	limit, room := w.n.site.memory.needs(p.a.claim.Job, s.Memory)
	if !s.Whole() {
		p.batch, limit = w.n.site.memory.chunkOf(p.a.claim, s.Memory, w.n.site.slots(), p.target)
		room = limit
	}
	if room, err = w.enter(ctx, p.a.claim.Job, room); err != nil {
		return slot.Result{}, err
	}
	defer func() { w.leave(p.a.claim.Job, room, s.Worker > 0) }()
	w.mu.Lock()
	last := p.a.last // less than the claim's when it was trimmed while it waited
	w.mu.Unlock()
	p.limit, p.since = limit, time.Now()
	w.setBatch(p.a, p.batch)
	return w.exec.Run(ctx, slot.Task{
		Range: kernels.Range{First: p.a.claim.Range.First, Last: last}, Progress: p.tick,
		Scripts: &slot.Scripts{
			Memory: limit, Batch: p.batch,
			Spec: spec, List: list, Attempt: p.a.claim.Attempts + 1, Links: links, Place: w.n.site.place(w.id.Index),
			Group: w.n.site.group(w.id.Index),
			Leave: w.n.session.leave(), Ended: p.add, Halted: p.halted,
		},
	})
}

// room is memory that stays taken behind a claim, for a persistent worker that may
// still be up.
type room struct {
	job   jobs.JobID
	bytes uint64
	back  *time.Timer // gives it back
}

// roomStays is how long that is: the worker has ended by then.
const roomStays = slot.WorkerIdle + 3*time.Second

// enter takes memory for a claim: what the slot's persistent worker has, where it is
// the same job's, or else so much of what is free.
func (w *worker) enter(ctx context.Context, job jobs.JobID, bytes uint64) (uint64, error) {
	if r := w.kept; r != nil && r.job == job && r.bytes >= bytes && r.back.Stop() {
		return r.bytes, nil
	}
	return bytes, w.n.site.memory.admit(ctx, bytes)
}

// leave gives the memory of a claim back, later when a worker may stay.
func (w *worker) leave(job jobs.JobID, bytes uint64, stays bool) {
	if w.kept = nil; !stays {
		w.n.site.memory.release(bytes)
		return
	}
	w.kept = &room{job, bytes, time.AfterFunc(roomStays, func() { w.n.site.memory.release(bytes) })}
}

// inputError says that the inputs of a job cannot be had.
type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

// setBatch notes how many units the tasks of an attempt have.
func (w *worker) setBatch(a *attempt, units uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.batch = max(units, 1)
}

// halted notes that the executor starts no more tasks of the attempt.
func (p *pieces) halted() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.a.halted = true
}

// add takes an outcome and its outputs, and closes the piece when it is due.
func (p *pieces) add(o scripts.Outcome, files []string) error {
	p.w.mu.Lock()
	wanted := o.End() <= p.a.last
	if wanted {
		p.a.done = o.End() - p.a.claim.Range.First + 1
	}
	p.w.mu.Unlock()
	if !wanted {
		return nil
	}
	if p.open != nil && p.open.segment.Bytes()+outputBytes(o) > scripts.MaxOutput {
		p.close(true) // a blob has room for the outputs of any one task
	}
	if p.open == nil {
		p.open = &piece{segment: p.w.n.store.NewSegment(p.a.claim.Stage, p.first), began: time.Now()}
	}
	o.Node = p.w.n.dir.Name
	root := p.w.n.site.root
	if err := p.open.segment.Add(&o, func(k int) (io.ReadCloser, error) { return root.Open(files[k]) }); err != nil {
		return err
	}
	if len(files) > 0 {
		if err := root.RemoveAll(path.Dir(files[0])); err != nil {
			return err
		}
	}
	p.open.note(o, p.remember(o))
	p.tick(p.a.done)
	return nil
}

// tick closes the piece when it is due, also while a long task runs: those before
// it do not wait for its end.
func (p *pieces) tick(uint64) {
	if p.open != nil && p.open.due() {
		p.close(true)
	}
}

// outputBytes is the size of a task's outputs.
func outputBytes(o scripts.Outcome) (n int64) {
	for _, f := range o.Outputs {
		n += f.Bytes
	}
	return n
}

// remember learns from what a task used. A task that was killed for want of memory
// is not at fault as long as this node can give it more; the attempt ends here, so
// that the next one has it.
func (p *pieces) remember(o scripts.Outcome) (free bool) {
	m := p.w.n.site.memory
	if p.batch > 0 && m.learnChunk(p.a.claim.Job, o, p.batch) {
		p.w.stopHere()
		return true
	}
	if o.Class != scripts.OutOfMemory {
		m.learn(p.a.claim.Job, o.PeakRSS)
		return false
	}
	if free = m.raise(p.a.claim.Job, p.limit, o.PeakRSS); free {
		p.w.stopHere()
	}
	return free
}

// note counts an outcome as done or failed. Neighbours that failed alike are one failure.
func (c *piece) note(o scripts.Outcome, free bool) {
	c.last, c.ended = o.End(), time.Now()
	one := jobs.Range{First: o.Task, Last: o.End()}
	if o.Class == scripts.OK {
		c.account = c.account.Add(jobs.AccountOf(one))
		return
	}
	f := jobs.Failure{Range: one, Free: free, Class: string(o.Class), Message: bounded(failureText(o), jobs.MaxTextBytes)}
	if k := len(c.failed) - 1; k >= 0 && c.failed[k].Range.Last+1 == o.Task && c.failed[k].Class == f.Class && c.failed[k].Free == free && c.failed[k].Message == f.Message {
		c.failed[k].Range.Last = o.End()
		return
	}
	c.failed = append(c.failed, f)
}

// failureText is what the ledger keeps of a failed task: why, and its last words.
func failureText(o scripts.Outcome) string {
	text := o.Message
	words := o.Stderr.End(lastWords)
	if len(words) == 0 {
		words = o.Stdout.End(lastWords)
	}
	if said := strings.TrimSpace(strings.ToValidUTF8(string(words), "?")); said != "" {
		text += ": " + said
	}
	return text
}

func (c *piece) due() bool {
	return time.Since(c.began) >= pieceTime || c.segment.Count() >= pieceOutcomes || c.segment.Bytes() >= pieceBytes || len(c.failed) == jobs.MaxFailures
}

// close hands the open piece to be settled.
func (p *pieces) close(more bool) {
	c := p.open
	p.open = nil
	p.first = c.last + 1
	c.more, c.busy = more, c.ended.Sub(p.since)
	p.since = c.ended
	p.closed <- c
}

// blames tells whether an attempt's end is the fault of the task that ran; over says
// that nothing of it counts, because the claim is gone or the node stops.
func blames(err error) (charge, over bool) {
	switch {
	case err == nil, errors.Is(err, errNoRoom), isStuck(err), isBeyond(err):
		return false, false
	case errors.Is(err, context.Canceled), errors.Is(err, slot.ErrClosed):
		return false, true
	}
	return true, false
}

// leftover says what becomes of what a claim has beyond its settled pieces: it is
// given back, or its first task is charged.
func (p *pieces) leftover(err error) (release, charge bool) {
	charge, over := blames(err)
	return !charge && !over && p.first <= p.a.claim.Range.Last, charge && p.first <= p.a.last
}

// end settles what is left when the executor has ended the attempt, and gives
// back or charges what was not done. It returns when the ledger has it.
func (p *pieces) end(ctx context.Context, err error) {
	charge, over := blames(err)
	switch {
	case over:
		p.drop()
	case p.open != nil:
		p.close(charge)
	}
	close(p.closed)
	<-p.settled
	claim := p.a.claim
	release, charge := p.leftover(err)
	switch {
	case charge:
		first := claim.Range.First + p.a.done
		p.w.failRange(ctx, claim, jobs.Range{First: first, Last: first}, err)
	case release:
		p.w.n.tell(ctx, &jobs.Release{Fence: claim.Fence, Node: p.w.id.Node, Incarnation: claim.Incarnation})
	}
}

func (p *pieces) drop() {
	if p.open == nil {
		return
	}
	if err := p.open.segment.Abort(); err != nil {
		p.w.n.cfg.Logger.Warn("a temporary file stays until the next start", "err", err)
	}
	p.open = nil
}

// settlePiece commits a piece: on this disk, on a second holder's disk, and only
// then in the log. It goes on until the ledger has it or does not want it.
func (w *worker) settlePiece(ctx context.Context, a *attempt, c *piece) {
	n := w.n
	info, err := c.segment.Finish(c.last)
	if err != nil {
		if ctx.Err() == nil {
			n.cfg.Logger.Error("a segment could not be stored", "job", a.claim.Job, "err", err)
			w.failRange(ctx, a.claim, jobs.Range{First: c.last, Last: c.last}, err)
		}
		a.cancel()
		return
	}
	n.pinned.add(info.Digest)
	defer n.pinned.remove(info.Digest)
	f := &jobs.Settle{
		Fence: a.claim.Fence, Node: n.id, Incarnation: a.claim.Incarnation, Last: c.last, More: c.more, Account: c.account, Failed: c.failed,
		Blob: info.Digest, Bytes: uint64(info.Bytes), Holders: []jobs.NodeID{n.id}, BusyMS: uint64(max(c.busy.Milliseconds(), 1)),
	}
	if refusal := n.commit(ctx, f, f.Blob, &f.Holders); refusal != nil {
		n.refused(ctx, a.claim, jobs.Range{First: c.last, Last: c.last}, refusal)
		a.cancel()
		return
	}
	w.mu.Lock()
	a.committed = c.last - a.claim.Range.First + 1
	w.mu.Unlock()
}

// renew moves the leave of the slot's tasks on, as long as the ledger lets them run.
func (w *worker) renew(until time.Time) {
	if a := w.tasks(); a != nil && w.allowed(a) {
		w.exec.Leave(until)
	}
}

// tasks is the attempt at tasks that runs and may start more, or nil.
func (w *worker) tasks() *attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.current; a != nil && a.tasks && !a.stopped {
		return a
	}
	return nil
}

// allowed tells whether the ledger lets an attempt start tasks, and notes the
// index at which it did.
func (w *worker) allowed(a *attempt) (ok bool) {
	index := w.n.log.View(func(s *jobs.State) {
		c, current := s.Claim(a.claim.Fence)
		ok = current && s.Job(c.Job).State != jobs.Paused
	})
	if ok {
		w.mu.Lock()
		a.allowedAt = max(a.allowedAt, index)
		w.mu.Unlock()
	}
	return ok
}

// heeded is the index, at most the given one, such that no task will be started
// that it forbids.
func (w *worker) heeded(applied uint64) uint64 {
	w.mu.Lock()
	a := w.current
	w.mu.Unlock()
	if a == nil || !a.tasks || w.allowed(a) {
		return applied
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current != a || a.halted {
		return applied
	}
	return min(applied, a.allowedAt)
}

// nameOfTask is how people call a task: its id, or its number.
func nameOfTask(o scripts.Outcome) string {
	if o.ID != "" {
		return o.ID
	}
	return jobs.Count{Lo: o.Task}.String()
}
