package kernels

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// An observation is the mapping from a generator's outputs to the values that
// somebody saw, as a user names it: a form and its numbers.
type observation struct {
	form *observeForm
	args []uint64
}

// An observeForm is one kind of observation.
type observeForm struct {
	name string // what stands before the first colon
	args string // the names of its numbers, as messages show them
	// limits bounds each number, both ends included.
	limits []Range
	// values are those that can be seen.
	values func(args []uint64) Range
	// sight is the observation of one generator.
	sight func(def *definition, args []uint64) (sight, error)
	// call says that a value is the result of a call, which may take several
	// outputs.
	call bool
}

// observeForms are what an observation may be, in the order of messages.
var observeForms = []*observeForm{
	{name: "mod", args: "M", limits: []Range{{2, 1<<64 - 1}}, values: belowFirst, sight: sightModulo},
	{name: "raw", values: anyNumber, sight: sightRaw},
	{name: "top", args: "B", limits: []Range{{1, 64}}, values: ofBits, sight: sightTop},
	{name: "scale", args: "N", limits: []Range{{2, 1<<64 - 1}}, values: belowFirst, sight: sightScaled},
	{name: "range", args: "LO:HI", limits: []Range{{0, 1<<64 - 1}, {0, 1<<64 - 1}}, values: zeroOrOne, sight: sightInside},
	{name: "java.nextInt", args: "N", limits: []Range{{2, 1<<31 - 1}}, values: belowFirst, sight: sightJava, call: true},
	{name: "php.mt_rand", args: "LO:HI", limits: []Range{{0, 1<<32 - 1}, {0, 1<<32 - 1}}, values: fromTo, sight: sightPHP, call: true},
	{name: "python.randrange", args: "N", limits: []Range{{2, 1<<64 - 1}}, values: belowFirst, sight: sightPython, call: true},
	{name: "v8.floor", args: "N", limits: []Range{{2, 1 << 52}}, values: belowFirst, sight: sightV8},
}

func belowFirst(args []uint64) Range { return Range{0, args[0] - 1} }
func anyNumber([]uint64) Range       { return Range{0, 1<<64 - 1} }
func ofBits(args []uint64) Range     { return Range{0, maxOfBits(int(args[0]))} }
func zeroOrOne([]uint64) Range       { return Range{0, 1} }
func fromTo(args []uint64) Range     { return Range{args[0], args[1]} }

// observeHelp lists the forms, for error messages.
func observeHelp() string {
	var names []string
	for _, f := range observeForms {
		names = append(names, f.String())
	}
	last := len(names) - 1
	return "use " + strings.Join(names[:last], ", ") + " or " + names[last]
}

func (f *observeForm) String() string {
	if f.args == "" {
		return f.name
	}
	return f.name + ":" + f.args
}

// parseObserve reads an observation; its numbers may be written 2^N.
func parseObserve(text string) (observation, error) {
	name, rest, _ := strings.Cut(text, ":")
	i := slices.IndexFunc(observeForms, func(f *observeForm) bool { return f.name == name })
	if i < 0 {
		return observation{}, &SpecError{fmt.Sprintf("the observation %q is unknown", clip(text)), observeHelp()}
	}
	o := observation{form: observeForms[i]}
	var parts []string
	if rest != "" || strings.HasSuffix(text, ":") {
		parts = strings.Split(rest, ":")
	}
	wrong := &SpecError{fmt.Sprintf("the observation %q does not have the form %s", clip(text), o.form), observeHelp()}
	if len(parts) != len(o.form.limits) {
		return observation{}, wrong
	}
	for i, limit := range o.form.limits {
		v, err := parseObserveNumber(parts[i])
		if err != nil {
			return observation{}, wrong
		}
		if v < limit.First || v > limit.Last {
			return observation{}, &SpecError{
				fmt.Sprintf("the number %d of the observation %q is not from %d to %d", v, clip(text), limit.First, limit.Last), observeHelp(),
			}
		}
		o.args = append(o.args, v)
	}
	if len(o.args) == 2 && (o.args[0] > o.args[1] || o.args[1]-o.args[0] == 1<<64-1) {
		return observation{}, &SpecError{
			fmt.Sprintf("the observation %q does not divide the outputs", clip(text)), "write the smaller number first: " + o.form.String(),
		}
	}
	return o, nil
}

func parseObserveNumber(text string) (uint64, error) {
	power, found := strings.CutPrefix(text, "2^")
	if !found {
		return strconv.ParseUint(text, 10, 64)
	}
	n, err := strconv.ParseUint(power, 10, 6)
	return 1 << n, err
}

// String is the canonical form that [parseObserve] reads.
func (o observation) String() string {
	text := o.form.name
	for _, v := range o.args {
		text += ":" + strconv.FormatUint(v, 10)
	}
	return text
}

// values are those that can be seen.
func (o observation) values() Range { return o.form.values(o.args) }

// on is the observation of one generator. A library's call that the generator
// does not have gives a [*SpecError].
func (o observation) on(def *definition) (sight, error) { return o.form.sight(def, o.args) }

// A sight is an observation of one generator's outputs.
type sight struct {
	// def is the generator, or the results of a library's calls over it.
	def *definition
	// reduce is applied to every output before it is compared.
	reduce reduction
	// value is what is seen of an output where reduce does nothing; it never
	// falls while the output rises. nil: the output itself.
	value func(output uint64) uint64
	// inside, when it is not nil, are the outputs that are seen as 1.
	inside *Range
}

// see is the observed value of one output.
func (v *sight) see(output uint64) uint64 {
	switch {
	case v.inside != nil && v.inside.First <= output && output <= v.inside.Last:
		return 1
	case v.inside != nil:
		return 0
	case v.value != nil:
		return v.value(output)
	}
	return v.reduce.of(output)
}

// point is the comparison that a known draw asks for at a place of the window.
func (v *sight) point(index uint64, d Draw) point {
	low, high := d.Value, d.Value+d.Width
	if d.Whole {
		low = v.see(d.Value)
		high = low
	}
	p := point{index: index, value: low, width: high - low}
	outputs := v.def.outputs()
	switch {
	case v.inside != nil && low < high:
		p.value, p.width = 0, 1<<64-1
	case v.inside != nil && low == 1:
		p.value, p.width = v.inside.First, v.inside.Last-v.inside.First
	case v.inside != nil: // around the end of all numbers
		p.value, p.width = v.inside.Last+1, v.inside.First-v.inside.Last-2
	case v.value != nil:
		first, some := firstOf(outputs, func(output uint64) bool { return v.value(output) >= low })
		if !some || v.value(first) > high {
			return point{index: index, value: outputs.Last + 1} // no output is seen so
		}
		last := outputs.Last
		if beyond, some := firstOf(outputs, func(output uint64) bool { return v.value(output) > high }); some {
			last = beyond - 1
		}
		p.value, p.width = first, last-first
	}
	return p
}

// firstOf is the first number of a range for which is holds, when it holds for
// every number after that too.
func firstOf(r Range, is func(uint64) bool) (first uint64, some bool) {
	if !is(r.Last) {
		return 0, false
	}
	low, high := r.First, r.Last
	for low < high {
		middle := low + (high-low)/2
		if is(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, true
}

func sightRaw(def *definition, _ []uint64) (sight, error) { return sight{def: def}, nil }

func sightModulo(def *definition, args []uint64) (sight, error) {
	return sight{def: def, reduce: reduction{args[0]}}, nil
}

func sightTop(def *definition, args []uint64) (sight, error) {
	shift := def.WidthBits - int(args[0])
	if shift < 0 {
		return sight{}, &SpecError{
			fmt.Sprintf("the top %d bits were asked for, and the outputs of %s have %d", args[0], def.Name, def.WidthBits),
			fmt.Sprintf("use --observe top:%d or less", def.WidthBits),
		}
	}
	return sight{def: def, value: func(output uint64) uint64 { return output >> shift }}, nil
}

func sightScaled(def *definition, args []uint64) (sight, error) {
	shift := 64 - def.WidthBits
	return sight{def: def, value: func(output uint64) uint64 {
		scaled, _ := bits.Mul64(output<<shift, args[0])
		return scaled
	}}, nil
}

func sightInside(def *definition, args []uint64) (sight, error) {
	return sight{def: def, inside: &Range{args[0], args[1]}}, nil
}

// A reduction is what is done to outputs before they are compared: the rest
// modulo a number, or with modulus 0 nothing.
type reduction struct{ modulus uint64 }

// of is the reduced value of one output.
func (o reduction) of(output uint64) uint64 {
	if o.modulus == 0 {
		return output
	}
	return output % o.modulus
}

// reduce replaces outputs, none of them above most, by their reduced values.
func (o reduction) reduce(outputs []uint64, most uint64) {
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

// chance is the probability that a uniform output in the range of outputs
// matches a point.
func (o reduction) chance(p point, outputs Range) float64 {
	matching := o.upTo(p, outputs.Last)
	if outputs.First > 0 {
		matching -= o.upTo(p, outputs.First-1)
	}
	return max(0, matching) / outputs.Size()
}

// upTo is how many of the outputs 0 to last match a point.
func (o reduction) upTo(p point, last uint64) float64 {
	if o.modulus == 0 {
		return float64(overlap(p, last))
	}
	cycles := float64(last / o.modulus)
	return float64(cycles*(float64(p.width)+1)) + float64(overlap(p, last%o.modulus))
}

// overlap is how many of the numbers 0 to last lie in a point's interval, which
// may go around the end of all numbers. It is 2^64-1 for all 2^64.
func overlap(p point, last uint64) uint64 {
	end := p.value + p.width
	if end < p.value {
		head := point{value: 0, width: end}
		tail := point{value: p.value, width: 1<<64 - 1 - p.value}
		return addSat(overlap(head, last), overlap(tail, last))
	}
	if last < p.value {
		return 0
	}
	return addSat(min(end, last)-p.value, 1)
}

// A matcher tests outputs for one draw without a division: v is reduced to
// value exactly when (v-value)*inverse, rotated right by shift, is at most
// limit. (Granlund and Montgomery 1994; the limit also excludes v < value.)
// Without a modulus the limit is the interval's width.
type matcher struct {
	value, inverse, limit uint64
	shift                 int
	reduce                reduction // of intervals of residues, which have no such test and no inverse
}

func (o reduction) matcher(p point) matcher {
	switch {
	case o.modulus == 0:
		return matcher{value: p.value, inverse: 1, limit: p.width}
	case p.width > 0:
		return matcher{value: p.value, limit: p.width, reduce: o}
	}
	shift := bits.TrailingZeros64(o.modulus)
	odd := o.modulus >> shift
	return matcher{value: p.value, inverse: inverseOf(odd), limit: (1<<64 - 1 - p.value) / o.modulus, shift: shift}
}

// anyReduced is any for an interval of residues, which has no inverse.
func (m *matcher) anyReduced(outputs []uint64) bool {
	return slices.ContainsFunc(outputs, func(v uint64) bool { return m.reduce.of(v)-m.value <= m.limit })
}

// any reports whether one of the outputs matches, for a matcher with an inverse.
// It is small enough to become a part of the innermost loop.
func (m *matcher) any(outputs []uint64) bool {
	value, inverse, shift := m.value, m.inverse, -m.shift
	least := uint64(1<<64 - 1)
	for _, v := range outputs {
		least = min(least, bits.RotateLeft64((v-value)*inverse, shift))
	}
	return least <= m.limit
}
