package kernels

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// An accelerator finds the candidates of a search, a superset of its survivors;
// the Go reference tests each of them fully, so that a record never comes from
// a kernel. What differs between the programming interfaces is a driver.

// A driver is one accelerator behind a programming interface. It is used by one
// goroutine at a time.
type driver interface {
	// Identity says which device, driver and versions there are: what was
	// compiled for one identity is of no use to another.
	Identity() string
	// PCI is the device's place on its machine's bus, or "" where it is not known.
	PCI() string
	// Memory is how many bytes the device has.
	Memory() uint64
	// Lanes is how many seeds a work item should test side by side: 1 or 16.
	Lanes() int
	// Compile makes machine code of a source, in whatever form Load takes.
	Compile(source string) ([]byte, error)
	// Load readies the kernel "search" of a program, with memory for a launch of
	// so many work items and candidates.
	Load(code []byte, items, found int) (program, error)
	Close() error
}

// A program is a kernel that can be launched.
type program interface {
	// Launch runs so many work items over the range, given as its first seed and
	// how many it has, and waits for them. It fills visited with two numbers for
	// each item, and found as far as there are candidates; n is how many there
	// were, which may be more than found holds. See src/search.h.
	Launch(seeds [2]uint64, items int, visited []uint64, found []uint32) (n int, err error)
	Close() error
}

// Times of launches: short enough for a display that shares the device, and for
// cancels.
const (
	shortLaunch  = 4 * time.Millisecond // below it the next one is twice as long
	longLaunch   = 8 * time.Millisecond // above it the next one is half as long
	firstLaunch  = 1 << 14              // seeds
	testedAtOnce = 64                   // candidates that are tested between two looks at the time
)

// accelerator is the device of a driver.
type accelerator struct {
	name   string
	driver driver
	codes  codeCache
}

func (a *accelerator) Name() string { return a.name }
func (a *accelerator) Close() error { return a.driver.Close() }

func (a *accelerator) Prepare(ctx context.Context, s *Search) (Searcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	plan, err := s.planAccelerator(a.name)
	if err != nil {
		return nil, err
	}
	program, err := a.ready(plan)
	if err != nil {
		return nil, fmt.Errorf("kernels: device %s, generator %s: %w", a.name, s.def.Name, err)
	}
	return &acceleratorSearcher{
		reference: newSieve(s), zero: plan.unsureOfZero(), program: program, perItem: plan.perItem(), seeds: firstLaunch,
		most:    maxLaunchItems * plan.perItem(),
		visited: make([]uint64, 2*maxLaunchItems), found: make([]uint32, maxLaunchFound),
	}, nil
}

type acceleratorSearcher struct {
	reference *sieve
	zero      bool // the kernel does not know what the seed 0 stands for
	program   program
	perItem   uint64 // seeds of a work item
	seeds     uint64 // of the next launch
	most      uint64 // seeds of a launch whose candidates have room, as far as is known
	visited   []uint64
	found     []uint32
	launched  chan struct{} // closed when the last launch is over; nil before the first
}

// Close waits for a launch that a cancelled search left behind.
func (c *acceleratorSearcher) Close() error {
	c.await()
	return c.program.Close()
}

func (c *acceleratorSearcher) await() {
	if c.launched != nil {
		<-c.launched
	}
}

func (c *acceleratorSearcher) Search(ctx context.Context, r Range, watch func(done uint64) uint64, emit func(Survivor) error) (uint64, Account, bool, error) {
	void := func(err error) (uint64, Account, bool, error) { return 0, Account{}, false, err }
	abort, stop := abortWith(ctx)
	defer stop()
	c.reference.abort = abort
	c.await()
	front := newFront(r, watch, emit)
	for next := r.First; !front.finished(); {
		b := &block{seeds: Range{next, next + min(c.seeds-1, front.want-next)}}
		took, n, err := c.launch(ctx, b.seeds, front)
		switch {
		case err != nil:
			return void(err)
		case front.none:
			continue
		case n > len(c.found):
			c.most = max((b.seeds.Last-next)/2, 1)
			c.seeds = c.most
			continue
		}
		c.pace(took, b.seeds)
		b.acct = c.account(b.seeds)
		b.found = c.test(b.seeds, c.found[:n], abort, front)
		if err := ctx.Err(); err != nil {
			return void(err)
		}
		if err := front.take(b); err != nil {
			return void(err)
		}
		next = b.seeds.Last + 1
	}
	last, acct, ok := front.result()
	return last, acct, ok, ctx.Err()
}

// launch looks for the candidates of the seeds, and at the front meanwhile.
func (c *acceleratorSearcher) launch(ctx context.Context, seeds Range, front *front) (time.Duration, int, error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	over := make(chan struct{})
	c.launched = over
	start := time.Now()
	var n int // and err: valid once over is closed
	var err error
	go func() { // Close and the next search wait for it
		defer close(over)
		n, err = c.program.Launch([2]uint64{seeds.First, seeds.Count()}, c.itemsOf(seeds), c.visited, c.found)
	}()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return time.Since(start), n, err
		case <-tick.C:
			front.look()
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}

func (c *acceleratorSearcher) itemsOf(seeds Range) int {
	return int((seeds.Last-seeds.First)/c.perItem) + 1
}

// pace chooses the length of the next launch.
func (c *acceleratorSearcher) pace(took time.Duration, seeds Range) {
	switch n := seeds.Last - seeds.First + 1; {
	case took > longLaunch:
		c.seeds = max(n/2, min(c.perItem, c.most))
	case took < shortLaunch && n == c.seeds:
		c.seeds = min(2*n, c.most)
	}
}

// account sums up what the work items say that they looked at, neighbours at once.
func (c *acceleratorSearcher) account(seeds Range) (acct Account) {
	var first, n uint64 // of the run at hand
	for i := range c.itemsOf(seeds) {
		at, done := c.visited[2*i], c.visited[2*i+1]
		switch {
		case at == first+n:
			n += done
			continue
		case n > 0:
			acct.visitRun(first, n)
		}
		first, n = at, done
	}
	if n > 0 {
		acct.visitRun(first, n)
	}
	return acct
}

// test gives the survivors among the candidates, as far as they are still wanted.
func (c *acceleratorSearcher) test(seeds Range, offsets []uint32, abort *atomic.Bool, front *front) (found []Survivor) {
	slices.Sort(offsets)
	if c.zero && seeds.First == 0 && (len(offsets) == 0 || offsets[0] != 0) {
		offsets = append([]uint32{0}, offsets...)
	}
	looked := time.Now()
	for i, offset := range offsets {
		if i%testedAtOnce == 0 && time.Since(looked) > watchInterval {
			front.look()
			looked = time.Now()
		}
		seed := seeds.First + uint64(offset)
		if abort.Load() || front.none || seed > front.want {
			break
		}
		if best, ok := c.reference.test(seed, nil); ok {
			found = append(found, best)
		}
	}
	return found
}
