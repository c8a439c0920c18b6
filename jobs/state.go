package jobs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// State is the ledger. The zero State is empty. It is not safe for concurrent
// use: one goroutine applies, others look at it under that goroutine's lock.
type State struct {
	now     Instant
	fence   uint64 // of the last claim
	submits uint64 // jobs submitted so far
	jobs    map[JobID]*Job
	nodes   map[NodeID]*Node
	claims  map[uint64]*Claim
	keys    map[string]*keyRecord
	tokens  map[Digest]*Token
	answers map[[16]byte]*answer
	asked   [][16]byte // ids of answers, oldest first
	dying   []string   // keys whose job was removed, soonest to expire first

	preloads map[string]*Preload
	required map[JobID][]string // preloads, in order

	sum     [2]uint64 // sum of the hashes of all records
	queue   []*Job    // jobs that have not ended, by priority, then submission
	fleet   fleet
	scratch coder // for the bytes of a record while it is hashed
}

// keyRecord remembers an idempotency key.
type keyRecord struct {
	Key     string
	Request Digest
	Job     JobID
	Expires Instant // 0 while the job exists
}

// answer remembers what became of a user's request.
type answer struct {
	ID      [16]byte
	Outcome Outcome
}

// NewState gives an empty ledger.
func NewState() *State {
	return &State{
		jobs:    map[JobID]*Job{},
		nodes:   map[NodeID]*Node{},
		claims:  map[uint64]*Claim{},
		keys:    map[string]*keyRecord{},
		tokens:  map[Digest]*Token{},
		answers: map[[16]byte]*answer{},

		preloads: map[string]*Preload{},
		required: map[JobID][]string{},
		fleet:    fleet{rates: map[string]uint64{}},
	}
}

// Now is the log time of the last command.
func (s *State) Now() Instant { return s.now }

// Apply makes an entry's commands happen, in order. It is the only way to
// change a ledger.
func (s *State) Apply(e Entry) []Outcome {
	s.now = max(s.now, e.At)
	s.expireKeys()
	outcomes := make([]Outcome, len(e.Requests))
	for i, r := range e.Requests {
		if a, known := s.answers[r.ID]; known && r.ID != ([16]byte{}) {
			outcomes[i] = a.Outcome
			continue
		}
		outcomes[i] = r.Command.apply(s)
		if r.ID != ([16]byte{}) {
			s.remember(r.ID, outcomes[i])
		}
	}
	return outcomes
}

func (s *State) remember(id [16]byte, o Outcome) {
	o.Claim = nil
	if len(s.asked) == MaxRequests {
		s.out(s.answers[s.asked[0]])
		delete(s.answers, s.asked[0])
		s.asked = s.asked[1:]
	}
	a := &answer{id, o}
	s.answers[id] = a
	s.asked = append(s.asked, id)
	s.in(a)
}

// expireKeys forgets the keys of jobs that were removed long ago.
func (s *State) expireKeys() {
	for len(s.dying) > 0 {
		k := s.keys[s.dying[0]]
		if k.Expires > s.now {
			return
		}
		s.out(k)
		delete(s.keys, k.Key)
		s.dying = s.dying[1:]
	}
}

// A record is a part of the state with an encoding of its own. The digest of
// the state is the sum of the hashes of its records, so that it is kept up to
// date at the cost of what changes.
type record interface{ fields(x *coder) }

// hash takes the state's scratch memory: only whoever applies commands calls it.
func (s *State) hash(r record) [2]uint64 {
	x := &s.scratch
	x.buf = append(x.buf[:0], recordKind(r))
	r.fields(x)
	h := sha256.Sum256(x.buf)
	return [2]uint64{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])}
}

func recordKind(r record) byte {
	switch r.(type) {
	case *jobFixed:
		return 'J'
	case *jobCourse:
		return 'j'
	case *stageCourse:
		return 'S'
	case *openRecord:
		return 'O'
	case *pieceRecord:
		return 'P'
	case *failedRecord:
		return 'F'
	case *traceRecord:
		return 'R'
	case *Claim:
		return 'C'
	case *Node:
		return 'N'
	case *slotRecord:
		return 's'
	case *keyRecord:
		return 'K'
	case *Token:
		return 'T'
	case *answer:
		return 'A'
	case *preloadRecord:
		return 'D'
	case *loadRecord:
		return 'L'
	case *requireRecord:
		return 'Q'
	}
	panic(fmt.Sprintf("jobs: %T is not a record", r))
}

func (s *State) in(r record) {
	h := s.hash(r)
	s.sum[0] += h[0]
	s.sum[1] += h[1]
}

func (s *State) out(r record) {
	h := s.hash(r)
	s.sum[0] -= h[0]
	s.sum[1] -= h[1]
}

// change alters a record and keeps the digest true.
func (s *State) change(r record, alter func()) {
	s.out(r)
	alter()
	s.in(r)
}

// Digest identifies the whole state: nodes that have applied the same entries
// have equal digests. It costs the same however large the state is.
func (s *State) Digest() Digest {
	var b []byte
	for _, v := range []uint64{s.sum[0], s.sum[1], uint64(s.now), s.fence, s.submits, uint64(len(s.asked)), uint64(len(s.dying))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return sha256.Sum256(b)
}

// The parts of a job that are hashed apart, because they change at different times.
type (
	jobFixed    struct{ *Job }
	jobCourse   struct{ *Job }
	stageCourse struct {
		job   JobID
		index uint32
		*Stage
	}
	openRecord struct {
		job   JobID
		index uint32
		Open
	}
	pieceRecord struct {
		job   JobID
		index uint32
		Piece
	}
	failedRecord struct {
		job   JobID
		index uint32
		FailedRange
	}
	slotRecord struct {
		id SlotID
		*Slot
	}
)

func (r *jobFixed) fields(x *coder) {
	j := r.Job
	x.job(&j.ID)
	x.u64(&j.Seq)
	x.str(&j.Key, MaxKeyBytes)
	x.str(&j.Name, MaxNameBytes)
	num(x, &j.Kind)
	x.bytes(&j.Spec, MaxSpecBytes)
	x.u64(&j.ChunkTimeMS)
	num(x, &j.Attempts)
	x.u64(&j.TimeoutMS)
	x.float(&j.Expected)
	num(x, &j.SubmittedAt)
	x.str(&j.Submitter, MaxTextBytes)
	list(x, &j.Stages, MaxStages, func(s **Stage) {
		if *s == nil {
			*s = new(Stage)
		}
		(*s).StageSpec.fields(x)
	})
	if j.Kind == Tasks {
		j.Terms.fields(x)
	}
}

func (r *jobCourse) fields(x *coder) {
	j := r.Job
	x.job(&j.ID)
	num(x, &j.Priority)
	num(x, &j.State)
	num(x, &j.StartedAt)
	num(x, &j.FinishedAt)
	x.u64(&j.Failures)
	x.u64(&j.Reclaimed)
	x.u64(&j.Survivors)
	x.u64(&j.Pieces)
	x.u64(&j.Busy)
	x.str(&j.LastError, 3*MaxTextBytes)
}

func (r *stageCourse) fields(x *coder) {
	x.job(&r.job)
	num(x, &r.index)
	x.account(&r.Account)
}

func (r *openRecord) fields(x *coder) {
	x.job(&r.job)
	num(x, &r.index)
	r.Open.fields(x)
}

func (o *Open) fields(x *coder) {
	x.rng(&o.Range)
	num(x, &o.Attempts)
	num(x, &o.NotBefore)
	x.slot(&o.Avoid)
}

func (r *pieceRecord) fields(x *coder) {
	x.job(&r.job)
	num(x, &r.index)
	r.Piece.fields(x)
}

func (p *Piece) fields(x *coder) {
	x.rng(&p.Range)
	x.u64(&p.Survivors)
	x.fixed(p.Blob[:])
	x.u64(&p.Bytes)
	list(x, &p.Holders, MaxHolders, x.node)
}

func (r *failedRecord) fields(x *coder) {
	x.job(&r.job)
	num(x, &r.index)
	r.FailedRange.fields(x)
}

func (f *FailedRange) fields(x *coder) {
	x.rng(&f.Range)
	num(x, &f.Attempts)
	x.str(&f.Class, MaxTextBytes)
	x.str(&f.Message, MaxTextBytes)
}

func (c *Claim) fields(x *coder) {
	x.u64(&c.Fence)
	x.job(&c.Job)
	num(x, &c.Stage)
	x.rng(&c.Range)
	x.slot(&c.Slot)
	x.u64(&c.Incarnation)
	num(x, &c.Attempts)
	x.flag(&c.Speculative)
	x.u64(&c.Twin)
	num(x, &c.GrantedAt)
	num(x, &c.StartedAt)
}

func (n *Node) fields(x *coder) {
	x.node(&n.ID)
	x.str(&n.Name, maxMemberNameBytes)
	num(x, &n.Role)
	x.u64(&n.Incarnation)
	x.flag(&n.Alive)
	num(x, &n.Since)
	x.str(&n.Addr, MaxTextBytes)
	x.str(&n.Version, MaxTextBytes)
}

func (r *slotRecord) fields(x *coder) {
	x.slot(&r.id)
	x.str(&r.Device, MaxTextBytes)
	x.str(&r.Label, MaxTextBytes)
	list(x, &r.Rates, MaxShapesAtSlot, func(v *ShapeRate) {
		x.str(&v.Shape, MaxTextBytes)
		x.u64(&v.Rate)
	})
	list(x, &r.Claims, 2, x.u64)
}

func (k *keyRecord) fields(x *coder) {
	x.str(&k.Key, MaxKeyBytes)
	x.fixed(k.Request[:])
	x.job(&k.Job)
	num(x, &k.Expires)
}

func (a *answer) fields(x *coder) {
	x.fixed(a.ID[:])
	a.Outcome.fields(x)
}

// sortedKeys gives a map's keys in rising order, so that no map order reaches
// the state or a snapshot.
func sortedKeys[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}
