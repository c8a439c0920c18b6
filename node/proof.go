package node

import (
	"context"
	"errors"
	"slices"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/slot"
)

// A slot on an accelerator works once its device was opened and has passed the
// conformance suite, and again after its executor failed. If the device does not
// pass, or its executor keeps failing, the slot is quarantined until the node
// starts again: others do its work, and everybody reads the reason in the ledger.

// maxRelapses is how many times in a row an executor may fail at work although its
// device passes.
const maxRelapses = 3

// A proof is what a worker knows of its device. Its run alone uses it.
type proof struct {
	needed   bool       // the slot is on an accelerator
	passed   bool       // and that may be used
	running  bool       // its executor is getting ready
	doubted  bool       // its executor has failed at work since it passed
	relapses int        // times that happened without a result between
	failure  string     // why the slot is of no use, or ""
	results  chan error // of getting ready
}

func newProof(device string) proof {
	return proof{needed: slices.Contains(kernels.Accelerators(), device), results: make(chan error, 1)}
}

// fit tells whether the slot may be given work.
func (p *proof) fit() bool { return !p.needed || p.passed }

// prove has the executor get ready when that is due, or tells the ledger that the
// slot is of no use.
func (w *worker) prove(ctx context.Context) {
	p := &w.proof
	switch {
	case p.fit() || p.running:
	case p.failure != "":
		w.giveUp(ctx)
	default:
		p.running = true
		again := p.doubted
		w.n.goDo(func() { p.results <- w.exec.Ready(ctx, again) })
	}
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
	case !p.needed:
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
			due = !already
		}
	})
	if !due {
		return
	}
	w.n.cfg.Logger.Error("a slot is quarantined until this node starts again", "slot", w.id.Index, "reason", w.proof.failure)
	w.n.proposeSoon(ctx, &jobs.Quarantine{
		Node: w.id.Node, Incarnation: incarnation, Slot: w.id, Life: incarnation, Reason: bounded(w.proof.failure, jobs.MaxTextBytes),
	})
}
