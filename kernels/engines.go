package kernels

// An engine is a generator written down plainly: the state of a seed, and one
// output after the other.
type engine interface {
	seed(seed uint64)
	next() uint64
}

// stepped is the stream of an engine, which skips by stepping.
type stepped struct{ engine }

func (g stepped) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g stepped) fill(dst []uint64) {
	for i := range dst {
		dst[i] = g.next()
	}
}

// plain opens the stream of an engine whose zero value can be seeded.
func plain[E any, P interface {
	*E
	engine
}]() stream {
	return stepped{P(new(E))}
}

// readAhead is how many outputs an [outputs] takes from its stream at a time.
const readAhead = 16

// outputs reads a stream one output at a time.
type outputs struct {
	from stream
	have [readAhead]uint64
	at   int
}

func (o *outputs) seed(seed uint64) {
	o.from.seed(seed)
	o.at = readAhead
}

func (o *outputs) next() uint64 {
	if o.at == readAhead {
		o.from.fill(o.have[:])
		o.at = 0
	}
	v := o.have[o.at]
	o.at++
	return v
}

// A call is a library's function that takes as many outputs as it needs and
// gives one result.
type call func(o *outputs) uint64

// calling is the engine whose outputs are the results of a call.
type calling struct {
	outputs
	call call
}

func (c *calling) next() uint64 { return c.call(&c.outputs) }

// results opens the stream of a call's results over the outputs of a generator.
func results(of func() stream, c call) func() stream {
	return func() stream { return stepped{&calling{outputs{from: of()}, c}} }
}

// mapped is a stream whose outputs each give one value.
type mapped struct {
	stream
	value func(output uint64) uint64
}

func (m mapped) fill(dst []uint64) {
	m.stream.fill(dst)
	for i, v := range dst {
		dst[i] = m.value(v)
	}
}

// The calls that several languages share.

// twoWords is the 64-bit number whose low half comes first.
func twoWords(o *outputs) uint64 {
	low := o.next()
	return o.next()<<32 | low
}

// double53 is the numerator of a double below 1 made of two 32-bit outputs.
func double53(o *outputs) uint64 {
	high := o.next() >> 5
	return high<<26 | o.next()>>6
}

// maskedBelow is the low bits of the first output in which they are below n.
func maskedBelow(n, mask uint64) call {
	return func(o *outputs) uint64 {
		for {
			if v := o.next() & mask; v < n {
				return v
			}
		}
	}
}
