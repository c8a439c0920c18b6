package kernels

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"seedmesh/kernels/internal/gpu"
	"seedmesh/kernels/internal/opencl"
	"seedmesh/kernels/shim"
)

// eachAccelerator runs a test on the first device of every kind that the machine
// has, and on libraries that run CUDA and HIP on the CPU. Real is false for those.
func eachAccelerator(t *testing.T, test func(t *testing.T, d Device, real bool)) {
	for _, kind := range Accelerators() {
		t.Run(kind, func(t *testing.T) { test(t, openTest(t, AcceleratorConfig{Kind: kind}), true) })
	}
	for _, kind := range []string{CUDA, HIP} {
		t.Run(kind+" on the CPU", func(t *testing.T) {
			test(t, openTest(t, AcceleratorConfig{Kind: kind, Libraries: shim.Libraries(t, kind == HIP, nil), Number: 1}), false)
		})
	}
	t.Run("cuda without NVRTC on the CPU", func(t *testing.T) {
		test(t, openTest(t, AcceleratorConfig{Kind: CUDA, Libraries: withoutNVRTC(t), Embedded: true}), false)
	})
}

func withoutNVRTC(t *testing.T) (libraries string) {
	t.Helper()
	return shim.Libraries(t, false, &shim.Fault{Kind: shim.NoCompiler})
}

// openTest opens a device without its vetting.
func openTest(t *testing.T, c AcceleratorConfig) Device {
	t.Helper()
	d, err := openDriver(c)
	if absent(err) {
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
	t.Log(d.Identity(), d.PCI())
	return &accelerator{c.Kind, d, codeCache(t.TempDir())}
}

// absent tells that a machine lacks a device, its driver or its compiler.
func absent(err error) bool {
	return errors.Is(err, opencl.ErrNone) || errors.Is(err, gpu.ErrNone) || errors.Is(err, gpu.ErrNoCompiler)
}

func TestConformanceAccelerators(t *testing.T) {
	defs := representatives()
	if testing.Short() {
		defs = defs[:1]
	}
	eachAccelerator(t, func(t *testing.T, d Device, _ bool) {
		if err := conformBriefly(t.Context(), d, defs); err != nil {
			t.Error(err)
		}
	})
}

// TestAcceleratorCases has every accelerator give the survivors of the cases.
func TestAcceleratorCases(t *testing.T) {
	eachAccelerator(t, func(t *testing.T, d Device, real bool) {
		around, ran := uint64(1<<16), 0
		if !real || testing.Short() {
			around = 1 << 11
		}
		for name, c := range allCases(t) {
			err := c.hold(t.Context(), d, around)
			if unsupported := (*UnsupportedError)(nil); errors.As(err, &unsupported) {
				continue
			}
			if ran++; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if ran < 10 {
			t.Errorf("only %d cases ran", ran)
		}
	})
}

// TestAcceleratorSearches holds random searches of all generators with kernels
// over random ranges against the Go path.
func TestAcceleratorSearches(t *testing.T) {
	rounds, defs := uint64(60), accelerated()
	if testing.Short() {
		rounds = 8
	}
	eachAccelerator(t, func(t *testing.T, d Device, _ bool) {
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
				t.Fatalf("%s: %.400s\nreplay: go test ./kernels -run AcceleratorSearches -seed=%d", describe(s), err, seed)
			}
		}
		if searched < int(rounds)/2 || survivors < int(rounds) {
			t.Errorf("%d of %d searches ran and %d survivors were compared; the test proves too little", searched, rounds, survivors)
		}
	})
}

// TestAcceleratorRareSeeds plants seeds that a generator treats in a way of their own:
// PHP draws three words in ten again, so that the outputs are elsewhere than a kernel
// looks, and minstd takes another seed for 0.
func TestAcceleratorRareSeeds(t *testing.T) {
	eachAccelerator(t, func(t *testing.T, d Device, _ bool) {
		for _, tt := range []struct {
			def     *definition
			observe string
			seeds   Range
		}{
			{&phpMtRand, "php.mt_rand:0:2999999999", Range{4711, 4718}},
			{&minstdRand, "raw", Range{0, 0}},
			{&minstdRand, "raw", Range{mersenne31, mersenne31}},
		} {
			for seed := tt.seeds.First; seed <= tt.seeds.Last; seed++ {
				s, err := plant(tt.def, seed, Spec{Observe: tt.observe, MinMatches: 3}, 3)
				if err != nil {
					t.Fatal(err)
				}
				r := Range{seed, seed}
				f, err := searchOn(t.Context(), d, s, r, toEnd(r))
				if err != nil {
					t.Fatal(err)
				}
				if len(f.found) != 1 {
					t.Errorf("%s: seed %d is not found", tt.def.Name, seed)
				}
			}
		}
	})
}

// TestNoAccelerator has each kind say that there is none where there is none: no
// library, a driver without a device, a number that is too high.
func TestNoAccelerator(t *testing.T) {
	for name, tt := range map[string]struct {
		config AcceleratorConfig
		fault  *shim.Fault
		want   string
	}{
		"cuda without a device": {AcceleratorConfig{Kind: CUDA}, &shim.Fault{Kind: shim.Bare}, gpu.ErrNone.Error()},
		"hip without a device":  {AcceleratorConfig{Kind: HIP}, &shim.Fault{Kind: shim.Bare}, gpu.ErrNone.Error()},
		"cuda of a high number": {AcceleratorConfig{Kind: CUDA, Number: 2}, nil, "the last one is 1"},
		"hip of a high number":  {AcceleratorConfig{Kind: HIP, Number: 2}, nil, "the last one is 1"},
		"cuda without a symbol": {AcceleratorConfig{Kind: CUDA}, &shim.Fault{Kind: shim.Missing}, "cuLaunchKernel"},
		"hip without a symbol":  {AcceleratorConfig{Kind: HIP}, &shim.Fault{Kind: shim.Missing}, "hipModuleLaunchKernel"},
		"cuda that fails":       {AcceleratorConfig{Kind: CUDA}, &shim.Fault{Call: "Init", Kind: shim.Fails}, "CUDA_ERROR_LAUNCH_FAILED"},
		"hip that fails":        {AcceleratorConfig{Kind: HIP}, &shim.Fault{Call: "Init", Kind: shim.Fails}, "unspecified launch failure"},
		"too little memory":     {AcceleratorConfig{Kind: CUDA, MemoryFraction: 0.5}, nil, "0.5 of its memory"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.config.Libraries = shim.Libraries(t, tt.config.Kind == HIP, tt.fault)
			_, err := OpenAccelerator(tt.config)
			var none *NoDeviceError
			if !errors.As(err, &none) || none.Remedy() == "" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("OpenAccelerator = %v, want %q and a remedy", err, tt.want)
			}
		})
	}
}

// TestVettedRefusesLibraries vets devices that compile, launch or count wrong.
func TestVettedRefusesLibraries(t *testing.T) {
	for name, tt := range map[string]struct {
		fault shim.Fault
		want  string
	}{
		"a compiler that fails": {shim.Fault{Call: "CompileProgram", Kind: shim.Fails}, "CompileProgram gave error 719"},
		"a launch that fails":   {shim.Fault{Call: "Launch", Kind: shim.Fails}, "gave error 719"},
		"a candidate lost":      {shim.Fault{Kind: shim.Loses}, "survivors"},
	} {
		for _, kind := range []string{CUDA, HIP} {
			t.Run(name+", "+kind, func(t *testing.T) {
				d, err := OpenAccelerator(AcceleratorConfig{Kind: kind, Libraries: shim.Libraries(t, kind == HIP, &tt.fault)})
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				if err := Vet(t.Context(), d, "", false, func() {}); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Vet = %.300v, want %q", err, tt.want)
				}
			})
		}
	}
}

// TestLaunchesAreApart has a kernel that adds to what it finds: nothing of an earlier
// launch may be there.
func TestLaunchesAreApart(t *testing.T) {
	const adding = `extern "C" __global__ void search(const unsigned long long *seeds, unsigned long long *visited, unsigned *found) {
		unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
		if (i >= seeds[1])
			return;
		visited[2 * i] += seeds[0] + i;
		visited[2 * i + 1] += i;
		found[1 + atomicAdd(&found[0], 1u)] = i;
	}`
	for _, kind := range []string{CUDA, HIP} {
		t.Run(kind, func(t *testing.T) {
			d, err := openDriver(AcceleratorConfig{Kind: kind, Libraries: shim.Libraries(t, kind == HIP, nil)})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			code, err := d.Compile(adding)
			if err != nil {
				t.Fatal(err)
			}
			p, err := d.Load(code, 1000, 1000)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			visited, found := make([]uint64, 2000), make([]uint32, 1000)
			for _, items := range []int{1000, 1000, 3, 255, 256} {
				n, err := p.Launch([2]uint64{1 << 40, uint64(items)}, items, visited, found)
				if err != nil || n != items {
					t.Fatalf("Launch of %d items found %d, %v", items, n, err)
				}
				for i := range items {
					if visited[2*i] != 1<<40+uint64(i) || visited[2*i+1] != uint64(i) || found[i] >= uint32(items) {
						t.Fatalf("item %d of %d: visited %d, %d; found %d", i, items, visited[2*i], visited[2*i+1], found[i])
					}
				}
			}
			if n, err := p.Launch([2]uint64{0, 700}, 700, visited, found[:300]); n != 700 || err != nil {
				t.Errorf("Launch with room for fewer = %d, %v, want 700", n, err)
			}
		})
	}
}

// TestAcceleratorLimit computes the limit of a device that states its clock and units.
func TestAcceleratorLimit(t *testing.T) {
	d, err := OpenAccelerator(AcceleratorConfig{Kind: CUDA, Libraries: shim.Libraries(t, false, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const pace = 2 * 64 * 1e6 // 2 multiprocessors of 64 lanes at 1000 kHz
	for generator, why := range map[string]string{"xorshift32": "", "mt19937": "", "lcg32": "mt19937 and xorshift32 only", "pcg32": "mt19937 and xorshift32 only", "glibc_rand": "cannot run"} {
		def, err := lookup(generator)
		if err != nil {
			t.Fatal(err)
		}
		s, err := plant(def, 4711, Spec{Observe: "raw", MinMatches: 1}, 1)
		if err != nil {
			t.Fatal(err)
		}
		limit, err := AcceleratorLimit(d, s)
		if why != "" {
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: AcceleratorLimit = %v, %v; want %q", generator, limit, err, why)
			}
			continue
		}
		plan, err2 := s.planAccelerator(CUDA)
		if err != nil || err2 != nil || limit != pace/plan.laneInstructions(false) || limit > pace/4 {
			t.Errorf("%s: AcceleratorLimit = %v, %v, %v", generator, limit, err, err2)
		}
	}
	if _, err := AcceleratorLimit(newVetted(OpenCL, openCLDriver{}, ""), mustPlant(t)); err == nil || !strings.Contains(err.Error(), "for OpenCL") {
		t.Errorf("AcceleratorLimit of OpenCL: %v", err)
	}
}

func mustPlant(t *testing.T) *Search {
	t.Helper()
	def, err := lookup("xorshift32")
	if err != nil {
		t.Fatal(err)
	}
	s, err := plant(def, 4711, Spec{Observe: "raw", MinMatches: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDefaultFraction leaves AMD's cards more of their memory, under each interface.
func TestDefaultFraction(t *testing.T) {
	for _, tt := range []struct {
		kind, identity string
		want           float64
	}{
		{HIP, "gfx1030", 0.8}, {OpenCL, "Advanced Micro Devices, Inc.; gfx1030; OpenCL 2.0", 0.8},
		{OpenCL, "AuthenticAMD; pthread-haswell-AMD EPYC; OpenCL 3.0 PoCL", 0.9}, {OpenCL, "NVIDIA Corporation; H100", 0.9}, {CUDA, "H100", 0.9},
	} {
		if got := defaultFraction(tt.kind, tt.identity); got != tt.want {
			t.Errorf("defaultFraction(%s, %q) = %v, want %v", tt.kind, tt.identity, got, tt.want)
		}
	}
}
