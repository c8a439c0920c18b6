package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newResults(e *env) *cobra.Command {
	var (
		output, format string
		partial        bool
		d              delivery
	)
	c := &cobra.Command{
		Use:   "results JOB",
		Short: "Print a job's survivors, in order; of a script job the outcomes, or with -o its outputs",
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			convert, ok := formats[format]
			if !ok {
				return &usageError{what: fmt.Sprintf("the format %q is unknown", clip(format)), next: "use --format jsonl, json or csv"}
			}
			info, err := call(c.Context(), e, meshv1connect.MeshClient.Job, &meshv1.JobRequest{Job: args[0]})
			if err != nil {
				return err
			}
			if isScripts(info) && format == "csv" {
				return &usageError{what: "--format csv is for survivors, and job " + info.GetId() + " ran programs", next: "use --format jsonl or json"}
			}
			if isScripts(info) && (output != "" || d.preserve) {
				d.dir, d.below = output, true
				return e.deliver(c.Context(), info.GetId(), partial, &d)
			}
			err = e.writeTo(output, func(w io.Writer) error {
				lines := convert(w)
				return errors.Join(e.streamResults(c.Context(), info.GetId(), partial, lines), lines.Close())
			})
			if err == nil && !isScripts(info) {
				_, _ = fmt.Fprintln(e.stderr, byChance(info))
				err = warn(e.stderr, info.GetWarning())
			}
			return err
		},
	}
	flags := c.Flags()
	flags.StringVarP(&output, "output", "o", "", "write to this file, which is there whole or not at all; the outputs of a script job below this directory")
	flags.BoolVar(&d.preserve, "preserve-paths", false, "write each task's own outputs under the paths that they were asked for under; absolute ones begin at the directory of -o")
	flags.StringVar(&format, "format", "jsonl", "jsonl (a survivor, or the outcome of a task, a line), json (one array) or csv (of survivors)")
	flags.BoolVar(&partial, "partial", false, "also of a job that has not ended: what has been found so far")
	return c
}

// formats turn JSON Lines into what a user asked for.
var formats = map[string]func(io.Writer) io.WriteCloser{
	"jsonl": func(w io.Writer) io.WriteCloser { return plain{w} },
	"json":  func(w io.Writer) io.WriteCloser { return &lineWriter{w: w, each: arrayElement, end: arrayEnd} },
	"csv":   func(w io.Writer) io.WriteCloser { return &lineWriter{w: w, each: csvRow, end: csvEnd} },
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// maxLine bounds a survivor's record.
const maxLine = 1 << 20

// A lineWriter converts one line at a time, however they arrive.
type lineWriter struct {
	w     io.Writer
	each  func(dst []byte, n int, line []byte) ([]byte, error)
	end   func(n int) []byte
	lines int
	rest  []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	var out []byte
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			break
		}
		var err error
		if out, err = l.each(out, l.lines, line); err != nil {
			return 0, err
		}
		l.lines++
		l.rest = rest
	}
	if len(l.rest) > maxLine {
		return 0, errors.New("the node sent a record without an end")
	}
	l.rest = bytes.Clone(l.rest)
	if _, err := l.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the document; it does not close what is below.
func (l *lineWriter) Close() error {
	if len(l.rest) > 0 {
		return errors.New("the results end within a record")
	}
	_, err := l.w.Write(l.end(l.lines))
	return err
}

func arrayElement(dst []byte, n int, line []byte) ([]byte, error) {
	if n == 0 {
		dst = append(dst, "[\n"...)
	} else {
		dst = append(dst, ",\n"...)
	}
	return append(dst, line...), nil
}

func arrayEnd(n int) []byte {
	if n == 0 {
		return []byte("[]\n")
	}
	return []byte("\n]\n")
}

// csvColumns are the fields of a record, by its schema; none is a search's. What the
// mode or direction of a record does not have is empty, and the direction forward.
var csvColumns = map[string][]string{
	"": {
		"seed", "family", "matches", "total", "match_rate", "best_skip", "best_offset", "direction", "strategy", "skip_pattern", "origin",
		"held_out_matches", "held_out_total", "held_out_match_rate", "reverse_matches", "reverse_total", "reverse_match_rate", "reverse_skip", "reverse_offset",
	},
	"seedmesh.analysis/1": {
		"seed", "family", "skip", "offset", "samples", "mean", "std", "min", "max", "chi2", "chi2_dof", "chi2_p", "chi2_p_holm",
		"runs", "runs_z", "runs_p", "runs_p_holm", "p_value", "p_value_job",
	},
	"seedmesh.correlation/1": {"seed", "family", "skip", "offset", "samples", "max_correlation", "mean_correlation", "p_value", "p_value_job"},
}

func csvRow(dst []byte, n int, line []byte) ([]byte, error) {
	var record map[string]json.RawMessage
	if err := json.Unmarshal(line, &record); err != nil {
		return nil, fmt.Errorf("record %d cannot be read: %w", n+1, err)
	}
	columns := csvColumns[csvCell(record["schema"])] // a search states none
	row := make([]string, len(columns))
	for i, column := range columns {
		row[i] = csvCell(record[column])
		if column == "direction" && row[i] == "" {
			row[i] = kernels.Forward
		}
	}
	if n == 0 {
		dst = append(dst, csvLine(columns)...)
	}
	return append(dst, csvLine(row)...), nil
}

// csvCell is what stands in a JSON string, or the value as it is written.
func csvCell(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	return string(value)
}

func csvEnd(n int) []byte {
	if n == 0 {
		return csvLine(csvColumns[""])
	}
	return nil
}

func csvLine(row []string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(row) // a buffer takes everything
	w.Flush()
	return b.Bytes()
}
