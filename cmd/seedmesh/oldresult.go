package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"seedmesh/kernels"
	"seedmesh/node/api/meshv1"
)

// The results of a search in the original's fields. Its survivors come between
// these two, one a line.
type (
	oldResultHead struct {
		ID         string      `json:"job_id"`
		Success    bool        `json:"success"`
		Mode       string      `json:"mode,omitempty"`
		Families   []oldFamily `json:"prng_families"`
		Range      *oldRange   `json:"seed_range,omitempty"`
		K          int         `json:"k,omitempty"`
		Candidates int         `json:"candidates_tested,omitempty"`
		Window     int         `json:"window_size,omitempty"`
		Skip       [2]int      `json:"skip_range"`
		Threshold  float64     `json:"min_match_threshold"`
		Expected   float64     `json:"expected_by_chance"`
	}
	oldResultTail struct {
		Stats     map[string]any              `json:"stats"`
		PerFamily map[string]*oldFamilyResult `json:"per_family,omitempty"`
		Analyzed  json.Number                 `json:"seeds_analyzed,omitempty"`
		Info      *oldExecution               `json:"execution_info,omitempty"`
		Runtime   float64                     `json:"worker_runtime,omitempty"`
	}
	oldRange struct {
		Start json.Number `json:"start"`
		End   json.Number `json:"end"`
	}
	oldFamilyResult struct {
		Tested json.Number `json:"tested"`
		Found  uint64      `json:"found"`
	}
)

// oldExecution is what the original's worker says about how it ran a job.
type oldExecution struct {
	Host   string `json:"worker_hostname"`
	GPU    int    `json:"gpu_id"`
	Kind   string `json:"hardware_type"`
	Mining bool   `json:"mining_mode"`
	Method string `json:"execution_method"`
	Type   string `json:"analysis_type"`
}

// write waits for the end of the search and writes its result. That the job failed
// is such a result too, and is noted.
func (r *searchRun) write(ctx context.Context, e *env, w io.Writer, by *oldExecution) error {
	info, err := e.follow(ctx, r.job, false, 0)
	if info == nil {
		return err
	}
	if r.failed = err; err != nil {
		return writeValue(w, struct {
			ID       string `json:"job_id"`
			Success  bool   `json:"success"`
			Error    string `json:"error"`
			Trace    string `json:"traceback"`
			Analyzed int    `json:"seeds_analyzed"`
		}{ID: r.ID, Error: err.Error(), Trace: info.GetLastError()})
	}
	if err := openObject(w, r.head(info)); err != nil {
		return err
	}
	if _, err := io.WriteString(w, `,"survivors":`); err != nil {
		return err
	}
	families := map[string]*oldFamilyResult{}
	for _, one := range r.search.searches {
		families[strings.TrimPrefix(one.Generator(), "compat:")] = &oldFamilyResult{Tested: sizeOf(one.Over(r.search.seeds))}
	}
	lines := &lineWriter{w: w, end: arrayEnd, each: func(dst []byte, n int, line []byte) ([]byte, error) {
		line, family, err := oldSurvivor(line)
		if f := families[family]; f != nil {
			f.Found++
		}
		if err != nil {
			return nil, err
		}
		return arrayElement(dst, n, line)
	}}
	if err := e.streamResults(ctx, r.job, false, lines); err != nil {
		return err
	}
	if err := lines.Close(); err != nil {
		return err
	}
	return closeObject(w, r.tail(info, families, by))
}

func (r *searchRun) head(info *meshv1.JobInfo) *oldResultHead {
	h := &oldResultHead{
		ID: r.ID, Success: true, Families: r.Families, Skip: r.Skip, Threshold: r.Threshold, Expected: info.GetExpectedByChance(),
	}
	if r.kind() == "reverse_sieve" {
		h.Mode, h.Candidates, h.Window = r.kind(), len(r.search.spec.Candidates), r.Window
		return h
	}
	h.K = len(r.search.spec.Draws)
	start, end, _ := strings.Cut(r.search.seeds.String(), ":")
	h.Range = &oldRange{json.Number(start), json.Number(end)}
	return h
}

// sizeOf is the number of seeds of a range, up to 2^64.
func sizeOf(r kernels.Range) json.Number {
	if r.Count() == 0 {
		return "18446744073709551616"
	}
	return json.Number(strconv.FormatUint(r.Count(), 10))
}

func (r *searchRun) tail(info *meshv1.JobInfo, families map[string]*oldFamilyResult, by *oldExecution) *oldResultTail {
	t := &oldResultTail{Info: by, Stats: map[string]any{
		"total_survivors": json.Number(info.GetSurvivors()), "duration_ms": math.Round(1000 * info.GetElapsedSeconds()),
	}}
	if by != nil {
		t.Runtime = info.GetElapsedSeconds()
	}
	if r.kind() == "reverse_sieve" {
		t.Stats["total_candidates"] = len(r.search.spec.Candidates)
		return t
	}
	t.PerFamily, t.Analyzed = families, json.Number(info.GetTotal())
	t.Stats["total_seeds_tested"] = t.Analyzed
	tested, _ := t.Analyzed.Float64() // a count always is one
	t.Stats["avg_seeds_per_sec"] = math.Round(tested / max(info.GetElapsedSeconds(), 1e-3))
	return t
}

// oldSurvivor writes a survivor as the original did: its seed is a number, its
// family has no prefix.
func oldSurvivor(line []byte) (converted []byte, family string, err error) {
	var record struct {
		Seed   string `json:"seed"`
		Family string `json:"family"`
	}
	if err := json.Unmarshal(line, &record); err != nil {
		return nil, "", fmt.Errorf("a survivor cannot be read: %w", err)
	}
	family = strings.TrimPrefix(record.Family, "compat:")
	line = bytes.Replace(line, []byte(`"seed":"`+record.Seed+`"`), []byte(`"seed":`+record.Seed), 1)
	return bytes.Replace(line, []byte(`"family":"compat:`), []byte(`"family":"`), 1), family, nil
}

// openObject writes a JSON object without its end.
func openObject(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(b[:len(b)-1])
	return err
}

// closeObject writes the rest of a JSON object, behind other fields.
func closeObject(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b[0] = ','
	_, err = w.Write(append(b, '\n'))
	return err
}
