package node

import (
	"context"
	"errors"
	"slices"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/slot"
)

// A slot works once its device was opened and has passed the conformance suite, which is
// kept for each device, driver and build of the program; an accelerator passes it again after
// its executor failed. If the device does not pass, or an accelerator's executor keeps failing,
// the slot is quarantined: others do its work, and everybody reads the reason in the ledger. Once
// a person has released it, or its process was started anew, it works when its device has passed again.

// maxRelapses is how many times in a row an executor may fail at work although its
// device passes.
const maxRelapses = 3

// A proof is what a worker knows of its device. Its run alone uses it.
type proof struct {
	fragile  bool       // the slot is on an accelerator, whose driver may break under it
	passed   bool       // and may be used
	running  bool       // its executor is getting ready
	doubted  bool       // its executor has failed at work since it passed
	relapses int        // times that happened without a result between
	failure  string     // why the slot is of no use, or ""
	results  chan error // of getting ready

	release  jobs.Instant // that the proof answers, since a person released the slot
	cleared  bool         // the ledger had the slot without a quarantine since this process began
	retested bool         // the device was tested because of a quarantine from before
}

func newProof(device string) proof {
	return proof{fragile: slices.Contains(kernels.Accelerators(), device), results: make(chan error, 1)}
}

// fit tells whether the slot may be given work.
func (p *proof) fit() bool { return p.passed }

// startOver forgets what was known before the slot was released.
func (p *proof) startOver(release jobs.Instant) {
	p.passed, p.doubted, p.relapses, p.failure, p.release = false, true, 0, "", release
}

// prove has the executor get ready when that is due, or tells the ledger that the
// slot is of no use, or that it is again.
func (w *worker) prove(ctx context.Context) {
	p := &w.proof
	sl, current := w.announced()
	release, released := sl.Released()
	if released && release != p.release {
		p.startOver(release)
	}
	if _, quarantined := sl.Quarantined(); current && !quarantined {
		p.cleared = true
	}
	earlier := current && sl.Condemned() && !p.cleared
	if earlier && !p.running && !p.retested {
		p.passed, p.doubted, p.retested = false, true, true
	}
	switch {
	case p.running:
	case p.fit() && (released || earlier):
		w.n.proposeSoon(ctx, &jobs.Readmit{Slot: w.id, Incarnation: w.n.incarnationNow(), Since: release, Label: w.n.site.label(int(w.id.Index))})
	case p.fit():
	case p.failure != "":
		w.giveUp(ctx)
	default:
		p.running = true
		again := p.doubted
		w.n.goDo(func() { p.results <- w.exec.Ready(ctx, again) })
	}
}

// announced gives the slot's label in the ledger, and whether its node's present life has
// announced it: what an earlier one left says nothing of this process.
func (w *worker) announced() (sl jobs.Slot, current bool) {
	incarnation := w.n.incarnationNow()
	w.n.log.View(func(s *jobs.State) {
		if m := s.Node(w.id.Node); m != nil && int(w.id.Index) < len(m.Slots) {
			sl.Label, current = m.Slots[w.id.Index].Label, m.Incarnation == incarnation
		}
	})
	return sl, current
}

// proved takes what became of getting ready.
func (w *worker) proved(ctx context.Context, err error) {
	p := &w.proof
	p.running, p.doubted = false, false
	switch {
	case ctx.Err() != nil || errors.Is(err, slot.ErrClosed):
	case err != nil:
		p.failure = err.Error()
	default:
		p.passed = true
	}
}

// worked takes what became of an attempt.
func (p *proof) worked(err error) {
	var failed *slot.Error
	switch {
	case !p.fragile:
	case err == nil:
		p.relapses = 0
	case errors.As(err, &failed) && failed.Class != slot.BadTask:
		p.passed, p.doubted = false, true
		if p.relapses++; p.relapses >= maxRelapses {
			p.failure = failed.Error()
		}
	}
}

// giveUp quarantines the slot, unless the ledger has it so already or does not know
// this incarnation yet.
func (w *worker) giveUp(ctx context.Context) {
	incarnation, due := w.n.incarnationNow(), false
	w.n.log.View(func(s *jobs.State) {
		if m := s.Node(w.id.Node); m != nil && m.Alive && m.Incarnation == incarnation && int(w.id.Index) < len(m.Slots) {
			_, already := m.Slots[w.id.Index].Quarantined()
			_, released := m.Slots[w.id.Index].Released()
			due = !already || released
		}
	})
	if !due {
		return
	}
	w.n.cfg.Logger.Error("a slot is quarantined until it is released, or its device passes when this node is started again", "slot", w.id.Index, "reason", w.proof.failure)
	w.n.proposeSoon(ctx, &jobs.Quarantine{
		Node: w.id.Node, Incarnation: incarnation, Slot: w.id, Life: incarnation, Reason: bounded(w.proof.failure, jobs.MaxTextBytes),
	})
}
