package jobs

import (
	"fmt"
	"math/bits"
)

// Range is the units from First to Last, both included, so that all 2^64 seeds
// are one Range. It is never empty.
type Range struct{ First, Last uint64 }

// String is the half-open form A:B of the command line; the end of the 64-bit
// space is written 2^64.
func (r Range) String() string {
	if r.Last == 1<<64-1 {
		return fmt.Sprintf("%d:2^64", r.First)
	}
	return fmt.Sprintf("%d:%d", r.First, r.Last+1)
}

// Valid tells whether r has at least one unit.
func (r Range) Valid() bool { return r.First <= r.Last }

// Size is the number of units.
func (r Range) Size() Count {
	return Count{Lo: r.Last - r.First}.Add(Count{Lo: 1})
}

// Contains tells whether all of o lies in r.
func (r Range) Contains(o Range) bool { return r.First <= o.First && o.Last <= r.Last }

// follows tells whether o begins right after r.
func (r Range) follows(o Range) bool { return r.Last != 1<<64-1 && r.Last+1 == o.First }

// take splits off the first n units of r; rest is not valid when nothing is left.
func (r Range) take(n uint64) (head, rest Range, more bool) {
	if n == 0 || n-1 >= r.Last-r.First {
		return r, Range{}, false
	}
	cut := r.First + n - 1
	return Range{r.First, cut}, Range{cut + 1, r.Last}, true
}

// after is the part of r behind last.
func (r Range) after(last uint64) (Range, bool) {
	if last >= r.Last {
		return Range{}, false
	}
	return Range{last + 1, r.Last}, true
}

// Count is a number of units up to 2^128, since a job may cover the whole
// 64-bit space more than once.
type Count struct{ Hi, Lo uint64 }

// Add gives c+o.
func (c Count) Add(o Count) Count {
	lo, carry := bits.Add64(c.Lo, o.Lo, 0)
	hi, _ := bits.Add64(c.Hi, o.Hi, carry)
	return Count{hi, lo}
}

// Sub gives c-o; o must not be larger.
func (c Count) Sub(o Count) Count {
	lo, borrow := bits.Sub64(c.Lo, o.Lo, 0)
	hi, _ := bits.Sub64(c.Hi, o.Hi, borrow)
	return Count{hi, lo}
}

// Saturated is c, or 2^64-1 when c is larger.
func (c Count) Saturated() uint64 {
	if c.Hi != 0 {
		return 1<<64 - 1
	}
	return c.Lo
}

// Float is c, rounded.
func (c Count) Float() float64 { return float64(c.Hi)*(1<<64) + float64(c.Lo) }

// String is c in decimal.
func (c Count) String() string {
	if c.Hi == 0 {
		return fmt.Sprint(c.Lo)
	}
	const e19 = 10_000_000_000_000_000_000
	if c.Hi >= e19 { // 128-bit values that large do not arise from ranges
		return fmt.Sprintf("0x%x%016x", c.Hi, c.Lo)
	}
	q, r := bits.Div64(c.Hi, c.Lo, e19)
	return fmt.Sprintf("%d%019d", q, r)
}

// Account says which units were really visited: how many, their sum and their
// sum of squares, all modulo 2^64. The ledger compares an executor's account
// with the closed form of the range that it claims to have done.
type Account struct{ Count, Sum, SumSq uint64 }

// Add joins the accounts of two disjoint sets.
func (a Account) Add(b Account) Account {
	return Account{a.Count + b.Count, a.Sum + b.Sum, a.SumSq + b.SumSq}
}

// Sub takes the account of a subset away.
func (a Account) Sub(b Account) Account {
	return Account{a.Count - b.Count, a.Sum - b.Sum, a.SumSq - b.SumSq}
}

// AccountOf is what visiting every unit of r exactly once gives.
func AccountOf(r Range) Account {
	a := Account{r.Last - r.First + 1, sumTo(r.Last), sumSqTo(r.Last)}
	if r.First > 0 {
		a.Sum -= sumTo(r.First - 1)
		a.SumSq -= sumSqTo(r.First - 1)
	}
	return a
}

// sumTo is 0+1+...+n modulo 2^64: the even one of n and n+1 is halved first.
func sumTo(n uint64) uint64 {
	if n%2 == 0 {
		return n / 2 * (n + 1)
	}
	return n * (n/2 + 1)
}

// sumSqTo is 0+1+4+...+n*n modulo 2^64. n(n+1)(2n+1)/6 is sumTo(n)(2n+1)/3, and
// dividing a multiple of 3 is multiplying by the inverse of 3 modulo 2^64.
func sumSqTo(n uint64) uint64 {
	const inverse3 = 0xAAAAAAAAAAAAAAAB
	return sumTo(n) * (2*n + 1) * inverse3
}
