package chaos

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"seedmesh/node/api/meshv1"
)

var (
	rounds = flag.Int("chaos.rounds", 10, "rounds of kills")
	seed   = flag.Uint64("chaos.seed", 1, "of the random choices; the mesh's own timing is not replayed")
)

// oneThread divides the machine: three nodes with a thread each.
const oneThread = "[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n"

// search is a job with many survivors, so that there are results to lose.
type search struct {
	args  []string
	local []byte
}

// newSearch makes the search of a round and its undisturbed result.
func (m *mesh) newSearch(r *rand.Rand, round int) search {
	m.Helper()
	var draws strings.Builder
	for range 12 {
		fmt.Fprintln(&draws, r.IntN(1000))
	}
	file := filepath.Join(m.dir, fmt.Sprintf("draws-%d.txt", round))
	if err := os.WriteFile(file, []byte(draws.String()), 0o600); err != nil {
		m.Fatal(err)
	}
	first := r.Uint64N(1 << 31)
	s := search{args: []string{
		"sieve", "--generator", "mt19937", "--draws", file, "--seeds", fmt.Sprintf("%d:%d", first, first+4<<20),
		"--skip", "0:3", "--min-matches", "2",
	}}
	out := filepath.Join(m.dir, fmt.Sprintf("local-%d.jsonl", round))
	m.run(append(s.args, "--local", "-o", out)...)
	var err error
	if s.local, err = os.ReadFile(out); err != nil || len(s.local) == 0 {
		m.Fatalf("the undisturbed search gave %d bytes: %v", len(s.local), err)
	}
	return s
}

// submit submits a search through a node and gives the job's id.
func (m *mesh) submit(p *proc, s search) string {
	m.Helper()
	return strings.TrimSpace(m.run(append(s.args, "--data", p.dir, "--chunk-time", "1s")...))
}

// atShare waits until a share of a job is done, or it has ended.
func (m *mesh) atShare(id string, share float64) {
	m.Helper()
	m.await(jobWait, fmt.Sprintf("job at %.0f %%", 100*share), func() bool {
		j := m.job(id)
		if j == nil {
			return false
		}
		done, _ := strconv.ParseFloat(j.Done, 64)
		total, _ := strconv.ParseFloat(j.Total, 64)
		return j.State == "done" || total > 0 && done/total >= share
	})
}

// check waits for the end of a job and holds its results and its ledger, on
// every node, against the undisturbed search.
func (m *mesh) check(id string, s search) *meshv1.JobInfo {
	m.Helper()
	var last *meshv1.JobInfo
	m.await(jobWait, "end of the job", func() bool {
		if j := m.job(id); j != nil {
			last = j
		}
		return last != nil && (last.State == "done" || last.State == "failed" || last.State == "cancelled")
	})
	if last.State != "done" {
		m.Fatalf("job %s is %s: %s", id, last.State, last.LastError)
	}
	for _, p := range m.nodes {
		got := m.run("results", id, "--data", p.dir)
		if !bytes.Equal([]byte(got), s.local) {
			m.Fatalf("results of %s have %d bytes, the undisturbed search gave %d: they differ", p.name, len(got), len(s.local))
		}
		var ledger struct {
			Complete bool
			Problems []string
			Gaps     []string
		}
		m.json(&ledger, "ledger", id, "--verify", "--json", "--data", p.dir)
		if !ledger.Complete || len(ledger.Problems) > 0 {
			m.Fatalf("ledger on %s: %+v", p.name, ledger)
		}
	}
	return last
}

// TestKillRounds is a mesh of three whose leader, or another node, is killed and
// started again in every round, and twice all three.
func TestKillRounds(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	r := rand.New(rand.NewPCG(*seed, 0))
	for round := range *rounds {
		s := m.newSearch(r, round)
		id := m.submit(m.nodes[r.IntN(3)], s)
		m.atShare(id, 0.2+0.4*r.Float64())
		began, what := time.Now(), ""
		switch round % 5 {
		case 4:
			what = "all"
			for _, i := range r.Perm(3) {
				m.kill(i)
			}
			for _, i := range r.Perm(3) {
				time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond) // the fault: how long nodes stay away
				m.up(i)
			}
		default:
			victim := m.leader()
			what = "leader"
			if round%2 == 1 {
				victim, what = (victim+1+r.IntN(2))%3, "worker"
			}
			m.kill(victim)
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond) // the fault: how long the node stays away
			m.up(victim)
		}
		away := time.Since(began)
		m.await(startWait, "three living nodes", func() bool {
			s := m.status()
			return s != nil && s.Slots == 3 && s.Leader != ""
		})
		j := m.check(id, s)
		t.Logf("round %d: killed %s, back after %v; %d survivors, %d claims given out again: equal", round, what, away.Round(time.Millisecond), strings.Count(string(s.local), "\n"), j.Reclaimed)
	}
}

// TestKilledTwiceBeforeRejoin kills a node, starts it, and kills it again before
// the mesh has taken it back.
func TestKilledTwiceBeforeRejoin(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	r := rand.New(rand.NewPCG(*seed, 1))
	s := m.newSearch(r, 0)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.2)
	victim := (m.leader() + 1) % 3
	for range 3 {
		m.kill(victim)
		m.up(victim)
	}
	m.await(startWait, "three living nodes", func() bool {
		s := m.status()
		return s != nil && s.Slots == 3 && s.Leader != ""
	})
	m.check(id, s)
}

// TestLeaderAndWorkerTogether kills two of five at once.
func TestLeaderAndWorkerTogether(t *testing.T) {
	m := newMesh(t, 5, oneThread)
	r := rand.New(rand.NewPCG(*seed, 2))
	s := m.newSearch(r, 0)
	id := m.submit(m.nodes[0], s)
	m.atShare(id, 0.2)
	leader := m.leader()
	other := (leader + 1 + r.IntN(4)) % 5
	m.kill(leader)
	m.kill(other)
	m.await(jobWait, "end of the job without the two", func() bool {
		j := m.job(id)
		return j != nil && j.State == "done"
	})
	m.up(leader)
	m.up(other)
	m.await(startWait, "five living nodes", func() bool {
		s := m.status()
		return s != nil && s.Slots == 5 && s.Leader != ""
	})
	m.check(id, s)
}
