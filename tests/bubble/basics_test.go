package bubble

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"

	"seedmesh/tests/faults"
)

func TestMeshInFakeTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		s := newSearch(0, 200_000)
		m.mustSubmit(1, s)
		m.drain(2, s)
		m.once(s)
		m.sameLedgers()
	})
}

// TestLeaderCutOff cuts the leader off while a job runs, lets another take over,
// and heals.
func TestLeaderCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		s, other := newSearch(0, 800_000), newSearch(1, 1000)
		m.mustSubmit(0, s)
		m.await("progress", time.Minute, func() bool { j := m.job(0, s.id); return j != nil && j.Pieces > 3 })
		old := m.leader()
		alone := m.net.Isolate(host(old))
		m.await("successor", time.Minute, func() bool { l := m.leads(); return l >= 0 && l != old })
		next := m.leads()
		m.await("word that the cut-off node does not answer", time.Minute, func() bool {
			return strings.Contains(m.status(next).Survives, "does not answer")
		})
		m.await("word that the cut-off node has no quorum", time.Minute, func() bool {
			s := m.status(old)
			return s.Leader == "" && strings.Contains(s.Survives, "no quorum")
		})
		m.mustSubmit(next, other)
		m.await("the cut-off node's expiry", time.Minute, func() bool { return m.status(next).Slots == 2 })
		alone.Lift()
		m.await("its return", time.Minute, func() bool { return m.whole(3, 3) })
		m.drain(old, other)
		m.drain(old, s)
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "leader cut off until it is expired", "I1 I2 I3 I5 I9 I10 I12", int(min(alone.Effect().Lost, 1)))
	})
}

// TestRestartsUnderWork kills and starts each node in turn while a job runs.
func TestRestartsUnderWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		s := newSearch(0, 600_000)
		m.mustSubmit(0, s)
		killed := 0
		for i := range 3 {
			cut := m.kill(i)
			m.await("another leader", time.Minute, func() bool { return m.leads() >= 0 })
			m.up(i)
			m.await("its return", time.Minute, func() bool { return m.whole(3, 3) })
			killed += int(min(cut.Effect().Lost, 1))
		}
		m.drain(1, s)
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "node killed", "I1 I3 I5 I9 I10 I12", killed)
	})
}

// TestVoterWithoutSlots kills one of two workers, while a third machine only votes:
// the other worker ends the job, and the machine without slots has its results.
func TestVoterWithoutSlots(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{slotless: 3})
		defer m.stop()
		s := newSearch(0, 400_000)
		m.mustSubmit(2, s)
		m.await("progress", time.Minute, func() bool { j := m.job(2, s.id); return j != nil && j.Pieces > 3 })
		cut := m.kill(0)
		m.await("the end without it", time.Minute, func() bool { j := m.job(2, s.id); return j != nil && j.State == "done" })
		if got, err := m.results(2, s); err != nil || !bytes.Equal(got, m.local(s)) {
			t.Errorf("the machine without slots has %d bytes of results, %v; an undisturbed search gives other ones", len(got), err)
		}
		m.up(0)
		m.await("its return", time.Minute, func() bool { return m.whole(2, 3) })
		m.drain(2, s)
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "node killed", "I1 I3 I5 I9 I10 I12", int(min(cut.Effect().Lost, 1)))
	})
}

// TestUnknownIsNotAbsent asks a node that is cut off for a job which others have taken
// meanwhile: it may not say that there is none.
func TestUnknownIsNotAbsent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		leader := m.leader()
		apart := (leader + 1) % 3
		cut := m.net.Isolate(host(apart))
		s := newSearch(0, 1000)
		m.mustSubmit(leader, s)
		_, err := m.at(apart).API().Job(t.Context(), connect.NewRequest(&meshv1.JobRequest{Job: s.id}))
		if code := connect.CodeOf(err); code != connect.CodeUnavailable {
			t.Errorf("a cut-off node says of a job that it cannot know: %v, %v; want %v", code, err, connect.CodeUnavailable)
		}
		cut.Lift()
		m.drain(apart, s)
		faults.Landed(t, faults.Bubble, "node cut off and asked", "I7", int(min(cut.Effect().Lost, 1)))
	})
}
