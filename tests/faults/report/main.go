// Command report prints the records that tests left behind as two tables: the
// faults with what was checked after them, and how long things took, in each tier
// and in all of them together. It exits with 1 when an invariant did not hold, or
// when fewer faults landed than asked.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"seedmesh/tests/faults"
)

func main() {
	bubble := flag.Int("bubble", 0, "least number of faults in bubbles")
	process := flag.Int("process", 0, "least number of faults of real processes")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: report [-bubble N] [-process N] FILE")
		os.Exit(2)
	}
	records, err := read(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := report(os.Stdout, records, map[faults.Tier]int{faults.Bubble: *bubble, faults.Process: *process}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(path string) ([]faults.Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []faults.Record
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r faults.Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, len(all)+1, err)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

// row is one kind of fault in one tier.
type row struct {
	tier         faults.Tier
	kind, checks string
	landed       int
	tests        map[string]bool // by name: whether an invariant did not hold
}

func (r row) violations() (count int) {
	for _, failed := range r.tests {
		if failed {
			count++
		}
	}
	return count
}

// fewestForP99 is how many samples have a p99; of fewer the longest tells.
const fewestForP99 = 200

// report prints both tables. Its error says what was violated or is missing.
func report(out io.Writer, records []faults.Record, least map[faults.Tier]int) error {
	rows, times := tally(records)
	w := new(bytes.Buffer)
	fmt.Fprintln(w, "FAULT\tTIER\tLANDED\tTESTS\tCHECKED\tVIOLATIONS")
	total, violations := map[faults.Tier]int{}, 0
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%d\n", r.kind, r.tier, r.landed, len(r.tests), r.checks, r.violations())
		total[r.tier] += r.landed
		violations += r.violations()
	}
	for _, tier := range []faults.Tier{faults.Sim, faults.Bubble, faults.Process} {
		if total[tier] > 0 {
			fmt.Fprintf(w, "all\t%s\t%d\t\t\t\n", tier, total[tier])
		}
	}
	if len(times) > 0 {
		fmt.Fprintln(w, "\nMEASURED\tTIER\tSAMPLES\tP50\tP99\tMAX")
	}
	for _, t := range times {
		p99 := "-"
		if len(t.seconds) >= fewestForP99 {
			p99 = fmt.Sprintf("%.3f s", quantile(t.seconds, 0.99))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.3f s\t%s\t%.3f s\n", t.what, t.tier, len(t.seconds), quantile(t.seconds, 0.5), p99, t.seconds[len(t.seconds)-1])
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := w.WriteTo(table); err != nil {
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if violations > 0 {
		return fmt.Errorf("%d tests saw an invariant violated", violations)
	}
	for _, tier := range []faults.Tier{faults.Bubble, faults.Process} {
		if total[tier] < least[tier] {
			return fmt.Errorf("only %d faults landed in tier %s, %d were asked for", total[tier], tier, least[tier])
		}
	}
	return nil
}

// timing is the sorted values of one measurement.
type timing struct {
	what    string
	tier    faults.Tier
	seconds []float64
}

// allTiers stands for what was measured in more than one.
const allTiers faults.Tier = "all"

func tally(records []faults.Record) (rows []row, times []timing) {
	for _, r := range records {
		if r.Count == 0 {
			i := slices.IndexFunc(times, func(t timing) bool { return t.what == r.Kind && t.tier == r.Tier })
			if i < 0 {
				i = len(times)
				times = append(times, timing{what: r.Kind, tier: r.Tier})
			}
			times[i].seconds = append(times[i].seconds, r.Seconds)
			continue
		}
		i := slices.IndexFunc(rows, func(o row) bool { return o.tier == r.Tier && o.kind == r.Kind && o.checks == r.Checks })
		if i < 0 {
			i = len(rows)
			rows = append(rows, row{tier: r.Tier, kind: r.Kind, checks: r.Checks, tests: map[string]bool{}})
		}
		rows[i].landed += r.Count
		rows[i].tests[r.Test] = rows[i].tests[r.Test] || r.Failed
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.kind, b.kind)) })
	slices.SortFunc(times, func(a, b timing) int { return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.tier, b.tier)) })
	times = withAll(times)
	for _, t := range times {
		slices.Sort(t.seconds)
	}
	return rows, times
}

// withAll adds, behind the tiers of what was measured in several, all of them together.
func withAll(sorted []timing) (times []timing) {
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && sorted[n].what == sorted[0].what {
			n++
		}
		times = append(times, sorted[:n]...)
		if n > 1 {
			all := timing{what: sorted[0].what, tier: allTiers}
			for _, t := range sorted[:n] {
				all.seconds = append(all.seconds, t.seconds...)
			}
			times = append(times, all)
		}
		sorted = sorted[n:]
	}
	return times
}

// quantile is the value at a share of a sorted list.
func quantile(sorted []float64, share float64) float64 {
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}
