package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/scripts"
)

func newScript(e *env) *cobra.Command {
	var (
		f         scriptFlags
		honourGPU bool
	)
	c := &cobra.Command{
		Use:   "script JOBS.json",
		Short: "Run the tasks of a jobs file on the slots of the mesh",
		Long: `script runs a jobs file: {"jobs": [...]} or a bare list. Each entry has job_id, script and args, and may have
expected_output (a file that must be there, and valid, in the end; without it what --output-file names), chunk_file (an input), timeout (seconds),
needs (a list of job_ids that must have succeeded before, or, written ID:any, ended) and gpu_id (a hint, which is ignored without --honour-gpu-id). Scripts and chunk files are sent along; paths are
those of the working directory that each task gets for itself.`,
		Example: `  seedmesh script scorer_jobs.json --output-dir results
  seedmesh script jobs.json --preserve-paths --input data/`,
		Args: exactArgs("JOBS.json"),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := readJobsFile(args[0])
			if err != nil {
				return err
			}
			b, err := f.batch(e, file, honourGPU)
			if err != nil {
				return err
			}
			defer func() { _ = b.shipment.remove() }() // temporary files
			return f.run(c.Context(), e, b.spec, b.shipment)
		},
	}
	f.register(c)
	c.Flags().BoolVar(&honourGPU, "honour-gpu-id", false, "show each script the GPU that its entry's gpu_id names, and give it that as --gpu-id, instead of the slot's own")
	return c
}

// A batch is the tasks of a jobs file, as the mesh runs them.
type batch struct {
	spec     *scripts.Spec
	tasks    []scripts.Task
	shipment *shipment
}

// batch lays the tasks of a jobs file out, and warns of what has no effect.
func (f *scriptFlags) batch(e *env, file *jobsFile, honourGPU bool) (*batch, error) {
	b := &batch{shipment: newShipment()}
	var err error
	if b.spec, err = f.spec(b.shipment); err != nil {
		return nil, err
	}
	if b.tasks, err = file.tasks(b.shipment); err != nil {
		return nil, err
	}
	for _, w := range file.warnings(honourGPU) {
		_, _ = fmt.Fprintln(e.stderr, "warning: "+w)
	}
	b.spec.GPUHint = honourGPU
	if f.mode == modeWorker {
		if b.spec.Worker, err = file.workerWords(b.tasks); err != nil {
			return nil, errors.Join(err, b.shipment.remove())
		}
	}
	if b.spec.Valid == "" {
		b.spec.Valid = "auto"
	}
	if b.spec.TimeoutMS == 0 {
		b.spec.TimeoutMS = uint64(defaultTimeout.Milliseconds())
	}
	b.spec.List, err = b.shipment.list(b.tasks)
	if err == nil {
		return b, nil
	}
	return nil, errors.Join(err, b.shipment.remove())
}

// maxJobsFile bounds a jobs file, in bytes.
const maxJobsFile = 256 << 20

// jobsFile is a file of script jobs in either of the original's formats.
type jobsFile struct {
	entries []jobsEntry
	unknown []string // keys without a meaning
}

type jobsEntry struct {
	ID       json.RawMessage `json:"job_id"`
	Script   string          `json:"script"`
	Args     []any           `json:"args"`
	GPU      *int            `json:"gpu_id"`
	Expected string          `json:"expected_output"`
	Chunk    string          `json:"chunk_file"`
	Seeds    uint64          `json:"seed_count"`
	Timeout  float64         `json:"timeout"` // seconds
	Needs    []string        `json:"needs"`   // job_ids of those that must succeed first; "ID:any": end
}

func readJobsFile(name string) (*jobsFile, error) {
	rows, err := readRows(name)
	if err != nil {
		return nil, err
	}
	f, err := parseJobsFile(rows)
	if err != nil {
		return nil, &usageError{what: fmt.Sprintf("%s is not a jobs file: %v", name, err), next: `it must be {"jobs": [...]} or [...], of objects with job_id, script and args`}
	}
	return f, nil
}

// readRows reads a file of jobs, which is a list or {"jobs": [...]}, and gives the list.
func readRows(name string) (json.RawMessage, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, fileError("the jobs file cannot be read:", err)
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxJobsFile+1))
	if err != nil {
		return nil, fileError("the jobs file cannot be read:", err)
	}
	if len(b) > maxJobsFile {
		return nil, &usageError{what: fmt.Sprintf("%s has more than %d bytes", name, maxJobsFile), next: "split it"}
	}
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' {
		return b, nil
	}
	var object struct {
		Jobs json.RawMessage `json:"jobs"`
	}
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, &usageError{what: fmt.Sprintf("%s is not a jobs file: %v", name, err), next: `it must be {"jobs": [...]} or [...]`}
	}
	return object.Jobs, nil
}

func parseJobsFile(rows json.RawMessage) (*jobsFile, error) {
	f := new(jobsFile)
	if err := json.Unmarshal(rows, &f.entries); err != nil {
		return nil, err
	}
	if len(f.entries) == 0 {
		return nil, fmt.Errorf("it has no jobs")
	}
	var keys []map[string]json.RawMessage
	if err := json.Unmarshal(rows, &keys); err != nil {
		return nil, err
	}
	known := []string{"job_id", "script", "args", "gpu_id", "expected_output", "chunk_file", "seed_count", "timeout", "needs"}
	for _, k := range keys {
		for key := range k {
			if slices.Contains(known, key) {
				continue
			}
			if meant := nearest(key, known); meant != "" {
				key += " (did you mean " + meant + "?)"
			}
			if !slices.Contains(f.unknown, key) {
				f.unknown = append(f.unknown, key)
			}
		}
	}
	slices.Sort(f.unknown)
	return f, nil
}

// warnings names what has no effect.
func (f *jobsFile) warnings(honourGPU bool) (list []string) {
	if len(f.unknown) > 0 {
		list = append(list, "keys without a meaning here: "+strings.Join(f.unknown, ", "))
	}
	if !honourGPU && slices.ContainsFunc(f.entries, func(j jobsEntry) bool { return j.GPU != nil }) {
		list = append(list, "gpu_id is ignored: each task sees the GPU of the slot that it runs in; --honour-gpu-id has it count")
	}
	return list
}

// tasks are the entries as the mesh runs them; what they need is shipped.
func (f *jobsFile) tasks(s *shipment) ([]scripts.Task, error) {
	tasks, needs, seen := make([]scripts.Task, len(f.entries)), make([][]string, len(f.entries)), map[string]bool{}
	for i, j := range f.entries {
		t, err := j.task(s)
		if err != nil {
			return nil, err
		}
		if seen[t.ID] {
			return nil, &usageError{what: fmt.Sprintf("two jobs have the job_id %q", clip(t.ID)), next: "give every job its own"}
		}
		seen[t.ID] = true
		tasks[i], needs[i] = t, j.Needs
	}
	return scripts.Arrange(tasks, needs)
}

func (j jobsEntry) task(s *shipment) (t scripts.Task, err error) {
	if json.Unmarshal(j.ID, &t.ID) != nil { // a number, or what is as good as a name
		t.ID = string(j.ID)
	}
	t.ID = strings.ReplaceAll(t.ID, "/", "_")
	if t.ID == "" || j.Script == "" {
		return t, &usageError{what: fmt.Sprintf("the job %q has no job_id or no script", clip(t.ID)), next: "every entry needs job_id, script and args"}
	}
	t.TimeoutMS, t.GPU = uint64(max(j.Timeout, 0)*1000), j.GPU
	if t.Argv, err = command(s, j.Script); err != nil {
		return t, err
	}
	chunk := ""
	if j.Chunk != "" {
		if chunk, err = s.add(j.Chunk); err != nil {
			return t, err
		}
	}
	if j.Expected == "" {
		j.Expected = j.outputFile()
	}
	out := ""
	if j.Expected != "" {
		out = path.Clean("/" + filepath.ToSlash(j.Expected))[1:]
		if strings.HasPrefix(path.Clean(filepath.ToSlash(j.Expected)), "../") || scripts.CheckPath(out) != nil {
			return t, &usageError{what: fmt.Sprintf("the expected_output %q of job %s leaves the working directory", clip(j.Expected), t.ID), next: "name a path below it"}
		}
		t.Outputs, t.As = []string{out}, []string{j.Expected}
	}
	for _, a := range j.Args {
		text := fmt.Sprint(a)
		if number, ok := a.(float64); ok {
			text = strings.Trim(string(must(json.Marshal(number))), `"`)
		}
		text = rewritten(text, j.Expected, out)
		t.Argv = append(t.Argv, rewritten(text, j.Chunk, chunk))
	}
	return t, nil
}

// workerWords is how many words start each script, which must be as many for all.
func (f *jobsFile) workerWords(tasks []scripts.Task) (int, error) {
	words := len(tasks[0].Argv) - len(f.entries[0].Args)
	for i, t := range tasks {
		if len(t.Argv)-len(f.entries[i].Args) != words {
			return 0, &usageError{what: "the scripts of this file are not started alike", next: "make one jobs file of the Python scripts, and one of the other programs"}
		}
	}
	return words, nil
}

// outputFile is what follows --output-file in the arguments, or empty.
func (j jobsEntry) outputFile() string {
	for i, a := range j.Args {
		if text, ok := a.(string); ok && text == "--output-file" && i+1 < len(j.Args) {
			return fmt.Sprint(j.Args[i+1])
		} else if ok && strings.HasPrefix(text, "--output-file=") {
			return strings.TrimPrefix(text, "--output-file=")
		}
	}
	return ""
}

// command runs a script by its interpreter, or as the program that it is.
func command(s *shipment, script string) ([]string, error) {
	to := script
	if info, err := os.Stat(script); err == nil && info.Mode().IsRegular() {
		if to, err = s.add(script); err != nil {
			return nil, err
		}
	} else if !filepath.IsAbs(script) {
		return nil, &usageError{what: fmt.Sprintf("there is no script %s here", clip(script)), next: "run this where the script is, or name it by the absolute path that it has on the nodes"}
	}
	if strings.HasSuffix(script, ".py") {
		return []string{"python3", "-u", to}, nil
	}
	if !filepath.IsAbs(to) {
		to = "./" + to
	}
	return []string{to}, nil
}

// rewritten replaces a path, as a whole argument or behind a =, by where the task has it.
func rewritten(arg, path, to string) string {
	if path == "" || path == to {
		return arg
	}
	if arg == path {
		return to
	}
	if option, ok := strings.CutSuffix(arg, "="+path); ok {
		return option + "=" + to
	}
	return arg
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err) // numbers always marshal
	}
	return b
}
