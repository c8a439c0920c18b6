package kernels

import (
	"cmp"
	"math/bits"
	"slices"
)

// A transform makes the words that one draw matches neighbouring numbers: it
// multiplies and rotates right, as a matcher does.
type transform struct {
	modulus    uint64 // 0 when words are compared whole
	multiplier uint32
	rotate     int
}

// A span is the transformed words from first to last.
type span struct{ first, last uint32 }

// everySpan is every word, which is more than a filter can compare with.
var everySpan = span{0, maxWord}

func newTransform(modulus uint64) transform {
	if modulus == 0 {
		return transform{multiplier: 1}
	}
	m := reduction{modulus}.matcher(point{})
	return transform{modulus, uint32(m.inverse), m.shift}
}

// of is the transformed word.
func (t *transform) of(word uint32) uint32 {
	return bits.RotateLeft32(word*t.multiplier, -t.rotate)
}

// span is where the words equal to value modulo the modulus go. Those are
// value, value+modulus and so on, and their transforms follow each other: with d
// the modulus without its factors of 2, the transform of n before it is rotated
// is (n + w*2^32)/d for the one w below d that makes it whole, which is the same
// w for all of them, so that they keep their order.
func (t *transform) span(value uint32) span {
	first := t.of(value)
	if t.modulus == 0 {
		return span{first, first}
	}
	return span{first, first + uint32((maxWord-uint64(value))/t.modulus)}
}

// A target is a known draw as a filter tests it.
type target struct {
	point int
	spans []span // any of which matches
}

// maxSpans is the most spans of a target.
const maxSpans = 64

// targets are the known draws that vectors can test. The others, which many
// words match, are left to the reference.
func (s *Search) targets(f *vectorForm) (t transform, list []target) {
	o := s.observe
	if o.modulus > s.def.outputs().Last {
		o.modulus = 0 // outputs are compared whole
	}
	t = newTransform(cmp.Or(f.modulus, o.modulus))
	for i, p := range s.points {
		spans := intervalSpans(p)
		if t.modulus != 0 {
			spans = f.residueSpans(o, p, &t)
		}
		if len(spans) <= maxSpans && !slices.Contains(spans, everySpan) {
			list = append(list, target{i, spans})
		}
	}
	return t, list
}

// intervalSpans are the words in a point's interval, which may go around the end
// of all numbers.
func intervalSpans(p point) (list []span) {
	end := p.value + p.width
	if end < p.value {
		list = append(list, span{0, uint32(min(end, maxWord))})
		end = 1<<64 - 1
	}
	if p.value <= maxWord {
		list = append(list, span{uint32(p.value), uint32(min(end, maxWord))})
	}
	return list
}

// residueSpans are the residues, modulo the transform's modulus, of the words
// that match a point, or everySpan for too many.
func (f *vectorForm) residueSpans(o reduction, p point, t *transform) (list []span) {
	if p.width >= maxSpans {
		return []span{everySpan}
	}
	for i := range p.width + 1 {
		value := p.value + i
		if o.modulus != 0 && value >= o.modulus {
			continue
		}
		if f.modulus == 0 {
			list = append(list, t.span(uint32(value)))
			continue
		}
		if o.modulus != 0 && value < f.low { // the first output from low on that is seen so
			value += (f.low - value + o.modulus - 1) / o.modulus * o.modulus
		}
		for f.low <= value && value-f.low < f.modulus && len(list) <= maxSpans {
			list = append(list, t.span(uint32(value-f.low)))
			if o.modulus == 0 {
				break
			}
			value += o.modulus
		}
	}
	return list
}
