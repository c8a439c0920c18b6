package jobs

import "slices"

// This file is how others look at a state. What it returns by pointer belongs to
// the state: it may be read while the state's owner holds still, never changed.

// Jobs lists all jobs in the order of their submission.
func (s *State) Jobs() []*Job { return s.jobsBySeq() }

// Job finds a job, or gives nil.
func (s *State) Job(id JobID) *Job { return s.jobs[id] }

// Key finds the job that was submitted under an idempotency key; 0 is none.
func (s *State) Key(key string) (JobID, Digest) {
	if k := s.keys[key]; k != nil {
		return k.Job, k.Request
	}
	return 0, Digest{}
}

// Nodes lists the members by id.
func (s *State) Nodes() []*Node {
	all := make([]*Node, 0, len(s.nodes))
	for _, id := range sortedKeys(s.nodes, compareNodes) {
		all = append(all, s.nodes[id])
	}
	return all
}

// Node finds a member, or gives nil.
func (s *State) Node(id NodeID) *Node { return s.nodes[id] }

// Claims copies a slot's claims, the running one first.
func (s *State) Claims(id SlotID) []Claim {
	n := s.nodes[id.Node]
	if n == nil || int(id.Index) >= len(n.Slots) {
		return nil
	}
	var all []Claim
	for _, fence := range n.Slots[id.Index].Claims {
		all = append(all, *s.claims[fence])
	}
	return all
}

// Claim copies a claim; ok is false when the fence is not current.
func (s *State) Claim(fence uint64) (c Claim, ok bool) {
	if p := s.claims[fence]; p != nil {
		return *p, true
	}
	return Claim{}, false
}

// Progress is how much of a job is in which state.
type Progress struct {
	Total, Done, Held, Open, Failed Count
	UnderReplicated                 uint64 // pieces with fewer living holders than they need
	Lost                            uint64 // pieces that no member holds any more
	Records                         int    // entries of the job in the ledger
}

// Progress sums up a job.
func (s *State) Progress(j *Job) Progress {
	var p Progress
	need := s.CopiesRequired()
	for _, st := range j.Stages {
		p.Total = p.Total.Add(st.Range.Size())
		for _, o := range st.Open {
			p.Open = p.Open.Add(o.Size())
		}
		for _, f := range st.Failed {
			p.Failed = p.Failed.Add(f.Size())
		}
		for _, c := range st.claims {
			if !c.Speculative {
				p.Held = p.Held.Add(c.Range.Size())
			}
		}
		for _, d := range st.Done {
			p.Done = p.Done.Add(d.Size())
			if d.Survivors == 0 {
				continue
			}
			if len(d.Holders) == 0 {
				p.Lost++
			}
			if s.living(d.Holders) < need {
				p.UnderReplicated++
			}
		}
		p.Records += len(st.Open) + len(st.Done) + len(st.Failed) + len(st.claims)
	}
	return p
}

func (s *State) living(ids []NodeID) int {
	alive := 0
	for _, id := range ids {
		if n := s.nodes[id]; n != nil && n.Alive {
			alive++
		}
	}
	return alive
}

// Coverage is the account of a job against its ranges: what no committed piece
// covers, what two cover, and the sums of the executors' own accounts.
type Coverage struct {
	Gaps, Overlaps []Range
	Seeds          Count
	Account        Account
	Expected       Account // closed form over the job's ranges
}

// Coverage walks a job's committed pieces.
func (j *Job) Coverage() Coverage {
	var c Coverage
	for _, st := range j.Stages {
		c.Account = c.Account.Add(st.Account)
		c.Expected = c.Expected.Add(AccountOf(st.Range))
		next, ended := st.Range.First, false // ended: covered up to the last unit
		for _, p := range st.Done {
			c.Seeds = c.Seeds.Add(p.Size())
			switch {
			case ended:
				c.Overlaps = append(c.Overlaps, p.Range)
			case p.First < next:
				c.Overlaps = append(c.Overlaps, Range{p.First, min(p.Last, next-1)})
			case p.First > next:
				c.Gaps = append(c.Gaps, Range{next, p.First - 1})
			}
			if ended = ended || p.Last == st.Range.Last; !ended {
				next = max(next, p.Last+1)
			}
		}
		if !ended {
			c.Gaps = append(c.Gaps, Range{next, st.Range.Last})
		}
	}
	return c
}

// Blobs visits every blob that the ledger names, with who holds it; a blob of two
// pieces is visited twice.
func (s *State) Blobs(visit func(d Digest, holders []NodeID)) {
	for _, j := range s.jobsBySeq() {
		for _, st := range j.Stages {
			for _, p := range st.Done {
				if p.Blob != (Digest{}) {
					visit(p.Blob, p.Holders)
				}
			}
			for _, t := range st.Traces {
				visit(t.Blob, t.Holders)
			}
		}
	}
}

// Pieces copies a stage's committed pieces in order.
func (st *Stage) Pieces() []Piece { return clonePieces(st.Done) }

// Held copies a stage's claims in order.
func (st *Stage) Held() []Claim {
	all := make([]Claim, 0, len(st.claims))
	for _, c := range st.claims {
		all = append(all, *c)
	}
	return all
}

// Idle tells whether no job has work to give or work under way.
func (s *State) Idle() bool {
	return len(s.claims) == 0 && !slices.ContainsFunc(s.queue, func(j *Job) bool { return j.State != Paused })
}
