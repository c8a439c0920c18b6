package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newStatus(e *env) *cobra.Command {
	var asJSON, linearizable bool
	c := &cobra.Command{
		Use:   "status",
		Short: "The mesh as a node sees it: leader, voters, and what it can lose",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := call(c.Context(), e, meshv1connect.MeshClient.Status, &meshv1.StatusRequest{Linearizable: linearizable})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.stdout, r)
			}
			return printStatus(e, r)
		},
	}
	c.Flags().BoolVar(&linearizable, "linearizable", false, "ask the leader, not this node's copy")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printStatus(e *env, r *meshv1.StatusReply) error {
	leader := r.GetLeader()
	if leader == "" {
		leader = "none: writes wait until there is one"
	}
	t := newTable(e.stdout)
	t.row("cluster", r.GetCluster())
	t.row("node", r.GetNode())
	t.row("leader", leader)
	t.row("voters", strings.Join(r.GetVoters(), " "))
	t.row("survives", r.GetSurvives())
	t.row("nodes", fmt.Sprint(r.GetNodes()))
	t.row("slots", fmt.Sprintf("%d, %d busy", r.GetSlots(), r.GetBusy()))
	t.row("scripts", r.GetScripts())
	gpuRows(t, r.GetDevices())
	t.row("log", fmt.Sprintf("term %d, applied %d", r.GetTerm(), r.GetApplied()))
	t.row("ledger_digest", r.GetLedgerDigest())
	t.row("version", r.GetVersion())
	if err := t.flush(); err != nil {
		return err
	}
	for _, alarm := range append(r.GetAlarms(), r.GetQuarantined()...) {
		if err := warn(e.stderr, alarm); err != nil {
			return err
		}
	}
	return nil
}
