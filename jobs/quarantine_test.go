package jobs

import (
	"bytes"
	"strings"
	"testing"
)

// TestQuarantine takes a slot out: what it holds is open for others, nothing is
// given to it until its node starts again, and late results of it are refused.
func TestQuarantine(t *testing.T) {
	l := newLedger(t, 2, 2, 0)
	id := l.submit(Range{0, 999}, func(c *Submit) { c.Attempts = 2 }).ID
	bad, good := slot(1, 0), slot(2, 0)
	for _, sl := range []SlotID{bad, slot(1, 1), good, slot(2, 1)} {
		l.rate(sl, 10)
	}
	running, reserved := l.take(bad, 1), l.take(bad, 2)
	if running == nil || reserved == nil {
		t.Fatal("the slot holds no two claims")
	}
	other := l.take(slot(1, 1), 1)
	c := &Quarantine{Node: node(2), Incarnation: l.Node(node(2)).Incarnation, Slot: bad, Life: l.Node(node(1)).Incarnation, Job: id, Reason: "it lies"}
	for name, change := range map[string]func(*Quarantine){
		"an accuser of an earlier life": func(c *Quarantine) { c.Incarnation-- },
		"a slot of an earlier life":     func(c *Quarantine) { c.Life-- },
		"no such slot":                  func(c *Quarantine) { c.Slot.Index = 7 },
		"no such node":                  func(c *Quarantine) { c.Slot.Node = node(9) },
	} {
		wrong := *c
		change(&wrong)
		if o := l.do(&wrong); o.Refusal == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	l.must(c)
	l.must(c) // sent again
	if reason, yes := l.Node(node(1)).Slots[0].Quarantined(); !yes || reason != "it lies" {
		t.Errorf("the slot is quarantined: %t, %q", yes, reason)
	}
	if j := l.Job(id); j.LastError != "it lies" || j.Failures != 1 {
		t.Errorf("the job says %q after %d failures", j.LastError, j.Failures)
	}
	for _, claim := range []*Claim{running, reserved} {
		if o := l.do(finished(claim, claim.Range.Last, 0)); o.Refusal == nil || o.Refusal.Code != StaleClaim {
			t.Errorf("a result of the slot: %v", o.Refusal)
		}
	}
	if l.Offer(bad, 1, l.at) {
		t.Error("the slot is offered work")
	}
	if idle := l.idleSlots(func(*Node, *Slot) bool { return true }); idle != 2 {
		t.Errorf("%d slots are idle, want the two of node 2", idle)
	}
	l.must(finished(other, other.Range.Last, 0))
	for l.Job(id).State != Done {
		claim := l.take(good, 1)
		l.must(finished(claim, claim.Range.Last, 0))
	}
	l.must(&Hello{Node: node(1), Incarnation: l.Node(node(1)).Incarnation + 1, Slots: []SlotSpec{{"cpu", ""}, {"cpu", ""}}})
	l.submit(Range{5000, 5999})
	if !l.Offer(bad, 1, l.at) {
		t.Error("the slot is not offered work after its node's start")
	}
}

// TestLongReason fits into the ledger.
func TestLongReason(t *testing.T) {
	l := newLedger(t, 1, 1, 0)
	n := l.Node(node(1))
	l.must(&Quarantine{Node: n.ID, Incarnation: n.Incarnation, Slot: slot(1, 0), Life: n.Incarnation, Reason: strings.Repeat("x", MaxTextBytes)})
	again, err := Restore(l.Snapshot())
	if err != nil || !bytes.Equal(again.Snapshot(), l.Snapshot()) {
		t.Errorf("the snapshot cannot be read: %v", err)
	}
}
