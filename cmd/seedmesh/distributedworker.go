package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
)

// Times that one job of the original's worker may take.
const (
	workerSearchTimeout = 5 * time.Minute // for one piece of it
	workerScriptTimeout = time.Hour
)

func newDistributedWorker(e *env) *cobra.Command {
	var (
		jobFile string
		by      oldExecution
	)
	c := &cobra.Command{
		Use:   "distributed-worker --job-file FILE",
		Short: "The original's worker: do one job on the mesh with its flags",
		Long: `distributed-worker takes the command lines of the original program of that name: it does the job of a job file, a
search or a script, and prints its result as one JSON object, with the original's fields. The job runs on
whichever slots of the mesh are free; --gpu-id and --mining-mode only come back in the result, and are named in a warning.`,
		Example: `  seedmesh distributed-worker --job-file job.json --gpu-id 0`,
		Args:    atMost("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			e.warnUnused(c)
			if len(args) == 1 && jobFile == "" {
				jobFile, args = args[0], nil
			}
			if jobFile == "" || len(args) > 0 {
				return &usageError{what: "distributed-worker needs one job file", next: "such as --job-file job.json"}
			}
			raw, err := os.ReadFile(jobFile)
			if err != nil {
				return inputError("the job file", err)
			}
			by.Host, _ = os.Hostname() // a label only
			by.Method, by.Kind = "mesh", unitType
			if isScriptJob(raw) {
				by.Type = "script"
				return workScript(c.Context(), e, raw, &by)
			}
			return workSearch(c.Context(), e, raw, &by)
		},
	}
	flags := c.Flags()
	flags.StringVar(&jobFile, "job-file", "", "file with the job, a JSON object")
	flags.IntVar(&by.GPU, "gpu-id", 0, "only comes back in the result")
	flags.BoolVar(&by.Mining, "mining-mode", false, "only comes back in the result")
	markUnused(c, "gpu-id", "mining-mode")
	return c
}

func workSearch(ctx context.Context, e *env, raw json.RawMessage, by *oldExecution) error {
	j, err := parseSearchJob(raw)
	if err != nil {
		return err
	}
	by.Type = j.kind()
	r, err := e.prepare(ctx, j, workerSearchTimeout)
	if err != nil {
		return err
	}
	if err := r.start(ctx, e, false); err != nil {
		return err
	}
	return errors.Join(r.write(ctx, e, e.stdout, by), r.failed)
}

// workScript runs one script, and prints the JSON object that it printed last.
func workScript(ctx context.Context, e *env, raw json.RawMessage, by *oldExecution) error {
	file, err := parseJobsFile(append(append([]byte{'['}, raw...), ']'))
	if err != nil {
		return &usageError{what: fmt.Sprintf("the job file cannot be read: %v", wrongType(err)), next: "it must be an object with job_id, script and args"}
	}
	o := &oldScripts{timeout: workerScriptTimeout, retries: defaultRetries}
	f := o.flags()
	f.outputs, f.preserve = []string{"stdout:json"}, true
	b, err := f.batch(e, file, false)
	if err != nil {
		return err
	}
	defer func() { _ = b.shipment.remove() }() // temporary files
	job, err := f.submit(ctx, e, b.spec, b.shipment)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(e.stderr, "job %s\n", job)
	info, ended := e.follow(ctx, job, false, 0)
	if info == nil {
		return ended
	}
	if ended != nil {
		e.tellFailed(ctx, job)
		return ended
	}
	if err := e.deliver(ctx, job, false, &delivery{preserve: true, own: true}); err != nil {
		return err
	}
	return e.printWorked(ctx, job, info, by)
}

func (e *env) printWorked(ctx context.Context, job string, info *meshv1.JobInfo, by *oldExecution) error {
	var out bytes.Buffer
	if err := e.streamResults(ctx, job, false, &out); err != nil {
		return err
	}
	var outcome struct {
		Stdout map[string]any `json:"stdout"`
	}
	d := json.NewDecoder(&out)
	d.UseNumber()
	if err := d.Decode(&outcome); err != nil {
		return fmt.Errorf("the outcome of the script cannot be read: %w", err)
	}
	outcome.Stdout["execution_info"], outcome.Stdout["worker_runtime"] = by, info.GetElapsedSeconds()
	return writeValue(e.stdout, outcome.Stdout)
}
