package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"seedmesh/node"
)

func newJoin(e *env) *cobra.Command {
	var s node.Setup
	c := &cobra.Command{
		Use:   "join TOKEN@HOST:PORT --listen HOST:PORT",
		Short: "Make this machine a member of a mesh",
		Long:  "join asks the member at HOST:PORT for an identity, which it keeps in the data directory.\nThe token proves which mesh it is before any secret is sent. Then start the node with: seedmesh up",
		Args:  exactArgs("TOKEN@HOST:PORT"),
		RunE: func(c *cobra.Command, args []string) error {
			if s.Listen == "" {
				return listenMissing("seedmesh join " + clip(args[0]))
			}
			s.Dir = e.dataDir()
			if err := node.Join(c.Context(), s, args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stderr, "joined. Start the node with:\n  seedmesh up%s\n", e.dataFlag())
			return err
		},
	}
	setupFlags(c, &s)
	return c
}
