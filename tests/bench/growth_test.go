package bench

import (
	"fmt"
	"runtime"
	"testing"

	"seedmesh/jobs"
)

// BenchmarkMillionPieces has 24 slots do a million pieces of one job, one in
// thirty of them with survivors, and reports what the ledger has grown to after a
// thousandth of them and after all: its snapshot and this process's heap.
func BenchmarkMillionPieces(b *testing.B) {
	const pieces = 1_000_000
	for b.Loop() {
		m := newMillion(b)
		for n := range pieces {
			m.piece(n)
			if n+1 == pieces/1000 || n+1 == pieces {
				b.ReportMetric(float64(len(m.s.Snapshot())), fmt.Sprintf("snapshot-B@%d", n+1))
				b.ReportMetric(heap(), fmt.Sprintf("heap-B@%d", n+1))
			}
		}
	}
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// million is a ledger with two nodes of twelve slots.
type million struct {
	tb     testing.TB
	s      *jobs.State
	now    jobs.Instant
	nodes  [2]jobs.NodeID
	claims [24]*jobs.Claim
}

func newMillion(tb testing.TB) *million {
	m := &million{tb: tb, s: jobs.NewState(), nodes: [2]jobs.NodeID{{1}, {2}}}
	m.do(&jobs.Admit{Node: m.nodes[0], Name: "a", Role: jobs.Voter})
	m.do(&jobs.Mint{Token: jobs.Token{Hash: jobs.Digest{1}, Role: jobs.Voter, ExpiresMS: 1 << 60, Uses: 1}})
	m.do(&jobs.Admit{Node: m.nodes[1], Name: "b", Token: jobs.Digest{1}})
	for _, n := range m.nodes {
		m.do(&jobs.Hello{Node: n, Incarnation: 1, Slots: make([]jobs.SlotSpec, len(m.claims)/2)})
	}
	m.do(&jobs.Submit{ID: 1, Kind: jobs.Seeds, Stages: []jobs.StageSpec{{Label: "g", Range: jobs.Range{Last: 1<<64 - 1}, Grain: 1, Shape: "s"}}})
	return m
}

func (m *million) do(c jobs.Command) jobs.Outcome {
	m.now++
	o := m.s.Apply(jobs.Entry{At: m.now, Requests: []jobs.Request{{Command: c}}})[0]
	if o.Err() != nil {
		m.tb.Fatal(o.Err())
	}
	return o
}

// piece ends the n-th claim and grants the next; what should be folded is folded.
func (m *million) piece(n int) {
	k := n % len(m.claims)
	slot := jobs.SlotID{Node: m.nodes[k%2], Index: uint32(k / 2)}
	if c := m.claims[k]; c != nil {
		f := &jobs.Finish{Fence: c.Fence, Node: slot.Node, Incarnation: 1, Last: c.Range.Last, Account: jobs.AccountOf(c.Range), BusyMS: 10_000}
		if n%30 == 0 {
			f.Survivors, f.Blob, f.Bytes, f.Holders = 3, jobs.Digest{byte(n), byte(n >> 8), byte(n >> 16), 1}, 200, m.nodes[:]
		}
		m.do(f)
	}
	m.claims[k] = m.do(&jobs.Take{Slot: slot, Incarnation: 1, Want: 1}).Claim
	if n%1024 != 0 {
		return
	}
	for i, node := range m.nodes {
		if t, due := m.s.FoldPlan(node); due {
			m.do(&jobs.Fold{
				Job: t.Job, Stage: t.Stage, Range: t.Range, Survivors: t.Survivors, Blob: jobs.Digest{byte(n), byte(n >> 8), byte(i), 2},
				Bytes: min(t.Survivors*64, 64<<20), Node: node, Holders: m.nodes[:],
			})
		}
	}
}
