package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/host"
	"seedmesh/node/slot"
	"seedmesh/transport"
)

// machine is what this node knows of the machine that it runs on. Other nodes ask
// for it, over a stream for each question; only that a GPU is sick travels by itself,
// to the leader and from there to all.
type machine struct {
	n       *Node
	watch   *host.Watch // nil where there is nothing to look at
	missing []string    // GPUs that slots name and this machine does not have
	seen    atomic.Pointer[sight]
}

// A sight is what the last look of the node's own found. It is never changed.
type sight struct {
	devices []host.Device
	sick    []string // GPUs that should not be given work, and why
}

const (
	machineEvery = 30 * time.Second // between two looks that nobody asked for
	findLimit    = time.Minute      // for the GPUs that slots name, when the node starts
	factsTimeout = 15 * time.Second // for one question: the machine may have to be looked at first
	maxFacts     = 1 << 20          // bytes of an answer
)

// openMachine finds the GPUs that the slots name.
func (n *Node) openMachine() error {
	n.machine = &machine{n: n, watch: n.cfg.Seams.Machine}
	if n.machine.watch == nil && n.cfg.Seams.Executor == nil {
		watch, err := host.NewThisMachine()
		if err != nil {
			n.cfg.Logger.Warn("this machine's GPUs cannot be looked at", "err", err)
		}
		n.machine.watch = watch
	}
	if n.machine.watch == nil || !slices.ContainsFunc(n.cfg.Node.Slots, SlotConfig.namesGPU) {
		return nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, findLimit)
	defer cancel()
	r, err := n.machine.watch.Look(ctx)
	if err != nil {
		return err
	}
	reached := host.Accelerators{}
	if slices.ContainsFunc(n.cfg.Node.Slots, func(c SlotConfig) bool { return c.namesGPU() && c.accelerated() }) {
		if reached, err = n.machine.watch.Accelerators(ctx); err != nil {
			return err
		}
	}
	n.cfg.Node.Slots, n.machine.missing = findGPUs(n.cfg.Node.Slots, r, reached)
	for _, text := range n.machine.missing {
		n.cfg.Logger.Error("a slot has no GPU", "why", text)
	}
	return nil
}

// namesGPU tells a slot that says which GPU it means in a way that lasts: by PCI id or UUID.
func (c SlotConfig) namesGPU() bool { return strings.ContainsAny(c.GPU, ":-") }

// accelerated tells a slot whose searches run on an accelerator.
func (c SlotConfig) accelerated() bool { return slices.Contains(kernels.Accelerators(), c.Device) }

// findGPUs gives the slots with the GPUs that they name: as the vendor's libraries
// know it for tasks, and as the slot's interface counts it for searches. For a GPU
// that is missing the tasks see none, and an accelerator's searches have no device.
func findGPUs(slots []SlotConfig, r host.Report, reached host.Accelerators) (found []SlotConfig, missing []string) {
	found = slices.Clone(slots)
	for i, c := range slots {
		if !c.namesGPU() {
			continue
		}
		d, ok := r.Find(c.GPU)
		if !ok {
			missing = append(missing, fmt.Sprintf("slot %d names the GPU %s, and this machine has none of that name: seedmesh devices lists them", i, c.GPU))
			found[i].Number = noSuchDevice
			continue
		}
		mask, known := d.Mask()
		if !known {
			missing = append(missing, fmt.Sprintf("slot %d: the vendor's libraries have no name for the GPU %s", i, c.GPU))
		}
		if found[i].GPU = mask; !known {
			found[i].GPU = c.GPU
		}
		if !c.accelerated() {
			continue
		}
		k := slices.IndexFunc(reached.List, func(a host.Accelerator) bool { return a.Kind == c.Device && a.PCI == d.PCI })
		if k < 0 {
			missing = append(missing, fmt.Sprintf("slot %d: the GPU %s cannot be reached by %s: %s", i, c.GPU, c.Device, reached.Why(c.Device)))
			found[i].Number = noSuchDevice
			continue
		}
		found[i].Number = reached.List[k].Number
	}
	return found, missing
}

// noSuchDevice is a number that no device has: the executor says so.
const noSuchDevice = maxDevices - 1

// run looks at the machine until ctx ends.
func (m *machine) run(ctx context.Context) {
	if m.watch == nil {
		return
	}
	for ok := true; ok; ok = pause(ctx, machineEvery) {
		now := sight{m.look(ctx), slices.Clone(m.missing)}
		for _, d := range now.devices {
			if d.State == host.Sick {
				now.sick = append(now.sick, fmt.Sprintf("%s should not be given work: %s", &d, strings.Join(d.Notes, "; ")))
			}
		}
		if len(now.sick) > 0 && !slices.Equal(m.last().sick, now.sick) {
			m.n.cfg.Logger.Error("GPUs are sick", "what", strings.Join(now.sick, "; "))
		}
		m.seen.Store(&now)
	}
}

// last is what the last look of the node's own found, without waiting for another.
func (m *machine) last() sight {
	if s := m.seen.Load(); s != nil {
		return *s
	}
	return sight{}
}

// look gives the GPUs as they are, or as they were a short while ago.
func (m *machine) look(ctx context.Context) []host.Device {
	if m.watch == nil {
		return nil
	}
	r, err := m.watch.Look(ctx)
	if err != nil {
		m.n.cfg.Logger.Debug("the machine cannot be looked at", "err", err)
	}
	return r.Devices
}

// facts are what a node says of its machine.
type facts struct {
	Scripts string   // how it keeps scripts apart, or why it refuses them
	GPUs    []string // of its slots
	Drivers []string // of its slots' accelerators
	Devices []host.Device
	Cards   []*host.Device // of its slots; nil for one that has none, or of which nothing is known yet
	Waiting []bool         // of its slots: its accelerator has not passed its test yet
}

func (n *Node) facts(ctx context.Context) facts {
	f := facts{Scripts: n.site.isolation(), Devices: n.machine.look(ctx)}
	for i, c := range n.cfg.slots() {
		f.GPUs = append(f.GPUs, c.GPU)
		if i < len(n.workers) { // else they are not opened yet
			about := n.workers[i].exec.About()
			f.Drivers = append(f.Drivers, about.Driver)
			f.Cards = append(f.Cards, cardOf(c, about, f.Devices))
			f.Waiting = append(f.Waiting, c.accelerated() && about.Driver == "")
		}
	}
	return f
}

// cardOf is the GPU of a slot: the one where its executor has opened a device, or the
// one that its line of cluster.toml means. Of a device that the machine does not list its driver alone has a word to say.
func cardOf(c SlotConfig, about slot.About, list []host.Device) *host.Device {
	i := slices.IndexFunc(list, func(d host.Device) bool { return d.PCI == about.PCI || about.PCI == "" && c.GPU != "" && d.Is(c.GPU) })
	switch {
	case i >= 0:
		return &list[i]
	case c.accelerated() && about.Driver != "":
		return &host.Device{
			Model: about.Driver, Memory: about.Memory, PCI: about.PCI, State: host.Unknown,
			Number: host.NotKnown, Celsius: host.NotKnown, CoreMHz: host.NotKnown, MemoryMHz: host.NotKnown,
		}
	}
	return nil
}

// serveFacts answers the other nodes.
func (n *Node) serveFacts(ctx context.Context) {
	n.serve(ctx, kindFacts, func(ctx context.Context, conn *transport.Conn) {
		err := conn.SetDeadline(time.Now().Add(factsTimeout))
		if err == nil {
			_, _, err = transport.ReadFrame(conn, maxFacts)
		}
		if err == nil {
			err = writeWords(conn, n.facts(ctx))
		}
		if err != nil {
			n.cfg.Logger.Debug("a question about this machine failed", "peer", conn.Peer().ID, "err", err)
		}
	})
}

// askFacts asks a node about its machine.
func (n *Node) askFacts(ctx context.Context, of jobs.NodeID) (f facts, err error) {
	if of == n.id {
		return n.facts(ctx), nil
	}
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	err = n.ask(ctx, kindFacts, of, func(conn net.Conn) error {
		return errors.Join(conn.SetDeadline(time.Now().Add(factsTimeout)), writeWords(conn, struct{}{}), readWords(conn, maxFacts, &f))
	})
	return f, err
}

// Node looks at one member.
func (s *service) Node(ctx context.Context, r *connect.Request[v1.NodeRequest]) (*connect.Response[v1.NodeReply], error) {
	voters := s.voters()
	leader, _ := s.n.log.Leader()
	reply := &v1.NodeReply{}
	var id jobs.NodeID
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			if m.Name != r.Msg.Node && m.ID.String() != r.Msg.Node && (r.Msg.Node != "" || m.ID != s.n.id) {
				continue
			}
			id, reply.Node = m.ID, s.nodeInfo(m, m.ID == leader, voters[m.ID])
			reply.Slots = nil
			for i, sl := range m.Slots {
				info := &v1.SlotInfo{Slot: uint32(i), Device: sl.Device, Scripts: sl.TakesTasks(), Busy: len(sl.Claims) > 0}
				if reason, yes := sl.Quarantined(); yes {
					info.Scripts, info.Quarantined = false, reason
				}
				reply.Slots = append(reply.Slots, info)
			}
			if m.Alive {
				return
			}
		}
	})
	switch {
	case reply.Node == nil:
		return nil, apiError(s.unknownNode(r.Msg.Node))
	case reply.Node.State == "dead":
		reply.Problem = "the node does not live"
		return connect.NewResponse(reply), nil
	}
	f, err := s.n.askFacts(ctx, id)
	if err != nil {
		reply.Problem = err.Error()
	}
	reply.Scripts, reply.Devices = f.Scripts, deviceInfos(f.Devices)
	for i, sl := range reply.Slots {
		if i < len(f.GPUs) {
			sl.Gpu = f.GPUs[i]
		}
		if i < len(f.Drivers) {
			sl.Driver = f.Drivers[i]
		}
	}
	return connect.NewResponse(reply), nil
}

func deviceInfos(list []host.Device) []*v1.DeviceInfo {
	var infos []*v1.DeviceInfo
	for _, d := range list {
		infos = append(infos, deviceInfo(d))
	}
	return infos
}

func deviceInfo(d host.Device) *v1.DeviceInfo {
	return &v1.DeviceInfo{
		Vendor: d.Vendor, Model: d.Model, Pci: d.PCI, Uuid: d.UUID, Number: int32(d.Number), Driver: d.Driver,
		MemoryBytes: d.Memory, MemoryUsedBytes: d.MemoryUsed, Integrated: d.Integrated, State: string(d.State), Notes: d.Notes,
		Celsius: int32(d.Celsius), CoreMhz: int32(d.CoreMHz), MemoryMhz: int32(d.MemoryMHz),
	}
}
