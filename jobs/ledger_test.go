package jobs

import (
	"bytes"
	"fmt"
	"testing"
)

// ledger is a small mesh for tests. After each command its state is held
// against the invariants of the simulation and against its own snapshot.
type ledger struct {
	*State
	t    testing.TB
	at   Instant
	jobs JobID // submitted so far
}

var testToken = Token{Hash: Digest{0xaa}, Role: Worker, ExpiresMS: 1 << 40, Uses: MaxNodes}

// newLedger gives a mesh with a living node for each number of slots: nodes 1, 2 and so on.
func newLedger(t testing.TB, slots ...int) *ledger {
	l := &ledger{State: NewState(), t: t, at: 1}
	for i, n := range slots {
		l.must(&Admit{Node: node(i + 1), Name: fmt.Sprint("n", i+1), Role: Voter, Token: testToken.Hash})
		if i == 0 {
			l.must(&Mint{testToken})
		}
		l.must(&Hello{Node: node(i + 1), Incarnation: 1, Slots: make([]SlotSpec, n)})
	}
	return l
}

func node(i int) NodeID            { return NodeID{15: byte(i)} }
func slot(n int, index int) SlotID { return SlotID{node(n), uint32(index)} }

func (l *ledger) do(c Command) Outcome { return l.request(Request{Command: c}) }

func (l *ledger) request(r Request) Outcome {
	l.t.Helper()
	o := l.Apply(Entry{l.at, []Request{r}})[0]
	if err := l.sound(); err != nil {
		l.t.Fatalf("after %T%+v: %v", r.Command, r.Command, err)
	}
	return o
}

func (l *ledger) sound() error {
	for _, j := range l.Jobs() {
		if err := checkJob(l.State, j); err != nil {
			return fmt.Errorf("job %s: %w", j.ID, err)
		}
	}
	if err := checkSlots(l.State); err != nil {
		return err
	}
	b := l.Snapshot()
	restored, err := Restore(b)
	switch {
	case err != nil:
		return fmt.Errorf("the snapshot cannot be restored: %w", err)
	case restored.Digest() != l.Digest():
		return fmt.Errorf("digest %s, its snapshot's %s", l.Digest(), restored.Digest())
	case !bytes.Equal(restored.Snapshot(), b):
		return fmt.Errorf("the snapshot changes when restored")
	}
	return nil
}

// must applies a command that has to happen.
func (l *ledger) must(c Command) Outcome {
	l.t.Helper()
	o := l.do(c)
	if o.Err() != nil {
		l.t.Fatalf("Apply(%T%+v) = %v, want no refusal", c, c, o.Err())
	}
	return o
}

// refused applies a command that must be refused, and change nothing.
func (l *ledger) refused(c Command, want Code) {
	l.t.Helper()
	l.Apply(Entry{At: l.at})
	before := l.Digest()
	if o := l.do(c); o.Refusal == nil || o.Refusal.Code != want {
		l.t.Fatalf("Apply(%T%+v) = %v, want refusal %d", c, c, o.Err(), want)
	}
	if l.Digest() != before {
		l.t.Fatalf("Apply(%T%+v) was refused and changed the ledger", c, c)
	}
}

// submit adds a job over r, with the changes that edit makes.
func (l *ledger) submit(r Range, edits ...func(*Submit)) *Job {
	l.t.Helper()
	l.jobs++
	c := &Submit{ID: l.jobs, Kind: Seeds, Stages: []StageSpec{{Label: "g", Range: r, Grain: 10, Shape: "s"}}}
	for _, edit := range edits {
		edit(c)
	}
	return l.Job(l.must(c).Job)
}

// rate lets a slot have the given rate in units a second for shape s; 0 is unknown.
func (l *ledger) rate(id SlotID, perSecond uint64) {
	sl := l.slot(id)
	rate := perSecond * (rateTimeMS / 1000)
	l.fleet.learned("s", sl.rate("s"), rate)
	l.change(&slotRecord{id, sl}, func() {
		if sl.Rates = nil; rate > 0 {
			sl.Rates = []ShapeRate{{"s", rate}}
		}
	})
}

// take gives the slot a claim, or nil when there is none for it.
func (l *ledger) take(id SlotID, want uint32) *Claim {
	l.t.Helper()
	offered := l.Offer(id, want, l.at)
	o := l.do(&Take{id, l.Node(id.Node).Incarnation, want})
	if offered != (o.Claim != nil) {
		l.t.Fatalf("Offer(%v, %d) = %t, but Take gave %+v", id, want, offered, o)
	}
	return o.Claim
}

// whole gives a slot the whole of a job's range in one claim.
func (l *ledger) whole(id SlotID, r Range) (*Job, *Claim) {
	l.t.Helper()
	l.rate(id, 1<<40)
	j := l.submit(r)
	c := l.take(id, 2)
	if c == nil || c.Range != r || c.Job != j.ID {
		l.t.Fatalf("Take(%v) = %+v, want all of %s", id, c, r)
	}
	return j, c
}

// reserve gives a slot that has work a second claim on half of a job over r, and
// lets another slot finish the other half.
func (l *ledger) reserve(id, other SlotID, r Range) *Claim {
	l.t.Helper()
	l.rate(id, 2*r.Size().Lo)
	l.rate(other, 0)
	j := l.submit(r)
	c := l.take(id, 2)
	if c == nil || c.Job != j.ID || c.StartedAt != notStarted {
		l.t.Fatalf("Take(%v) = %+v, want a reserved claim on %s", id, c, r)
	}
	l.rate(other, 1<<40)
	rest := l.take(other, 1)
	l.must(finished(rest, r.Last, 0))
	return c
}

// finished is a correct finish of the claim up to last, by survivors at the holders.
func finished(c *Claim, last, survivors uint64, holders ...NodeID) *Finish {
	f := &Finish{
		Fence: c.Fence, Node: c.Slot.Node, Incarnation: c.Incarnation, Last: last,
		Account: AccountOf(Range{c.Range.First, last}), BusyMS: 100,
	}
	if survivors > 0 {
		f.Survivors, f.Blob, f.Bytes, f.Holders = survivors, Digest{byte(c.Range.First), byte(last), 1}, 16*survivors, holders
	}
	return f
}

func failed(c *Claim, charged Range) *Fail {
	return &Fail{c.Fence, c.Slot.Node, c.Incarnation, charged, "exit", "status 1"}
}
