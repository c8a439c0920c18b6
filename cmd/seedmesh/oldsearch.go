package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
)

// A searchJob is a search as the original's job files state it.
type searchJob struct {
	ID         string          `json:"job_id"`
	Type       string          `json:"analysis_type"` // sieve or reverse_sieve
	ShortType  string          `json:"type"`          // another name of it
	Dataset    string          `json:"dataset_path"`
	Target     string          `json:"target_file"` // another name of it
	Window     int             `json:"window_size"`
	Seeds      []json.Number   `json:"seeds"` // means the range from the first to the last
	SeedStart  json.Number     `json:"seed_start"`
	SeedEnd    json.Number     `json:"seed_end"` // not included
	Skip       [2]int          `json:"skip_range"`
	Threshold  float64         `json:"min_match_threshold"`
	Offset     int             `json:"offset"` // of the window, and outputs thrown away before it
	Sessions   []string        `json:"sessions"`
	Families   []oldFamily     `json:"prng_families"`
	Hybrid     bool            `json:"hybrid"`
	Strategies []oldStrategy   `json:"strategies"`
	Phase1     oldRate         `json:"phase1_threshold"`
	Phase2     oldRate         `json:"phase2_threshold"`
	Candidates json.RawMessage `json:"candidate_seeds"`
}

// oldFamily is a name, or an object that has it.
type oldFamily string

func (f *oldFamily) UnmarshalJSON(b []byte) error {
	var object struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(b, (*string)(f)) == nil {
		return nil
	}
	err := json.Unmarshal(b, &object)
	*f = oldFamily(object.Type)
	return err
}

// generator is the mesh's name of a family: the one that computes as the original
// did, where there is one.
func (f oldFamily) generator() string {
	if g, err := kernels.Lookup("compat:" + string(f)); err == nil {
		return g.Name
	}
	return string(f)
}

// changes tells a family whose skip changes.
func (f oldFamily) changes() bool { return strings.Contains(string(f), "_hybrid") }

type oldStrategy struct {
	Misses    int `json:"max_consecutive_misses"`
	Tolerance int `json:"skip_tolerance"`
}

// oldRate is a threshold; 0 is one that was left to the program, which wrote auto.
type oldRate float64

func (r *oldRate) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "auto" || text == "null" {
		*r = 0
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	*r = oldRate(v)
	return err
}

// or gives the threshold, or what auto stands for.
func (r oldRate) or(auto float64) float64 {
	if r == 0 {
		return auto
	}
	return float64(r)
}

// The original's thresholds that auto stands for.
const (
	autoPhase1   = 0.20
	autoPhase2   = 0.75
	autoOnePhase = 0.50 // of a search for changing skips alone
)

// parseSearchJob reads a job of a job file, with the original's defaults.
func parseSearchJob(raw json.RawMessage) (*searchJob, error) {
	j := &searchJob{
		Window: 10, SeedStart: "0", SeedEnd: "100000", Skip: [2]int{0, 16}, Threshold: 0.25, Sessions: []string{"midday", "evening"},
		Families: []oldFamily{"xorshift32", "pcg32", "mt19937"},
	}
	var kind searchJob
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, searchJobError(err)
	}
	if kind.kind() == "reverse_sieve" {
		j.Window, j.Threshold, j.Skip, j.Families = 30, 0.01, [2]int{}, []oldFamily{"mt19937"}
	}
	if err := json.Unmarshal(raw, j); err != nil {
		return nil, searchJobError(err)
	}
	if k := j.kind(); k != "sieve" && k != "reverse_sieve" {
		e := &usageError{
			what: fmt.Sprintf("the job %q has the type %q", clip(j.ID), clip(k)), why: "the coordinator runs searches (sieve, reverse_sieve) and scripts",
			next: "for statistics of streams use seedmesh analysis or seedmesh correlation; another program runs as a script: seedmesh exec -- python3 analysis.py",
		}
		if line := analysisCommand(k, raw); line != "" {
			e.next = "the statistics of these seeds' streams: " + line
		}
		return nil, e
	}
	if j.ID == "" {
		j.ID = "unknown"
	}
	if n := len(j.Seeds); n > 0 {
		last, err := strconv.ParseUint(j.Seeds[n-1].String(), 10, 64)
		if err != nil {
			return nil, searchJobError(err)
		}
		j.SeedStart, j.SeedEnd = j.Seeds[0], json.Number(strconv.FormatUint(last+1, 10))
	}
	return j, nil
}

func searchJobError(err error) error {
	return &usageError{what: fmt.Sprintf("a job of the file cannot be read: %v", wrongType(err)), next: "it must be an object with job_id, analysis_type and dataset_path"}
}

func (j *searchJob) kind() string {
	if j.Type == "" {
		return j.ShortType
	}
	return j.Type
}

func (j *searchJob) dataset() string {
	if j.Dataset == "" {
		return j.Target
	}
	return j.Dataset
}

// args are the flags of seedmesh sieve, or of reverse-sieve, that ask the same.
func (j *searchJob) args() []string {
	args := []string{
		"--draws", j.dataset(), "--window", strconv.Itoa(j.Window), "--window-offset", strconv.Itoa(j.Offset), "--offset", strconv.Itoa(j.Offset),
	}
	if len(j.Sessions) == 1 { // both are all
		args = append(args, "--session", j.Sessions[0])
	}
	changes := false
	for _, f := range j.Families {
		args = append(args, "--generator", f.generator())
		changes = changes || f.changes()
	}
	if j.kind() == "reverse_sieve" {
		return append(args, "--candidates", "-", "--threshold", rate(j.Threshold))
	}
	args = append(args, "--seeds", j.SeedStart.String()+":"+j.SeedEnd.String())
	threshold := j.Threshold
	switch {
	case changes && (j.Hybrid || j.Phase2 > 0):
		threshold = j.Phase2.or(autoOnePhase)
	case j.Hybrid:
		threshold = j.Phase1.or(autoPhase1)
		args = append(args, "--mode", kernels.ModeTwoPhase, "--confirm-threshold", rate(j.Phase2.or(autoPhase2)))
	}
	if !changes {
		args = append(args, "--skip", fmt.Sprintf("%d:%d", j.Skip[0], j.Skip[1]))
	}
	for _, s := range j.Strategies {
		if changes || j.Hybrid {
			args = append(args, "--strategy", fmt.Sprintf("%d:%d", s.Misses, s.Tolerance))
		}
	}
	return append(args, "--threshold", rate(threshold))
}

func rate(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// A searchRun is a job of the mesh that answers a search job.
type searchRun struct {
	*searchJob
	search *search
	flags  jobFlags
	job    string
	failed error // why the job did not end well, when its result has been written
}

// prepare checks a search job as if its command line had been typed.
func (e *env) prepare(ctx context.Context, j *searchJob, timeout time.Duration) (*searchRun, error) {
	f, c := new(sieveFlags), new(cobra.Command)
	if j.kind() == "reverse_sieve" {
		e.stdin = bytes.NewReader(j.Candidates)
		f.search.registerCandidates(c)
	} else {
		f.search.register(c)
	}
	f.register(c)
	c.SetContext(ctx)
	if err := c.ParseFlags(j.args()); err != nil {
		return nil, err
	}
	s, err := f.search.parse(c, e)
	if err != nil {
		return nil, err
	}
	f.job.timeout = timeout
	h := sha256.Sum256(fmt.Appendf(s.spec.Encode(), " %v", s.seeds))
	f.job.name = "coordinator " + j.ID + " " + hex.EncodeToString(h[:identityBytes])
	return &searchRun{searchJob: j, search: s, flags: f.job}, s.checkSize()
}

// start submits the search, or attaches to the job that is it.
func (r *searchRun) start(ctx context.Context, e *env, resume bool) (err error) {
	r.job, err = e.attach(ctx, r.flags.name, resume)
	if err == nil && r.job == "" {
		r.job, err = r.flags.submit(ctx, e, r.search)
	}
	if err == nil {
		_, _ = fmt.Fprintf(e.stderr, "job %s\n", r.job)
	}
	return err
}
