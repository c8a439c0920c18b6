package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newNodes(e *env) *cobra.Command {
	var watch, asJSON, linearizable bool
	c := &cobra.Command{
		Use:   "nodes",
		Short: "List the members of the mesh",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return e.repeat(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				r, err := call(ctx, e, meshv1connect.MeshClient.Nodes, &meshv1.NodesRequest{Linearizable: linearizable})
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSONList(w, r.GetNodes())
				}
				return printNodes(w, r.GetNodes())
			})
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "again every second, until interrupted")
	c.Flags().BoolVar(&linearizable, "linearizable", false, "ask the leader, not this node's copy")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printNodes(w io.Writer, list []*meshv1.NodeInfo) error {
	t := newTable(w, "NAME", "ADDRESS", "STATE", "ROLE", "LEADER", "SLOTS", "BUSY", "VERSION")
	for _, n := range list {
		leader := "no"
		if n.GetLeader() {
			leader = "yes"
		}
		t.row(n.GetName(), n.GetAddress(), n.GetState(), n.GetRole(), leader, fmt.Sprint(n.GetSlots()), fmt.Sprint(n.GetBusy()), n.GetVersion())
	}
	return t.flush()
}
