package jobs

import (
	"fmt"
	"math"
	"math/big"
	"testing"
)

const end = math.MaxUint64 // the last unit there is

func TestAccountOfIsTheSumOverTheUnits(t *testing.T) {
	for name, base := range map[string]uint64{
		"beginning":    0,
		"past 2^32":    1<<32 - 3,
		"squares wrap": 1<<33 + 5,
		"middle":       1<<63 - 10,
		"end of space": end - 39,
	} {
		t.Run(name, func(t *testing.T) {
			for first := base; first-base < 40; first++ {
				var want Account
				for last := first; last-base < 40 && last >= first; last++ {
					want = want.Add(Account{1, last, last * last})
					if got := AccountOf(Range{first, last}); got != want {
						t.Fatalf("AccountOf(%s) = %v, want %v", Range{first, last}, got, want)
					}
					if last == end {
						break
					}
				}
				if first == end {
					break
				}
			}
		})
	}
}

func TestAccountsOfPartsAddUp(t *testing.T) {
	whole := Range{0, end}
	for _, cut := range []uint64{0, 1, 2, 3, 1 << 20, 1<<32 - 1, 1<<63 - 1, 1 << 63, end - 1} {
		head, tail := AccountOf(Range{0, cut}), AccountOf(Range{cut + 1, end})
		if got, want := head.Add(tail), AccountOf(whole); got != want {
			t.Errorf("accounts of 0:%d and the rest = %v, want that of all, %v", cut+1, got, want)
		}
		if got := AccountOf(whole).Sub(head); got != tail {
			t.Errorf("AccountOf(all).Sub(0:%d) = %v, want %v", cut+1, got, tail)
		}
	}
}

func TestRangeTakeAndAfter(t *testing.T) {
	for name, tt := range map[string]struct {
		r          Range
		n          uint64
		head, rest Range
		more       bool
	}{
		"a part":               {Range{10, 19}, 4, Range{10, 13}, Range{14, 19}, true},
		"all but one":          {Range{10, 19}, 9, Range{10, 18}, Range{19, 19}, true},
		"exactly all":          {Range{10, 19}, 10, Range{10, 19}, Range{}, false},
		"more than there is":   {Range{10, 19}, 11, Range{10, 19}, Range{}, false},
		"nothing means all":    {Range{10, 19}, 0, Range{10, 19}, Range{}, false},
		"a single unit":        {Range{7, 7}, 1, Range{7, 7}, Range{}, false},
		"last unit":            {Range{end, end}, 1, Range{end, end}, Range{}, false},
		"last but one":         {Range{end - 1, end}, 1, Range{end - 1, end - 1}, Range{end, end}, true},
		"up to the end":        {Range{end - 9, end}, 10, Range{end - 9, end}, Range{}, false},
		"past the end":         {Range{end - 9, end}, end, Range{end - 9, end}, Range{}, false},
		"one of all there are": {Range{0, end}, 1, Range{0, 0}, Range{1, end}, true},
		"all there are but 1":  {Range{0, end}, end, Range{0, end - 1}, Range{end, end}, true},
	} {
		t.Run(name, func(t *testing.T) {
			head, rest, more := tt.r.take(tt.n)
			if head != tt.head || rest != tt.rest || more != tt.more {
				t.Errorf("%s.take(%d) = %s, %v, %t, want %s, %v, %t", tt.r, tt.n, head, rest, more, tt.head, tt.rest, tt.more)
			}
			if rest, more := tt.r.after(tt.head.Last); rest != tt.rest || more != tt.more {
				t.Errorf("%s.after(%d) = %v, %t, want %v, %t", tt.r, tt.head.Last, rest, more, tt.rest, tt.more)
			}
			if more && !head.follows(rest) {
				t.Errorf("%s.follows(%s) = false, want true", head, rest)
			}
		})
	}
	if (Range{5, end}).follows(Range{0, 3}) {
		t.Errorf("5:2^64 is followed by 0:4, want nothing behind the end")
	}
}

func TestRangeString(t *testing.T) {
	for want, r := range map[string]Range{"0:1": {0, 0}, "10:20": {10, 19}, "0:2^64": {0, end}, "18446744073709551614:18446744073709551615": {end - 1, end - 1}} {
		if got := r.String(); got != want {
			t.Errorf("%#v.String() = %q, want %q", r, got, want)
		}
	}
}

func TestCountAgainstBig(t *testing.T) {
	toBig := func(c Count) *big.Int {
		b := new(big.Int).SetUint64(c.Hi)
		return b.Lsh(b, 64).Or(b, new(big.Int).SetUint64(c.Lo))
	}
	parts := []uint64{0, 1, 9, 10, 1<<32 - 1, 9_999_999_999_999_999_999, 10_000_000_000_000_000_000, 1 << 63, end}
	var all []Count
	for _, lo := range parts {
		for _, hi := range []uint64{0, 1, 2, 1 << 31, 1 << 62} {
			all = append(all, Count{hi, lo})
		}
	}
	for _, a := range all {
		if got, want := a.String(), toBig(a).String(); got != want {
			t.Errorf("%#v.String() = %s, want %s", a, got, want)
		}
		if got, _ := new(big.Float).SetInt(toBig(a)).Float64(); a.Float() != got {
			t.Errorf("%s.Float() = %g, want %g", a, a.Float(), got)
		}
		if got, want := a.Saturated(), min(a.Hi, 1)*end|a.Lo; got != want {
			t.Errorf("%s.Saturated() = %d, want %d", a, got, want)
		}
		for _, b := range all {
			sum := a.Add(b)
			if got, want := sum.String(), new(big.Int).Add(toBig(a), toBig(b)).String(); got != want {
				t.Errorf("%s.Add(%s) = %s, want %s", a, b, got, want)
			}
			if got := sum.Sub(b); got != a {
				t.Errorf("%s.Sub(%s) = %s, want %s", sum, b, got, a)
			}
		}
	}
	if got := (Range{0, end}).Size(); got != (Count{1, 0}) || fmt.Sprint(got) != "18446744073709551616" {
		t.Errorf("size of the whole space = %s, want 2^64", got)
	}
}

func TestMulDiv(t *testing.T) {
	for name, tt := range map[string]struct{ a, b, c, want uint64 }{
		"exact":     {6, 7, 3, 14},
		"128 bits":  {end, 1000, 2000, end / 2},
		"too large": {end, 2, 1, end},
		"just fits": {end, 5, 5, end},
		"nothing":   {0, end, 7, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mulDiv(tt.a, tt.b, tt.c); got != tt.want {
				t.Errorf("mulDiv(%d, %d, %d) = %d, want %d", tt.a, tt.b, tt.c, got, tt.want)
			}
		})
	}
}
