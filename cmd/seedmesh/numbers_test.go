package main

import (
	"fmt"
	"math"
	"testing"

	"seedmesh/kernels"
)

func TestParseSeeds(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want kernels.Range
		bad  bool
	}{
		"plain":             {in: "0:10", want: kernels.Range{First: 0, Last: 9}},
		"powers":            {in: "2^4:2^32", want: kernels.Range{First: 16, Last: 1<<32 - 1}},
		"whole space":       {in: "0:2^64", want: kernels.Range{First: 0, Last: math.MaxUint64}},
		"end in decimal":    {in: "5:18446744073709551616", want: kernels.Range{First: 5, Last: math.MaxUint64}},
		"end in hex":        {in: "0:0x1_0000_0000_0000_0000", want: kernels.Range{First: 0, Last: math.MaxUint64}},
		"last seed alone":   {in: "18446744073709551615:2^64", want: kernels.Range{First: math.MaxUint64, Last: math.MaxUint64}},
		"underscores":       {in: "1_000:0xff_ff", want: kernels.Range{First: 1000, Last: 0xfffe}},
		"leading zeros":     {in: "010:0x011", want: kernels.Range{First: 10, Last: 16}},
		"empty":             {in: "5:5", bad: true},
		"backwards":         {in: "6:5", bad: true},
		"starts at the end": {in: "2^64:2^64", bad: true},
		"one number":        {in: "5", bad: true},
		"no start":          {in: ":5", bad: true},
		"no end":            {in: "5:", bad: true},
		"three":             {in: "1:2:3", bad: true},
		"sign":              {in: "-1:5", bad: true},
		"plus":              {in: "+1:5", bad: true},
		"beyond 2^64":       {in: "0:2^65", bad: true},
		"above 2^64":        {in: "0:18446744073709551617", bad: true},
		"odd underscores":   {in: "0:1__0", bad: true},
		"spaces":            {in: "0: 5", bad: true},
		"fraction":          {in: "0:1.5", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseSeeds(tt.in)
			if (err != nil) != tt.bad || err == nil && got != tt.want {
				t.Errorf("parseSeeds(%q) = %v, %v, want %v, bad %v", tt.in, got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestParseBounds(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want kernels.Bounds
		bad  bool
	}{
		"one number is just that": {in: "3", want: kernels.Bounds{Min: 3, Max: 3}},
		"both ends included":      {in: "0:16", want: kernels.Bounds{Min: 0, Max: 16}},
		"a power":                 {in: "0:2^10", want: kernels.Bounds{Min: 0, Max: 1024}},
		"too large":               {in: "0:2^32", bad: true},
		"nothing":                 {in: "", bad: true},
		"half":                    {in: "3:", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseBounds("skip", tt.in)
			if (err != nil) != tt.bad || err == nil && got != tt.want {
				t.Errorf("parseBounds(%q) = %v, %v, want %v, bad %v", tt.in, got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestForPeople(t *testing.T) {
	for got, want := range map[string]string{
		big(0):               "0",
		big(999):             "999",
		big(4294967296):      "4.29 G",
		chance(0):            "0",
		chance(0.1):          "0.1",
		chance(42.5):         "42.5",
		chance(1.5e-9):       "1.5e-09",
		span(-1):             "-",
		span(1.25):           "1.2s",
		span(3661):           "1h1m1s",
		span(math.Inf(1)):    "-",
		span(31557600 * 1e6): "1.00 M years",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzParseSeeds reads ranges that somebody may type, and each that is read again
// in plain decimal.
func FuzzParseSeeds(f *testing.F) {
	for _, text := range []string{"0:2^64", "0x10:2^32", "1_000:1__0", "2^64:2^64", "-1:5", "18446744073709551615:18446744073709551616"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseSeeds(text)
		if err != nil {
			return
		}
		if r.Last < r.First {
			t.Fatalf("parseSeeds(%q) = %v, which is empty", text, r)
		}
		plain := fmt.Sprintf("%d:2^64", r.First)
		if r.Last != math.MaxUint64 {
			plain = fmt.Sprintf("%d:%d", r.First, r.Last+1)
		}
		if again, err := parseSeeds(plain); err != nil || again != r {
			t.Errorf("parseSeeds(%q) = %v, in decimal %v, %v", text, r, again, err)
		}
	})
}
