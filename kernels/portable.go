package kernels

import (
	"cmp"
	"math"
	"slices"
)

// Probabilities that are equal to the last bit on every machine: those of package
// math are assembly on some, and fused on others. They are accurate to about
// 1e-12 of their value; products are rounded before they are added throughout.

// ln 2, in two parts of which the first has few enough bits for exact products.
const (
	ln2High = 0x1.62e42feep-1
	ln2Low  = 0x1.a39ef35793c76p-33
)

// exponential is e^-x for x >= 0, as m * 2^exponent with m in [0.7, 1.5], so that no
// x is too large.
func exponential(x float64) (m float64, exponent int) {
	k := math.Floor(x/math.Ln2 + 0.5)
	r := x - float64(k*ln2High) - float64(k*ln2Low)
	term, total := 1.0, 1.0
	for i := 1; i <= 16; i++ { // |r| <= ln(2)/2
		term = float64(term*-r) / float64(i)
		total += term
	}
	return total, -int(k)
}

// logarithm is ln x for x > 0.
func logarithm(x float64) float64 {
	m, exponent := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, exponent = 2*m, exponent-1
	}
	s := (m - 1) / (m + 1)
	power, total := s, s
	for i := 3; i <= 31; i += 2 { // |s| <= 0.172
		power = float64(power * float64(s*s))
		total += power / float64(i)
	}
	return float64(float64(exponent)*ln2High) + (float64(float64(exponent)*ln2Low) + 2*total)
}

// Bounds of [errorRest]'s two methods.
const (
	errorSeries   = 2 // the series below it, the continued fraction above
	errorTerms    = 60
	errorFraction = 80
	errorEnd      = 40 // the result is 0 from here on
)

// errorRest is the complementary error function, for x >= 0.
func errorRest(x float64) float64 {
	if x >= errorEnd {
		return 0
	}
	m, exponent := exponential(float64(x * x))
	if x >= errorSeries {
		fraction := x
		for i := errorFraction; i > 0; i-- {
			fraction = x + float64(i)/2/fraction
		}
		return math.Ldexp(m/float64(fraction*sqrtPi), exponent)
	}
	term, total := x, x
	for i := 1; i <= errorTerms; i++ {
		term = float64(term*float64(2*float64(x*x))) / float64(2*i+1)
		total += term
	}
	return 1 - float64(float64(2/sqrtPi*math.Ldexp(m, exponent))*total)
}

const sqrtPi = 1.7724538509055160272981674833411451827975

// twoSided is the probability that a normal variable is at least so far from 0.
func twoSided(z float64) float64 { return errorRest(math.Abs(z) / math.Sqrt2) }

// correlationChance is the probability that so many independent pairs correlate so
// strongly, by Fisher's transformation.
func correlationChance(r float64, pairs int) float64 {
	if r = math.Abs(r); r >= 1 {
		return 0
	}
	z := logarithm((1+r)/(1-r)) / 2
	return twoSided(float64(z * math.Sqrt(float64(pairs)-3)))
}

// chiSquareChance is the probability that chi-square with so many degrees of
// freedom is at least x: the finite sums for whole degrees (Abramowitz and Stegun
// 26.4.4 and 26.4.5).
func chiSquareChance(x float64, degrees int) float64 {
	if x <= 0 {
		return 1
	}
	y := float64(x / 2)
	term, exponent := exponential(y)
	rest, step := 0.0, 1.0
	if degrees%2 == 1 { // the terms are y^(i+1/2) / gamma(i+3/2)
		rest, step = errorRest(math.Sqrt(y)), 1.5
		term = float64(term*math.Sqrt(y)) / (sqrtPi / 2)
	}
	var total float64
	for range degrees / 2 {
		total += term
		term = float64(term*y) / step
		step++
		if term > 0x1p512 || total > 0x1p512 { // both are in units of 2^exponent
			total, term, exponent = math.Ldexp(total, -512), math.Ldexp(term, -512), exponent+512
		}
	}
	return min(1, rest+math.Ldexp(total, exponent))
}

// holm corrects p-values for their number: each is the smallest rate of errors, in
// the whole family of tests, at which its own test is rejected (Holm 1979).
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	corrected := make([]float64, len(p))
	least := 0.0
	for rank, i := range order {
		least = max(least, min(1, float64(len(p)-rank)*p[i]))
		corrected[i] = least
	}
	return corrected
}
