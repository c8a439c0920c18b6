package kernels

import "sync/atomic"

// Bounds of one worker's memory, in outputs of 8 bytes.
const (
	maxChain   = 1 << 22 // outputs of one seed that are kept
	batchSize  = 1 << 13 // outputs of neighbouring seeds that are made together
	maxBatch   = 64      // seeds
	minBatch   = mtLanes // seeds
	firstChain = 64      // outputs by which a chain grows at first
	abortEvery = 1 << 10 // pairs of skip and offset between two looks at abort
)

// A sieve tests seeds for one search; each worker has its own. All skips and
// offsets of a seed look at one chain of its outputs, which is made only as far
// as a comparison asks.
type sieve struct {
	search *Search
	abort  *atomic.Bool // set when the results of run are not wanted any more

	heads headStream
	batch []uint64 // a row of plan.head outputs for each of a few seeds

	chain  stream
	seed   uint64
	seen   []uint64 // observed values of the seed's first positions
	store  []uint64 // memory for seen
	opened bool     // chain stands behind seen

	walker  stream // for positions beyond maxChain
	walking bool   // walker stands at output number walked of the seed
	walked  uint64

	trail   []int32 // skips of the strategy being followed
	confirm *sieve  // of the test that a survivor must pass too; may be nil
}

func newSieve(s *Search) *sieve {
	v := &sieve{search: s, chain: s.def.open(), walker: s.def.open()}
	var ok bool
	if v.heads, ok = s.def.open().(headStream); !ok {
		v.heads = oneByOne{s.def.open()}
	}
	if s.strategies != nil {
		v.trail = make([]int32, len(s.points))
	}
	if s.confirm != nil {
		v.confirm = newSieve(s.confirm)
	}
	return v
}

func (v *sieve) run(abort *atomic.Bool, r Range, found []Survivor) ([]Survivor, Account) {
	v.abort = abort
	if v.search.candidates != nil {
		return v.runCandidates(r, found)
	}
	if v.search.plan.head > maxChain {
		return v.runOneByOne(r, found)
	}
	head := int(v.search.plan.head)
	rows := v.rows()
	var acct Account
	for first := r.First; ; first += rows {
		n := min(rows-1, r.Last-first) + 1
		v.batch = grown(v.batch, int(n)*head)
		if rows > 1 {
			v.heads.heads(first, v.search.plan.base, head, v.batch)
		} else if !v.head(first, v.batch) {
			return found, acct
		}
		found = v.testBatch(first, v.batch, found, &acct)
		if r.Last-first < rows || v.abort.Load() {
			return found, acct
		}
	}
}

// rows is how many seeds make a batch: one when a seed's head is long to make.
func (v *sieve) rows() uint64 {
	p := &v.search.plan
	if p.head > skipPiece || p.base > skipPiece && !v.search.def.jumps {
		return 1
	}
	return min(max(batchSize/p.head, minBatch), maxBatch)
}

// head makes the head of one seed in pieces; false means aborted.
func (v *sieve) head(seed uint64, row []uint64) bool {
	v.walker.seed(seed)
	if !v.discard(v.walker, v.search.plan.base) {
		return false
	}
	for len(row) > 0 && !v.abort.Load() {
		n := min(len(row), skipPiece)
		v.walker.fill(row[:n])
		row = row[n:]
	}
	return !v.abort.Load()
}

// runOneByOne is run for searches whose first test alone needs more outputs
// than are kept.
func (v *sieve) runOneByOne(r Range, found []Survivor) ([]Survivor, Account) {
	var acct Account
	for seed := r.First; ; seed++ {
		acct.visit(seed)
		if best, ok := v.test(seed, nil); ok {
			found = append(found, best)
		}
		if seed == r.Last || v.abort.Load() {
			return found, acct
		}
	}
}

// testBatch tests the seeds from first on, one for each row of the batch.
func (v *sieve) testBatch(first uint64, batch []uint64, found []Survivor, acct *Account) []Survivor {
	s := v.search
	head := int(s.plan.head)
	most := s.def.outputs().Last
	if s.plan.first > 1 {
		s.observe.reduce(batch, most)
	}
	for seed := first; len(batch) > 0; seed, batch = seed+1, batch[head:] {
		row := batch[:head:head]
		if v.abort.Load() {
			return found
		}
		acct.visit(seed)
		if !v.mayPass(row) {
			continue
		}
		if s.plan.first == 1 {
			s.observe.reduce(row, most)
		}
		if best, ok := v.test(seed, row); ok {
			found = append(found, best)
		}
	}
	return found
}

// visit adds one seed to the account.
func (a *Account) visit(seed uint64) {
	a.Count++
	a.Sum += seed
	a.SumSq += seed * seed
}

// mayPass is the first test: whether some skip and offset match as many of the
// first known draws as every survivor must.
func (v *sieve) mayPass(row []uint64) bool {
	s := v.search
	p := &s.plan
	if p.hits <= 0 {
		return true
	}
	if p.first == 1 {
		for _, t := range p.stretches {
			if row := row[t.from:t.end]; p.matcher.inverse == 0 {
				if p.matcher.anyReduced(row) {
					return true
				}
			} else if p.matcher.any(row) {
				return true
			}
		}
		return false
	}
	points := s.points[:p.first]
	tried := 0 // pairs of skip and offset
	for skip := s.skip.Min; skip <= s.skip.Max; skip++ {
		stride := uint64(skip) + 1
		at := s.start(skip, s.offset.Min) - p.base
		for range s.offset.Count() {
			hits := 0
			for i := range points {
				if points[i].matches(row[at+points[i].index*stride]) {
					hits++
				}
			}
			if hits >= p.hits {
				return true
			}
			at++
			if tried++; tried%abortEvery == 0 && v.abort.Load() {
				return false
			}
		}
	}
	return false
}

// test is the full test of one seed, with what a survivor must pass besides. row
// holds the observed values of its first positions.
func (v *sieve) test(seed uint64, row []uint64) (best Survivor, ok bool) {
	if v.search.strategies != nil {
		best, ok = v.testHybrid(seed, row)
	} else {
		best, ok = v.testPairs(seed, row, v.search.skip)
	}
	if !ok || v.confirm == nil {
		return best, ok
	}
	return v.confirms(best)
}

// begin makes a seed the one at hand.
func (v *sieve) begin(seed uint64, row []uint64) {
	v.seed, v.seen, v.opened, v.walking = seed, row, false, false
}

// testPairs finds the best of some skips and all offsets of one seed, and says
// whether they reach the need.
func (v *sieve) testPairs(seed uint64, row []uint64, skips Bounds) (best Survivor, ok bool) {
	s := v.search
	v.begin(seed, row)
	wanted := s.need // matches that would make a pair the best so far
	for skip := skips.Min; skip <= skips.Max; skip++ {
		for offset := s.offset.Min; offset <= s.offset.Max; offset++ {
			matches, enough := v.compare(skip, offset, len(s.points)-wanted)
			if v.abort.Load() {
				return Survivor{}, false
			}
			if !enough {
				continue
			}
			best, ok = Survivor{Seed: seed, Matches: uint16(matches), Skip: uint16(skip), Offset: offset}, true
			if wanted = matches + 1; wanted > len(s.points) {
				return best, true
			}
		}
	}
	return best, ok
}

// compare counts the matches of one skip and offset, and gives up after more
// than the allowed misses.
func (v *sieve) compare(skip, offset uint32, allowed int) (matches int, enough bool) {
	s := v.search
	stride := uint64(skip) + 1
	start := s.start(skip, offset) - s.plan.base // wraps when the window starts with unknown draws
	misses := 0
	for i := range s.points {
		p := &s.points[i]
		at := start + p.index*stride
		if at >= uint64(len(v.seen)) && !v.extend(at) {
			return v.walk(skip, offset, allowed)
		}
		if !p.matches(v.seen[at]) {
			if misses++; misses > allowed {
				return 0, false
			}
		}
	}
	return len(s.points) - misses, true
}

// extend makes the seed's chain reach position at, if it may be that long.
func (v *sieve) extend(at uint64) bool {
	s := v.search
	if at >= maxChain {
		return false
	}
	have := len(v.seen)
	if !v.opened {
		v.chain.seed(v.seed)
		if !v.discard(v.chain, addSat(s.plan.base, uint64(have))) {
			return false
		}
		v.opened = true
		v.store = append(v.store[:0], v.seen...)
	}
	size := min(max(at+1, uint64(2*have), firstChain), s.plan.span, maxChain)
	for uint64(have) < size {
		n := int(min(size-uint64(have), skipPiece))
		v.store = append(v.store, make([]uint64, n)...)
		more := v.store[have:]
		v.chain.fill(more)
		s.observe.reduce(more, s.def.outputs().Last)
		have += n
		if v.abort.Load() {
			return false
		}
	}
	v.seen = v.store
	return true
}

// walk is compare without a chain, for windows that reach beyond it.
func (v *sieve) walk(skip, offset uint32, allowed int) (matches int, enough bool) {
	s := v.search
	var one [1]uint64
	v.walker.seed(v.seed)
	next, misses := uint64(0), 0 // next output number of the walker
	for _, p := range s.points {
		at := s.start(skip, offset) + p.index*(uint64(skip)+1)
		if !v.discard(v.walker, at-next) {
			return 0, false
		}
		v.walker.fill(one[:])
		next = at + 1
		if !p.matches(s.observe.of(one[0])) {
			if misses++; misses > allowed {
				return 0, false
			}
		}
	}
	return len(s.points) - misses, true
}

// discard skips n outputs in pieces; false means aborted.
func (v *sieve) discard(g stream, n uint64) bool {
	for n > skipPiece && !v.search.def.jumps {
		g.skip(skipPiece)
		n -= skipPiece
		if v.abort.Load() {
			return false
		}
	}
	g.skip(n)
	return true
}

// oneByOne makes the heads of any stream.
type oneByOne struct{ stream }

func (g oneByOne) heads(first, from uint64, n int, dst []uint64) {
	for ; len(dst) >= n; first, dst = first+1, dst[n:] {
		g.seed(first)
		g.skip(from)
		g.fill(dst[:n])
	}
}
