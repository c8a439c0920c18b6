package kernels

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A fakeDriver takes every seed for a candidate, so that the host's part is
// tested by itself.
type fakeDriver struct {
	identity string
	compiled *int
	launch   func(f fakeProgram, seeds [2]uint64, items int, visited []uint64, found []uint32) (int, error) // nil for all
}

func (d fakeDriver) Identity() string                      { return d.identity }
func (fakeDriver) PCI() string                             { return "" }
func (fakeDriver) Memory() uint64                          { return 1 << 30 }
func (fakeDriver) Lanes() int                              { return 1 }
func (fakeDriver) Close() error                            { return nil }
func (d fakeDriver) Compile(source string) ([]byte, error) { *d.compiled++; return []byte(source), nil }

func (d fakeDriver) Load(code []byte, _, found int) (program, error) {
	if !bytes.Contains(code, []byte("KERNEL void search")) {
		return nil, errors.New("not a program")
	}
	_, rest, _ := bytes.Cut(code, []byte("#define PER_ITEM "))
	number, _, _ := bytes.Cut(rest, []byte("u\n"))
	perItem, err := strconv.ParseUint(string(number), 10, 64)
	return fakeProgram{d, found, perItem}, err
}

type fakeProgram struct {
	driver  fakeDriver
	most    int
	perItem uint64
}

func (fakeProgram) Close() error { return nil }

func (p fakeProgram) Launch(seeds [2]uint64, items int, visited []uint64, found []uint32) (int, error) {
	if p.driver.launch != nil {
		return p.driver.launch(p, seeds, items, visited, found)
	}
	return p.all(seeds, items, visited, found)
}

func (p fakeProgram) all(seeds [2]uint64, items int, visited []uint64, found []uint32) (int, error) {
	for i := range items {
		before := uint64(i) * p.perItem
		visited[2*i], visited[2*i+1] = seeds[0]+before, min(p.perItem, seeds[1]-before)
	}
	for i := range min(int(seeds[1]), len(found)) {
		found[i] = uint32(i)
	}
	return int(seeds[1]), nil
}

// fakeSource is as much of a program as a fakeDriver wants to see.
const fakeSource = "#define PER_ITEM 256u\nKERNEL void search"

func newFake(t *testing.T) fakeDriver {
	t.Helper()
	return fakeDriver{identity: "fake 1", compiled: new(int)}
}

func TestConformanceAccelerator(t *testing.T) {
	d := &accelerator{"fake", newFake(t), ""}
	if err := conformBriefly(t.Context(), d, representatives()); err != nil {
		t.Error(err)
	}
}

// TestVettedRefuses plants what a driver may do wrong.
func TestVettedRefuses(t *testing.T) {
	s := mustCompile(t, Spec{Generators: []string{"xorshift32"}, Observe: "mod:1000", Draws: []Draw{{Value: 1, Known: true}}, MinMatches: 1})
	for name, launch := range map[string]func(fakeProgram, [2]uint64, int, []uint64, []uint32) (int, error){
		"a candidate lost": func(p fakeProgram, seeds [2]uint64, items int, visited []uint64, found []uint32) (int, error) {
			n, err := p.all(seeds, items, visited, found)
			return n - 1, err
		},
		"an item did not run": func(p fakeProgram, seeds [2]uint64, items int, visited []uint64, found []uint32) (int, error) {
			n, err := p.all(seeds, items, visited, found)
			visited[2*items-1] = 0
			return n, err
		},
		"an item looked at other seeds": func(p fakeProgram, seeds [2]uint64, items int, visited []uint64, found []uint32) (int, error) {
			n, err := p.all(seeds, items, visited, found)
			visited[0]++
			return n, err
		},
		"an error": func(fakeProgram, [2]uint64, int, []uint64, []uint32) (int, error) {
			return 0, errors.New("lost the device")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newFake(t)
			d.launch = launch
			if _, err := newVetted("fake", d, codeCache(t.TempDir())).Prepare(t.Context(), s); err == nil {
				t.Error("Prepare accepted the device")
			}
		})
	}
}

// TestVettedOnce has the suite run again for another driver only.
func TestVettedOnce(t *testing.T) {
	s := mustCompile(t, Spec{Generators: []string{"xorshift32"}, Observe: "mod:1000", Draws: []Draw{{Value: 1, Known: true}}, MinMatches: 1})
	codes := codeCache(t.TempDir())
	launches := func(identity string) (n int) {
		d := newFake(t)
		d.identity = identity
		d.launch = func(p fakeProgram, seeds [2]uint64, items int, visited []uint64, found []uint32) (int, error) {
			n++
			return p.all(seeds, items, visited, found)
		}
		if _, err := newVetted("fake", d, codes).Prepare(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := launches("fake 1"); n == 0 {
		t.Error("the first time nothing was tested")
	}
	if n := launches("fake 1"); n != 0 {
		t.Errorf("the second time there were %d launches", n)
	}
	if n := launches("fake 2"); n == 0 {
		t.Error("another driver was not tested")
	}
}

// TestManyCandidates searches what overflows the memory for candidates.
func TestManyCandidates(t *testing.T) {
	s := mustCompile(t, Spec{Generators: []string{"xorshift32"}, Observe: "mod:1000", Draws: []Draw{{Value: 1, Known: true}}, MinMatches: 1})
	searcher, err := (&accelerator{"fake", newFake(t), ""}).Prepare(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer searcher.Close()
	a := searcher.(*acceleratorSearcher)
	a.found = a.found[:1000]
	r := Range{50_005, 110_000}
	var got []Survivor
	last, acct, ok, err := a.Search(t.Context(), r, toEnd(r), func(v Survivor) error { got = append(got, v); return nil })
	want, wantErr := searchOn(t.Context(), cpu{threads: 1}, s, r, toEnd(r))
	if err != nil || wantErr != nil {
		t.Fatal(err, wantErr)
	}
	if err := (finding{last, acct, ok, got}).difference(want, s, r); err != nil {
		t.Error(err)
	}
	if a.seeds > 1000 {
		t.Errorf("the launches have %d seeds still, and room for 1000 candidates", a.seeds)
	}
}

func TestCodeCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "programs")
	codes, d := codeCache(dir), newFake(t)
	load := func(want int, why string) {
		t.Helper()
		if _, err := codes.load(d, fakeSource); err != nil {
			t.Fatal(err)
		}
		if *d.compiled != want {
			t.Errorf("%s: %d were compiled, want %d", why, *d.compiled, want)
		}
	}
	load(1, "the first time")
	load(1, "the second time")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	path := filepath.Join(dir, files[0].Name())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{nil, whole[:len(whole)-1], append(slices.Clone(whole), ' ')} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		*d.compiled = 1
		load(2, "damaged")
	}
	d.identity = "fake 2"
	load(3, "another driver")
}

func TestCodeCacheIsBounded(t *testing.T) {
	codes, d := codeCache(t.TempDir()), newFake(t)
	for i := range maxCodes + 20 {
		if _, err := codes.load(d, strings.Repeat(fakeSource, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(string(codes))
	if err != nil || len(files) != maxCodes {
		t.Errorf("%d files, want %d; %v", len(files), maxCodes, err)
	}
}

// TestUnsupportedSearches names the reason for each search that only the CPU can do.
func TestUnsupportedSearches(t *testing.T) {
	draws := []Draw{{Value: 1, Known: true}, {Value: 2, Known: true}}
	for reason, tt := range map[string]Spec{
		"no kernel":         {Generators: []string{"glibc_rand"}, MinMatches: 2},
		"its skip may":      {Generators: []string{"xorshift32"}, MinMatches: 2, Mode: ModeHybrid},
		"more than the 102": {Generators: []string{"xorshift32"}, MinMatches: 2, Offset: Bounds{0, 9999}},
	} {
		tt.Observe, tt.Draws = "mod:1000", draws
		s := mustCompile(t, tt)
		_, err := (&accelerator{"fake", newFake(t), ""}).Prepare(context.Background(), s)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || !strings.HasPrefix(strings.TrimPrefix(unsupported.Reason, "the skips and offsets take "), reason) {
			t.Errorf("Prepare(%v) = %v, want %q", tt, err, reason)
		}
	}
}
