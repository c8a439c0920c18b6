package kernels

import (
	"errors"
	"math/rand/v2"
	"testing"

	"seedmesh/kernels/internal/opencl"
)

// openTestCL opens the first OpenCL device, without its vetting.
func openTestCL(t *testing.T) Device {
	t.Helper()
	d, err := opencl.Open(0)
	if errors.Is(err, opencl.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Log(d.Identity())
	return &accelerator{OpenCL, openCLDriver{d}, codeCache(t.TempDir())}
}

func TestConformanceOpenCL(t *testing.T) {
	d, defs := openTestCL(t), representatives()
	if testing.Short() {
		defs = defs[:1]
	}
	if err := conform(t.Context(), d, defs); err != nil {
		t.Error(err)
	}
}

// TestOpenCLSearches holds random searches of all generators with kernels over
// random ranges against the Go path.
func TestOpenCLSearches(t *testing.T) {
	d, rounds := openTestCL(t), uint64(60)
	if testing.Short() {
		rounds = 8
	}
	defs := accelerated()
	searched, survivors := 0, 0
	for seed := *replay; seed < *replay+rounds; seed++ {
		rng := rand.New(rand.NewPCG(seed, 21))
		s, err := randomVectorSearch(rng, defs[rng.IntN(len(defs))])
		if err != nil {
			t.Fatal(err)
		}
		r := randomRange(rng, s.Space())
		err = held(t.Context(), d, s, r, toEnd(r), func(got finding) error {
			searched, survivors = searched+1, survivors+len(got.found)
			want, err := searchOn(t.Context(), cpu{threads: 1}, s, r, toEnd(r))
			if err != nil {
				return err
			}
			return got.difference(want, s, r)
		})
		if err != nil {
			t.Fatalf("%s: %.400s\nreplay: go test ./kernels -run OpenCLSearches -seed=%d", describe(s), err, seed)
		}
	}
	if searched < int(rounds)/2 || survivors < int(rounds) {
		t.Errorf("%d of %d searches ran and %d survivors were compared; the test proves too little", searched, rounds, survivors)
	}
}

// BenchmarkOpenCL reports seeds a second of the first OpenCL device.
func BenchmarkOpenCL(b *testing.B) {
	d, err := opencl.Open(0)
	if err != nil {
		b.Skip(err)
	}
	defer d.Close()
	b.Log(d.Identity())
	device := &accelerator{OpenCL, openCLDriver{d}, ""}
	for _, tt := range []struct {
		name  string
		def   *definition
		spec  Spec
		draws int
	}{
		{"mt19937 first output", &mt19937, Spec{Observe: "raw", MinMatches: 1}, 1},
		{"xorshift32 30 draws 17 skips", &xorshift32, Spec{Observe: "mod:1000", Skip: Bounds{0, 16}, MinMatches: 30}, 30},
		{"minstd_rand 30 draws 17 skips", &minstdRand, Spec{Observe: "mod:1000", Skip: Bounds{0, 16}, MinMatches: 30}, 30},
	} {
		b.Run(tt.name, func(b *testing.B) {
			s, err := plant(tt.def, 4711, tt.spec, tt.draws)
			if err != nil {
				b.Fatal(err)
			}
			searcher, err := device.Prepare(b.Context(), s)
			if err != nil {
				b.Fatal(err)
			}
			defer searcher.Close()
			r := Range{1 << 20, 1<<20 + 1<<26 - 1}
			for b.Loop() {
				if _, _, _, err := searcher.Search(b.Context(), r, toEnd(r), func(Survivor) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*r.Size()/b.Elapsed().Seconds()/1e6, "Mseeds/s")
		})
	}
}
