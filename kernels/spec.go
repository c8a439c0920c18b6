package kernels

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits of a search.
const (
	MaxDraws      = 4096    // draws, unknown ones included
	MaxSkip       = 65535   // outputs between two draws; best_skip has 16 bits
	MaxOffset     = 1 << 24 // outputs before the first draw
	MaxGenerators = 128     // generators in one spec
	MaxSpecBytes  = 1 << 18 // bytes of an encoded spec
)

// Modes and directions of a search.
const (
	ModeFixed    = "fixed"     // one skip for the whole window
	ModeHybrid   = "hybrid"    // a skip that changes from draw to draw
	ModeTwoPhase = "two-phase" // hybrid for the survivors of fixed

	Forward             = "forward"              // the draws in the order of the list
	ReverseWindow       = "reverse-window"       // the same arithmetic with the list reversed
	Backward            = "backward"             // the seeds are states after the window, run backwards
	Bidirectional       = "bidirectional"        // a first part of the window is searched, the rest verifies
	CompatBidirectional = "compat-bidirectional" // the original's: forward and reverse-window both
)

// Versions of the encoding. What version 1 could say is read as well.
const (
	specVersion     = 2
	analysisVersion = 3 // of specs with an analysis
)

// A Draw is one observed value, or an interval of values one of which was
// observed. A draw that is not Known is a wildcard: it takes its place in the
// sequence, and is never compared.
type Draw struct {
	Value uint64 // the interval's first
	Width uint64 // how many more there are after it
	Known bool
	Whole bool // Value is the generator's whole output, and is observed like one
}

// Bounds are the numbers from Min to Max, both included.
type Bounds struct {
	Min uint32 `json:"min"`
	Max uint32 `json:"max"`
}

// Count is how many numbers the bounds include.
func (b Bounds) Count() uint64 { return uint64(b.Max-b.Min) + 1 }

// A Spec is what a user asked for, apart from the seeds: which generators, seen
// how, could have made these draws.
type Spec struct {
	Generators []string // names as in [Generators]; the order does not matter
	Draws      []Draw
	Observe    string // such as "mod:1000"; see docs/SIEVE.md for all forms
	Skip       Bounds // outputs discarded between two draws
	Offset     Bounds // outputs discarded before the first draw
	MinMatches uint32 // known draws that must match; see [Need]
	Mode       string // empty means [ModeFixed]
	Direction  string // empty means [Forward]

	Strategies     []Strategy // of the hybrid and two-phase modes; none means all presets
	Split          uint32     // draws of the first part, for the direction bidirectional
	ConfirmMatches uint32     // as MinMatches, for the second phase or the held-out part

	KeepAll bool // allows MinMatches 0, which keeps every seed

	Candidates []Candidate // to test instead of a range of seeds, each at its own skip

	Analysis *Analysis // of the stream of every seed, instead of a search; nil for a search
}

// Need is the number of matches that a threshold, from 0 to 1, asks for.
func Need(threshold float64, known int) uint32 {
	return uint32(max(0, math.Ceil(threshold*float64(known)-1e-6)))
}

// A SpecError says what a spec asks that cannot be done.
type SpecError struct {
	What string // in the user's words, with the value and the limit
	Do   string // what to change
}

func (e *SpecError) Error() string { return "kernels: " + e.What }

// Remedy says what to change.
func (e *SpecError) Remedy() string { return e.Do }

// Known is how many draws are compared.
func (s *Spec) Known() int { return Known(s.Draws) }

// Known is how many of the draws are compared.
func Known(draws []Draw) int {
	n := 0
	for _, d := range draws {
		if d.Known {
			n++
		}
	}
	return n
}

// Validate reports the first thing that is wrong with the spec, as a
// [*SpecError] or an [*UnknownGeneratorError].
func (s *Spec) Validate() error {
	checks := []func() error{s.checkMode, s.checkGenerators, s.checkDraws, s.checkBounds, s.checkNeed, s.checkCandidates}
	if s.Analysis != nil {
		checks = []func() error{s.checkGenerators, s.checkDraws, s.checkBounds, s.checkAnalysis, s.checkCandidates}
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) checkGenerators() error {
	if n := len(s.Generators); n == 0 || n > MaxGenerators {
		return &SpecError{
			fmt.Sprintf("%d generators were named, and a search has 1 to %d", n, MaxGenerators),
			"name the generators with --generator; list them with: seedmesh generators",
		}
	}
	for _, name := range s.Generators {
		d, err := lookup(name)
		if err != nil {
			return err
		}
		if err := s.checkNamed(d); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) checkDraws() error {
	observe, err := parseObserve(s.Observe)
	if err != nil {
		return err
	}
	for _, name := range s.Generators {
		def, err := lookup(name)
		if err != nil {
			return err
		}
		if _, err := observe.on(def); err != nil {
			return err
		}
	}
	if n := len(s.Draws); n > MaxDraws {
		return &SpecError{
			fmt.Sprintf("%d draws were given, and a search takes at most %d", n, MaxDraws),
			fmt.Sprintf("use a window: --window %d", MaxDraws),
		}
	}
	if s.Known() == 0 && s.Analysis == nil {
		return &SpecError{"no known draw was given, so there is nothing to compare", "give at least one draw that is a number"}
	}
	for i, d := range s.Draws {
		if err := checkDraw(d, i+1, observe); err != nil {
			return err
		}
	}
	return nil
}

func checkDraw(d Draw, number int, observe observation) error {
	values := observe.values()
	inside := values.First <= d.Value && d.Value <= values.Last && d.Width <= values.Last-d.Value
	switch {
	case !d.Known:
		return nil
	case d.Whole && observe.form.call:
		return &SpecError{
			fmt.Sprintf("draw number %d is a whole output, and the observation %s is a call that may take several", number, observe),
			"use the values that the call gave, or another --observe",
		}
	case d.Whole || inside:
		return nil
	}
	return &SpecError{
		fmt.Sprintf("draw number %d is %s, and the observation %s gives values from %d to %d", number, d, observe, values.First, values.Last),
		"correct the draw, or say with --observe how the outputs were mapped (raw for whole outputs)",
	}
}

func (s *Spec) checkBounds() error {
	for _, b := range []struct {
		name string
		Bounds
		limit uint32
	}{{"skip", s.Skip, MaxSkip}, {"offset", s.Offset, MaxOffset}} {
		if b.Min > b.Max {
			return &SpecError{
				fmt.Sprintf("the %s range starts at %d, after its end %d", b.name, b.Min, b.Max),
				fmt.Sprintf("write the smaller number first: --%s %d:%d", b.name, b.Max, b.Min),
			}
		}
		if b.Max > b.limit {
			return &SpecError{
				fmt.Sprintf("the %s range ends at %d, and the limit is %d", b.name, b.Max, b.limit),
				fmt.Sprintf("use --%s %d:%d or less", b.name, min(b.Min, b.limit), b.limit),
			}
		}
	}
	return nil
}

func (s *Spec) checkNeed() error {
	known, confirmed := s.Known(), s.Known()
	if s.Direction == Bidirectional {
		known = Known(s.Draws[:s.Split])
		confirmed -= known
	}
	if int64(s.MinMatches) > int64(known) {
		return &SpecError{
			fmt.Sprintf("%d matches are needed, and only %d draws are known", s.MinMatches, known),
			fmt.Sprintf("use --min-matches %d or less", known),
		}
	}
	if s.MinMatches == 0 && !s.KeepAll {
		return &SpecError{
			"a need of 0 matches keeps every seed",
			"raise --threshold or --min-matches, or ask for every seed explicitly with --keep-all",
		}
	}
	if s.Confirms() && (s.ConfirmMatches == 0 || int64(s.ConfirmMatches) > int64(confirmed)) {
		return &SpecError{
			fmt.Sprintf("%d matches are needed of the %d known draws that confirm a seed", s.ConfirmMatches, confirmed),
			"use a --confirm-threshold above 0 and up to 1",
		}
	}
	return nil
}

// wireSpec is the encoding of a [Spec]. Its field order is the canonical one.
type wireSpec struct {
	Version    int      `json:"version"`
	Generators []string `json:"generators"`
	Draws      []string `json:"draws"` // "71"; "10:19" an interval; "*" unknown; "=3456789012" a whole output
	Observe    string   `json:"observe"`
	Skip       Bounds   `json:"skip"`
	Offset     Bounds   `json:"offset"`
	MinMatches uint32   `json:"min_matches"`
	Mode       string   `json:"mode"`
	Direction  string   `json:"direction"`
	KeepAll    bool     `json:"keep_all"`

	Strategies     []string `json:"strategies,omitempty"`
	Split          uint32   `json:"split,omitempty"`
	ConfirmMatches uint32   `json:"confirm_matches,omitempty"`
	Candidates     []string `json:"candidates,omitempty"` // "SEED SKIP" or "SEED SKIP FAMILY"

	Analysis *Analysis `json:"analysis,omitempty"`
}

// Encode is the canonical JSON of the spec: equal questions give equal bytes.
// Generators are sorted and named once, and defaults are written out.
func (s *Spec) Encode() []byte {
	w := wireSpec{
		Version:    specVersion,
		Generators: slices.Compact(slices.Sorted(slices.Values(s.Generators))),
		Draws:      make([]string, len(s.Draws)),
		Observe:    s.Observe,
		Skip:       s.Skip,
		Offset:     s.Offset,
		MinMatches: s.MinMatches,
		Mode:       or(s.Mode, ModeFixed),
		Direction:  or(s.Direction, Forward),
		KeepAll:    s.KeepAll,

		Split:          s.Split,
		ConfirmMatches: s.ConfirmMatches,
		Analysis:       s.Analysis,
	}
	if s.Analysis != nil {
		w.Version = analysisVersion
	}
	for _, t := range s.Strategies {
		w.Strategies = append(w.Strategies, t.Name)
	}
	for _, c := range s.Candidates {
		w.Candidates = append(w.Candidates, c.String())
	}
	if observe, err := parseObserve(s.Observe); err == nil {
		w.Observe = observe.String()
	}
	for i, d := range s.Draws {
		w.Draws[i] = d.String()
	}
	b, err := json.Marshal(w)
	if err != nil {
		panic(err) // no field of wireSpec can fail
	}
	return b
}

// DecodeSpec reads what [Spec.Encode] wrote, and nothing else: a field it does
// not know, another version, more than [MaxSpecBytes] or an invalid spec is an
// error.
func DecodeSpec(b []byte) (*Spec, error) {
	if len(b) > MaxSpecBytes {
		return nil, fmt.Errorf("kernels: a spec of %d bytes is above the limit of %d", len(b), MaxSpecBytes)
	}
	var w wireSpec
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, fmt.Errorf("kernels: decode spec: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("kernels: decode spec: more than one value")
	}
	if w.Version < 1 || w.Version > analysisVersion || (w.Version == analysisVersion) != (w.Analysis != nil) {
		return nil, &SpecError{
			fmt.Sprintf("the spec has version %d, and this program reads searches of versions 1 to %d and analyses of version %d", w.Version, specVersion, analysisVersion),
			"use the same version of seedmesh on every machine",
		}
	}
	s := &Spec{
		Generators: w.Generators, Observe: w.Observe, Skip: w.Skip, Offset: w.Offset,
		MinMatches: w.MinMatches, Mode: w.Mode, Direction: w.Direction, KeepAll: w.KeepAll,
		Split: w.Split, ConfirmMatches: w.ConfirmMatches, Analysis: w.Analysis,
		Draws: make([]Draw, len(w.Draws)),
	}
	for _, name := range w.Strategies {
		t, err := ParseStrategy(name)
		if err != nil {
			return nil, err
		}
		s.Strategies = append(s.Strategies, t)
	}
	for _, text := range w.Candidates {
		c, err := parseCandidate(strings.Split(text, " "))
		if err != nil {
			return nil, fmt.Errorf("kernels: decode spec: candidate %q: %w", clip(text), err)
		}
		s.Candidates = append(s.Candidates, c)
	}
	for i, text := range w.Draws {
		var err error
		if s.Draws[i], err = parseWireDraw(text); err != nil {
			return nil, fmt.Errorf("kernels: decode spec: draw number %d: %w", i+1, err)
		}
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// String is the value in decimal, A:B for an interval with both ends, "*" when
// it is unknown, and with "=" in front when it is a whole output.
func (d Draw) String() string {
	switch {
	case !d.Known:
		return "*"
	case d.Whole:
		return "=" + strconv.FormatUint(d.Value, 10)
	case d.Width > 0:
		return strconv.FormatUint(d.Value, 10) + ":" + strconv.FormatUint(d.Value+d.Width, 10)
	}
	return strconv.FormatUint(d.Value, 10)
}

func parseWireDraw(text string) (Draw, error) {
	if text == "*" {
		return Draw{}, nil
	}
	if whole, ok := strings.CutPrefix(text, "="); ok {
		v, err := strconv.ParseUint(whole, 10, 64)
		return Draw{Value: v, Known: true, Whole: true}, err
	}
	return parseInterval(text)
}

// parseInterval reads a known draw: A, or A:B with both ends.
func parseInterval(text string) (Draw, error) {
	low, high, isInterval := strings.Cut(text, ":")
	first, err := strconv.ParseUint(low, 10, 64)
	if err != nil || !isInterval {
		return Draw{Value: first, Known: true}, err
	}
	last, err := strconv.ParseUint(high, 10, 64)
	if err == nil && last < first {
		err = fmt.Errorf("the interval %s ends before it starts", clip(text))
	}
	return Draw{Value: first, Width: last - first, Known: true}, err
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
