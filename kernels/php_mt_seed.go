package kernels

import (
	"fmt"
	"strconv"
	"strings"
)

// A PHPPattern is what the arguments of the program php_mt_seed ask for.
type PHPPattern struct {
	Draws      []Draw
	Observe    string
	Generators []string // of PHP 7.1 and later, and of PHP 5.2.1 to 7.0
	// Mixed says that the outputs come from different ranges. These can be
	// searched for PHP up to 7.0 alone: since 7.1 a call with a range may take
	// more than one output.
	Mixed bool
}

// maxPHPOutput is the largest mt_rand() without a range.
const maxPHPOutput = 1<<31 - 1

// phpPatternForm is the syntax, for error messages.
const phpPatternForm = `write MIN MAX LO HI for each output in turn, the last one also as VALUE or as MIN MAX; "0 0 0 0" is an output that is not known`

// ParsePHPPattern reads the arguments of php_mt_seed: groups of four numbers,
// one group for each output of mt_rand(), the least and the greatest value and
// the range that the call was given. The last group may be the value alone, or
// its bounds. A group whose bounds are its range says nothing about its output.
func ParsePHPPattern(text string) (PHPPattern, error) {
	var numbers []uint64
	for _, word := range strings.FieldsFunc(text, isSeparator) {
		v, err := strconv.ParseUint(word, 0, 31)
		if err != nil {
			return PHPPattern{}, &SpecError{fmt.Sprintf("%q is not a number from 0 to %d, as mt_rand() gives", clip(word), maxPHPOutput), phpPatternForm}
		}
		numbers = append(numbers, v)
	}
	if len(numbers) == 0 || len(numbers)%4 == 3 {
		return PHPPattern{}, &SpecError{fmt.Sprintf("%d numbers are not groups of four and a last group of 1, 2 or 4", len(numbers)), phpPatternForm}
	}
	var draws []Draw
	var ranges []Range
	for ; len(numbers) > 0; numbers = numbers[min(4, len(numbers)):] {
		d, r, err := phpGroup(numbers[:min(4, len(numbers))])
		if err != nil {
			return PHPPattern{}, err
		}
		draws, ranges = append(draws, d), append(ranges, r)
	}
	return phpPatternOf(draws, ranges), nil
}

// phpGroup is one output: what is known of it, and the range of its call.
func phpGroup(numbers []uint64) (Draw, Range, error) {
	low, call := numbers[0], Range{0, maxPHPOutput}
	high := low
	if len(numbers) > 1 {
		high = numbers[1]
	}
	if len(numbers) == 4 {
		call = Range{numbers[2], numbers[3]}
	}
	switch {
	case low == call.First && high == call.Last:
		return Draw{}, call, nil
	case low < call.First || high > call.Last || low > high:
		return Draw{}, call, &SpecError{fmt.Sprintf("the bounds %d and %d do not lie in the range from %d to %d", low, high, call.First, call.Last), phpPatternForm}
	}
	return Draw{Value: low, Width: high - low, Known: true}, call, nil
}

func phpPatternOf(draws []Draw, ranges []Range) PHPPattern {
	p := PHPPattern{Draws: draws, Observe: "raw", Generators: []string{phpMtRand.Name, phpMtRandLegacy.Name}}
	var one *Range
	for i := range draws {
		switch {
		case !draws[i].Known:
		case one == nil:
			one = &ranges[i]
		case *one != ranges[i]:
			p.Mixed = true
		}
	}
	switch {
	case p.Mixed:
		p.Generators = p.Generators[1:]
		for i, d := range draws {
			if d.Known {
				p.Draws[i] = phpOutputs(d, ranges[i])
			}
		}
	case one != nil && *one != Range{0, maxPHPOutput}:
		p.Observe = fmt.Sprintf("php.mt_rand:%d:%d", one.First, one.Last)
	}
	return p
}

// phpOutputs are the outputs without a range that the legacy scaling turns into
// a draw.
func phpOutputs(d Draw, call Range) Draw {
	v := sight{def: &phpMtRandLegacy, value: phpScaled(call.First, call.Last)}
	p := v.point(0, d)
	return Draw{Value: p.value, Width: p.width, Known: true}
}
