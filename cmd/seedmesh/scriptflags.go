package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/scripts"
)

// scriptFlags are the flags of exec and script.
type scriptFlags struct {
	job       jobFlags
	inputs    []string
	outputs   []string
	vars      []string
	valid     string
	ok        []int
	memory    string
	parallel  uint32
	after     []string
	nodes     []string
	mode      string
	preloads  []string
	wait      bool
	json      bool
	quiet     bool
	outputDir string
	preserve  bool
}

func (f *scriptFlags) register(c *cobra.Command) {
	f.job.register(c)
	flags := c.Flags()
	flags.Lookup("timeout").Usage = "longest run of one attempt at a task (default unbounded)"
	flags.Lookup("attempts").Usage = "how often a task may be tried in all"
	flags.StringArrayVar(&f.inputs, "input", nil, "file or directory that every task finds in its working directory (may be repeated)")
	flags.StringArrayVar(&f.outputs, "output", nil, "file or glob that every task makes there, or stdout:json (may be repeated)")
	flags.StringArrayVar(&f.vars, "env", nil, "NAME=VALUE in the environment of every task (may be repeated)")
	flags.StringVar(&f.valid, "valid", "", "what outputs must be: json, jsonl, npz, auto for what their names end with, or command:CMD for what CMD, split at spaces and with their paths behind, accepts with status 0")
	flags.IntSliceVar(&f.ok, "ok", nil, "exit statuses of success (default 0)")
	flags.StringVar(&f.memory, "mem", "auto", "memory that one task needs and may use, such as 700M or 2G; auto learns it")
	flags.StringArrayVar(&f.nodes, "node", nil, "run only on slots that suit: a node's name, label:WORD or vendor:WORD, with commas between what must all hold (may be repeated: any will do); HOST:PORT is the node to ask")
	flags.Uint32Var(&f.parallel, "max-parallel", 0, "run at most so many tasks at the same time (default as many as there are slots)")
	flags.StringArrayVar(&f.after, "after", nil, "JOB, JOB:ok or JOB:any: wait for the end of a job; unless any end will do, one that fails cancels this (may be repeated)")
	flags.StringArrayVar(&f.preloads, "require-preload", nil, "NAME: run only on nodes on which this preload is ready, and wait for them (may be repeated)")
	flags.StringVar(&f.mode, "mode", "task", "task: a process for each task; worker: a process that stays up and is given one task after the other (see examples/worker.py)")
	flags.BoolVarP(&f.wait, "wait", "w", false, "wait for the end; exit 3 when a task failed")
	flags.BoolVar(&f.json, "json", false, `print {"job":"ID"}`)
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress")
	flags.StringVar(&f.outputDir, "output-dir", "", "wait, and write the outputs below this directory")
	flags.BoolVar(&f.preserve, "preserve-paths", false, "wait, and write each task's own outputs to the paths that they were asked for under")
}

// spec is what the flags say about all tasks.
func (f *scriptFlags) spec(s *shipment) (*scripts.Spec, error) {
	if err := f.job.check(); err != nil {
		return nil, err
	}
	if f.mode != "task" && f.mode != modeWorker {
		return nil, &usageError{what: fmt.Sprintf("--mode %q is neither task nor worker", clip(f.mode)), next: "such as --mode worker"}
	}
	if k := slices.IndexFunc(f.ok, func(status int) bool { return status < 0 || status > maxStatus }); k >= 0 {
		return nil, &usageError{what: fmt.Sprintf("--ok %d is no exit status", f.ok[k]), next: fmt.Sprintf("use 0 to %d", maxStatus)}
	}
	spec := &scripts.Spec{Env: f.vars, Valid: f.valid, OK: f.ok, TimeoutMS: uint64(f.job.timeout.Milliseconds())}
	spec.Preloads = slices.Compact(slices.Sorted(slices.Values(f.preloads)))
	var err error
	if spec.Memory, err = parseMemory(f.memory); err != nil {
		return nil, err
	}
	if words, ok := strings.CutPrefix(f.valid, "command:"); ok {
		spec.Valid = ""
		if spec.Check, err = s.ship(strings.Fields(words)); err != nil {
			return nil, err
		}
	}
	for _, o := range f.outputs {
		if how, ok := strings.CutPrefix(o, "stdout:"); ok {
			spec.Capture = how
			continue
		}
		spec.Outputs = append(spec.Outputs, o)
	}
	for _, in := range f.inputs {
		if _, err := s.add(in); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// maxStatus is the largest exit status that there is.
const maxStatus = 255

// modeWorker is the mode whose processes stay up.
const modeWorker = "worker"

// placeholder is where a word of a task takes a value.
var placeholder = regexp.MustCompile(`\{\w*\}`)

// workerWords takes the :: out of a command that starts a worker before it, and
// gives its tasks what stands behind. Without one all words start the worker.
func workerWords(argv []string) (words []string, command int, err error) {
	switch k := slices.Index(argv, "::"); k {
	case -1:
		if i := slices.IndexFunc(argv, placeholder.MatchString); i >= 0 {
			return nil, 0, &usageError{what: fmt.Sprintf("%s is a word of a task, and the words of tasks stand behind ::", clip(argv[i])), next: "such as: seedmesh exec --mode worker --array 1-9 -- python3 worker.py :: {}"}
		}
		return argv, len(argv), nil
	case 0:
		return nil, 0, &usageError{what: "nothing before :: starts a worker", next: "such as: seedmesh exec --mode worker -- python3 worker.py :: {}"}
	default:
		return slices.Concat(argv[:k], argv[k+1:]), k, nil
	}
}

// parseMemory reads a number of bytes with a unit of 1024; auto is 0.
func parseMemory(text string) (uint64, error) {
	if text == "auto" {
		return 0, nil
	}
	digits, shift := strings.TrimSuffix(strings.ToUpper(text), "B"), 0
	for unit, bits := range map[string]int{"K": 10, "M": 20, "G": 30, "T": 40} {
		if rest, ok := strings.CutSuffix(strings.TrimSuffix(digits, "I"), unit); ok {
			digits, shift = rest, bits
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n<<shift>>shift != n {
		return 0, &usageError{what: fmt.Sprintf("--mem %q is no amount of memory", clip(text)), next: "such as --mem 700M, or --mem auto"}
	}
	return n << shift, nil
}

// list makes a blob of many tasks, and has it shipped.
func (s *shipment) list(tasks []scripts.Task) (*scripts.Listing, error) {
	var b bytes.Buffer
	if err := scripts.WriteList(&b, tasks); err != nil {
		return nil, err
	}
	d := scripts.Digest(sha256.Sum256(b.Bytes()))
	l := &scripts.Listing{Digest: d, Tasks: uint64(len(tasks)), Bytes: int64(b.Len()), Ready: scripts.Ready(tasks)}
	return l, s.keep(b.Bytes(), d)
}

// keep has a blob shipped that was made here.
func (s *shipment) keep(b []byte, d scripts.Digest) error {
	temp, err := os.CreateTemp("", "seedmesh-*")
	if err != nil {
		return writeError("what is to be sent", err)
	}
	s.temps = append(s.temps, temp.Name())
	_, err = temp.Write(b)
	if closed := temp.Close(); err == nil {
		err = closed
	}
	s.local[d] = temp.Name()
	return err
}

// submit ships what a job needs, and gives the id of the job.
func (f *scriptFlags) submit(ctx context.Context, e *env, spec *scripts.Spec, s *shipment) (string, error) {
	spec.Inputs = s.inputs
	encoded, err := spec.Encode()
	if err != nil {
		return "", err
	}
	q, err := f.request(e, encoded)
	if err != nil {
		return "", err
	}
	if err := e.upload(ctx, s); err != nil {
		return "", err
	}
	if q.Key == "" {
		q.Key = hex.EncodeToString(requestID())
	}
	reply, err := call(ctx, e, meshv1connect.MeshClient.SubmitScripts, q)
	if err != nil {
		return "", err
	}
	return reply.GetJob(), nil
}

// request is what a submit sends. A --node that is an address is the node to ask.
func (f *scriptFlags) request(e *env, encoded []byte) (*meshv1.SubmitScriptsRequest, error) {
	var selectors []string
	for _, n := range f.nodes {
		if _, port, err := net.SplitHostPort(n); err == nil && strings.Trim(port, "0123456789") == "" {
			e.node = n
			continue
		}
		selectors = append(selectors, n)
	}
	q := &meshv1.SubmitScriptsRequest{
		Spec: encoded, Name: f.job.name, Key: f.job.key, Priority: f.job.priority, ChunkTimeMs: uint64(f.job.chunkTime.Milliseconds()),
		Attempts: f.job.attempts, Submitter: submitter(e), MaxParallel: f.parallel, Nodes: selectors,
	}
	for _, a := range f.after {
		job, how, _ := strings.Cut(a, ":")
		if how != "" && how != "ok" && how != "any" {
			return nil, &usageError{what: fmt.Sprintf("--after %q is neither JOB, JOB:ok nor JOB:any", clip(a)), next: "such as --after last:any"}
		}
		q.After = append(q.After, &meshv1.Follows{Job: job, Any: how == "any"})
	}
	return q, nil
}

// run ships, submits, and does what the flags ask for then.
func (f *scriptFlags) run(ctx context.Context, e *env, spec *scripts.Spec, s *shipment) error {
	job, err := f.submit(ctx, e, spec, s)
	if err != nil {
		return err
	}
	deliver := f.outputDir != "" || f.preserve
	if !f.wait && !deliver {
		return printSubmitted(e, job, f.json)
	}
	if f.json {
		err = printSubmitted(e, job, true)
	} else if !f.quiet {
		_, err = fmt.Fprintf(e.stderr, "job %s\n", job)
	}
	if err != nil {
		return err
	}
	info, ended := e.follow(ctx, job, f.quiet, 0)
	if info == nil {
		return ended
	}
	if deliver {
		d := delivery{dir: f.outputDir, preserve: f.preserve}
		if err := e.deliver(ctx, job, true, &d); err != nil {
			return err
		}
	}
	if ended != nil {
		e.tellFailed(ctx, job)
	}
	return ended
}

// failedShown is how many failed tasks a summary shows.
const failedShown = 10

// tellFailed shows the last words of the tasks that failed, as far as they can be had.
func (e *env) tellFailed(ctx context.Context, job string) {
	r, err := call(ctx, e, meshv1connect.MeshClient.Tasks, &meshv1.TasksRequest{Job: job, State: "failed", Limit: failedShown + 1})
	if err != nil {
		return
	}
	for i, t := range r.GetTasks() {
		if i == failedShown {
			_, _ = fmt.Fprintf(e.stderr, "... and more: seedmesh task ls --state failed %s\n", job)
			return
		}
		_, _ = fmt.Fprintf(e.stderr, "task %s: %s: %s\n", t.GetTask(), t.GetClass(), t.GetMessage())
	}
}

const defaultTimeout = 2 * time.Hour // of a task of an old jobs file, which says nothing
