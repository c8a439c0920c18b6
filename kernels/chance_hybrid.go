package kernels

import "math"

// hybridWork bounds the additions of an exact hybrid baseline, to about a
// quarter of a second.
const hybridWork = 1 << 27

// logPasses is the logarithm of the probability that so many of the known draws
// are found by the strategy in outputs that each match with probability p. When
// the exact sum is too much work it is an upper bound.
func (t Strategy) logPasses(draws, need int, p float64) float64 {
	if need <= 0 {
		return 0
	}
	tolerance := int(t.Tolerance)
	most := 4*tolerance + firstExpected // larger skips leave it unlikely that the lower end is reached again
	if float64(need)*float64(draws)*float64(most+1)*float64(2*tolerance+1) > hybridWork {
		return t.logPassesAtMost(draws, need, p)
	}
	// found[i][e] is the probability that the n-th match is draw i-1, and that
	// the skip e is expected after it.
	found := grid(draws+1, most+1)
	found[0][firstExpected] = 1
	for n := 1; n <= need; n++ {
		found = t.nextMatch(found, draws, p)
	}
	var sum float64
	for _, row := range found {
		for _, v := range row {
			sum += v
		}
	}
	return math.Log(min(sum, 1))
}

// nextMatch is the distribution one match later. Before it there are fewer
// misses than end the strategy.
func (t Strategy) nextMatch(found [][]float64, draws int, p float64) [][]float64 {
	most, tolerance, limit := len(found[0])-1, int(t.Tolerance), int(t.MaxMisses)
	next := grid(draws+1, most+1)
	for e := range most + 1 {
		low := max(0, e-tolerance)
		miss := math.Pow(1-p, float64(e+tolerance-low+1))
		gone := math.Pow(miss, float64(limit))
		reach := 0.0 // that draw i is looked for while e is expected
		for i := 1; i <= draws; i++ {
			reach = reach*miss + found[i-1][e]
			if i > limit {
				reach -= gone * found[i-1-limit][e]
			}
			hit := reach * p
			for skip := low; skip <= e+tolerance && hit > 0; skip++ {
				next[i][min(skip, most)] += hit
				hit *= 1 - p
			}
		}
	}
	return next
}

// logPassesAtMost is an upper bound: every draw has the most tries there are,
// and either there are no early ends, or no last draw.
func (t Strategy) logPassesAtMost(draws, need int, p float64) float64 {
	found := -math.Expm1(float64(2*t.Tolerance+firstExpected+1) * math.Log1p(-p))
	before := -math.Expm1(float64(t.MaxMisses) * math.Log1p(-found)) // that a match comes before the end
	return min(logBinomialTail(draws, need, found), float64(need)*math.Log(before))
}

func grid(rows, columns int) [][]float64 {
	all := make([]float64, rows*columns)
	g := make([][]float64, rows)
	for i := range g {
		g[i] = all[i*columns:][:columns]
	}
	return g
}
