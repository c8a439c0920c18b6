package bubble

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/node/slot"
)

// A record is what was seen of every node's ledger at every index, and of every
// attempt of every slot, over all lives of the nodes. It finds what must never be:
//
//   - I12: two ledgers differ at one index, replays after a restart included;
//   - log time goes back, or runs ahead of the time that has passed;
//   - I5: a slot holds more than two claims, a seed is claimed twice without the
//     second claim being marked, or a slot works on two attempts at once;
//   - I4: a result is committed with fewer holders than it needs;
//   - I8: the state of a job that has ended changes.
type record struct {
	began time.Time

	mu       sync.Mutex // guards what follows
	digests  map[uint64]jobs.Digest
	newest   uint64       // index
	now      jobs.Instant // log time there
	ended    map[jobs.JobID]jobs.JobState
	results  map[result]bool
	copies   int          // that a result needed before the newest index
	open     []jobs.Range // of unfinished jobs, at the newest index
	held     []holding    // of unfinished jobs, at the newest index
	attempts []attempt
	wrong    map[string]bool
}

// result is a committed piece with survivors.
type result struct {
	job jobs.JobID
	jobs.Range
}

// holding is a claim with the name of its node.
type holding struct {
	node string
	jobs.Claim
}

// attempt is the start of a slot's work on a part of a job.
type attempt struct {
	node int
	at   time.Time
	part kernels.Range
	over bool
}

func newRecord() *record {
	return &record{
		began: time.Now(), digests: map[uint64]jobs.Digest{},
		ended:   map[jobs.JobID]jobs.JobState{},
		results: map[result]bool{}, wrong: map[string]bool{},
	}
}

func (r *record) complain(format string, args ...any) { r.wrong[fmt.Sprintf(format, args...)] = true }

// report fails the test with what was found wrong.
func (r *record) report(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for what := range r.wrong {
		t.Error(what)
	}
}

// applied looks at a node's ledger behind an index.
func (r *record) applied(node int, index uint64, s *jobs.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, seen := r.digests[index]; seen && known != s.Digest() {
		r.complain("I12: the ledger of %s differs from another's at index %d", name(node), index)
	}
	r.digests[index] = s.Digest()
	if index <= r.newest { // the same ledger was looked at before, on another node or in another life
		return
	}
	if s.Now() < r.now {
		r.complain("log time goes back from %d ms to %d ms at index %d", r.now, s.Now(), index)
	}
	r.newest, r.now = index, s.Now()
	if passed := time.Since(r.began); time.Duration(s.Now())*time.Millisecond > passed {
		r.complain("log time is %d ms at index %d, %v after the mesh began", s.Now(), index, passed)
	}
	for _, n := range s.Nodes() {
		for i, sl := range n.Slots {
			if len(sl.Claims) > 2 {
				r.complain("I5: slot %d of %s holds %d claims at index %d", i, n.Name, len(sl.Claims), index)
			}
		}
	}
	r.open, r.held = nil, nil
	for _, j := range s.Jobs() {
		if state, over := r.ended[j.ID]; over && j.State != state {
			r.complain("I8: job %s was %v and is %v at index %d", j.ID, state, j.State, index)
		}
		if j.State.Terminal() {
			r.ended[j.ID] = j.State
			continue
		}
		r.claims(s, j, index)
		r.holders(s, j, index)
	}
	r.copies = s.CopiesRequired()
}

// claims checks that no seed is claimed twice, and notes who holds what.
func (r *record) claims(s *jobs.State, j *jobs.Job, index uint64) {
	for _, st := range j.Stages {
		for _, o := range st.Open {
			r.open = append(r.open, o.Range)
		}
		var last *jobs.Claim
		for _, c := range st.Held() { // in order
			r.held = append(r.held, holding{s.Node(c.Slot.Node).Name, c})
			if c.Speculative {
				continue
			}
			if last != nil && last.Range.Last >= c.Range.First {
				r.complain("I5: seeds %v of job %s are under claims %d and %d at index %d", c.Range, j.ID, last.Fence, c.Fence, index)
			}
			last = &c
		}
	}
}

// startedSince counts the attempts on a job's seeds that began after a moment.
func (r *record) startedSince(at time.Time, seeds kernels.Range) (count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if a.at.After(at) && a.part.First >= seeds.First && a.part.Last <= seeds.Last {
			count++
		}
	}
	return count
}

// attemptOf finds an attempt on a search's seeds.
func (r *record) attemptOf(s *search, fits func(*attempt) bool) (found attempt, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.attempts {
		if a := &r.attempts[i]; a.part.First >= s.seeds.First && a.part.Last <= s.seeds.Last && fits(a) {
			return *a, true
		}
	}
	return attempt{}, false
}

// holders checks that what was committed last has the holders that it needs.
func (r *record) holders(s *jobs.State, j *jobs.Job, index uint64) {
	for _, st := range j.Stages {
		for _, p := range st.Done {
			committed := result{j.ID, p.Range}
			if p.Survivors == 0 || r.results[committed] {
				continue
			}
			r.results[committed] = true
			if len(p.Holders) < min(r.copies, s.CopiesRequired()) {
				r.complain("I4: seeds %v of job %s are committed with %d holders at index %d", p.Range, j.ID, len(p.Holders), index)
			}
		}
	}
}

// heldBy gives the seeds under claims of some nodes.
func (r *record) heldBy(nodes ...int) (seeds []jobs.Range) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		for _, i := range nodes {
			if h.node == name(i) {
				seeds = append(seeds, h.Range)
			}
		}
	}
	return seeds
}

// reclaimed tells whether all of these seeds are claimed by other nodes, or done.
func (r *record) reclaimed(seeds []jobs.Range, dead ...int) bool {
	waiting := r.heldBy(dead...)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range append(waiting, r.open...) {
		for _, s := range seeds {
			if w.First <= s.Last && s.First <= w.Last {
				return false
			}
		}
	}
	return true
}

// watch notes every attempt of a slot's executor.
func (r *record) watch(node int, e slot.Executor) slot.Executor {
	return &watched{Executor: e, record: r, node: node}
}

type watched struct {
	slot.Executor
	*record
	node int
	busy bool // guarded by the record's lock
}

func (w *watched) Run(ctx context.Context, t slot.Task) (slot.Result, error) {
	w.mu.Lock()
	if w.busy {
		w.complain("I5: the slot of %s works on two attempts at once", name(w.node))
	}
	w.busy = true
	number := len(w.attempts)
	w.attempts = append(w.attempts, attempt{node: w.node, at: time.Now(), part: t.Range})
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.busy, w.attempts[number].over = false, true
		w.mu.Unlock()
	}()
	return w.Executor.Run(ctx, t)
}

// A search is a job of a test: seeds of its own, so that its attempts are known by them.
type search struct {
	key   string
	seeds kernels.Range
	chunk uint64 // length of its pieces in ms
	spec  *kernels.Spec
	id    string // once a submit was acknowledged
}

// roomForSeeds is how many seeds each search of a test has for itself.
const roomForSeeds = 1 << 22

// newSearch is the test's search of a number, from 0, over so many seeds.
func newSearch(number int, seeds uint64) *search {
	first := uint64(number)*roomForSeeds + 1
	return &search{
		key: fmt.Sprintf("search %d", number), seeds: kernels.Range{First: first, Last: first + seeds - 1}, chunk: chunkTime, spec: someSpec(),
	}
}

func someSpec() *kernels.Spec {
	spec := &kernels.Spec{Generators: []string{"xorshift32"}, Observe: "mod:1000", Skip: kernels.Bounds{Max: 3}, MinMatches: 1}
	for _, v := range []uint64{206, 87, 595, 819, 331, 884} {
		spec.Draws = append(spec.Draws, kernels.Draw{Value: v, Known: true})
	}
	return spec
}

// chunkTime of the searches, in ms: short, so that a few seconds see many pieces.
const chunkTime = 1000

// submit submits a search, through one node after the other until it is acknowledged.
func (m *mesh) submit(first int, s *search, limit time.Duration) error {
	spec := s.spec.Encode()
	return m.persistently("acknowledged submit", first, limit, func(ctx context.Context, c meshv1connect.MeshClient) error {
		r, err := c.Submit(ctx, connect.NewRequest(&meshv1.SubmitRequest{
			Spec: spec, First: s.seeds.First, Last: s.seeds.Last, Key: s.key, Name: s.key, ChunkTimeMs: s.chunk,
		}))
		if err == nil {
			s.id = r.Msg.Job
		}
		return err
	})
}

// mustSubmit is submit on a mesh that must take it.
func (m *mesh) mustSubmit(first int, s *search) {
	m.Helper()
	if err := m.submit(first, s, time.Minute); err != nil {
		m.Fatal(err)
	}
}

// local is what an undisturbed search on one machine finds, as JSON Lines.
func (m *mesh) local(s *search) []byte {
	m.Helper()
	c, err := s.spec.Compile(s.spec.Generators[0])
	if err != nil {
		m.Fatal(err)
	}
	searcher, err := kernels.NewCPU(1).Prepare(m.Context(), c)
	if err != nil {
		m.Fatal(err)
	}
	defer searcher.Close()
	var out []byte
	_, account, ok, err := searcher.Search(m.Context(), s.seeds, func(uint64) uint64 { return s.seeds.Last }, func(v kernels.Survivor) error {
		out = c.AppendJSON(out, v)
		return nil
	})
	if err != nil || !ok || account != kernels.AccountOf(s.seeds) || len(out) == 0 {
		m.Fatalf("local search of %v: %d bytes, %v, %v", s.seeds, len(out), account, err)
	}
	return out
}

// results reads a search's survivors through a node.
func (m *mesh) results(i int, s *search) ([]byte, error) {
	stream, err := clientOf(m.at(i)).Results(m.Context(), connect.NewRequest(&meshv1.ResultsRequest{Job: s.id}))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var out []byte
	for stream.Receive() {
		out = append(out, stream.Msg().Data...)
	}
	return out, stream.Err()
}

// drain waits for the end of a search, within the time that a healed mesh may take
// (I10), verifies its ledger on every node (I1, I3, I4) and compares its results,
// read through one of them, with the undisturbed search (I9).
func (m *mesh) drain(reader int, s *search) {
	m.Helper()
	m.await("end of "+s.key, 3*time.Minute, func() bool {
		j := m.job(reader, s.id)
		return j != nil && j.State == "done"
	})
	for _, i := range m.running() {
		m.await("complete ledger of "+s.key+" on "+name(i), time.Minute, func() bool { return m.verified(i, s) })
	}
	got, err := m.results(reader, s)
	if want := m.local(s); err != nil || !bytes.Equal(got, want) {
		m.Errorf("results of %s through %s: %d bytes, %v; an undisturbed search gives %d bytes", s.key, name(reader), len(got), err, len(want))
	}
}

// verified tells whether a node has seen the end of a search and read every copy of
// every piece; what it finds wrong with them fails the test.
func (m *mesh) verified(i int, s *search) bool {
	m.Helper()
	r, err := m.at(i).API().Ledger(m.Context(), connect.NewRequest(&meshv1.LedgerRequest{Job: s.id, Verify: true}))
	if err != nil {
		m.Errorf("ledger of %s on %s: %v", s.key, name(i), err)
		return false
	}
	for _, problem := range r.Msg.Problems {
		m.Errorf("ledger of %s on %s: %s", s.key, name(i), problem)
	}
	return r.Msg.Complete && r.Msg.Unreachable == 0
}

// once checks that the key of each search was taken once at most, on every node (I2),
// and under the id that was acknowledged if one was.
func (m *mesh) once(all ...*search) {
	m.Helper()
	for _, i := range m.running() {
		r, err := m.at(i).API().Jobs(m.Context(), connect.NewRequest(&meshv1.JobsRequest{All: true, Linearizable: true}))
		if err != nil {
			m.Errorf("jobs on %s: %v", name(i), err)
			continue
		}
		ids := map[string][]string{}
		for _, j := range r.Msg.Jobs {
			ids[j.Name] = append(ids[j.Name], j.Id)
		}
		for _, s := range all {
			if found := ids[s.key]; len(found) > 1 || s.id != "" && (len(found) != 1 || found[0] != s.id) {
				m.Errorf("I2: %s exists as %v on %s; acknowledged was %q", s.key, found, name(i), s.id)
			}
		}
	}
}

// sameLedgers checks that all nodes come to one digest at one index (I12), and that
// nothing was found wrong on the way.
func (m *mesh) sameLedgers() {
	m.Helper()
	m.await("equal ledgers", time.Minute, func() bool {
		first := m.status(m.running()[0])
		for _, i := range m.running() {
			if s := m.status(i); s.Applied != first.Applied || s.LedgerDigest != first.LedgerDigest {
				return false
			}
		}
		return true
	})
	for _, i := range m.running() {
		if s := m.status(i); len(s.Alarms) > 0 {
			m.Errorf("alarms on %s: %v", name(i), s.Alarms)
		}
	}
	m.record.report(m.T)
}
