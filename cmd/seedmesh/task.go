package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newTask(e *env) *cobra.Command {
	c := parent("task", "Look at the tasks of a script job", newTaskLs(e), newTaskShow(e), newTaskLogs(e))
	c.Long = "JOB/TASK is a job and the name of one of its tasks, as task ls shows it, or #N for number N from 0."
	return c
}

func newTaskLs(e *env) *cobra.Command {
	var (
		state  string
		first  uint64
		limit  uint32
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "ls JOB",
		Short: "List the tasks of a script job",
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			all, next, err := e.tasks(c.Context(), &meshv1.TasksRequest{Job: args[0], State: state, First: first}, limit)
			if err != nil {
				return err
			}
			if next > 0 {
				_, _ = fmt.Fprintf(e.stderr, "there are more: seedmesh task ls --first %d %s\n", next, args[0])
			}
			if asJSON {
				return writeJSONList(e.stdout, all)
			}
			return printTasks(e.stdout, all)
		},
	}
	flags := c.Flags()
	flags.StringVar(&state, "state", "", "only those that are open, blocked (by others that they need), waiting (for another attempt), running, done or failed")
	flags.Uint64Var(&first, "first", 0, "begin with this number")
	flags.Uint32Var(&limit, "limit", 1000, "list at most so many")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// tasks lists at most limit tasks, and gives the number of the one that follows,
// or 0.
func (e *env) tasks(ctx context.Context, q *meshv1.TasksRequest, limit uint32) (all []*meshv1.TaskInfo, next uint64, err error) {
	for {
		q.Limit = limit - uint32(len(all))
		r, err := call(ctx, e, meshv1connect.MeshClient.Tasks, q)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, r.GetTasks()...)
		if q.First = r.GetNext(); q.First == 0 || uint32(len(all)) >= limit {
			return all, q.First, nil
		}
	}
}

func printTasks(w io.Writer, list []*meshv1.TaskInfo) error {
	t := newTable(w, "TASK", "STATE", "FAILURES", "NODE", "SECONDS", "CLASS", "MESSAGE")
	for _, v := range list {
		seconds := ""
		if v.GetState() == "done" {
			seconds = fmt.Sprintf("%.3f", v.GetSeconds())
		}
		t.row(v.GetTask(), v.GetState(), fmt.Sprint(v.GetFailures()), v.GetNode(), seconds, v.GetClass(), firstLine(v.GetMessage()))
	}
	return t.flush()
}

// firstLine keeps a row one line long.
func firstLine(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more {
		line += " ..."
	}
	return strings.ReplaceAll(line, "\t", " ")
}

// lookTask asks for the task that JOB/TASK names.
func lookTask(c *cobra.Command, e *env, name string) (*meshv1.TaskReply, error) {
	job, task, ok := strings.Cut(name, "/")
	if !ok || task == "" {
		return nil, &usageError{what: fmt.Sprintf("%q names no task", clip(name)), next: "write JOB/TASK; seedmesh task ls " + clip(job) + " lists them"}
	}
	return call(c.Context(), e, meshv1connect.MeshClient.Task, &meshv1.TaskRequest{Job: job, Task: task})
}

func newTaskShow(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show JOB/TASK",
		Short: "Everything about one task",
		Args:  exactArgs("JOB/TASK"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := lookTask(c, e, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.stdout, r)
			}
			return printTask(e.stdout, r)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON; what it wrote is in base64")
	return c
}

func printTask(w io.Writer, r *meshv1.TaskReply) error {
	v, t := r.GetTask(), newTable(w)
	t.row("task", v.GetTask())
	t.row("number", fmt.Sprint(v.GetNumber()))
	t.row("state", v.GetState())
	if v.GetNode() != "" {
		t.row("node", fmt.Sprintf("%s, slot %d", v.GetNode(), v.GetSlot()))
	}
	for _, o := range v.GetOutputs() {
		t.row("output", fmt.Sprintf("%s (%d bytes, %s)", o.GetPath(), o.GetBytes(), o.GetDigest()))
	}
	for _, a := range r.GetAttempts() {
		how := a.GetClass()
		if a.GetMessage() != "" {
			how += ": " + a.GetMessage()
		}
		t.row(fmt.Sprintf("attempt %d", a.GetAttempt()), fmt.Sprintf("%s; node %s, slot %d, %.3f s, %.3f s of CPU, %s of memory, wrote %d and %d bytes",
			how, a.GetNode(), a.GetSlot(), a.GetSeconds(), a.GetCpuSeconds(), mib(a.GetPeakRss()), a.GetStdout().GetTotal(), a.GetStderr().GetTotal()))
	}
	return t.flush()
}

func mib(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
