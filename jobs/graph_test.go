package jobs

import (
	"slices"
	"testing"
)

// submitHeldBack adds a job of ten tasks of which so many may start at once.
func (l *ledger) submitHeldBack(ready uint64) *Job {
	l.t.Helper()
	l.jobs++
	return l.Job(l.must(&SubmitTasks{
		Submit: Submit{ID: 1000 + l.jobs, Kind: Tasks, Stages: []StageSpec{{Label: "t", Range: Range{0, 9}, Grain: 100, Shape: "s"}}},
		Terms:  Terms{Ready: ready},
	}).Job)
}

// TestHeldBack gives out no task that waits for others, before it is resolved.
func TestHeldBack(t *testing.T) {
	l := newLedger(t, 1, 1)
	j := l.submitHeldBack(3)
	for next := uint64(0); next < 3; {
		c := l.take(slot(1, 0), 1)
		if c.Range.First != next || c.Range.Last > 2 {
			t.Fatalf("the claim is of %s, only 0 to 2 may start", c.Range)
		}
		l.must(settled(c, c.Range.Last, false))
		next = c.Range.Last + 1
	}
	if l.Offer(slot(1, 0), 1, l.Now()+1<<40) || j.State != Running {
		t.Errorf("the job is %s, and tasks that wait are offered: %v", j.State, l.Offer(slot(1, 0), 1, l.Now()+1<<40))
	}
	if s, _ := l.Task(j, 3); s.State != "blocked" {
		t.Errorf("task 3 is %s", s.State)
	}
	r := &Resolve{Job: j.ID, Ready: []Range{{0, 4}, {8, 8}}, Aside: []Failure{{Range: Range{7, 7}, Class: "c", Message: "m"}}}
	l.must(r)
	before := l.Digest()
	l.must(r) // twice is once
	if st := j.Stages[0]; l.Digest() != before || !slices.Equal(st.HeldBack(), []Range{{5, 6}, {9, 9}}) || st.openUnits() != 3 || len(st.Failed) != 1 || st.Failed[0].Range != (Range{7, 7}) {
		t.Errorf("open are %v, failed %v", st.Open, st.Failed)
	}
	again, err := Restore(l.Snapshot())
	if err != nil || again.Digest() != l.Digest() || !slices.Equal(again.Job(j.ID).Stages[0].HeldBack(), j.Stages[0].HeldBack()) {
		t.Errorf("restored: %v", err)
	}
	l.must(&Resolve{Job: j.ID, Aside: []Failure{{Range: Range{5, 9}, Class: "c", Message: "m"}}})
	for l.Offer(slot(1, 0), 1, l.Now()) {
		c := l.take(slot(1, 0), 1)
		l.must(settled(c, c.Range.Last, false))
	}
	if j.State != Failed || len(j.Stages[0].HeldBack()) > 0 {
		t.Errorf("in the end the job is %s: %v", j.State, j.Stages[0])
	}
	l.refused(r, JobEnded)
	l.refused(&Resolve{Job: 77}, UnknownJob)
}

// TestEverythingSetAside ends a job whose last tasks can never start.
func TestEverythingSetAside(t *testing.T) {
	l := newLedger(t, 1, 1)
	j := l.submitHeldBack(1)
	l.must(settled(l.take(slot(1, 0), 1), 0, false))
	l.must(&Resolve{Job: j.ID, Aside: []Failure{{Range: Range{1, 9}, Class: "c", Message: "m"}}})
	if j.State != Failed {
		t.Errorf("the job is %s", j.State)
	}
}

// TestSelectors gives tasks only to slots that suit, and trims nothing for others.
func TestSelectors(t *testing.T) {
	for name, tt := range map[string]struct {
		nodes []string
		suits [2]bool
	}{
		"none":            {nil, [2]bool{true, true}},
		"a name":          {[]string{"n2"}, [2]bool{false, true}},
		"a label":         {[]string{"label:fast"}, [2]bool{true, false}},
		"a vendor":        {[]string{"vendor:amd"}, [2]bool{true, true}},
		"both words":      {[]string{"vendor:amd,label:fast"}, [2]bool{true, false}},
		"any of two":      {[]string{"n1", "n2"}, [2]bool{true, true}},
		"nobody":          {[]string{"n3"}, [2]bool{false, false}},
		"part of a label": {[]string{"label:fas"}, [2]bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1)
			l.must(&Hello{Node: node(1), Incarnation: 2, Slots: []SlotSpec{{Label: "vendor:amd,label:fast"}}})
			l.must(&Hello{Node: node(2), Incarnation: 2, Slots: []SlotSpec{{Label: "vendor:amd"}}})
			l.jobs++
			j := l.Job(l.must(&SubmitTasks{
				Submit: Submit{ID: 1000 + l.jobs, Kind: Tasks, Stages: []StageSpec{{Label: "t", Range: Range{0, 999}, Grain: 1000, Shape: "s"}}},
				Terms:  Terms{Nodes: tt.nodes},
			}).Job)
			for i, want := range tt.suits {
				if got := l.Offer(slot(i+1, 0), 1, l.Now()); got != want {
					t.Errorf("node %d is offered tasks: %t, want %t", i+1, got, want)
				}
			}
			again, err := Restore(l.Snapshot())
			if err != nil || again.Digest() != l.Digest() || !slices.Equal(again.Job(j.ID).Nodes, tt.nodes) {
				t.Errorf("restored: %v", err)
			}
		})
	}
}

// TestOldTermsAreRead decodes what programs wrote that knew of fewer terms.
func TestOldTermsAreRead(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes []byte
		want  Terms
		ok    bool
	}{
		"without more":       {[]byte{4, 1, 7, 1}, Terms{MaxParallel: 4, After: []Dependency{{7, true}}}, true},
		"more, but nothing":  {[]byte{0x84, 0x80, 0x80, 0x80, 0x10, 0, 0, 0}, Terms{}, false},
		"more than there is": {[]byte{0x84, 0x80, 0x80, 0x80, 0x40, 0}, Terms{}, false},
		"memory, but none":   {[]byte{0x84, 0x80, 0x80, 0x80, 0x20, 0, 0}, Terms{}, false},
		"memory":             {[]byte{0x84, 0x80, 0x80, 0x80, 0x20, 0, 9}, Terms{MaxParallel: 4, MemoryMiB: 9}, true},
		"memory and more":    {[]byte{0x84, 0x80, 0x80, 0x80, 0x30, 0, 1, 1, 'n', 5, 9}, Terms{MaxParallel: 4, Nodes: []string{"n"}, Ready: 5, MemoryMiB: 9}, true},
		"more":               {[]byte{0x84, 0x80, 0x80, 0x80, 0x10, 0, 1, 1, 'n', 5}, Terms{MaxParallel: 4, Nodes: []string{"n"}, Ready: 5}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var got Terms
			x := coder{buf: tt.bytes, decoding: true}
			got.fields(&x)
			err := x.done()
			if (err == nil) != tt.ok || tt.ok && (got.MaxParallel != tt.want.MaxParallel || !slices.Equal(got.After, tt.want.After) || !slices.Equal(got.Nodes, tt.want.Nodes) || got.Ready != tt.want.Ready || got.MemoryMiB != tt.want.MemoryMiB) {
				t.Fatalf("decoded %+v, %v, want %+v", got, err, tt.want)
			}
			if y := (coder{}); tt.ok {
				got.fields(&y)
				if !slices.Equal(y.buf, tt.bytes) {
					t.Errorf("encoded as %x, want %x", y.buf, tt.bytes)
				}
			}
		})
	}
}
