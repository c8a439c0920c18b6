package bubble

import (
	"math/rand/v2"
	"slices"
	"time"

	"seedmesh/tests/faults"
	"seedmesh/transport"
	"seedmesh/transport/memnet"
)

// A plane is one kind of traffic between nodes, which is dialed from a port of its own here.
type plane struct {
	name string
	kind transport.Kind
	port string
}

var planes = []plane{
	{"gossip", "seedmesh-gossip/1", ":8001"},
	{"raft", "seedmesh-raft/1", ":8002"},
	{"forward", "seedmesh-forward/1", ":8003"},
	{"session", "seedmesh-session/1", ":8004"},
	{"data", "seedmesh-blob/1", ":8005"},
}

func planeOf(kind transport.Kind) (p plane, known bool) {
	i := slices.IndexFunc(planes, func(p plane) bool { return p.kind == kind })
	if i < 0 {
		return plane{}, false
	}
	return planes[i], true
}

func planeNamed(name string) plane {
	return planes[slices.IndexFunc(planes, func(p plane) bool { return p.name == name })]
}

// at is where a node dials the plane's connections from.
func (p plane) at(i int) string { return host(i) + p.port }

// link gives the paths from one node to another: of one plane, or all for the zero plane.
func (p plane) link(from, to int) []memnet.Path {
	switch p.name {
	case "":
		return []memnet.Path{{From: host(from), To: host(to)}}
	case "gossip": // its datagrams come from the port itself
		return []memnet.Path{{From: p.at(from), To: host(to)}, {From: host(from), To: p.at(to)}, {From: addr(from), To: addr(to)}}
	}
	return []memnet.Path{{From: p.at(from), To: host(to)}, {From: host(from), To: p.at(to)}}
}

// paths are those between a node and all others, out of it, into it, or both: of one plane,
// or all for the zero plane.
func (m *mesh) paths(i int, p plane, out, in bool) (all []memnet.Path) {
	for k := range m.lives {
		if k != i && out {
			all = append(all, p.link(i, k)...)
		}
		if k != i && in {
			all = append(all, p.link(k, i)...)
		}
	}
	return all
}

// A nemesis makes faults in a mesh, drawn from one seed.
type nemesis struct {
	*mesh
	*rand.Rand
	landed map[string]int // by kind
	term   uint64         // of the last leader seen
}

func newNemesis(m *mesh, seed uint64) *nemesis {
	return &nemesis{mesh: m, Rand: rand.New(rand.NewPCG(seed, 0)), landed: map[string]int{}}
}

// A fault begins, when it can, and gives what ends it: that says how many faults were
// seen to happen. It is nil where the fault is not possible at the moment.
type fault struct {
	kind   string
	weight int
	begin  func(*nemesis) (end func() int)
}

// majorityRing is the kind that takes five nodes.
const majorityRing = "majority ring"

var faultKinds = []fault{
	{"leader cut off", 3, (*nemesis).cutLeader},
	{"node cut off", 2, func(n *nemesis) func() int { return n.cutOff(n.IntN(n.size()), plane{}, true, true) }},
	{"node cut off one way", 4, (*nemesis).cutOneWay},
	{"bridge", 2, (*nemesis).bridge},
	{majorityRing, 2, (*nemesis).ring},
	{"gossip cut", 2, func(n *nemesis) func() int { return n.cutOff(n.IntN(n.size()), planeNamed("gossip"), true, true) }},
	{"raft cut", 2, func(n *nemesis) func() int { return n.cutOff(n.IntN(n.size()), planeNamed("raft"), true, true) }},
	{"forwarding cut", 2, func(n *nemesis) func() int { return n.cutOff(n.IntN(n.size()), planeNamed("forward"), true, true) }},
	{"sessions cut", 2, func(n *nemesis) func() int { return n.cutOff(n.IntN(n.size()), planeNamed("session"), true, true) }},
	{"data cut", 4, func(n *nemesis) func() int { return n.cutOff(n.IntN(n.size()), planeNamed("data"), true, true) }},
	{"packets lost", 5, func(n *nemesis) func() int {
		return n.disturb(memnet.Fault{Loss: 0.01 + 0.29*n.Float64()}, func(e memnet.Effect) uint64 { return e.Lost })
	}},
	{"packets delayed", 5, func(n *nemesis) func() int {
		return n.disturb(memnet.Fault{Delay: n.upTo(100 * time.Millisecond)}, func(e memnet.Effect) uint64 { return e.Delayed })
	}},
	{"packets duplicated", 5, func(n *nemesis) func() int {
		return n.disturb(memnet.Fault{Duplicate: 0.5 * n.Float64()}, func(e memnet.Effect) uint64 { return e.Duplicated })
	}},
	{"packets reordered", 5, func(n *nemesis) func() int {
		return n.disturb(memnet.Fault{Jitter: time.Millisecond + n.upTo(40*time.Millisecond)}, func(e memnet.Effect) uint64 { return e.Overtaken })
	}},
	{"link clogged, links restored in another order", 1, (*nemesis).swizzle},
	{"leader killed", 3, (*nemesis).killLeader},
	{"node killed", 2, (*nemesis).killAny},
	{"all killed", 1, (*nemesis).killAll},
}

func (n *nemesis) size() int                          { return len(n.lives) }
func (n *nemesis) upTo(d time.Duration) time.Duration { return time.Duration(n.Int64N(int64(d)) + 1) }

// others lists the other nodes, in any order.
func (n *nemesis) others(i int) []int {
	return slices.DeleteFunc(n.Perm(n.size()), func(k int) bool { return k == i })
}

// draw picks a kind of fault by weight.
func (n *nemesis) draw() fault {
	total := 0
	for _, f := range faultKinds {
		total += f.weight
	}
	at := n.IntN(total)
	for _, f := range faultKinds {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	panic("unreachable")
}

// cutOff loses what a node sends, what it is sent, or both, on one plane or all.
func (n *nemesis) cutOff(i int, p plane, out, in bool) func() int {
	return n.lose(n.paths(i, p, out, in))
}

// lose loses all packets on paths; the fault has happened when one was lost.
func (n *nemesis) lose(paths []memnet.Path) func() int {
	f := n.net.Inject(memnet.Fault{Loss: 1}, paths...)
	return func() int {
		f.Lift()
		return int(min(f.Effect().Lost, 1))
	}
}

func (n *nemesis) cutLeader() func() int {
	if i := n.leads(); i >= 0 {
		return n.cutOff(i, plane{}, true, true)
	}
	return nil
}

func (n *nemesis) cutOneWay() func() int {
	out := n.IntN(2) == 0
	if i := n.leads(); i >= 0 && n.IntN(2) == 0 {
		return n.cutOff(i, plane{}, out, !out)
	}
	return n.cutOff(n.IntN(n.size()), plane{}, out, !out)
}

// bridge parts the nodes in two halves that only one node still joins.
func (n *nemesis) bridge() func() int {
	nodes := n.Perm(n.size())
	left, right := nodes[1:1+n.size()/2], nodes[1+n.size()/2:]
	var paths []memnet.Path
	for _, a := range left {
		for _, b := range right {
			paths = append(paths, memnet.Both(host(a), host(b))...)
		}
	}
	return n.lose(paths)
}

// ring leaves each node its two neighbours in some order, so that each reaches a
// majority and no two the same one. It takes five nodes.
func (n *nemesis) ring() func() int {
	if n.size() < 5 {
		return nil
	}
	nodes := n.Perm(n.size())
	var paths []memnet.Path
	for i, a := range nodes {
		for k, b := range nodes[i+1:] {
			if apart := k + 1; apart > 1 && apart < n.size()-1 {
				paths = append(paths, memnet.Both(host(a), host(b))...)
			}
		}
	}
	return n.lose(paths)
}

// disturb puts a fault on all packets, on those of one node, or on one plane of it.
func (n *nemesis) disturb(f memnet.Fault, struck func(memnet.Effect) uint64) func() int {
	i := n.IntN(n.size())
	var paths []memnet.Path
	switch p := planes[n.IntN(len(planes))]; n.IntN(3) {
	case 0:
		paths = []memnet.Path{{}}
	case 1:
		paths = memnet.Both(host(i), "")
	case 2:
		paths = n.paths(i, p, true, true)
	}
	injected := n.net.Inject(f, paths...)
	return func() int {
		injected.Lift()
		return int(min(struck(injected.Effect()), 1))
	}
}

// swizzle clogs the links one by one and restores them in another order. It takes
// its time before it returns.
func (n *nemesis) swizzle() func() int {
	var clogs []*memnet.Injected
	for _, i := range n.Perm(n.size()) {
		for _, k := range n.others(i) {
			clogs = append(clogs, n.net.Inject(memnet.Fault{Loss: 1}, plane{}.link(i, k)...))
			time.Sleep(n.upTo(60 * time.Millisecond))
		}
	}
	n.Shuffle(len(clogs), func(a, b int) { clogs[a], clogs[b] = clogs[b], clogs[a] })
	landed := 0
	for _, f := range clogs {
		time.Sleep(n.upTo(60 * time.Millisecond))
		f.Lift()
		landed += int(min(f.Effect().Lost, 1))
	}
	return func() int { return landed }
}

// killLeader kills the leader.
func (n *nemesis) killLeader() func() int { return n.killOne(n.leads()) }

// killAny kills any node.
func (n *nemesis) killAny() func() int { return n.killOne(n.IntN(n.size())) }

// killOne kills a node, if the others are still a majority. It has happened when they
// missed its answers.
func (n *nemesis) killOne(i int) func() int {
	if i < 0 || n.at(i) == nil || len(n.running())-1 <= n.size()/2 {
		return nil
	}
	cut := n.kill(i)
	return func() int {
		n.restart(i)
		return int(min(cut.Effect().Lost, 1))
	}
}

// killAll kills every node that runs, so that for a while none does, and starts
// them again in any order.
func (n *nemesis) killAll() func() int {
	killed := n.running()
	cuts := make([]*memnet.Injected, len(n.lives))
	for _, i := range killed {
		cuts[i] = n.kill(i)
	}
	for _, i := range killed {
		n.awaitEnd(i)
	}
	return func() int {
		n.Shuffle(len(killed), func(a, b int) { killed[a], killed[b] = killed[b], killed[a] })
		var missed uint64
		for _, i := range killed {
			missed += cuts[i].Effect().Lost
			n.restart(i)
			time.Sleep(n.upTo(300 * time.Millisecond))
		}
		return int(min(missed, 1))
	}
}

// restart starts a killed node, its wall clock right or an hour off.
func (n *nemesis) restart(i int) {
	n.skew[i] = time.Duration(n.IntN(3)-1) * time.Hour
	n.up(i)
}

// faultsAtOnce is how many faults are in force at one time: more, and nothing happens
// any more that they could disturb.
const faultsAtOnce = 4

// lasting is for how long a fault is in force: mostly for about as long as an election
// takes, now and then for longer than a silent node is waited for.
func (n *nemesis) lasting() time.Duration {
	if n.IntN(10) == 0 {
		return 2*time.Second + n.upTo(3*time.Second)
	}
	return 50*time.Millisecond + n.upTo(700*time.Millisecond)
}

// torment makes faults, several at a time, until so many have landed, and ends them all.
func (n *nemesis) torment(count int) {
	type active struct {
		kind  string
		until time.Time
		end   func() int
	}
	var running []active
	end := func(due func(active) bool) {
		running = slices.DeleteFunc(running, func(a active) bool {
			if !due(a) {
				return false
			}
			landed := a.end()
			n.landed[a.kind] += landed
			count -= landed
			return true
		})
	}
	for count > 0 {
		if len(running) < faultsAtOnce {
			f := n.draw()
			if stop := f.begin(n); stop != nil {
				running = append(running, active{f.kind, time.Now().Add(n.lasting()), stop})
			}
		}
		time.Sleep(n.upTo(200 * time.Millisecond))
		n.noteLeader()
		end(func(a active) bool { return time.Now().After(a.until) })
	}
	end(func(active) bool { return true })
	for i := range n.lives {
		if n.at(i) == nil {
			n.restart(i)
		}
	}
}

// account enters the faults that landed, and what was checked behind them.
func (n *nemesis) account(checks string) {
	n.Logf("%v of fake time; landed: %v", time.Since(n.record.began).Round(time.Second), n.landed)
	for kind, landed := range n.landed {
		if landed > 0 {
			faults.Landed(n.T, faults.Bubble, kind, checks, landed)
		}
	}
}

// newLeadersClock is the kind that comes with the restarts of others.
const newLeadersClock = "new leader's clock an hour off"

// noteLeader counts new leaders whose wall clock is an hour off.
func (n *nemesis) noteLeader() {
	i := n.leads()
	if i < 0 || n.status(i).Term <= n.term {
		return
	}
	n.term = n.status(i).Term
	if n.skew[i] != 0 {
		n.landed[newLeadersClock]++
	}
}
