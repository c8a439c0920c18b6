package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"seedmesh/kernels"
	"seedmesh/node/api/meshv1"
)

// progress is how far a search has come.
type progress struct {
	State     string  `json:"state"`
	Done      string  `json:"done"`
	Total     string  `json:"total"`
	Rate      float64 `json:"rate"`       // seeds a second
	StepsRate float64 `json:"steps_rate"` // generator advances a second, without early stopping
	ETA       float64 `json:"eta_seconds"`
	Slots     uint32  `json:"slots"`
	Survivors uint64  `json:"survivors,string"`
	Expected  float64 `json:"expected_by_chance"`
	Elapsed   float64 `json:"elapsed_seconds"`

	share float64 // done of total
	tasks bool    // of a script job
	lost  string  // tasks that failed for good
}

// unit is what done and total count.
func (p progress) unit() string {
	if p.tasks {
		return "tasks"
	}
	return "seeds"
}

// A meter shows progress on the standard error: a bar on a terminal, else one
// line of JSON a second.
type meter struct {
	w     io.Writer
	quiet bool
	width int // columns; 0 when w is not a terminal
	last  time.Time
	drawn bool
}

const (
	meterJSON = time.Second
	meterBar  = 100 * time.Millisecond
)

func newMeter(e *env, quiet bool) *meter {
	return &meter{w: e.stderr, quiet: quiet, width: width(e.stderr), last: time.Now()}
}

// due tells whether it is time for the next show.
func (m *meter) due() bool {
	if m.quiet {
		return false
	}
	every := meterJSON
	if m.width > 0 {
		every = meterBar
	}
	return time.Since(m.last) >= every
}

func (m *meter) show(p progress) {
	if m.quiet {
		return
	}
	m.last = time.Now()
	if m.width == 0 {
		_ = writeValue(m.w, p) // progress that cannot be shown is no failure
		return
	}
	m.drawn = true
	_, _ = fmt.Fprintf(m.w, "\r\x1b[K%s", cut(bar(p), m.width-1))
}

// clear takes the bar away, so that other lines can be written.
func (m *meter) clear() {
	if m.drawn {
		_, _ = io.WriteString(m.w, "\r\x1b[K")
		m.drawn = false
	}
}

// finish shows the end: one line of text on a terminal, else JSON.
func (m *meter) finish(p progress) {
	m.clear()
	if m.quiet {
		return
	}
	if m.width == 0 {
		m.show(p)
		return
	}
	steps := ""
	if p.StepsRate > 0 {
		steps = ", " + big(p.StepsRate) + " steps/s"
	}
	_, _ = fmt.Fprintf(m.w, "%s: %s %s in %s, %s %s/s%s; %s\n", p.State, p.Done, p.unit(), span(p.Elapsed), big(p.Rate), p.unit(), steps, found(p))
}

const barWidth = 20 // columns

func bar(p progress) string {
	full := min(max(int(p.share*barWidth), 0), barWidth)
	text := fmt.Sprintf("[%s%s] %5.1f%%  %s %s/s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*p.share, big(p.Rate), p.unit())
	if !p.tasks {
		text += fmt.Sprintf("  %s steps/s", big(p.StepsRate))
	}
	text += "  ETA " + span(p.ETA)
	if p.Slots > 0 {
		text += fmt.Sprintf("  %d %s", p.Slots, plural(uint64(p.Slots), "slot"))
	}
	return text + "  " + found(p)
}

func found(p progress) string {
	if p.tasks {
		return p.lost + " failed"
	}
	return fmt.Sprintf("%d %s (%s expected by chance)", p.Survivors, plural(p.Survivors, "survivor"), chance(p.Expected))
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

func cut(s string, columns int) string {
	if columns > 0 && len(s) > columns {
		return s[:columns]
	}
	return s
}

// analyses tells whether a job's records are of an analysis or correlation.
func analyses(j *meshv1.JobInfo) bool {
	return j.GetType() == kernels.TypeAnalysis || j.GetType() == kernels.TypeCorrelation
}

// byChance says how many survivors, or records, a job has and what they are worth.
func byChance(j *meshv1.JobInfo) string {
	what := "survivors"
	if analyses(j) {
		what = "records"
	}
	if j.GetSurvivors() == "1" {
		what = strings.TrimSuffix(what, "s")
	}
	return fmt.Sprintf("%s %s (%s expected by chance)", j.GetSurvivors(), what, chance(j.GetExpectedByChance()))
}

// warnChance says so when a result cannot tell a true seed from chance.
func warnChance(w io.Writer, expected float64, found uint64, analysis bool) {
	what, next := "survivors", "use more draws or a higher threshold"
	if analysis {
		what, next = "records", "use a smaller --max-p"
	}
	if kernels.Indistinguishable(expected, found) {
		_, _ = fmt.Fprintf(w, "warning: this search cannot tell a true seed from chance: %s %s are expected by chance alone, %d were found; %s\n",
			chance(expected), what, found, next)
	}
}
