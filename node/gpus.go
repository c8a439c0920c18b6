package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/host"
)

const (
	gpusPatience   = 5 * time.Second         // for what one node says of its GPUs, so that a list comes soon
	maxReasonBytes = jobs.MaxTextBytes - 100 // of a quarantine: what is put before it has room
)

// noCard is a slot's GPU of which nothing is known.
var noCard = host.Device{Number: host.NotKnown, Celsius: host.NotKnown, CoreMHz: host.NotKnown, MemoryMHz: host.NotKnown}

// What a slot does, beside the words of mesh.proto that say it themselves.
const (
	slotIdle        = "idle"
	slotWorks       = "works"
	slotQuarantined = "quarantined"
	slotTested      = "tested"
	slotDead        = "dead"
	slotNone        = "no slot"
)

// Gpus lists the GPUs of the mesh: what the ledger has of their slots, with what
// each living node says of its machine.
func (s *service) Gpus(ctx context.Context, r *connect.Request[v1.GpusRequest]) (*connect.Response[v1.GpusReply], error) {
	if err := s.sync(ctx, r.Msg.Linearizable); err != nil {
		return nil, apiError(err)
	}
	reply, owners := &v1.GpusReply{}, []jobs.Node(nil)
	var slots [][]*v1.GpuInfo // of each owner
	reply.Index = s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			if m.Role != jobs.Client {
				owners, slots = append(owners, *m), append(slots, slotInfos(st, m))
			}
		}
	})
	known := s.askAll(ctx, owners)
	for i := range owners {
		known[i].describe(&slots[i], owners[i].Name)
		for _, g := range slots[i] {
			if r.Msg.All || g.Slot < 0 || g.Device != "cpu" || g.Gpu.Pci != "" || g.Quarantined != "" {
				reply.Gpus = append(reply.Gpus, g)
			}
		}
	}
	slices.SortStableFunc(reply.Gpus, func(a, b *v1.GpuInfo) int { return strings.Compare(a.Node, b.Node) })
	return connect.NewResponse(reply), nil
}

// slotInfos is what the ledger has of a node's slots.
func slotInfos(st *jobs.State, m *jobs.Node) (list []*v1.GpuInfo) {
	for i, sl := range m.Slots {
		g := &v1.GpuInfo{Name: fmt.Sprintf("%s/%d", m.Name, i), Node: m.Name, Slot: int32(i), Device: sl.Device, Does: slotIdle, Gpu: deviceInfo(noCard)}
		if claims := st.Claims(jobs.SlotID{Node: m.ID, Index: uint32(i)}); len(claims) > 0 {
			g.Does, g.Job, g.Range = slotWorks, claims[0].Job.String(), claims[0].Range.String()
		}
		if reason, yes := sl.Quarantined(); yes {
			g.Does, g.Quarantined = slotQuarantined, reason
		}
		if _, released := sl.Released(); released {
			g.Does = slotTested
		}
		if !m.Alive {
			g.Does = slotDead
		}
		list = append(list, g)
	}
	return list
}

// A told is what a node has said of its machine, or why it has said nothing.
type told struct {
	facts
	problem string
}

// askAll asks the nodes that live about their machines, at the same time.
func (s *service) askAll(ctx context.Context, owners []jobs.Node) []told {
	list := make([]told, len(owners))
	ctx, cancel := context.WithTimeout(ctx, gpusPatience)
	defer cancel()
	var all sync.WaitGroup
	for i, m := range owners {
		if !m.Alive {
			list[i].problem = "the node does not live"
			continue
		}
		all.Go(func() {
			var err error
			if list[i].facts, err = s.n.askFacts(ctx, m.ID); err != nil {
				list[i].problem = err.Error()
			}
		})
	}
	all.Wait()
	return list
}

// describe adds to a node's slots what is known of their GPUs, and the GPUs that no
// slot uses.
func (k *told) describe(slots *[]*v1.GpuInfo, node string) {
	used := map[string]bool{}
	for i, g := range *slots {
		g.Problem = k.problem
		if i < len(k.Cards) && k.Cards[i] != nil {
			g.Gpu = deviceInfo(*k.Cards[i])
			used[k.Cards[i].PCI] = true
		}
		if g.Does == slotIdle && i < len(k.Waiting) && k.Waiting[i] {
			g.Does = slotTested
		}
	}
	for _, d := range k.Devices {
		if !used[d.PCI] {
			*slots = append(*slots, &v1.GpuInfo{Name: node + "/" + d.PCI, Node: node, Slot: -1, Does: slotNone, Gpu: deviceInfo(d)})
		}
	}
}

// ControlGpu quarantines the slots of a GPU, or releases them.
func (s *service) ControlGpu(ctx context.Context, r *connect.Request[v1.ControlGpuRequest]) (*connect.Response[v1.GpusReply], error) {
	m := r.Msg
	id, err := requestOf(m.Request)
	if err == nil {
		err = s.mayControl(ctx)
	}
	if err == nil && len(m.Reason) > maxReasonBytes {
		err = invalid("the reason has %d bytes, the limit is %d", len(m.Reason), maxReasonBytes)
	}
	var owner jobs.Node
	var slots []uint32
	if err == nil {
		owner, slots, err = s.slotsOf(ctx, m.Node, m.Gpu)
	}
	if err != nil {
		return nil, apiError(err)
	}
	var index uint64
	for _, k := range slots {
		c := &jobs.Confine{Slot: jobs.SlotID{Node: owner.ID, Index: k}, Lift: m.Release, Reason: cmp.Or(plain(m.Reason), "no reason was given")}
		if index, err = s.control(ctx, jobs.Request{ID: partOf(id, k), Command: c}); err != nil {
			return nil, apiError(err)
		}
	}
	reply := &v1.GpusReply{Index: index}
	s.n.log.View(func(st *jobs.State) {
		if m := st.Node(owner.ID); m != nil {
			for _, g := range slotInfos(st, m) {
				if slices.Contains(slots, uint32(g.Slot)) {
					reply.Gpus = append(reply.Gpus, g)
				}
			}
		}
	})
	return connect.NewResponse(reply), nil
}

// mayControl refuses callers over the network that are no voters, as for the members.
func (s *service) mayControl(ctx context.Context) error {
	if err := authorise(ctx); err != nil {
		return &api.Error{
			Code: connect.CodePermissionDenied, What: "only a node with the voter role may quarantine the GPUs of others over the network",
			Remedy: "run the command on a node of the mesh: seedmesh nodes lists them",
		}
	}
	return nil
}

// partOf is the id of one part of a request; none stays none.
func partOf(id [16]byte, part uint32) [16]byte {
	if id == ([16]byte{}) {
		return id
	}
	h := sha256.Sum256(binary.LittleEndian.AppendUint32(id[:], part))
	return [16]byte(h[:16])
}

// plain makes one line of what a person typed.
func plain(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))), " ")
}

// slotsOf finds the slots that a person means: one by its number, or those of a GPU by
// its PCI id or UUID, for which its node is asked.
func (s *service) slotsOf(ctx context.Context, node, gpu string) (owner jobs.Node, slots []uint32, err error) {
	if owner, err = s.member(node); err != nil {
		return owner, nil, err
	}
	if owner.Role == jobs.Client {
		return owner, nil, &api.Error{Code: connect.CodeFailedPrecondition, What: fmt.Sprintf("%s joined as a client and has no slots", owner.Name), Remedy: "seedmesh gpus --all lists the slots"}
	}
	if n, err := strconv.ParseUint(gpu, 10, 32); err == nil && n < uint64(len(owner.Slots)) {
		return owner, []uint32{uint32(n)}, nil
	}
	k := s.askAll(ctx, []jobs.Node{owner})[0]
	for i, card := range k.Cards {
		if _, err := strconv.ParseUint(gpu, 10, 32); err != nil && card != nil && card.Is(gpu) {
			slots = append(slots, uint32(i))
		}
	}
	if len(slots) == 0 {
		err = &api.Error{Code: connect.CodeNotFound, What: fmt.Sprintf("%s has no slot or GPU %q", owner.Name, gpu), Remedy: "it has " + k.names(owner)}
	}
	return owner, slots, err
}

// names lists the slots of a node with the names of their GPUs.
func (k *told) names(m jobs.Node) string {
	var list []string
	for i, sl := range m.Slots {
		parts := []string{sl.Device}
		if i < len(k.Cards) && k.Cards[i] != nil {
			parts = append(parts, k.Cards[i].PCI, k.Cards[i].UUID)
		}
		list = append(list, fmt.Sprintf("%s/%d (%s)", m.Name, i, strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", ")))
	}
	text := strings.Join(list, ", ")
	if text == "" {
		text = "no slots"
	}
	if k.problem != "" {
		text += "; its GPUs are not known: " + k.problem
	}
	return text
}

// member finds a node by its name or id, the living one first.
func (s *service) member(node string) (found jobs.Node, err error) {
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			if (m.Name == node || m.ID.String() == node) && !found.Alive {
				found = *m
				found.Slots = slices.Clone(m.Slots)
			}
		}
	})
	if found.Name == "" {
		err = s.unknownNode(node)
	}
	return found, err
}

// unknownNode is the answer to a name that no member has.
func (s *service) unknownNode(node string) error {
	var names []string
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			names = append(names, m.Name)
		}
	})
	e := &api.Error{Code: connect.CodeNotFound, What: fmt.Sprintf("there is no node %q", node), Remedy: "seedmesh nodes lists them"}
	if near := kernels.Nearest(node, names); near != "" {
		e.Remedy = "did you mean " + near + "? seedmesh nodes lists them"
	}
	return e
}
