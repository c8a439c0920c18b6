package kernels

// An affine step is x -> mul*x + add modulo 2^64, and therefore modulo every
// smaller power of two in the low bits.
type affine struct{ mul, add uint64 }

// then is the step that does f first and g second.
func (f affine) then(g affine) affine {
	return affine{f.mul * g.mul, f.add*g.mul + g.add}
}

// power is n times f.
func (f affine) power(n uint64) affine {
	all := affine{mul: 1}
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			all = all.then(f)
		}
		f = f.then(f)
	}
	return all
}

func (f affine) of(x uint64) uint64 { return f.mul*x + f.add }

// A leap is a power of a step that is remembered, because a search skips the
// same distance in every seed.
type leap struct {
	step affine
	n    uint64
	f    affine
}

// by is n times the step.
func (l *leap) by(step affine, n uint64) affine {
	if l.n != n || l.step != step {
		l.step, l.n, l.f = step, n, step.power(n)
	}
	return l.f
}

// mersenne31 is 2^31 - 1, the modulus of the Lehmer generators here.
const mersenne31 = 1<<31 - 1

// mod31 is x modulo 2^31 - 1, for any x.
func mod31(x uint64) uint64 {
	x = x&mersenne31 + x>>31
	x = x&mersenne31 + x>>31
	if x >= mersenne31 {
		x -= mersenne31
	}
	return x
}

// affine31 is an affine step modulo 2^31 - 1.
type affine31 struct{ mul, add uint64 }

func (f affine31) then(g affine31) affine31 {
	return affine31{mod31(f.mul * g.mul), mod31(f.add*g.mul + g.add)}
}

// power is n times f.
func (f affine31) power(n uint64) affine31 {
	all := affine31{mul: 1}
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			all = all.then(f)
		}
		f = f.then(f)
	}
	return all
}

func (f affine31) of(x uint64) uint64 { return mod31(f.mul*x + f.add) }

// leap31 is a [leap] modulo 2^31 - 1.
type leap31 struct {
	n uint64
	f affine31
}

// by is n times the step.
func (l *leap31) by(step affine31, n uint64) affine31 {
	if l.n != n || l.f.mul == 0 {
		l.n, l.f = n, step.power(n)
	}
	return l.f
}
