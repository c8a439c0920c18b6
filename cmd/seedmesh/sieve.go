package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// sieveFlags are the flags of sieve.
type sieveFlags struct {
	search  searchFlags
	job     jobFlags
	local   bool
	wait    bool
	json    bool
	quiet   bool
	threads int
	output  string
}

func newSieve(e *env) *cobra.Command {
	f := new(sieveFlags)
	c := &cobra.Command{
		Use:   "sieve --generator NAME --draws FILE --seeds A:B",
		Short: "Find the seeds that explain observed draws",
		Long: `sieve tries every seed of a range and keeps those whose generator gives the observed draws,
with an unknown but bounded number of outputs thrown away before the first draw (--offset)
and between two draws (--skip).

Without --local the search is submitted to the mesh, and the id of its job is printed.
With --local or --wait the survivors are printed as JSON Lines, sorted by generator and seed.`,
		Example: `  seedmesh sieve --local -g mt19937 -d draws.json -s 0:2^32 --skip 0:16 --offset 0:10
  seedmesh sieve --wait -g php_mt_rand_0_999,glibc_rand -d draws.txt -s 0:2^32 -o found.jsonl`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c, e) },
	}
	f.search.register(c)
	f.register(c)
	return c
}

// register adds the flags that say where the search runs and where its survivors
// go.
func (f *sieveFlags) register(c *cobra.Command) {
	f.job.register(c)
	flags := c.Flags()
	flags.BoolVar(&f.local, "local", false, "search on this machine alone, without a mesh")
	flags.BoolVarP(&f.wait, "wait", "w", false, "wait for the end and print the survivors")
	flags.StringVarP(&f.output, "output", "o", "", "write the survivors to this file (implies --wait)")
	flags.BoolVar(&f.json, "json", false, `print {"job":"ID"}`)
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress")
	flags.IntVar(&f.threads, "threads", 0, "threads of --local (default one for each core)")
}

func (f *sieveFlags) run(c *cobra.Command, e *env) error {
	return f.runParsed(c, e, f.search.parse)
}

// runParsed checks the flags, and then runs what parse makes of the others.
func (f *sieveFlags) runParsed(c *cobra.Command, e *env, parse func(*cobra.Command, *env) (*search, error)) error {
	if f.threads < 0 || f.threads > maxThreads {
		return &usageError{what: fmt.Sprintf("--threads %d is not a number of threads", f.threads), next: fmt.Sprintf("use 1 to %d", maxThreads)}
	}
	if err := f.job.check(); err != nil {
		return err
	}
	s, err := parse(c, e)
	if err != nil {
		return err
	}
	if !f.quiet {
		f.warnWithout(c, e)
	}
	if f.local {
		return f.runLocal(c.Context(), e, s)
	}
	if err := s.checkSize(); err != nil {
		return err
	}
	return f.runMesh(c.Context(), e, s)
}

// warnWithout names the flags that were given and have no meaning where the search runs.
func (f *sieveFlags) warnWithout(c *cobra.Command, e *env) {
	where, flags := "on a mesh", []string{"threads"}
	if f.local {
		where, flags = "with --local", []string{"name", "key", "priority", "chunk-time", "attempts", "timeout", "wait", "node", "connect-timeout"}
	}
	var given []string
	for _, name := range flags {
		if c.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 0 {
		_, _ = fmt.Fprintf(e.stderr, "warning: without a meaning %s: %s\n", where, strings.Join(given, ", "))
	}
}

// maxThreads bounds --threads.
const maxThreads = 4096

func (f *sieveFlags) runLocal(ctx context.Context, e *env, s *search) error {
	run := &localRun{search: s, threads: f.threads, meter: newMeter(e, f.quiet)}
	err := e.writeTo(f.output, func(w io.Writer) error { return run.run(ctx, w) })
	if err != nil {
		run.meter.clear()
		return err
	}
	run.end()
	return nil
}

// request is the search as the mesh takes it.
func (f *jobFlags) request(s *search) *meshv1.SubmitRequest {
	return &meshv1.SubmitRequest{
		Spec: s.spec.Encode(), First: s.seeds.First, Last: s.seeds.Last,
		Name: f.name, Key: f.key, Priority: f.priority,
		ChunkTimeMs: uint64(f.chunkTime.Milliseconds()), Attempts: f.attempts, TimeoutMs: uint64(f.timeout.Milliseconds()),
	}
}

// submit gives the search to the mesh, and gives the id of its job.
func (f *jobFlags) submit(ctx context.Context, e *env, s *search) (string, error) {
	q := f.request(s)
	if q.Key == "" {
		q.Key = hex.EncodeToString(requestID())
	}
	q.Submitter = submitter(e)
	reply, err := call(ctx, e, meshv1connect.MeshClient.Submit, q)
	return reply.GetJob(), err
}

func (f *sieveFlags) runMesh(ctx context.Context, e *env, s *search) error {
	job, err := f.job.submit(ctx, e, s)
	if err != nil {
		return err
	}
	if !f.wait && f.output == "" {
		return printSubmitted(e, job, f.json)
	}
	if !f.quiet {
		_, _ = fmt.Fprintf(e.stderr, "job %s\n", job)
	}
	if _, err := e.follow(ctx, job, f.quiet, 0); err != nil {
		return err
	}
	err = e.writeTo(f.output, func(w io.Writer) error { return e.streamResults(ctx, job, false, w) })
	if ctx.Err() != nil {
		return detached(job, "seedmesh results "+job)
	}
	return err
}

func printSubmitted(e *env, job string, asJSON bool) error {
	if asJSON {
		return writeValue(e.stdout, struct {
			Job string `json:"job"`
		}{job})
	}
	_, err := fmt.Fprintln(e.stdout, job)
	return err
}

// submitter is who asks, for people who look at the list of jobs.
func submitter(e *env) string {
	host, _ := os.Hostname() // a label only
	if user := e.getenv("USER"); user != "" {
		return user + "@" + host
	}
	return host
}
