package kernels

import (
	"context"
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

// TestVetAgain has a CPU pass the suite when it has to again, and only then.
func TestVetAgain(t *testing.T) {
	for again, want := range map[bool]bool{false: false, true: true} {
		steps := 0
		if err := Vet(t.Context(), NewCPU(1), again, func() { steps++ }); err != nil || (steps > 0) != want {
			t.Errorf("Vet(again: %t) = %v after %d searches", again, err, steps)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Vet(ctx, NewCPU(1), true, func() {}); err == nil {
		t.Error("a suite that is cut off was passed")
	}
}
