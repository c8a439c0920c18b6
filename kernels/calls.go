package kernels

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// The observations that are exact library calls. A call that takes an unknown
// number of outputs makes a generator of its own, whose outputs are results.

// over is a generator whose outputs are a call's results over def's.
func (d *definition) over(outputs Range, open func() stream) *definition {
	results := *d
	results.least, results.most = outputs.First, outputs.Last
	results.jumps, results.backward, results.kernel = false, nil, streamKernel{}
	results.open = open
	return &results
}

// callOf checks that a generator has a library's call.
func callOf(form string, def *definition, names ...string) error {
	if slices.Contains(names, def.Name) {
		return nil
	}
	return &SpecError{
		fmt.Sprintf("the observation %s is not one of %s", form, def.Name),
		fmt.Sprintf("use it with --generator %s", strings.Join(names, " or ")),
	}
}

// sightJava is Random.nextInt(n). For a power of two it is the high bits of one
// output.
func sightJava(def *definition, args []uint64) (sight, error) {
	if err := callOf("java.nextInt", def, javaRandomNext32.Name); err != nil {
		return sight{}, err
	}
	n := args[0]
	if n&(n-1) == 0 {
		shift := 32 - bits.TrailingZeros64(n)
		return sight{def: def, value: func(output uint64) uint64 { return output >> shift }}, nil
	}
	open := func() stream { return newJavaInts(uint32(n)) }
	return sight{def: def.over(Range{0, n - 1}, open)}, nil
}

// sightPHP is mt_rand(low, high): since 7.1 with words drawn again, before that
// and in the mode MT_RAND_PHP scaled, which never needs another word.
func sightPHP(def *definition, args []uint64) (sight, error) {
	modern := []string{phpMtRand.Name, phpRand.Name, phpMtEngine32.Name}
	legacy := []string{phpMtRandLegacy.Name, phpMtEngine32Legacy.Name}
	if err := callOf("php.mt_rand", def, slices.Concat(modern, legacy)...); err != nil {
		return sight{}, err
	}
	low, high := args[0], args[1]
	if slices.Contains(modern, def.Name) {
		return sight{def: def.over(Range{low, high}, openPHPRange(low, high))}, nil
	}
	value := phpScaled(low, high)
	if def.WidthBits == 32 {
		return sight{def: def, value: func(output uint64) uint64 { return value(output >> 1) }}, nil
	}
	return sight{def: def, value: value}, nil
}

// sightPython is randrange(n).
func sightPython(def *definition, args []uint64) (sight, error) {
	if err := callOf("python.randrange", def, pyGetrandbits32.Name); err != nil {
		return sight{}, err
	}
	n := args[0]
	return sight{def: def.over(Range{0, n - 1}, results(def.open, randrange(n)))}, nil
}

// sightV8 is Math.floor(Math.random() * n).
func sightV8(def *definition, args []uint64) (sight, error) {
	if err := callOf("v8.floor", def, v8Random52.Name); err != nil {
		return sight{}, err
	}
	return sight{def: def, value: v8Floor(args[0])}, nil
}
