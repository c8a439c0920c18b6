package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/blob"
	"seedmesh/node/slot"
	"seedmesh/scripts"
)

const (
	lookAgain    = 500 * time.Millisecond     // an idle slot looks at the ledger at least so often: waits end without news
	forsaken     = 5 * time.Second            // after which a claim that nothing here works on or delivers is given back
	forever      = 100 * 365 * 24 * time.Hour // the time limit of a job without one
	deliverPause = 250 * time.Millisecond     // between tries to deliver a result
)

// worker runs one slot: it asks for work, has its executor do it, and delivers.
// Which claims are the slot's is decided by the ledger alone: the worker looks
// at it again with every change.
type worker struct {
	n    *Node
	id   jobs.SlotID
	exec slot.Executor
	kept *room // by the attempt that ran last; its own goroutine's

	proof  proof
	parked time.Time     // until when the slot takes no work, for processes that do not die; its own goroutine's
	checks chan *recheck // searches for other nodes, which wait for their turn
	barred bool          // the slot is quarantined; run's own

	mu       sync.Mutex // guards what follows
	current  *attempt
	checking context.CancelFunc   // ends the search for another node; nil when there is none
	settled  map[uint64]time.Time // fences that are not to be begun: since when nothing is done for them, or zero
	beyond   string               // why the slot could not work on a job of a newer program, or ""
	told     time.Time            // until when that is an alarm
}

// attempt is a claim under work.
type attempt struct {
	claim   jobs.Claim
	cancel  context.CancelFunc
	began   time.Time
	done    uint64 // units finished in order
	last    uint64 // the last unit that is still wanted
	stopped bool   // the executor was told to stop where it is

	tasks     bool   // of a script job
	committed uint64 // tasks that are settled
	batch     uint64 // units of one task, once it runs
	chunkTime time.Duration
	halted    bool   // the executor has confirmed that it starts no more tasks
	allowedAt uint64 // index at which the ledger let it start tasks
}

// finished is what an executor made of an attempt.
type finished struct {
	*attempt
	result slot.Result
	err    error
	spool  *blob.Writer // of seeds
	pieces *pieces      // of tasks
}

// drop ends what was gathered of an attempt that does not count.
func (f finished) drop(n *Node) {
	if f.pieces != nil {
		f.pieces.end(n.ctx, context.Canceled)
		return
	}
	n.discard(f.spool)
}

// run works until ctx ends.
func (w *worker) run(ctx context.Context) {
	ended, checked := make(chan finished, 1), make(chan struct{}, 1)
	for {
		index := w.n.log.Applied()
		w.prove(ctx)
		select { // before the next attempt of its own: else a busy slot would never come to it
		case c := <-w.waiting():
			w.begin(c, checked)
		default:
		}
		w.look(ctx, ended)
		select {
		case c := <-w.waiting():
			w.begin(c, checked)
		case <-checked:
			w.setChecking(nil)
		case err := <-w.proof.results:
			w.proved(ctx, err)
		case <-ctx.Done():
			w.halt(ended)
			return
		case f := <-ended:
			w.settle(ctx, f)
		case <-w.n.log.Watch(index):
		case <-time.After(w.n.pace(lookAgain)):
		}
	}
}

// A recheck is a search for another node.
type recheck struct {
	ctx    context.Context
	task   slot.Task
	result slot.Result
	err    error
	done   chan struct{} // closed when result and err are there
}

// again searches in the slot, between two attempts of its own.
func (w *worker) again(ctx context.Context, t slot.Task) (slot.Result, error) {
	c := &recheck{ctx: ctx, task: t, done: make(chan struct{})}
	select {
	case w.checks <- c:
	case <-ctx.Done():
		return slot.Result{}, ctx.Err()
	case <-w.n.ctx.Done():
		return slot.Result{}, slot.ErrClosed
	}
	<-c.done // follows the end of ctx
	return c.result, c.err
}

// waiting gives the searches for other nodes, when the slot has nothing else to do.
func (w *worker) waiting() <-chan *recheck {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current != nil || w.checking != nil || w.barred || !w.proof.fit() {
		return nil
	}
	return w.checks
}

func (w *worker) setChecking(end context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checking = end
}

// bar ends the search for another node in a slot that is quarantined.
func (w *worker) bar() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.barred && w.checking != nil {
		w.checking()
	}
}

// begin searches for another node, and tells when the slot is free again.
func (w *worker) begin(c *recheck, checked chan<- struct{}) {
	ctx, cancel := context.WithCancel(c.ctx)
	w.setChecking(cancel)
	w.n.goDo(func() {
		defer cancel()
		c.result, c.err = w.exec.Run(ctx, c.task)
		close(c.done)
		checked <- struct{}{}
	})
}

// halt ends the running attempt when the node stops.
func (w *worker) halt(ended <-chan finished) {
	w.mu.Lock()
	running := w.current
	w.mu.Unlock()
	if running != nil {
		running.cancel()
		f := <-ended
		f.drop(w.n)
	}
}

// look brings what the slot does in line with the ledger.
func (w *worker) look(ctx context.Context, ended chan<- finished) {
	var claims []jobs.Claim
	var offered [2]bool
	var paused bool
	now := w.n.log.LogTime()
	w.n.log.View(func(s *jobs.State) {
		claims = s.Claims(w.id)
		offered = [2]bool{s.Offer(w.id, 1, now), s.Offer(w.id, 2, now)}
		w.barred = quarantinedIn(s, w.id)
		for _, c := range claims {
			paused = paused || s.Job(c.Job).State == jobs.Paused
		}
	})
	w.bar()
	w.forget(claims)
	w.giveBackForsaken(ctx, claims)
	running := w.check(claims)
	switch {
	case running && paused:
		w.stopHere()
	case running:
	case paused || !w.fit():
		w.giveBack(ctx, claims)
	default:
		w.startNext(ctx, claims, ended)
	}
	if want := uint32(len(claims) + 1); want <= 2 && offered[want-1] && w.fit() && w.n.session.fresh() && w.n.canStore() {
		w.n.proposeSoon(ctx, &jobs.Take{Slot: w.id, Incarnation: w.n.incarnationNow(), Want: want})
	}
}

func quarantinedIn(s *jobs.State, id jobs.SlotID) (yes bool) {
	if m := s.Node(id.Node); m != nil && int(id.Index) < len(m.Slots) {
		_, yes = m.Slots[id.Index].Quarantined()
	}
	return yes
}

// forget drops what is known of fences that the ledger no longer lists.
func (w *worker) forget(claims []jobs.Claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for fence := range w.settled {
		if !listed(claims, fence) {
			delete(w.settled, fence)
		}
	}
}

func listed(claims []jobs.Claim, fence uint64) bool {
	for _, c := range claims {
		if c.Fence == fence {
			return true
		}
	}
	return false
}

// check cancels an attempt whose claim is gone and tells whether one runs.
func (w *worker) check(claims []jobs.Claim) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil {
		return false
	}
	if !listed(claims, w.current.claim.Fence) {
		w.current.cancel()
	}
	return true
}

// stopHere ends the running attempt at the unit it has reached; what is done is
// delivered and the rest is open again.
func (w *worker) stopHere() {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.current
	if a == nil || a.stopped {
		return
	}
	if a.stopped = true; a.tasks {
		w.exec.Leave(time.Time{})
	} else {
		w.exec.StopAt(a.claim.Range.First + max(a.done, 1) - 1)
	}
}

// giveBack releases claims that were not begun: those of a paused job, or of a
// slot that may not work.
func (w *worker) giveBack(ctx context.Context, claims []jobs.Claim) {
	for _, c := range claims {
		if w.take(c.Fence) {
			w.release(ctx, c)
		}
	}
}

// take marks a fence as settled; false when it was already.
func (w *worker) take(fence uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, taken := w.settled[fence]; taken {
		return false
	}
	w.settled[fence] = time.Time{}
	return true
}

// forsake notes that nothing more is done here for a fence. The ledger should drop its
// claim by then, and if it does not, the claim is given back: nobody else could.
func (w *worker) forsake(fence uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, taken := w.settled[fence]; taken {
		w.settled[fence] = time.Now()
	}
}

// giveBackForsaken releases claims that nothing has been done for in a while.
func (w *worker) giveBackForsaken(ctx context.Context, claims []jobs.Claim) {
	for _, c := range claims {
		w.mu.Lock()
		since := w.settled[c.Fence]
		w.mu.Unlock()
		if since.IsZero() || time.Since(since) < forsaken {
			continue
		}
		w.n.cfg.Logger.Warn("a claim is given back that nothing works on", "job", c.Job, "fence", c.Fence)
		w.release(ctx, c)
	}
}

// release gives a claim back, or what is left of it.
func (w *worker) release(ctx context.Context, c jobs.Claim) {
	w.n.proposeSoon(ctx, &jobs.Release{Fence: c.Fence, Node: w.id.Node, Incarnation: c.Incarnation})
	w.forsake(c.Fence)
}

// startNext begins the slot's first claim that is not settled. The gate makes
// sure that no attempt begins which the node has already promised not to begin.
func (w *worker) startNext(ctx context.Context, claims []jobs.Claim, ended chan<- finished) {
	for _, c := range claims {
		w.mu.Lock()
		_, settled := w.settled[c.Fence]
		checking := w.checking != nil
		w.mu.Unlock()
		if checking {
			return
		}
		if settled || c.Incarnation != w.n.incarnationNow() {
			continue
		}
		w.n.gate.Lock()
		defer w.n.gate.Unlock()
		a := &attempt{claim: c, last: c.Range.Last}
		task, timeout, ok := w.task(a)
		if !ok || !w.n.session.fresh() {
			return
		}
		w.start(ctx, a, task, timeout, ended)
		return
	}
}

// task makes an executor's task of an attempt whose claim still stands.
func (w *worker) task(a *attempt) (t slot.Task, timeout time.Duration, ok bool) {
	w.n.log.View(func(s *jobs.State) {
		held, current := s.Claim(a.claim.Fence)
		if !current {
			return
		}
		j := s.Job(held.Job)
		if ok = j.State != jobs.Paused; ok {
			t = slot.Task{Spec: j.Spec, Generator: j.Stages[held.Stage].Label, Range: kernels.Range(held.Range)}
			timeout = time.Duration(j.TimeoutMS) * time.Millisecond
			a.tasks, a.chunkTime = j.Kind == jobs.Tasks, time.Duration(j.ChunkTimeMS)*time.Millisecond
		}
	})
	return t, timeout, ok
}

// errTimeout is the failure of an attempt that its job's time limit ended.
var errTimeout = errors.New("the job's time limit for one attempt was reached")

func (w *worker) start(ctx context.Context, a *attempt, task slot.Task, timeout time.Duration, ended chan<- finished) {
	runCtx, cancel := context.WithTimeoutCause(ctx, cmp.Or(timeout, forever), errTimeout)
	c := a.claim
	a.cancel, a.began = cancel, time.Now()
	w.mu.Lock()
	w.current = a
	w.settled[c.Fence] = time.Time{}
	w.mu.Unlock()
	w.n.goDo(func() {
		defer cancel()
		if a.tasks {
			p := w.newPieces(ctx, a)
			result, err := w.runTasks(runCtx, p, task.Spec)
			if runCtx.Err() != nil {
				err = context.Cause(runCtx)
			}
			ended <- finished{attempt: a, result: result, err: err, pieces: p}
			return
		}
		spool := w.n.store.NewWriter(c.Stage, c.Range.First)
		task.Progress = func(done uint64) {
			w.mu.Lock()
			a.done = done
			w.mu.Unlock()
		}
		var err error
		if task.Spec, err = w.n.specOf(runCtx, task.Spec); err != nil {
			ended <- finished{attempt: a, err: &inputError{err}, spool: spool}
			return
		}
		if _, err := kernels.DecodeSpec(task.Spec); err != nil {
			ended <- finished{attempt: a, err: &beyondError{c.Job, err}, spool: spool}
			return
		}
		task.Emit = func(batch []kernels.Survivor) error { return spool.Append(batch...) }
		result, err := w.exec.Run(runCtx, task)
		if runCtx.Err() != nil {
			err = context.Cause(runCtx)
		}
		ended <- finished{attempt: a, result: result, err: err, spool: spool}
	})
}

// settle delivers what an attempt made, beside whatever the slot does next.
func (w *worker) settle(ctx context.Context, f finished) {
	w.mu.Lock()
	w.current = nil
	last := f.last
	w.mu.Unlock()
	w.proof.worked(f.err)
	if isStuck(f.err) || isBeyond(f.err) {
		w.parked = time.Now().Add(slotRest)
	}
	if isBeyond(f.err) {
		w.tellBeyond(f.err)
	}
	w.n.goDo(func() {
		defer w.forsake(f.claim.Fence)
		switch {
		case f.pieces != nil:
			f.pieces.end(ctx, f.err)
		case errors.Is(f.err, context.Canceled), errors.Is(f.err, slot.ErrClosed): // the claim is gone, or the node stops
			w.n.discard(f.spool)
		case isBeyond(f.err):
			w.n.discard(f.spool)
			w.release(ctx, f.claim)
		case f.err != nil:
			w.n.discard(f.spool)
			w.failRange(ctx, f.claim, jobs.Range{First: f.claim.Range.First, Last: last}, f.err)
		case !f.result.OK:
			w.n.discard(f.spool)
			w.n.tell(ctx, &jobs.Release{Fence: f.claim.Fence, Node: w.id.Node, Incarnation: f.claim.Incarnation})
		default:
			w.n.deliver(ctx, f.claim, cutAt(f.result, last), f.spool)
		}
	})
}

// slotRest is how long a slot takes no work in which processes of an earlier task do
// not die, or that was given a job of a newer program; then it tries again.
const slotRest = 10 * time.Second

// tellBeyond makes an alarm of a job that the slot could not work on, until it has tried again.
func (w *worker) tellBeyond(err error) {
	w.n.cfg.Logger.Error("a job cannot be worked on here", "slot", w.id.Index, "err", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beyond, w.told = err.Error(), time.Now().Add(2*slotRest)
}

// troubles is what the node's slots could not work on lately, each job once.
func (n *Node) troubles() (list []string) {
	for _, w := range n.workers {
		w.mu.Lock()
		if w.beyond != "" && time.Now().Before(w.told) && !slices.Contains(list, w.beyond) {
			list = append(list, w.beyond)
		}
		w.mu.Unlock()
	}
	return list
}

func isStuck(err error) bool {
	var executor *slot.Error
	return errors.As(err, &executor) && executor.Class == slot.Stuck
}

// fit tells whether the slot may be given work now.
func (w *worker) fit() bool { return w.proof.fit() && !time.Now().Before(w.parked) }

// cutAt gives up what an executor did beyond the last unit that its claim,
// trimmed in the meantime, still has.
func cutAt(r slot.Result, last uint64) slot.Result {
	if r.Last <= last {
		return r
	}
	beyond := kernels.AccountOf(kernels.Range{First: last + 1, Last: r.Last})
	r.Account = kernels.Account{
		Count: r.Account.Count - beyond.Count, Sum: r.Account.Sum - beyond.Sum, SumSq: r.Account.SumSq - beyond.SumSq,
	}
	r.Last = last
	return r
}

// failRange reports a failed attempt, and the part of its claim that is charged.
func (w *worker) failRange(ctx context.Context, c jobs.Claim, charged jobs.Range, err error) {
	class, message := failureOf(err)
	if class == storageFailure {
		w.n.notStored(err)
	}
	w.n.cfg.Logger.Warn("attempt failed", "job", c.Job, "fence", c.Fence, "class", class, "err", err)
	w.n.tell(ctx, &jobs.Fail{
		Fence: c.Fence, Node: w.id.Node, Incarnation: c.Incarnation, Charged: charged,
		Class: class, Message: bounded(message, jobs.MaxTextBytes),
	})
}

func bounded(s string, limit int) string {
	if len(s) > limit {
		return s[:limit]
	}
	return s
}

// storageFailure is the class of failures of this node's disk.
const storageFailure = "storage"

// failureOf gives a failure's class and message.
func failureOf(err error) (class, message string) {
	var executor *slot.Error
	var input *inputError
	var large *tooLargeError
	switch {
	case errors.As(err, &input):
		return string(scripts.InputMissing), err.Error()
	case errors.As(err, &large):
		return string(scripts.OutOfMemory), err.Error()
	case errors.As(err, &executor):
		return string(executor.Class), err.Error()
	case errors.Is(err, errTimeout):
		return "timeout", err.Error()
	case errors.Is(err, blob.ErrDiskFull), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EIO):
		return storageFailure, err.Error()
	}
	return "error", err.Error()
}

// progress is the slot's part of a ping.
func (w *worker) progress() []running {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.current
	if a == nil {
		return nil
	}
	r := running{Fence: a.claim.Fence, Job: a.claim.Job, Done: a.done - a.committed}
	if took := time.Since(a.began); took > 0 {
		r.Rate = uint64(float64(a.done) / took.Seconds())
	}
	return []running{r}
}

// trim gives up half of what a claim has left: all of it when it was not begun.
func (w *worker) trim(ctx context.Context, fence uint64) {
	claims := []jobs.Claim(nil)
	w.n.log.View(func(s *jobs.State) { claims = s.Claims(w.id) })
	for _, c := range claims {
		if c.Fence != fence {
			continue
		}
		if w.take(fence) {
			w.release(ctx, c)
			return
		}
		w.trimRunning(ctx, c)
	}
}

// trimRunning makes the executor stop half-way through the rest, and only then
// tells the ledger. What the executor may do beyond that point is cut off.
func (w *worker) trimRunning(ctx context.Context, c jobs.Claim) {
	w.mu.Lock()
	a := w.current
	if a == nil || a.claim.Fence != c.Fence || a.stopped || a.last != c.Range.Last {
		w.mu.Unlock()
		return
	}
	next := a.claim.Range.First + a.done
	if a.batch > 1 { // the task that runs is not cut
		next += a.batch - 1
	}
	if next < a.claim.Range.First || next >= c.Range.Last {
		w.mu.Unlock()
		return
	}
	a.last = next + (c.Range.Last-next)/2
	w.exec.StopAt(a.last)
	last := a.last
	w.mu.Unlock()
	w.n.proposeSoon(ctx, &jobs.Trim{Fence: c.Fence, Node: w.id.Node, Incarnation: c.Incarnation, Last: last})
}
