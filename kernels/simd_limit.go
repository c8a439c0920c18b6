package kernels

import (
	"runtime"
	"time"
)

// How the pace of a vector unit is measured.
const (
	paceTurns = 10_000 // of one try, some 0.1 ms
	paceTries = 50     // the best counts
)

// VectorUnits names the CPU's vector units, the fastest first.
func VectorUnits() (names []string) {
	for _, u := range vectorUnits() {
		names = append(names, u.name)
	}
	return names
}

// NewCPUOn is [NewCPU] with the vector unit of a name, or with none of them for "".
// ok is false when the CPU has no such unit.
func NewCPUOn(unit string, threads int) (d Device, ok bool) {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	u, ok := unitOf(unit)
	return cpu{threads: threads, unit: u}, ok
}

func unitOf(name string) (u *vectorUnit, ok bool) {
	for _, u := range vectorUnits() {
		if u.name == name {
			return u, true
		}
	}
	return nil, name == ""
}

// CPULimit is how many seeds of a search one core of this CPU could test in a
// second if it issued instructions of a vector unit without a pause, at the pace
// that it reaches with independent additions; instructions that only move data are
// left out. The seeds that mt19937 steps beside its vectors with AVX2, one in
// fourteen, count like the others. ok is false when the search is not made with
// vectors.
func CPULimit(unit string, s *Search) (seedsPerSecond float64, ok bool) {
	c := cpu{}
	if c.unit, ok = unitOf(unit); !ok {
		return 0, false
	}
	plan, ok := c.vectors(s)
	if !ok {
		return 0, false
	}
	return plan.limit(c.unit, c.unit.measurePace()), true
}

// limit is the rate at which a core of this pace could carry out the plan.
func (p *vectorPlan) limit(u *vectorUnit, instructionsPerSecond float64) float64 {
	return instructionsPerSecond * float64(u.lanes) / p.instructions(u)
}

// measurePace is the most vector instructions that a core issues in a second.
func (u *vectorUnit) measurePace() float64 {
	args := &vectorArgs{rows: paceTurns}
	best := time.Duration(1<<63 - 1)
	for range paceTries {
		start := time.Now()
		u.pace(args)
		best = min(best, time.Since(start))
	}
	return float64(u.paced*paceTurns) / best.Seconds()
}
