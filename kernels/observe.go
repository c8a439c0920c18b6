package kernels

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// An observation is the mapping from an output to the value that somebody saw:
// the output modulo M, or with M = 0 the whole output.
type observation struct{ modulus uint64 }

// observeForms is what an observation may look like, for error messages.
const observeForms = "mod:M with M from 2 to 2^64-1, or raw"

// parseObserve reads "raw" or "mod:M"; M may be written 2^N.
func parseObserve(text string) (observation, error) {
	if text == "raw" {
		return observation{}, nil
	}
	digits, ok := strings.CutPrefix(text, "mod:")
	if !ok {
		return observation{}, &SpecError{
			What: fmt.Sprintf("the observation %q is unknown", clip(text)),
			Do:   "use " + observeForms,
		}
	}
	m, err := strconv.ParseUint(digits, 10, 64)
	if power, found := strings.CutPrefix(digits, "2^"); found {
		var n uint64
		n, err = strconv.ParseUint(power, 10, 6)
		m = 1 << n
	}
	if err != nil || m < 2 {
		return observation{}, &SpecError{
			What: fmt.Sprintf("the modulus %q of the observation is not a number from 2 to 2^64-1", clip(digits)),
			Do:   "use " + observeForms,
		}
	}
	return observation{m}, nil
}

// String is the canonical form that [parseObserve] reads.
func (o observation) String() string {
	if o.modulus == 0 {
		return "raw"
	}
	return "mod:" + strconv.FormatUint(o.modulus, 10)
}

// of is the observed value of one output.
func (o observation) of(output uint64) uint64 {
	if o.modulus == 0 {
		return output
	}
	return output % o.modulus
}

// reduce replaces outputs, none of them above most, by their observed values.
func (o observation) reduce(outputs []uint64, most uint64) {
	m := o.modulus
	switch {
	case m == 0 || most < m:
		return
	case most <= 1<<32-1:
		inverse := (1<<64-1)/m + 1
		for i, v := range outputs {
			outputs[i], _ = bits.Mul64(inverse*v, m)
		}
	default:
		for i, v := range outputs {
			outputs[i] = v % m
		}
	}
}

// chance is the probability that a uniform output in the range of outputs is
// observed as value.
func (o observation) chance(value uint64, outputs Range) float64 {
	size := outputs.Size()
	switch {
	case o.modulus == 0 && outputs.First <= value && value <= outputs.Last:
		return 1 / size
	case o.modulus == 0 || value >= o.modulus:
		return 0
	}
	return float64(o.upTo(value, outputs.Last)-o.below(value, outputs.First)) / size
}

// upTo is how many of the outputs 0 to last are observed as value.
func (o observation) upTo(value, last uint64) uint64 {
	if last < value {
		return 0
	}
	return (last-value)/o.modulus + 1
}

// below is how many of the outputs before first are observed as value.
func (o observation) below(value, first uint64) uint64 {
	if first == 0 {
		return 0
	}
	return o.upTo(value, first-1)
}

// A matcher tests outputs for one draw without a division: v is observed as
// value exactly when (v-value)*inverse, rotated right by shift, is at most
// limit. (Granlund and Montgomery 1994; the limit also excludes v < value.)
type matcher struct {
	value, inverse, limit uint64
	shift                 int
}

func (o observation) matcher(value uint64) matcher {
	if o.modulus == 0 {
		return matcher{value: value, inverse: 1}
	}
	shift := bits.TrailingZeros64(o.modulus)
	odd := o.modulus >> shift
	inverse := odd // right in the low 3 bits; each round doubles them
	for range 5 {
		inverse *= 2 - odd*inverse
	}
	return matcher{value, inverse, (1<<64 - 1 - value) / o.modulus, shift}
}

// any reports whether one of the outputs matches.
func (m *matcher) any(outputs []uint64) bool {
	value, inverse, shift := m.value, m.inverse, -m.shift
	least := uint64(1<<64 - 1)
	for _, v := range outputs {
		least = min(least, bits.RotateLeft64((v-value)*inverse, shift))
	}
	return least <= m.limit
}
