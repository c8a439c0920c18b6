package kernels

import "fmt"

// backwards is the generator whose outputs are those before a seed's first one,
// the nearest first.
func (d *definition) backwards() (*definition, error) {
	if d.backward == nil {
		return nil, &SpecError{
			fmt.Sprintf("%s cannot be searched backwards: its states are not its seeds", d.Name),
			"use --direction forward; seedmesh generators --json says which can",
		}
	}
	back := *d
	back.leadSkip = false
	back.jumps, back.kernel = false, streamKernel{}
	back.open = func() stream { return d.backward() }
	return &back, nil
}

// origin is the seed whose first output is a survivor's first draw.
func (v *sieve) origin(survivor Survivor) uint64 {
	back := v.search.def.open().(backStream)
	back.seed(survivor.Seed)
	window := uint64(v.search.draws-1)*(uint64(survivor.Skip)+1) + 1
	v.discard(back, uint64(survivor.Offset)+window)
	return back.at()
}

// A rewinder runs a generator of one word backwards.
type rewinder struct {
	state uint64
	// start is the state of a seed, and seedOf the seed of a state.
	start, seedOf func(uint64) uint64
	// before gives the state before one, and the output between the two.
	before func(state uint64) (earlier, output uint64)
}

func (r *rewinder) seed(seed uint64) { r.state = r.start(seed) }
func (r *rewinder) at() uint64       { return r.seedOf(r.state) }

func (r *rewinder) skip(n uint64) {
	for range n {
		r.state, _ = r.before(r.state)
	}
}

func (r *rewinder) fill(dst []uint64) {
	for i := range dst {
		r.state, dst[i] = r.before(r.state)
	}
}

func itself(v uint64) uint64 { return v }

func low32(v uint64) uint64 { return v & (1<<32 - 1) }

// weylBack is a generator that counts by a gap and mixes the count.
func weylBack(gap uint64, mix func(uint64) uint64) backStream {
	return &rewinder{start: itself, seedOf: itself, before: func(state uint64) (earlier, output uint64) {
		return state - gap, mix(state)
	}}
}

// unshiftLeft undoes x ^= x << n.
func unshiftLeft(v uint64, n int) uint64 {
	x := v
	for range 64 / n {
		x = v ^ x<<n
	}
	return x
}

// unshiftRight undoes x ^= x >> n.
func unshiftRight(v uint64, n int) uint64 {
	x := v
	for range 64 / n {
		x = v ^ x>>n
	}
	return x
}
