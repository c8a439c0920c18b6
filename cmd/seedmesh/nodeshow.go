package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/node/host"
)

func newNodeShow(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show [NODE]",
		Short: "Show one member: its slots, its GPUs and how they do, and how it keeps scripts apart",
		Long:  "show looks at the node of a name or id, or at the one that answers. The node looks at its GPUs at most every 10 seconds.",
		Args:  atMost("NODE"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := call(c.Context(), e, meshv1connect.MeshClient.Node, &meshv1.NodeRequest{Node: first(args)})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.stdout, r)
			}
			return printNode(e, r)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printNode(e *env, r *meshv1.NodeReply) error {
	n := r.GetNode()
	t := newTable(e.stdout)
	t.row("name", n.GetName())
	t.row("id", n.GetId())
	t.row("address", n.GetAddress())
	t.row("state", n.GetState())
	t.row("role", n.GetRole())
	t.row("version", n.GetVersion())
	t.row("scripts", r.GetScripts())
	for _, s := range r.GetSlots() {
		t.row(fmt.Sprintf("slot %d", s.GetSlot()), slotText(s))
	}
	gpuRows(t, r.GetDevices())
	if err := t.flush(); err != nil {
		return err
	}
	if r.GetProblem() != "" {
		return warn(e.stderr, "its scripts and GPUs are not known: "+r.GetProblem())
	}
	return nil
}

func slotText(s *meshv1.SlotInfo) string {
	parts := []string{s.GetDevice()}
	if s.GetGpu() != "" {
		parts = append(parts, "GPU "+s.GetGpu())
	}
	if s.GetDriver() != "" {
		parts = append(parts, s.GetDriver())
	}
	if !s.GetScripts() {
		parts = append(parts, "no scripts")
	}
	if s.GetBusy() {
		parts = append(parts, "busy")
	}
	if s.GetQuarantined() != "" {
		parts = append(parts, "quarantined: "+s.GetQuarantined())
	}
	return strings.Join(parts, ", ")
}

// gpuRows adds a row for each GPU, and one below it for each thing that is wrong.
func gpuRows(t *table, list []*meshv1.DeviceInfo) {
	for _, d := range list {
		t.row("gpu "+d.GetPci(), gpuText(d))
		for _, note := range d.GetNotes() {
			t.row("  "+d.GetState(), note)
		}
	}
}

// gpuText is a GPU in one line: state and readings, then what it is.
func gpuText(d *meshv1.DeviceInfo) string {
	model := d.GetModel()
	if model == "" {
		model = d.GetVendor() + " GPU"
	}
	memory := "memory N/A"
	if d.GetMemoryBytes() > 0 {
		memory = fmt.Sprintf("%d of %d MiB", d.GetMemoryUsedBytes()>>20, d.GetMemoryBytes()>>20)
	}
	parts := []string{
		d.GetState(), reading(d.GetCelsius(), "°C"), reading(d.GetCoreMhz(), "MHz"), memory, model, d.GetDriver(), d.GetUuid(),
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// reading writes a number with its unit, or N/A as the vendors' tools do.
func reading(value int32, unit string) string {
	if value == host.NotKnown {
		return "N/A " + unit
	}
	return fmt.Sprintf("%d %s", value, unit)
}
