package jobs

import (
	"strings"
	"testing"
)

// follow submits a job of tasks that follows others.
func (l *ledger) follow(parallel uint32, after ...Dependency) *Job {
	l.t.Helper()
	l.jobs++
	c := &SubmitTasks{
		Submit: Submit{ID: 1000 + l.jobs, Kind: Tasks, Stages: []StageSpec{{Label: "t", Range: Range{0, 99}, Grain: 1, Shape: "s"}}},
		Terms:  Terms{MaxParallel: parallel, After: after},
	}
	return l.Job(l.must(c).Job)
}

// TestAfter gives nothing of a job out before the one that it follows is done.
func TestAfter(t *testing.T) {
	l := newLedger(t, 2, 1)
	first := l.submit(Range{0, 0}, func(c *Submit) { c.Kind = Tasks })
	second := l.follow(0, Dependency{Job: first.ID})
	c := l.take(slot(1, 0), 1)
	if c.Job != first.ID {
		t.Fatalf("the claim is of job %s", c.Job)
	}
	if l.Offer(slot(1, 1), 1, l.Now()) {
		t.Error("a job that waits is offered")
	}
	l.must(settled(c, 0, false))
	if c := l.take(slot(1, 0), 1); first.State != Done || c.Job != second.ID {
		t.Errorf("after the first job, %s, the claim is %+v", first.State, c)
	}
}

// TestAfterAFailure cancels what follows, and what follows that, unless any end will do.
func TestAfterAFailure(t *testing.T) {
	for name, end := range map[string]func(*ledger, *Job){
		"cancelled": func(l *ledger, j *Job) { l.must(&Control{Job: j.ID, Action: Cancel}) },
		"failed": func(l *ledger, _ *Job) {
			l.must(settled(l.take(slot(1, 0), 1), 0, false, Failure{Range: Range{0, 0}, Class: "exit code"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 2, 1)
			first := l.submit(Range{0, 0}, func(c *Submit) { c.Kind, c.Attempts = Tasks, 1 })
			second := l.follow(0, Dependency{Job: first.ID})
			third := l.follow(0, Dependency{Job: second.ID}, Dependency{Job: first.ID})
			anyway := l.follow(0, Dependency{Job: first.ID, Any: true})
			end(l, first)
			if second.State != Cancelled || third.State != Cancelled || !strings.Contains(second.LastError, first.ID.String()) {
				t.Errorf("the second is %s (%s), the third %s", second.State, second.LastError, third.State)
			}
			if c := l.take(slot(1, 1), 1); c.Job != anyway.ID {
				t.Errorf("the claim is %+v", c)
			}
			if late := l.follow(0, Dependency{Job: first.ID}); late.State != Cancelled {
				t.Errorf("a job that comes late is %s", late.State)
			}
		})
	}
	l := newLedger(t, 1, 1)
	if o := l.do(&SubmitTasks{Submit: Submit{ID: 5, Kind: Tasks, Stages: []StageSpec{{Grain: 1}}}, Terms: Terms{After: []Dependency{{Job: 77}}}}); o.Refusal == nil || o.Refusal.Code != UnknownJob {
		t.Errorf("following nobody gives %+v", o)
	}
}

// TestMaxParallel gives out so many claims and no more, and none to a slot that is busy.
func TestMaxParallel(t *testing.T) {
	l := newLedger(t, 8, 1)
	j := l.follow(3)
	var held []*Claim
	for i := range 8 {
		if l.Offer(slot(1, i), 1, l.Now()) {
			held = append(held, l.take(slot(1, i), 1))
		}
	}
	if len(held) != 3 || l.Offer(slot(1, 0), 2, l.Now()) {
		t.Fatalf("%d claims of a job that may have 3, and a reserved one: %v", len(held), l.Offer(slot(1, 0), 2, l.Now()))
	}
	l.must(settled(held[0], held[0].Range.Last, false))
	if !l.Offer(slot(1, 7), 1, l.Now()) || j.State != Running {
		t.Error("a place that has become free is not given out")
	}
}

// TestMemoryOfATask offers tasks to slots whose nodes have room for one, or have not
// said how much they have; what a small node cannot take counts no attempt there.
func TestMemoryOfATask(t *testing.T) {
	l := newLedger(t, 1, 1, 1)
	for i, label := range []string{MemoryBegin + "600", "label:big," + MemoryBegin + "1000", ""} {
		l.must(&Hello{Node: node(i + 1), Incarnation: 2, Slots: []SlotSpec{{Label: label}}})
	}
	for mib, want := range map[uint64][3]bool{0: {true, true, true}, 600: {true, true, true}, 601: {false, true, true}, 1001: {false, false, true}} {
		l.jobs++
		j := l.Job(l.must(&SubmitTasks{
			Submit: Submit{ID: 1000 + l.jobs, Kind: Tasks, Stages: []StageSpec{{Label: "t", Range: Range{0, 999}, Grain: 1000, Shape: "s"}}},
			Terms:  Terms{MemoryMiB: mib},
		}).Job)
		for i := range want {
			if got := l.Offer(slot(i+1, 0), 1, l.Now()); got != want[i] {
				t.Errorf("a task of %d MiB is offered to node %d: %t, want %t", mib, i+1, got, want[i])
			}
		}
		again, err := Restore(l.Snapshot())
		if err != nil || again.Digest() != l.Digest() || again.Job(j.ID).MemoryMiB != mib {
			t.Errorf("restored with %d MiB: %v", mib, err)
		}
		l.must(&Control{Job: j.ID, Action: Cancel})
	}
}
