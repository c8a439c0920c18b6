package jobs

import "testing"

// work lets slot 1/0 finish a number of pieces of the given size in a job of
// the whole space, with the same survivors each, folding on the way.
func work(t testing.TB, finishes int, size, survivors uint64) (s *State, most int) {
	t.Helper()
	l := newLedger(t, 2)
	s = l.State
	l.rate(slot(1, 0), size) // 4 probes a second
	j := l.submit(Range{0, end}, func(c *Submit) { c.ChunkTimeMS = 1000 })
	for i := range finishes {
		o := s.Apply(Entry{Instant(i), []Request{{Command: &Take{slot(1, 0), 1, 1}}}})[0]
		f := finished(o.Claim, o.Claim.Range.Last, survivors, node(1))
		f.BusyMS = 1000
		if out := s.Apply(Entry{Instant(i), []Request{{Command: f}}})[0]; out.Err() != nil {
			t.Fatalf("finish %d: %v", i, out.Err())
		}
		if task, ok := s.FoldPlan(node(1)); ok {
			fold := &Fold{task.Job, task.Stage, task.Range, task.Survivors, Digest{byte(i), byte(i >> 8), byte(i >> 16), 1}, 16 * task.Survivors, node(1), []NodeID{node(1)}}
			if out := s.Apply(Entry{Instant(i), []Request{{Command: fold}}})[0]; out.Err() != nil {
				t.Fatalf("fold %d: %v", i, out.Err())
			}
		}
		most = max(most, s.Progress(j).Records)
	}
	if err := l.sound(); err != nil {
		t.Fatal(err)
	}
	if j.Pieces != uint64(finishes) || j.Survivors != uint64(finishes)*survivors {
		t.Errorf("%d pieces with %d survivors, want %d with %d each", j.Pieces, j.Survivors, finishes, survivors)
	}
	return s, most
}

// The ledger of a job of 2^64 is as large as what is live, whatever has been done.
func TestRecordsAreBounded(t *testing.T) {
	const finishes = 100_000
	for name, tt := range map[string]struct {
		survivors uint64
		records   int
	}{
		"pieces without survivors merge": {0, 2},
		"pieces with survivors fold":     {3, 1 + foldLeast},
	} {
		t.Run(name, func(t *testing.T) {
			s, most := work(t, finishes, 1_000_000, tt.survivors)
			if most > tt.records {
				t.Errorf("up to %d records on the way, want %d at most", most, tt.records)
			}
			if got := len(s.Snapshot()); got > 4096 {
				t.Errorf("the snapshot has %d bytes, want 4096 at most", got)
			}
		})
	}
}

func TestLimitsOfMembersTokensAndJobs(t *testing.T) {
	apply := func(s *State, c Command) Outcome { return s.Apply(Entry{1, []Request{{Command: c}}})[0] }
	id := func(i int) (id NodeID) { id[0], id[1] = byte(i>>8), byte(i); return id }
	t.Run("nodes", func(t *testing.T) {
		s := newLedger(t, 1).State
		for i := 1; len(s.nodes) < MaxNodes; i++ { // no names twice: each looks through all
			n := &Node{ID: id(i)}
			s.nodes[n.ID] = n
		}
		if o := apply(s, &Admit{Node: NodeID{9, 9, 9}, Name: "one more", Token: testToken.Hash}); o.Refusal == nil || o.Refusal.Code != Limit {
			t.Errorf("node %d: %+v, want refusal %d", MaxNodes+1, o, Limit)
		}
	})
	t.Run("tokens", func(t *testing.T) {
		s := NewState()
		for i := range MaxTokens + 1 {
			h := id(i)
			o := apply(s, &Mint{Token{Hash: Digest(append(h[:], h[:]...)), Role: Voter, Uses: 1}})
			if (o.Refusal != nil) != (i == MaxTokens) {
				t.Fatalf("token %d: %+v, want %d to be accepted", i, o, MaxTokens)
			}
		}
	})
	t.Run("jobs", func(t *testing.T) {
		s := NewState()
		for i := range MaxJobs {
			s.jobs[JobID(i+1)] = &Job{}
		}
		if o := apply(s, keyed(MaxJobs+1, "", 1)); o.Refusal == nil || o.Refusal.Code != Limit {
			t.Errorf("job %d: %+v, want refusal %d", MaxJobs+1, o, Limit)
		}
	})
	t.Run("holders", func(t *testing.T) {
		l := newLedger(t, make([]int, MaxHolders+1)...)
		l.must(&Hello{Node: node(1), Incarnation: 2, Slots: make([]SlotSpec, 1)})
		j, c := l.whole(slot(1, 0), Range{0, 9})
		l.must(finished(c, 9, 1, node(1), node(2)))
		for i := range MaxHolders + 1 {
			l.must(&Hold{j.ID, 0, 0, j.Stages[0].Done[0].Blob, node(i + 1)})
		}
		if got := len(j.Stages[0].Done[0].Holders); got != MaxHolders {
			t.Errorf("%d holders, want %d", got, MaxHolders)
		}
	})
}
