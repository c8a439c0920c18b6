package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
)

// plannedJob is a checked request.
type plannedJob struct {
	spec     *kernels.Spec
	searches []*kernels.Search
	stages   []jobs.StageSpec
	expected float64
	steps    float64
	seeds    float64
}

// planJob checks a request and lays out its stages: one for each generator, in
// the order of their names.
func planJob(r *v1.SubmitRequest) (p plannedJob, err error) {
	if p.spec, err = kernels.DecodeSpec(r.Spec); err != nil {
		return p, err
	}
	if err := p.spec.Validate(); err != nil {
		return p, err
	}
	if r.Last < r.First {
		return p, invalid("the seed range is empty: its first seed is %d, its last %d", r.First, r.Last)
	}
	names := slices.Sorted(slices.Values(p.spec.Generators))
	for _, name := range slices.Compact(names) {
		search, err := p.spec.Compile(name)
		if err != nil {
			return p, err
		}
		seeds := search.Over(kernels.Range{First: r.First, Last: r.Last})
		if err := search.CheckSeeds(seeds); err != nil {
			return p, err
		}
		p.searches = append(p.searches, search)
		p.stages = append(p.stages, jobs.StageSpec{
			Label: name, Range: jobs.Range(seeds), Grain: max(search.Grain(), 1), Shape: shapeOf(name, p.spec),
		})
		p.expected += kernels.Expected(search, seeds.Size())
		p.steps += seeds.Size() * float64(search.StepsPerSeed())
		p.seeds += seeds.Size()
	}
	if a := p.spec.Analysis; a != nil && p.seeds != float64(a.Seeds) {
		return p, invalid("the analysis is corrected for %d seeds, and its ranges have %.0f", a.Seeds, p.seeds)
	}
	return p, nil
}

// leftToCPU says which of the searches an accelerator leaves to one thread of the CPU,
// and why.
func (p *plannedJob) leftToCPU(device string) string {
	var list []string
	for _, s := range p.searches {
		if why := s.LeftToCPU(device); why != "" {
			list = append(list, fmt.Sprintf("%s on one thread of the CPU: %s", s.Generator(), why))
		}
	}
	return strings.Join(list, "; ")
}

// shapeOf names searches that run at equal rates: the generator and a digest of
// everything else but the values of the draws.
func shapeOf(generator string, s *kernels.Spec) string {
	shape := fmt.Appendf(nil, "%s %v %v %d %d %s %s %v %d", s.Observe, s.Skip, s.Offset, len(s.Draws), s.MinMatches, s.Mode, s.Direction, s.Strategies, s.Split)
	if a := s.Analysis; a != nil {
		shape = fmt.Appendf(shape, " %s %d %v %d %d", a.Type, a.Samples, a.Lags, a.Bins, a.Neighbours)
	}
	h := sha256.Sum256(shape)
	return generator + "/" + hex.EncodeToString(h[:6])
}

// Submit adds a seed search.
func (s *service) Submit(ctx context.Context, r *connect.Request[v1.SubmitRequest]) (*connect.Response[v1.SubmitReply], error) {
	p, err := planJob(r.Msg)
	if err != nil {
		return nil, apiError(err)
	}
	m := r.Msg
	spec, submitted, err := s.n.storeSpec(ctx, p.spec.Encode())
	if err != nil {
		return nil, apiError(err)
	}
	defer submitted()
	submit := &jobs.Submit{
		Key: m.Key, RequestDigest: requestDigest(m), Name: m.Name, Kind: jobs.Seeds, Spec: spec, Stages: p.stages,
		Priority: m.Priority, ChunkTimeMS: m.ChunkTimeMs, Attempts: m.Attempts, TimeoutMS: m.TimeoutMs, Expected: p.expected,
		Submitter: m.Submitter,
	}
	id, err := s.submit(ctx, submit, func() jobs.Command { return submit })
	if err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(&v1.SubmitReply{Job: id.String()}), nil
}

// checkSizes refuses, with the flag that it is of, what is above a limit of the ledger.
func checkSizes(c *jobs.Submit) error {
	for _, part := range []struct {
		what        string
		bytes, most int
		next        string
	}{
		{"--name", len(c.Name), jobs.MaxNameBytes, "shorten it"},
		{"--key", len(c.Key), jobs.MaxKeyBytes, "shorten it"},
		{"the submitter", len(c.Submitter), jobs.MaxTextBytes, "shorten it"},
		{"the specification", len(c.Spec), jobs.MaxSpecBytes, "give fewer draws: a few dozen tell seeds apart as well; or search on one machine with --local"},
	} {
		if part.bytes > part.most {
			return &api.Error{
				Code: connect.CodeResourceExhausted, What: fmt.Sprintf("%s has %d bytes, the limit is %d", part.what, part.bytes, part.most), Remedy: part.next,
			}
		}
	}
	if c.Attempts > jobs.MaxAttempts {
		return &api.Error{
			Code: connect.CodeResourceExhausted, What: fmt.Sprintf("a piece may be tried %d times at most, not %d", jobs.MaxAttempts, c.Attempts),
			Remedy: fmt.Sprintf("use --attempts 1 to %d", jobs.MaxAttempts),
		}
	}
	return nil
}

func newJobID() (id uint64) {
	for id == 0 {
		for _, b := range randomBytes(8) {
			id = id<<8 | uint64(b)
		}
	}
	return id
}

// requestDigest identifies what is asked for, so that a key cannot be used twice
// for different things.
func requestDigest(m *v1.SubmitRequest) jobs.Digest {
	return sha256.Sum256(fmt.Appendf(nil, "%x %d %d %q %d %d %d %d", m.Spec, m.First, m.Last, m.Name, m.Priority, m.ChunkTimeMs, m.Attempts, m.TimeoutMs))
}

// Plan says what a submit would do.
func (s *service) Plan(_ context.Context, r *connect.Request[v1.SubmitRequest]) (*connect.Response[v1.PlanReply], error) {
	p, err := planJob(r.Msg)
	if err != nil {
		return nil, apiError(err)
	}
	reply := &v1.PlanReply{
		Generator: strings.Join(p.spec.Generators, ","), ExpectedByChance: p.expected, Steps: p.steps, EtaSeconds: -1,
		Method: "brute force: every seed, early stopping", Seeds: totalOf(p.stages).String(), Warning: chanceWarning(p.expected, 0),
	}
	if p.spec.Analysis != nil {
		reply.Method, reply.Warning = "the stream of every seed, on CPUs", ""
	}
	chunkTime := time.Duration(max(r.Msg.ChunkTimeMs, 1)) * time.Millisecond
	if r.Msg.ChunkTimeMs == 0 {
		chunkTime = jobs.DefaultChunkTimeMS * time.Millisecond
	}
	var sum float64
	known := true
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			if !m.Alive {
				continue
			}
			for i, sl := range m.Slots {
				if _, quarantined := sl.Quarantined(); quarantined {
					continue
				}
				rate := rateOf(sl, p.stages[0].Shape)
				known = known && rate > 0
				sum += rate
				reply.Slots = append(reply.Slots, &v1.PlanSlot{
					Node: m.Name, Slot: uint32(i), Device: sl.Device, Rate: rate, Measured: rate > 0, Note: p.leftToCPU(sl.Device),
				})
			}
		}
	})
	sortSlots(reply.Slots)
	if sum > 0 {
		reply.EtaSeconds = p.seeds / sum
		reply.Chunks = max(p.seeds/sum*float64(len(reply.Slots))/chunkTime.Seconds(), float64(len(p.stages)))
	}
	if !known {
		reply.Method += "; slots that never ran such a search begin with a probe"
	}
	return connect.NewResponse(reply), nil
}

func rateOf(sl *jobs.Slot, shape string) float64 {
	for _, r := range sl.Rates {
		if r.Shape == shape {
			return float64(r.Rate) / 1000 // the ledger counts the units of 1000 seconds
		}
	}
	return 0
}

func totalOf(stages []jobs.StageSpec) (c jobs.Count) {
	for _, st := range stages {
		c = c.Add(st.Range.Size())
	}
	return c
}

func chanceWarning(expected float64, found uint64) string {
	if !kernels.Indistinguishable(expected, found) {
		return ""
	}
	return fmt.Sprintf("this search cannot tell a true seed from chance: %.3g survivors are expected by chance alone", expected)
}
