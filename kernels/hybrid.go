package kernels

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits of a strategy.
const (
	MaxStrategies = 16   // in one search
	MaxMisses     = 4096 // that end a strategy
	MaxTolerance  = 4096 // outputs
)

// firstExpected is the skip that every strategy expects at first.
const firstExpected = 5

// A Strategy is one way to follow a window whose skip changes from draw to
// draw: each draw is looked for around the skip that matched last.
type Strategy struct {
	Name      string // of a preset, or M:T
	MaxMisses uint32 // draws not found one after the other that end it
	Tolerance uint32 // how far a skip may lie from the last one
}

// presets are the original system's strategies, in its order.
var presets = []Strategy{
	{"strict_continuous", 3, 5},
	{"lenient_continuous", 10, 20},
	{"aggressive_reseed", 5, 5},
	{"balanced_hybrid", 7, 10},
	{"extreme_tolerance", 20, 50},
}

// ParseStrategy reads the name of a preset, or MAX_MISSES:TOLERANCE.
func ParseStrategy(text string) (Strategy, error) {
	if i := slices.IndexFunc(presets, func(p Strategy) bool { return p.Name == text }); i >= 0 {
		return presets[i], nil
	}
	misses, tolerance, ok := strings.Cut(text, ":")
	m, err1 := strconv.ParseUint(misses, 10, 32)
	t, err2 := strconv.ParseUint(tolerance, 10, 32)
	if !ok || err1 != nil || err2 != nil || m < 1 || m > MaxMisses || t > MaxTolerance {
		return Strategy{}, &SpecError{fmt.Sprintf("the strategy %q is unknown", clip(text)), strategyHelp()}
	}
	return Strategy{fmt.Sprintf("%d:%d", m, t), uint32(m), uint32(t)}, nil
}

func strategyHelp() string {
	var names []string
	for _, p := range presets {
		names = append(names, p.Name)
	}
	return fmt.Sprintf("use %s, or MAX_MISSES:TOLERANCE with 1 to %d misses and a tolerance of 0 to %d", strings.Join(names, ", "), MaxMisses, MaxTolerance)
}

// A trail is how a strategy follows the known draws of a seed.
type trail struct {
	strategy int
	offset   uint32
	matches  int
	skips    []int32 // of each known draw; -1 where it was not found
}

// commonSkip is the skip that matched most often; of equals, the smallest.
func (t *trail) commonSkip() uint16 {
	counts := make(map[int32]int)
	best := int32(-1)
	for _, skip := range t.skips {
		if skip < 0 {
			continue
		}
		counts[skip]++
		if n, most := counts[skip], counts[best]; best < 0 || n > most || n == most && skip < best {
			best = skip
		}
	}
	return uint16(min(max(best, 0), MaxSkip))
}

// layOutHybrid has every seed tested fully, on a head that is long enough for
// the strategies that find nothing.
func (s *Search) layOutHybrid() {
	p := &s.plan
	var reach uint64
	for _, t := range s.strategies {
		misses := min(uint64(t.MaxMisses), uint64(len(s.points)))
		reach = max(reach, misses*(firstExpected+1)+uint64(t.Tolerance))
	}
	p.first, p.hits = 1, 0
	p.base = uint64(s.offset.Min)
	p.head = min(s.offset.Count()+reach, maxChain)
	p.span = maxChain
}

// testHybrid is the full test of one seed under every strategy: its best one and
// that one's best offset, and whether they reach the need.
func (v *sieve) testHybrid(seed uint64, row []uint64) (best Survivor, ok bool) {
	v.begin(seed, row)
	t, ok := v.bestTrail()
	if !ok {
		return Survivor{}, false
	}
	return Survivor{Seed: seed, Matches: uint16(t.matches), Skip: t.commonSkip(), Offset: t.offset}, true
}

// bestTrail is the trail with the most matches of the seed at hand; of equals,
// the one of the first strategy, and of that the smallest offset.
func (v *sieve) bestTrail() (best trail, ok bool) {
	s := v.search
	wanted := s.need
	for i := range s.strategies {
		for offset := s.offset.Min; offset <= s.offset.Max; offset++ {
			matches := v.follow(i, offset, wanted, v.trail)
			if v.abort.Load() {
				return trail{}, false
			}
			if matches < wanted {
				continue
			}
			best, ok = trail{i, offset, matches, append(best.skips[:0], v.trail...)}, true
			if wanted = matches + 1; wanted > len(s.points) {
				return best, true
			}
		}
	}
	return best, ok
}

// follow runs one strategy from one offset and notes the skips. It gives up when
// fewer than the wanted matches can be reached.
func (v *sieve) follow(strategy int, offset uint32, wanted int, skips []int32) (matches int) {
	s := v.search
	limit, tolerance := int(s.strategies[strategy].MaxMisses), uint64(s.strategies[strategy].Tolerance)
	at := uint64(offset) - s.plan.base
	expected, misses, next := uint64(firstExpected), 0, uint64(0) // next draw's index
	for i := range skips {
		skips[i] = -1
	}
	for i := range s.points {
		p := &s.points[i]
		if matches+len(s.points)-i < wanted {
			return 0
		}
		at += (p.index - next) * (expected + 1) // unknown draws
		next = p.index + 1
		low := expected - min(expected, tolerance)
		place, found := v.find(p, at+low, at+expected+tolerance)
		if !found {
			at += expected + 1
			if misses++; misses == limit || v.abort.Load() {
				return matches
			}
			continue
		}
		expected = place - at
		at = place + 1
		skips[i] = int32(expected)
		matches++
		misses = 0
	}
	return matches
}

// find is the first position from `from` to `to` that matches a point.
func (v *sieve) find(p *point, from, to uint64) (at uint64, found bool) {
	for at = from; at <= to; at++ {
		if at >= uint64(len(v.seen)) && !v.extend(at) {
			if v.abort.Load() {
				return 0, false
			}
			if p.matches(v.far(at)) {
				return at, true
			}
			continue
		}
		if p.matches(v.seen[at]) {
			return at, true
		}
	}
	return 0, false
}

// far is the reduced output at a position beyond the chain.
func (v *sieve) far(at uint64) uint64 {
	number := v.search.plan.base + at
	if !v.walking || number < v.walked {
		v.walker.seed(v.seed)
		v.walking, v.walked = true, 0
	}
	var one [1]uint64
	if !v.discard(v.walker, number-v.walked) {
		return 0
	}
	v.walker.fill(one[:])
	v.walked = number + 1
	return v.search.observe.of(one[0])
}

// hybridSteps is the generator advances of all strategies and offsets together,
// each following the window at the skip that is expected first.
func (s *Search) hybridSteps() uint64 {
	var sum uint64
	for _, t := range s.strategies {
		window := mulSat(uint64(s.draws), firstExpected+1) + uint64(t.Tolerance)
		sum = addSat(sum, mulSat(s.offset.Count(), addSat(window, uint64(s.offset.Max+s.offset.Min)/2)))
	}
	return sum
}
