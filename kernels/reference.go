package kernels

// The definition of docs/SIEVE.md written down, with no shortcut: what every
// device is held against.

// reference searches a range: every seed, skip and offset, each from the seed on.
func reference(s *Search, r Range) finding {
	f := finding{last: r.Last, acct: AccountOf(r), ok: true}
	for seed := r.First; ; seed++ {
		if best, ok := referenceSurvivor(s, seed); ok {
			f.found = append(f.found, best)
		}
		if seed == r.Last {
			return f
		}
	}
}

// referenceSurvivor is the record of one seed, and whether it survives.
func referenceSurvivor(s *Search, seed uint64) (Survivor, bool) {
	best := referenceBest(s, seed)
	if int(best.Matches) < s.need {
		return best, false
	}
	switch s.confirmation {
	case anew:
		return referenceSurvivor(s.confirm, seed)
	case besides:
		_, ok := referenceSurvivor(s.confirm, seed)
		return best, ok
	case heldOut:
		return best, referenceMatches(s.confirm, seed, uint32(best.Skip), best.Offset) >= s.confirm.need
	}
	return best, true
}

func referenceBest(s *Search, seed uint64) (best Survivor) {
	matches := -1
	var outputs []uint64
	if s.strategies != nil {
		outputs = referenceReach(s, seed)
	}
	for _, t := range s.strategies {
		for offset := s.offset.Min; offset <= s.offset.Max; offset++ {
			if n, skips := referenceTrail(s, t, outputs[offset:]); n > matches {
				common := trail{skips: skips}
				best, matches = Survivor{Seed: seed, Matches: uint16(n), Skip: common.commonSkip(), Offset: offset}, n
			}
		}
	}
	if s.strategies != nil {
		return best
	}
	for skip := s.skip.Min; skip <= s.skip.Max; skip++ {
		for offset := s.offset.Min; offset <= s.offset.Max; offset++ {
			if n := referenceMatches(s, seed, skip, offset); n > matches {
				best, matches = Survivor{Seed: seed, Matches: uint16(n), Skip: uint16(skip), Offset: offset}, n
			}
		}
	}
	return best
}

// referenceOutputs are the outputs of a seed from one number on.
func referenceOutputs(s *Search, seed, from, n uint64) []uint64 {
	g := s.def.open()
	g.seed(seed)
	g.skip(from)
	outputs := make([]uint64, n)
	g.fill(outputs)
	return outputs
}

func referenceMatches(s *Search, seed uint64, skip, offset uint32) int {
	stride := uint64(skip) + 1
	outputs := referenceOutputs(s, seed, s.start(skip, offset), s.points[len(s.points)-1].index*stride+1)
	n := 0
	for _, p := range s.points {
		if p.matches(s.observe.of(outputs[p.index*stride])) {
			n++
		}
	}
	return n
}

// referenceReach are the outputs of a seed as far as any strategy can come.
func referenceReach(s *Search, seed uint64) []uint64 {
	draws := s.points[len(s.points)-1].index + 1
	reach := uint64(0)
	for _, t := range s.strategies {
		reach = max(reach, firstExpected+draws*uint64(t.Tolerance)+1)
	}
	return referenceOutputs(s, seed, 0, uint64(s.offset.Max)+draws*reach)
}

// referenceTrail follows one strategy through the outputs from an offset on.
func referenceTrail(s *Search, t Strategy, outputs []uint64) (matches int, skips []int32) {
	draws := s.points[len(s.points)-1].index + 1
	points := s.points
	at, expected, misses := 0, firstExpected, 0
	for i := range draws {
		if i != points[0].index {
			at += expected + 1
			continue
		}
		p := points[0]
		points = points[1:]
		skips = append(skips, -1)
		if misses == int(t.MaxMisses) {
			continue
		}
		skip := max(0, expected-int(t.Tolerance))
		for skip <= expected+int(t.Tolerance) && !p.matches(s.observe.of(outputs[at+skip])) {
			skip++
		}
		if skip > expected+int(t.Tolerance) {
			at += expected + 1
			misses++
			continue
		}
		expected, misses, at = skip, 0, at+skip+1
		skips[len(skips)-1] = int32(skip)
		matches++
	}
	return matches, skips
}
