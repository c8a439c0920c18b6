package kernels

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkVectors reports the seeds that one core tests in a second of its own
// time, on the Go path and on every vector unit; for these also the computed
// limit and the share of it that is reached.
func BenchmarkVectors(b *testing.B) {
	for _, tt := range []struct {
		name, generator, observe string
		skip, offset             Bounds
		draws, need              int
	}{
		{"mt19937/first", "mt19937", "raw", Bounds{0, 0}, Bounds{0, 0}, 1, 1},
		{"mt19937/mod1000", "mt19937", "mod:1000", Bounds{0, 0}, Bounds{0, 0}, 10, 10},
		{"mt19937/offsets20", "mt19937", "mod:1000", Bounds{0, 0}, Bounds{0, 19}, 10, 10},
		{"compat:mt19937/skips17", "compat:mt19937", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 30},
		{"php_mt_rand/first", "php_mt_rand", "raw", Bounds{0, 0}, Bounds{0, 0}, 1, 1},
		{"php_mt_rand_legacy/pattern", "php_mt_rand_legacy", "php.mt_rand:0:56", Bounds{0, 0}, Bounds{0, 0}, 10, 10},
		{"php_mt_rand_0_999/first", "php_mt_rand_0_999", "raw", Bounds{0, 0}, Bounds{0, 0}, 10, 10},
		{"compat:xorshift32/all", "compat:xorshift32", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 30},
		{"compat:xorshift32/half", "compat:xorshift32", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 15},
		{"compat:lcg32/all", "compat:lcg32", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 30},
		{"compat:lcg32/half", "compat:lcg32", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 15},
		{"compat:minstd/all", "compat:minstd", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 30},
		{"lcg32/all", "lcg32", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 30},
		{"lcg32/half", "lcg32", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 15},
		{"compat:java_lcg/all", "compat:java_lcg", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 30},
		{"compat:java_lcg/half", "compat:java_lcg", "mod:1000", Bounds{0, 16}, Bounds{0, 0}, 30, 15},
	} {
		def, err := lookup(tt.generator)
		if err != nil {
			b.Fatal(err)
		}
		s, err := plant(def, 4e9, Spec{Observe: tt.observe, Skip: tt.skip, Offset: tt.offset, MinMatches: uint32(tt.need)}, tt.draws)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(tt.name+"/go", func(b *testing.B) { benchmarkWorker(b, newSieve(s), 1<<12) })
		for _, u := range vectorUnits() {
			b.Run(tt.name+"/"+u.name, func(b *testing.B) {
				plan, ok := s.planVectors(u)
				if !ok {
					b.Fatal("no vectors for this search")
				}
				rate := benchmarkWorker(b, newVectorSieve(newSieve(s), u, plan), 1<<18)
				limit := plan.limit(u, u.measurePace())
				b.ReportMetric(limit, "limit-seeds/s")
				b.ReportMetric(100*rate/limit, "%limit")
			})
		}
	}
}

func benchmarkWorker(b *testing.B, w worker, seeds uint64) (rate float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	abort := new(atomic.Bool)
	first := uint64(0)
	start := threadTime(b)
	for b.Loop() {
		w.run(abort, Range{first, first + seeds - 1}, nil)
		first = (first + seeds) % (1 << 31)
	}
	rate = float64(b.N) * float64(seeds) / (threadTime(b) - start).Seconds()
	b.ReportMetric(rate, "seeds/s")
	return rate
}

// threadTime is the processor time of this thread, which other load on the
// machine does not count in.
func threadTime(b *testing.B) time.Duration {
	const ofThread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(ofThread, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
