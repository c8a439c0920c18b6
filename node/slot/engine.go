package slot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"seedmesh/kernels"
)

const (
	beatInterval  = 200 * time.Millisecond // between two signs of life in a search
	maxBatch      = 4096                   // survivors in one call of Emit, and in one frame
	maxFigures    = maxFrameBytes / 2      // bytes of their figures
	maxBatchDelay = beatInterval           // how long a survivor waits for others
)

// A deviceConfig is what an executor is told of its device.
type deviceConfig struct {
	name        string
	threads     int
	accelerator acceleratorConfig
	sim         kernels.SimConfig
}

// newDevice opens a device, and says how many threads it works with. The process keeps
// to the processors that a cpu slot has: on a further one, what hands blocks to the workers
// would run beside them, and take processors that other slots work on.
func newDevice(c deviceConfig) (kernels.Device, int, error) {
	switch c.name {
	case "cpu":
		if c.threads <= 0 {
			c.threads = runtime.GOMAXPROCS(0)
		}
		runtime.GOMAXPROCS(min(c.threads, runtime.GOMAXPROCS(0)))
		return kernels.NewCPU(c.threads), c.threads, nil
	case kernels.CUDA, kernels.HIP, kernels.OpenCL:
		d, err := c.accelerator.open(c.name)
		return d, 1, err
	case "sim":
		return kernels.NewSim(c.sim), 1, nil
	}
	return nil, 0, unknownDevice(c.name)
}

// Devices are the kinds of device that a slot can have.
func Devices() []string { return append([]string{"cpu", "sim"}, kernels.Accelerators()...) }

func unknownDevice(name string) error {
	return fmt.Errorf("slot: the device %.40q is unknown; there are %s", name, strings.Join(Devices(), ", "))
}

// An engine searches on one device. It keeps the last search prepared. It is used
// by one goroutine at a time.
type engine struct {
	device   kernels.Device
	key      [sha256.Size]byte
	search   *kernels.Search
	searcher kernels.Searcher // nil when nothing is prepared
}

// hooks connect a search with whom it is for. An error of beat or emit ends it.
type hooks struct {
	stop func() uint64 // last seed that is still wanted
	beat func(done uint64) error
	emit func([]kernels.Survivor) error // the slice is used again after it
}

// An outcome is what an engine found out, unchecked.
type outcome struct {
	ok        bool
	last      uint64
	account   kernels.Account
	searching time.Duration
}

// prepare makes the engine ready for a task. Its errors are an [*Error] without
// the slot's number, or ctx's.
func (e *engine) prepare(ctx context.Context, spec []byte, generator string, r kernels.Range) error {
	key := sha256.Sum256(append([]byte(generator+"\x00"), spec...))
	if e.searcher == nil || key != e.key {
		if err := e.forget(); err != nil {
			return &Error{Class: Failed, Message: err.Error(), Err: err}
		}
		s, err := kernels.DecodeSpec(spec)
		var search *kernels.Search
		if err == nil {
			search, err = s.Compile(generator)
		}
		if err != nil {
			return &Error{Class: BadTask, Message: err.Error(), Err: err}
		}
		searcher, err := e.device.Prepare(ctx, search)
		var unsupported *kernels.UnsupportedError
		if errors.As(err, &unsupported) && ctx.Err() == nil {
			// A job must not fail because its pieces come to this slot. The slot's
			// rate for it becomes that of one thread, and its pieces small.
			fmt.Fprintf(os.Stderr, "%v; one thread of the CPU does it\n", err)
			searcher, err = kernels.NewCPU(1).Prepare(ctx, search)
		}
		switch {
		case ctx.Err() != nil:
			if err == nil {
				err = searcher.Close()
			}
			return errors.Join(ctx.Err(), err)
		case err != nil:
			return &Error{Class: Failed, Message: err.Error(), Err: err}
		}
		e.key, e.search, e.searcher = key, search, searcher
	}
	if err := e.search.CheckSeeds(r); err != nil {
		return &Error{Class: BadTask, Message: err.Error(), Err: err}
	}
	return nil
}

// run searches a range with what prepare made ready.
func (e *engine) run(ctx context.Context, r kernels.Range, h hooks) (outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var batch []kernels.Survivor
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := h.emit(batch)
		batch = batch[:0]
		return err
	}
	start := time.Now()
	beaten := start
	watch := func(done uint64) uint64 {
		if time.Since(beaten) >= beatInterval {
			err := flush()
			if err == nil {
				err = h.beat(done)
			}
			if err != nil {
				cancel(err)
			}
			beaten = time.Now()
		}
		return h.stop()
	}
	emit := func(v kernels.Survivor) error {
		batch = append(batch, v)
		if n := len(batch); n >= maxBatch || (n+1)*len(v.Figures) > maxFigures {
			return flush()
		}
		return nil
	}
	last, account, ok, err := e.searcher.Search(ctx, r, watch, emit)
	took := time.Since(start)
	if cause := context.Cause(ctx); cause != nil {
		return outcome{}, cause
	}
	if err == nil {
		err = flush()
	}
	if err != nil {
		return outcome{}, err
	}
	if !ok {
		return outcome{searching: took}, nil
	}
	return outcome{true, last, account, took}, nil
}

// forget drops what is prepared.
func (e *engine) forget() error {
	if e.searcher == nil {
		return nil
	}
	s := e.searcher
	e.search, e.searcher = nil, nil
	return s.Close()
}

func (e *engine) close() error { return errors.Join(e.forget(), e.device.Close()) }

// A run is a task in progress as those see it that check it and may shorten it.
type run struct {
	seeds kernels.Range
	stop  atomic.Uint64 // last seed still wanted
	early atomic.Bool   // it may end before that, without its leave
	some  bool          // prev is valid
	prev  uint64        // last survivor
}

func newRun(r kernels.Range) *run {
	u := &run{seeds: r}
	u.stop.Store(r.Last)
	return u
}

// shorten says whether last changed anything.
func (u *run) shorten(last uint64) bool {
	for {
		old := u.stop.Load()
		if last < u.seeds.First || last >= old {
			return false
		}
		if u.stop.CompareAndSwap(old, last) {
			return true
		}
	}
}

// survivors checks a batch, and gives those that are still wanted.
func (u *run) survivors(batch []kernels.Survivor) ([]kernels.Survivor, error) {
	for _, v := range batch {
		if v.Seed < u.seeds.First || v.Seed > u.seeds.Last || u.some && v.Seed <= u.prev {
			return nil, &Error{Class: WrongOrder, Message: fmt.Sprintf("the survivor %d in the range %s came after %d", v.Seed, u.seeds, u.prev)}
		}
		u.some, u.prev = true, v.Seed
	}
	stop := u.stop.Load()
	for len(batch) > 0 && batch[len(batch)-1].Seed > stop {
		batch = batch[:len(batch)-1]
	}
	return batch, nil
}

// result checks an outcome against the closed form, and takes off what is no
// longer wanted.
func (u *run) result(o outcome) (Result, error) {
	if !o.ok {
		if o.account != (kernels.Account{}) {
			return Result{}, &Error{Class: WrongAccount, Message: fmt.Sprintf("no seed was finished, and %d were visited", o.account.Count)}
		}
		return Result{Searching: o.searching}, nil
	}
	if o.last < u.seeds.First || o.last > u.seeds.Last {
		return Result{}, &Error{Class: WrongAccount, Message: fmt.Sprintf("seed %d is not in the range %s", o.last, u.seeds)}
	}
	done := kernels.Range{First: u.seeds.First, Last: o.last}
	if want := kernels.AccountOf(done); o.account != want {
		return Result{}, &Error{Class: WrongAccount, Message: fmt.Sprintf("%d seeds were visited (sum %d, sum of squares %d), and the range %s has %d (sum %d, sum of squares %d)",
			o.account.Count, o.account.Sum, o.account.SumSq, done, want.Count, want.Sum, want.SumSq)}
	}
	if stop := u.stop.Load(); stop < o.last {
		done.Last = stop
	} else if o.last < stop && o.last < u.seeds.Last && !u.early.Load() {
		return Result{}, &Error{Class: WrongAccount, Message: fmt.Sprintf("the search ended at seed %d, before %d", o.last, stop)}
	}
	return Result{OK: true, Last: done.Last, Account: kernels.AccountOf(done), Searching: o.searching}, nil
}
