package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newNode(e *env) *cobra.Command {
	return parent("node", "Look at one member of the mesh, or change it", newNodeShow(e), newNodeRemove(e))
}

func newNodeRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NODE",
		Short: "Forget a member for good; its name is free again",
		Long:  "rm takes a member that will not come back out of the mesh. A machine that has been removed can only join again.",
		Args:  exactArgs("NODE"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := call(c.Context(), e, meshv1connect.MeshClient.RemoveNode, &meshv1.RemoveNodeRequest{Node: args[0], Request: requestID()})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "%s removed\n", r.GetName())
			return err
		},
	}
}
