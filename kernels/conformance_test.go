package kernels

import (
	"bytes"
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestConformanceCPU(t *testing.T) {
	for name, d := range map[string]Device{"one thread": NewCPU(1), "three threads": NewCPU(3)} {
		t.Run(name, func(t *testing.T) {
			if err := Conformance(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConformanceSim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var few []*definition // it tests as the CPU does; what differs is how it waits
		for i := 0; i < len(registry); i += 8 {
			few = append(few, registry[i])
		}
		if err := conform(t.Context(), NewSim(SimConfig{Rate: 1e6}), few); err != nil {
			t.Error(err)
		}
	})
}

// TestConformanceFindsBugs plants what a device may do wrong.
func TestConformanceFindsBugs(t *testing.T) {
	for name, run := range map[string]func(worker, *atomic.Bool, Range) ([]Survivor, Account){
		"tail skipped": func(v worker, abort *atomic.Bool, r Range) ([]Survivor, Account) {
			if r.Count() > 64 {
				r.Last = r.First + r.Count()/64*64 - 1
			}
			return v.run(abort, r, nil)
		},
		"first seed tested twice": func(v worker, abort *atomic.Bool, r Range) ([]Survivor, Account) {
			_, once := v.run(abort, Range{r.First, r.First}, nil)
			found, acct := v.run(abort, r, nil)
			return found, acct.Add(once)
		},
		"a survivor lost": func(v worker, abort *atomic.Bool, r Range) ([]Survivor, Account) {
			found, acct := v.run(abort, r, nil)
			return found[:max(0, len(found)-1)], acct
		},
		"offset of the best pair off by one": func(v worker, abort *atomic.Bool, r Range) ([]Survivor, Account) {
			found, acct := v.run(abort, r, nil)
			for i := range found {
				found[i].Offset++
			}
			return found, acct
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Conformance(t.Context(), buggy{NewCPU(1), run}); err == nil {
				t.Error("Conformance found nothing")
			}
		})
	}
}

// A buggy device is the CPU with another way to test a block.
type buggy struct {
	Device
	run func(worker, *atomic.Bool, Range) ([]Survivor, Account)
}

func (b buggy) Prepare(ctx context.Context, s *Search) (Searcher, error) {
	c, err := b.Device.Prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	c.(*cpuSearcher).run = b.run
	return c, nil
}

// TestVetCPU has a CPU pass the suite once, and again when it has to.
func TestVetCPU(t *testing.T) {
	programs := t.TempDir()
	for _, tt := range []struct {
		name       string
		device     Device
		again, run bool
	}{
		{"the first time", NewCPU(1), false, true},
		{"the second time", NewCPU(1), false, false},
		{"with more threads", NewCPU(2), false, false},
		{"again", NewCPU(1), true, true},
		{"without vectors", cpu{threads: 1}, false, true},
	} {
		steps := 0
		if err := Vet(t.Context(), tt.device, programs, tt.again, func() { steps++ }); err != nil || (steps > 0) != tt.run {
			t.Errorf("%s: Vet = %v after %d searches", tt.name, err, steps)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := Vet(ctx, NewCPU(1), t.TempDir(), false, func() {}); err == nil {
			t.Error("a suite that is cut off was passed")
		}
	}
}

// TestCodesOfManyProcesses has several writers keep the same program at once: none of them
// fails, and what is read is whole or not there.
func TestCodesOfManyProcesses(t *testing.T) {
	c := codeCache(t.TempDir())
	path, data := c.path("a device", "program", "a source"), bytes.Repeat([]byte("code"), 1<<16)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 20 {
				if err := c.write(path, data); err != nil {
					t.Error(err)
				}
				if got, ok := c.read(path); !ok || !bytes.Equal(got, data) {
					t.Errorf("read %d bytes, %t, want %d", len(got), ok, len(data))
				}
			}
		})
	}
	writers.Wait()
	if left, err := os.ReadDir(string(c)); err != nil || len(left) != 1 {
		t.Errorf("%d files are left, %v, want the program", len(left), err)
	}
}
