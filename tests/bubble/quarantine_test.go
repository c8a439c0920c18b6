package bubble

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/tests/faults"
)

// TestQuarantineByHand has a person quarantine the slot of a node at work: its piece is
// done elsewhere, and it does nothing over a start of its node, a snapshot and the death of the leader,
// until it is released.
func TestQuarantineByHand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{snapshotEvery: 64})
		defer m.stop()
		s := newSearch(0, 400_000)
		m.mustSubmit(0, s)
		m.await("work in the slot", time.Minute, func() bool { return m.gpu(0, "n2/0").GetJob() == s.id })
		m.controlGpu(&meshv1.ControlGpuRequest{Node: "n2", Gpu: "0", Reason: "its fan is loud"})
		quiet := time.Now()
		m.await("quarantine on all", time.Minute, func() bool { return m.quarantined("its fan is loud") })
		m.drain(2, s)
		if j := m.job(0, s.id); j.Failures != 0 || j.Reclaimed == 0 {
			t.Errorf("the job has %d failures, and %d pieces were taken back", j.Failures, j.Reclaimed)
		}

		m.end(1, nil)
		m.up(1)
		m.await("its return", time.Minute, func() bool { return m.whole(3, 3) })
		dead := m.leader()
		cut := m.kill(dead)
		next := newSearch(1, 100_000)
		m.mustSubmit((dead+1)%3, next)
		m.await("end under another leader", 3*time.Minute, func() bool {
			j := m.job((dead+1)%3, next.id)
			return j != nil && j.State == "done"
		})
		m.up(dead)
		m.await("all again", time.Minute, func() bool { return m.whole(3, 3) && m.quarantined("its fan is loud") })
		if n := m.startedBy(1, quiet.Add(time.Second)); n != 0 {
			t.Errorf("the slot began %d pieces in quarantine", n)
		}

		m.controlGpu(&meshv1.ControlGpuRequest{Node: "n2", Gpu: "0", Release: true})
		m.await("release", time.Minute, func() bool { return m.gpu(0, "n2/0").GetDoes() == "idle" })
		freed := time.Now()
		last := newSearch(2, 200_000)
		m.mustSubmit(0, last)
		m.drain(1, last)
		if m.startedBy(1, freed) == 0 {
			t.Error("the slot did nothing after its release")
		}
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "leader killed with a slot in quarantine", "I3 I5 I9 I12", int(min(cut.Effect().Lost, 1)))
	})
}

// gpu is a slot of the mesh, in a node's view.
func (m *mesh) gpu(i int, name string) *meshv1.GpuInfo {
	if n := m.at(i); n != nil {
		r, err := n.API().Gpus(m.Context(), connect.NewRequest(&meshv1.GpusRequest{All: true}))
		if err != nil {
			m.Fatal(err)
		}
		for _, g := range r.Msg.Gpus {
			if g.Name == name {
				return g
			}
		}
	}
	return nil
}

// quarantined tells whether every running node has the slot of n2, and no other, in
// quarantine for a reason.
func (m *mesh) quarantined(reason string) bool {
	for _, i := range m.running() {
		if len(m.status(i).Quarantined) != 1 || m.gpu(i, "n2/0").GetQuarantined() != reason {
			return false
		}
	}
	return true
}

func (m *mesh) controlGpu(q *meshv1.ControlGpuRequest) {
	m.Helper()
	err := m.persistently("change of a quarantine", 0, time.Minute, func(ctx context.Context, c meshv1connect.MeshClient) error {
		_, err := c.ControlGpu(ctx, connect.NewRequest(q))
		return err
	})
	if err != nil {
		m.Fatal(err)
	}
}
