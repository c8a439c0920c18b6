package main

import (
	"github.com/spf13/cobra"

	"seedmesh/kernels/bench"
)

// newMeasure is what bench starts for each kind of accelerator; nobody types it. Its
// standard input carries orders.
func newMeasure(e *env) *cobra.Command {
	return &cobra.Command{
		Use:                "measure",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(c *cobra.Command, _ []string) error { return bench.Serve(c.Context(), e.stdin) },
	}
}
