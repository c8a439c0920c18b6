package chaos

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
)

// search is a job with survivors, so that there are results to lose.
type search struct {
	name  string
	args  []string
	local []byte // what the same search gives on one machine that nothing disturbs
}

// draw makes a search of so many seeds; at 2 matches one seed in about four
// thousand passes, at 1 one in twenty.
func (m *mesh) draw(r *rand.Rand, seeds uint64, matches int) search {
	m.Helper()
	s := search{name: fmt.Sprintf("s%08x", r.Uint32())}
	var draws strings.Builder
	for range 12 {
		fmt.Fprintln(&draws, r.IntN(1000))
	}
	file := filepath.Join(m.dir, s.name+".txt")
	if err := os.WriteFile(file, []byte(draws.String()), 0o600); err != nil {
		m.Fatal(err)
	}
	first := 1 + r.Uint64N(1<<30)
	s.args = []string{
		"sieve", "--generator", "xorshift32", "--draws", file, "--seeds", fmt.Sprintf("%d:%d", first, first+seeds),
		"--skip", "0:3", "--min-matches", strconv.Itoa(matches), "--key", s.name, "--name", s.name, "--chunk-time", "500ms",
	}
	return s
}

// undisturbed is draw with the result of an undisturbed run.
func (m *mesh) undisturbed(r *rand.Rand, seeds uint64, matches int) search {
	m.Helper()
	s := m.draw(r, seeds, matches)
	out := filepath.Join(m.dir, s.name+".jsonl")
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
	return strings.TrimSpace(m.run(append(s.args, "--data", p.dir)...))
}

// atShare waits until a share of a job is done, or it has ended.
func (m *mesh) atShare(id string, share float64) {
	m.Helper()
	m.await(jobWait, fmt.Sprintf("job at %.0f %%", 100*share), func() bool {
		j := m.job(id)
		return j != nil && (j.State == "done" || shareOf(j) >= share)
	})
}

// shareOf is how much of a job is done, 0 to 1.
func shareOf(j *meshv1.JobInfo) float64 {
	done, _ := strconv.ParseFloat(j.GetDone(), 64)
	total, _ := strconv.ParseFloat(j.GetTotal(), 64)
	return done / max(total, 1)
}

// ended waits until a job is done.
func (m *mesh) ended(id string) *meshv1.JobInfo {
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
	return last
}

// check waits for the end of a job and holds its results and its ledger, on
// every running node, against the undisturbed search.
func (m *mesh) check(id string, s search) *meshv1.JobInfo {
	m.Helper()
	last := m.ended(id)
	for _, p := range m.nodes {
		if p.running() {
			m.checkOn(p, id, s)
		}
	}
	m.checkExecutors()
	m.checkDigests()
	return last
}

func (m *mesh) checkOn(p *proc, id string, s search) {
	m.Helper()
	if got := m.run("results", id, "--data", p.dir); got != string(s.local) {
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
	if ids := m.named(p, s.name); len(ids) != 1 || ids[0] != id {
		m.Fatalf("%s has the jobs %v under the name of %s", p.name, ids, id)
	}
}

// named lists a node's jobs of a name.
func (m *mesh) named(p *proc, name string) (ids []string) {
	m.Helper()
	m.await(startWait, "answer of "+p.name+" about jobs", func() bool { // safe to repeat while nobody leads
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r, err := p.client.Jobs(ctx, connect.NewRequest(&meshv1.JobsRequest{All: true, Linearizable: true}))
		if connect.CodeOf(err) == connect.CodeUnavailable {
			return false
		}
		if err != nil {
			m.Fatal(err)
		}
		for _, j := range r.Msg.Jobs {
			if j.Name == name {
				ids = append(ids, j.Id)
			}
		}
		return true
	})
	return ids
}

// checkDigests waits until all running nodes show one index, and holds their
// ledgers' digests against each other (invariant I12).
func (m *mesh) checkDigests() {
	m.Helper()
	m.await(startWait, "equal ledgers at an equal index", func() bool {
		seen := map[string]bool{}
		for _, p := range m.nodes {
			if !p.running() {
				continue
			}
			s := p.status()
			if s == nil {
				return false
			}
			if len(s.Alarms) > 0 {
				m.Fatalf("alarms on %s: %v", p.name, s.Alarms)
			}
			seen[fmt.Sprint(s.Applied, s.LedgerDigest)] = true
		}
		return len(seen) == 1
	})
}

// lines counts survivors.
func (s search) lines() int { return bytes.Count(s.local, []byte("\n")) }
