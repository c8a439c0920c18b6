package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"seedmesh/kernels"
	"seedmesh/scripts"
)

// jobFile is a job of our own form: one command or a list of tasks, and the flags
// of script by name.
type jobFile struct {
	name string // of the file
	keys object // without those of tasks
	list []object
}

// An object is one of JSON, or a table of TOML.
type object = map[string]any

// jobForm says what a job file must be.
const jobForm = `such as: command = ["hostname"], or [[task]] with id and command; see: seedmesh script --help`

// readJobFile reads a file whose name ends with .toml, or that is a JSON object
// without "jobs". Any other is none of ours, for which it gives nil.
func readJobFile(name string) (*jobFile, error) {
	b, err := readFileOfJobs(name)
	if err != nil {
		return nil, err
	}
	j := &jobFile{name: name}
	if filepath.Ext(name) == ".toml" {
		err = toml.Unmarshal(b, &j.keys)
	} else if b := bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' {
		return nil, nil //nolint:nilnil // it is documented
	} else if j.keys, err = jsonTable(b); err == nil && j.keys["jobs"] != nil {
		return nil, nil //nolint:nilnil // it is documented
	}
	if err != nil {
		return nil, &usageError{what: fmt.Sprintf("%s is not a job file: %v", name, located(err, b)), next: jobForm}
	}
	return j, j.takeTasks()
}

func jsonTable(b []byte) (t object, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&t); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return t, nil
}

// located says in which line of a text a reader failed.
func located(err error, text []byte) error {
	var inTOML *toml.DecodeError
	var inJSON *json.SyntaxError
	switch {
	case errors.As(err, &inTOML):
		row, _ := inTOML.Position()
		return fmt.Errorf("line %d: %s", row, strings.TrimPrefix(inTOML.Error(), "toml: "))
	case errors.As(err, &inJSON):
		return fmt.Errorf("line %d: %w", 1+bytes.Count(text[:min(int(inJSON.Offset), len(text))], []byte("\n")), err)
	}
	return err
}

// takeTasks moves the tasks out of the keys.
func (j *jobFile) takeTasks() error {
	value, some := j.keys["task"]
	if delete(j.keys, "task"); !some {
		return nil
	}
	list, ok := value.([]any)
	for _, v := range list {
		t, isTable := v.(object)
		ok = ok && isTable
		j.list = append(j.list, t)
	}
	if !ok || len(list) == 0 {
		return &usageError{what: j.name + ": task must be a list of tables", next: "write [[task]] above each"}
	}
	return nil
}

// lay lays a job file out. Its keys are flags; those of the command line go first.
func (f *fileFlags) lay(e *env, c *cobra.Command, j *jobFile) (b *batch, err error) {
	keys := pflag.NewFlagSet("", pflag.ContinueOnError)
	command := keys.StringArray("command", nil, "")
	keys.StringArray("task", nil, "") // takeTasks has taken them; it is a key all the same
	c.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "help" {
			keys.AddFlag(flag)
		}
	})
	if err := assign(keys, j.keys, j.name); err != nil {
		return nil, err
	}
	if (len(*command) > 0) == (len(j.list) > 0) {
		return nil, &usageError{what: j.name + " must have either a command or tasks", next: jobForm}
	}
	s := newShipment()
	if b, err = f.layTasks(e, s, j, *command); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return b, nil
}

func (f *fileFlags) layTasks(e *env, s *shipment, j *jobFile, command []string) (*batch, error) {
	if len(command) > 0 {
		spec, err := f.template(s, command)
		return &batch{spec: spec, shipment: s}, err
	}
	if err := f.noCommand("a list of tasks"); err != nil {
		return nil, err
	}
	spec, err := f.spec(s)
	if err != nil {
		return nil, err
	}
	spec.GPUHint = f.honourGPU
	entries, hints := make([]entry, len(j.list)), false
	for i, t := range j.list {
		if entries[i], err = f.entry(s, t, fmt.Sprintf("%s: task number %d", j.name, i+1)); err != nil {
			return nil, err
		}
		hints = hints || entries[i].task.GPU != nil
	}
	if hints && !f.honourGPU {
		_, _ = fmt.Fprintln(e.stderr, "warning: "+hintIgnored)
	}
	return s.batch(spec, entries, f.mode)
}

// entry reads the table of a task; where names it.
func (f *fileFlags) entry(s *shipment, t object, where string) (n entry, err error) {
	keys := pflag.NewFlagSet("", pflag.ContinueOnError)
	id, script := keys.String("id", "", ""), keys.String("script", "", "")
	argv, args := keys.StringArray("command", nil, ""), keys.StringArray("args", nil, "")
	input, output, needs := keys.StringArray("input", nil, ""), keys.StringArray("output", nil, ""), keys.StringArray("needs", nil, "")
	timeout, gpu := keys.Duration("timeout", 0, ""), keys.Int("gpu-id", 0, "")
	if text, ok := scalar(t["id"]); ok {
		where += fmt.Sprintf(" (%s)", clip(text))
	}
	if err := assign(keys, t, where); err != nil {
		return n, err
	}
	switch {
	case *id == "":
		return n, &usageError{what: where + " has no id", next: `such as id = "a"`}
	case (*script == "") == (len(*argv) == 0) || *script == "" && len(*args) > 0:
		return n, &usageError{what: where + " must have either a command or a script, which may have args", next: `such as command = ["./run.sh", "a"], or script = "run.sh" and args = ["a"]`}
	case *timeout < 0 || *timeout > scripts.MaxTimeout:
		return n, &usageError{what: fmt.Sprintf("%s: the timeout is not from 0 to %v", where, scripts.MaxTimeout), next: `such as timeout = "10m"`}
	}
	n.needs, n.task = *needs, scripts.Task{ID: *id, Outputs: *output, TimeoutMS: uint64(timeout.Milliseconds())}
	if t["gpu_id"] != nil {
		n.task.GPU = gpu
	}
	if n.task.Argv, n.words, err = f.argv(s, *script, *argv); err != nil {
		return n, within(where, err)
	}
	n.task.Argv = append(n.task.Argv, *args...)
	if n.task.Inputs, err = s.addOwn(*input); err != nil {
		return n, within(where, err)
	}
	return n, within(where, n.task.Validate())
}

// argv is what starts a task, and how many words of it start a worker.
func (f *fileFlags) argv(s *shipment, script string, argv []string) (words []string, worker int, err error) {
	if script != "" {
		words, err = command(s, script)
		return words, len(words), err
	}
	if f.mode == modeWorker {
		if argv, worker, err = workerWords(argv); err != nil {
			return nil, 0, err
		}
	}
	words, err = s.ship(argv)
	return words, worker, err
}

// within says where in a file a mistake is.
func within(where string, err error) error {
	var usage *usageError
	var spec *scripts.SpecError
	switch {
	case errors.As(err, &usage):
		return &usageError{where + ": " + usage.what, usage.why, usage.next}
	case errors.As(err, &spec):
		return &usageError{what: where + ": " + spec.What, next: spec.Next}
	}
	return err
}

// assign sets flags that are not set yet to the values that a table has for their
// names, with _ for -. where names the table.
func assign(flags *pflag.FlagSet, t object, where string) error {
	var known []string
	flags.VisitAll(func(f *pflag.Flag) { known = append(known, strings.ReplaceAll(f.Name, "-", "_")) })
	for _, key := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains(known, key) {
			unknown := &usageError{what: fmt.Sprintf("%s: there is no key %q", where, clip(key)), next: "the keys are " + strings.Join(known, ", ")}
			if near := kernels.Nearest(key, known); near != "" {
				unknown.next = fmt.Sprintf("did you mean %q?", near)
			}
			return unknown
		}
		f := flags.Lookup(strings.ReplaceAll(key, "_", "-"))
		if f.Changed {
			continue
		}
		if !put(f, t[key]) {
			return &usageError{what: fmt.Sprintf("%s: the value of %s must be %s", where, key, form(f)), next: "see: seedmesh script --help"}
		}
	}
	return nil
}

// put gives a flag the value of a key, or says that it is none for it.
func put(f *pflag.Flag, value any) bool {
	list, many := f.Value.(pflag.SliceValue)
	if !many {
		text, ok := scalar(value)
		return ok && f.Value.Set(text) == nil
	}
	var texts []string
	var ok bool
	switch v := value.(type) {
	case []any:
		texts, ok = scalars(v)
	case object:
		texts, ok = pairs(v, f.Name == "matrix")
		ok = ok && (f.Name == "matrix" || f.Name == "env")
	default:
		texts, ok = scalars([]any{v})
		ok = ok && f.Name != "command" && f.Name != "args" // no shell would divide it
	}
	return ok && list.Replace(texts) == nil
}

// pairs writes the entries of a table as NAME=VALUE, or with lists NAME=V1,V2,....
func pairs(t object, lists bool) (texts []string, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(t)) {
		values, isList := t[name].([]any)
		if !isList {
			values = []any{t[name]}
		}
		words, ok := scalars(values)
		if !ok || isList && !lists || len(words) == 0 || lists && strings.Contains(strings.Join(words, ""), ",") {
			return nil, false
		}
		texts = append(texts, name+"="+strings.Join(words, ","))
	}
	return texts, true
}

func scalars(values []any) (texts []string, ok bool) {
	for _, v := range values {
		text, ok := scalar(v)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}

// scalar is a value as it would be typed.
func scalar(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case int64, bool:
		return fmt.Sprint(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	}
	return "", false
}

// form says what the value of a flag looks like in a file.
func form(f *pflag.Flag) string {
	switch f.Name {
	case "matrix":
		return `a table of lists, such as lr = [0.1, 0.01], without commas in them, or a list such as ["lr=0.1,0.01"]`
	case "env":
		return `a table of texts, or a list such as ["NAME=VALUE"]`
	case "command", "args":
		return `a list of words, such as ["python3", "train.py"]`
	}
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "duration":
		return `a duration, such as "90s" or "2h"`
	case "uint32":
		return "a whole number from 0 on"
	case "int", "int32":
		return "a whole number"
	case "intSlice":
		return "a list of whole numbers"
	case "stringArray":
		return "a list of texts"
	}
	return "text"
}
