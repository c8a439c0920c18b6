package kernels

import (
	"math"
	"slices"
	"sort"
)

// The statistics of docs/ANALYSIS.md. Their results are a part of records that
// must be equal on every machine: products are rounded before they are added (Go
// may else fuse the two, where the processor can), sums have a fixed order, and of
// package math only operations are used that are exact.

// A series is a sequence of numbers, as deviations from its mean.
type series struct {
	mean       float64
	deviation  float64 // standard deviation of the population
	deviations []float64
}

// of takes as many values as the series is long.
func (s *series) of(values []uint64) {
	n := float64(len(values))
	for i, v := range values {
		s.deviations[i] = float64(v)
	}
	s.mean = sum(s.deviations) / n
	for i := range s.deviations {
		s.deviations[i] -= s.mean
	}
	s.deviation = math.Sqrt(sumOfProducts(s.deviations, s.deviations) / n)
}

// autocorrelation is sum((x[i]-m)(x[i+lag]-m)) / ((n-lag) sd^2), and 0 for
// numbers that are all equal.
func (s *series) autocorrelation(lag int) float64 {
	n := len(s.deviations) - lag
	if s.deviation == 0 {
		return 0
	}
	return sumOfProducts(s.deviations[:n], s.deviations[lag:]) / float64(float64(n)*float64(s.deviation*s.deviation))
}

// leastVariance is the original system's: below it a correlation is 0.
const leastVariance = 1e-12

// pearson is the correlation of two sequences of one length, from -1 to 1, and 0
// where one of them does not vary.
func pearson(x, y []float64) float64 {
	n := float64(len(x))
	meanX, meanY := sum(x)/n, sum(y)/n
	var xx, yy, xy float64
	for i := range x {
		dx, dy := x[i]-meanX, y[i]-meanY
		xx += float64(dx * dx)
		yy += float64(dy * dy)
		xy += float64(dx * dy)
	}
	if xx/n < leastVariance || yy/n < leastVariance {
		return 0
	}
	return min(1, max(-1, xy/float64(math.Sqrt(xx)*math.Sqrt(yy))))
}

// sum adds in a fixed order, four at a time.
func sum(x []float64) float64 {
	var part [4]float64
	for ; len(x) >= 4; x = x[4:] {
		part[0] += x[0]
		part[1] += x[1]
		part[2] += x[2]
		part[3] += x[3]
	}
	for i, v := range x {
		part[i] += v
	}
	return part[0] + part[1] + (part[2] + part[3])
}

// sumOfProducts adds x[i]*y[i] in a fixed order, four at a time. y may be longer.
func sumOfProducts(x, y []float64) float64 {
	var part [4]float64
	for ; len(x) >= 4; x, y = x[4:], y[4:] {
		y := y[:4]
		part[0] += float64(x[0] * y[0])
		part[1] += float64(x[1] * y[1])
		part[2] += float64(x[2] * y[2])
		part[3] += float64(x[3] * y[3])
	}
	for i, v := range x {
		part[i] += float64(v * y[i])
	}
	return part[0] + part[1] + (part[2] + part[3])
}

func minMax(values []uint64) (least, most uint64) {
	return slices.Min(values), slices.Max(values)
}

// binOf is the bin that a value falls into.
func binOf(starts []uint64, v uint64) int {
	return sort.Search(len(starts), func(i int) bool { return starts[i] > v }) - 1
}

// chiSquare is the distance of counts from what chance puts into each bin.
func chiSquare(counts []uint64, chances []float64, n float64) float64 {
	var sum float64
	for i, count := range counts {
		expected := float64(chances[i] * n)
		d := float64(count) - expected
		sum += float64(d*d) / expected
	}
	return sum
}

// runsAround counts the runs of values above the median and not above it, and the
// values above. Where more than half of the values are the largest one, those that
// are the median count as above it. It sorts its second argument, a copy of the values.
func runsAround(values, sorted []uint64) (runs, above uint64) {
	slices.Sort(sorted)
	n := len(sorted)
	lower, upper := sorted[(n-1)/2], sorted[n/2]
	least := lower + (upper-lower)/2 + 1 // the first number above the median, rounded down
	if lower == sorted[n-1] {
		least = lower
	}
	var was bool
	for i, v := range values {
		is := v >= least
		if is {
			above++
		}
		if i == 0 || is != was {
			runs++
		}
		was = is
	}
	return runs, above
}

// runsScore is how many standard deviations a number of runs is off its
// expectation (Wald and Wolfowitz), and 0 where all values are on one side.
func runsScore(runs, above, n uint64) float64 {
	up, down, all := float64(above), float64(n-above), float64(n)
	twice := float64(2 * up * down)
	variance := twice * (twice - all) / float64(all*all*(all-1))
	if variance <= 0 {
		return 0
	}
	return (float64(runs) - 1 - twice/all) / math.Sqrt(variance)
}
