package kernels

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	blockNanos    = 10_000_000            // what one block should take on one core
	maxBlock      = 1 << 16               // seeds in one block of a search without vectors
	blocksAhead   = 8                     // blocks for each thread that may be out or wait for an earlier one
	watchInterval = 10 * time.Millisecond // longest time between two calls of watch
)

// NewCPU is the device that every machine has, on so many threads, or on as
// many as there are cores when threads is not positive. It tests vectors of
// seeds where the CPU and the search allow it, and else one seed after the other.
func NewCPU(threads int) Device {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return cpu{threads: threads, unit: chosenUnit()}
}

type cpu struct {
	threads int
	unit    *vectorUnit // nil: no vectors
	always  bool        // vectors wherever they are possible, even where they are slower; for tests
}

func (cpu) Name() string { return "cpu" }

// identity changes with the processor and with what is used of it.
func (c cpu) identity() string {
	unit := "no vectors"
	if c.unit != nil {
		unit = c.unit.name
	}
	return "cpu with " + unit + ", " + processor()
}

// processor is the model of this machine's CPU where the system tells it, or empty.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		if key, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return ""
}

func (cpu) Close() error { return nil }

func (c cpu) Prepare(ctx context.Context, s *Search) (Searcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &cpuSearcher{
		threads: c.threads,
		block:   blockSeeds(s),
		run:     runBlock,
	}
	plan, ok := c.vectors(s)
	if ok {
		p.block = plan.blockSeeds()
	}
	for range c.threads {
		w := newWorker(s)
		if ok {
			w = newVectorSieve(newSieve(s), c.unit, plan)
		}
		p.workers = append(p.workers, w)
	}
	return p, nil
}

// vectors is the plan for the search, if vectors are possible and faster.
func (c cpu) vectors(s *Search) (plan *vectorPlan, ok bool) {
	if c.unit == nil {
		return nil, false
	}
	plan, ok = s.planVectors(c.unit)
	return plan, ok && (c.always || plan.cost < float64(s.cost()))
}

// blockSeeds is how many seeds of a search make a block.
func blockSeeds(s *Search) uint64 { return min(max(blockNanos/s.cost(), 1), maxBlock) }

// A worker tests seeds on one thread.
type worker interface {
	// run tests every seed of r in rising order. It appends the survivors to
	// found and gives the account of the seeds that it tested. The results are
	// void when abort is set.
	run(abort *atomic.Bool, r Range, found []Survivor) ([]Survivor, Account)
}

// newWorker tests one seed after the other.
func newWorker(s *Search) worker {
	if s.analysis != nil {
		return newAnalyst(s)
	}
	return newSieve(s)
}

type cpuSearcher struct {
	threads int
	block   uint64 // seeds
	workers []worker
	run     func(worker, *atomic.Bool, Range) ([]Survivor, Account) // tests plant bugs here
}

func runBlock(w worker, abort *atomic.Bool, r Range) ([]Survivor, Account) {
	return w.run(abort, r, nil)
}

func (c *cpuSearcher) Close() error { return nil }

// A block is a piece of the range that one worker tests at a time.
type block struct {
	seeds Range
	found []Survivor
	acct  Account
	ready chan struct{}
}

// Search keeps every block that is out in one queue, in rising order. The
// workers fill them in; this goroutine takes them off the front.
func (c *cpuSearcher) Search(ctx context.Context, r Range, watch func(done uint64) uint64, emit func(Survivor) error) (uint64, Account, bool, error) {
	if err := ctx.Err(); err != nil {
		return 0, Account{}, false, err
	}
	abort, stop := abortWith(ctx)
	defer stop()

	ahead := c.threads * blocksAhead
	size := min(c.block, max((r.Last-r.First)/uint64(ahead), maxBlock)) // of a short range all threads get a share
	work := make(chan *block, ahead)
	var workers sync.WaitGroup
	for _, w := range c.workers {
		workers.Go(func() {
			for b := range work {
				b.found, b.acct = c.run(w, abort, b.seeds)
				close(b.ready)
			}
		})
	}
	defer workers.Wait()
	defer close(work)
	defer abort.Store(true)

	front := newFront(r, watch, emit)
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var queue []*block
	for next, issued := r.First, false; ; {
		for !issued && next <= front.want && len(queue) < ahead {
			b := &block{seeds: Range{next, next + min(size-1, front.want-next)}, ready: make(chan struct{})}
			queue = append(queue, b)
			work <- b
			next = b.seeds.Last + 1
			issued = b.seeds.Last == r.Last
		}
		if front.finished() || len(queue) == 0 {
			last, acct, ok := front.result()
			return last, acct, ok, ctx.Err()
		}
		select {
		case <-ctx.Done():
			return 0, Account{}, false, ctx.Err()
		case <-tick.C:
			front.look()
		case <-queue[0].ready:
			if err := ctx.Err(); err != nil {
				return 0, Account{}, false, err
			}
			if err := front.take(queue[0]); err != nil {
				return 0, Account{}, false, err
			}
			queue = queue[1:]
		}
	}
}

// abortWith is set when ctx ends. Every call of Search has its own, because a
// context may end just after the call.
func abortWith(ctx context.Context) (abort *atomic.Bool, stop func() bool) {
	abort = new(atomic.Bool)
	return abort, context.AfterFunc(ctx, func() { abort.Store(true) })
}

// A front is the finished prefix of a range.
type front struct {
	all   Range
	want  uint64 // last seed that is still wanted
	none  bool   // not even the first seed is wanted
	some  bool   // last is valid
	last  uint64
	acct  Account
	watch func(uint64) uint64
	emit  func(Survivor) error
}

func newFront(r Range, watch func(uint64) uint64, emit func(Survivor) error) *front {
	return &front{all: r, want: r.Last, watch: watch, emit: emit}
}

// look asks how far the seeds are still wanted. The bound only ever falls.
func (f *front) look() {
	done := uint64(0)
	if f.some {
		done = f.last - f.all.First + 1
	}
	last := f.watch(done)
	if last < f.all.First {
		f.none, last = true, f.all.First
	}
	f.want = min(f.want, last)
}

// take adds the next block to the prefix.
func (f *front) take(b *block) error {
	for _, v := range b.found {
		if v.Seed > f.want || f.none {
			break
		}
		if err := f.emit(v); err != nil {
			return err
		}
	}
	f.acct = f.acct.Add(b.acct)
	f.last, f.some = b.seeds.Last, true
	f.look()
	return nil
}

func (f *front) finished() bool { return f.none || f.some && f.last >= f.want }

// result is the wanted part of the prefix. What is beyond it is taken off the
// account by its closed form, so that the account stays one of visited seeds.
func (f *front) result() (last uint64, acct Account, ok bool) {
	if f.none || !f.some {
		return 0, Account{}, false
	}
	if f.last <= f.want {
		return f.last, f.acct, true
	}
	beyond := AccountOf(Range{f.want + 1, f.last})
	return f.want, Account{
		f.acct.Count - beyond.Count, f.acct.Sum - beyond.Sum, f.acct.SumSq - beyond.SumSq,
	}, true
}
