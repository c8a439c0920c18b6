package jobs

import "testing"

// BenchmarkFinishTake is the control cost of a chunk: its finish, and the next
// claim, of 24 slots on one job of the whole space.
func BenchmarkFinishTake(b *testing.B) {
	for name, survivors := range map[string]uint64{"none": 0, "survivors": 3} {
		b.Run(name, func(b *testing.B) {
			l := newLedger(b, 12, 12)
			s := l.State
			l.submit(Range{0, end})
			var claims []Claim
			for n := range 2 {
				for i := range 12 {
					l.rate(slot(n+1, i), 1_000_000)
					claims = append(claims, *l.take(slot(n+1, i), 1))
				}
			}
			for i := 0; b.Loop(); i++ {
				c := &claims[i%len(claims)]
				f := finished(c, c.Range.Last, survivors, node(1), node(2))
				f.BusyMS = 10_000
				out := s.Apply(Entry{Instant(i), []Request{{Command: f}, {Command: &Take{c.Slot, 1, 1}}}})
				if out[0].Err() != nil || out[1].Claim == nil {
					b.Fatal(out)
				}
				*c = *out[1].Claim
				if survivors > 0 && i%foldLeast == 0 {
					fold(s)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
		})
	}
}

// fold joins what can be joined.
func fold(s *State) {
	for n := range 2 {
		if task, ok := s.FoldPlan(node(n + 1)); ok {
			s.Apply(Entry{0, []Request{{Command: &Fold{
				task.Job, task.Stage, task.Range, task.Survivors, Digest{1}, 16, node(n + 1), []NodeID{node(1), node(2)},
			}}}})
		}
	}
}
