package jobs

import (
	"reflect"
	"testing"
)

// tasks submits a job of n tasks of which a slot of node 1 holds all.
func tasksUnderClaim(t *testing.T, n uint64, attempts uint32) (*ledger, *Job, *Claim) {
	l := newLedger(t, 2, 1)
	j := l.submit(Range{0, n - 1}, func(c *Submit) { c.Kind, c.Attempts, c.Stages[0].Grain = Tasks, attempts, n })
	l.rate(slot(1, 0), 1<<40)
	return l, j, l.take(slot(1, 0), 1)
}

func settled(c *Claim, last uint64, more bool, failed ...Failure) *Settle {
	x := &Settle{
		Fence: c.Fence, Node: c.Slot.Node, Incarnation: c.Incarnation, Last: last, More: more, Account: AccountOf(Range{c.Range.First, last}),
		Failed: failed, Blob: Digest{byte(last), 1}, Bytes: 10, Holders: []NodeID{node(1), node(2)}, BusyMS: 1000,
	}
	for _, f := range failed {
		x.Account = x.Account.Sub(AccountOf(f.Range))
	}
	return x
}

// TestSettleBearsRepetition has a piece of a claim settled twice, as when the leader died
// before it could say so: the second time changes nothing, and the claim goes on.
func TestSettleBearsRepetition(t *testing.T) {
	l, j, c := tasksUnderClaim(t, 100, 2)
	x := settled(c, 39, true)
	l.must(x)
	before := l.Digest()
	l.must(x)
	if l.Digest() != before {
		t.Error("the second time changed the ledger")
	}
	if now, held := l.Claim(c.Fence); !held || now.Range != (Range{40, 99}) {
		t.Errorf("the claim is %v, %t", now, held)
	}
	l.must(&Control{Job: j.ID, Action: Cancel})
	l.refused(x, StaleClaim)
}

// TestSettleInPieces commits a claim in two pieces: it goes on behind the first,
// and a failed task between done ones is charged alone.
func TestSettleInPieces(t *testing.T) {
	l, j, c := tasksUnderClaim(t, 100, 2)
	l.must(settled(c, 39, true, Failure{Range{10, 11}, false, "exit code", "1"}))
	held, current := l.Claim(c.Fence)
	if !current || held.Range != (Range{40, 99}) {
		t.Fatalf("after a piece the claim is %+v, %v, want 40:100", held, current)
	}
	if j.Survivors != 38 || j.Failures != 2 || len(j.Stages[0].Done) != 2 || len(j.Stages[0].Traces) != 1 {
		t.Errorf("%d done, %d failures, pieces %v, traces %v", j.Survivors, j.Failures, j.Stages[0].Done, j.Stages[0].Traces)
	}
	want := []Open{{Range{10, 11}, 1, l.Now() + backoffBaseMS, slot(1, 0)}}
	if !reflect.DeepEqual(j.Stages[0].Open, want) {
		t.Errorf("open is %v, want %v", j.Stages[0].Open, want)
	}
	c.Range = held.Range
	l.must(settled(c, 99, true))
	if _, current := l.Claim(c.Fence); current {
		t.Error("a claim with nothing left goes on")
	}
	if j.State != Running {
		t.Errorf("the job is %v with a failed task to try again", j.State)
	}
}

// TestPoisonTaskIsSetAside fails one task for good; the rest is done and the job failed.
func TestPoisonTaskIsSetAside(t *testing.T) {
	l, j, c := tasksUnderClaim(t, 3, 2)
	poison := Failure{Range{1, 1}, false, "signal", "SIGSEGV"}
	l.must(settled(c, 2, false, poison))
	l.at += backoffBaseMS + avoidMS
	c = l.take(slot(1, 0), 1)
	if c.Attempts != 1 || c.Range != (Range{1, 1}) {
		t.Fatalf("the second try is %+v", c)
	}
	l.must(settled(c, 1, false, poison))
	if want := []FailedRange{{Range{1, 1}, 2, "signal", "SIGSEGV"}}; j.State != Failed || !reflect.DeepEqual(j.Stages[0].Failed, want) {
		t.Errorf("the job is %v with %v, want failed with %v", j.State, j.Stages[0].Failed, want)
	}
	if j.Survivors != 2 {
		t.Errorf("%d tasks done, want 2", j.Survivors)
	}
}

// TestFreeFailure counts no attempt, however often.
func TestFreeFailure(t *testing.T) {
	l, j, c := tasksUnderClaim(t, 1, 1)
	for range 5 {
		l.must(settled(c, 0, false, Failure{Range{0, 0}, true, "out of memory", ""}))
		if j.State != Running || j.Stages[0].Open[0].Attempts != 0 {
			t.Fatalf("after a free failure the job is %v, %v", j.State, j.Stages[0].Open)
		}
		l.at += backoffBaseMS + avoidMS
		c = l.take(slot(1, 0), 1)
	}
}

func TestSettleRefusals(t *testing.T) {
	fail := func(first, last uint64) Failure { return Failure{Range{first, last}, false, "x", ""} }
	for name, tt := range map[string]struct {
		alter func(*Settle)
		code  Code
	}{
		"stale fence":       {func(c *Settle) { c.Fence++ }, StaleClaim},
		"another node's":    {func(c *Settle) { c.Node = node(2) }, StaleClaim},
		"beyond the claim":  {func(c *Settle) { c.Last = 100 }, BadRange},
		"wrong account":     {func(c *Settle) { c.Account.Count-- }, WrongAccount},
		"failed in account": {func(c *Settle) { c.Failed = []Failure{fail(3, 3)} }, WrongAccount},
		"failed outside":    {func(c *Settle) { c.Failed = []Failure{fail(50, 60)} }, BadRange},
		"failed twice":      {func(c *Settle) { c.Failed = []Failure{fail(3, 5), fail(5, 6)} }, BadRange},
		"out of order":      {func(c *Settle) { c.Failed = []Failure{fail(5, 6), fail(3, 4)} }, BadRange},
		"one holder":        {func(c *Settle) { c.Holders = c.Holders[:1] }, UnderHeld},
		"no segment":        {func(c *Settle) { c.Blob = Digest{} }, UnderHeld},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, c := tasksUnderClaim(t, 100, 2)
			x := settled(c, 49, false)
			tt.alter(x)
			before := l.Digest()
			if o := l.do(x); o.Refusal == nil || o.Refusal.Code != tt.code {
				t.Errorf("Settle(%+v) gives %+v, want code %d", x, o.Refusal, tt.code)
			}
			if l.Digest() != before {
				t.Error("a refused settle changed the ledger")
			}
		})
	}
	l, _, c := tasksUnderClaim(t, 100, 2)
	if o := l.do(finished(c, 99, 0)); o.Refusal == nil || o.Refusal.Code != Invalid {
		t.Errorf("a finish of tasks gives %+v", o)
	}
}

// TestTracesAreBounded keeps the newest segments of failed attempts, and
// TestLedgerUnderFaults restores them from snapshots.
func TestTracesAreBounded(t *testing.T) {
	l := newLedger(t, 1, 1)
	j := l.submit(Range{0, MaxTraces}, func(c *Submit) { c.Kind, c.Attempts = Tasks, 1 })
	for i := range uint64(MaxTraces + 1) {
		l.addTrace(j, 0, Trace{Range: Range{i, i}, Blob: Digest{1}})
	}
	if got := j.Stages[0].Traces; len(got) != MaxTraces || got[0].Range.First != 1 {
		t.Errorf("%d traces, the first of %v", len(got), got[0].Range)
	}
	if err := l.sound(); err != nil {
		t.Error(err)
	}
}

// TestTask looks one task up in each state.
func TestTask(t *testing.T) {
	l, j, c := tasksUnderClaim(t, 100, 1)
	l.must(settled(c, 49, true, Failure{Range{10, 11}, false, "exit code", "1"}))
	for number, want := range map[uint64]string{0: "done", 9: "done", 10: "failed", 12: "done", 49: "done", 50: "running", 99: "running"} {
		if got, ok := l.Task(j, number); !ok || got.State != want || (want == "running") != (len(got.Segments) == 0) {
			t.Errorf("task %d is %+v, %v, want %s", number, got, ok, want)
		}
	}
	if got, ok := l.Task(j, 100); ok {
		t.Errorf("task 100 of 100 is %+v", got)
	}
}
