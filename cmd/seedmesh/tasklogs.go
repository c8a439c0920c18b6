package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newTaskLogs(e *env) *cobra.Command {
	var (
		attempt uint32
		onlyErr bool
		follow  bool
	)
	c := &cobra.Command{
		Use:   "logs JOB/TASK | -f JOB[/TASK]",
		Short: "What a task wrote to its standard output, and to its standard error",
		Long: `logs prints what the last attempt at a task wrote: its standard output to the standard output, its standard
error to the standard error. Of a long text the beginning and the end are kept.

With -f it goes on with what the task writes until the task has ended, whichever node it runs on. JOB alone, for which -f
is needed, is every task of the job, one after the other. A task that is tried again begins anew, and the standard error says so.`,
		Example: `  seedmesh task logs last/17
  seedmesh task logs -f last`,
		Args: exactArgs("JOB/TASK"),
		RunE: func(c *cobra.Command, args []string) error {
			if follow {
				if attempt > 0 {
					return &usageError{what: "--follow and --attempt are both given", next: "leave one of them out"}
				}
				return followLogs(c.Context(), e, args[0], onlyErr)
			}
			if !strings.Contains(args[0], "/") {
				return &usageError{what: fmt.Sprintf("%q names no task", clip(args[0])), next: "write JOB/TASK, or for all tasks of a job, one after the other: -f " + clip(args[0])}
			}
			r, err := lookTask(c, e, args[0])
			if err != nil {
				return err
			}
			a, err := pickAttempt(r, attempt)
			if err != nil {
				return err
			}
			if !onlyErr {
				if _, err := writeWords(e.stdout, a.GetStdout(), 0); err != nil {
					return err
				}
			}
			_, err = writeWords(e.stderr, a.GetStderr(), 0)
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it writes, until it has ended")
	c.Flags().Uint32Var(&attempt, "attempt", 0, "of this attempt, from 1 (default the last)")
	c.Flags().BoolVar(&onlyErr, "stderr", false, "only the standard error")
	return c
}

func pickAttempt(r *meshv1.TaskReply, number uint32) (*meshv1.AttemptInfo, error) {
	all := r.GetAttempts()
	for i := len(all) - 1; i >= 0; i-- {
		if number == 0 || all[i].GetAttempt() == number {
			return all[i], nil
		}
	}
	return nil, &exitError{
		code: exitNotFound, err: fmt.Errorf("no words are kept of that attempt at task %s, which is %s", r.GetTask().GetTask(), r.GetTask().GetState()),
		next: "an attempt's words are kept when it has ended: seedmesh task show lists the attempts",
	}
}

// writeWords writes what was kept of a stream, behind the bytes that are known, and
// gives how many are known then: all of them.
func writeWords(w io.Writer, words *meshv1.WordsInfo, known uint64) (uint64, error) {
	head, tail, total := words.GetHead(), words.GetTail(), words.GetTotal()
	var text []byte
	if known < uint64(len(head)) {
		text, known = bytes.Clone(head[known:]), uint64(len(head))
	}
	if begin := total - uint64(len(tail)); known < begin {
		text, known = notKept(text, begin-known), begin
	}
	if known < total {
		text = append(text, tail[uint64(len(tail))-(total-known):]...)
	}
	_, err := w.Write(text)
	return total, err
}

func notKept(text []byte, cut uint64) []byte {
	return fmt.Appendf(text, "\n... %d bytes were not kept ...\n", cut)
}

// followEvery is the time between two questions about a task that runs.
const followEvery = 250 * time.Millisecond

// followLogs follows one task, or all of a job, each to its end.
func followLogs(ctx context.Context, e *env, name string, onlyErr bool) error {
	job, task, one := strings.Cut(name, "/")
	if one {
		return e.followTask(ctx, job, task, onlyErr)
	}
	info, err := call(ctx, e, meshv1connect.MeshClient.Job, &meshv1.JobRequest{Job: job})
	if err != nil {
		return err
	}
	total, err := strconv.ParseUint(info.GetTotal(), 10, 64)
	if err != nil || !isScripts(info) {
		return &usageError{what: "job " + info.GetId() + " has no tasks", next: "see what it found with: seedmesh results " + info.GetId()}
	}
	for n := range total {
		if err := e.followTask(ctx, info.GetId(), fmt.Sprintf("#%d", n), onlyErr); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) followTask(ctx context.Context, job, task string, onlyErr bool) error {
	f := &follower{env: e, onlyErr: onlyErr, shown: map[string]bool{}}
	for {
		q := &meshv1.TaskRequest{Job: job, Task: task, Follow: &meshv1.Follow{Started: f.started, Stdout: f.known[0], Stderr: f.known[1]}}
		r, err := call(ctx, e, meshv1connect.MeshClient.Task, q)
		if ctx.Err() != nil {
			return &exitError{code: exitInterrupted}
		}
		if err != nil {
			return err
		}
		task = fmt.Sprintf("#%d", r.GetTask().GetNumber()) // what a name meant stays meant
		if ended, err := f.show(r); ended || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return &exitError{code: exitInterrupted}
		case <-time.After(followEvery):
		}
	}
}

// A follower shows the words of a task's attempts, each byte once: those of the
// running one as they come, and the rest when it has ended, from its outcome.
type follower struct {
	*env
	onlyErr bool
	asked   bool
	started string // the attempt that is shown, by its start; empty for none yet
	known   [2]uint64
	shown   map[string]bool // attempts that have ended, and are shown
	missed  time.Time       // since when the task has ended and its last words are missing
}

// show adds what an answer has, and tells whether it was the last.
func (f *follower) show(r *meshv1.TaskReply) (ended bool, err error) {
	state := r.GetTask().GetState()
	ended = state == "done" || state == "failed" || r.GetEnded()
	all := r.GetAttempts()
	for i, a := range all {
		old := !f.asked && (i < len(all)-1 || !ended)
		if !f.shown[a.GetStarted()] && !old {
			f.begin(r, a.GetStarted())
			if err := f.finish(a); err != nil {
				return false, err
			}
		}
		f.shown[a.GetStarted()] = true
	}
	f.asked = true
	if live := r.GetLive(); live != nil && !f.shown[live.GetStarted()] {
		f.begin(r, live.GetStarted())
		if err := f.goOn(live); err != nil {
			return false, err
		}
	}
	if ended && f.started != "" && !f.shown[f.started] { // its outcome cannot be read just now
		if f.missed.IsZero() {
			f.missed = time.Now()
		}
		return time.Since(f.missed) > f.connectTimeout, nil
	}
	return ended, nil
}

// begin turns to an attempt.
func (f *follower) begin(r *meshv1.TaskReply, started string) {
	if f.started == started {
		return
	}
	if f.started != "" {
		_, _ = fmt.Fprintf(f.stderr, "task %s is tried again\n", r.GetTask().GetTask())
	}
	f.started, f.known = started, [2]uint64{}
}

// finish shows the rest of an attempt that has ended.
func (f *follower) finish(a *meshv1.AttemptInfo) (err error) {
	for i, words := range []*meshv1.WordsInfo{a.GetStdout(), a.GetStderr()} {
		if f.known[i], err = writeWords(f.to(i), words, f.known[i]); err != nil {
			return err
		}
	}
	return nil
}

// goOn shows what an attempt has written since.
func (f *follower) goOn(live *meshv1.LiveInfo) error {
	for i, part := range []struct {
		from uint64
		data []byte
	}{{live.GetStdoutFrom(), live.GetStdout()}, {live.GetStderrFrom(), live.GetStderr()}} {
		var text []byte
		if part.from > f.known[i] {
			text = notKept(nil, part.from-f.known[i])
		}
		if _, err := f.to(i).Write(append(text, part.data...)); err != nil {
			return err
		}
		f.known[i] = part.from + uint64(len(part.data))
	}
	return nil
}

// to is where a stream of the task goes.
func (f *follower) to(stream int) io.Writer {
	switch {
	case stream == 1:
		return f.stderr
	case f.onlyErr:
		return io.Discard
	}
	return f.stdout
}
