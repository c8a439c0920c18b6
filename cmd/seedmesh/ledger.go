package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newLedger(e *env) *cobra.Command {
	var verify, asJSON bool
	c := &cobra.Command{
		Use:   "ledger JOB",
		Short: "Account for every seed of a job",
		Long:  "ledger says which seeds are covered by committed results, and how often.\nWith --verify every piece is read from every holder and checked; exit 1 when anything is wrong.",
		Args:  exactArgs("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			limit := callTimeout
			if verify {
				limit = 0 // it reads everything
			}
			r, err := callWithin(c.Context(), e, limit, meshv1connect.MeshClient.Ledger, &meshv1.LedgerRequest{Job: args[0], Verify: verify})
			if err != nil {
				return err
			}
			print := printLedger
			if asJSON {
				print = func(e *env, r *meshv1.LedgerReply, _ bool) error { return writeJSON(e.stdout, r) }
			}
			if err := print(e, r, verify); err != nil {
				return err
			}
			return ledgerError(r, verify)
		},
	}
	c.Flags().BoolVar(&verify, "verify", false, "read every piece from every holder")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printLedger(e *env, r *meshv1.LedgerReply, verify bool) error {
	t := newTable(e.stdout)
	t.row("job", r.GetJob())
	t.row("complete", fmt.Sprint(r.GetComplete()))
	t.row("seeds", r.GetSeeds())
	t.row("gaps", strings.Join(r.GetGaps(), " "))
	t.row("overlaps", strings.Join(r.GetOverlaps(), " "))
	for _, h := range r.GetHeld() {
		t.row("held", fmt.Sprintf("%s by node %s, slot %d, fence %s", h.GetSeeds(), h.GetNode(), h.GetSlot(), h.GetFence()))
	}
	t.row("sum", r.GetSum())
	t.row("sum_sq", r.GetSumSq())
	t.row("pieces", fmt.Sprint(r.GetPieces()))
	t.row("reclaimed", fmt.Sprint(r.GetReclaimed()))
	t.row("under_replicated", fmt.Sprint(r.GetUnderReplicated()))
	t.row("digest", r.GetDigest())
	if verify {
		t.row("copies_verified", fmt.Sprint(r.GetVerified()))
		t.row("copies_unreachable", fmt.Sprint(r.GetUnreachable()))
	}
	return t.flush()
}

// ledgerError is what is wrong with a ledger. One that is only looked at may be
// incomplete: the job may still run.
func ledgerError(r *meshv1.LedgerReply, verify bool) error {
	what := ""
	switch {
	case len(r.GetProblems()) > 0:
		what = fmt.Sprintf("the ledger of job %s has %d %s", r.GetJob(), len(r.GetProblems()), plural(uint64(len(r.GetProblems())), "problem"))
	case len(r.GetOverlaps()) > 0:
		what = fmt.Sprintf("the ledger of job %s covers seeds twice: %s", r.GetJob(), strings.Join(r.GetOverlaps(), " "))
	case verify && !r.GetComplete():
		what = fmt.Sprintf("the ledger of job %s is not complete", r.GetJob())
	default:
		return nil
	}
	return &exitError{code: exitFailure, err: fmt.Errorf("%s", what), why: strings.Join(r.GetProblems(), "; ")}
}
