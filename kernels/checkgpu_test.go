package kernels

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"seedmesh/kernels/internal/gpu"
)

// checkGPU is the name under which this package's tests are a program that checks
// the accelerators of the machine it was carried to: see the Makefile.
const checkGPU = "check-gpu"

func isCheckGPU() bool { return filepath.Base(os.Args[0]) == checkGPU }

func TestMain(m *testing.M) {
	flag.Parse()
	if isCheckGPU() {
		if more := AcceleratorEnv(HIP, "", os.Environ()); more != nil { // the program begins anew, with it
			panic(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), more...)))
		}
		if err := flag.Set("test.run", "^TestCheckGPU$"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// maxChecked is how many devices of a kind are checked.
const maxChecked = 64

// TestCheckGPU checks all accelerators and prints a table. It needs no files and
// no other program, so that its binary can be carried to another machine.
func TestCheckGPU(t *testing.T) {
	if !isCheckGPU() {
		t.Skip("make check-gpu runs it")
	}
	for _, kind := range Accelerators() {
		checkKind(t, AcceleratorConfig{Kind: kind})
	}
	if _, err := gpu.CompileFor(gpu.CUDA, sm86, ""); !errors.Is(err, gpu.ErrNoCompiler) {
		checkKind(t, AcceleratorConfig{Kind: CUDA, Embedded: true}) // as without NVRTC, which is here
	}
}

// checkKind checks all devices that can be opened so, by their numbers.
func checkKind(t *testing.T, c AcceleratorConfig) {
	for c.Number = range maxChecked {
		d, err := OpenAccelerator(c)
		if err != nil {
			if c.Number == 0 {
				fmt.Printf("left out: %s: %v\n", c.Kind, errors.Unwrap(err))
			}
			return
		}
		fmt.Printf("\n%s %d: %s\n", c.Kind, c.Number, Identity(d))
		t.Run(fmt.Sprintf("%s %d", c.Kind, c.Number), func(t *testing.T) { checkOne(t, d) })
	}
}

func checkOne(t *testing.T, d Device) {
	defer d.Close()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	row := func(what, result string, err error) {
		if err != nil {
			result = "FAILED"
			t.Errorf("%s: %v", what, err)
		}
		fmt.Fprintf(table, "  %s\t%s\n", what, result)
	}
	began := time.Now()
	err := Vet(t.Context(), d, "", false, func() {})
	row("conformance", fmt.Sprintf("passed in %.1f s", time.Since(began).Seconds()), err)
	if err != nil {
		return
	}
	ran, err := checkCases(t, d)
	row("public cases", fmt.Sprintf("%d of 41 exact, the others have no kernel", ran), err)
	for _, tt := range []struct {
		name, generator string
		spec            Spec
		draws           int
	}{
		{"mt19937, first output", "mt19937", Spec{Observe: "raw", MinMatches: 1}, 1},
		{"xorshift32, 30 draws mod 1000, skips 0 to 16", "xorshift32", Spec{Observe: "mod:1000", Skip: Bounds{0, 16}, MinMatches: 30}, 30},
		{"xorshift32, 15 of these 30 draws", "xorshift32", Spec{Observe: "mod:1000", Skip: Bounds{0, 16}, MinMatches: 15}, 30},
		{"lcg32, 30 draws mod 1000, skips 0 to 16", "lcg32", Spec{Observe: "mod:1000", Skip: Bounds{0, 16}, MinMatches: 30}, 30},
	} {
		result, err := checkRate(t, d, tt.generator, tt.spec, tt.draws)
		row(tt.name, result, err)
	}
}

// checkCases holds the cases that the device can run, all of their seeds, and
// says how many those are.
func checkCases(t *testing.T, d Device) (ran int, err error) {
	for name, c := range allCases(t) {
		err := c.hold(t.Context(), d, min(c.Search.SeedCount, 1<<20))
		if unsupported := (*UnsupportedError)(nil); errors.As(err, &unsupported) {
			continue
		}
		if err != nil {
			return ran, fmt.Errorf("%s: %w", name, err)
		}
		ran++
	}
	if ran == 0 {
		err = errors.New("no case could be run")
	}
	return ran, err
}

// How long a search gets going, and is measured.
const (
	warmTime  = time.Second
	checkTime = 3 * time.Second
)

// checkRate measures a search, again and again over its space.
func checkRate(t *testing.T, d Device, generator string, spec Spec, draws int) (string, error) {
	def, err := lookup(generator)
	if err != nil {
		return "", err
	}
	s, err := plant(def, 4711, spec, draws)
	if err != nil {
		return "", err
	}
	searcher, err := d.Prepare(t.Context(), s)
	if err != nil {
		return "", err
	}
	defer searcher.Close()
	if _, err := searchFor(t, searcher, s, warmTime); err != nil {
		return "", err
	}
	rate, err := searchFor(t, searcher, s, checkTime)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%.4g M seeds/s", rate/1e6)
	if limit, err := AcceleratorLimit(d, s); err == nil {
		text += fmt.Sprintf(", %.0f %% of the computed limit, %.4g M", 100*rate/limit, limit/1e6)
	}
	return text, nil
}

// searchFor searches for so long and gives the seeds a second.
func searchFor(t *testing.T, searcher Searcher, s *Search, length time.Duration) (float64, error) {
	r, began, seeds := s.Space(), time.Now(), 0.0
	for time.Since(began) < length {
		last, _, _, err := searcher.Search(t.Context(), r, func(done uint64) uint64 {
			if done > 0 && time.Since(began) >= length {
				return r.First + done - 1
			}
			return r.Last
		}, func(Survivor) error { return nil })
		if err != nil {
			return 0, err
		}
		seeds += Range{r.First, last}.Size()
	}
	return seeds / time.Since(began).Seconds(), nil
}
