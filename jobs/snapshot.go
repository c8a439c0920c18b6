package jobs

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Snapshot gives the whole state as bytes. Equal states give equal bytes.
func (s *State) Snapshot() []byte {
	x := coder{}
	s.fields(&x)
	return x.buf
}

// Restore reads a state from the bytes of [State.Snapshot]. It refuses bytes that
// no state gives: a node that went on from them could halt at a later command.
func Restore(b []byte) (*State, error) {
	s := NewState()
	x := coder{buf: b, decoding: true}
	s.fields(&x)
	if err := x.done(); err != nil {
		return nil, err
	}
	if again := s.Snapshot(); len(again) != len(b) || !bytes.Equal(again[headerBytes:], b[headerBytes:]) { // doubles, or out of order
		return nil, errCorrupt
	}
	return s, nil
}

// maxRecords bounds the lists of a snapshot; real bounds are far lower.
const maxRecords = 1 << 26

// fields writes the records in a fixed order, or reads them and rebuilds what is derived.
func (s *State) fields(x *coder) {
	x.header("snapshot")
	num(x, &s.now)
	x.u64(&s.fence)
	x.u64(&s.submits)
	eachOf(x, sortedKeys(s.nodes, compareNodes), func(id NodeID) { s.nodeFields(x, s.nodes[id]) })
	eachOf(x, s.jobsBySeq(), func(j *Job) { s.jobFields(x, j) })
	eachOf(x, sortedKeys(s.claims, cmp.Compare[uint64]), func(fence uint64) { s.claimFields(x, s.claims[fence]) })
	eachOf(x, sortedKeys(s.keys, strings.Compare), func(key string) {
		k := orNew(s.keys[key])
		k.fields(x)
		if x.decoding {
			s.keys[k.Key] = k
			s.in(k)
		}
	})
	eachOf(x, sortedKeys(s.tokens, func(a, b Digest) int { return bytes.Compare(a[:], b[:]) }), func(h Digest) {
		t := orNew(s.tokens[h])
		t.fields(x)
		if x.decoding {
			s.tokens[t.Hash] = t
			s.in(t)
		}
	})
	eachOf(x, s.asked, func(id [16]byte) {
		a := orNew(s.answers[id])
		a.fields(x)
		if s.answers[a.ID] != nil && x.decoding {
			x.fail(errCorrupt)
		}
		if x.decoding {
			s.answers[a.ID] = a
			s.asked = append(s.asked, a.ID)
			s.in(a)
		}
	})
	list(x, &s.dying, maxRecords, func(k *string) { x.str(k, MaxKeyBytes) })
	s.preloadFields(x)
	if x.decoding && x.err == nil && !s.linked() {
		x.fail(errCorrupt)
	}
}

// linked tells whether the records that name each other agree.
func (s *State) linked() bool {
	seen := map[string]bool{}
	for _, key := range s.dying {
		k := s.keys[key]
		if k == nil || seen[key] || s.jobs[k.Job] != nil && s.jobs[k.Job].Key == key {
			return false
		}
		seen[key] = true
	}
	held := 0
	for _, n := range s.nodes {
		for i, sl := range n.Slots {
			for k, fence := range sl.Claims {
				c := s.claims[fence]
				if c == nil || c.Slot != (SlotID{n.ID, uint32(i)}) || (c.StartedAt == notStarted) != (k == 1) {
					return false
				}
				held++
			}
		}
	}
	for _, c := range s.claims {
		if s.jobs[c.Job].State.Terminal() || (c.Twin != 0 || c.Speculative) && !c.pairs(s.claims[c.Twin]) {
			return false
		}
	}
	return held == len(s.claims) && len(s.asked) <= MaxRequests
}

// pairs tells whether two claims are on the same range, one of them speculative.
func (c *Claim) pairs(o *Claim) bool {
	return o != nil && c.Twin == o.Fence && o.Twin == c.Fence && c.Speculative != o.Speculative &&
		c.Job == o.Job && c.Stage == o.Stage && c.Range == o.Range
}

// eachOf codes a list whose elements the caller encodes, or decodes from nothing.
func eachOf[T any](x *coder, have []T, each func(T)) {
	n := uint64(len(have))
	x.u64(&n)
	if !x.decoding {
		for _, v := range have {
			each(v)
		}
		return
	}
	var none T
	for range n {
		if x.err != nil {
			return
		}
		each(none)
	}
}

func orNew[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

func (s *State) jobsBySeq() []*Job {
	return slices.SortedFunc(maps.Values(s.jobs), func(a, b *Job) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.ID, b.ID))
	})
}

func (s *State) nodeFields(x *coder, n *Node) {
	n = orNew(n)
	n.fields(x)
	list(x, &n.Slots, MaxSlots, func(sl **Slot) {
		if *sl == nil { // taking a snapshot writes nothing: others may be looking
			*sl = new(Slot)
		}
		(&slotRecord{Slot: *sl}).fields(x)
	})
	if !x.decoding || x.err != nil {
		return
	}
	s.nodes[n.ID] = n
	if n.Alive {
		s.fleet.join(n)
	}
	s.in(n)
	for i, sl := range n.Slots {
		s.in(&slotRecord{SlotID{n.ID, uint32(i)}, sl})
	}
}

func (s *State) jobFields(x *coder, j *Job) {
	j = orNew(j)
	(&jobFixed{j}).fields(x)
	(&jobCourse{j}).fields(x)
	if x.err != nil { // some stages may not have been read
		return
	}
	for _, st := range j.Stages {
		x.account(&st.Account)
		list(x, &st.Open, maxRecords, func(o *Open) { o.fields(x) })
		list(x, &st.Done, maxRecords, func(p *Piece) { p.fields(x) })
		list(x, &st.Failed, maxRecords, func(f *FailedRange) { f.fields(x) })
		if j.Kind == Tasks {
			list(x, &st.Traces, MaxTraces, func(t *Trace) { t.fields(x) })
		}
	}
	if !x.decoding || x.err != nil {
		return
	}
	s.jobs[j.ID] = j
	s.addJobRecords(j)
	if !j.State.Terminal() {
		s.enqueue(j)
	}
}

func (s *State) claimFields(x *coder, c *Claim) {
	c = orNew(c)
	c.fields(x)
	if !x.decoding || x.err != nil {
		return
	}
	j, n := s.jobs[c.Job], s.nodes[c.Slot.Node]
	if j == nil || n == nil || int(c.Stage) >= len(j.Stages) || int(c.Slot.Index) >= len(n.Slots) || c.Fence == 0 || c.Fence > s.fence {
		x.fail(errCorrupt)
		return
	}
	s.claims[c.Fence] = c
	j.Stages[c.Stage].addClaim(c)
	s.in(c)
}
