package bubble

import (
	"strings"
	"testing"
	"time"

	"seedmesh/tests/faults"
)

// TestLiarIsFound has one of three devices miss survivors. Every piece is searched
// twice: the device is found and gets no more work, nobody else is blamed, and
// nothing that it said is in the results. That stays so when its node is cut off, expires and comes
// back, and ends when its device passes its test after a start.
func TestLiarIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{checkShare: 1, liar: 2})
		defer m.stop()
		s := newSearch(0, 200_000)
		m.mustSubmit(0, s)
		m.await("quarantine", time.Minute, func() bool { return len(m.status(0).Quarantined) > 0 })
		found := time.Now()
		m.drain(2, s)
		for _, i := range m.running() {
			list := m.status(i).Quarantined
			if len(list) != 1 || !strings.HasPrefix(list[0], "slot 0 of n2 is quarantined") || !strings.Contains(list[0], s.id) {
				t.Errorf("quarantined on %s: %q", name(i), list)
			}
		}
		if j := m.job(0, s.id); j.Failures != 1 || !strings.Contains(j.LastError, "slot 0 of n2") {
			t.Errorf("job show has %d failures, %q", j.Failures, j.LastError)
		}
		if n := m.startedBy(1, found.Add(time.Second)); n != 0 {
			t.Errorf("the liar began %d pieces after it was found", n)
		}
		search, err := s.spec.Compile(s.spec.Generators[0])
		if err != nil {
			t.Fatal(err)
		}
		missed := 0 // survivors that the liar never finds
		for seed := s.seeds.First + missEvery - s.seeds.First%missEvery; seed <= s.seeds.Last; seed += missEvery {
			if _, survives := search.Record(seed); survives {
				missed++
			}
		}
		heal := newNemesis(m, 1).cutOff(1, plane{}, true, true)
		m.await("expiry", time.Minute, func() bool { return m.status(0).Slots == 2 && m.status(2).Slots == 2 })
		faults.Landed(t, faults.Bubble, "node of a quarantined slot cut off", "I3 I5 I9 I12", heal())
		m.await("its return", time.Minute, func() bool { return m.whole(3, 3) })
		next := newSearch(1, 100_000)
		m.mustSubmit(0, next)
		m.drain(2, next)
		if len(m.status(0).Quarantined) != 1 || m.startedBy(1, found.Add(time.Second)) != 0 {
			t.Errorf("after its node's return the slot has begun %d pieces, and %q is quarantined", m.startedBy(1, found.Add(time.Second)), m.status(0).Quarantined)
		}
		m.end(1, nil)
		m.up(1)
		m.await("its return", time.Minute, func() bool { return m.whole(3, 3) && len(m.status(0).Quarantined) == 0 })
		m.sameLedgers()
		faults.Landed(t, faults.Bubble, "device that misses survivors", "I3 I5 I9 I12", missed)
	})
}

// TestChecksAgree searches every piece twice on honest devices: nobody is blamed,
// and every seed was visited twice at least.
func TestChecksAgree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{checkShare: 1})
		defer m.stop()
		s := newSearch(0, 200_000)
		m.mustSubmit(0, s)
		m.drain(1, s)
		for _, i := range m.running() {
			if list := m.status(i).Quarantined; len(list) > 0 {
				t.Errorf("quarantined on %s: %q", name(i), list)
			}
		}
		var visited uint64
		m.record.mu.Lock()
		for _, a := range m.record.attempts {
			visited += a.part.Count()
		}
		m.record.mu.Unlock()
		if all := s.seeds.Count(); visited < 2*all {
			t.Errorf("%d attempts at %d seeds, want each twice", visited, all)
		}
		m.sameLedgers()
	})
}

// startedBy counts the attempts of a node that began after a moment.
func (m *mesh) startedBy(node int, after time.Time) (count int) {
	m.record.mu.Lock()
	defer m.record.mu.Unlock()
	for _, a := range m.record.attempts {
		if a.node == node && a.at.After(after) {
			count++
		}
	}
	return count
}
