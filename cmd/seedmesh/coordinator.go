package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// coordinatorFlags are those of the original's coordinator that have a meaning.
type coordinatorFlags struct {
	seeds, seedStart, seedEnd string
	method, family, session   string
	phase1, phase2            string
	output, outputDir         string
	jobsFile                  string
	job                       searchJob
	timeout                   int // seconds
	resume, testOnly          bool
}

func newCoordinator(e *env) *cobra.Command {
	f := new(coordinatorFlags)
	c := &cobra.Command{
		Use:   "coordinator [TARGET_FILE]",
		Short: "The original's coordinator: search seeds on the mesh with its flags",
		Long: `coordinator takes the command lines of the original program of that name and does the same on the mesh: it
searches the seeds for TARGET_FILE, or does the jobs of --jobs-file, searches or scripts. It writes the
original's JSON to --output, by default OUTPUT_DIR/TARGET_analysis_TIME.json; those of a jobs file to OUTPUT_DIR/JOB_ID.json. Families
have the original's arithmetic (compat:NAME). Unlike there, --seed-start and --session-filter have an effect, and
the exit code is 0 only when every job succeeded, and else 3. Flags without a meaning are named in one warning.`,
		Example: `  seedmesh coordinator --seed-start 0 --seed-end 1000000 --prng-type java_lcg --window-size 30 draws.json
  seedmesh coordinator --jobs-file sieve_jobs.json --output-dir results --resume`,
		Args: atMost("TARGET_FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			e.warnUnused(c)
			if f.testOnly {
				r, err := call(c.Context(), e, meshv1connect.MeshClient.Nodes, &meshv1.NodesRequest{})
				if err != nil {
					return err
				}
				return printNodes(e.stdout, r.GetNodes())
			}
			return f.run(c.Context(), e, args)
		},
	}
	f.register(c)
	return c
}

func (f *coordinatorFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.seedStart, "seed-start", "0", "first seed")
	flags.StringVar(&f.seedEnd, "seed-end", "2^32", "seed behind the last")
	flags.StringVarP(&f.seeds, "seeds", "s", "", "number of seeds, instead of --seed-end")
	flags.StringVar(&f.jobsFile, "jobs-file", "", "file with jobs, searches or scripts, instead of a target file")
	flags.BoolVar(&f.resume, "resume", false, "go on with the job of an earlier run that asked the same, unless that failed")
	flags.StringVar(&f.outputDir, "output-dir", "results", "directory of the results")
	flags.StringVarP(&f.output, "output", "o", "", "file of the result of a target file, instead of one in the directory")
	flags.StringVar(&f.method, "method", "residue_sieve", "residue_sieve")
	flags.StringVar(&f.family, "prng-type", "lcg32", "family to try; more than one with commas")
	flags.IntVar(&f.job.Window, "window-size", 512, "number of draws")
	flags.IntVar(&f.job.Offset, "offset", 0, "number of the first draw, and of the outputs thrown away before it")
	flags.IntVar(&f.job.Skip[0], "skip-min", 0, "fewest outputs between two draws")
	flags.IntVar(&f.job.Skip[1], "skip-max", 20, "most outputs between two draws")
	flags.Float64Var(&f.job.Threshold, "threshold", 0.01, "rate of draws that must match")
	flags.BoolVar(&f.job.Hybrid, "hybrid", false, "confirm with a skip that changes")
	flags.StringVar(&f.phase1, "phase1-threshold", "auto", "rate of the first phase of --hybrid; auto is 0.2")
	flags.StringVar(&f.phase2, "phase2-threshold", "auto", "rate of the second phase of --hybrid; auto is 0.75, or 0.5 of a family that changes its skip")
	flags.StringVar(&f.session, "session-filter", "both", "midday, evening or both")
	flags.IntVar(&f.timeout, "job-timeout", 1200, "seconds that one piece of a search, or one script, may take")
	flags.BoolVar(&f.testOnly, "test-only", false, "list the nodes, and do nothing")
	unusedFlags(c, []string{
		"config,c", "samples,n", "lmax", "grid-size", "analysis-type", "seed-cap-nvidia", "seed-cap-amd", "seed-cap-default", "max-concurrent",
		"max-per-node", "max-local-concurrent", "resume-policy", "k-sigma", "skip", "opt-iterations", "opt-seed-count",
	}, []string{"draw-match"})
}

func (f *coordinatorFlags) run(ctx context.Context, e *env, args []string) error {
	if f.method != "residue_sieve" {
		return &usageError{
			what: fmt.Sprintf("the method %q is not one of a mesh", clip(f.method)), why: "its analyses say nothing about the stream of a generator",
			next: "search with --method residue_sieve, or run an analysis as a script: seedmesh exec -- python3 analysis.py",
		}
	}
	if f.timeout < 0 {
		return &usageError{what: "--job-timeout must not be negative", next: "such as --job-timeout 1200"}
	}
	if (f.jobsFile == "") == (len(args) == 0) {
		return &usageError{what: "coordinator needs a target file or a jobs file, and not both", next: "such as: seedmesh coordinator draws.json, or: seedmesh coordinator --jobs-file jobs.json"}
	}
	if f.jobsFile != "" {
		return f.runFile(ctx, e)
	}
	j, err := f.targetJob(args[0])
	if err != nil {
		return err
	}
	to := f.output
	if to == "" {
		stem := strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
		to = filepath.Join(f.outputDir, stem+"_analysis_"+time.Now().Format(oldTime)+".json")
	}
	return f.runSearches(ctx, e, []*searchJob{j}, []string{to})
}

// targetJob is the search that the flags state.
func (f *coordinatorFlags) targetJob(target string) (*searchJob, error) {
	j := f.job
	j.ID, j.Type, j.Dataset = "sieve_000", "sieve", target
	for _, name := range strings.Split(f.family, ",") {
		j.Families = append(j.Families, oldFamily(name))
	}
	switch f.session {
	case "midday", "evening":
		j.Sessions = []string{f.session}
	case "both":
	default:
		return nil, &usageError{what: fmt.Sprintf("--session-filter %q is no session", clip(f.session)), next: "use midday, evening or both"}
	}
	if err := errors.Join(j.Phase1.UnmarshalJSON([]byte(f.phase1)), j.Phase2.UnmarshalJSON([]byte(f.phase2))); err != nil {
		return nil, &usageError{what: "--phase1-threshold and --phase2-threshold are rates, or auto", next: "such as --phase1-threshold 0.2"}
	}
	if f.seeds != "" {
		start, err := parseNumber(f.seedStart, 1<<64-1)
		if err != nil {
			return nil, within("--seed-start", err)
		}
		n, err := parseNumber(f.seeds, 1<<64-1-start)
		if err != nil {
			return nil, within("--seeds", err)
		}
		f.seedEnd = fmt.Sprint(start + n)
	}
	for flag, text := range map[string]string{"--seed-start": f.seedStart, "--seed-end": f.seedEnd} {
		if _, _, err := parseBig(text); err != nil {
			return nil, within(flag, err)
		}
	}
	j.SeedStart, j.SeedEnd = json.Number(f.seedStart), json.Number(f.seedEnd)
	return &j, nil
}

// runFile does the jobs of a file: all of them searches, or all of them scripts.
func (f *coordinatorFlags) runFile(ctx context.Context, e *env) error {
	rows, err := readRows(f.jobsFile)
	if err != nil {
		return err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(rows, &list); err != nil || len(list) == 0 {
		return &usageError{what: f.jobsFile + " has no list of jobs", next: `it must be {"jobs": [...]} or [...]`}
	}
	if isScriptJob(list[0]) {
		o := oldScripts{jobsFile: f.jobsFile, outputDir: f.outputDir, resume: f.resume, timeout: time.Duration(f.timeout) * time.Second, retries: defaultRetries}
		return o.run(ctx, e)
	}
	var all []*searchJob
	var outputs []string
	seen := map[string]bool{}
	for _, raw := range list {
		j, err := parseSearchJob(raw)
		if err != nil {
			return err
		}
		if seen[j.ID] {
			return &usageError{what: fmt.Sprintf("two jobs have the job_id %q", clip(j.ID)), next: "give every job its own"}
		}
		seen[j.ID] = true
		all = append(all, j)
		outputs = append(outputs, filepath.Join(f.outputDir, filepath.Base(j.ID)+".json"))
	}
	return f.runSearches(ctx, e, all, outputs)
}

// isScriptJob tells a script from a search.
func isScriptJob(raw json.RawMessage) bool {
	var job struct {
		Script string `json:"script"`
	}
	return json.Unmarshal(raw, &job) == nil && job.Script != ""
}

// runSearches submits all searches before it waits for the first, and writes each
// one's result, whose name it prints.
func (f *coordinatorFlags) runSearches(ctx context.Context, e *env, all []*searchJob, outputs []string) error {
	runs := make([]*searchRun, len(all))
	for i, j := range all {
		var err error
		if runs[i], err = e.prepare(ctx, j, time.Duration(f.timeout)*time.Second); err != nil {
			return err
		}
	}
	for _, r := range runs {
		if err := r.start(ctx, e, f.resume); err != nil {
			return err
		}
	}
	var failed error
	for i, r := range runs {
		if err := os.MkdirAll(filepath.Dir(outputs[i]), 0o755); err != nil {
			return writeError("the result", err)
		}
		if err := e.writeTo(outputs[i], func(w io.Writer) error { return r.write(ctx, e, w, nil) }); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(e.stdout, outputs[i]); err != nil {
			return err
		}
		failed = errors.Join(failed, r.failed)
	}
	return failed
}
