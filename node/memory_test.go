package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"seedmesh/jobs"
)

// TestMemoryIsNeverExceeded admits many tasks from many slots: the sum stays
// within the limit, and all get their turn.
func TestMemoryIsNeverExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMemory(2048)
		if err != nil {
			t.Fatal(err)
		}
		var sum, most atomic.Int64
		var slots sync.WaitGroup
		for i := range 12 {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			slots.Go(func() {
				for range 50 {
					room := int64(1+r.IntN(600)) << 20
					for errors.Is(m.admit(t.Context(), uint64(room)), errNoRoom) {
					}
					now := sum.Add(room)
					for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
					}
					time.Sleep(time.Duration(1+r.IntN(3000)) * time.Millisecond)
					sum.Add(-room)
					m.release(uint64(room))
				}
			})
		}
		slots.Wait()
		if most.Load() > 2<<30 || most.Load() < 1500<<20 || m.used != 0 {
			t.Errorf("at most %d MiB were used of 2048, %d are still", most.Load()>>20, m.used>>20)
		}
	})
}

func TestMemoryRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMemory(100)
		if err != nil {
			t.Fatal(err)
		}
		var large *tooLargeError
		if err := m.admit(t.Context(), 101<<20); !errors.As(err, &large) {
			t.Errorf("more than there is: %v", err)
		}
		if err := m.admit(t.Context(), 60<<20); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := m.admit(t.Context(), 60<<20); !errors.Is(err, errNoRoom) || time.Since(began) < admitWait {
			t.Errorf("no room: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.admit(ctx, 60<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestMemoryIsLearned raises what a job needs until the node has no more.
func TestMemoryIsLearned(t *testing.T) {
	m, err := newMemory(1000)
	if err != nil {
		t.Fatal(err)
	}
	if limit, room := m.needs(7, 0); limit != 0 || room != 0 {
		t.Errorf("of an unknown job: %d, %d", limit, room)
	}
	m.learn(7, 300<<20)
	m.learn(7, 200<<20)
	if limit, room := m.needs(7, 0); limit != 0 || room != 300<<20 {
		t.Errorf("of a job that used 300 MiB: %d, %d", limit, room>>20)
	}
	raises := 0
	for limit, _ := m.needs(8, 100<<20); m.raise(8, limit, 0); limit, _ = m.needs(8, 100<<20) {
		if raises++; raises > 20 {
			t.Fatal("it rises without end")
		}
	}
	if limit, room := m.needs(8, 100<<20); limit != 1000<<20 || room != limit || raises < 3 {
		t.Errorf("after %d raises a job has %d MiB", raises, limit>>20)
	}
	m.keep(func(id jobs.JobID) bool { return id == 7 })
	if limit, _ := m.needs(8, 0); limit != 0 || m.peak[7] == 0 {
		t.Error("a job that is gone is known, or one that is there is forgotten")
	}
}

// TestRoomOfAWorker keeps the memory of a persistent worker taken as long as it may
// be up, and hands it on to the next claim of its job.
func TestRoomOfAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{limit: 100, freed: make(chan struct{})}
		w := &worker{n: &Node{site: &site{memory: m}}}
		enter := func(job jobs.JobID, bytes, got, used uint64) {
			t.Helper()
			room, err := w.enter(t.Context(), job, bytes)
			if err != nil || room != got || m.used != used {
				t.Errorf("enter(%d, %d) = %d, %v with %d used, want %d and %d", job, bytes, room, err, m.used, got, used)
			}
		}
		enter(1, 30, 30, 30)
		w.leave(1, 30, true)
		enter(1, 20, 30, 30) // the same worker
		w.leave(1, 30, true)
		enter(2, 20, 20, 50) // another job's: the first is being ended
		w.leave(2, 20, false)
		if m.used != 30 {
			t.Errorf("%d used while the worker may be up", m.used)
		}
		time.Sleep(roomStays + time.Second)
		if m.used != 0 {
			t.Errorf("%d used when it has ended", m.used)
		}
		enter(1, 30, 30, 30)
		w.leave(1, 30, true)
		time.Sleep(roomStays + time.Second)
		enter(1, 30, 30, 30) // too late for what was kept
		w.leave(1, 30, false)
		if m.used != 0 {
			t.Errorf("%d used in the end", m.used)
		}
	})
}
