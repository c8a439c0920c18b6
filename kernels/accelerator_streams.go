package kernels

import "slices"

// A streamKernel is a kernel of accelerators alone, which makes one output after the
// other of whatever state: see src/stream.h. The zero value is none.
type streamKernel struct {
	file    string // in src
	variant uint64 // of its generators
}

// streamFiles are their files, in order of name.
var streamFiles = func() (names []string) {
	for _, d := range registry {
		if d.kernel.file != "" {
			names = append(names, d.kernel.file)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}()

// streamForm is what such a generator is laid out as: outputs that vectors take from a
// state without leaps.
var streamForm = vectorForm{kernel: kernelXorshift32, accepted: maxWord}

// A narrowing makes the words that a kernel tests of outputs: the rest by the modulus, or
// with one of all words the output without its low bits.
type narrowing struct {
	modulus uint64
	drop    int
}

// narrow chooses how the outputs become words, and gives the draws as words: those that
// a word can tell.
func (s *Search) narrow() (narrowing, transform, []target) {
	all := narrowing{modulus: maxWord + 1}
	width := s.def.WidthBits
	switch m := s.observe.modulus; {
	case width <= 32:
		t, list := s.targets(&streamForm)
		return all, t, list
	case m > all.modulus:
		return all, transform{}, nil
	case m != 0:
		return narrowing{modulus: m}, newTransform(0), s.wordsOf(0)
	}
	all.drop = width - 32
	return all, newTransform(0), s.wordsOf(all.drop)
}

// wordsOf are the draws as words without the low bits of the outputs.
func (s *Search) wordsOf(drop int) (list []target) {
	for i, p := range s.points {
		end := p.value + p.width
		words := span{uint32(p.value >> drop), uint32(end >> drop)}
		if end >= p.value && words != everySpan {
			list = append(list, target{i, []span{words}})
		}
	}
	return list
}
