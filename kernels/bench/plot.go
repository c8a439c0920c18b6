package bench

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// The drawing's sizes, in pixels.
const (
	plotWidth, plotHeight = 760, 420
	plotLeft, plotRight   = 90, 24
	plotTop, plotBottom   = 48, 64
	plotTicks             = 5  // least lines of rates; there are up to ten
	plotLabel             = 34 // width of a value of the parameter
)

// Plot draws the sweep of a report as SVG: the median rate over the parameter, on
// a logarithmic axis, with a bar from the least to the most sample. The best stable
// setting is filled, unstable ones are hollow, and those that failed are crosses on
// the axis. It fails for a report without a sweep.
func (r *Report) Plot(w io.Writer) error {
	e := r.Envelope
	if e == nil || len(r.Rows) == 0 {
		return fmt.Errorf("bench: the report has no sweep to draw: make one with --envelope")
	}
	a := newAxes(r)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	text(&b, plotWidth/2, 24, "middle", fmt.Sprintf("%s on %s: seeds a second by %s", r.Rows[0].Generator, r.Rows[0].Device, e.Parameter))
	text(&b, plotWidth/2, plotHeight-30, "middle", e.Parameter+" (logarithmic)")
	text(&b, plotWidth/2, plotHeight-12, "middle", r.Machine.CPU+", "+r.At.Format("2006-01-02"))
	a.grid(&b, r)
	var line []string
	for _, row := range r.Rows {
		if row.Error == "" {
			line = append(line, fmt.Sprintf("%.1f,%.1f", a.x(e.Of(row)), a.y(row.Median)))
		}
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#888"/>`+"\n", strings.Join(line, " "))
	for i, row := range r.Rows {
		a.point(&b, e, row, i == e.Best)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// axes turn values into pixels.
type axes struct{ from, to, top float64 } // of the logarithm of the parameter; the largest rate

func newAxes(r *Report) axes {
	a := axes{from: math.Inf(1), to: math.Inf(-1)}
	for _, row := range r.Rows {
		v := math.Log(math.Max(r.Envelope.Of(row), 1))
		a.from, a.to, a.top = math.Min(a.from, v), math.Max(a.to, v), math.Max(a.top, row.Most)
	}
	if a.to == a.from {
		a.to++
	}
	if a.top == 0 {
		a.top = 1
	}
	return a
}

func (a axes) x(v float64) float64 {
	return plotLeft + (math.Log(math.Max(v, 1))-a.from)/(a.to-a.from)*(plotWidth-plotLeft-plotRight)
}

func (a axes) y(rate float64) float64 {
	return plotHeight - plotBottom - rate/a.top*(plotHeight-plotTop-plotBottom)
}

// grid draws the lines of the rates, and those values of the parameter that have room.
func (a axes) grid(b *strings.Builder, r *Report) {
	step := math.Pow(10, math.Floor(math.Log10(a.top/plotTicks)))
	for _, k := range []float64{5, 2} {
		if a.top/(step*k) >= plotTicks {
			step *= k
			break
		}
	}
	for rate := 0.0; rate <= a.top; rate += step {
		y := a.y(rate)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", plotLeft, y, plotWidth-plotRight, y)
		text(b, plotLeft-8, y+4, "end", Rate(rate))
	}
	free := 0.0
	for _, row := range r.Rows {
		v := r.Envelope.Of(row)
		if x := a.x(v); x >= free {
			text(b, x, plotHeight-plotBottom+18, "middle", count(v))
			free = x + plotLabel
		}
	}
}

// point draws one row.
func (a axes) point(b *strings.Builder, e *Envelope, r Row, best bool) {
	x := a.x(e.Of(r))
	if r.Error != "" {
		y := a.y(0)
		fmt.Fprintf(b, `<path d="M%.1f %.1fl8 8m0 -8l-8 8" stroke="#c00" stroke-width="2"><title>%s</title></path>`+"\n", x-4, y-4, html.EscapeString(r.Error))
		return
	}
	fill, radius := "white", 4
	if e.Stable(r) {
		fill = "#36c"
	}
	if best {
		fill, radius = "#0a0", 6
		text(b, x, a.y(r.Most)-10, "middle", "best stable: "+Rate(r.Median)+"/s")
	}
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#36c"/>`+"\n", x, a.y(r.Least), x, a.y(r.Most))
	fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%d" fill="%s" stroke="#36c"><title>%s, spread %.1f %%</title></circle>`+"\n", x, a.y(r.Median), radius, fill, Rate(r.Median), 100*r.Spread)
}

func text(b *strings.Builder, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}

// count writes a value of a parameter, powers of two from 4096 on as such.
func count(v float64) string {
	if power := math.Log2(v); v >= 4096 && power == math.Trunc(power) {
		return fmt.Sprintf("2^%.0f", power)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// Rate writes a number a second with three digits and a prefix.
func Rate(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if v >= unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
