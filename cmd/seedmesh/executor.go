package main

import (
	"github.com/spf13/cobra"

	"seedmesh/node/host"
	"seedmesh/node/slot"
)

// newExecutor is what a node starts for each of its slots; nobody types it. Its
// standard input and output carry frames.
func newExecutor(e *env) *cobra.Command {
	return &cobra.Command{
		Use:                "executor",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			_ = host.TimerSlack(host.DefaultTimerSlack) // the node may have been at rest
			return slot.Main(c.Context(), e.stdin, e.stdout, args)
		},
	}
}
