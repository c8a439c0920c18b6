package bubble

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// checked are the invariants that hold behind every round of a nemesis.
const checked = "I1 I2 I3 I4 I5 I8 I9 I10 I12"

// TestNemesis torments meshes with every kind of fault, several at a time, while
// they work and while clients submit and cancel; after each round all is healed
// and everything checked. Each mesh has a seed of its own, the first one from
// BUBBLE_SEED, drawn otherwise.
func TestNemesis(t *testing.T) {
	type course struct{ nodes, rounds, faults int } // faults of one round
	meshes := []course{{3, 6, 50}, {5, 4, 80}, {3, 6, 50}, {5, 4, 80}, {3, 6, 50}, {3, 6, 50}}
	if testing.Short() {
		meshes = []course{{3, 1, 20}}
	}
	seed := rand.Uint64()
	if text := os.Getenv("BUBBLE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	all := make([]map[string]int, len(meshes)) // faults that landed, by kind
	t.Run("meshes", func(t *testing.T) {
		for i, c := range meshes {
			t.Run(fmt.Sprintf("%d nodes, mesh %d", c.nodes, i), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					t.Logf("BUBBLE_SEED=%d", seed)
					m := newMesh(t, c.nodes, c.nodes, options{snapshotEvery: 256})
					defer m.stop()
					n := newNemesis(m, seed+uint64(i))
					all[i] = n.landed
					defer n.account(checked)
					for round := range c.rounds {
						n.round(round, c.faults)
					}
				})
			})
		}
	})
	if testing.Short() || t.Failed() {
		return
	}
	for _, size := range []int{3, 5} {
		landed := map[string]int{}
		for i, c := range meshes {
			for kind, n := range all[i] {
				if c.nodes == size {
					landed[kind] += n
				}
			}
		}
		for _, f := range append(slices.Clone(faultKinds), fault{kind: newLeadersClock}) {
			if landed[f.kind] == 0 && (f.kind != majorityRing || size == 5) {
				t.Errorf("the fault %q did not happen in any mesh of %d nodes", f.kind, size)
			}
		}
	}
}

// searches of a round: their numbers begin at a multiple of this.
const searchesPerRound = 40

// round torments the mesh while it works on a search, heals it and checks it.
func (n *nemesis) round(number, count int) {
	n.Helper()
	first := number * searchesPerRound
	work := newSearch(first, uint64(n.rate)*30)
	n.mustSubmit(n.IntN(n.size()), work)
	ctx, stop := context.WithCancel(n.Context())
	var clients sync.WaitGroup
	var small, cancelled []*search
	seeds := [2]uint64{n.Uint64(), n.Uint64()}
	clients.Go(func() { small = n.submitting(ctx, rand.New(rand.NewPCG(seeds[0], 1)), first+1) })
	clients.Go(func() { cancelled = n.cancelling(ctx, rand.New(rand.NewPCG(seeds[1], 2)), first+searchesPerRound/2) })
	n.torment(count)
	stop()
	clients.Wait()
	n.await("whole mesh", time.Minute, func() bool { return n.whole(n.size(), n.size()) })
	n.drain(n.IntN(n.size()), work)
	for _, s := range small {
		if s.id != "" {
			n.drain(n.IntN(n.size()), s)
		}
	}
	n.once(append(append(small, cancelled...), work)...)
	n.sameLedgers()
	if n.Failed() {
		n.Fatalf("round %d failed", number)
	}
}

// submitting submits small searches, one after the other, until ctx ends.
func (n *nemesis) submitting(ctx context.Context, r *rand.Rand, number int) (all []*search) {
	for ; ctx.Err() == nil && len(all) < searchesPerRound/2-1; number++ {
		s := newSearch(number, 2000)
		all = append(all, s)
		if err := n.submit(r.IntN(n.size()), s, 20*time.Second); err != nil {
			n.Logf("%s: %v", s.key, err)
		}
		time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
	}
	return all
}

// cancelling submits searches and cancels them at work, until ctx ends, and checks
// that no attempt begins behind an acknowledged cancel (I8).
func (n *nemesis) cancelling(ctx context.Context, r *rand.Rand, number int) (all []*search) {
	for ; ctx.Err() == nil && len(all) < searchesPerRound/2; number++ {
		s := newSearch(number, roomForSeeds)
		all = append(all, s)
		if err := n.submit(r.IntN(n.size()), s, time.Minute); err != nil {
			n.Errorf("%s: %v", s.key, err)
			return all
		}
		time.Sleep(time.Duration(r.Int64N(int64(2 * time.Second))))
		if err := n.cancel(r.IntN(n.size()), s, time.Minute); err != nil {
			n.Errorf("%s: %v", s.key, err)
			return all
		}
		at := time.Now()
		time.Sleep(time.Duration(r.Int64N(int64(3 * time.Second))))
		if count := n.record.startedSince(at, s.seeds); count > 0 {
			n.Errorf("I8: %d attempts on %s began after its cancel was acknowledged", count, s.key)
		}
	}
	return all
}

// cancel cancels a search, through one node after the other until it is acknowledged.
func (m *mesh) cancel(first int, s *search, limit time.Duration) error {
	return m.persistently("acknowledged cancel", first, limit, func(ctx context.Context, c meshv1connect.MeshClient) error {
		_, err := c.Control(ctx, connect.NewRequest(&meshv1.ControlRequest{Job: s.id, Action: "cancel"}))
		return err
	})
}
