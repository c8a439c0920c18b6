package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/scripts"
)

// PlanScripts says what a submit of a script job would do.
func (s *service) PlanScripts(_ context.Context, r *connect.Request[v1.SubmitScriptsRequest]) (*connect.Response[v1.PlanScriptsReply], error) {
	spec, err := scripts.Decode(r.Msg.Spec)
	if err != nil {
		return nil, apiError(err)
	}
	terms, err := s.terms(spec, r.Msg)
	if err != nil {
		return nil, apiError(err)
	}
	reply := &v1.PlanScriptsReply{Tasks: spec.Count(), Memory: spec.Memory, EtaSeconds: -1}
	if terms.Ready > 0 {
		reply.Blocked = spec.Count() - terms.Ready
	}
	for _, in := range spec.Inputs {
		reply.InputBytes += uint64(in.Bytes)
	}
	if spec.List != nil {
		reply.InputBytes += uint64(spec.List.Bytes)
	}
	s.planSlots(reply, &terms, scriptShape(spec))
	if len(reply.Slots) == 0 {
		reply.Warning = "no slot that suits is there now: the job would wait for one"
	}
	return connect.NewResponse(reply), nil
}

// sortSlots puts the slots of each node together, in the order that nodes lists them in.
func sortSlots(slots []*v1.PlanSlot) {
	slices.SortStableFunc(slots, func(a, b *v1.PlanSlot) int { return strings.Compare(a.Node, b.Node) })
}

// planSlots lists the slots that suit, and what follows from their rates.
func (s *service) planSlots(reply *v1.PlanScriptsReply, terms *jobs.Terms, shape string) {
	var waits []string
	rates, known := 0.0, true
	s.n.log.View(func(st *jobs.State) {
		for _, d := range terms.After {
			if j := st.Job(d.Job); j != nil && !j.State.Terminal() {
				waits = append(waits, fmt.Sprintf("%s (%s)", j.ID, j.State))
			}
		}
		for _, n := range st.Nodes() {
			for i, sl := range n.Slots {
				if !n.Alive || !sl.TakesTasks() || !terms.Suits(n, sl) {
					continue
				}
				rate := rateOf(sl, shape)
				rates, known = rates+rate, known && rate > 0
				reply.Slots = append(reply.Slots, &v1.PlanSlot{Node: n.Name, Slot: uint32(i), Device: sl.Device, Rate: rate, Measured: rate > 0})
			}
		}
	})
	sortSlots(reply.Slots)
	reply.WaitsFor = strings.Join(waits, ", ")
	reply.Parallel = uint32(len(reply.Slots))
	if most := terms.MaxParallel; most > 0 && most < reply.Parallel {
		rates *= float64(most) / float64(reply.Parallel)
		reply.Parallel = most
	}
	if tasks := uint64(reply.Parallel); reply.Tasks < tasks {
		reply.Parallel = uint32(reply.Tasks)
	}
	if known && rates > 0 {
		reply.EtaSeconds = float64(reply.Tasks) / rates
	}
}
