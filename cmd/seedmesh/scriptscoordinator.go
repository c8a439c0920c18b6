package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// oldScripts is a run of the original's scripts coordinator.
type oldScripts struct {
	jobsFile, outputDir      string
	config                   string // only comes back in the manifest
	preserve, resume, dryRun bool
	honourGPU                bool
	retries                  uint32
	timeout                  time.Duration // of a script whose entry has none

	began time.Time
	id    string // of the run
	dir   string // where its outputs go
	batch *batch
}

// defaultRetries is how often the original's scripts are tried in all.
const defaultRetries = 3

func newScriptsCoordinator(e *env) *cobra.Command {
	o := &oldScripts{timeout: defaultTimeout}
	c := &cobra.Command{
		Use:   "scripts-coordinator --jobs-file FILE",
		Short: "The original's scripts coordinator: run a jobs file on the mesh with its flags",
		Long: `scripts-coordinator takes the command lines of the original program of that name and does the same on the mesh:
see seedmesh script --help for the jobs file. The outputs go to OUTPUT_DIR/RUN_ID, beside a scripts_run_manifest.json, or
with --preserve-paths to the paths that the jobs file has for them. The summary is one JSON object on the standard
output. The exit code is 0 only when no job failed, and else 3. Flags without a meaning are named in one warning.`,
		Example: `  seedmesh scripts-coordinator --jobs-file scorer_jobs.json --output-dir scorer_trial_results --preserve-paths`,
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			e.warnUnused(c)
			if o.jobsFile == "" {
				return &usageError{what: "--jobs-file is missing", next: "such as --jobs-file jobs.json"}
			}
			return o.run(c.Context(), e)
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.jobsFile, "jobs-file", "", "file with the jobs")
	flags.StringVar(&o.outputDir, "output-dir", "full_scoring_results", "directory of the outputs")
	flags.BoolVar(&o.preserve, "preserve-paths", false, "write outputs to the paths that the jobs file has for them")
	flags.BoolVar(&o.resume, "resume", false, "go on with the job of an earlier run of the same jobs, scripts and inputs, unless that failed")
	flags.Uint32Var(&o.retries, "max-retries", defaultRetries, "how often a job may be tried in all")
	flags.BoolVar(&o.dryRun, "dry-run", false, "check the jobs file, and run nothing")
	flags.BoolVar(&o.honourGPU, "honour-gpu-id", false, "show each script the GPU that its entry's gpu_id names, and give it that as --gpu-id, instead of the slot's own")
	flags.StringVar(&o.config, "config", "", "only comes back in the manifest")
	markUnused(c, "config")
	unusedFlags(c, nil, []string{"verbose,v"})
	return c
}

// run submits the jobs, waits, delivers what they made, and tells how it went.
func (o *oldScripts) run(ctx context.Context, e *env) error {
	o.began = time.Now()
	o.id = filepath.Base(o.outputDir) + "_" + o.began.Format(oldTime)
	o.dir = filepath.Join(o.outputDir, o.id)
	if o.preserve {
		o.dir = "."
	}
	file, err := readJobsFile(o.jobsFile)
	if err != nil {
		return err
	}
	f := o.flags()
	if o.batch, err = f.batch(e, file, o.honourGPU); err != nil {
		return err
	}
	defer func() { _ = o.batch.shipment.remove() }() // temporary files
	if err := o.checkNames(); err != nil {
		return err
	}
	if o.dryRun {
		return writeValue(e.stdout, o.summary("dry_run", nil))
	}
	job, err := o.start(ctx, e, f)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(e.stderr, "job %s\n", job)
	info, ended := e.follow(ctx, job, false, 0)
	if info == nil {
		return ended
	}
	if err := e.deliver(ctx, job, true, &delivery{dir: o.dir, preserve: o.preserve, flat: !o.preserve}); err != nil {
		return err
	}
	return errors.Join(o.tell(ctx, e, job, info), ended)
}

// flags are those of seedmesh script for such a run.
func (o *oldScripts) flags() *scriptFlags {
	f := new(scriptFlags)
	f.register(new(cobra.Command)) // gives each its default
	f.job.attempts, f.job.timeout = max(o.retries, 1), o.timeout
	return f
}

// checkNames refuses outputs that would have the same name in one directory.
func (o *oldScripts) checkNames() error {
	seen := map[string]string{}
	for _, t := range o.batch.tasks {
		for _, out := range t.Outputs {
			if by, taken := seen[path.Base(out)]; taken && !o.preserve {
				return &usageError{what: fmt.Sprintf("the jobs %s and %s both make an output %s", by, t.ID, path.Base(out)), next: "keep their paths apart with --preserve-paths"}
			}
			seen[path.Base(out)] = t.ID
		}
	}
	return nil
}

// start submits the jobs as one job of the mesh, or attaches to the one that is it.
func (o *oldScripts) start(ctx context.Context, e *env, f *scriptFlags) (string, error) {
	spec := *o.batch.spec
	spec.Inputs = o.batch.shipment.inputs
	encoded, err := spec.Encode()
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(encoded)
	f.job.name = "scripts-coordinator " + filepath.Base(o.jobsFile) + " " + hex.EncodeToString(h[:identityBytes])
	job, err := e.attach(ctx, f.job.name, o.resume)
	if err != nil || job != "" {
		return job, err
	}
	return f.submit(ctx, e, o.batch.spec, o.batch.shipment)
}

// tell prints the summary and writes the manifest.
func (o *oldScripts) tell(ctx context.Context, e *env, job string, info *meshv1.JobInfo) error {
	tasks, _, err := e.tasks(ctx, &meshv1.TasksRequest{Job: job}, math.MaxUint32)
	if err != nil {
		return err
	}
	nodes, err := call(ctx, e, meshv1connect.MeshClient.Nodes, &meshv1.NodesRequest{})
	if err != nil {
		return err
	}
	status := "complete"
	if info.GetState() != "done" {
		status = "partial"
	}
	s := o.summary(status, tasks)
	for _, n := range nodes.GetNodes() {
		if used := s.Nodes[n.GetName()]; used != nil {
			used.GPUs = n.GetSlots()
		}
	}
	if !o.preserve {
		if err := os.MkdirAll(o.dir, 0o755); err != nil {
			return writeError("the manifest", err)
		}
		manifest := filepath.Join(o.dir, "scripts_run_manifest.json")
		if err := e.writeTo(manifest, func(w io.Writer) error { return writeValue(w, o.manifest(s)) }); err != nil {
			return err
		}
	}
	return writeValue(e.stdout, s)
}
