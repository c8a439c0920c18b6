package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	v1 "seedmesh/node/api/meshv1"
)

// Nodes lists the members.
func (s *service) Nodes(ctx context.Context, r *connect.Request[v1.NodesRequest]) (*connect.Response[v1.NodesReply], error) {
	if err := s.sync(ctx, r.Msg.Linearizable); err != nil {
		return nil, apiError(err)
	}
	voters := s.voters()
	leader, led := s.n.log.Leader()
	var silent []jobs.NodeID
	if led {
		silent = s.n.session.view().Silent
	}
	reply := &v1.NodesReply{}
	reply.Index = s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			info := s.nodeInfo(m, m.ID == leader, voters[m.ID])
			if info.State == "alive" && slices.Contains(silent, m.ID) {
				info.State = "suspect"
			}
			reply.Nodes = append(reply.Nodes, info)
		}
	})
	slices.SortFunc(reply.Nodes, func(a, b *v1.NodeInfo) int { return strings.Compare(a.Name, b.Name) })
	return connect.NewResponse(reply), nil
}

func (s *service) nodeInfo(m *jobs.Node, leads, votes bool) *v1.NodeInfo {
	info := &v1.NodeInfo{
		Name: m.Name, Address: m.Addr, State: "dead", Role: "nonvoter", Leader: leads, Version: m.Version,
		Slots: uint32(len(m.Slots)), Id: m.ID.String(),
	}
	if m.Role == jobs.Client {
		info.Role = "client"
	}
	if m.Alive {
		info.State = s.n.gossip.state(m.ID.String())
		if m.ID == s.n.id {
			info.State = "alive"
		}
	}
	if votes {
		info.Role = "voter"
	}
	info.Busy, info.ScriptSlots, info.Labels = busySlots(m), scriptSlots(m), labels(m)
	return info
}

// labels are the words by which jobs select a node.
func labels(m *jobs.Node) (words []string) {
	for _, sl := range m.Slots {
		for word := range strings.SplitSeq(sl.Label, ",") {
			selects := strings.HasPrefix(word, jobs.LabelPrefix) || strings.HasPrefix(word, jobs.VendorBegin)
			if selects && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

func busySlots(m *jobs.Node) (busy uint32) {
	for _, sl := range m.Slots {
		if len(sl.Claims) > 0 {
			busy++
		}
	}
	return busy
}

// quarantinedSlots are a node's slots that get no more work, with the reason.
func quarantinedSlots(m *jobs.Node) (list []string) {
	for i, sl := range m.Slots {
		reason, yes := sl.Quarantined()
		until := "its device passes when it is released or its node is started again"
		if sl.Confined() {
			until = "it is released"
		}
		if _, released := sl.Released(); released {
			until = "it has passed its test"
		}
		if yes {
			list = append(list, fmt.Sprintf("slot %d of %s is quarantined until %s: %s", i, m.Name, until, reason))
		}
	}
	return list
}

func (s *service) voters() map[jobs.NodeID]bool {
	voters := map[jobs.NodeID]bool{}
	members, err := s.n.log.Members()
	if err != nil {
		return voters
	}
	for _, m := range members {
		if m.Voter {
			voters[m.Node] = true
		}
	}
	return voters
}

// Status says how the mesh stands, as this node sees it.
func (s *service) Status(ctx context.Context, r *connect.Request[v1.StatusRequest]) (*connect.Response[v1.StatusReply], error) {
	if err := s.sync(ctx, r.Msg.Linearizable); err != nil {
		return nil, apiError(err)
	}
	voters := s.voters()
	leader, led := s.n.log.Leader()
	reply := &v1.StatusReply{
		Cluster: s.n.dir.Cluster, Node: s.n.dir.Name, Term: s.n.log.Term(), Version: Version, Alarms: s.n.session.view().Alarms, Voters: []string{},
		Scripts: s.n.site.isolation(), Devices: deviceInfos(s.n.machine.last().devices),
	}
	now := standing{voters: len(voters), led: led, alone: s.n.session.alone()}
	quiet := s.n.quiet(ctx, led, voters)
	reply.Applied = s.n.log.View(func(st *jobs.State) {
		reply.LedgerDigest = st.Digest().String()
		for _, m := range st.Nodes() {
			if m.ID == leader {
				reply.Leader = m.Name
			}
			if voters[m.ID] {
				reply.Voters = append(reply.Voters, m.Name)
				now.add(m.Name, s.n.answers(m, led, quiet))
			}
			if m.Role != jobs.Client {
				reply.Nodes++
			}
			if m.Alive {
				reply.Slots += uint32(len(m.Slots))
				reply.Busy += busySlots(m)
				reply.Quarantined = append(reply.Quarantined, quarantinedSlots(m)...)
			}
		}
	})
	slices.Sort(reply.Voters)
	now.gone = now.voters - len(reply.Voters)
	reply.Survives = now.survives()
	return connect.NewResponse(reply), nil
}
