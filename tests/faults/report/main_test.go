package main

import (
	"strings"
	"testing"

	"seedmesh/tests/faults"
)

func TestReport(t *testing.T) {
	records := []faults.Record{
		{Test: "A", Tier: faults.Bubble, Kind: "partition", Checks: "I1", Count: 3},
		{Test: "B", Tier: faults.Bubble, Kind: "partition", Checks: "I1", Count: 3},
		{Test: "B", Tier: faults.Bubble, Kind: "partition", Checks: "I1", Count: 1},
		{Test: "A", Tier: faults.Process, Kind: "refused writes", Seconds: 0.25},
	}
	for name, tt := range map[string]struct {
		more  []faults.Record
		least int
		err   string
	}{
		"enough":    {least: 7},
		"too few":   {least: 8, err: "only 7 faults"},
		"violation": {more: []faults.Record{{Test: "C", Tier: faults.Sim, Kind: "x", Count: 1, Failed: true}}, err: "1 tests saw"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := report(&out, append(records, tt.more...), map[faults.Tier]int{faults.Bubble: tt.least})
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("report = %v, want %q\n%s", err, tt.err, out.String())
			}
			if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), "partition bubble 7 2 I1 0") {
				t.Errorf("no row for the partitions:\n%s", out.String())
			}
		})
	}
}

// TestReportOfSeveralTiers has a p99 for both tiers together where neither has one.
func TestReportOfSeveralTiers(t *testing.T) {
	var records []faults.Record
	for i := range 120 {
		for _, tier := range []faults.Tier{faults.Bubble, faults.Process} {
			records = append(records, faults.Record{Test: "A", Tier: tier, Kind: "refused writes", Seconds: float64(i + 1)})
		}
	}
	records = append(records, faults.Record{Test: "B", Tier: faults.Bubble, Kind: "a wait", Seconds: 1})
	var out strings.Builder
	if err := report(&out, records, nil); err != nil {
		t.Fatal(err)
	}
	table := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"refused writes bubble 120 61.000 s - 120.000 s",
		"refused writes process 120 61.000 s - 120.000 s",
		"refused writes all 240 61.000 s 119.000 s 120.000 s",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(table, "a wait all") {
		t.Errorf("what one tier measured is there twice:\n%s", out.String())
	}
}
