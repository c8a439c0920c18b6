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

	"seedmesh/kernels"
	"seedmesh/scripts"
)

func newScript(e *env) *cobra.Command {
	var f fileFlags
	c := &cobra.Command{
		Use:   "script FILE",
		Short: "Run the job of a job.toml, or the tasks of a jobs file, on the slots of the mesh",
		Long: `script runs the job that FILE, in TOML or as the same structure in JSON, describes:

  name = "train"                # any flag below is a key, with _ for -; flags given here go first
  attempts = 2
  input = ["data.csv"]          # a list where the flag may be repeated
  output = ["out-{}.json"]
  array = "1-100"               # for a command, as in exec; so are split, chunk_size, and matrix,
  command = ["python3", "train.py", "--fold", "{}", "--out", "out-{}.json"]

which may be a table: [matrix] with lr = [0.1, 0.01], its names in the order of the alphabet. env may be one too.
Instead of a command there may be tasks:

  [[task]]
  id = "train"
  script = "train.py"           # and args, or command = ["python3", "train.py", ...]
  args = ["--out", "model.bin"]
  input = ["train.csv"]         # that this task alone has, beside those of all
  output = ["model.bin"]        # beside those of all
  timeout = "10m"

  [[task]]
  id = "test"
  command = ["./test.sh"]
  needs = ["train"]             # that must have succeeded before, or, written ID:any, ended

It also runs the jobs files of the original: {"jobs": [...]} or a bare list. Each entry has job_id, script and args, and may have
expected_output (a file that must be there, and valid, in the end; without it what --output-file names), chunk_file (an input), timeout (seconds),
needs (a list of job_ids) and gpu_id (a hint, in a [[task]] too, which is ignored without --honour-gpu-id). These have a time limit of 2 hours
and --valid auto where nothing else is said.

Scripts and chunk files are sent along; paths are those of the working directory that each task gets for itself.`,
		Example: `  seedmesh script job.toml --wait
  seedmesh script scorer_jobs.json --output-dir results
  seedmesh script jobs.json --preserve-paths --input data/`,
		Args: exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := f.read(e, c, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = b.shipment.remove() }() // temporary files
			return f.run(c.Context(), e, b.spec, b.shipment)
		},
	}
	f.register(c)
	return c
}

// fileFlags are the flags of script.
type fileFlags struct {
	execFlags
	honourGPU bool
}

func (f *fileFlags) register(c *cobra.Command) {
	f.execFlags.register(c)
	c.Flags().BoolVar(&f.honourGPU, "honour-gpu-id", false, "show each script the GPU that its entry's gpu_id names, and give it that as --gpu-id, instead of the slot's own")
}

// read lays out what a file of any form describes.
func (f *fileFlags) read(e *env, c *cobra.Command, name string) (*batch, error) {
	job, err := readJobFile(name)
	if err != nil {
		return nil, err
	}
	if job != nil {
		return f.lay(e, c, job)
	}
	file, err := readJobsFile(name)
	if err != nil {
		return nil, err
	}
	if err := f.noCommand("a jobs file"); err != nil {
		return nil, err
	}
	return f.batch(e, file, f.honourGPU)
}

// noCommand refuses what only a command has.
func (f *execFlags) noCommand(what string) error {
	if f.array == "" && len(f.matrix) == 0 && f.split == "" {
		return nil
	}
	return &usageError{what: "array, matrix and split are for one command, and this is " + what, next: "leave them out"}
}

// A batch is the tasks of a file, as the mesh runs them.
type batch struct {
	spec     *scripts.Spec
	tasks    []scripts.Task // none where the job is of one command
	shipment *shipment
}

// batch lays the tasks of a jobs file out, and warns of what has no effect.
func (f *scriptFlags) batch(e *env, file *jobsFile, honourGPU bool) (*batch, error) {
	s := newShipment()
	spec, err := f.spec(s)
	if err != nil {
		return nil, err
	}
	entries, err := file.lay(s)
	if err != nil {
		return nil, err
	}
	for _, w := range file.warnings(honourGPU) {
		_, _ = fmt.Fprintln(e.stderr, "warning: "+w)
	}
	spec.GPUHint = honourGPU
	if spec.Valid == "" {
		spec.Valid = "auto"
	}
	if spec.TimeoutMS == 0 {
		spec.TimeoutMS = uint64(defaultTimeout.Milliseconds())
	}
	b, err := s.batch(spec, entries, f.mode)
	if err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return b, nil
}

// An entry is a task as a file says it.
type entry struct {
	task  scripts.Task
	needs []string // as scripts.Arrange takes them
	words int      // of its command that start a worker
}

// batch puts the tasks of a job into order, and has the list of them shipped.
func (s *shipment) batch(spec *scripts.Spec, entries []entry, mode string) (*batch, error) {
	tasks, needs, seen := make([]scripts.Task, len(entries)), make([][]string, len(entries)), make(map[string]bool, len(entries))
	for i, n := range entries {
		if seen[n.task.ID] {
			return nil, &usageError{what: fmt.Sprintf("two tasks have the id %q", clip(n.task.ID)), next: "give every task its own"}
		}
		if mode == modeWorker && n.words != entries[0].words {
			return nil, &usageError{what: "the tasks of this file do not start a worker alike", next: "make one file of the Python scripts, and one of the other programs"}
		}
		seen[n.task.ID] = true
		tasks[i], needs[i] = n.task, n.needs
	}
	if mode == modeWorker {
		spec.Worker = entries[0].words
	}
	b := &batch{spec: spec, shipment: s}
	var err error
	if b.tasks, err = scripts.Arrange(tasks, needs); err != nil {
		return nil, err
	}
	spec.List, err = s.list(b.tasks)
	return b, err
}

// maxJobsFile bounds a jobs file, in bytes.
const maxJobsFile = 256 << 20

// jobsFile is a file of script jobs in either of the original's formats.
type jobsFile struct {
	entries []jobsEntry
	unknown []string // keys without a meaning
}

// maxTimeout bounds the timeout of an entry, in seconds: a year.
const maxTimeout = 365 * 24 * 3600

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

// readFileOfJobs reads a file of any form that says what is to be run.
func readFileOfJobs(name string) ([]byte, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, inputError("the jobs file", err)
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxJobsFile+1))
	if err != nil {
		return nil, inputError("the jobs file", err)
	}
	if len(b) > maxJobsFile {
		return nil, &usageError{what: fmt.Sprintf("%s has more than %d bytes", name, maxJobsFile), next: "split it into several jobs, of which one may follow another with --after"}
	}
	return b, nil
}

// readRows reads a file of jobs, which is a list or {"jobs": [...]}, and gives the list.
func readRows(name string) (json.RawMessage, error) {
	b, err := readFileOfJobs(name)
	if err != nil {
		return nil, err
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
	if !f.read(rows) {
		*f = jobsFile{}
		if err := f.parse(rows); err != nil {
			return nil, err
		}
	}
	if len(f.entries) == 0 {
		return nil, fmt.Errorf("it has no jobs")
	}
	return f, nil
}

// read takes rows without mistakes, of which there may be a million, in one pass; false
// when they have some.
func (f *jobsFile) read(rows json.RawMessage) bool {
	d := json.NewDecoder(bytes.NewReader(rows))
	d.DisallowUnknownFields()
	if begin, err := d.Token(); err != nil || begin != json.Delim('[') {
		return false
	}
	for d.More() {
		var j jobsEntry
		if d.Decode(&j) != nil {
			return false
		}
		f.entries = append(f.entries, j)
	}
	_, err := d.Token()
	if err == nil {
		_, err = d.Token()
	}
	return errors.Is(err, io.EOF)
}

// parse takes rows with mistakes, or with keys that have no meaning, which it lists.
func (f *jobsFile) parse(rows json.RawMessage) error {
	if err := json.Unmarshal(rows, &f.entries); err != nil {
		return wrongType(err)
	}
	var keys []map[string]json.RawMessage
	if err := json.Unmarshal(rows, &keys); err != nil {
		return err
	}
	known := []string{"job_id", "script", "args", "gpu_id", "expected_output", "chunk_file", "seed_count", "timeout", "needs"}
	for _, k := range keys {
		for key := range k {
			if slices.Contains(known, key) {
				continue
			}
			if meant := kernels.Nearest(key, known); meant != "" {
				key += " (did you mean " + meant + "?)"
			}
			if !slices.Contains(f.unknown, key) {
				f.unknown = append(f.unknown, key)
			}
		}
	}
	slices.Sort(f.unknown)
	return nil
}

const hintIgnored = "gpu_id is ignored: each task sees the GPU of the slot that it runs in; --honour-gpu-id has it count"

// warnings names what has no effect.
func (f *jobsFile) warnings(honourGPU bool) (list []string) {
	if len(f.unknown) > 0 {
		list = append(list, "keys without a meaning here: "+strings.Join(f.unknown, ", "))
	}
	if !honourGPU && slices.ContainsFunc(f.entries, func(j jobsEntry) bool { return j.GPU != nil }) {
		list = append(list, hintIgnored)
	}
	return list
}

// lay gives the entries as tasks; what they need is shipped.
func (f *jobsFile) lay(s *shipment) ([]entry, error) {
	entries := make([]entry, len(f.entries))
	for i, j := range f.entries {
		t, err := j.task(s)
		if err != nil {
			return nil, err
		}
		entries[i] = entry{t, j.Needs, len(t.Argv) - len(j.Args)}
	}
	return entries, nil
}

func (j jobsEntry) task(s *shipment) (t scripts.Task, err error) {
	if json.Unmarshal(j.ID, &t.ID) != nil { // a number, or what is as good as a name
		t.ID = string(j.ID)
	}
	t.ID = strings.ReplaceAll(t.ID, "/", "_")
	if t.ID == "" || j.Script == "" {
		return t, &usageError{what: fmt.Sprintf("the job %q has no job_id or no script", clip(t.ID)), next: "every entry needs job_id, script and args"}
	}
	if !(j.Timeout >= 0 && j.Timeout <= maxTimeout) {
		return t, &usageError{what: fmt.Sprintf("the timeout of job %s is %v", clip(t.ID), j.Timeout), next: "give it in seconds, such as 300; 0 is the one of all jobs"}
	}
	t.TimeoutMS, t.GPU = uint64(j.Timeout*1000), j.GPU
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
	if words := s.commands[script]; words != nil {
		return slices.Clone(words), nil
	}
	words, err := commandOf(s, script)
	if err == nil {
		s.commands[script] = slices.Clone(words)
	}
	return words, err
}

func commandOf(s *shipment, script string) ([]string, error) {
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
