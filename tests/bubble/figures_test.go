package bubble

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"seedmesh/tests/faults"
	"seedmesh/transport/memnet"
)

var recoveries = flag.Int("bubble.recoveries", 1, "how often each kind of kill is measured on a mesh of its own")

// figures gathers what was measured, over all meshes of a test.
type figures struct {
	mu    sync.Mutex
	taken map[string][]time.Duration
}

func (f *figures) measure(t *testing.T, what string, took time.Duration) {
	t.Helper()
	faults.Measure(t, faults.Bubble, what, took)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken[what] = append(f.taken[what], took)
}

// hold compares a distribution with its bars: of the median, if there is one, and of
// the worst.
func (f *figures) hold(t *testing.T, what string, samples int, median, worst time.Duration) {
	t.Helper()
	all := f.taken[what]
	slices.Sort(all)
	if len(all) < samples {
		t.Errorf("%s: %d samples, want %d", what, len(all), samples)
		return
	}
	p50, p99, longest := all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	t.Logf("%s: %d samples, p50 %v, p99 %v, longest %v", what, len(all), p50, p99, longest)
	if median > 0 && p50 > median {
		t.Errorf("%s: p50 is %v, the bar is %v", what, p50, median)
	}
	if p99 > worst {
		t.Errorf("%s: p99 is %v, the bar is %v", what, p99, worst)
	}
}

// What is measured, from the death to the moment named.
const (
	refusedWrites = "writes refused after a leader's death"
	oneReclaimed  = "a dead node's pieces claimed again"
	twoReclaimed  = "leader's and another's pieces claimed again, 5 voters"
)

// TestRecovery kills leaders, workers, and leaders together with workers, and
// measures how long clients and pieces have to wait.
func TestRecovery(t *testing.T) {
	type course struct {
		what         string
		nodes, kills int
		measure      func(*recovery)
	}
	courses := []course{
		{"leaders of 3", 3, 40, (*recovery).refused}, {"leaders of 3", 3, 40, (*recovery).refused},
		{"leaders of 3", 3, 40, (*recovery).refused}, {"leaders of 3", 3, 40, (*recovery).refused}, {"leaders of 5", 5, 40, (*recovery).refused},
		{"workers of 3", 3, 40, (*recovery).reclaimedFromOne}, {"two of 5", 5, 40, (*recovery).reclaimedFromTwo},
	}
	courses = slices.Repeat(courses, *recoveries)
	if testing.Short() {
		courses = []course{{"leaders of 3", 3, 3, (*recovery).refused}}
	}
	f := &figures{taken: map[string][]time.Duration{}}
	t.Run("kills", func(t *testing.T) {
		for i, c := range courses {
			t.Run(c.what, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					m := newMesh(t, c.nodes, c.nodes, options{rate: 2000})
					defer m.stop()
					r := &recovery{mesh: m, Rand: rand.New(rand.NewPCG(rand.Uint64(), uint64(i))), figures: f}
					r.begin()
					for range c.kills {
						c.measure(r)
					}
					m.sameLedgers()
					faults.Landed(t, faults.Bubble, r.kind, "I2 I5 I10 I12", r.landed)
					if r.landed < c.kills {
						t.Errorf("of %d kills, the others missed something of %d only", c.kills, r.landed)
					}
				})
			})
		}
	})
	if testing.Short() || t.Failed() {
		return
	}
	f.hold(t, refusedWrites, 200, 500*time.Millisecond, 1500*time.Millisecond)
	f.hold(t, oneReclaimed, 40, 0, 5*time.Second)
	f.hold(t, twoReclaimed, 40, 0, 6*time.Second)
}

// recovery is a mesh at work on which kills are measured.
type recovery struct {
	*mesh
	*rand.Rand
	*figures
	kind   string
	cuts   []*memnet.Injected // of the last strike
	landed int                // strikes whose victims were all missed
	writes int                // number of the last search
}

// begin has every slot's rate measured and starts a search that outlasts the kills.
func (r *recovery) begin() {
	r.Helper()
	probe, work := newSearch(0, 20_000), newSearch(1, roomForSeeds)
	r.mustSubmit(0, probe)
	r.drain(0, probe)
	r.mustSubmit(0, work)
	r.writes = 1
	r.revive()
}

// strike kills nodes at some moment of the leader's heartbeats and of the work.
func (r *recovery) strike(kind string, nodes ...int) (at time.Time) {
	time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
	at = time.Now()
	r.cuts = nil
	for _, i := range nodes {
		r.cuts = append(r.cuts, r.kill(i))
	}
	r.kind = kind
	return at
}

// revive starts the dead and waits until the mesh is whole and all are at work.
func (r *recovery) revive(nodes ...int) {
	r.Helper()
	if len(nodes) > 0 && !slices.ContainsFunc(r.cuts, func(c *memnet.Injected) bool { return c.Effect().Lost == 0 }) {
		r.landed++
	}
	for _, i := range nodes {
		r.up(i)
	}
	r.await("whole mesh", time.Minute, func() bool { return r.whole(len(r.lives), len(r.lives)) })
	r.await("work for everybody", time.Minute, func() bool {
		for i := range r.lives {
			if len(r.record.heldBy(i)) == 0 {
				return false
			}
		}
		return true
	})
}

// refused measures from a leader's death until a client's next write is acknowledged,
// which it sends through a surviving node.
func (r *recovery) refused() {
	r.Helper()
	leader := r.leader()
	at := r.strike("leader killed", leader)
	r.writes++
	write := newSearch(r.writes, 1)
	r.mustSubmit(leader+1+r.IntN(len(r.lives)-1), write)
	r.measure(r.T, refusedWrites, time.Since(at))
	r.revive(leader)
	r.once(write)
}

// reclaimedFromOne measures from a worker's death until its pieces are claimed again.
func (r *recovery) reclaimedFromOne() {
	r.Helper()
	worker := r.IntN(len(r.lives))
	r.reclaims(oneReclaimed, "node killed", worker)
}

// reclaimedFromTwo measures the same for the leader and another node at once.
func (r *recovery) reclaimedFromTwo() {
	r.Helper()
	leader := r.leader()
	r.reclaims(twoReclaimed, "leader and another node killed", leader, (leader+1+r.IntN(len(r.lives)-1))%len(r.lives))
}

func (r *recovery) reclaims(what, kind string, nodes ...int) {
	r.Helper()
	at := r.strike(kind, nodes...)
	seeds := r.record.heldBy(nodes...)
	if len(seeds) < len(nodes) {
		r.Fatalf("nodes %v died with %d claims", nodes, len(seeds))
	}
	r.await(fmt.Sprintf("claims on %v", seeds), time.Minute, func() bool { return r.record.reclaimed(seeds, nodes...) })
	r.measure(r.T, what, time.Since(at))
	r.revive(nodes...)
}
