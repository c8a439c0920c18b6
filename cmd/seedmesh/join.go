package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"seedmesh/jobs"
	"seedmesh/node"
)

func newJoin(e *env) *cobra.Command {
	var s node.Setup
	c := &cobra.Command{
		Use:   "join TOKEN@HOST:PORT [--listen HOST:PORT]",
		Short: "Make this machine a member of a mesh",
		Long:  "join asks the member at HOST:PORT for an identity, which it keeps in the data directory.\nThe token proves which mesh it is before any secret is sent. Then start the node with: seedmesh up\nA client, whose token says so, needs no --listen and is not started.",
		Args:  exactArgs("TOKEN@HOST:PORT"),
		RunE: func(c *cobra.Command, args []string) error {
			s.Dir = e.dataDir()
			role, err := node.Join(c.Context(), s, args[0])
			if err != nil {
				return err
			}
			next := "joined. Start the node with:\n  seedmesh up" + e.dataFlag()
			if role == jobs.Client {
				next = "joined as a client. Ask the mesh with:\n  seedmesh nodes" + e.dataFlag()
			}
			_, err = fmt.Fprintln(e.stderr, next)
			return err
		},
	}
	setupFlags(c, &s)
	return c
}
