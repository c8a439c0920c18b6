package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newJobs(e *env) *cobra.Command {
	var (
		all, watch, asJSON, linearizable bool
	)
	c := &cobra.Command{
		Use:   "jobs",
		Short: "List the jobs",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return e.repeat(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				r, err := call(ctx, e, meshv1connect.MeshClient.Jobs, &meshv1.JobsRequest{All: all, Linearizable: linearizable})
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSONList(w, r.GetJobs())
				}
				return printJobs(w, r.GetJobs())
			})
		},
	}
	flags := c.Flags()
	flags.BoolVarP(&all, "all", "a", false, "also those that have ended")
	flags.BoolVarP(&watch, "watch", "w", false, "again every second, until interrupted")
	flags.BoolVar(&linearizable, "linearizable", false, "ask the leader, not this node's copy")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printJobs(w io.Writer, list []*meshv1.JobInfo) error {
	t := newTable(w, "JOB", "NAME", "STATE", "DONE", "UNITS/S", "ETA", "SURVIVORS", "BY_CHANCE", "RUNS")
	for _, j := range list {
		eta := "-"
		if !ended(j.GetState()) {
			eta = span(j.GetEtaSeconds())
		}
		survivors, expected := j.GetSurvivors(), chance(j.GetExpectedByChance())
		if isScripts(j) {
			survivors, expected = "", ""
		}
		t.row(j.GetId(), j.GetName(), j.GetState(), fmt.Sprintf("%.1f%%", 100*progressOf(j).share), big(j.GetRate()), eta,
			survivors, expected, j.GetGenerator())
	}
	return t.flush()
}

const watchInterval = time.Second

// repeat shows something once, or every second until it is interrupted: in place
// on a terminal, one after the other elsewhere.
func (e *env) repeat(ctx context.Context, again bool, show func(context.Context, io.Writer) error) error {
	if !again {
		return show(ctx, e.stdout)
	}
	for {
		if width(e.stdout) > 0 {
			_, _ = io.WriteString(e.stdout, "\x1b[H\x1b[2J")
		}
		if err := show(ctx, e.stdout); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return &exitError{code: exitInterrupted}
		case <-time.After(watchInterval):
		}
	}
}
