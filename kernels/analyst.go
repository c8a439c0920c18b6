package kernels

import "sync/atomic"

// An analyst makes the records of an analysis; each worker has its own. It is the
// same Go code on every device, so that the same seed gives the same bits.
type analyst struct {
	search  *Search
	chain   stream
	abort   *atomic.Bool // set when the results of run are not wanted any more
	streams []sequence   // the one of seed s is at s modulo their number
	draws   []float64    // of the stream at the places of the known draws
	sorted  []uint64
	counts  []uint64
}

// A sequence is a stream that has been made.
type sequence struct {
	seed   uint64
	skip   uint32
	ready  bool
	values []uint64
	series series
}

func newAnalyst(s *Search) *analyst {
	a := &analyst{
		search: s, chain: s.def.open(), streams: make([]sequence, s.analysis.Neighbours+1),
		draws: make([]float64, len(s.points)), sorted: make([]uint64, s.draws), counts: make([]uint64, s.analysis.Bins),
	}
	for i := range a.streams {
		a.streams[i].values = make([]uint64, s.draws)
		a.streams[i].series.deviations = make([]float64, s.draws)
	}
	return a
}

// run makes the records of a range of seeds, or of positions in the list of
// candidates.
func (a *analyst) run(abort *atomic.Bool, r Range, found []Survivor) ([]Survivor, Account) {
	a.abort = abort
	var acct Account
	for at := r.First; ; at++ {
		acct.visit(at)
		seed, skip := at, a.search.skip.Min
		if list := a.search.candidates; list != nil {
			seed, skip = list[at].Seed, list[at].Skip
		}
		f, ok := a.figures(seed, skip)
		if !ok {
			return found, acct
		}
		if a.search.analysis.wants(f) {
			found = append(found, Survivor{Seed: at, Skip: uint16(skip), Offset: a.search.offset.Min, Figures: f.String()})
		}
		if at == r.Last || abort.Load() {
			return found, acct
		}
	}
}

// figures are those of one seed; ok is false when it was aborted.
func (a *analyst) figures(seed uint64, skip uint32) (f figures, ok bool) {
	own, ok := a.sequence(seed, skip)
	if !ok {
		return nil, false
	}
	if a.search.analysis.Type == TypeAnalysis {
		return a.alone(own)
	}
	return a.together(own)
}

// alone are the figures of one stream.
func (a *analyst) alone(own *sequence) (f figures, ok bool) {
	least, most := minMax(own.values)
	f = f.number(own.series.mean).number(own.series.deviation).count(least).count(most)
	copy(a.sorted, own.values)
	runs, above := runsAround(own.values, a.sorted)
	f = f.count(runs).count(above)
	for _, lag := range a.search.analysis.Lags {
		if a.abort.Load() {
			return nil, false
		}
		f = f.number(own.series.autocorrelation(int(lag)))
	}
	clear(a.counts)
	for _, v := range own.values {
		a.counts[binOf(a.search.analysis.starts, v)]++
	}
	for _, n := range a.counts {
		f = f.count(n)
	}
	return f, true
}

// together are the figures of a stream and what it is compared with.
func (a *analyst) together(own *sequence) (f figures, ok bool) {
	for _, lag := range a.search.analysis.Lags {
		if a.abort.Load() {
			return nil, false
		}
		n := len(own.series.deviations) - int(lag)
		f = f.number(pearson(own.series.deviations[:n], own.series.deviations[lag:]))
	}
	for j := range uint64(a.search.analysis.Neighbours) {
		other, ok := a.sequence((own.seed+j+1)&a.search.def.Space().Last, own.skip)
		if !ok {
			return nil, false
		}
		f = f.number(pearson(own.series.deviations, other.series.deviations))
	}
	if draws := a.search.analysis.draws; len(draws) > 0 {
		for i, p := range a.search.points {
			a.draws[i] = float64(own.values[p.index])
		}
		f = f.number(pearson(a.draws, draws))
	}
	return f, true
}

// sequence makes a seed's stream, unless it is there already.
func (a *analyst) sequence(seed uint64, skip uint32) (q *sequence, ok bool) {
	q = &a.streams[seed%uint64(len(a.streams))]
	if q.ready && q.seed == seed && q.skip == skip {
		return q, true
	}
	q.seed, q.skip, q.ready = seed, skip, false
	a.chain.seed(seed)
	if !a.discard(a.search.start(skip, a.search.offset.Min)) {
		return nil, false
	}
	for i := range q.values {
		a.chain.fill(q.values[i : i+1])
		q.values[i] = a.search.sight.see(q.values[i])
		if skip > 0 && !a.discard(uint64(skip)) {
			return nil, false
		}
		if i%abortEvery == 0 && a.abort.Load() {
			return nil, false
		}
	}
	q.series.of(q.values)
	q.ready = true
	return q, true
}

// discard skips n outputs in pieces; false means aborted.
func (a *analyst) discard(n uint64) bool {
	for ; n > skipPiece && !a.search.def.jumps; n -= skipPiece {
		a.chain.skip(skipPiece)
		if a.abort.Load() {
			return false
		}
	}
	a.chain.skip(n)
	return true
}
