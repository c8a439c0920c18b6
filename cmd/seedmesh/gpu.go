package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newGpu(e *env) *cobra.Command {
	return parent("gpu", "Quarantine a GPU or slot, or release it", newGpuQuarantine(e), newGpuRelease(e))
}

func newGpuQuarantine(e *env) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "quarantine NODE/GPU",
		Short: "Give a GPU no more work until it is released",
		Long: `quarantine gives the slots of a GPU no more work: what they do is given back and done elsewhere. It lasts over starts of the node
and of the leader, until seedmesh gpu release. GPU is the number of a slot, also of one on a processor, or the PCI id or UUID of a GPU: seedmesh gpus lists them.`,
		Args: exactArgs("NODE/GPU"),
		RunE: func(c *cobra.Command, args []string) error {
			said := submitter(e) + " gave no reason"
			if reason != "" {
				said = submitter(e) + ": " + reason
			}
			return e.controlGpu(c.Context(), args[0], &meshv1.ControlGpuRequest{Reason: said})
		},
		ValidArgsFunction: e.completeGpus,
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for whoever finds it so")
	return c
}

func newGpuRelease(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "release NODE/GPU",
		Short: "End a quarantine, by a person or by the mesh itself",
		Long: `release lets the slots of a GPU work again. Each has its device pass the conformance suite first; a slot whose device does not pass is
quarantined again. Until then it does not work: seedmesh gpus says that it is tested.`,
		Args: exactArgs("NODE/GPU"),
		RunE: func(c *cobra.Command, args []string) error {
			return e.controlGpu(c.Context(), args[0], &meshv1.ControlGpuRequest{Release: true})
		},
		ValidArgsFunction: e.completeGpus,
	}
}

// controlGpu makes one call about the GPU of a name, and says how its slots stand.
func (e *env) controlGpu(ctx context.Context, name string, q *meshv1.ControlGpuRequest) error {
	var ok bool
	if q.Node, q.Gpu, ok = strings.Cut(name, "/"); !ok || q.Node == "" || q.Gpu == "" {
		return &usageError{what: fmt.Sprintf("%q is not NODE/GPU", clip(name)), next: "such as n1/0; seedmesh gpus --all lists the names"}
	}
	q.Request = requestID()
	r, err := call(ctx, e, meshv1connect.MeshClient.ControlGpu, q)
	if err != nil {
		return err
	}
	for _, g := range r.GetGpus() {
		text := "works again"
		if why := g.GetQuarantined(); why != "" {
			text = "quarantined: " + why
		}
		if q.GetRelease() && g.GetQuarantined() != "" {
			text = "released: it works again once its device has passed its test"
		}
		if _, err := fmt.Fprintf(e.stdout, "%s %s\n", g.GetName(), text); err != nil {
			return err
		}
	}
	return nil
}

// completeGpus offers the names of slots to a shell.
func (e *env) completeGpus(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	e.connectTimeout = 0 // a shell does not wait for a node
	r, err := call(c.Context(), e, meshv1connect.MeshClient.Gpus, &meshv1.GpusRequest{All: true})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, g := range r.GetGpus() {
		if g.GetSlot() >= 0 {
			names = append(names, g.GetName())
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
