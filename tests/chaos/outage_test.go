package chaos

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/kernels"
	"seedmesh/node/api/meshv1"
	"seedmesh/tests/faults"
)

var kills = flag.Int("chaos.kills", 10, "kills of a leader whose outage is measured; other outages in proportion")

// TestRefusedWrites kills the leader again and again, and measures how long a
// client that was connected before gets no write acknowledged.
func TestRefusedWrites(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	m.checks = "I2 I10 I12"
	r := rand.New(rand.NewPCG(*seed, 5))
	for round := range *kills {
		m.write(r) // all are connected and in order
		victim := m.leader()
		began := time.Now()
		m.kill(victim, "the leader, seen by a writing client")
		name := m.write(r)
		faults.Measure(t, faults.Process, "writes refused after a leader's death", time.Since(began))
		m.up(victim)
		m.whole()
		for _, p := range m.nodes {
			if ids := m.named(p, name); len(ids) != 1 {
				t.Fatalf("round %d: %s has %d jobs %s, want 1", round, p.name, len(ids), name)
			}
		}
	}
	m.checkDigests()
}

// write submits the smallest of jobs, through the next running node whenever one
// gives no answer, and gives the job's name.
func (m *mesh) write(r *rand.Rand) string {
	m.Helper()
	return m.writeDraws(r, "1 2 3")
}

// writeDraws is write with other draws, whose number makes it large or small.
func (m *mesh) writeDraws(r *rand.Rand, text string) string {
	m.Helper()
	name := fmt.Sprintf("w%016x", r.Uint64())
	draws, err := kernels.ParseDraws(strings.NewReader(text))
	if err != nil {
		m.Fatal(err)
	}
	spec := &kernels.Spec{Generators: []string{"xorshift32"}, Draws: draws, Observe: "mod:1000", MinMatches: 3}
	q := &meshv1.SubmitRequest{Spec: spec.Encode(), First: 1, Last: 1, Key: name, Name: name}
	m.await(startWait, "acknowledged write", func() bool {
		for _, p := range m.nodes {
			if !p.running() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := p.client.Submit(ctx, connect.NewRequest(q))
			cancel()
			if err == nil {
				return true
			}
		}
		return false
	})
	return name
}

// TestDeadNodesPieces kills a working node again and again, and measures how long
// it takes until others hold all that it held.
func TestDeadNodesPieces(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 6))
	m.outages(r, (*kills+1)/2, func(leader int) []int {
		return []int{(leader + 1 + r.IntN(2)) % 3}
	}, "a worker, its pieces watched", "a dead node's pieces claimed again")
}

// TestLeadersAndAnothersPieces is that with the leader and another node of five
// voters.
func TestLeadersAndAnothersPieces(t *testing.T) {
	m := newMesh(t, 5, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 7))
	m.outages(r, (*kills+2)/3, func(leader int) []int {
		return []int{leader, (leader + 1 + r.IntN(4)) % 5}
	}, "leader and another of five, their pieces watched", "leader's and another's pieces claimed again, 5 voters")
}

// outages kills victims in the middle of a long job and measures how long what
// they held is held by nobody that lives.
func (m *mesh) outages(r *rand.Rand, count int, victims func(leader int) []int, kind, what string) {
	m.Helper()
	m.checks = "I5 I10 I12"
	s := m.draw(r, uint64(simRate*len(m.nodes)*600), 2)
	s.args = append(s.args, "--chunk-time", "200ms") // a slot is soon free for more
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.01) // the slots' rates are known, so each has claimed what it does next, too
	for range count {
		var names []string
		var held []span
		var dead []int
		m.await(startWait, "work on all slots", func() bool {
			dead, names = victims(m.leader()), nil
			for _, i := range dead {
				names = append(names, m.nodes[i].name)
			}
			held = m.heldBy(id, names)
			return len(held) >= len(names)
		})
		began := time.Now()
		for _, i := range dead {
			m.kill(i, kind)
		}
		m.await(startWait, "new claims", func() bool { return m.covered(id, held, names) })
		faults.Measure(m.T, faults.Process, what, time.Since(began))
		for _, i := range dead {
			m.up(i)
		}
		m.whole()
	}
	m.run("job", "cancel", id, "--data", m.nodes[0].dir)
	m.checkExecutors()
	m.checkDigests()
}

// span is the seeds from first up to last.
type span struct{ first, end uint64 }

func (m *mesh) span(text string) span {
	m.Helper()
	first, end, _ := strings.Cut(text, ":")
	a, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		m.Fatal(err)
	}
	b, err := strconv.ParseUint(end, 10, 64)
	if err != nil {
		m.Fatal(err)
	}
	return span{a, b}
}

func (m *mesh) ledger(id string) *meshv1.LedgerReply {
	for _, p := range m.nodes {
		if !p.running() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		r, err := p.client.Ledger(ctx, connect.NewRequest(&meshv1.LedgerRequest{Job: id}))
		cancel()
		if err == nil {
			return r.Msg
		}
	}
	return nil
}

// heldBy lists what nodes hold of a job; nil unless each holds something.
func (m *mesh) heldBy(id string, names []string) (held []span) {
	m.Helper()
	ledger := m.ledger(id)
	for _, name := range names {
		before := len(held)
		for _, h := range ledger.GetHeld() {
			if h.Node == name {
				held = append(held, m.span(h.Seeds))
			}
		}
		if len(held) == before {
			return nil
		}
	}
	return held
}

// covered tells whether all of held is done, or held by nodes other than the dead.
func (m *mesh) covered(id string, held []span, dead []string) bool {
	m.Helper()
	ledger := m.ledger(id)
	if ledger == nil {
		return false
	}
	var living []span
	for _, h := range ledger.Held {
		if !slices.Contains(dead, h.Node) {
			living = append(living, m.span(h.Seeds))
		}
	}
	slices.SortFunc(living, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for _, h := range held {
		for _, text := range ledger.Gaps { // what is neither done nor, maybe, held
			gap := m.span(text)
			next, end := max(gap.first, h.first), min(gap.end, h.end)
			for _, l := range living {
				if l.first <= next {
					next = max(next, l.end)
				}
			}
			if next < end {
				return false
			}
		}
	}
	return true
}
