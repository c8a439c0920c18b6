package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"seedmesh/kernels"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// Times of a plan.
const (
	planTimeout = 3 * time.Second        // for a node to answer, before the plan is made here
	calibration = 250 * time.Millisecond // that a local plan searches for, to learn the rate
)

func newPlan(e *env) *cobra.Command {
	return parent("plan", "Say what a submit would do, and change nothing", newPlanSieve(e), newPlanScript(e), newPlanStatistics(e, kernels.TypeAnalysis), newPlanStatistics(e, kernels.TypeCorrelation))
}

func newPlanSieve(e *env) *cobra.Command {
	var search searchFlags
	c := newPlanOf(e, search.parse, &cobra.Command{
		Use:   "sieve --generator NAME --draws FILE --seeds A:B",
		Short: "The work, the time and the chance survivors of a search",
		Long: `plan sieve takes the flags of sieve, but for those about the survivors. It says how many seeds chance lets through, and
how long the slots of the mesh would take at the rates that they have had. Where no node can be reached it plans for
this machine alone, and measures it.`,
	})
	search.register(c)
	return c
}

// newPlanOf adds to a command what all plans of seeds have.
func newPlanOf(e *env, parse func(*cobra.Command, *env) (*search, error), c *cobra.Command) *cobra.Command {
	var (
		job           jobFlags
		local, asJSON bool
		threads       int
	)
	c.Args = exactArgs()
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := parse(c, e)
		if err != nil {
			return err
		}
		if err := job.check(); err != nil {
			return err
		}
		plan, err := e.plan(c.Context(), s, &job, local, threads)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(e.stdout, plan)
		}
		return printPlan(e, plan)
	}
	job.register(c)
	c.Flags().BoolVar(&local, "local", false, "plan for this machine alone")
	c.Flags().IntVar(&threads, "threads", 0, "threads of --local (default one for each core)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// plan asks the mesh when one can be reached, and else measures this machine.
func (e *env) plan(ctx context.Context, s *search, job *jobFlags, local bool, threads int) (*meshv1.PlanReply, error) {
	if !local && e.checkData() == nil {
		var plan *meshv1.PlanReply
		err := e.try(func(client meshv1connect.MeshClient) error {
			ctx, cancel := context.WithTimeout(ctx, planTimeout)
			defer cancel()
			r, err := client.Plan(ctx, connect.NewRequest(job.request(s)))
			if err == nil {
				plan = r.Msg
			}
			return err
		})
		if err == nil || ctx.Err() != nil || e.node != "" || !unavailable(err) && !errors.Is(err, context.DeadlineExceeded) && connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			return plan, err
		}
		_, _ = fmt.Fprintf(e.stderr, "%s cannot be reached; this is the plan for this machine alone\n", e.target())
	}
	return planLocal(ctx, s, job.chunkTime, threads)
}

func planLocal(ctx context.Context, s *search, chunkTime time.Duration, threads int) (*meshv1.PlanReply, error) {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	device := kernels.NewCPU(threads)
	defer device.Close()
	var names []string
	var seconds, chunks float64
	for _, one := range s.searches {
		seeds := one.Over(s.seeds)
		rate, err := measure(ctx, device, one, seeds, calibration/time.Duration(len(s.searches)))
		if err != nil {
			return nil, err
		}
		names = append(names, one.Generator())
		seconds += seeds.Size() / rate
		chunks += math.Ceil(seeds.Size() / math.Max(1, rate*chunkTime.Seconds()))
	}
	plan := &meshv1.PlanReply{
		Generator: strings.Join(names, ","), Chunks: chunks, ExpectedByChance: s.expected(), Steps: s.steps(),
		EtaSeconds: seconds, Method: "exhaustive", Seeds: decimal(s.total()),
		Slots: []*meshv1.PlanSlot{{Node: "local", Device: device.Name(), Rate: s.total() / seconds, Measured: true}},
	}
	if plan.ExpectedByChance > 1 && s.selects() {
		plan.Warning = fmt.Sprintf("%s survivors are expected by chance alone: unless far more are found, this search cannot tell a true seed from chance", chance(plan.ExpectedByChance))
	}
	return plan, nil
}

// measure searches a little of the range and gives the rate in seeds a second.
func measure(ctx context.Context, device kernels.Device, s *kernels.Search, seeds kernels.Range, length time.Duration) (float64, error) {
	searcher, err := device.Prepare(ctx, s)
	if err != nil {
		return 0, err
	}
	defer searcher.Close()
	began := time.Now()
	watch := func(done uint64) uint64 {
		if time.Since(began) < length || done == 0 {
			return seeds.Last
		}
		return seeds.First + done - 1
	}
	last, _, _, err := searcher.Search(ctx, seeds, watch, func(kernels.Survivor) error { return nil })
	if err != nil {
		return 0, err
	}
	elapsed := max(time.Since(began), time.Microsecond).Seconds()
	return kernels.Range{First: seeds.First, Last: last}.Size() / elapsed, nil
}

func printPlan(e *env, p *meshv1.PlanReply) error {
	t := newTable(e.stdout)
	t.row("generator", p.GetGenerator())
	t.row("method", p.GetMethod())
	t.row("seeds", p.GetSeeds())
	chunks := "unknown until a slot's rate is"
	if p.GetChunks() > 0 {
		chunks = decimal(p.GetChunks())
	}
	t.row("chunks", chunks)
	t.row("steps", big(p.GetSteps()))
	t.row("expected_by_chance", chance(p.GetExpectedByChance()))
	t.row("eta", span(p.GetEtaSeconds()))
	if err := t.flush(); err != nil {
		return err
	}
	return printPlanSlots(e, p.GetSlots(), "SEEDS/S", p.GetWarning())
}

// printPlanSlots shows where a job would run, each slot with its rate, and the warning of
// a plan.
func printPlanSlots(e *env, slots []*meshv1.PlanSlot, unit, warning string) error {
	if len(slots) > 0 {
		_, _ = fmt.Fprintln(e.stdout)
		t := newTable(e.stdout, "NODE", "SLOT", "DEVICE", unit)
		for _, s := range slots {
			rate := "unknown"
			if s.GetRate() > 0 {
				rate = big(s.GetRate())
			}
			t.row(s.GetNode(), fmt.Sprint(s.GetSlot()), s.GetDevice(), rate)
		}
		if err := t.flush(); err != nil {
			return err
		}
		for _, s := range slots {
			if s.GetNote() != "" {
				_, _ = fmt.Fprintf(e.stderr, "slot %d of %s: %s\n", s.GetSlot(), s.GetNode(), s.GetNote())
			}
		}
	}
	return warn(e.stderr, warning)
}
