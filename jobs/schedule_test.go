package jobs

import (
	"fmt"
	"slices"
	"testing"
)

func TestSizeOfAClaim(t *testing.T) {
	for name, tt := range map[string]struct {
		slots   int
		rate    uint64 // of the slot that asks; the others' are unknown unless all
		all     bool
		open    uint64
		want    uint32 // 2: the slot holds a claim already
		units   uint64
		nothing bool
	}{
		"the first probe is the grain":              {slots: 2, open: 1 << 40, want: 1, units: 10},
		"a small job gives less than a grain":       {slots: 2, open: 8, want: 1, units: 2},
		"never less than a unit":                    {slots: 2, open: 1, want: 1, units: 1},
		"no second probe while the rate is unknown": {slots: 2, open: 1 << 40, want: 2, nothing: true},
		"rate times chunk time":                     {slots: 2, rate: 1000, open: 1 << 40, want: 1, units: 10_000},
		"also for what is reserved":                 {slots: 2, rate: 1000, open: 1 << 40, want: 2, units: 10_000},
		"no claim beyond the limit":                 {slots: 1, rate: 1 << 50, open: end, want: 1, units: MaxClaimSeeds},
		"half of a slot's share towards the end":    {slots: 4, rate: 1000, all: true, open: 40_000, want: 1, units: 5_000},
		"not below a probe":                         {slots: 4, rate: 1000, all: true, open: 400, want: 1, units: 250},
		"the last scrap":                            {slots: 4, rate: 1000, all: true, open: 7, want: 1, units: 7},
		"nothing reserved from the last scraps":     {slots: 4, rate: 1000, all: true, open: 1_000, want: 2, nothing: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, tt.slots)
			for i := range tt.slots {
				if i == 0 || tt.all {
					l.rate(slot(1, i), tt.rate)
				}
			}
			if tt.want == 2 { // something to hold, of another shape and before the rest
				l.submit(Range{0, 0}, func(c *Submit) { c.Priority, c.Stages[0].Shape = 1, "other" })
				l.take(slot(1, 0), 1)
			}
			l.submit(Range{0, tt.open - 1})
			got := l.take(slot(1, 0), tt.want)
			switch {
			case tt.nothing && got != nil:
				t.Errorf("Take = %s, want nothing", got.Range)
			case !tt.nothing && (got == nil || got.Range != Range{0, tt.units - 1}):
				t.Errorf("Take = %+v, want %d units", got, tt.units)
			}
		})
	}
}

func TestChunksShrinkTowardsTheEnd(t *testing.T) {
	l := newLedger(t, 1)
	l.rate(slot(1, 0), 1000)
	l.submit(Range{0, 99_999})
	last := uint64(end)
	sizes := []uint64{}
	for c := l.take(slot(1, 0), 1); c != nil; c = l.take(slot(1, 0), 1) {
		size := c.Range.Size().Lo
		if sizes = append(sizes, size); size > last {
			t.Fatalf("sizes %v, want none larger than the one before", sizes)
		}
		last = size
		f := finished(c, c.Range.Last, 0)
		f.BusyMS = size // a thousand a second, as before
		l.must(f)
	}
	if sizes[0] != 10_000 || last > 250 || l.Jobs()[0].State != Done {
		t.Errorf("sizes %v, job %s, want from 10000 down to 250 or less, done", sizes, l.Jobs()[0].State)
	}
}

func TestRateIsAMovingAverage(t *testing.T) {
	l := newLedger(t, 1)
	for i, tt := range []struct{ units, busyMS, want uint64 }{
		{1000, 1000, 1_000_000},
		{2000, 1000, 1_300_000},
		{1000, 0, 1_300_000}, // nothing was measured
	} {
		l.measure(slot(1, 0), "s", Range{0, tt.units - 1}, tt.busyMS)
		if got := l.slot(slot(1, 0)).rate("s"); got != tt.want {
			t.Errorf("rate after measurement %d = %d, want %d", i, got, tt.want)
		}
	}
	l.measure(slot(1, 0), "task", Range{0, 0}, 90_000)
	if got := duration(Range{0, 0}, l.slot(slot(1, 0)).rate("task")); got < 90_000 || got > 91_000 {
		t.Errorf("a task of 90 s is expected to take %d ms", got)
	}
}

// A shape that a slot forgets must leave the sums over all slots too, or a node
// that was restored from a snapshot would cut other pieces.
func TestRatesOfForgottenShapes(t *testing.T) {
	l := newLedger(t, 1, 1)
	for n := range 2 {
		for i := range 3 * MaxShapesAtSlot {
			l.measure(slot(1+n, 0), fmt.Sprint(i), Range{0, 99}, 1)
		}
	}
	if got := len(l.slot(slot(1, 0)).Rates); got != MaxShapesAtSlot || len(l.fleet.rates) != MaxShapesAtSlot {
		t.Errorf("%d shapes at the slot, %d in the sums, want %d", got, len(l.fleet.rates), MaxShapesAtSlot)
	}
}

func TestPriorityThenOrderOfSubmission(t *testing.T) {
	l := newLedger(t, 8)
	priority := func(p int32) func(*Submit) { return func(c *Submit) { c.Priority = p } }
	low, first, second, high := l.submit(Range{0, 0}, priority(-1)), l.submit(Range{0, 0}), l.submit(Range{0, 0}), l.submit(Range{0, 0}, priority(5))
	raised, paused := l.submit(Range{0, 0}, priority(-9)), l.submit(Range{0, 0}, priority(100))
	l.must(&Control{Job: raised.ID, Action: SetPriority, Priority: 9})
	l.must(&Control{Job: paused.ID, Action: Pause})
	for i, want := range []*Job{raised, high, first, second, low} {
		if c := l.take(slot(1, i), 1); c == nil || c.Job != want.ID {
			t.Fatalf("claim %d = %+v, want job %s", i, c, want.ID)
		}
	}
	if c := l.take(slot(1, 5), 1); c != nil {
		t.Errorf("Take = %+v, want nothing of a paused job", c)
	}
	l.must(&Control{Job: paused.ID, Action: Resume})
	if c := l.take(slot(1, 5), 1); c == nil || c.Job != paused.ID {
		t.Errorf("Take = %+v, want the resumed job", c)
	}
}

func TestASlotHoldsTwoClaimsAtMost(t *testing.T) {
	l := newLedger(t, 1)
	l.rate(slot(1, 0), 10)
	l.submit(Range{0, 1 << 40})
	if c := l.take(slot(1, 0), 0); c != nil {
		t.Errorf("Take(want 0) = %+v, want nothing", c)
	}
	running, reserved := l.take(slot(1, 0), 2), l.take(slot(1, 0), 2)
	if running.StartedAt != l.at || reserved.StartedAt != notStarted || reserved.Range.First != running.Range.Last+1 {
		t.Fatalf("claims %+v and %+v, want one started and the next one reserved", running, reserved)
	}
	if c := l.take(slot(1, 0), 9); c != nil {
		t.Errorf("third Take = %+v, want nothing", c)
	}
	l.at += 500
	l.must(finished(running, running.Range.Last, 0))
	if c, _ := l.Claim(reserved.Fence); c.StartedAt != l.at {
		t.Errorf("reserved claim started at %d, want %d", c.StartedAt, l.at)
	}
	if c := l.take(slot(1, 9), 1); c != nil {
		t.Errorf("Take of a slot that is not there = %+v", c)
	}
	l.must(&Expire{node(1), 1})
	if l.Offer(slot(1, 0), 1, l.at) || l.Offer(slot(9, 0), 1, l.at) {
		t.Errorf("Offer to a dead or unknown node = true, want nothing for it")
	}
}

func TestBackoffDoubles(t *testing.T) {
	for class, first := range map[string]Instant{"": 1000, "exit code": 1000, "gpu fault": 5000, "input missing": 10_000} {
		for attempts, times := range map[uint32]Instant{0: 1, 1: 1, 2: 2, 3: 4, 5: 16, 9: 256, 10: 512, 100: 512} {
			if got, want := Backoff(class, attempts), min(times*first, 300_000); got != want {
				t.Errorf("Backoff(%q, %d) = %d, want %d", class, attempts, got, want)
			}
		}
	}
}

// TestWaitByClass has pieces of both kinds of job wait by how they failed.
func TestWaitByClass(t *testing.T) {
	for class, want := range map[string]Instant{"exit code": 1000, "storage": 10_000} {
		l, j, c := tasksUnderClaim(t, 10, 2)
		l.must(settled(c, c.Range.Last, false, Failure{c.Range, false, class, "m"}))
		if o := j.Stages[0].Open[0]; o.NotBefore != l.Now()+want {
			t.Errorf("tasks that failed by %s wait for %d ms, want %d", class, o.NotBefore-l.Now(), want)
		}
		l = newLedger(t, 2)
		j = l.submit(Range{0, 9})
		c = l.take(slot(1, 0), 1)
		l.must(&Fail{Fence: c.Fence, Node: node(1), Incarnation: 1, Charged: c.Range, Class: class})
		if o := j.Stages[0].Open[0]; o.NotBefore != l.Now()+want {
			t.Errorf("seeds that failed by %s wait for %d ms, want %d", class, o.NotBefore-l.Now(), want)
		}
	}
}

func TestRetryAfterAFailure(t *testing.T) {
	for name, tt := range map[string]struct {
		slots []int
		on    SlotID
		after Instant
		got   bool
	}{
		"not before the wait is over":             {[]int{1, 1}, slot(2, 0), 999, false},
		"on another slot":                         {[]int{1, 1}, slot(2, 0), 1000, true},
		"on another slot of the same node":        {[]int{2}, slot(1, 1), 1000, true},
		"not on the same slot while others live":  {[]int{1, 1}, slot(1, 0), 1000, false},
		"on the same slot when no other takes it": {[]int{1, 1}, slot(1, 0), 1000 + avoidMS, true},
		"on the same slot when there is no other": {[]int{1}, slot(1, 0), 1000, true},
		"nor does a node without slots count":     {[]int{1, 0}, slot(1, 0), 1000, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, tt.slots...)
			_, c := l.whole(slot(1, 0), Range{0, 9})
			l.must(failed(c, c.Range))
			l.at += tt.after
			if got := l.take(tt.on, 1); (got != nil) != tt.got {
				t.Errorf("Take(%v) %d ms after the failure = %+v, want one: %t", tt.on, tt.after, got, tt.got)
			}
		})
	}
}

func TestFailureChargesOnlyItsPart(t *testing.T) {
	l := newLedger(t, 1)
	j, c := l.whole(slot(1, 0), Range{0, 99})
	l.refused(failed(c, Range{90, 100}), BadRange)
	l.refused(failed(c, Range{5, 4}), BadRange)
	l.must(failed(c, Range{40, 49}))
	want := []Open{{Range: Range{0, 39}}, {Range{40, 49}, 1, l.at + 1000, slot(1, 0)}, {Range: Range{50, 99}}}
	if got := j.Stages[0].Open; !slices.Equal(got, want) {
		t.Errorf("open = %+v, want %+v", got, want)
	}
	if j.Failures != 1 || j.LastError != "exit: status 1" {
		t.Errorf("%d failures, last %q, want 1 with its message", j.Failures, j.LastError)
	}
}

func TestAttemptsRunOut(t *testing.T) {
	l := newLedger(t, 1)
	l.rate(slot(1, 0), 1<<40)
	j := l.submit(Range{0, 9}, func(c *Submit) { c.Attempts = 2 })
	for attempt := range 2 {
		c := l.take(slot(1, 0), 1)
		if c == nil || c.Attempts != uint32(attempt) {
			t.Fatalf("Take = %+v, want one with %d attempts", c, attempt)
		}
		l.must(failed(c, Range{3, 3}))
		for rest := l.take(slot(1, 0), 1); rest != nil; rest = l.take(slot(1, 0), 1) {
			l.must(finished(rest, rest.Range.Last, 0))
		}
		l.at += 10_000
	}
	if got := j.Stages[0].Failed; j.State != Failed || len(got) != 1 || got[0] != (FailedRange{Range{3, 3}, 2, "exit", "status 1"}) {
		t.Errorf("job is %s with %+v failed, want the one unit after 2 attempts", j.State, got)
	}
	l.refused(&Control{Job: j.ID, Action: Cancel}, JobEnded)
}

func stages(barrier ...bool) func(*Submit) {
	return func(c *Submit) {
		c.Attempts = 1
		c.Stages = nil
		for i, b := range barrier {
			first := uint64(i * 100)
			c.Stages = append(c.Stages, StageSpec{Label: fmt.Sprint(i), Range: Range{first, first + 9}, Grain: 10, Shape: "s", Barrier: b})
		}
	}
}

func TestBarriers(t *testing.T) {
	l := newLedger(t, 4)
	for i := range 4 {
		l.rate(slot(1, i), 1<<40)
	}
	j := l.submit(Range{}, stages(false, false, true, false))
	a, b := l.take(slot(1, 0), 1), l.take(slot(1, 1), 1)
	if a.Stage != 0 || b.Stage != 1 {
		t.Fatalf("stages %d and %d, want 0 and 1", a.Stage, b.Stage)
	}
	l.must(finished(b, b.Range.Last, 0))
	if c := l.take(slot(1, 1), 1); c != nil {
		t.Fatalf("Take = %+v, want nothing behind the barrier", c)
	}
	l.must(finished(a, a.Range.Last, 0))
	c, d := l.take(slot(1, 0), 1), l.take(slot(1, 1), 1)
	if c == nil || d == nil || c.Stage != 2 || d.Stage != 3 {
		t.Fatalf("Take = %+v and %+v, want stages 2 and 3", c, d)
	}
	l.must(finished(d, d.Range.Last, 0))
	l.must(finished(c, c.Range.Last, 0))
	if j.State != Done {
		t.Errorf("job is %s, want done", j.State)
	}
}

func TestFailureBeforeABarrierEndsTheJob(t *testing.T) {
	l := newLedger(t, 2)
	l.rate(slot(1, 0), 1<<40)
	l.rate(slot(1, 1), 1<<40)
	j := l.submit(Range{}, stages(false, false, true))
	a, b := l.take(slot(1, 0), 1), l.take(slot(1, 1), 1)
	l.must(failed(a, a.Range))
	if j.State != Running {
		t.Fatalf("job is %s, want running: another stage before the barrier is not over", j.State)
	}
	l.must(finished(b, b.Range.Last, 0))
	if j.State != Failed || len(j.Stages[2].Open) != 1 {
		t.Errorf("job is %s, behind the barrier %v, want failed with that open", j.State, j.Stages[2].Open)
	}
	if c := l.take(slot(1, 0), 1); c != nil {
		t.Errorf("Take = %+v, want nothing of a job that ended", c)
	}
}

// A piece before a barrier is lost and fails for good while the stage behind the
// barrier runs already: the job ends and holds nothing any more.
func TestFailureBeforeABarrierThatWasPassed(t *testing.T) {
	l := newLedger(t, 1, 1)
	l.rate(slot(1, 0), 1<<40)
	l.rate(slot(2, 0), 1<<40)
	j := l.submit(Range{}, stages(false, true))
	l.must(finished(l.take(slot(1, 0), 1), 9, 5, node(1), node(2)))
	behind := l.take(slot(1, 0), 1)
	for n := range 2 {
		l.must(&Drop{j.ID, 0, 0, j.Stages[0].Done[0].Blob, node(n + 1)})
	}
	again := l.take(slot(2, 0), 1)
	if behind.Stage != 1 || again == nil || again.Stage != 0 {
		t.Fatalf("claims %+v and %+v, want one behind the barrier and the lost piece", behind, again)
	}
	l.must(failed(again, again.Range))
	if j.State != Failed {
		t.Fatalf("job is %s, want failed", j.State)
	}
	l.refused(finished(behind, behind.Range.Last, 0), StaleClaim)
	l.must(&Control{Job: j.ID, Action: Remove})
	l.must(&Hello{Node: node(1), Incarnation: 2})
}

// twins gives slot 1/0 a claim that is late, and slot 2/0 a second one on it.
func twins(t *testing.T) (l *ledger, j *Job, first, second *Claim) {
	t.Helper()
	l = newLedger(t, 1, 1, 1)
	j, first = l.whole(slot(1, 0), Range{0, 99})
	l.rate(slot(1, 0), 1) // 100 s
	l.rate(slot(2, 0), 1000)
	second = l.take(slot(2, 0), 1)
	if second == nil || !second.Speculative || second.Range != first.Range || second.Twin != first.Fence {
		t.Fatalf("Take = %+v, want a second claim on %+v", second, first)
	}
	return l, j, first, second
}

func TestSpeculativeClaims(t *testing.T) {
	type pair = struct{ first, second *Claim }
	for name, tt := range map[string]struct {
		act  func(*ledger, pair)
		want string // open, done, claims that are left
	}{
		"the first finish wins: the primary": {func(l *ledger, p pair) {
			l.must(finished(p.first, 99, 0))
			l.refused(finished(p.second, 99, 0), StaleClaim)
		}, "open [] done [0:100] claims [] done"},
		"the first finish wins: the second one": {func(l *ledger, p pair) {
			l.must(finished(p.second, 99, 0))
			l.refused(finished(p.first, 99, 0), StaleClaim)
		}, "open [] done [0:100] claims [] done"},
		"a prefix ends both and opens the rest": {func(l *ledger, p pair) {
			l.must(finished(p.second, 49, 0))
			l.refused(finished(p.first, 99, 0), StaleClaim)
		}, "open [50:100] done [0:50] claims [] running"},
		"a failing primary leaves its twin": {func(l *ledger, p pair) {
			l.must(failed(p.first, Range{0, 99}))
		}, "open [] done [] claims [2] running"},
		"a failing twin leaves the primary": {func(l *ledger, p pair) {
			l.must(failed(p.second, Range{0, 99}))
		}, "open [] done [] claims [1] running"},
		"both fail: open once, after the wait": {func(l *ledger, p pair) {
			l.must(failed(p.first, Range{0, 99}))
			l.must(failed(p.second, Range{0, 99}))
		}, "open [0:100 after 2 failures] done [] claims [] running"},
		"a dead primary leaves its twin": {func(l *ledger, p pair) {
			l.must(&Expire{node(1), 1})
		}, "open [] done [] claims [2] running"},
		"both dead: open once": {func(l *ledger, p pair) {
			l.must(&Expire{node(2), 1})
			l.must(&Expire{node(1), 1})
		}, "open [0:100] done [] claims [] running"},
		"a released twin leaves the primary": {func(l *ledger, p pair) {
			l.must(&Release{p.second.Fence, node(2), 1})
		}, "open [] done [] claims [1] running"},
		"cancel ends both": {func(l *ledger, p pair) {
			l.must(&Control{Job: p.first.Job, Action: Cancel})
		}, "open [0:100] done [] claims [] cancelled"},
		"no third claim": {func(l *ledger, p pair) {
			l.rate(slot(3, 0), 1<<40)
			if c := l.take(slot(3, 0), 1); c != nil {
				l.t.Errorf("Take = %+v, want no third claim", c)
			}
		}, "open [] done [] claims [1 2] running"},
		"not trimmed": {func(l *ledger, p pair) {
			l.refused(&Trim{p.first.Fence, node(1), 1, 50}, Invalid)
			l.refused(&Trim{p.second.Fence, node(2), 1, 50}, Invalid)
		}, "open [] done [] claims [1 2] running"},
	} {
		t.Run(name, func(t *testing.T) {
			l, j, first, second := twins(t)
			tt.act(l, pair{first, second})
			if got := where(j); got != tt.want {
				t.Errorf("afterwards: %s, want %s", got, tt.want)
			}
		})
	}
}

// where says what has become of a job's first stage.
func where(j *Job) string {
	open, done, claims := []string{}, []string{}, []uint64{}
	for _, o := range j.Stages[0].Open {
		s := o.String()
		if o.Attempts > 0 {
			s += fmt.Sprintf(" after %d failures", o.Attempts)
		}
		open = append(open, s)
	}
	for _, p := range j.Stages[0].Done {
		done = append(done, p.String())
	}
	for _, c := range j.Stages[0].Held() {
		claims = append(claims, c.Fence)
	}
	return fmt.Sprint("open ", open, " done ", done, " claims ", claims, " ", j.State)
}

// A slot that fails whatever it gets must not be given the same late claim for ever.
func TestSpeculationEndsWithTheAttempts(t *testing.T) {
	l, j, first, second := twins(t)
	for tries := 1; second != nil; tries++ {
		if tries > DefaultAttempts {
			t.Fatalf("second claim number %d, want %d at most", tries, DefaultAttempts)
		}
		l.must(failed(second, second.Range))
		second = l.take(slot(2, 0), 1)
	}
	l.must(finished(first, 99, 0))
	if j.State != Done {
		t.Errorf("job is %s, want done", j.State)
	}
}

func TestWhoGetsASecondClaim(t *testing.T) {
	for name, tt := range map[string]struct {
		holder, asker uint64 // rates a second; the claim has 100 units
		asks          SlotID
		after         Instant
		want          bool
	}{
		"much faster":                     {1, 1000, slot(2, 0), 0, true},
		"not fast enough to be worth it":  {1000, 100_000, slot(2, 0), 0, false},
		"slower":                          {10, 1, slot(2, 0), 0, false},
		"unknown rate, in time":           {10, 0, slot(2, 0), 32_000, false},
		"unknown rate, long overdue":      {10, 0, slot(2, 0), 32_001, true},
		"slower, but long overdue":        {10, 1, slot(2, 0), 32_001, true},
		"holder unknown, in time":         {0, 0, slot(2, 0), 32_000, false},
		"holder unknown, beyond 3 chunks": {0, 0, slot(2, 0), 32_001, true},
		"the holder itself":               {1, 1, slot(1, 0), 400_000, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1)
			l.whole(slot(1, 0), Range{0, 99})
			l.rate(slot(1, 0), tt.holder)
			l.rate(slot(2, 0), tt.asker)
			l.at += tt.after
			if got := l.take(tt.asks, 1); (got != nil) != tt.want {
				t.Errorf("Take = %+v, want one: %t", got, tt.want)
			}
		})
	}
}

// Of two late claims the one that would end last is taken; one that is reserved
// ends after the one that runs before it.
func TestTheLatestClaimFirst(t *testing.T) {
	l := newLedger(t, 1, 1)
	_, running := l.whole(slot(1, 0), Range{0, 99})
	reserved := l.reserve(slot(1, 0), slot(2, 0), Range{0, 199}) // half of it
	l.rate(slot(1, 0), 10)
	l.rate(slot(2, 0), 1000)
	for i, want := range []*Claim{running, reserved} { // of the first job, then of the next
		if c := l.take(slot(2, 0), 1); c == nil || c.Twin != want.Fence {
			t.Fatalf("claim %d = %+v, want the twin of %d", i, c, want.Fence)
		} else if end, _ := l.expectedEnd(l.Job(c.Job), l.Job(c.Job).Stages[0], want); end != l.at+Instant(i+1)*10_000 {
			t.Errorf("claim %d would end at %d, want %d", want.Fence, end, l.at+Instant(i+1)*10_000)
		}
		if i == 0 {
			l.must(&Control{Job: running.Job, Action: Pause})
			l.must(&Release{l.Claims(slot(2, 0))[0].Fence, node(2), 1})
		}
	}
}

func TestTrim(t *testing.T) {
	l := newLedger(t, 1)
	j, c := l.whole(slot(1, 0), Range{100, 199})
	trim := func(last uint64) *Trim { return &Trim{c.Fence, node(1), 1, last} }
	l.refused(trim(99), BadRange)
	l.must(trim(199)) // nothing to give up
	l.must(trim(149))
	l.must(trim(180)) // came late: it is shorter already
	if got, want := where(j), "open [150:200] done [] claims [1] running"; got != want {
		t.Errorf("trimmed to 149: %s, want %s", got, want)
	}
	l.refused(finished(c, 199, 0), BadRange)
	l.refused(finished(c, 150, 0), BadRange)
	l.must(finished(c, 149, 0))
	if got, want := where(j), "open [150:200] done [100:150] claims [] running"; got != want {
		t.Errorf("finished: %s, want %s", got, want)
	}
	l.refused(trim(120), StaleClaim)
}

func TestTrimPlan(t *testing.T) {
	for name, tt := range map[string]struct {
		slots []int
		rate  uint64
		more  func(*ledger)
		want  []uint64
	}{
		"no slot is idle":         {[]int{1, 1}, 10, func(l *ledger) { l.whole(slot(2, 0), Range{0, 99}) }, nil},
		"reserved before running": {[]int{1, 2}, 10, nil, []uint64{2, 1}},
		"one for each idle slot":  {[]int{1, 1}, 10, nil, []uint64{2}},
		"little is left":          {[]int{1, 2}, 200, nil, []uint64{2}},
		"the longest first":       {[]int{1, 2, 1}, 10, func(l *ledger) { l.whole(slot(2, 0), Range{0, 299}); l.rate(slot(2, 0), 10) }, []uint64{2, 4}},
		"rate unknown":            {[]int{1, 2}, 0, nil, []uint64{2}},
		"something is open":       {[]int{1, 2}, 10, func(l *ledger) { l.submit(Range{0, 0}) }, nil},
		"open, but behind a barrier": {[]int{1, 2}, 10, func(l *ledger) {
			l.Jobs()[0].Stages = append(l.Jobs()[0].Stages, &Stage{StageSpec: StageSpec{Barrier: true}, Open: []Open{{}}})
		}, []uint64{2, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, tt.slots...)
			l.whole(slot(1, 0), Range{0, 99})
			l.reserve(slot(1, 0), slot(2, 0), Range{0, 199})
			l.rate(slot(1, 0), tt.rate)
			if tt.more != nil {
				tt.more(l)
			}
			var got []uint64
			for _, c := range l.TrimPlan(l.at) {
				got = append(got, c.Fence)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("TrimPlan = %v, want %v", got, tt.want)
			}
		})
	}
}

// TestNoTrimForSlotsWithoutTasks leaves the claims of a script job alone while
// only slots are idle that take no tasks.
func TestNoTrimForSlotsWithoutTasks(t *testing.T) {
	l, _, c := tasksUnderClaim(t, 100, 2)
	l.rate(slot(1, 0), 10)
	l.must(&Hello{Node: node(2), Incarnation: 2, Slots: []SlotSpec{{Label: SeedsOnly}}})
	if got := l.TrimPlan(l.at); len(got) != 1 || got[0].Fence != c.Fence { // for the other slot of node 1
		t.Fatalf("TrimPlan = %v, want claim %d", got, c.Fence)
	}
	l.must(&Hello{Node: node(1), Incarnation: 2, Slots: []SlotSpec{{}}})
	l.rate(slot(1, 0), 1<<40)
	c = l.take(slot(1, 0), 1)
	l.rate(slot(1, 0), 10)
	if got := l.TrimPlan(l.at); c == nil || len(got) != 0 {
		t.Errorf("TrimPlan = %v, and nobody would take them", got)
	}
}
