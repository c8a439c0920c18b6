package jobs

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

func requestID(n int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func keyed(id JobID, key string, request byte) *Submit {
	return &Submit{ID: id, Key: key, RequestDigest: Digest{request}, Kind: Seeds, Stages: []StageSpec{{Range: Range{0, 9}, Grain: 1}}}
}

func TestKeys(t *testing.T) {
	const life = keyLifeMS
	cancel, remove := &Control{Job: 1, Action: Cancel}, &Control{Job: 1, Action: Remove}
	for name, tt := range map[string]struct {
		before []Command
		after  Instant
		submit *Submit
		job    JobID
		want   Code
	}{
		"the same request again":             {nil, 0, keyed(2, "k", 1), 1, 0},
		"even when it is not valid any more": {nil, 0, &Submit{ID: 2, Key: "k", RequestDigest: Digest{1}}, 1, 0},
		"another request":                    {nil, 0, keyed(2, "k", 2), 0, KeyConflict},
		"another key":                        {nil, 0, keyed(2, "other", 1), 2, 0},
		"without a key":                      {nil, 0, keyed(2, "", 1), 2, 0},
		"the drawn id is in use":             {nil, 0, keyed(1, "other", 1), 0, IDTaken},
		"the zero id":                        {nil, 0, keyed(0, "other", 1), 0, IDTaken},
		"the job has ended":                  {[]Command{cancel}, 2 * life, keyed(2, "k", 1), 1, 0},
		"removed, within seven days":         {[]Command{cancel, remove}, life - 1, keyed(2, "k", 1), 1, 0},
		"removed, another request":           {[]Command{cancel, remove}, life - 1, keyed(2, "k", 2), 0, KeyConflict},
		"removed seven days ago":             {[]Command{cancel, remove}, life, keyed(2, "k", 2), 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1)
			l.must(keyed(1, "k", 1))
			for _, c := range tt.before {
				l.must(c)
			}
			l.at += tt.after
			if tt.want != 0 {
				l.refused(tt.submit, tt.want)
				return
			}
			if got := l.must(tt.submit).Job; got != tt.job {
				t.Errorf("Submit(%+v) = job %s, want %s", tt.submit, got, tt.job)
			}
		})
	}
	l := newLedger(t, 1)
	l.must(keyed(1, "k", 1))
	if job, request := l.Key("k"); job != 1 || request != (Digest{1}) {
		t.Errorf("Key(k) = %s, %s, want job 1 and its request", job, request)
	}
}

func TestSubmitIsChecked(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n+1) }
	for name, tt := range map[string]struct {
		edit func(*Submit)
		want Code
	}{
		"no kind":             {func(c *Submit) { c.Kind = 0 }, Invalid},
		"no stages":           {func(c *Submit) { c.Stages = nil }, Limit},
		"too many stages":     {func(c *Submit) { c.Stages = make([]StageSpec, MaxStages+1) }, Limit},
		"too many attempts":   {func(c *Submit) { c.Attempts = MaxAttempts + 1 }, Limit},
		"key too long":        {func(c *Submit) { c.Key = long(MaxKeyBytes) }, Limit},
		"name too long":       {func(c *Submit) { c.Name = long(MaxNameBytes) }, Limit},
		"spec too long":       {func(c *Submit) { c.Spec = make([]byte, MaxSpecBytes+1) }, Limit},
		"stage without grain": {func(c *Submit) { c.Stages[0].Grain = 0 }, Invalid},
		"empty stage":         {func(c *Submit) { c.Stages[0].Range = Range{5, 4} }, Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			c := keyed(1, "", 1)
			tt.edit(c)
			newLedger(t, 1).refused(c, tt.want)
		})
	}
}

func TestControl(t *testing.T) {
	l := newLedger(t, 1)
	j, c := l.whole(slot(1, 0), Range{0, 9})
	control := func(a Action) *Control { return &Control{Job: j.ID, Action: a} }
	l.refused(&Control{Job: 99, Action: Cancel}, UnknownJob)
	l.refused(control(0), Invalid)
	l.refused(control(Remove), JobNotEnded)
	l.must(control(Pause))
	l.must(control(Resume))
	if j.State != Running {
		t.Errorf("resumed job is %s, want running", j.State)
	}
	l.must(control(Cancel))
	l.must(control(Cancel)) // asked twice
	l.refused(control(Resume), JobEnded)
	l.refused(finished(c, 9, 0), StaleClaim)
	if j.State != Cancelled || l.Idle() != true {
		t.Errorf("job is %s, idle %t, want cancelled and idle", j.State, l.Idle())
	}
	l.must(control(Remove))
	l.refused(control(Remove), UnknownJob)
	waiting := l.submit(Range{0, 9})
	l.must(&Control{Job: waiting.ID, Action: Pause})
	l.must(&Control{Job: waiting.ID, Action: Resume})
	if waiting.State != Queued {
		t.Errorf("a job that never started is %s after a pause, want queued", waiting.State)
	}
}

func TestARepeatedRequestGivesTheStoredOutcome(t *testing.T) {
	l := newLedger(t, 1)
	first := l.request(Request{requestID(1), keyed(1, "", 1)})
	l.must(&Control{Job: 1, Action: Cancel})
	l.must(&Control{Job: 1, Action: Remove})
	before := l.Digest()
	if again := l.request(Request{requestID(1), keyed(1, "", 1)}); again != first || l.Digest() != before {
		t.Errorf("repeated = %+v, want %+v and nothing changed", again, first)
	}
	refused := l.request(Request{requestID(2), &Control{Job: 7, Action: Cancel}})
	l.must(keyed(7, "", 1))
	if again := l.request(Request{requestID(2), &Control{Job: 7, Action: Cancel}}); again.Refusal == nil || *again.Refusal != *refused.Refusal {
		t.Errorf("repeated = %+v, want the refusal of before, %+v", again, refused)
	}
	l.request(Request{[16]byte{}, keyed(8, "", 1)})
	if o := l.request(Request{[16]byte{}, keyed(9, "", 1)}); o.Job != 9 {
		t.Errorf("under the zero id = %+v, want it to happen each time", o)
	}
}

func TestRequestsAreForgottenOldestFirst(t *testing.T) {
	l := newLedger(t, 1)
	for n := 1; n <= MaxRequests+5; n++ {
		l.Apply(Entry{l.at, []Request{{requestID(n), &Control{Job: 1, Action: Cancel}}}})
	}
	if len(l.answers) != MaxRequests || len(l.asked) != MaxRequests || l.asked[0] != requestID(6) {
		t.Errorf("%d answers, %d ids from %x, want %d from 6 on", len(l.answers), len(l.asked), l.asked[0], MaxRequests)
	}
	if err := l.sound(); err != nil {
		t.Error(err)
	}
}

// Whatever a user can put into a request, the answer to it and the snapshot in
// which it is remembered stay within the limits of their readers.
func TestRefusalsFitTheCodec(t *testing.T) {
	l := newLedger(t, 1)
	c := keyed(1, strings.Repeat("\x00", MaxKeyBytes), 1)
	c.Stages[0] = StageSpec{Label: strings.Repeat("\x00", MaxTextBytes)}
	if o := l.request(Request{requestID(1), c}); o.Refusal == nil || len(o.Refusal.Text) > maxRefusalBytes {
		t.Errorf("Submit(%+v) = %+v, want a refusal of limited length", c, o)
	}
}

func TestLogTimeNeverGoesBack(t *testing.T) {
	s := NewState()
	for _, tt := range []struct{ at, want Instant }{{5, 5}, {3, 5}, {-1, 5}, {math.MinInt64, 5}, {6, 6}} {
		if s.Apply(Entry{At: tt.at}); s.Now() != tt.want {
			t.Errorf("Now() after %d = %d, want %d", tt.at, s.Now(), tt.want)
		}
	}
}
