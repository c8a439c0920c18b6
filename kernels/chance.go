package kernels

import "math"

// Expected is how many of so many wrong seeds survive the search by chance.
// Each seed has skips*offsets tries, and each try passes when at least Need of
// the Known draws match, every one with the probability that a uniform output
// matches it (averaged over the draws). With a variable skip the tries are the
// offsets under each strategy. What survivors must pass besides is counted as
// docs/SIEVE.md says.
func Expected(s *Search, seeds float64) float64 {
	if s.analysis != nil { // at most: the correction within a seed is a bound
		return seeds * s.analysis.MaxP
	}
	return math.Exp(s.logSurvival() + math.Log(seeds))
}

// logSurvival is the logarithm of the probability that a wrong seed survives.
func (s *Search) logSurvival() float64 {
	alone := s.logPasses()
	switch s.confirmation {
	case anew: // who passes the one test is likelier to pass the other
		return min(alone, s.confirm.logPasses())
	case besides:
		return alone + s.confirm.logPasses()
	case heldOut: // one try, at the skip and offset that are the best already
		return alone + logBinomialTail(len(s.confirm.points), s.confirm.need, s.confirm.matchChance())
	}
	return alone
}

// logPasses is the logarithm of the probability that a wrong seed passes the
// search's own test.
func (s *Search) logPasses() float64 {
	p := s.matchChance()
	if s.strategies == nil {
		tail := logBinomialTail(len(s.points), s.need, p)
		return logSome(tail, float64(s.skips())*float64(s.offset.Count()))
	}
	none := 0.0 // logarithm of the probability that every strategy fails
	for _, t := range s.strategies {
		none += math.Log1p(-math.Exp(logSome(t.logPasses(len(s.points), s.need, p), float64(s.offset.Count()))))
	}
	return math.Log(-math.Expm1(none))
}

// logSome is the logarithm of the probability that at least one of so many
// tries succeeds, given the logarithm of the probability for each.
func logSome(each, tries float64) float64 {
	if each < -600 {
		return each + math.Log(tries) // log1p would see 0
	}
	return math.Log(-math.Expm1(tries * math.Log1p(-math.Exp(each))))
}

// matchChance is the probability that a uniform output matches a known draw,
// averaged over the draws.
func (s *Search) matchChance() float64 {
	var p float64
	for _, d := range s.points {
		p += s.observe.chance(d, s.def.outputs())
	}
	return p / float64(len(s.points))
}

// Indistinguishable reports that a search cannot tell a true seed from chance:
// more than one chance survivor is expected, and more than a tenth of what was
// found.
func Indistinguishable(expected float64, found uint64) bool {
	return expected > 1 && expected > float64(found)/10
}

// logBinomialTail is the logarithm of P[Binomial(n, p) >= need].
func logBinomialTail(n, need int, p float64) float64 {
	switch {
	case need <= 0 || p >= 1:
		return 0
	case p <= 0:
		return math.Inf(-1)
	}
	if float64(need) <= float64(n)*p { // the tail is most of it: sum the rest
		return math.Log1p(-math.Exp(sumTerms(n, need-1, -1, p)))
	}
	return min(0, sumTerms(n, need, +1, p))
}

// sumTerms is the logarithm of the binomial probabilities of i, i+step, ... to
// the end, where they fall.
func sumTerms(n, i, step int, p float64) float64 {
	odds := p / (1 - p)
	lead := logTerm(n, i, p)
	sum, term := 1.0, 1.0
	for term > sum*1e-18 {
		if step > 0 {
			term *= float64(n-i) / float64(i+1) * odds
		} else {
			term *= float64(i) / float64(n-i+1) / odds
		}
		sum += term
		i += step
	}
	return lead + math.Log(sum)
}

// logTerm is the logarithm of P[Binomial(n, p) = i].
func logTerm(n, i int, p float64) float64 {
	return logFactorial(n) - logFactorial(i) - logFactorial(n-i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p)
}

func logFactorial(n int) float64 {
	v, _ := math.Lgamma(float64(n) + 1)
	return v
}
