package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newPlanScript(e *env) *cobra.Command {
	var f fileFlags
	c := &cobra.Command{
		Use:   "script FILE",
		Short: "The tasks of a job.toml or a jobs file, where they would run, and for how long",
		Long:  "plan script takes the flags of script. It sends no files.",
		Args:  exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := f.read(e, c, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = b.shipment.remove() }() // temporary files
			b.spec.Inputs = b.shipment.inputs
			encoded, err := b.spec.Encode()
			if err != nil {
				return err
			}
			q, err := f.request(e, encoded)
			if err != nil {
				return err
			}
			plan, err := call(c.Context(), e, meshv1connect.MeshClient.PlanScripts, q)
			if err != nil {
				return err
			}
			if f.json {
				return writeJSON(e.stdout, plan)
			}
			return printPlanScript(e, plan)
		},
	}
	f.register(c)
	for _, unused := range []string{"wait", "quiet", "output-dir", "preserve-paths"} { // they are about the end of a job
		_ = c.Flags().MarkHidden(unused) // it is there
	}
	return c
}

func printPlanScript(e *env, p *meshv1.PlanScriptsReply) error {
	t := newTable(e.stdout)
	t.row("tasks", fmt.Sprint(p.GetTasks()))
	if p.GetBlocked() > 0 {
		t.row("that wait for others", fmt.Sprint(p.GetBlocked()))
	}
	if p.GetWaitsFor() != "" {
		t.row("after", p.GetWaitsFor())
	}
	memory := "as much as they turn out to need"
	if p.GetMemory() > 0 {
		memory = mib(p.GetMemory())
	}
	t.row("memory of a task", memory)
	t.row("inputs", mib(p.GetInputBytes())+", fetched once by each node")
	t.row("at once", fmt.Sprint(p.GetParallel()))
	eta := "unknown until such tasks have run"
	if p.GetEtaSeconds() >= 0 {
		eta = span(p.GetEtaSeconds())
	}
	t.row("eta", eta)
	if err := t.flush(); err != nil {
		return err
	}
	if len(p.GetSlots()) > 0 {
		_, _ = fmt.Fprintln(e.stdout)
		t = newTable(e.stdout, "NODE", "SLOT", "DEVICE", "TASKS/S")
		for _, s := range p.GetSlots() {
			rate := "unknown"
			if s.GetRate() > 0 {
				rate = fmt.Sprintf("%.3g", s.GetRate())
			}
			t.row(s.GetNode(), fmt.Sprint(s.GetSlot()), s.GetDevice(), rate)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if p.GetWarning() != "" {
		_, _ = fmt.Fprintln(e.stderr, "warning: "+p.GetWarning())
	}
	return nil
}
