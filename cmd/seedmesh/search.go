package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
)

// searchFlags are the flags that say what to search for.
type searchFlags struct {
	generators   []string
	draws        string
	phpMtSeed    string
	window       int
	windowOffset int
	sessions     []string
	seeds        string
	skip, offset string
	observe      string
	threshold    float64
	minMatches   int
	keepAll      bool
	mode         string
	direction    string
	strategies   []string
	split        int
	confirm      float64
	compatBoth   bool
	candidates   string
}

// defaultObserve is what most draws are: the last three digits of an output.
const defaultObserve = "mod:1000"

// register adds the flags of a search through a range of seeds.
func (f *searchFlags) register(c *cobra.Command) {
	f.registerObserved(c)
	flags := c.Flags()
	flags.StringVarP(&f.seeds, "seeds", "s", "", "seeds A:B, from A on and before B, such as 0:2^32")
	flags.StringVar(&f.skip, "skip", "0", "outputs thrown away between two draws: N, or A:B with both ends")
	flags.StringVar(&f.mode, "mode", kernels.ModeFixed, "fixed: one skip for the whole window; hybrid: a skip that changes; two-phase: hybrid for the survivors of fixed")
	flags.StringSliceVar(&f.strategies, "strategy", nil, "how a changing skip is followed: a preset's name, or MAX_MISSES:TOLERANCE (default all presets)")
	flags.BoolVar(&f.compatBoth, "compat-bidirectional", false, "the original system's bidirectional: survivors of forward and of reverse-window both")
}

// registerCandidates adds the flags of a search through a list of candidates.
func (f *searchFlags) registerCandidates(c *cobra.Command) {
	f.skip, f.mode = "0", kernels.ModeFixed
	c.Flags().StringVar(&f.candidates, "candidates", "", "file with the candidates, - for standard input: what sieve prints, also as CSV, a JSON array, or lines SEED SKIP")
	f.registerObserved(c)
}

// registerObserved adds the flags that say what was observed, and how closely it
// must match.
func (f *searchFlags) registerObserved(c *cobra.Command) {
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringSliceVarP(&f.generators, "generator", "g", nil, "generator to try; repeat it or separate names by commas (see: seedmesh generators)")
	flags.StringVar(&f.phpMtSeed, "php-mt-seed", "", "draws as the arguments of php_mt_seed, \"MIN MAX LO HI ...\"; the default is then to search all seeds of PHP's generators")
	flags.StringVarP(&f.draws, "draws", "d", "", "file with the observed draws, - for standard input: JSON, JSON Lines, CSV, or a value a line (* is unknown)")
	flags.IntVar(&f.window, "window", 0, "how many of the draws to use (default all)")
	flags.IntVar(&f.windowOffset, "window-offset", 0, "number of the first draw to use")
	flags.StringSliceVar(&f.sessions, "session", nil, "use only the draws of these sessions")
	flags.StringVar(&f.offset, "offset", "0", "outputs thrown away before the first draw: N, or A:B with both ends")
	flags.StringVar(&f.observe, "observe", defaultObserve, "how an output became a draw: mod:M, raw, top:B, scale:N, range:LO:HI, java.nextInt:N, php.mt_rand:LO:HI, python.randrange:N or v8.floor:N")
	flags.Float64Var(&f.threshold, "threshold", 1, "rate of known draws that must match")
	flags.IntVar(&f.minMatches, "min-matches", 0, "the threshold as a count of draws")
	flags.BoolVar(&f.keepAll, "keep-all", false, "allow a threshold of 0, which keeps every seed")
	flags.IntVar(&f.split, "split", 0, "draws of the first part, for bidirectional (default two thirds)")
	flags.Float64Var(&f.confirm, "confirm-threshold", 1, "rate of known draws that must match in the second phase, or in the held-out part")
	flags.StringVar(&f.direction, "direction", kernels.Forward, "forward; reverse-window: the draws in reversed order; backward: seeds are states after the window; bidirectional: a held-out part verifies")
}

// A search is what the flags ask for: a spec, laid out for each of its
// generators in name order, over one range of seeds.
type search struct {
	spec     *kernels.Spec
	seeds    kernels.Range
	searches []*kernels.Search
}

// parse reads the draws and checks the whole question.
func (f *searchFlags) parse(c *cobra.Command, e *env) (*search, error) {
	var pattern *kernels.PHPPattern
	if f.phpMtSeed != "" {
		var err error
		if pattern, err = f.parsePHP(c, e); err != nil {
			return nil, err
		}
	}
	candidates, err := f.readCandidates(e)
	if err != nil {
		return nil, err
	}
	if err := f.missing(); err != nil {
		return nil, err
	}
	if c.Flags().Changed("threshold") && c.Flags().Changed("min-matches") {
		return nil, &usageError{
			what: "--threshold and --min-matches are both given",
			why:  "they state the same bound, as a rate and as a count",
			next: "leave one of them out",
		}
	}
	seeds, err := parseSeeds(f.seeds)
	if err != nil {
		return nil, err
	}
	spec := &kernels.Spec{Generators: f.generators, Observe: f.observe, Mode: f.mode, Direction: f.direction, KeepAll: f.keepAll, Candidates: candidates}
	if spec.Skip, err = parseBounds("skip", f.skip); err != nil {
		return nil, err
	}
	if spec.Offset, err = parseBounds("offset", f.offset); err != nil {
		return nil, err
	}
	if pattern != nil {
		spec.Draws = pattern.Draws
	} else if spec.Draws, err = interruptible(c.Context(), func() ([]kernels.Draw, error) { return f.readDraws(e) }); err != nil {
		return nil, err
	}
	if err := f.readModes(c, spec); err != nil {
		return nil, err
	}
	return compile(spec, seeds)
}

// readModes reads what depends on the mode and the direction: the strategies, the
// split and the needs.
func (f *searchFlags) readModes(c *cobra.Command, spec *kernels.Spec) (err error) {
	for _, text := range f.strategies {
		st, err := kernels.ParseStrategy(text)
		if err != nil {
			return err
		}
		spec.Strategies = append(spec.Strategies, st)
	}
	if f.compatBoth {
		if c.Flags().Changed("direction") {
			return &usageError{what: "--compat-bidirectional and --direction are both given", next: "leave one of them out"}
		}
		spec.Direction = kernels.CompatBidirectional
	}
	first, rest := spec.Draws, spec.Draws
	switch {
	case spec.Direction == kernels.Bidirectional:
		if f.split == 0 {
			f.split = len(spec.Draws) * 2 / 3
		}
		if f.split < 0 || f.split >= len(spec.Draws) {
			return &usageError{what: fmt.Sprintf("--split %d does not divide %d draws", f.split, len(spec.Draws)), next: fmt.Sprintf("use 1 to %d", max(1, len(spec.Draws)-1))}
		}
		spec.Split = uint32(f.split)
		first, rest = spec.Draws[:f.split], spec.Draws[f.split:]
	case f.split != 0:
		return &usageError{what: "--split is given, and the draws are not divided", next: "use it with --direction bidirectional"}
	}
	if !(f.confirm > 0 && f.confirm <= 1) {
		return &usageError{what: fmt.Sprintf("--confirm-threshold %v is not a rate above 0 and up to 1", f.confirm), next: "such as --confirm-threshold 0.8"}
	}
	if spec.Confirms() {
		spec.ConfirmMatches = kernels.Need(f.confirm, kernels.Known(rest))
	} else if c.Flags().Changed("confirm-threshold") {
		return &usageError{what: "--confirm-threshold is given, and nothing is confirmed", next: "use it with --mode two-phase or --direction bidirectional"}
	}
	spec.MinMatches, err = f.need(c, kernels.Known(first))
	return err
}

// phpSeeds are all seeds of PHP's generators.
const phpSeeds = "0:2^32"

// parsePHP reads --php-mt-seed, and sets the flags that follow from it.
func (f *searchFlags) parsePHP(c *cobra.Command, e *env) (*kernels.PHPPattern, error) {
	for _, flag := range []string{"draws", "observe", "window", "window-offset", "session"} {
		if c.Flags().Changed(flag) {
			return nil, &usageError{what: "--php-mt-seed and --" + flag + " are both given", why: "the pattern states the draws and how they were seen", next: "leave one of them out"}
		}
	}
	p, err := kernels.ParsePHPPattern(f.phpMtSeed)
	if err != nil {
		return nil, err
	}
	f.observe = p.Observe
	if len(f.generators) == 0 {
		f.generators = p.Generators
		if p.Mixed {
			_, _ = fmt.Fprintln(e.stderr, "the outputs come from different ranges, which is searched for PHP 5.2.1 to 7.0 only")
		}
	}
	if other := slices.DeleteFunc(slices.Clone(f.generators), func(name string) bool { return slices.Contains(p.Generators, name) }); p.Mixed && len(other) > 0 {
		return nil, &usageError{
			what: "the outputs of --php-mt-seed come from different ranges, and " + other[0] + " takes an unknown number of outputs for each",
			next: "use --generator " + p.Generators[0],
		}
	}
	if f.seeds == "" {
		f.seeds = phpSeeds
	}
	return &p, nil
}

// readCandidates reads --candidates, and sets the flags that follow from it: the
// generators are those of the candidates, unless they are named.
func (f *searchFlags) readCandidates(e *env) ([]kernels.Candidate, error) {
	if f.candidates == "" {
		return nil, nil
	}
	in := e.stdin
	if f.candidates != "-" {
		file, err := os.Open(f.candidates)
		if err != nil {
			return nil, candidatesError(err)
		}
		defer file.Close()
		in = file
	}
	list, err := kernels.ParseCandidates(in)
	if err != nil {
		return nil, candidatesError(err)
	}
	if len(f.generators) == 0 {
		families := make(map[string]bool)
		for _, c := range list {
			families[c.Family] = true
		}
		delete(families, "")
		f.generators = slices.Sorted(maps.Keys(families))
	}
	f.seeds = allSeeds
	return list, nil
}

func candidatesError(err error) error {
	return unreadable("the candidates", err, "name a file with --candidates, or - for standard input")
}

// allSeeds stands for the range of a search that has candidates instead.
const allSeeds = "0:1"

func (f *searchFlags) missing() error {
	for _, need := range []struct{ flag, value, next string }{
		{"--generator", first(f.generators), "name the generator, such as --generator mt19937; list them with: seedmesh generators"},
		{"--draws", f.draws + f.phpMtSeed, "name the file with the observed draws, or - for standard input"},
		{"--seeds", f.seeds, "give the range to search, such as --seeds 0:2^32"},
	} {
		if need.value == "" {
			return &usageError{what: need.flag + " is missing", next: need.next}
		}
	}
	return nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func (f *searchFlags) need(c *cobra.Command, known int) (uint32, error) {
	if c.Flags().Changed("min-matches") {
		if f.minMatches < 0 || int64(f.minMatches) > math.MaxInt32 {
			return 0, &usageError{what: fmt.Sprintf("--min-matches %d is not a count of draws", f.minMatches), next: fmt.Sprintf("use 1 to %d", known)}
		}
		return uint32(f.minMatches), nil
	}
	if !(f.threshold >= 0 && f.threshold <= 1) {
		return 0, &usageError{what: fmt.Sprintf("--threshold %v is not a rate from 0 to 1", f.threshold), next: "for a count of draws use --min-matches"}
	}
	return kernels.Need(f.threshold, known), nil
}

// interruptible waits for a reader of a pipe or a terminal, which may never have
// an end, for as long as ctx lasts. The reader is left behind then: the process
// is about to end.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		v, err := read()
		answered <- answer{v, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (f *searchFlags) readDraws(e *env) ([]kernels.Draw, error) {
	in := e.stdin
	if f.draws != "-" {
		file, err := os.Open(f.draws)
		if err != nil {
			return nil, drawsError(err)
		}
		defer file.Close()
		in = file
	}
	if f.window == 0 && f.windowOffset == 0 && len(f.sessions) == 0 {
		draws, err := kernels.ParseDraws(in)
		return draws, drawsError(err)
	}
	records, err := kernels.ParseDrawRecords(in)
	if err != nil {
		return nil, drawsError(err)
	}
	return kernels.Window(records, f.sessions, f.window, f.windowOffset)
}

// drawsError words a failure to read the file.
func drawsError(err error) error {
	return unreadable("the draws", err, "name a file with --draws, or - for standard input")
}

func compile(spec *kernels.Spec, seeds kernels.Range) (*search, error) {
	s := &search{spec: spec, seeds: seeds}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(spec.Generators))) {
		one, err := spec.Compile(name)
		if err != nil {
			return nil, err
		}
		if err := one.CheckSeeds(one.Over(seeds)); err != nil {
			return nil, err
		}
		s.searches = append(s.searches, one)
	}
	return s, nil
}

// total is the number of seeds over all generators.
func (s *search) total() float64 {
	var sum float64
	for _, one := range s.searches {
		sum += one.Over(s.seeds).Size()
	}
	return sum
}

// steps is the work without early stopping, in generator advances.
func (s *search) steps() float64 {
	var sum float64
	for _, one := range s.searches {
		sum += one.Over(s.seeds).Size() * float64(one.StepsPerSeed())
	}
	return sum
}

// expected is the number of survivors that chance alone gives.
func (s *search) expected() float64 {
	var sum float64
	for _, one := range s.searches {
		sum += kernels.Expected(one, one.Over(s.seeds).Size())
	}
	return sum
}

// selects tells whether survivors are told from other seeds at all: an analysis
// may have a record of every seed, which says nothing about chance.
func (s *search) selects() bool { return s.spec.Analysis == nil || s.spec.Analysis.MaxP < 1 }

// jobFlags are the flags that say how a mesh treats the search.
type jobFlags struct {
	name      string
	key       string
	priority  int32
	chunkTime time.Duration
	attempts  uint32
	timeout   time.Duration
}

func (f *jobFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.name, "name", "", "name of the job")
	flags.StringVar(&f.key, "key", "", "idempotency key: the same key with the same request is the same job (default drawn)")
	flags.Int32Var(&f.priority, "priority", 0, "jobs with a higher one go first")
	flags.DurationVar(&f.chunkTime, "chunk-time", 10*time.Second, "intended length of one piece of work")
	flags.Uint32Var(&f.attempts, "attempts", 3, "how often a piece may be tried in all")
	flags.DurationVar(&f.timeout, "timeout", 0, "longest time for one piece (default unbounded)")
}

func (f *jobFlags) check() error {
	switch {
	case f.chunkTime < time.Millisecond:
		return &usageError{what: fmt.Sprintf("--chunk-time %s is less than a millisecond", f.chunkTime), next: "such as --chunk-time 10s"}
	case f.timeout < 0 || f.timeout > 0 && f.timeout < time.Millisecond:
		return &usageError{what: fmt.Sprintf("--timeout %s is less than a millisecond", f.timeout), next: "such as --timeout 10m; 0 is none"}
	case f.attempts == 0:
		return &usageError{what: "--attempts 0 would never try", next: "such as --attempts 3"}
	}
	return nil
}
