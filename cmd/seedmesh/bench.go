package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
	"seedmesh/kernels/bench"
	"seedmesh/node/host"
)

// benchGenerators are measured when none is named: one of each family of kernels,
// and one that has none.
var benchGenerators = []string{"mt19937", "php_mt_rand_0_999", "xorshift32", "lcg32", "minstd_rand", "java_random_nextint1000", "pcg32"}

// benchFlags are the flags of bench.
type benchFlags struct {
	devices, generators []string
	observe, skip       string
	draws               int
	threshold           float64
	time                time.Duration
	repeats             int
	envelope            string
	maxSpread, within   float64
	compare, from       string
	libraries, gfx      string
	out, plot           string
	asJSON              bool
}

func newBench(e *env) *cobra.Command {
	f := new(benchFlags)
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast the devices of this machine search",
		Long: `bench has every device of this machine search with every generator, and gives the median of some samples in seeds and in
steps (outputs of the generator, without early stopping) a second, and their spread. PER_CORE is seeds for each second of
processor time, which other load does not count in; LIMIT what the count of vector instructions lets a core do, or that of
instructions an accelerator at the clock that its driver states, and SHARE how much of that is reached. Each kind of
accelerator is measured by a process of its own. The question is one without an answer in the seeds that are searched; its
flags are those of sieve.

--envelope chunk, draws or concurrency sweeps that parameter of one device and generator. A setting is stable when its samples
lie within --max-spread of each other; the best is the steadiest of the stable ones within --within of the fastest of them.`,
		Args: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("envelope") { // the flag's value is optional, so that it may stand apart
				return atMost("PARAMETER")(c, args)
			}
			return exactArgs()(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				f.envelope = args[0]
			}
			return f.run(c, e)
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringSliceVar(&f.devices, "device", nil, "cpu, cpu:UNIT, cpu:scalar, cuda:NUMBER, hip:NUMBER, opencl:NUMBER (default all of this machine; with --envelope the CPU)")
	flags.StringSliceVarP(&f.generators, "generator", "g", nil, "generators to search with (default some of each kind; with --envelope mt19937)")
	flags.IntVar(&f.draws, "count", 10, "draws of the question")
	flags.StringVar(&f.skip, "skip", "0", "outputs thrown away between two draws: N, or A:B with both ends")
	flags.StringVar(&f.observe, "observe", defaultObserve, "how an output became a draw, as for sieve")
	flags.Float64Var(&f.threshold, "threshold", 1, "rate of draws that must match")
	flags.DurationVar(&f.time, "time", 300*time.Millisecond, "length of one sample")
	flags.IntVar(&f.repeats, "repeats", 5, "samples of each row")
	flags.StringVar(&f.envelope, "envelope", "", "sweep a parameter: chunk, draws or concurrency")
	flags.Lookup("envelope").NoOptDefVal = "chunk"
	flags.Float64Var(&f.maxSpread, "max-spread", 0.1, "samples of a stable setting differ by no more, as a share of their median")
	flags.Float64Var(&f.within, "within", 0.03, "medians that differ by no more count as equally fast")
	flags.StringVar(&f.libraries, "libraries", "", "directory in which drivers' libraries are looked for first, as of a slot")
	flags.StringVar(&f.gfx, "gfx", "", "what ROCm takes the GPUs for, as of a slot (default that for smaller ones of a kind, such as the RX 6600)")
	flags.StringVarP(&f.out, "output", "o", "", "write the report as JSON to this file")
	flags.StringVar(&f.compare, "compare", "", "compare with the report in this file")
	flags.StringVar(&f.from, "from", "", "take the report in this file instead of measuring")
	flags.StringVar(&f.plot, "plot", "", "draw the sweep as SVG to this file")
	flags.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	return c
}

func (f *benchFlags) run(c *cobra.Command, e *env) error {
	plan, err := f.plan(e)
	if err != nil {
		return err
	}
	var old *bench.Report
	if f.compare != "" { // before the measurement, which takes a while
		if old, err = readReport(f.compare); err != nil {
			return err
		}
	}
	r, err := f.report(c.Context(), e, plan)
	if err != nil {
		return err
	}
	if f.plot != "" && r.Envelope == nil {
		return &usageError{what: "--plot draws a sweep, and there is none", next: "add --envelope chunk, draws or concurrency"}
	}
	if f.out != "" {
		if err := writeFile(f.out, r.Write); err != nil {
			return err
		}
	}
	if f.plot != "" {
		if err := writeFile(f.plot, r.Plot); err != nil {
			return err
		}
	}
	if err := f.print(e, old, r); err != nil {
		return err
	}
	if !slices.ContainsFunc(r.Rows, func(row bench.Row) bool { return row.Error == "" }) {
		return &exitError{code: exitFailure, err: errors.New("no device could be measured"), next: "seedmesh devices lists those of this machine"}
	}
	return nil
}

// plan checks the flags.
func (f *benchFlags) plan(e *env) (p bench.Plan, err error) {
	for _, bad := range []struct {
		is         bool
		what, next string
	}{
		{f.draws < 1 || f.draws > bench.MaxDraws, fmt.Sprintf("--count is %d", f.draws), fmt.Sprintf("use 1 to %d", bench.MaxDraws)},
		{!(f.threshold > 0 && f.threshold <= 1), fmt.Sprintf("--threshold %v is not a rate above 0 and up to 1", f.threshold), "such as --threshold 0.5"},
		{f.time < time.Millisecond || f.time > time.Hour, fmt.Sprintf("--time is %v", f.time), "use 1ms to 1h"},
		{f.repeats < 1 || f.repeats > bench.MaxRepeats, fmt.Sprintf("--repeats is %d", f.repeats), fmt.Sprintf("use 1 to %d", bench.MaxRepeats)},
		{!(f.maxSpread > 0), fmt.Sprintf("--max-spread %v is not above 0", f.maxSpread), "such as --max-spread 0.1"},
		{f.gfx != "" && !kernels.IsGFX(f.gfx), fmt.Sprintf("--gfx is %q", clip(f.gfx)), "such as --gfx 10.3.0"},
		{!(f.within >= 0 && f.within < 1), fmt.Sprintf("--within %v is not a share", f.within), "such as --within 0.03"},
	} {
		if bad.is {
			return p, &usageError{what: bad.what, next: bad.next}
		}
	}
	if f.envelope != "" && !slices.Contains(bench.Parameters(), f.envelope) {
		next := "one of: " + strings.Join(bench.Parameters(), ", ")
		if near := kernels.Nearest(f.envelope, bench.Parameters()); near != "" {
			next = "did you mean: --envelope=" + near
		}
		return p, &usageError{what: fmt.Sprintf("--envelope cannot sweep %q", clip(f.envelope)), next: next}
	}
	p = bench.Plan{
		Generators: f.generators, Time: f.time, Repeats: f.repeats, Libraries: f.libraries, GFX: f.gfx, Command: []string{"/proc/self/exe", "measure"}, Words: e.stderr,
		Question: bench.Question{Observe: f.observe, Draws: f.draws, Threshold: f.threshold},
	}
	if p.Question.Skip, err = parseBounds("skip", f.skip); err != nil {
		return p, err
	}
	for _, g := range p.Generators {
		if _, err := kernels.Lookup(g); err != nil {
			return p, err
		}
	}
	for _, text := range f.devices {
		d, err := bench.ParseDevice(text)
		if err != nil {
			return p, &usageError{what: err.Error(), next: remedy(err)}
		}
		p.Devices = append(p.Devices, d)
	}
	return p, nil
}

// report measures, or reads what was measured.
func (f *benchFlags) report(ctx context.Context, e *env, p bench.Plan) (*bench.Report, error) {
	if f.from != "" {
		return readReport(f.from)
	}
	if cache, err := os.UserCacheDir(); err == nil {
		p.Programs = filepath.Join(cache, "seedmesh", "programs")
	}
	show := func(r bench.Row) {
		if width(e.stderr) > 0 {
			_, _ = fmt.Fprintf(e.stderr, "%s with %s: %s seeds/s\n", r.Device, cmp.Or(r.Generator, "any generator"), bench.Rate(r.Median))
		}
	}
	if f.envelope != "" {
		return f.sweep(ctx, p, show)
	}
	if len(p.Generators) == 0 {
		p.Generators = benchGenerators
	}
	if len(p.Devices) == 0 {
		var err error
		if p.Devices, err = allDevices(ctx); err != nil {
			return nil, err
		}
	}
	return p.Measure(ctx, show)
}

func (f *benchFlags) sweep(ctx context.Context, p bench.Plan, show func(bench.Row)) (*bench.Report, error) {
	if len(p.Generators) == 0 {
		p.Generators = benchGenerators[:1]
	}
	if len(p.Devices) == 0 {
		d, err := bench.ParseDevice("cpu")
		if err != nil {
			return nil, err
		}
		p.Devices = []bench.Device{d}
	}
	if len(p.Devices) > 1 || len(p.Generators) > 1 {
		return nil, &usageError{what: "--envelope sweeps one device with one generator", next: "such as --device " + p.Devices[0].String() + " --generator " + p.Generators[0]}
	}
	return p.Sweep(ctx, bench.Envelope{Parameter: f.envelope, MaxSpread: f.maxSpread, Within: f.within}, show)
}

// allDevices are the CPU with each of its units, and every accelerator.
func allDevices(ctx context.Context) (list []bench.Device, err error) {
	for _, unit := range append(kernels.VectorUnits(), bench.Scalar) {
		list = append(list, bench.Device{Kind: "cpu", Unit: unit})
	}
	watch, err := host.NewThisMachine()
	if err != nil {
		return nil, err
	}
	reached, err := watch.Accelerators(ctx)
	for _, a := range reached.List {
		list = append(list, bench.Device{Kind: a.Kind, Number: a.Number})
	}
	return list, err
}

func readReport(path string) (*bench.Report, error) {
	r, err := bench.Read(path)
	var form *bench.FormatError
	if errors.As(err, &form) {
		return nil, &usageError{what: form.Error(), next: form.Remedy()}
	}
	if err != nil {
		return nil, inputError("the report", err)
	}
	return r, nil
}

// writeFile has a file as a whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return writeError("the report", err)
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func (f *benchFlags) print(e *env, old, r *bench.Report) error {
	switch {
	case f.asJSON:
		return r.Write(e.stdout)
	case old != nil:
		return printComparison(e, old, r)
	}
	t := newTable(e.stdout, "DEVICE", "GENERATOR", "CHUNK", "DRAWS", "CONCURRENCY", "SEEDS/S", "SPREAD", "STEPS/S", "PER_CORE", "LIMIT", "SHARE", "NOTE")
	for i, row := range r.Rows {
		t.row(append([]string{row.Device, row.Generator, fmt.Sprint(row.Chunk), fmt.Sprint(row.Draws), fmt.Sprint(row.Concurrency)}, figures(r, i)...)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, text := range limitsMissing(r) {
		if _, err := fmt.Fprintln(e.stdout, text); err != nil {
			return err
		}
	}
	if r.Envelope == nil {
		return nil
	}
	_, err := fmt.Fprintln(e.stdout, bestText(r))
	return err
}

// limitsMissing says of each accelerator why it has no limit, once.
func limitsMissing(r *bench.Report) (list []string) {
	for _, row := range r.Rows {
		if text := row.Device + ": " + row.NoLimit; row.NoLimit != "" && !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return list
}

// figures are the cells of a row that were measured.
func figures(r *bench.Report, i int) []string {
	row := r.Rows[i]
	if row.Error != "" {
		return []string{"", "", "", "", "", "", strings.TrimPrefix(row.Error, "kernels: ")}
	}
	perCore, limit, share := "", "", ""
	if row.PerCore > 0 {
		perCore = bench.Rate(row.PerCore)
	}
	if row.Limit > 0 {
		limit, share = bench.Rate(row.Limit), fmt.Sprintf("%.0f%%", 100*row.Share)
	}
	note := row.Driver
	switch env := r.Envelope; {
	case env == nil:
	case i == env.Best:
		note = "best stable"
	case !env.Stable(row):
		note = "unstable"
	}
	return []string{bench.Rate(row.Median), fmt.Sprintf("%.1f%%", 100*row.Spread), bench.Rate(row.Steps), perCore, limit, share, note}
}

func bestText(r *bench.Report) string {
	env := r.Envelope
	if env.Best < 0 {
		return fmt.Sprintf("No setting of %s is stable: the samples of each differ by more than %.0f %%. Repeat it on a quiet machine, or with a longer --time.", env.Parameter, 100*env.MaxSpread)
	}
	best := r.Rows[env.Best]
	return fmt.Sprintf("The best stable %s is %.0f: %s seeds/s, spread %.1f %%.", env.Parameter, env.Of(best), bench.Rate(best.Median), 100*best.Spread)
}

func printComparison(e *env, old, now *bench.Report) error {
	for _, text := range bench.Differences(old, now) {
		if err := warn(e.stderr, text); err != nil {
			return err
		}
	}
	changes, lone := bench.Compare(old, now)
	t := newTable(e.stdout, "DEVICE", "GENERATOR", "CHUNK", "DRAWS", "CONCURRENCY", "OLD", "NEW", "RATIO", "VERDICT")
	for _, c := range changes {
		ratio := ""
		if c.Verdict != bench.Failed {
			ratio = fmt.Sprintf("%.3f", c.Ratio)
		}
		t.row(c.New.Device, c.New.Generator, fmt.Sprint(c.New.Chunk), fmt.Sprint(c.New.Draws), fmt.Sprint(c.New.Concurrency),
			bench.Rate(c.Old.Median), bench.Rate(c.New.Median), ratio, string(c.Verdict))
	}
	for _, row := range lone {
		t.row(row.Device, row.Generator, fmt.Sprint(row.Chunk), fmt.Sprint(row.Draws), fmt.Sprint(row.Concurrency), "", bench.Rate(row.Median), "", "new")
	}
	return t.flush()
}
