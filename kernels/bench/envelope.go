package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
)

// An Envelope is a sweep of one parameter of one device and generator, whose rows
// are those of its report.
//
// A setting is stable when it ran, and its samples lie within MaxSpread of each
// other. The best one is, among the stable settings whose median is within Within
// of the best stable median, the one of the least spread.
type Envelope struct {
	Parameter string  `json:"parameter"`
	MaxSpread float64 `json:"max_spread"`
	Within    float64 `json:"within"`
	Best      int     `json:"best"` // index of the row, or -1 when none is stable
}

// longestCall is how many times the length of a sample one call may take: the sweep
// of chunks ends before larger ones.
const longestCall = 4

// Parameters that can be swept.
func Parameters() []string { return []string{"chunk", "draws", "concurrency"} }

// Of is the parameter of a row.
func (e *Envelope) Of(r Row) float64 {
	switch e.Parameter {
	case "chunk":
		return float64(r.Chunk)
	case "draws":
		return float64(r.Draws)
	}
	return float64(r.Concurrency)
}

// Stable tells whether a row counts as stable.
func (e *Envelope) Stable(r Row) bool { return r.Error == "" && r.Spread <= e.MaxSpread }

// settings are those of a sweep.
func (e *Envelope) settings(standard Setting) (list []Setting) {
	add := func(change func(*Setting)) {
		s := standard
		change(&s)
		list = append(list, s)
	}
	switch e.Parameter {
	case "chunk":
		for chunk := uint64(1 << 12); chunk <= 1<<28; chunk *= 4 {
			add(func(s *Setting) { s.Chunk = chunk })
		}
	case "draws":
		for _, n := range []int{1, 2, 5, 10, 20, 50, 100, 200, 350, 450, 550, 650, 750, 1000, 2000} {
			add(func(s *Setting) { s.Draws = n })
		}
	default:
		for n := 1; n <= 4*runtime.NumCPU(); n *= 2 {
			add(func(s *Setting) { s.Concurrency = n })
		}
	}
	return list
}

// Sweep measures the plan's one device and generator at every setting. show is
// called with each row.
func (p Plan) Sweep(ctx context.Context, e Envelope, show func(Row)) (_ *Report, err error) {
	if len(p.Devices) != 1 || len(p.Generators) != 1 {
		return nil, fmt.Errorf("bench: a sweep is of one device and one generator, not of %d and %d", len(p.Devices), len(p.Generators))
	}
	r, crew := newReport(p), newCrew(p)
	defer func() { err = errors.Join(err, crew.close()) }()
	for _, set := range e.settings(p.standard(p.Devices[0])) {
		if n := len(r.Rows); n > 1 && float64(set.Chunk) > longestCall*p.Time.Seconds()*r.Rows[n-1].Median {
			break
		}
		row, err := crew.row(ctx, order{p.Devices[0], p.Generators[0], set})
		if err != nil {
			return nil, err
		}
		r.Rows = append(r.Rows, row)
		show(row)
		if row.Generator == "" {
			break
		}
	}
	e.Best = e.best(r.Rows)
	r.Envelope = &e
	return r, nil
}

func (e *Envelope) best(rows []Row) int {
	top := 0.0
	for _, r := range rows {
		if e.Stable(r) {
			top = max(top, r.Median)
		}
	}
	var near []int
	for i, r := range rows {
		if e.Stable(r) && r.Median >= top*(1-e.Within) {
			near = append(near, i)
		}
	}
	if len(near) == 0 {
		return -1
	}
	return slices.MinFunc(near, func(a, b int) int { return cmp.Compare(rows[a].Spread, rows[b].Spread) })
}
