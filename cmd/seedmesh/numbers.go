package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"seedmesh/kernels"
)

const numberForms = "numbers are written 4096, 4_096, 0x1000 or 2^12"

// parseBig reads a number from 0 to 2^64, the end of the largest seed space.
// top is true for 2^64 itself, which does not fit.
func parseBig(text string) (n uint64, top bool, err error) {
	bad := &usageError{what: fmt.Sprintf("%q is not a number from 0 to 2^64", clip(text)), next: numberForms}
	digits := text
	if strings.Contains(digits, "_") {
		if strings.HasPrefix(digits, "_") || strings.HasSuffix(digits, "_") || strings.Contains(digits, "__") {
			return 0, false, bad
		}
		digits = strings.ReplaceAll(digits, "_", "")
	}
	if power, ok := strings.CutPrefix(digits, "2^"); ok {
		bits, err := parseDigits(power, 10)
		if err != nil || bits > 64 {
			return 0, false, bad
		}
		return 1 << bits, bits == 64, nil // 1<<64 is 0
	}
	base := 10
	if hex, ok := strings.CutPrefix(strings.ToLower(digits), "0x"); ok {
		digits, base = hex, 16
	}
	if base == 10 && strings.TrimLeft(digits, "0") == "18446744073709551616" || base == 16 && strings.TrimLeft(digits, "0") == "10000000000000000" {
		return 0, true, nil
	}
	n, err = parseDigits(digits, base)
	if err != nil {
		return 0, false, bad
	}
	return n, false, nil
}

// parseDigits is strconv.ParseUint without the signs.
func parseDigits(s string, base int) (uint64, error) {
	if strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, base, 64)
}

// parseNumber reads a number of at most limit. The caller says whose it is: [within].
func parseNumber(text string, limit uint64) (uint64, error) {
	n, top, err := parseBig(text)
	if err != nil {
		return 0, err
	}
	if top || n > limit {
		return 0, &usageError{what: fmt.Sprintf("%s is above the limit of %d", clip(text), limit), next: fmt.Sprintf("use %d or less", limit)}
	}
	return n, nil
}

// parseSeeds reads the half-open range A:B. B may be 2^64.
func parseSeeds(text string) (kernels.Range, error) {
	const form = "write --seeds A:B for the seeds from A on and before B, such as --seeds 0:2^32"
	a, b, ok := strings.Cut(text, ":")
	if !ok {
		return kernels.Range{}, &usageError{what: fmt.Sprintf("--seeds %q is not a range A:B", clip(text)), next: form}
	}
	first, top, err := parseBig(a)
	if err != nil {
		return kernels.Range{}, within("--seeds", err)
	}
	end, all, err := parseBig(b)
	if err != nil {
		return kernels.Range{}, within("--seeds", err)
	}
	if top || !all && end <= first {
		return kernels.Range{}, &usageError{what: fmt.Sprintf("the range --seeds %s is empty", clip(text)), next: form}
	}
	return kernels.Range{First: first, Last: end - 1}, nil // 2^64 arrives as 0
}

// parseBounds reads A:B, both ends included, or one number for just that.
func parseBounds(flag, text string) (kernels.Bounds, error) {
	a, b, ok := strings.Cut(text, ":")
	if !ok {
		b = a
	}
	low, err := parseNumber(a, math.MaxUint32)
	if err != nil {
		return kernels.Bounds{}, within("--"+flag, err)
	}
	high, err := parseNumber(b, math.MaxUint32)
	if err != nil {
		return kernels.Bounds{}, within("--"+flag, err)
	}
	return kernels.Bounds{Min: uint32(low), Max: uint32(high)}, nil
}

// count is a flag whose value is a number in any of the accepted forms.
type count struct {
	value uint64
	limit uint64
}

func (c *count) String() string { return strconv.FormatUint(c.value, 10) }
func (c *count) Type() string   { return "N" }

// Set implements pflag.Value.
func (c *count) Set(text string) error {
	n, err := parseNumber(text, c.limit)
	c.value = n
	return err
}

// big writes a large number for a person: 4.29 G.
func big(v float64) string {
	units := []struct {
		at   float64
		name string
	}{{1e18, " E"}, {1e15, " P"}, {1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}}
	for _, u := range units {
		if v >= u.at {
			return strconv.FormatFloat(v/u.at, 'f', 2, 64) + u.name
		}
	}
	if v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

// chance writes an expected number of survivors for a person.
func chance(v float64) string {
	if v == 0 || v >= 0.01 && v < 1e6 {
		return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0"), ".")
	}
	return strconv.FormatFloat(v, 'e', 1, 64)
}

// span writes a length of time for a person; less than nothing is unknown.
func span(seconds float64) string {
	switch {
	case seconds < 0 || math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return "-"
	case seconds < 10:
		return strconv.FormatFloat(seconds, 'f', 1, 64) + "s"
	case seconds < 100*365*24*3600:
		return time.Duration(math.Round(seconds) * float64(time.Second)).String()
	}
	return big(seconds/(365.25*24*3600)) + " years"
}
