package kernels

import (
	"sync/atomic"
	"testing"
)

// BenchmarkSieve reports seeds/s of one core: ten draws, no skip, all must
// match; and for the skips the window of the kernel notes.
func BenchmarkSieve(b *testing.B) {
	for _, tt := range []struct {
		name, generator string
		skip            Bounds
		need            uint32
	}{
		{"mt19937/first", "mt19937", Bounds{0, 0}, 30},
		{"php_mt_rand_0_999/first", "php_mt_rand_0_999", Bounds{0, 0}, 30},
		{"xorshift32/first", "xorshift32", Bounds{0, 0}, 30},
		{"java_random_nextint1000/first", "java_random_nextint1000", Bounds{0, 0}, 30},
		{"java_random_next32/first", "java_random_next32", Bounds{0, 0}, 30},
		{"glibc_rand/first", "glibc_rand", Bounds{0, 0}, 30},
		{"minstd_rand/first", "minstd_rand", Bounds{0, 0}, 30},
		{"msvc_rand/first", "msvc_rand", Bounds{0, 0}, 30},
		{"pcg32/first", "pcg32", Bounds{0, 0}, 30},
		{"splitmix64/first", "splitmix64", Bounds{0, 0}, 30},
		{"compat:philox4x32/skips17", "compat:philox4x32", Bounds{0, 16}, 30},
		{"compat:xorshift32/skips17", "compat:xorshift32", Bounds{0, 16}, 30},
		{"compat:mt19937/skips17", "compat:mt19937", Bounds{0, 16}, 30},
		{"compat:xorshift32/half", "compat:xorshift32", Bounds{0, 16}, 15},
		{"compat:mt19937/half", "compat:mt19937", Bounds{0, 16}, 15},
	} {
		b.Run(tt.name, func(b *testing.B) {
			def, err := lookup(tt.generator)
			if err != nil {
				b.Fatal(err)
			}
			s, err := plant(def, 4e9, Spec{Observe: "mod:1000", Skip: tt.skip, MinMatches: tt.need}, 30)
			if err != nil {
				b.Fatal(err)
			}
			const seeds = 1 << 12
			v := newSieve(s)
			abort := new(atomic.Bool)
			first := uint64(0)
			for b.Loop() {
				v.run(abort, Range{first, first + seeds - 1}, nil)
				first += seeds
			}
			b.ReportMetric(float64(b.N)*seeds/b.Elapsed().Seconds(), "seeds/s")
		})
	}
}
