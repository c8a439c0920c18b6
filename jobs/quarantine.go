package jobs

import "strings"

// Quarantine says that a slot gave a result which the reference does not confirm: it
// is given no more work, and what it holds is open again. Its node announces its
// slots anew with the next start, which ends it.
type Quarantine struct {
	Node        NodeID // who held two results against the reference
	Incarnation uint64
	Slot        SlotID
	Life        uint64 // incarnation of the slot's node
	Job         JobID  // whose piece it was
	Reason      string
}

func (*Quarantine) number() uint8   { return 19 }
func (c *Quarantine) Actor() NodeID { return c.Node }

func (c *Quarantine) fields(x *coder) {
	x.node(&c.Node)
	x.u64(&c.Incarnation)
	x.slot(&c.Slot)
	x.u64(&c.Life)
	x.job(&c.Job)
	x.str(&c.Reason, MaxTextBytes)
}

// quarantined begins the label of a slot that is given no work.
const quarantined = "quarantined: "

// Quarantined tells whether the slot is given no more work, and why.
func (sl *Slot) Quarantined() (reason string, yes bool) {
	return strings.CutPrefix(sl.Label, quarantined)
}

func (c *Quarantine) apply(s *State) Outcome {
	if refused := s.checkActor(c.Node, c.Incarnation); refused.Refusal != nil {
		return refused
	}
	if refused := s.checkActor(c.Slot.Node, c.Life); refused.Refusal != nil {
		return refused
	}
	n := s.nodes[c.Slot.Node]
	if int(c.Slot.Index) >= len(n.Slots) {
		return refuse(Invalid, "node %s has no slot %d", n.Name, c.Slot.Index)
	}
	sl := n.Slots[c.Slot.Index]
	if _, already := sl.Quarantined(); already {
		return Outcome{}
	}
	s.vacate(sl)
	label := quarantined + c.Reason
	s.change(&slotRecord{c.Slot, sl}, func() { sl.Label = label[:min(len(label), MaxTextBytes)] })
	if j := s.jobs[c.Job]; j != nil && !j.State.Terminal() {
		s.change(&jobCourse{j}, func() { j.Failures, j.LastError = j.Failures+1, c.Reason })
	}
	return Outcome{}
}
