package jobs

import (
	"bytes"
	"strings"
	"testing"
)

// TestQuarantine takes a slot out: what it holds is open for others, nothing is
// given to it until its device has passed again, and late results of it are refused.
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
	life := l.Node(node(1)).Incarnation
	if reason, yes := l.Node(node(1)).Slots[0].Quarantined(); !yes || reason != "it lies" || l.Offer(bad, 1, l.at) {
		t.Errorf("after its node's return the slot is quarantined: %t, %q", yes, reason)
	}
	for name, c := range map[string]*Readmit{
		"of an earlier life":                {bad, life - 1, 0, "vendor:amd"},
		"for a release that there was not":  {bad, life, 5, "vendor:amd"},
		"of a slot that is not quarantined": {slot(1, 1), life, 0, "vendor:amd"},
	} {
		if o := l.do(c); o.Refusal == nil {
			t.Errorf("Readmit %s is accepted", name)
		}
	}
	l.must(&Readmit{bad, life, 0, "vendor:amd"})
	if sl := l.Node(node(1)).Slots[0]; sl.Label != "vendor:amd" || !l.Offer(bad, 1, l.at) {
		t.Errorf("the slot has the label %q and is not offered work after its device has passed", sl.Label)
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

// TestConfine has a person quarantine slots: what they hold is open, they get no work
// over starts and the death of their node and over snapshots, until they are released and their node readmits them.
func TestConfine(t *testing.T) {
	l := newLedger(t, 2, 2)
	id := l.submit(Range{0, 999}).ID
	bad := slot(1, 0)
	l.rate(bad, 10)
	running := l.take(bad, 1)
	for name, tt := range map[string]struct {
		slot SlotID
		code Code
	}{
		"no such slot": {slot(1, 7), Invalid},
		"no such node": {slot(9, 0), UnknownNode},
	} {
		for _, lift := range []bool{false, true} {
			if o := l.do(&Confine{Slot: tt.slot, Lift: lift}); o.Refusal == nil || o.Refusal.Code != tt.code {
				t.Errorf("%s: %v", name, o.Refusal)
			}
		}
	}
	if o := l.do(&Confine{Slot: bad, Lift: true}); o.Refusal == nil || l.Claims(bad) == nil {
		t.Error("a slot is released that is not quarantined")
	}
	l.must(&Confine{Slot: bad, Reason: "its fan is loud"})
	if o := l.do(finished(running, running.Range.Last, 0)); o.Refusal == nil || o.Refusal.Code != StaleClaim {
		t.Errorf("a result of the slot: %v", o.Refusal)
	}
	if j := l.Job(id); j.Failures != 0 || j.Reclaimed != 1 {
		t.Errorf("the job has %d failures and %d pieces taken back, want 0 and 1", j.Failures, j.Reclaimed)
	}
	start := func() {
		l.must(&Hello{Node: node(1), Incarnation: l.Node(node(1)).Incarnation + 1, Slots: []SlotSpec{{"cpu", "vendor:amd"}, {"cpu", ""}}})
	}
	still := func(when string) {
		t.Helper()
		if reason, yes := l.Node(node(1)).Slots[0].Quarantined(); !yes || reason != "its fan is loud" || l.Offer(bad, 1, l.at) || !l.Node(node(1)).Slots[0].Confined() {
			t.Errorf("%s: quarantined: %t, %q", when, yes, reason)
		}
	}
	still("at first")
	l.must(&Quarantine{Node: node(2), Incarnation: 1, Slot: bad, Life: 1, Reason: "it lies"})
	still("after a quarantine by the mesh")
	start()
	still("after a start of its node")
	l.must(&Expire{node(1), l.Node(node(1)).Incarnation})
	still("with its node dead")
	start()
	l.must(&Confine{Slot: slot(1, 1), Reason: "another"})
	l.at += 100
	l.must(&Confine{Slot: bad, Lift: true})
	since, yes := l.Node(node(1)).Slots[0].Released()
	if !yes || since != l.at || l.Offer(bad, 1, l.at) {
		t.Errorf("a slot was released at %d (%t), and is offered work before its node has tested it", since, yes)
	}
	life := l.Node(node(1)).Incarnation
	for name, c := range map[string]*Readmit{
		"of an earlier life":      {bad, life - 1, since, "vendor:amd"},
		"for an earlier release":  {bad, life, since - 1, "vendor:amd"},
		"of a slot that is not":   {slot(1, 9), life, since, ""},
		"of one that is confined": {slot(1, 1), life, since, ""},
	} {
		if o := l.do(c); o.Refusal == nil {
			t.Errorf("Readmit %s is accepted", name)
		}
	}
	l.must(&Confine{Slot: bad, Lift: true}) // sent again: the moment stays
	l.must(&Readmit{bad, life, since, "vendor:amd"})
	if sl := l.Node(node(1)).Slots[0]; sl.Label != "vendor:amd" || !l.Offer(bad, 1, l.at) {
		t.Errorf("the slot, readmitted, has the label %q and is offered no work", sl.Label)
	}
}

// TestReleaseOfTheMeshsOwn lifts a quarantine by the mesh, which may quarantine the slot
// again when its test fails; a start of the node is no test.
func TestReleaseOfTheMeshsOwn(t *testing.T) {
	l := newLedger(t, 1, 1)
	l.submit(Range{0, 999})
	bad := slot(1, 0)
	condemn := &Quarantine{Node: node(2), Incarnation: 1, Slot: bad, Life: 1, Reason: "it lies"}
	l.must(condemn)
	l.must(&Confine{Slot: bad, Lift: true})
	l.must(condemn)
	if reason, yes := l.Node(node(1)).Slots[0].Quarantined(); !yes || reason != "it lies" {
		t.Errorf("a slot that failed its test is quarantined: %t, %q", yes, reason)
	}
	l.must(&Confine{Slot: bad, Lift: true})
	l.must(&Hello{Node: node(1), Incarnation: 2, Slots: []SlotSpec{{"cpu", ""}}})
	since, yes := l.Node(node(1)).Slots[0].Released()
	if !yes || l.Offer(bad, 1, l.at) {
		t.Error("the slot is offered work after its node's start, before its test")
	}
	l.must(&Readmit{bad, 2, since, ""})
	if !l.Offer(bad, 1, l.at) {
		t.Error("the slot is offered no work after its test")
	}
}
