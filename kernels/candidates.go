package kernels

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Limits of a candidate list.
const (
	MaxCandidates     = 1 << 20  // in one search
	MaxCandidateBytes = 64 << 20 // of a file
)

// A Candidate is a seed that is tested at exactly one skip.
type Candidate struct {
	Seed   uint64
	Skip   uint32
	Family string // the generator it is tested under; empty means each
}

// candidateForms is what a candidate file may look like, for error messages.
const candidateForms = `use the JSON Lines that sieve prints, a JSON array of seeds or of objects with "seed" and "skip", CSV with a seed column, or text lines SEED SKIP`

// ParseCandidates reads a list of candidates: what sieve prints (seed, family
// and best_skip), also as CSV, a JSON array of numbers or of objects with seed and
// skip, or lines of a seed and a skip. A skip that is not stated is 0.
func ParseCandidates(r io.Reader) ([]Candidate, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxCandidateBytes+1))
	if err != nil {
		return nil, fmt.Errorf("kernels: read candidates: %w", err)
	}
	if len(text) > MaxCandidateBytes {
		return nil, &SpecError{fmt.Sprintf("the candidates are larger than the limit of %d MiB", MaxCandidateBytes>>20), "test them in parts"}
	}
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
	var list []Candidate
	first, _, _ := strings.Cut(string(text), "\n")
	switch {
	case len(text) > 0 && (text[0] == '[' || text[0] == '{'):
		list, err = parseJSONCandidates(text)
	case namesColumn(first, "seed"):
		list, err = parseCSVCandidates(text)
	default:
		list, err = parseTextCandidates(text)
	}
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, &SpecError{"there are no candidates", candidateForms}
	}
	return list, nil
}

func candidateError(where int, text string) error {
	return &SpecError{fmt.Sprintf("candidate number %d, %q, is not a seed with a skip of 0 to %d", where, clip(text), MaxSkip), candidateForms}
}

func parseTextCandidates(text []byte) ([]Candidate, error) {
	var list []Candidate
	for line := range strings.Lines(string(text)) {
		words := strings.FieldsFunc(line, isSeparator)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		c, err := parseCandidate(words)
		if err != nil {
			return nil, candidateError(len(list)+1, strings.TrimSpace(line))
		}
		list = append(list, c)
	}
	return list, nil
}

// parseCSVCandidates reads the columns seed, skip or best_skip, and family; an empty
// cell states nothing.
func parseCSVCandidates(text []byte) ([]Candidate, error) {
	table, err := readCSV(text)
	if err != nil {
		return nil, &SpecError{"the candidates are not CSV: " + err.Error(), candidateForms}
	}
	seed, family := table.column("seed"), table.column("family")
	skip := table.column("skip")
	if skip < 0 {
		skip = table.column("best_skip")
	}
	cell := func(row []string, column int, otherwise string) string {
		if column < 0 {
			return otherwise
		}
		return or(strings.TrimSpace(row[column]), otherwise)
	}
	list := make([]Candidate, len(table.rows))
	for i, row := range table.rows {
		if list[i], err = parseCandidate([]string{cell(row, seed, ""), cell(row, skip, "0"), cell(row, family, "")}); err != nil {
			return nil, candidateError(i+1, strings.Join(row, ","))
		}
	}
	return list, nil
}

// parseCandidate reads a seed, and a skip and a family when they are there.
func parseCandidate(words []string) (c Candidate, err error) {
	if c.Seed, err = strconv.ParseUint(words[0], 10, 64); err != nil || len(words) == 1 {
		return c, err
	}
	skip, err := strconv.ParseUint(words[1], 10, 16)
	c.Skip = uint32(skip)
	if len(words) == 3 {
		c.Family = words[2]
	}
	if len(words) > 3 {
		err = errors.New("too many words")
	}
	return c, err
}

func parseJSONCandidates(text []byte) ([]Candidate, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var list []Candidate
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, &SpecError{"the candidates are not JSON: " + err.Error(), candidateForms}
		}
		items := []json.RawMessage{raw}
		if raw[0] == '[' && json.Unmarshal(raw, &items) != nil {
			return nil, candidateError(len(list)+1, string(raw))
		}
		for _, item := range items {
			c, err := parseJSONCandidate(item)
			if err != nil {
				return nil, candidateError(len(list)+1, string(item))
			}
			list = append(list, c)
		}
	}
}

func parseJSONCandidate(raw json.RawMessage) (Candidate, error) {
	if raw[0] != '{' {
		return parseCandidate([]string{jsonText(raw)})
	}
	var object struct {
		Seed     json.RawMessage
		Skip     *uint16
		BestSkip *uint16 `json:"best_skip"`
		Family   string
	}
	if err := json.Unmarshal(raw, &object); err != nil || len(object.Seed) == 0 {
		return Candidate{}, errors.Join(err, errors.New("no seed"))
	}
	c, err := parseCandidate([]string{jsonText(object.Seed)})
	for _, skip := range []*uint16{object.BestSkip, object.Skip} {
		if skip != nil {
			c.Skip = uint32(*skip)
		}
	}
	c.Family = object.Family
	return c, err
}

// String is what [Spec.Encode] writes: the seed, the skip, and the family.
func (c Candidate) String() string {
	text := strconv.FormatUint(c.Seed, 10) + " " + strconv.FormatUint(uint64(c.Skip), 10)
	if c.Family != "" {
		text += " " + c.Family
	}
	return text
}

// candidatesOf are those that are tested under a generator, in the order of
// their records: by seed, then by skip, each once.
func (s *Spec) candidatesOf(generator string) []Candidate {
	var list []Candidate
	for _, c := range s.Candidates {
		if c.Family == "" || c.Family == generator {
			list = append(list, Candidate{Seed: c.Seed, Skip: c.Skip})
		}
	}
	slices.SortFunc(list, func(a, b Candidate) int { return cmp.Or(cmp.Compare(a.Seed, b.Seed), cmp.Compare(a.Skip, b.Skip)) })
	return slices.Compact(list)
}

// checkCandidates checks a list of candidates against the rest of the spec.
func (s *Spec) checkCandidates() error {
	if len(s.Candidates) == 0 {
		return nil
	}
	switch {
	case len(s.Candidates) > MaxCandidates:
		return &SpecError{fmt.Sprintf("%d candidates were given, and the limit is %d", len(s.Candidates), MaxCandidates), "test them in parts"}
	case s.Skip != Bounds{}:
		return &SpecError{"skips were given, and every candidate has its own", "leave out --skip"}
	case s.Direction == CompatBidirectional:
		return &SpecError{"candidates have one skip, and the direction " + CompatBidirectional + " looks for two", "use another --direction"}
	case or(s.Mode, ModeFixed) != ModeFixed:
		return &SpecError{fmt.Sprintf("candidates have a fixed skip, and the mode %s was asked for", s.Mode), "use --mode fixed"}
	}
	for _, name := range s.Generators {
		def, err := lookup(name)
		if err != nil {
			return err
		}
		if def.hybrid {
			return &SpecError{fmt.Sprintf("candidates have a fixed skip, and %s has a variable one", name), "use the name without _hybrid"}
		}
		list := s.candidatesOf(name)
		if len(list) == 0 {
			return &SpecError{fmt.Sprintf("none of the candidates is for %s", name), "use the generator that their family states"}
		}
		if last := list[len(list)-1].Seed; last > def.Space().Last {
			return &SpecError{fmt.Sprintf("the candidate %d is not in the seed space %s of %s", last, def.Space(), name), "use another --generator"}
		}
	}
	return nil
}

// runCandidates tests the candidates at the positions of a range. A survivor's
// seed is the position.
func (v *sieve) runCandidates(r Range, found []Survivor) ([]Survivor, Account) {
	var acct Account
	for at := r.First; ; at++ {
		acct.visit(at)
		c := v.search.candidates[at]
		best, ok := v.testPairs(c.Seed, nil, Bounds{c.Skip, c.Skip})
		if ok && v.confirm != nil {
			best, ok = v.confirms(best)
		}
		if ok {
			best.Seed = at
			found = append(found, best)
		}
		if at == r.Last || v.abort.Load() {
			return found, acct
		}
	}
}

// candidateSteps is the work of an average candidate, in generator advances.
func (s *Search) candidateSteps() uint64 {
	var skips uint64
	for _, c := range s.candidates {
		skips += uint64(c.Skip) + 1
	}
	offset := uint64(s.offset.Max+s.offset.Min) / 2
	window := mulSat(uint64(s.draws), skips) / uint64(len(s.candidates))
	return mulSat(s.offset.Count(), addSat(offset, window))
}

// skipsOf are the bounds of the candidates' skips, or others when there are none.
func skipsOf(candidates []Candidate, others Bounds) Bounds {
	if len(candidates) == 0 {
		return others
	}
	skips := Bounds{candidates[0].Skip, candidates[0].Skip}
	for _, c := range candidates {
		skips = Bounds{min(skips.Min, c.Skip), max(skips.Max, c.Skip)}
	}
	return skips
}
