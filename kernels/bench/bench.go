// Package bench measures how fast the devices of a machine search.
//
// It changes nothing and keeps nothing: a [Plan] gives a [Report], which can be
// written, read again, compared with another one and drawn.
//
// Read bench.go for how a rate comes about, envelope.go for sweeps, report.go for
// the file, compare.go for two of them, plot.go for the drawing, crew.go for the processes
// that measure accelerators.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"seedmesh/kernels"
)

// Bounds of a plan.
const (
	MaxRepeats = 1000
	MaxDraws   = 4096
	MaxChunk   = 1 << 40
	MaxThreads = 4096
)

// firstChunk is how many seeds the first call of a search has whose length is
// not known yet.
const firstChunk = 1 << 12

// A Plan is what to measure, and how long.
type Plan struct {
	Devices    []Device
	Generators []string
	Question   Question
	Time       time.Duration // of one sample
	Repeats    int           // samples
	Programs   string        // directory of compiled programs; empty to keep none
	Libraries  string        // directory in which drivers' libraries are looked for first, or empty
	GFX        string        // what AMD's runtime takes its GPUs for, such as 10.3.0; empty for what they need
	// Command is that of processes that measure accelerators with [Serve], a path first;
	// empty to measure them in this process.
	Command []string
	Words   io.Writer // gets what libraries print in such processes, each line once; nil for nobody
}

// A Question is what the searches ask for. It is planted, so that it has an
// answer, at a seed that is not searched.
type Question struct {
	Observe   string         `json:"observe"`
	Draws     int            `json:"draws"`
	Skip      kernels.Bounds `json:"skip"`
	Threshold float64        `json:"threshold"`
}

// search lays the question out for a generator.
func (q Question) search(generator string) (*kernels.Search, error) {
	g, err := kernels.Lookup(generator)
	if err != nil {
		return nil, err
	}
	forward := strings.TrimSuffix(generator, "_reverse")
	values, err := kernels.Predict(forward, g.Space().Last, q.Skip.Min, 0, 0, uint32(q.Draws), q.Observe)
	if err != nil {
		return nil, err
	}
	spec := kernels.Spec{Generators: []string{generator}, Observe: q.Observe, Skip: q.Skip, MinMatches: kernels.Need(q.Threshold, q.Draws)}
	for _, v := range values {
		spec.Draws = append(spec.Draws, kernels.Draw{Value: v, Known: true})
	}
	return spec.Compile(generator)
}

// A Setting is what a sweep varies.
type Setting struct {
	Chunk       uint64 // seeds of one call of the device; 0 for as many as take a tenth of a sample
	Draws       int
	Concurrency int // threads of a CPU, or searches at the same time on an accelerator
}

// A Device is one to measure.
type Device struct {
	Kind   string // cpu, or a kind of accelerator
	Unit   string // of the CPU; scalar for none
	Number int    // of the accelerator
}

// Scalar is the unit of a CPU that tests one seed after the other.
const Scalar = "scalar"

// ParseDevice reads cpu, cpu:UNIT, or a kind of accelerator with a number or without.
func ParseDevice(text string) (Device, error) {
	kind, detail, given := strings.Cut(text, ":")
	units := append(kernels.VectorUnits(), Scalar)
	switch {
	case kind == "cpu" && !given:
		return Device{Kind: kind, Unit: units[0]}, nil
	case kind == "cpu" && slices.Contains(units, detail):
		return Device{Kind: kind, Unit: detail}, nil
	case kind == "cpu":
		return Device{}, &DeviceError{text, "this CPU has " + strings.Join(units, ", "), "cpu:" + cmp.Or(kernels.Nearest(detail, units), units[0])}
	case !slices.Contains(Kinds(), kind):
		return Device{}, &DeviceError{text, "there are " + strings.Join(Kinds(), ", "), kernels.Nearest(kind, Kinds())}
	case !given:
		return Device{Kind: kind}, nil
	}
	n, err := strconv.ParseUint(detail, 10, 8)
	if err != nil {
		return Device{}, &DeviceError{text, "the devices of a kind are counted from 0", kind + ":0"}
	}
	return Device{Kind: kind, Number: int(n)}, nil
}

// Kinds of devices that can be measured.
func Kinds() []string { return append([]string{"cpu"}, kernels.Accelerators()...) }

// A DeviceError is a device that cannot be measured. Nearest may be empty.
type DeviceError struct{ Device, Why, Nearest string }

func (e *DeviceError) Error() string {
	return fmt.Sprintf("there is no device %.60q: %s", e.Device, e.Why)
}

// Remedy names the nearest device.
func (e *DeviceError) Remedy() string {
	if e.Nearest == "" {
		return "seedmesh devices lists those of this machine"
	}
	return "did you mean: --device " + e.Nearest
}

// String is the form that [ParseDevice] reads.
func (d Device) String() string {
	if d.Kind == "cpu" {
		return d.Kind + ":" + d.Unit
	}
	return fmt.Sprintf("%s:%d", d.Kind, d.Number)
}

// open opens the device for so many threads, where it has any.
func (p Plan) open(d Device, threads int) (kernels.Device, error) {
	if d.Kind != "cpu" {
		return kernels.OpenAccelerator(kernels.AcceleratorConfig{Kind: d.Kind, Number: d.Number, Programs: p.Programs, Libraries: p.Libraries})
	}
	opened, ok := kernels.NewCPUOn(d.vectorUnit(), threads)
	if !ok {
		return nil, &DeviceError{d.String(), "this CPU does not have it", "cpu"}
	}
	return opened, nil
}

func (d Device) vectorUnit() string {
	if d.Unit == Scalar {
		return ""
	}
	return d.Unit
}

// limit is the computed limit in seeds a second, of a core or of a whole accelerator;
// 0 when there is none, for an accelerator with the reason.
func (d Device) limit(opened kernels.Device, s *kernels.Search) (seeds float64, why string) {
	if d.Kind == "cpu" {
		seeds, _ = kernels.CPULimit(d.vectorUnit(), s)
		return seeds, ""
	}
	seeds, err := kernels.AcceleratorLimit(opened, s)
	if err != nil {
		why = err.Error()
	}
	return seeds, why
}

// standard is the setting that is measured where none is swept.
func (p Plan) standard(d Device) Setting {
	s := Setting{Draws: p.Question.Draws, Concurrency: 1}
	if d.Kind == "cpu" {
		s.Concurrency = runtime.GOMAXPROCS(0)
	}
	return s
}

// Measure takes the samples of every device with every generator. show is called
// with each row. A device that cannot run a search has a row that says why; one that cannot be used
// at all has one row, without a generator.
func (p Plan) Measure(ctx context.Context, show func(Row)) (_ *Report, err error) {
	r, crew := newReport(p), newCrew(p)
	defer func() { err = errors.Join(err, crew.close()) }()
	for _, d := range p.Devices {
		for _, g := range p.Generators {
			row, err := crew.row(ctx, order{d, g, p.standard(d)})
			if err != nil {
				return nil, err
			}
			r.Rows = append(r.Rows, row)
			show(row)
			if row.Generator == "" {
				break
			}
		}
	}
	return r, nil
}

// An order is for one row.
type order struct {
	Device    Device
	Generator string
	Setting   Setting
}

func (o order) row() Row {
	return Row{Device: o.Device.String(), Generator: o.Generator, Chunk: o.Setting.Chunk, Draws: o.Setting.Draws, Concurrency: o.Setting.Concurrency}
}

// row measures one setting. Its error ends everything; what only this device
// cannot do is in the row.
func (p Plan) row(ctx context.Context, o order) (Row, error) {
	row, q := o.row(), p.Question
	q.Draws = o.Setting.Draws
	s, err := q.search(o.Generator)
	if err != nil {
		return row, err
	}
	err = p.measure(ctx, o, s, &row)
	var useless *uselessError
	switch {
	case ctx.Err() != nil:
		return row, ctx.Err()
	case errors.As(err, &useless):
		row.Generator, row.Error = "", err.Error()
	case err != nil:
		row.Error = err.Error()
	}
	return row, nil
}

// A uselessError is a device that cannot be opened, or does not pass the conformance suite.
type uselessError struct{ error }

// A sample is one measurement.
type sample struct {
	rate float64 // seeds a second
	core float64 // seeds for each second of processor time
}

// measure takes a sample for each repeat, and fills the row.
func (p Plan) measure(ctx context.Context, o order, s *kernels.Search, row *Row) (err error) {
	threads, lanes := o.Setting.Concurrency, 1
	if o.Device.Kind != "cpu" {
		threads, lanes = 1, o.Setting.Concurrency
	}
	var runners []*runner
	defer func() {
		for _, r := range runners {
			err = errors.Join(err, r.close())
		}
	}()
	for i := range lanes {
		r, err := p.newRunner(ctx, o.Device, s, threads)
		if err != nil {
			return err
		}
		r.next = s.Space().Last / uint64(lanes+1) * uint64(i)
		runners = append(runners, r)
	}
	if o.Device.Kind != "cpu" {
		row.Driver = kernels.Identity(runners[0].device)
	}
	chunk := min(o.Setting.Chunk, s.Space().Last)
	if chunk == 0 {
		if chunk, err = runners[0].findChunk(ctx, p.Time/10); err != nil {
			return err
		}
	}
	if _, err := together(ctx, runners, chunk, p.Time/10); err != nil { // warms up
		return err
	}
	var list []sample
	for range p.Repeats {
		one, err := together(ctx, runners, chunk, p.Time)
		if err != nil {
			return err
		}
		list = append(list, one)
	}
	row.Chunk = chunk
	row.Limit, row.NoLimit = o.Device.limit(runners[0].device, s)
	row.fill(list, float64(s.StepsPerSeed()))
	return nil
}

// together has all runners search for so long, and sums up what they did.
func together(ctx context.Context, runners []*runner, chunk uint64, long time.Duration) (sample, error) {
	seeds, errs := make([]float64, len(runners)), make([]error, len(runners))
	busy, err := processorTime()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	var all sync.WaitGroup
	for i, r := range runners {
		all.Go(func() { seeds[i], errs[i] = r.run(ctx, chunk, long) })
	}
	all.Wait()
	took := time.Since(start)
	end, err := processorTime()
	var sum float64
	for _, n := range seeds {
		sum += n
	}
	return sample{sum / took.Seconds(), sum / max(end-busy, time.Microsecond).Seconds()}, errors.Join(append(errs, err)...)
}

// processorTime is what this process has used.
func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// A runner searches with one opened device.
type runner struct {
	device   kernels.Device
	searcher kernels.Searcher
	space    kernels.Range
	next     uint64 // first seed of the next call
}

func (p Plan) newRunner(ctx context.Context, d Device, s *kernels.Search, threads int) (*runner, error) {
	device, err := p.open(d, threads)
	if err != nil {
		return nil, &uselessError{err}
	}
	if err := kernels.Vet(ctx, device, "", false, func() {}); err != nil {
		return nil, &uselessError{errors.Join(err, device.Close())}
	}
	searcher, err := device.Prepare(ctx, s)
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return &runner{device: device, searcher: searcher, space: s.Space()}, nil
}

func (r *runner) close() error { return errors.Join(r.searcher.Close(), r.device.Close()) }

// run searches chunk after chunk for at least so long, and gives how many seeds it
// searched. The last seed, where the question was planted, is left out.
func (r *runner) run(ctx context.Context, chunk uint64, long time.Duration) (seeds float64, err error) {
	start := time.Now()
	for {
		if r.next >= r.space.Last || r.space.Last-r.next < chunk {
			r.next = 0
		}
		over := kernels.Range{First: r.next, Last: min(r.next+chunk-1, r.space.Last)}
		_, account, ok, err := r.searcher.Search(ctx, over, func(uint64) uint64 { return over.Last }, func(kernels.Survivor) error { return nil })
		if err != nil {
			return 0, err
		}
		if !ok || account != kernels.AccountOf(over) {
			return 0, fmt.Errorf("the search of %s did not visit every seed exactly once", over)
		}
		seeds += over.Size()
		r.next = over.Last + 1
		if time.Since(start) >= long {
			return seeds, nil
		}
	}
}

// findChunk doubles the chunk until one takes so long, also when it is tried again:
// drivers do much at the first time.
func (r *runner) findChunk(ctx context.Context, long time.Duration) (uint64, error) {
	for chunk := min(uint64(firstChunk), r.space.Last); ; chunk *= 2 {
		took := time.Duration(1<<63 - 1)
		for range 2 {
			start := time.Now()
			if _, err := r.run(ctx, chunk, 0); err != nil {
				return 0, err
			}
			took = min(took, time.Since(start))
		}
		if took >= long || chunk > min(r.space.Last/2, MaxChunk/2) {
			return chunk, nil
		}
	}
}
