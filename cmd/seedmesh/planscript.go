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
		Short: "The tasks of a job.toml or a jobs file, and where they would run",
		Long: `plan script takes the flags of script, but for those about the end of the job. It reads the files that the job needs,
sends none of them, and submits nothing. How long the job would take is known where every slot that suits has run such
tasks before. A mesh must be reachable.`,
		Args: exactArgs("FILE"),
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
	for _, unused := range []string{"wait", "quiet", "output-dir", "preserve-paths"} { // keys of a job file that are about its end
		_ = c.Flags().MarkHidden(unused) // it is there
	}
	c.Flags().Lookup("json").Usage = "print JSON"
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
	return printPlanSlots(e, p.GetSlots(), "TASKS/S", p.GetWarning())
}
