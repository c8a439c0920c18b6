package kernels

import "math/bits"

const phpSeeding = "mt_srand(seed): the mt19937 state of this seed, w its 32-bit outputs. "

var phpMtRand = definition{
	Generator: Generator{
		Name:       "php_mt_rand",
		Met:        "PHP 7.1 and later: mt_srand($seed); mt_rand()",
		SeedBits:   32,
		StateBits:  19968,
		WidthBits:  31,
		Definition: phpSeeding + "mt_rand() = w>>1.",
		Source:     "PHP 8.2.36 mt_srand(seed); mt_rand()",
	},
	setupSteps: mtShift,
	open:       func() stream { return new(phpMtStream) },
}

var phpMtRand0to999 = definition{
	Generator: Generator{
		Name:      "php_mt_rand_0_999",
		Met:       "PHP 7.1 and later: mt_srand($seed); mt_rand(0, 999)",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 10,
		Definition: phpSeeding + "mt_rand(0,999) takes the next w, and again while w > 4294966999; output w mod 1000. " +
			"An output is one call, which may use more than one w.",
		Source: "PHP 8.2.36 mt_srand(seed); mt_rand(0,999)",
	},
	most:       999,
	setupSteps: mtShift,
	open:       openPHPRange(0, 999),
}

type phpMtStream struct{ mtStream }

func (g *phpMtStream) fill(dst []uint64) {
	g.mtStream.fill(dst)
	halve(dst)
}

func (g *phpMtStream) heads(first, from uint64, n int, dst []uint64) {
	g.mtStream.heads(first, from, n, dst)
	halve(dst)
}

func halve(dst []uint64) {
	for i := range dst {
		dst[i] >>= 1
	}
}

// A phpMtRangeStream is the results of mt_rand(low, low+n-1), for n from 1 to
// 2^32: words above last, where a complete set of residues ends, are drawn again.
type phpMtRangeStream struct {
	mtStream
	low, n, last uint64
	inverse      uint64 // of n: 2^64/n, rounded up
	words        []uint64
}

func openPHPRange(low, high uint64) func() stream {
	n := high - low + 1
	return func() stream {
		return &phpMtRangeStream{low: low, n: n, last: 1<<32 - 1 - 1<<32%n, inverse: (1<<64-1)/n + 1}
	}
}

// result is what an accepted word gives: low plus the word modulo n.
func (g *phpMtRangeStream) result(word uint64) uint64 {
	residue, _ := bits.Mul64(g.inverse*word, g.n)
	return g.low + residue
}

func (g *phpMtRangeStream) skip(n uint64) {
	var scratch [256]uint64
	for n > 0 {
		m := min(n, uint64(len(scratch)))
		g.fill(scratch[:m])
		n -= m
	}
}

// fill takes words until there are enough accepted ones; it asks for as many
// words as outputs are missing, so it never takes one too many.
func (g *phpMtRangeStream) fill(dst []uint64) {
	for len(dst) > 0 {
		g.mtStream.fill(dst)
		kept := 0
		for _, w := range dst {
			if w <= g.last {
				dst[kept] = g.result(w)
				kept++
			}
		}
		dst = dst[kept:]
	}
}

// heads takes output i to be word i, and goes back for the seeds that had a
// word refused, which are few where n is small.
func (g *phpMtRangeStream) heads(first, from uint64, n int, dst []uint64) {
	words := int(from) + n
	if words > mtWords-mtShift {
		for ; len(dst) >= n; first, dst = first+1, dst[n:] {
			g.alone(first, from, dst[:n])
		}
		return
	}
	rows := len(dst) / n
	g.words = grown(g.words, rows*words)
	g.mtStream.heads(first, 0, words, g.words)
	for row := range rows {
		head := g.words[row*words:][:words]
		worst := uint64(0)
		for _, w := range head {
			worst = max(worst, w)
		}
		out := dst[row*n:][:n]
		if worst > g.last {
			g.alone(first+uint64(row), from, out)
			continue
		}
		n, inverse, low := g.n, g.inverse, g.low
		for i, w := range head[from:] {
			residue, _ := bits.Mul64(inverse*w, n)
			out[i] = low + residue
		}
	}
}

func (g *phpMtRangeStream) alone(seed, from uint64, dst []uint64) {
	g.seed(seed)
	g.skip(from)
	g.fill(dst)
}

// grown is a slice of n elements with unspecified contents, s when it is large
// enough.
func grown(s []uint64, n int) []uint64 {
	if cap(s) < n {
		return make([]uint64, n)
	}
	return s[:n]
}
