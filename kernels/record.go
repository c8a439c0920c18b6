package kernels

import (
	"strconv"
	"sync/atomic"
)

// AppendJSON appends the record of a survivor as one line of JSON, with its
// newline, in the field order of docs/SIEVE.md. What a survivor does not carry
// is won again from its seed.
func (s *Search) AppendJSON(dst []byte, v Survivor) []byte {
	if s.candidates != nil {
		v.Seed = s.candidates[v.Seed].Seed
	}
	if s.analysis != nil {
		return s.appendAnalysis(dst, v)
	}
	total := len(s.points)
	dst = append(dst, `{"seed":"`...)
	dst = strconv.AppendUint(dst, v.Seed, 10)
	dst = append(dst, `","family":"`...)
	dst = append(dst, s.Family()...) // registered names need no escapes
	dst = append(dst, '"')
	dst = appendMatches(dst, "", int(v.Matches), total)
	dst = appendNumber(dst, "best_skip", uint64(v.Skip))
	dst = appendNumber(dst, "best_offset", uint64(v.Offset))
	dst = s.appendTraces(dst, v)
	if s.direction != Forward {
		dst = append(dst, `,"direction":"`...)
		dst = append(dst, s.direction...)
		dst = append(dst, '"')
	}
	return append(dst, "}\n"...)
}

// Record is what the Go reference finds for one seed, or for one candidate by its
// position, and whether it survives: what every device must have found.
func (s *Search) Record(at uint64) (v Survivor, survives bool) {
	found, _ := newWorker(s).run(new(atomic.Bool), Range{at, at}, nil)
	if len(found) == 0 {
		return Survivor{Seed: at}, false
	}
	return found[0], true
}

// appendTraces appends what a search of this mode and direction adds.
func (s *Search) appendTraces(dst []byte, v Survivor) []byte {
	hybrid := s.strategies != nil || s.confirmation == anew
	if !hybrid && s.confirm == nil && s.direction != Backward {
		return dst
	}
	tracer, _ := s.tracers.Get().(*sieve)
	if tracer == nil {
		tracer = newSieve(s)
		tracer.abort = neverAborted
	}
	defer s.tracers.Put(tracer)
	if s.direction == Backward {
		dst = append(dst, `,"origin":"`...)
		dst = strconv.AppendUint(dst, tracer.origin(v), 10)
		dst = append(dst, '"')
	}
	if s.confirm != nil {
		tracer.confirm.abort = tracer.abort
	}
	switch {
	case s.confirmation == anew:
		return tracer.confirm.appendTrail(dst, v.Seed)
	case s.confirmation == heldOut:
		matches, _ := tracer.confirm.at(v)
		return appendMatches(dst, "held_out_", matches, len(s.confirm.points))
	case s.confirmation == besides:
		reverse, _ := tracer.confirm.test(v.Seed, nil)
		dst = appendMatches(dst, "reverse_", int(reverse.Matches), len(s.confirm.points))
		dst = appendNumber(dst, "reverse_skip", uint64(reverse.Skip))
		return appendNumber(dst, "reverse_offset", uint64(reverse.Offset))
	case hybrid:
		return tracer.appendTrail(dst, v.Seed)
	}
	return dst
}

// appendTrail appends the best strategy of a survivor, and its skips.
func (v *sieve) appendTrail(dst []byte, seed uint64) []byte {
	v.begin(seed, nil)
	t, _ := v.bestTrail()
	dst = append(dst, `,"strategy":"`...)
	dst = append(dst, v.search.strategies[t.strategy].Name...)
	dst = append(dst, `","skip_pattern":[`...)
	for i, skip := range t.skips {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(skip), 10)
	}
	return append(dst, ']')
}

// neverAborted is the abort of records.
var neverAborted = new(atomic.Bool)

func appendMatches(dst []byte, prefix string, matches, total int) []byte {
	dst = appendNumber(dst, prefix+"matches", uint64(matches))
	dst = appendNumber(dst, prefix+"total", uint64(total))
	dst = append(dst, `,"`...)
	dst = append(dst, prefix...)
	dst = append(dst, `match_rate":`...)
	return strconv.AppendFloat(dst, float64(matches)/float64(total), 'f', -1, 64)
}

func appendNumber(dst []byte, name string, v uint64) []byte {
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return strconv.AppendUint(dst, v, 10)
}
