package jobs

import (
	"strconv"
	"strings"
)

// Quarantine says that a slot gave a result which the reference does not confirm, or
// that its device cannot be used: it is given no more work, and what it holds is open again, until
// its node says with [Readmit] that the device is sound, or a person releases it.
type Quarantine struct {
	Node        NodeID // who held two results against the reference
	Incarnation uint64
	Slot        SlotID
	Life        uint64 // incarnation of the slot's node
	Job         JobID  // whose piece it was
	Reason      string
}

// Confine quarantines a slot because a person wishes so, until a person releases it:
// over starts of its node, which may be dead. With Lift it releases the slot from any quarantine: it
// is given work again once its node has said with [Readmit] that its device is sound.
type Confine struct {
	Slot   SlotID
	Lift   bool
	Reason string // to confine it
}

// Readmit gives a slot back to the scheduler whose device has passed its test: since a
// person released it, or since its node was started, if the mesh had quarantined it before.
type Readmit struct {
	Slot        SlotID
	Incarnation uint64  // of its node
	Since       Instant // of the release that it answers; 0 after a start
	Label       string  // as its node announces it
}

func (*Quarantine) number() uint8 { return 19 }
func (*Confine) number() uint8    { return 26 }
func (*Readmit) number() uint8    { return 27 }

// Actor of what a person wishes is nobody: any node passes it on.
func (c *Quarantine) Actor() NodeID { return c.Node }
func (*Confine) Actor() NodeID      { return NodeID{} }
func (c *Readmit) Actor() NodeID    { return c.Slot.Node }

func (c *Quarantine) fields(x *coder) {
	x.node(&c.Node)
	x.u64(&c.Incarnation)
	x.slot(&c.Slot)
	x.u64(&c.Life)
	x.job(&c.Job)
	x.str(&c.Reason, MaxTextBytes)
}

func (c *Confine) fields(x *coder) {
	x.slot(&c.Slot)
	x.flag(&c.Lift)
	x.str(&c.Reason, MaxTextBytes)
}

func (c *Readmit) fields(x *coder) {
	x.slot(&c.Slot)
	x.u64(&c.Incarnation)
	num(x, &c.Since)
	x.str(&c.Label, MaxTextBytes)
}

// These begin the label of a slot that is given no work: by the mesh itself, by a
// person, and since a release, whose moment follows.
const (
	quarantined = "quarantined: "
	confined    = "confined: "
	released    = "released: "
)

// Quarantined tells whether the slot is given no work, and why. A slot that was
// released is, until it is readmitted.
func (sl *Slot) Quarantined() (reason string, yes bool) {
	if _, yes := sl.Released(); yes {
		return "it was released, and its device has not passed its test yet", true
	}
	if reason, yes = strings.CutPrefix(sl.Label, confined); yes {
		return reason, true
	}
	return strings.CutPrefix(sl.Label, quarantined)
}

// Condemned tells whether the mesh itself has quarantined the slot.
func (sl *Slot) Condemned() bool { return strings.HasPrefix(sl.Label, quarantined) }

// Confined tells whether a person has quarantined the slot.
func (sl *Slot) Confined() bool { return strings.HasPrefix(sl.Label, confined) }

// Released tells whether a person has released the slot from a quarantine, and it is
// not readmitted yet.
func (sl *Slot) Released() (since Instant, yes bool) {
	moment, yes := strings.CutPrefix(sl.Label, released)
	if !yes {
		return 0, false
	}
	n, err := strconv.ParseInt(moment, 10, 64)
	return Instant(n), err == nil
}

func (c *Quarantine) apply(s *State) Outcome {
	if refused := s.checkActor(c.Node, c.Incarnation); refused.Refusal != nil {
		return refused
	}
	if refused := s.checkActor(c.Slot.Node, c.Life); refused.Refusal != nil {
		return refused
	}
	sl, refused := s.slotOf(c.Slot)
	if sl == nil {
		return refused
	}
	_, already := sl.Quarantined()
	if _, tested := sl.Released(); already && !tested {
		return Outcome{}
	}
	s.vacate(sl)
	s.relabel(c.Slot, quarantined+c.Reason)
	if j := s.jobs[c.Job]; j != nil && !j.State.Terminal() {
		s.change(&jobCourse{j}, func() { j.Failures, j.LastError = j.Failures+1, c.Reason })
	}
	return Outcome{}
}

func (c *Confine) apply(s *State) Outcome {
	sl, refused := s.slotOf(c.Slot)
	if sl == nil {
		return refused
	}
	_, already := sl.Quarantined()
	_, tested := sl.Released()
	switch {
	case !c.Lift:
		s.vacate(sl)
		s.relabel(c.Slot, confined+c.Reason)
	case !already:
		return refuse(Invalid, "slot %d of node %s is not quarantined", c.Slot.Index, s.nodes[c.Slot.Node].Name)
	case !tested:
		s.relabel(c.Slot, released+strconv.FormatInt(int64(s.now), 10))
	}
	return Outcome{}
}

func (c *Readmit) apply(s *State) Outcome {
	if refused := s.checkActor(c.Slot.Node, c.Incarnation); refused.Refusal != nil {
		return refused
	}
	sl, refused := s.slotOf(c.Slot)
	if sl == nil {
		return refused
	}
	since, yes := sl.Released()
	if answers := yes && since == c.Since; !answers && (c.Since != 0 || !sl.Condemned()) {
		return refuse(Invalid, "slot %d of node %s was not released at %d", c.Slot.Index, s.nodes[c.Slot.Node].Name, c.Since)
	}
	s.relabel(c.Slot, c.Label)
	return Outcome{}
}

// slotOf finds a slot of a node that lives or not.
func (s *State) slotOf(id SlotID) (*Slot, Outcome) {
	n := s.nodes[id.Node]
	switch {
	case n == nil:
		return nil, refuse(UnknownNode, "node %s is not a member of this mesh", id.Node)
	case int(id.Index) >= len(n.Slots):
		return nil, refuse(Invalid, "node %s has no slot %d", n.Name, id.Index)
	}
	return n.Slots[id.Index], Outcome{}
}

// relabel changes the label of a slot, as far as there is room.
func (s *State) relabel(id SlotID, label string) {
	sl := s.slot(id)
	s.change(&slotRecord{id, sl}, func() { sl.Label = label[:min(len(label), MaxTextBytes)] })
}
