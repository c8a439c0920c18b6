package bubble

import (
	"math/rand/v2"
	"testing"
	"time"

	"seedmesh/tests/faults"
	"seedmesh/transport/memnet"
)

// TestLeaderKilledAsTheThirdVotes kills leaders of two in the moment in which a third
// node learns of its vote, while the log reaches the second one badly. The two that are
// left must elect one of them: the second voter, too, knows that the third has a vote.
func TestLeaderKilledAsTheThirdVotes(t *testing.T) {
	meshes := 12
	if testing.Short() {
		meshes = 2
	}
	inBubble(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(rand.Uint64(), 0))
		killed := 0
		for range meshes {
			killed += killAsTheThirdVotes(t, r)
		}
		faults.Landed(t, faults.Bubble, "leader killed as it gives the third vote", "I2 I10 I12", killed)
	})
}

// killAsTheThirdVotes lets a third node join, with the log's way to the second voter
// cut now and then for less than the leader's lease.
func killAsTheThirdVotes(t *testing.T, r *rand.Rand) (killed int) {
	t.Helper()
	m := newMesh(t, 3, 2, options{idle: 1})
	defer m.stop()
	s := newSearch(0, 50_000)
	m.mustSubmit(0, s)
	leader := m.leader()
	second := 1 - leader
	raft := planeNamed("raft")
	m.up(2)
	m.await("third voter", time.Minute, func() bool {
		cut := m.net.Inject(memnet.Fault{Loss: 1}, raft.link(leader, second)...)
		defer cut.Lift()
		for end := time.Now().Add(80 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if len(m.status(2).Voters) == 3 {
				return true
			}
		}
		cut.Lift()
		time.Sleep(time.Duration(r.Int64N(int64(100 * time.Millisecond))))
		return len(m.status(2).Voters) == 3
	})
	if m.leads() != leader { // the cuts have cost it the leadership
		return 0
	}
	cut := m.kill(leader)
	m.await("successor", 20*time.Second, func() bool { l := m.leads(); return l >= 0 && l != leader })
	m.up(leader)
	m.await("whole mesh", time.Minute, func() bool { return m.whole(3, 3) })
	m.drain(leader, s)
	m.once(s)
	m.sameLedgers()
	return int(min(cut.Effect().Lost, 1))
}
