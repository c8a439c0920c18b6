package slot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"seedmesh/kernels"
)

// NewInProcess is an executor that searches in this process, for tests in fake
// time and for runs on one machine. It checks as the other does, but a device
// that hangs holds Run and Close up, and one that crashes takes the process
// along. It takes over the device and closes it.
func NewInProcess(index int, device kernels.Device) Executor {
	return &inProcess{
		index: index, engine: engine{device: device},
		turn: make(chan struct{}, 1), closing: make(chan struct{}),
	}
}

type inProcess struct {
	index   int
	turn    chan struct{} // who has put a value in uses the engine
	engine  engine
	closing chan struct{}
	once    sync.Once
	closed  error

	mu      sync.Mutex
	running *run // or nil
}

// Ready does nothing: the device is open.
func (p *inProcess) Ready(context.Context, bool) error { return nil }

func (p *inProcess) Pid() int { return os.Getpid() }

func (p *inProcess) About() About { return aboutOf(p.engine.device) }

func (p *inProcess) StopAt(last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		p.running.shorten(last)
	}
}

// Leave does nothing: script jobs need a process.
func (p *inProcess) Leave(time.Time) {}

func (p *inProcess) set(u *run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = u
}

func (p *inProcess) Run(ctx context.Context, t Task) (Result, error) {
	if err := take(ctx, p.turn, p.closing); err != nil {
		return Result{}, err
	}
	defer func() { <-p.turn }()
	if t.Range.First > t.Range.Last {
		return Result{}, emptyRange(p.index, t.Range)
	}
	if t.Scripts != nil {
		return Result{}, &Error{Slot: p.index, Class: Unsupported, Message: "script jobs need an executor process"}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-p.closing:
			cancel(ErrClosed)
		case <-stop:
		}
	})
	defer watcher.Wait()
	defer close(stop)

	u := newRun(t.Range)
	p.set(u)
	defer p.set(nil)
	began := time.Now()
	o, err := p.search(ctx, t, u)
	if cause := context.Cause(ctx); cause != nil {
		return Result{}, cause
	}
	var res Result
	if err == nil {
		p.set(nil) // a StopAt from here on is too late
		res, err = u.result(o)
	}
	if err != nil {
		return Result{}, located(err, p.index)
	}
	res.Elapsed = time.Since(began)
	return res, nil
}

func (p *inProcess) search(ctx context.Context, t Task, u *run) (outcome, error) {
	if err := p.engine.prepare(ctx, t.Spec, t.Generator, t.Range); err != nil {
		return outcome{}, err
	}
	var emitted error
	o, err := p.engine.run(ctx, t.Range, hooks{
		stop: u.stop.Load,
		beat: func(done uint64) error {
			if t.Progress != nil {
				t.Progress(done)
			}
			return nil
		},
		emit: func(batch []kernels.Survivor) error {
			batch, emitted = u.survivors(batch)
			if emitted == nil && t.Emit != nil && len(batch) > 0 {
				emitted = t.Emit(batch)
			}
			return emitted
		},
	})
	if emitted != nil {
		return outcome{}, emitted
	}
	if err != nil && ctx.Err() == nil {
		err = &Error{Class: Failed, Message: err.Error(), Err: err}
	}
	return o, err
}

func (p *inProcess) Close() error {
	p.once.Do(func() {
		close(p.closing)
		p.turn <- struct{}{} // never given back
		p.closed = p.engine.close()
	})
	return p.closed
}

// take waits for a turn.
func take(ctx context.Context, turn chan<- struct{}, closing <-chan struct{}) error {
	select {
	case <-closing:
		return ErrClosed
	default:
	}
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return ErrClosed
	}
}

// located fills in the slot of an error of this package.
func located(err error, index int) error {
	var e *Error
	if errors.As(err, &e) {
		e.Slot = index
	}
	return err
}

func emptyRange(index int, r kernels.Range) *Error {
	return &Error{Slot: index, Class: BadTask, Message: fmt.Sprintf("the range from %d to %d has no seed", r.First, r.Last)}
}
