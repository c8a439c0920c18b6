package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/scripts"
)

func newExec(e *env) *cobra.Command {
	var f execFlags
	c := &cobra.Command{
		Use:   "exec [flags] -- CMD ARGS...",
		Short: "Run a command on the slots of the mesh, once or for each value of an array",
		Long: `exec runs a command in a slot of the mesh, in a working directory of its own that is empty but for the
inputs. With --array or --matrix it is run once for each value; {} in its arguments and outputs is the value
of the array, {NAME} that of a parameter, and $SEEDMESH_TASK_ID has them too.

With --split it is run for parts of an input, a JSON array, JSON Lines or CSV: each task finds its part under the
file's own name, and what all of them write under one name is joined.

A command or script that is a file below this directory is sent along: the command itself where its path has
a slash, or else its first argument that is a file.

With --mode worker the words up to :: start a process that stays up; each task gives it the words behind (examples/worker.py).`,
		Example: `  seedmesh exec --wait -- hostname
  seedmesh exec --array 1-100 --output 'out-{}.json' --output-dir results -- python3 train.py --fold {} --out out-{}.json
  seedmesh exec --matrix lr=0.1,0.01 --matrix depth=3,5 -- ./train.sh {lr} {depth}
  seedmesh exec --split items.jsonl --output scores.jsonl --output-dir results -- python3 score.py items.jsonl scores.jsonl
  seedmesh exec --mode worker --array 1-5000 -- python3 scorer.py --model m.bin :: {}`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{what: "exec needs a command", next: "such as: seedmesh exec -- hostname"}
			}
			s := newShipment()
			defer func() { _ = s.remove() }() // temporary files
			spec, err := f.template(s, args)
			if err != nil {
				return err
			}
			return f.run(c.Context(), e, spec, s)
		},
	}
	f.register(c)
	return c
}

// execFlags are the flags of exec.
type execFlags struct {
	scriptFlags
	array  string
	matrix []string
	split  string
	size   string
}

func (f *execFlags) register(c *cobra.Command) {
	f.scriptFlags.register(c)
	c.Flags().StringVar(&f.array, "array", "", "run the command for the numbers A-B, both included, or for a list such as 1,5,9-12")
	c.Flags().StringVar(&f.split, "split", "", "FILE.json, .jsonl or .csv: run the command for parts of this input, which each task finds under the file's name; outputs are joined in order")
	c.Flags().StringVar(&f.size, "chunk-size", "auto", "items of --split that a task gets; auto is as many as time and memory allow")
	c.Flags().StringArrayVar(&f.matrix, "matrix", nil, "NAME=V1,V2,...: run the command for every combination of values (may be repeated)")
}

// template is a job of one command; what it needs is shipped.
func (f *execFlags) template(s *shipment, argv []string) (*scripts.Spec, error) {
	spec, err := f.spec(s)
	if err != nil {
		return nil, err
	}
	if spec.Axes, err = parseAxes(f.array, f.matrix); err != nil {
		return nil, err
	}
	if f.split == "" && f.size != "auto" {
		return nil, &usageError{what: fmt.Sprintf("--chunk-size %s is given, and nothing is split", clip(f.size)), next: "use it with --split FILE; pieces of other jobs follow --chunk-time"}
	}
	if f.split != "" {
		if spec.Split, err = s.split(f.split, f.size); err != nil {
			return nil, err
		}
	}
	if f.mode == modeWorker {
		if argv, spec.Worker, err = workerWords(argv); err != nil {
			return nil, err
		}
	}
	if argv, err = s.ship(argv); err != nil {
		return nil, err
	}
	spec.Template = &scripts.Task{Argv: argv}
	spec.Outputs, spec.Template.Outputs = ownOutputs(spec.Outputs, spec.Axes)
	return spec, nil
}

// maxListed bounds the numbers of an array that is not one range.
const maxListed = 8192

// parseAxes reads --array and --matrix.
func parseAxes(array string, matrix []string) ([]scripts.Axis, error) {
	var axes []scripts.Axis
	if array != "" {
		a, err := parseArray(array)
		if err != nil {
			return nil, err
		}
		axes = append(axes, a)
	}
	for _, m := range matrix {
		name, values, ok := strings.Cut(m, "=")
		if !ok || name == "" || values == "" {
			return nil, &usageError{what: fmt.Sprintf("--matrix %q has no name or no values", clip(m)), next: "such as --matrix lr=0.1,0.01"}
		}
		axes = append(axes, scripts.Axis{Name: name, Values: strings.Split(values, ",")})
	}
	return axes, nil
}

func parseArray(text string) (scripts.Axis, error) {
	bad := &usageError{what: fmt.Sprintf("--array %q is not a list of numbers", clip(text)), next: "such as --array 1-100, or --array 1,5,9-12"}
	var listed []string
	parts := strings.Split(text, ",")
	for _, part := range parts {
		from, to, ok := strings.Cut(part, "-")
		if !ok {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 62)
		b, err2 := strconv.ParseUint(to, 10, 62)
		switch {
		case err != nil || err2 != nil || b < a:
			return scripts.Axis{}, bad
		case len(parts) == 1:
			return scripts.Axis{From: int64(a), To: int64(b)}, nil
		case b-a+uint64(len(listed)) >= maxListed:
			bad.what = fmt.Sprintf("--array lists more than %d numbers", maxListed)
			bad.next = "use one range, which may be as long as you like"
			return scripts.Axis{}, bad
		}
		for v := a; v <= b; v++ {
			listed = append(listed, strconv.FormatUint(v, 10))
		}
	}
	return scripts.Axis{Values: listed}, nil
}

// ownOutputs tells outputs whose path is another for each task from those of all.
func ownOutputs(patterns []string, axes []scripts.Axis) (all, own []string) {
	for _, p := range patterns {
		filled := false
		for _, a := range axes {
			filled = filled || strings.Contains(p, "{"+a.Name+"}")
		}
		if filled {
			own = append(own, p)
		} else {
			all = append(all, p)
		}
	}
	return all, own
}

// ship sends the command, or the script that it is given, along where it is a
// file below this directory, and gives the command as a task runs it.
func (s *shipment) ship(argv []string) ([]string, error) {
	argv = append([]string{}, argv...)
	if len(argv) == 0 {
		return nil, &usageError{what: "the command that checks outputs is empty", next: "such as --valid 'command:python3 check.py'"}
	}
	at := 0
	if !strings.Contains(argv[0], "/") {
		for at = 1; at < len(argv) && strings.HasPrefix(argv[at], "-"); at++ {
		}
	}
	if at == len(argv) || filepath.IsAbs(argv[at]) || filepath.Clean(argv[at]) == s.parted {
		return argv, nil
	}
	if info, err := os.Stat(argv[at]); err != nil || !info.Mode().IsRegular() {
		return argv, nil
	}
	to, err := s.add(argv[at])
	if at == 0 {
		to = "./" + to
	}
	argv[at] = to
	return argv, err
}
