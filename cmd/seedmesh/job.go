package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newJob(e *env) *cobra.Command {
	c := parent("job", "Look at one job, wait for it, or change it",
		newJobShow(e), newJobWatch(e), newJobWait(e),
		newJobControl(e, "cancel", "End a job for good", "cancel"),
		newJobControl(e, "pause", "Start no more work of a job", "pause"),
		newJobControl(e, "resume", "Go on with a paused job", "resume"),
		newJobControl(e, "rm", "Forget a job that has ended, and its results", "remove"),
		newJobPriority(e), newJobRetry(e),
	)
	c.Long = `JOB is an id, the unique beginning of one, a name, or last for the newest job of all. Of several jobs with one name the newest is
meant; cancel, pause, resume, priority and rm refuse to choose where more than one could be changed, and list their ids.`
	return c
}

func newJobShow(e *env) *cobra.Command {
	var asJSON, linearizable bool
	c := &cobra.Command{
		Use:   "show JOB",
		Short: "Everything about one job",
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			info, err := call(c.Context(), e, meshv1connect.MeshClient.Job, &meshv1.JobRequest{Job: args[0], Linearizable: linearizable})
			if err != nil {
				return err
			}
			return printJob(e, info, asJSON)
		},
	}
	c.Flags().BoolVar(&linearizable, "linearizable", false, "ask the leader, not this node's copy")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printJob(e *env, j *meshv1.JobInfo, asJSON bool) error {
	if asJSON {
		return writeJSON(e.stdout, j)
	}
	t := newTable(e.stdout)
	t.row("job", j.GetId())
	t.row("name", j.GetName())
	t.row("kind", j.GetKind())
	t.row("type", j.GetType())
	if isScripts(j) {
		t.row("runs", j.GetGenerator())
	} else {
		t.row("generator", j.GetGenerator())
	}
	t.row("state", j.GetState())
	if waits := j.GetWaits(); waits != "" {
		t.row("waits", waits)
	}
	t.row("priority", strconv.FormatInt(int64(j.GetPriority()), 10))
	t.row("done", fmt.Sprintf("%s of %s (%.1f%%)", j.GetDone(), j.GetTotal(), 100*progressOf(j).share))
	rate := fmt.Sprintf("%s %s/s", big(j.GetRate()), j.GetKind())
	if !isScripts(j) {
		rate += fmt.Sprintf(", %s steps/s", big(j.GetStepsRate()))
	}
	t.row("rate", fmt.Sprintf("%s on %d %s", rate, j.GetSlots(), plural(uint64(j.GetSlots()), "slot")))
	t.row("eta", span(j.GetEtaSeconds()))
	t.row("elapsed", span(j.GetElapsedSeconds()))
	if !isScripts(j) {
		t.row("survivors", fmt.Sprintf("%s (%s expected by chance)", j.GetSurvivors(), chance(j.GetExpectedByChance())))
	}
	t.row("pieces", fmt.Sprintf("%d (%d reclaimed from lost nodes, %d with too few copies, %d lost)", j.GetPieces(), j.GetReclaimed(), j.GetUnderReplicated(), j.GetLost()))
	t.row("failures", fmt.Sprintf("%d (%d retries, %s %s given up)", j.GetFailures(), j.GetRetries(), orNone(j.GetFailed()), j.GetKind()))
	t.row("last_error", j.GetLastError())
	if err := t.flush(); err != nil {
		return err
	}
	return warn(e.stderr, j.GetWarning())
}

func orNone(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

func warn(w io.Writer, warning string) error {
	if warning == "" {
		return nil
	}
	_, err := fmt.Fprintln(w, "warning: "+warning)
	return err
}

func newJobWatch(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "watch JOB",
		Short: "Show a job's progress until it has ended",
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			_, err := e.follow(c.Context(), args[0], false, 0)
			return err
		},
	}
}

func newJobWait(e *env) *cobra.Command {
	var (
		asJSON  bool
		timeout time.Duration
	)
	c := &cobra.Command{
		Use:   "wait JOB",
		Short: "Wait for a job's end; exit 3 when it failed or was cancelled",
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			if timeout < 0 {
				return &usageError{what: "--timeout must not be negative", next: "such as --timeout 10m"}
			}
			info, err := e.follow(c.Context(), args[0], true, timeout)
			if info == nil {
				return err
			}
			if asJSON {
				return errors.Join(writeJSON(e.stdout, info), err)
			}
			_, wrote := fmt.Fprintf(e.stdout, "%s %s\n", info.GetId(), info.GetState())
			return errors.Join(wrote, err)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "exit 124 after this time (default none)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the job as JSON")
	return c
}

func newJobControl(e *env, verb, short, action string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   verb + " JOB",
		Short: short,
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			info, err := call(c.Context(), e, meshv1connect.MeshClient.Control,
				&meshv1.ControlRequest{Job: args[0], Action: action, Request: requestID()})
			if err != nil {
				return err
			}
			if action == "remove" && !asJSON {
				_, err := fmt.Fprintf(e.stdout, "%s removed\n", info.GetId())
				return err
			}
			return printState(e, info, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the job as JSON")
	return c
}

// printState is the one line that a change of a job prints.
func printState(e *env, j *meshv1.JobInfo, asJSON bool) error {
	if asJSON {
		return writeJSON(e.stdout, j)
	}
	_, err := fmt.Fprintf(e.stdout, "%s %s\n", j.GetId(), j.GetState())
	return err
}

func newJobPriority(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "priority JOB N",
		Short: "Change which jobs go first; a higher N goes before a lower one",
		Args:  exactArgs("JOB", "N"),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := strconv.ParseInt(args[1], 10, 32)
			if err != nil {
				return &usageError{what: fmt.Sprintf("%q is not a priority", clip(args[1])), next: fmt.Sprintf("use %d to %d; below 0 write: seedmesh job priority -- JOB -5", math.MinInt32, math.MaxInt32)}
			}
			info, err := call(c.Context(), e, meshv1connect.MeshClient.Control,
				&meshv1.ControlRequest{Job: args[0], Action: "priority", Priority: int32(n), Request: requestID()})
			if err != nil {
				return err
			}
			return printState(e, info, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the job as JSON")
	return c
}

// isScripts tells a script job from a search.
func isScripts(j *meshv1.JobInfo) bool { return j.GetKind() == "tasks" }

func newJobRetry(e *env) *cobra.Command {
	var asJSON, failed bool
	c := &cobra.Command{
		Use:   "retry JOB",
		Short: "Run the failed tasks of a script job that has ended again, as a new job",
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			if !failed {
				return &usageError{what: "only failed tasks can be tried again", next: "submit the whole job anew, or leave --failed out"}
			}
			info, err := call(c.Context(), e, meshv1connect.MeshClient.Control,
				&meshv1.ControlRequest{Job: args[0], Action: "retry", Request: requestID()})
			if err != nil {
				return err
			}
			return printSubmitted(e, info.GetId(), asJSON)
		},
	}
	c.Flags().BoolVar(&failed, "failed", true, "the failed tasks, which is all that there is to try again")
	c.Flags().BoolVar(&asJSON, "json", false, `print {"job":"ID"}`)
	return c
}
