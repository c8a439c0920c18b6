package node

import (
	"testing"
	"time"

	"seedmesh/jobs"
	"seedmesh/scripts"
)

// rig is a node that runs tasks of items: what they need, and how long they take.
type rig struct {
	memory     uint64
	base, each uint64
	start, one time.Duration
	least      uint64 // memory that a task seems to need even if it needs less
	claim      uint64 // items of a claim, whose last task gets what is left; 0 for what a task gets
}

// run works like a slot, and gives the sizes of its chunks and how many were killed.
func (r rig) run(t *testing.T, m *memory, slots, claims int) (sizes []uint64, killed int) {
	t.Helper()
	for range claims {
		batch, limit := m.chunkOf(jobs.Claim{Job: 1}, 0, slots, chunkTarget)
		for left := max(r.claim, batch); left > 0; {
			items := min(batch, left)
			left -= items
			o := scripts.Outcome{Task: 100, Last: 100 + items - 1, Class: scripts.OK, Took: r.start + time.Duration(items)*r.one, PeakRSS: max(r.base+items*r.each, r.least)}
			if o.PeakRSS > limit {
				o.Class, o.PeakRSS = scripts.OutOfMemory, limit
				killed++
				if !m.learnChunk(1, o, batch) && !m.raise(1, limit, o.PeakRSS) {
					t.Fatal("one item has no room on the node")
				}
				break
			}
			m.learnChunk(1, o, batch)
			sizes = append(sizes, batch)
		}
	}
	return sizes, killed
}

// TestChunksFit finds chunks that fit a slot's share of the memory and the time.
func TestChunksFit(t *testing.T) {
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		rig    rig
		slots  int
		lo, hi uint64 // of the last chunk
		killed int    // at most
	}{
		"time decides":                  {rig{memory: 2048, base: 10, start: 100 * time.Millisecond, one: 10 * time.Millisecond}, 12, 350, 500, 0},
		"memory decides":                {rig{memory: 2048, base: 20 * mib, each: mib, start: 100 * time.Millisecond, one: time.Millisecond}, 12, 110, 140, 0},
		"a start that needs more":       {rig{memory: 1024, base: 10 * mib, each: mib, start: 100 * time.Millisecond, one: 20 * time.Millisecond, least: 20 * mib}, 12, 55, 70, 0},
		"claims with a rest":            {rig{memory: 1024, base: 10 * mib, each: mib, start: 100 * time.Millisecond, one: 20 * time.Millisecond, claim: 129}, 12, 55, 70, 0},
		"a large program":               {rig{memory: 2048, base: 120 * mib, each: mib, start: time.Second, one: time.Millisecond}, 12, 15, 50, 1},
		"one item is more than enough":  {rig{memory: 2048, base: 20 * mib, each: 10 * mib, start: time.Second, one: 20 * time.Second}, 12, 1, 1, 0},
		"one item is more than a share": {rig{memory: 2048, base: 300 * mib, each: 10 * mib, start: time.Second, one: time.Second}, 12, 1, 20, 3},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMemory(tt.rig.memory)
			if err != nil {
				t.Fatal(err)
			}
			sizes, killed := tt.rig.run(t, m, tt.slots, 20)
			if last := sizes[len(sizes)-1]; last < tt.lo || last > tt.hi || killed > tt.killed {
				t.Errorf("the chunks are %v, %d killed; the last should have %d to %d items, and %d be killed at most", sizes, killed, tt.lo, tt.hi, tt.killed)
			}
		})
	}
}

// TestChunksOfFailedItems are small, so that one bad item is found.
func TestChunksOfFailedItems(t *testing.T) {
	m, err := newMemory(2048)
	if err != nil {
		t.Fatal(err)
	}
	m.learnChunk(1, scripts.Outcome{Last: 99, Class: scripts.OK, Took: time.Second}, 100)
	for attempts, want := range map[uint32]uint64{0: 500, 1: 62, 2: 7, 3: 1, 99: 1} {
		if got, _ := m.chunkOf(jobs.Claim{Job: 1, Attempts: attempts}, 0, 12, chunkTarget); got != want {
			t.Errorf("after %d failures a chunk has %d items, want %d", attempts, got, want)
		}
	}
}
