// Package kernels searches a range of seeds for those whose generator explains
// observed outputs, on whatever device there is.
//
// It knows nothing of jobs, nodes or networks. A [Spec] is what a user asked
// for; [Spec.Compile] checks it and gives one [Search] per generator; a
// [Device] prepares a Search into a [Searcher], which works through ranges.
// What is computed is defined in docs/SIEVE.md.
//
// Read kernels.go for the nouns, spec.go and modes.go for the checks,
// generators.go for the registry, observe.go for what is seen of outputs,
// search.go and sieve.go for how a seed is tested (hybrid.go, confirm.go, back.go
// and candidates.go for the other modes and directions), analysis.go for statistics of streams, cpu.go for the device
// every machine has, accelerator.go for the others, conformance.go and reference.go for what any device must pass.
package kernels

import (
	"context"
	"fmt"
	"math/bits"
)

// A Range is the seeds from First to Last, both included, so that the whole
// space of 2^64 seeds is representable. A Range is never empty.
type Range struct{ First, Last uint64 }

// Count is the number of seeds modulo 2^64 (the full 64-bit space gives 0).
func (r Range) Count() uint64 { return r.Last - r.First + 1 }

// String is the half-open form A:B that the command line uses; the end of the
// 64-bit space is written 2^64.
func (r Range) String() string {
	if r.Last == 1<<64-1 {
		return fmt.Sprintf("%d:2^64", r.First)
	}
	return fmt.Sprintf("%d:%d", r.First, r.Last+1)
}

// Size is the number of seeds as a floating-point number, for estimates.
func (r Range) Size() float64 { return float64(r.Last-r.First) + 1 }

// A Survivor is a seed whose best match count reached the search's need, with
// the best skip and offset (ties: smallest skip, then smallest offset); or a seed
// that an [Analysis] has a record of.
type Survivor struct {
	Seed    uint64
	Matches uint16
	Skip    uint16
	Offset  uint32
	Figures string // what an analysis found, at most [MaxFigures] bytes, all records of a search alike; else empty
}

// An Account is an executor's own record of the seeds it really visited,
// summed up from the blocks it evaluated and not from the bounds it was given:
// how many, their sum and their sum of squares, all modulo 2^64.
type Account struct{ Count, Sum, SumSq uint64 }

// Add joins the accounts of two disjoint sets of seeds.
func (a Account) Add(b Account) Account {
	return Account{a.Count + b.Count, a.Sum + b.Sum, a.SumSq + b.SumSq}
}

// A Device is a piece of hardware that can search: the CPU, or a GPU through
// one of its programming interfaces.
type Device interface {
	// Name is short and stable, such as "cpu" or "sim".
	Name() string
	// Prepare compiles a search for this device. It fails with an
	// [*UnsupportedError] when the device cannot run it.
	Prepare(ctx context.Context, s *Search) (Searcher, error)
	Close() error
}

// An UnsupportedError says why a device cannot run a search of a generator.
type UnsupportedError struct{ Device, Generator, Reason string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("kernels: the device %s cannot run this search of %s: %s", e.Device, e.Generator, e.Reason)
}

// Remedy names the device that runs every search.
func (e *UnsupportedError) Remedy() string { return "the device cpu runs every search" }

// A Searcher runs one prepared search on one device; it is used by one
// goroutine at a time.
type Searcher interface {
	// Search works through r in rising order and calls emit for every survivor
	// in rising order of seed, always from the calling goroutine. It returns the
	// last seed of the finished prefix and the account of exactly the prefix.
	//
	// It ends early, with the prefix finished so far, when watch says so: watch
	// is called at least every 20 ms with the number of seeds finished in order,
	// and returns the last seed still wanted (r.Last to go on; less to stop
	// there; seeds beyond it that were already done do not count). When ctx ends, Search returns
	// ctx.Err() within a few milliseconds and the results are void.
	// ok is false when not even one seed was finished.
	Search(ctx context.Context, r Range, watch func(done uint64) (last uint64), emit func(Survivor) error) (last uint64, acct Account, ok bool, err error)
	Close() error
}

// sumTo is 0+1+...+n modulo 2^64.
func sumTo(n uint64) uint64 {
	if n%2 == 0 {
		return n / 2 * (n + 1)
	}
	return n * (n/2 + 1)
}

// inverse3 is the inverse of 3 modulo 2^64.
const inverse3 = 0xAAAAAAAAAAAAAAAB

// sumSqTo is 0+1+4+...+n*n modulo 2^64.
func sumSqTo(n uint64) uint64 { return sumTo(n) * (2*n + 1) * inverse3 }

// AccountOf is the account that visiting every seed of r exactly once gives,
// from the closed forms of the sums.
func AccountOf(r Range) Account {
	a := Account{Count: r.Count(), Sum: sumTo(r.Last), SumSq: sumSqTo(r.Last)}
	if r.First > 0 {
		a.Sum -= sumTo(r.First - 1)
		a.SumSq -= sumSqTo(r.First - 1)
	}
	return a
}

// mulSat is a*b, or 2^64-1 when that is more.
func mulSat(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi != 0 {
		return 1<<64 - 1
	}
	return lo
}
