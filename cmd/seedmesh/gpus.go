package main

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newGpus(e *env) *cobra.Command {
	var watch, asJSON bool
	q := new(meshv1.GpusRequest)
	c := &cobra.Command{
		Use:   "gpus",
		Short: "List the GPUs of the mesh: how they do, and what they do now",
		Long: `gpus lists every slot that runs on an accelerator or has a GPU for its tasks, every GPU that no slot uses, and what is
quarantined. Each node looks at its GPUs at most every 10 seconds. A name is NODE and the number of the slot, as in seedmesh node
show, or of a GPU without a slot its PCI id, as in seedmesh devices. N/A is a reading that cannot be had.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return e.repeat(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				r, err := call(ctx, e, meshv1connect.MeshClient.Gpus, q)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSONList(w, r.GetGpus())
				}
				return printGpus(w, r.GetGpus())
			})
		},
	}
	c.Flags().BoolVarP(&q.All, "all", "a", false, "list the slots on processors too")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "again every second, until interrupted")
	c.Flags().BoolVar(&q.Linearizable, "linearizable", false, "ask the leader, not this node's copy")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printGpus(w io.Writer, list []*meshv1.GpuInfo) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No slot of this mesh runs on an accelerator, and its machines have no GPU of NVIDIA or AMD. seedmesh gpus --all lists all slots.")
		return err
	}
	t := newTable(w, "NAME", "DEVICE", "DOES", "STATE", "CELSIUS", "CORE_MHZ", "MEMORY_MIB", "VENDOR", "DRIVER", "MODEL")
	for _, g := range list {
		d := g.GetGpu()
		memory := "N/A"
		if d.GetMemoryBytes() > 0 {
			memory = fmt.Sprint(d.GetMemoryBytes() >> 20)
		}
		t.row(g.GetName(), g.GetDevice(), doesText(g), cmp.Or(d.GetState(), "unknown"), shownReading(int(d.GetCelsius())), shownReading(int(d.GetCoreMhz())),
			memory, d.GetVendor(), d.GetDriver(), d.GetModel())
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, g := range list {
		for _, line := range gpuRemarks(g) {
			if _, err := fmt.Fprintf(w, "%s: %s\n", g.GetName(), line); err != nil {
				return err
			}
		}
	}
	return nil
}

// doesText is what a slot does, with the job that it works on.
func doesText(g *meshv1.GpuInfo) string {
	if g.GetJob() == "" {
		return g.GetDoes()
	}
	return g.GetDoes() + " on " + g.GetJob() + " " + g.GetRange()
}

// gpuRemarks are what a table has no room for.
func gpuRemarks(g *meshv1.GpuInfo) (lines []string) {
	if g.GetQuarantined() != "" {
		lines = append(lines, "quarantined: "+g.GetQuarantined())
	}
	for _, note := range g.GetGpu().GetNotes() {
		lines = append(lines, g.GetGpu().GetState()+": "+note)
	}
	if g.GetProblem() != "" {
		lines = append(lines, "its GPU is not known: "+g.GetProblem())
	}
	return lines
}
