package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
)

// analysisFlags are the flags of analysis and correlation that say which streams
// are looked at, and how.
type analysisFlags struct {
	kind       string
	search     searchFlags
	samples    count
	bins       count
	lags       []int
	lmax       count
	neighbours count
	maxP       float64
}

func newAnalysis(e *env) *cobra.Command {
	return newStatistics(e, kernels.TypeAnalysis, &cobra.Command{
		Use:     "analysis --generator NAME --seeds A:B",
		Aliases: []string{"analyze", "analyse"},
		Short:   "Statistics of the stream of every seed: chi-square, runs, lags",
		Long: `analysis makes the draws that each seed gives and measures how they differ from chance: chi-square of
a histogram, the number of runs around the median, and the autocorrelation at lags. docs/ANALYSIS.md says what each number means.

There is one record for each seed, as JSON Lines, or with --max-p one for each seed that chance rarely gives.`,
		Example: `  seedmesh analysis --local -g lcg32 -s 0:10_000
  seedmesh analysis --wait -g mt19937 --candidates found.jsonl --samples 10000 -o analysed.jsonl`,
	})
}

func newCorrelation(e *env) *cobra.Command {
	return newStatistics(e, kernels.TypeCorrelation, &cobra.Command{
		Use:     "correlation --generator NAME --seeds A:B",
		Aliases: []string{"correlate"},
		Short:   "Correlate the stream of every seed with itself, with its neighbours and with draws",
		Long: `correlation makes the draws that each seed gives and correlates them with themselves at lags 1 to --lmax, with the draws
of the next --neighbours seeds, and with observed --draws. docs/ANALYSIS.md says what each number means.`,
		Example: `  seedmesh correlation --local -g msvc_rand -s 0:10_000 --neighbours 4`,
	})
}

// newStatistics makes one of the two commands.
func newStatistics(e *env, kind string, c *cobra.Command) *cobra.Command {
	a, f := &analysisFlags{kind: kind}, new(sieveFlags)
	c.Args = exactArgs()
	c.RunE = func(c *cobra.Command, _ []string) error {
		return f.runParsed(c, e, a.parse)
	}
	a.register(c)
	f.register(c)
	return c
}

// newPlanStatistics plans one of the two.
func newPlanStatistics(e *env, kind string) *cobra.Command {
	a := &analysisFlags{kind: kind}
	c := newPlanOf(e, a.parse, &cobra.Command{
		Use:   kind + " --generator NAME --seeds A:B",
		Short: "The work and the time of seedmesh " + kind,
		Long:  "It takes the flags of " + kind + ", but for those about the records. Where no node can be reached it plans for this machine alone.",
	})
	a.register(c)
	return c
}

// Defaults of the two.
const (
	defaultSamples    = 1000
	defaultLmax       = 20
	defaultNeighbours = 1
)

func (f *analysisFlags) register(c *cobra.Command) {
	f.samples = count{value: defaultSamples, limit: kernels.MaxSamples}
	f.bins = count{limit: kernels.MaxBins}
	f.lmax = count{value: defaultLmax, limit: kernels.MaxLags}
	f.neighbours = count{value: defaultNeighbours, limit: kernels.MaxNeighbours}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringSliceVarP(&f.search.generators, "generator", "g", nil, "generator to look at; repeat it or separate names by commas (see: seedmesh generators)")
	flags.StringVarP(&f.search.seeds, "seeds", "s", "", "seeds A:B, from A on and before B, such as 0:10_000")
	flags.StringVar(&f.search.candidates, "candidates", "", "file with seeds and skips instead of a range, - for standard input, as for reverse-sieve")
	flags.StringVar(&f.search.observe, "observe", defaultObserve, "how an output becomes a draw, as for sieve: mod:M, raw, top:B, ...")
	flags.StringVar(&f.search.skip, "skip", "0", "outputs thrown away between two draws")
	flags.StringVar(&f.search.offset, "offset", "0", "outputs thrown away before the first draw")
	flags.VarP(&f.samples, "samples", "n", "draws of each stream")
	if f.kind == kernels.TypeAnalysis {
		flags.Var(&f.bins, "bins", "bins of the histogram (default up to 100, with at least 10 draws each)")
		flags.IntSliceVar(&f.lags, "lags", nil, "lags of the autocorrelation, such as 1,2,7 (default the original's)")
	} else {
		flags.Var(&f.lmax, "lmax", "largest lag at which a stream is correlated with itself; at most a quarter of the draws is used")
		flags.Var(&f.neighbours, "neighbours", "how many of the next seeds' streams each is correlated with")
		flags.StringVarP(&f.search.draws, "draws", "d", "", "file with observed draws that each stream is correlated with, - for standard input")
		flags.IntVar(&f.search.window, "window", 0, "how many of the draws to use (default all)")
		flags.IntVar(&f.search.windowOffset, "window-offset", 0, "number of the first draw to use")
		flags.StringSliceVar(&f.search.sessions, "session", nil, "use only the draws of these sessions")
	}
	flags.Float64Var(&f.maxP, "max-p", 1, "only seeds whose p_value is at most this")
}

// parse reads the flags, and checks the whole question.
func (f *analysisFlags) parse(c *cobra.Command, e *env) (*search, error) {
	s := &f.search
	if s.candidates != "" && c.Flags().Changed("seeds") {
		return nil, &usageError{what: "--candidates and --seeds are both given", next: "leave one of them out"}
	}
	candidates, err := s.readCandidates(e)
	if err != nil {
		return nil, err
	}
	for _, need := range []struct{ flag, value, next string }{
		{"--generator", first(s.generators), "name the generator, such as --generator mt19937; list them with: seedmesh generators"},
		{"--seeds", s.seeds, "give the seeds to look at, such as --seeds 0:10_000, or --candidates FILE"},
	} {
		if need.value == "" {
			return nil, &usageError{what: need.flag + " is missing", next: need.next}
		}
	}
	seeds, err := parseSeeds(s.seeds)
	if err != nil {
		return nil, err
	}
	spec := &kernels.Spec{Generators: s.generators, Observe: s.observe, Candidates: candidates}
	if spec.Skip, err = parseBounds("skip", s.skip); err != nil {
		return nil, err
	}
	if spec.Offset, err = parseBounds("offset", s.offset); err != nil {
		return nil, err
	}
	if s.draws != "" {
		if spec.Draws, err = interruptible(c.Context(), func() ([]kernels.Draw, error) { return s.readDraws(e) }); err != nil {
			return nil, err
		}
	}
	if spec.Analysis, err = f.analysis(spec.Generators[0]); err != nil {
		return nil, err
	}
	return compileAnalysis(spec, seeds)
}

// analysis is what the flags ask for, with one seed.
func (f *analysisFlags) analysis(generator string) (*kernels.Analysis, error) {
	a := &kernels.Analysis{Type: f.kind, Samples: uint32(f.samples.value), Seeds: 1, MaxP: f.maxP}
	if f.kind == kernels.TypeCorrelation {
		a.Neighbours = uint32(f.neighbours.value)
		for lag := range min(uint32(f.lmax.value), a.Samples/4) {
			a.Lags = append(a.Lags, lag+1)
		}
		return a, nil
	}
	a.Lags = kernels.DefaultLags(a.Samples)
	if f.lags != nil {
		a.Lags = nil
	}
	for _, lag := range slices.Sorted(slices.Values(f.lags)) {
		if lag < 1 || lag > math.MaxInt32 {
			return nil, &usageError{what: fmt.Sprintf("--lags %d is not a distance of draws", lag), next: "such as --lags 1,2,7"}
		}
		a.Lags = append(a.Lags, uint32(lag))
	}
	if a.Bins = uint32(f.bins.value); a.Bins == 0 {
		values, err := kernels.Values(generator, f.search.observe)
		if err != nil {
			return nil, err
		}
		a.Bins = kernels.DefaultBins(a.Samples, values)
	}
	return a, nil
}

// compileAnalysis lays an analysis out, and counts the seeds that it is about.
func compileAnalysis(spec *kernels.Spec, seeds kernels.Range) (*search, error) {
	s, err := compile(spec, seeds)
	if err != nil {
		return nil, err
	}
	if total := s.total(); total > kernels.MaxAnalysed {
		return nil, &usageError{what: fmt.Sprintf("%.0f seeds are above the limit of %d for one job", total, uint64(kernels.MaxAnalysed)), next: "give fewer with --seeds"}
	}
	spec.Analysis.Seeds = uint64(s.total())
	return compile(spec, seeds)
}
