package bench

import (
	"fmt"
	"slices"
)

// A Change is a row that two reports have: the same device, generator and setting,
// as far as the setting was not chosen by the measurement.
type Change struct {
	Old, New Row
	Ratio    float64 // of the medians, new over old
	Verdict  Verdict
}

// A Verdict is what a change means.
type Verdict string

// The verdicts. Only rates whose samples do not overlap are held for different.
const (
	Same   Verdict = "same" // within the samples' spread
	Faster Verdict = "faster"
	Slower Verdict = "slower"
	Failed Verdict = "failed" // one of the two has no figures
)

// Differences says what two reports do not have in common, so that their figures
// cannot be held against each other as they stand.
func Differences(old, now *Report) (list []string) {
	for _, d := range []struct{ what, old, now string }{
		{"the question", fmt.Sprintf("%+v", old.Question), fmt.Sprintf("%+v", now.Question)},
		{"the machine", fmt.Sprintf("%+v", old.Machine), fmt.Sprintf("%+v", now.Machine)},
	} {
		if d.old != d.now {
			list = append(list, fmt.Sprintf("%s differs: it was %s, and is %s", d.what, d.old, d.now))
		}
	}
	for _, o := range old.Rows {
		same := func(n Row) bool {
			return n.Device == o.Device && n.Driver != o.Driver && n.Driver != "" && o.Driver != ""
		}
		if i := slices.IndexFunc(now.Rows, same); i >= 0 {
			text := fmt.Sprintf("the driver of %s differs: it was %s, and is %s", o.Device, o.Driver, now.Rows[i].Driver)
			if !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list
}

// Compare pairs the rows of two reports. lone are the rows of the new one that
// the old one does not have.
func Compare(old, now *Report) (changes []Change, lone []Row) {
	swept := old.Envelope != nil && now.Envelope != nil && old.Envelope.Parameter == "chunk" && now.Envelope.Parameter == "chunk"
	for _, n := range now.Rows {
		found := false
		for _, o := range old.Rows {
			if o.Device == n.Device && o.Generator == n.Generator && o.Draws == n.Draws && o.Concurrency == n.Concurrency && (!swept || o.Chunk == n.Chunk) {
				changes, found = append(changes, change(o, n)), true
				break
			}
		}
		if !found {
			lone = append(lone, n)
		}
	}
	return changes, lone
}

func change(o, n Row) Change {
	c := Change{Old: o, New: n, Verdict: Same}
	switch {
	case o.Error != "" || n.Error != "":
		c.Verdict = Failed
		return c
	case n.Least > o.Most:
		c.Verdict = Faster
	case n.Most < o.Least:
		c.Verdict = Slower
	}
	c.Ratio = n.Median / o.Median
	return c
}
