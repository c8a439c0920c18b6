package slot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"seedmesh/kernels"
	"seedmesh/node/slot/slotpb"
	"seedmesh/scripts"
)

// limits are the waits of a process executor. Tests shorten them.
type limits struct {
	lock    time.Duration // for an earlier executor to let the slot go
	ready   time.Duration // from the start of a process until it is ready
	cancel  time.Duration // for an answer to a cancel
	quit    time.Duration // for a process to end when it was asked to
	reap    time.Duration // for a process to end when it was killed
	backoff time.Duration // before the third start in a row without a result, doubling after
	rest    time.Duration // the most that backoff grows to
}

var defaultLimits = limits{
	lock: 10 * time.Second, ready: 60 * time.Second, cancel: 2 * time.Second, quit: 2 * time.Second,
	reap: 5 * time.Second, backoff: 200 * time.Millisecond, rest: 30 * time.Second,
}

// NewProcess is an executor in a process of its own, which it starts in the
// background, unless it is for an accelerator, whose slot waits for Ready. Before that it ends what an earlier node may have left for this
// slot; when that does not end within 10 s, the error's class is [Quarantined].
// It must not be used in a bubble of testing/synctest.
func NewProcess(cfg Config) (Executor, error) { return newProcess(cfg, defaultLimits) }

func newProcess(cfg Config, lim limits) (*process, error) {
	if !slices.Contains(Devices(), cfg.Device) { // it is opened by the executor only
		return nil, unknownDevice(cfg.Device)
	}
	if cfg.Lock == "" {
		cfg.Lock = filepath.Join(cfg.Dir, fmt.Sprintf("slot-%d.lock", cfg.Index))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.IdleStop <= 0 {
		cfg.IdleStop = DefaultIdleStop
	}
	if cfg.Locks == "" {
		cfg.Locks = DefaultLocks
	}
	if cfg.HangAfter <= 0 {
		cfg.HangAfter = DefaultHangAfter
	}
	if len(cfg.Command) == 0 {
		cfg.Command = []string{selfPath, "executor"}
	}
	p := &process{
		cfg: cfg, lim: lim, log: cfg.Logger.With("slot", cfg.Index),
		turn: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	free, err := p.claim(context.Background())
	if err != nil {
		return nil, err
	}
	if p.accelerated() {
		return p, free.Close()
	}
	p.turn <- struct{}{}
	p.tasks.Go(func() {
		defer p.release()
		if err := p.start(context.Background(), free); err != nil && !errors.Is(err, ErrClosed) {
			p.log.Warn("executor not started", "error", err)
		}
	})
	return p, nil
}

// A process is an executor in a process of its own.
type process struct {
	cfg     Config
	lim     limits
	log     *slog.Logger
	closing chan struct{} // closed by Close
	once    sync.Once
	closed  error
	tasks   sync.WaitGroup // goroutines that this executor started

	turn     chan struct{} // who has put a value in owns the fields up to the blank line
	child    *child        // nil when none runs
	lastID   uint64        // of a search
	again    bool          // the next child's device is to be tested though it has passed
	failures int           // processes in a row that ended without a result
	earliest time.Time     // of the next start
	resting  chan struct{} // closed when an idle time ends; nil when none runs

	shown atomic.Pointer[child] // child, for Pid
	about atomic.Pointer[About] // of the last child that was ready; nil before

	mu      sync.Mutex // guards running
	running *remote    // nil when no search runs
}

func (p *process) accelerated() bool { return slices.Contains(kernels.Accelerators(), p.cfg.Device) }

// A remote is a task that a child works on.
type remote struct {
	*run
	id      uint64
	child   *child
	scripts bool
	poke    chan struct{} // has a value when there is something to tell the child

	mu    sync.Mutex // guards what follows
	leave int64      // until when tasks may be started, where moved
	moved bool
}

func (p *process) Pid() int {
	if c := p.shown.Load(); c != nil && !c.ended() {
		return c.pid
	}
	return 0
}

func (p *process) About() About {
	if a := p.about.Load(); a != nil {
		return *a
	}
	return About{}
}

func (p *process) StopAt(last uint64) {
	p.mu.Lock()
	r := p.running
	p.mu.Unlock()
	if r != nil && r.shorten(last) {
		r.prod()
	}
}

// leaveUntil moves the leave, unless it was taken away.
func (r *remote) leaveUntil(until int64) {
	r.mu.Lock()
	if !r.early.Load() {
		r.leave, r.moved = until, true
	}
	if until == 0 {
		r.early.Store(true)
	}
	r.mu.Unlock()
	r.prod()
}

// prod has the child told. Nobody who prods waits for the child's pipe.
func (r *remote) prod() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// steer tells the child where to stop, and until when it may start tasks, as
// often as that changes, until over is closed.
func (r *remote) steer(over <-chan struct{}) {
	stop := r.seeds.Last
	for {
		if last := r.stop.Load(); last < stop {
			stop = last
			_ = r.child.command(stopCommand(r.id, stop)) // a child that is gone is found by Run
		}
		r.mu.Lock()
		leave, moved := r.leave, r.moved
		r.moved = false
		r.mu.Unlock()
		if moved {
			_ = r.child.command(leaveCommand(r.id, leave)) // as above
		}
		select {
		case <-over:
			return
		case <-r.poke:
		}
	}
}

func (p *process) set(r *remote) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = r
}

func (p *process) Run(ctx context.Context, t Task) (Result, error) {
	if t.Range.First > t.Range.Last {
		return Result{}, emptyRange(p.cfg.Index, t.Range)
	}
	if err := take(ctx, p.turn, p.closing); err != nil {
		return Result{}, err
	}
	defer p.release()
	if p.resting != nil {
		close(p.resting)
		p.resting = nil
	}
	if p.child != nil && p.child.ended() {
		_ = p.lose(p.child, "it ended between two tasks") // it is gone already
	}
	if err := p.have(ctx); err != nil {
		return Result{}, err
	}
	began := time.Now()
	res, err := p.search(ctx, p.child, t)
	res.Elapsed = time.Since(began)
	if err != nil {
		return Result{}, err
	}
	p.failures, p.earliest = 0, time.Time{}
	return res, nil
}

// have makes sure that there is a child.
func (p *process) have(ctx context.Context) error {
	if p.child != nil {
		return nil
	}
	free, err := p.claim(ctx)
	if err != nil {
		return err
	}
	return p.start(ctx, free)
}

func (p *process) Ready(ctx context.Context, again bool) error {
	if err := take(ctx, p.turn, p.closing); err != nil {
		return err
	}
	defer p.release()
	if p.child != nil && (again || p.child.ended()) {
		if err := p.retire(); err != nil {
			return &Error{Slot: p.cfg.Index, Class: Hung, Message: err.Error(), Err: err}
		}
	}
	p.again = again
	defer func() { p.again = false }()
	return p.have(ctx)
}

// release ends a turn, and lets the idle time begin.
func (p *process) release() {
	if p.child != nil && p.resting == nil {
		rest := make(chan struct{})
		p.resting = rest
		p.tasks.Go(func() { p.idle(rest) })
	}
	<-p.turn
}

// idle ends the child when it was not used for long enough.
func (p *process) idle(rest chan struct{}) {
	timer := time.NewTimer(p.cfg.IdleStop)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-rest:
		return
	case <-p.closing:
		return
	}
	select {
	case p.turn <- struct{}{}:
	case <-rest:
		return
	case <-p.closing:
		return
	}
	if p.resting == rest && p.child != nil {
		p.log.Info("executor idle, stopped", "pid", p.child.pid)
		if err := p.retire(); err != nil {
			p.log.Warn("executor not stopped", "error", err)
		}
		p.resting = nil
	}
	<-p.turn
}

// claim makes the slot free and takes its lock.
func (p *process) claim(ctx context.Context) (*os.File, error) {
	endRecorded(recordPath(p.cfg.Dir, p.cfg.Index))
	f, err := lock(ctx, p.cfg.Lock, p.lim.lock)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, errLocked):
		return nil, &Error{
			Slot: p.cfg.Index, Class: Quarantined, Err: err,
			Message: fmt.Sprintf("an earlier executor still holds %s after %v", p.cfg.Lock, p.lim.lock),
		}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, &Error{Slot: p.cfg.Index, Class: NotStarted, Message: err.Error(), Err: err}
}

// start makes p.child. It always lets go of its own hold of the lock.
func (p *process) start(ctx context.Context, free *os.File) (err error) {
	defer func() { err = errors.Join(err, free.Close()) }()
	if err := p.pause(ctx); err != nil {
		return err
	}
	if p.cfg.StartToken != nil && !p.accelerated() { // whose test takes long, or for ever
		if err := take(ctx, p.cfg.StartToken, p.closing); err != nil {
			return err
		}
		defer func() { <-p.cfg.StartToken }()
	}
	argv, err := p.argv()
	if err != nil {
		return err
	}
	env := append(allowed(os.Environ()), p.cfg.Env...)
	c, err := spawn(argv, append(env, kernels.AcceleratorEnv(p.cfg.Device, p.cfg.GFX, env)...), free, p.log)
	if err != nil {
		p.count()
		return &Error{Slot: p.cfg.Index, Class: NotStarted, Message: err.Error(), Err: err}
	}
	var ready *slotpb.Ready
	rec, err := recordOf(c.pid)
	if err == nil {
		err = rec.write(recordPath(p.cfg.Dir, p.cfg.Index))
	}
	if err == nil {
		ready, err = c.ready(ctx, p.closing, p.lim.ready)
	}
	if err != nil {
		gone := c.end(p.lim.reap)
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return err
		}
		p.count()
		return &Error{
			Slot: p.cfg.Index, Class: NotStarted, Message: c.stderr.why(errors.Join(err, gone).Error()), Err: err,
			Pid: c.pid, Status: c.status(), Stderr: c.stderr.String(),
		}
	}
	p.about.Store(&About{ready.Driver, ready.Pci, ready.Memory})
	p.keep(c)
	p.log.Info("executor ready", "pid", c.pid, "device", ready.Device, "driver", ready.Driver, "threads", ready.Threads, "took", time.Since(c.started))
	return nil
}

// pause waits until the next start is due.
func (p *process) pause(ctx context.Context) error {
	timer := time.NewTimer(time.Until(p.earliest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return ErrClosed
	}
}

// count makes the starts rarer while they lead to nothing.
func (p *process) count() {
	p.failures++
	if p.failures < 2 {
		return
	}
	p.earliest = time.Now().Add(min(p.lim.backoff<<min(p.failures-2, 16), p.lim.rest))
}

func (p *process) argv() ([]string, error) {
	sim, err := json.Marshal(simOf(p.cfg.Sim))
	if err != nil {
		return nil, fmt.Errorf("slot: %w", err)
	}
	a := p.cfg.Accelerator
	accelerator, err := json.Marshal(acceleratorConfig{
		a.Number, a.Libraries, cmp.Or(a.Programs, filepath.Join(p.cfg.Dir, "programs")), a.MemoryFraction, p.again, p.cfg.Shared, p.cfg.Locks,
	})
	if err != nil {
		return nil, fmt.Errorf("slot: %w", err)
	}
	return append(append([]string{}, p.cfg.Command...),
		"--index", strconv.Itoa(p.cfg.Index), "--device", p.cfg.Device, "--threads", strconv.Itoa(p.cfg.Threads),
		"--accelerator", string(accelerator),
		"--sim", string(sim), "--lock-fd", strconv.Itoa(lockFD)), nil
}

func (p *process) keep(c *child) {
	p.child = c
	p.shown.Store(c)
}

// retire ends a child that did nothing wrong.
func (p *process) retire() error {
	c := p.child
	p.keep(nil)
	err := c.quit(p.lim.quit, p.lim.reap)
	if err == nil {
		_ = os.Remove(recordPath(p.cfg.Dir, p.cfg.Index)) // names a process that is gone
	}
	return err
}

// lose ends a child that is of no use any more, and counts that.
func (p *process) lose(c *child, why string) error {
	p.keep(nil)
	err := c.end(p.lim.reap)
	p.count()
	p.log.Warn("executor lost", "pid", c.pid, "reason", why, "status", c.status(), "failures", p.failures)
	return err
}

func (p *process) Close() error {
	p.once.Do(func() {
		close(p.closing)
		p.turn <- struct{}{} // never given back
		if p.child != nil {
			p.closed = p.retire()
		}
		p.tasks.Wait()
	})
	return p.closed
}

// search has the child do one task.
func (p *process) search(ctx context.Context, c *child, t Task) (Result, error) {
	p.lastID++
	r := &remote{run: newRun(t.Range), id: p.lastID, child: c, scripts: t.Scripts != nil, poke: make(chan struct{}, 1)}
	p.set(r)
	defer p.set(nil)
	command := searchCommand
	if r.scripts {
		command = scriptsCommand
	}
	if err := c.command(command(r.id, t)); err != nil {
		return Result{}, p.fail(c, p.whyNoFrame(c, err))
	}
	over := make(chan struct{})
	var steering sync.WaitGroup
	steering.Go(func() { r.steer(over) })
	defer steering.Wait() // its command fails at the latest when the child is gone
	defer close(over)
	o, cause, err := p.follow(ctx, r, t)
	switch {
	case err != nil && fatal(err):
		err = p.fail(c, err)
		if cause != nil {
			return Result{}, cause
		}
		return Result{}, err
	case cause != nil:
		return Result{}, cause
	case err != nil:
		return Result{}, located(err, p.cfg.Index)
	}
	p.set(nil) // a StopAt from here on is too late
	res, err := r.result(o)
	if err != nil {
		return Result{}, p.fail(c, err)
	}
	return res, nil
}

// follow takes the child's reports of one task until its last. The cause is why
// the node ended the task, if it did; err is what the child did.
func (p *process) follow(ctx context.Context, r *remote, t Task) (o outcome, cause, err error) {
	timer := time.NewTimer(p.cfg.HangAfter / 2)
	defer timer.Stop()
	silent := false // for half the time; a pause of this process counts as one half only
	done, closing := ctx.Done(), p.closing
	cancel := func(why error) {
		cause, done, closing = why, nil, nil
		_ = r.child.command(cancelCommand(r.id)) // without an answer the timer ends it
		timer.Reset(p.cancelLimit(t))
	}
	for {
		select {
		case m, ok := <-r.child.frames:
			if !ok {
				return o, cause, p.whyNoFrame(r.child, r.child.broken)
			}
			end, emitted, err := p.report(r, t, m, cause != nil)
			switch {
			case err != nil:
				return o, cause, err
			case end != nil:
				return *end, cause, nil
			case emitted != nil:
				cancel(emitted)
			case cause == nil:
				silent = false
				timer.Reset(p.cfg.HangAfter / 2)
			}
		case <-done:
			cancel(ctx.Err())
		case <-closing:
			cancel(ErrClosed)
		case <-timer.C:
			if cause == nil && !silent {
				silent = true
				timer.Reset(p.cfg.HangAfter / 2)
				continue
			}
			return o, cause, &Error{Class: Hung, Message: fmt.Sprintf("no sign of life for %v in the range %s", p.cfg.HangAfter, t.Range)}
		}
	}
}

// cancelLimit is the wait for an answer to a cancel: scripts are given time to end.
func (p *process) cancelLimit(t Task) time.Duration {
	if t.Scripts != nil {
		return scripts.DefaultGrace + cancelScripts
	}
	return p.lim.cancel
}

// report handles one frame: it gives the outcome at the end, the error of the
// task's own function, or that of the child. After a cancel only the end counts.
func (p *process) report(r *remote, t Task, m *slotpb.Report, cancelled bool) (end *outcome, emitted, err error) {
	switch k := m.Kind.(type) {
	case *slotpb.Report_Progress:
		err := r.check(k.Progress.Id)
		if err == nil && t.Scripts != nil && k.Progress.Halted {
			t.Scripts.Halted()
			return nil, nil, nil
		}
		if err != nil || cancelled || t.Progress == nil {
			return nil, nil, err
		}
		t.Progress(k.Progress.Done)
		return nil, nil, nil
	case *slotpb.Report_Survivors:
		if err := r.check(k.Survivors.Id); err != nil || cancelled {
			return nil, nil, err
		}
		emitted, err := r.emit(t, k.Survivors)
		return nil, emitted, err
	case *slotpb.Report_Ended:
		if err := r.check(k.Ended.Id); err != nil || cancelled {
			return nil, nil, err
		}
		emitted, err := r.ended(t, k.Ended)
		return nil, emitted, err
	case *slotpb.Report_Done:
		o := parseDone(k.Done)
		return &o, nil, r.check(k.Done.Id)
	case *slotpb.Report_Error:
		if err := r.check(k.Error.Id); err != nil {
			return nil, nil, err
		}
		return nil, nil, parseError(k.Error)
	}
	return nil, nil, &Error{Class: Protocol, Message: "a report of an unknown kind"}
}

func (r *remote) check(id uint64) error {
	if id != r.id {
		return &Error{Class: Protocol, Message: fmt.Sprintf("a report about search %d during search %d", id, r.id)}
	}
	return nil
}

func (r *remote) emit(t Task, m *slotpb.Survivors) (emitted, err error) {
	batch, err := parseSurvivors(m)
	if err != nil {
		return nil, &Error{Class: Protocol, Message: err.Error(), Err: err}
	}
	if batch, err = r.survivors(batch); err != nil || len(batch) == 0 || t.Emit == nil {
		return nil, err
	}
	return t.Emit(batch), nil
}

// whyNoFrame says why frames cannot be exchanged any more.
func (p *process) whyNoFrame(c *child, err error) error {
	if err == nil || isEnd(err) {
		return &Error{Class: Died, Message: "the process ended during a task"}
	}
	return &Error{Class: Protocol, Message: err.Error(), Err: err}
}

// fatal tells the errors after which a child is of no use.
func fatal(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return true
	}
	switch e.Class {
	case BadTask, Unsupported, Failed, Stuck, cancelled:
		return false
	default:
		return true
	}
}

// fail ends the child, and adds to an error what is known of its end.
func (p *process) fail(c *child, err error) error {
	gone := p.lose(c, err.Error())
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	e.Slot, e.Pid, e.Status, e.Stderr = p.cfg.Index, c.pid, c.status(), c.stderr.String()
	if e.Class == Died {
		e.Message = c.stderr.why(e.Message)
	}
	if gone != nil {
		e.Message += "; " + gone.Error()
	}
	return e
}
