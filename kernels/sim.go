package kernels

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// A SimConfig is a device that answers by the CPU reference on one goroutine,
// at a stated rate and with stated faults. A nil fault never happens; the
// others happen every time that the device comes to the seed.
type SimConfig struct {
	Label string  // the device's name; empty means "sim"
	Rate  float64 // seeds per second over a whole call of Search, above 0; the processor must be faster

	FailAt  *uint64 // Search returns [ErrSimFault]
	HangAt  *uint64 // Search stops calling watch, and returns when its context ends
	CrashAt *uint64 // Crash is called; Search goes on if that returns
	Crash   func()

	WrongAccount bool   // the account misses one seed
	MissEvery    uint64 // seeds that this divides do not survive, as on a device that miscalculates; 0 for none
}

// ErrSimFault is the failure that FailAt of a [SimConfig] states.
var ErrSimFault = errors.New("kernels: the simulated device failed, as it was told to")

// NewSim is a simulated device for tests, drills and capacity planning. It waits
// on timers only, so that its rate holds in the fake time of testing/synctest.
func NewSim(config SimConfig) Device {
	if config.Label == "" {
		config.Label = "sim"
	}
	return sim{config}
}

type sim struct{ config SimConfig }

func (d sim) Name() string { return d.config.Label }
func (sim) Close() error   { return nil }

func (d sim) Prepare(ctx context.Context, s *Search) (Searcher, error) {
	if rate := d.config.Rate; !(rate > 0) || math.IsInf(rate, 0) {
		return nil, fmt.Errorf("kernels: the simulated device %s has a rate of %g seeds/s, which must be above 0", d.config.Label, rate)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &simSearcher{config: d.config, worker: newWorker(s), block: blockSeeds(s)}, nil
}

type simSearcher struct {
	config SimConfig
	worker worker
	block  uint64 // seeds
}

func (*simSearcher) Close() error { return nil }

func (c *simSearcher) Search(ctx context.Context, r Range, watch func(done uint64) uint64, emit func(Survivor) error) (uint64, Account, bool, error) {
	if err := ctx.Err(); err != nil {
		return 0, Account{}, false, err
	}
	abort, stop := abortWith(ctx)
	defer stop()
	front := newFront(r, watch, emit)
	start := time.Now()
	step := uint64(min(max(c.config.Rate*watchInterval.Seconds(), 1), float64(c.block)))
	for next := r.First; ; next = front.last + 1 {
		if err := c.meet(ctx, next); err != nil {
			return 0, Account{}, false, err
		}
		b := &block{seeds: Range{next, c.beforeFault(next, next+min(step-1, front.want-next))}}
		b.found, b.acct = c.worker.run(abort, b.seeds, nil)
		if every := c.config.MissEvery; every > 0 {
			b.found = slices.DeleteFunc(b.found, func(v Survivor) bool { return v.Seed%every == 0 })
		}
		if err := c.wait(ctx, start, b.seeds.Last-r.First, front); err != nil {
			return 0, Account{}, false, err
		}
		if !front.finished() {
			if err := front.take(b); err != nil {
				return 0, Account{}, false, err
			}
		}
		if front.finished() {
			last, acct, ok := front.result()
			if c.config.WrongAccount {
				acct.Count--
				acct.Sum -= last
				acct.SumSq -= last * last
			}
			return last, acct, ok, nil
		}
	}
}

// meet has the faults that are stated for a seed.
func (c *simSearcher) meet(ctx context.Context, seed uint64) error {
	is := func(at *uint64) bool { return at != nil && *at == seed }
	if is(c.config.CrashAt) && c.config.Crash != nil {
		c.config.Crash()
	}
	if is(c.config.FailAt) {
		return ErrSimFault
	}
	if is(c.config.HangAt) {
		<-ctx.Done()
	}
	return ctx.Err()
}

// beforeFault is last, or the seed before the first fault after first.
func (c *simSearcher) beforeFault(first, last uint64) uint64 {
	for _, at := range []*uint64{c.config.FailAt, c.config.HangAt, c.config.CrashAt} {
		if at != nil && *at > first && *at <= last {
			last = *at - 1
		}
	}
	return last
}

// wait returns when the rate allows the seed that lies so far behind the first
// one to be finished, or when no more seeds are wanted.
func (c *simSearcher) wait(ctx context.Context, start time.Time, beyondFirst uint64, f *front) error {
	due := time.Duration(min((float64(beyondFirst)+1)/c.config.Rate*float64(time.Second), math.MaxInt64/2))
	for {
		rest := due - time.Since(start)
		if rest <= 0 || f.finished() {
			return ctx.Err()
		}
		timer := time.NewTimer(min(rest, watchInterval))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
			f.look()
		}
	}
}
