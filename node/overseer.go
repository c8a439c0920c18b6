package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"seedmesh/consensus"
	"seedmesh/jobs"
	"seedmesh/transport"
)

const (
	overseeEvery  = 250 * time.Millisecond // how often the leader looks at its members
	stallLimit    = 500 * time.Millisecond // a leader stalled for longer judges nobody by what it missed
	dialTimeout   = 500 * time.Millisecond // of the fresh dial that decides whether a silent node is gone
	quietMargin   = 250 * time.Millisecond // added to leaveToStart before a silent node counts as quiet
	caughtUp      = 256                    // entries that a follower may lag behind and still be promoted
	missedPings   = restPace + 1           // after which a node is said not to answer, whether the mesh rests or not
	maxAlarms     = 16
	proposeWithin = 2 * time.Second // for the leader's own commands
)

// overseer is what a node does for the others while it leads: it expires those
// that are gone, gives out votes, and gathers progress. It starts from nothing
// with every leadership.
type overseer struct {
	n *Node

	mu      sync.Mutex // guards what follows
	term    uint64     // of the leadership that the fields below belong to
	began   time.Time  // when it began, or when this node last stalled
	seen    map[jobs.NodeID]*seen
	working []jobProgress
	quiet   uint64
	trims   map[jobs.NodeID][]uint64
	alarms  []string
	unheard []jobs.NodeID // living nodes that have missed pings
	dialing map[jobs.NodeID]bool
}

// seen is what the leader knows of a node from its pings.
type seen struct {
	ping
	at time.Time
}

func newOverseer(n *Node) *overseer {
	return &overseer{n: n, seen: map[jobs.NodeID]*seen{}, dialing: map[jobs.NodeID]bool{}, trims: map[jobs.NodeID][]uint64{}}
}

// heard notes a ping and gives the answer.
func (o *overseer) heard(id jobs.NodeID, p ping) pong {
	term, _ := o.n.log.Leading()
	digest, known := o.n.log.DigestAt(p.DigestIndex)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begin(term)
	o.seen[id] = &seen{p, time.Now()}
	if known && p.DigestIndex > 0 && digest != p.Digest {
		o.alarm(fmt.Sprintf("the ledger of node %s differs from the leader's at index %d: stop that node, remove it with seedmesh node rm, and let it join again", id, p.DigestIndex))
	}
	answer := pong{Term: term, Quiet: o.quiet, Trim: o.trims[id], Working: slices.Clone(o.working), Alarms: append(slices.Clone(o.alarms), o.sick()...), Silent: slices.Clone(o.unheard)}
	delete(o.trims, id)
	return answer
}

func (o *overseer) alarm(text string) {
	if !slices.Contains(o.alarms, text) && len(o.alarms) < maxAlarms {
		o.n.cfg.Logger.Error("alarm", "what", text)
		o.alarms = append(o.alarms, text)
	}
}

// sick lists what living nodes say of GPUs that should not be given work, and of jobs of newer programs.
func (o *overseer) sick() []string {
	var list []string
	for id, s := range o.seen {
		for _, text := range s.Sick {
			if time.Since(s.at) < leaveToStart {
				list = append(list, fmt.Sprintf("node %s: %s", o.n.nameOf(id), text))
			}
		}
	}
	slices.Sort(list)
	return list[:min(len(list), maxAlarms)]
}

// begin forgets what an earlier leadership knew.
func (o *overseer) begin(term uint64) {
	if o.term == term {
		return
	}
	o.term, o.began, o.quiet = term, time.Now(), 0
	o.working, o.alarms, o.unheard = nil, nil, nil
	clear(o.seen)
	clear(o.trims)
}

// run oversees while this node leads, until ctx ends.
func (o *overseer) run(ctx context.Context) {
	last, wait := time.Now(), o.n.pace(overseeEvery)
	for o.n.tick(ctx, overseeEvery) {
		stalled := time.Since(last) > wait+stallLimit
		last, wait = time.Now(), o.n.pace(overseeEvery)
		term, leading := o.n.log.Leading()
		if !leading {
			continue
		}
		o.mu.Lock()
		o.begin(term)
		if stalled {
			o.began = time.Now()
		}
		o.mu.Unlock()
		o.gather()
		for _, n := range o.silent() {
			o.judge(ctx, n)
		}
		o.reconcile()
	}
}

// gather sums up progress, plans trims, and finds the index that all nodes heed.
func (o *overseer) gather() {
	now := o.n.log.LogTime()
	var trims []jobs.Claim
	var alive []jobs.NodeID
	current := map[uint64]bool{}
	o.n.log.View(func(s *jobs.State) {
		trims = s.TrimPlan(now)
		for _, n := range s.Nodes() {
			if n.Alive {
				alive = append(alive, n.ID)
			}
			for _, sl := range n.Slots {
				for _, fence := range sl.Claims {
					current[fence] = true
				}
			}
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.trims)
	for _, c := range trims {
		o.trims[c.Slot.Node] = append(o.trims[c.Slot.Node], c.Fence)
	}
	o.working = o.progress(alive, current)
	o.quiet = o.quietIndex(alive)
	o.unheard = slices.DeleteFunc(alive, func(id jobs.NodeID) bool {
		return id == o.n.id || time.Since(o.lastWord(id)) < missedPings*time.Duration(o.n.cfg.Session.Ping)
	})
}

// lastWord is when a node was heard of last, and no earlier than this leadership
// could hear it.
func (o *overseer) lastWord(id jobs.NodeID) time.Time {
	if s := o.seen[id]; s != nil && s.at.After(o.began) {
		return s.at
	}
	return o.began
}

func (o *overseer) progress(alive []jobs.NodeID, current map[uint64]bool) []jobProgress {
	var all []jobProgress
	for _, id := range alive {
		s := o.seen[id]
		if s == nil {
			continue
		}
		for _, r := range s.Running {
			if !current[r.Fence] {
				continue
			}
			i := slices.IndexFunc(all, func(p jobProgress) bool { return p.Job == r.Job })
			if i < 0 {
				i = len(all)
				all = append(all, jobProgress{Job: r.Job})
			}
			all[i].Done += r.Done
			all[i].Rate += r.Rate
			all[i].Slots++
		}
	}
	return all
}

// quietIndex is the highest index such that no node will start an attempt which
// it forbids: each has applied it, or has been without a leader's word too long.
func (o *overseer) quietIndex(alive []jobs.NodeID) uint64 {
	quiet := o.n.log.Applied()
	for _, id := range alive {
		switch s := o.seen[id]; {
		case s != nil && time.Since(s.at) < leaveToStart+quietMargin:
			quiet = min(quiet, s.Applied)
		case s == nil && time.Since(o.began) < leaveToStart+quietMargin:
			return 0
		}
	}
	return quiet
}

// silent lists the living nodes that have said nothing for too long.
func (o *overseer) silent() []jobs.Node {
	var alive []jobs.Node
	o.n.log.View(func(s *jobs.State) {
		for _, n := range s.Nodes() {
			if n.Alive && n.ID != o.n.id {
				alive = append(alive, *n)
			}
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(alive, func(n jobs.Node) bool {
		limit := time.Duration(o.n.cfg.Session.Silence)
		if o.n.gossip.state(n.ID.String()) == "dead" {
			limit = 2 * overseeEvery
		}
		return time.Since(o.lastWord(n.ID)) < limit || o.dialing[n.ID]
	})
}

// judge dials a silent node afresh, and expires its incarnation when that fails.
func (o *overseer) judge(ctx context.Context, n jobs.Node) {
	o.mu.Lock()
	o.dialing[n.ID] = true
	o.mu.Unlock()
	o.n.goDo(func() {
		defer func() {
			o.mu.Lock()
			delete(o.dialing, n.ID)
			o.mu.Unlock()
		}()
		dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		addr, known := o.n.resolve(n.ID.String())
		if known && o.n.ep.Ping(dialCtx, transport.Peer{ID: n.ID.String(), Addr: addr}) == nil {
			return
		}
		o.n.ep.Forget(n.ID.String())
		o.n.cfg.Logger.Info("node expired", "node", n.Name, "incarnation", n.Incarnation)
		o.propose(ctx, &jobs.Expire{Node: n.ID, Incarnation: n.Incarnation})
	})
}

// propose is for commands whose need is judged again in the next round.
func (o *overseer) propose(ctx context.Context, c jobs.Command) {
	ctx, cancel := context.WithTimeout(ctx, proposeWithin)
	defer cancel()
	if _, _, err := o.n.log.Propose(ctx, jobs.Request{Command: c}); err != nil {
		o.n.cfg.Logger.Debug("not proposed", "command", fmt.Sprintf("%T", c), "err", err)
	}
}

// candidate is a member as the giving of votes sees it.
type candidate struct {
	id       jobs.NodeID
	member   bool // of the ledger; false once it has been forgotten
	inLog    bool // in the Raft configuration
	votes    bool
	mayVote  bool // joined with the voter role
	living   bool // gossip and the ledger agree that it lives
	caughtUp bool // has applied nearly all
}

// reconcile makes one change of the Raft configuration, if one is due.
func (o *overseer) reconcile() {
	members, err := o.n.log.Members()
	if err != nil {
		return
	}
	step := nextChange(o.candidates(members), o.n.id, o.n.cfg.Raft.Voters)
	if step.change == nil {
		return
	}
	if step.promotes {
		if err := o.n.handOverAuthority(step.id); err != nil {
			o.n.cfg.Logger.Debug("the CA key was not handed over", "node", step.id, "err", err)
			return
		}
	}
	if err := step.change(o.n.log, step.id); err != nil {
		o.n.cfg.Logger.Debug("membership not changed", "node", step.id, "err", err)
		return
	}
	o.n.cfg.Logger.Info("membership changed", "node", step.id, "promoted", step.promotes)
}

func (o *overseer) candidates(members []consensus.Member) []candidate {
	var all []candidate
	applied := o.n.log.Applied()
	o.n.log.View(func(s *jobs.State) {
		for _, n := range s.Nodes() {
			if n.Role != jobs.Client {
				all = append(all, candidate{id: n.ID, member: true, mayVote: n.Role == jobs.Voter, living: n.Alive || n.Incarnation == 0})
			}
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range all {
		c := &all[i]
		c.living = c.living && (c.id == o.n.id || o.n.gossip.alive(c.id.String()))
		if s := o.seen[c.id]; s != nil {
			c.caughtUp = s.Applied+caughtUp >= applied && time.Since(s.at) < leaveToStart
		}
		for _, m := range members {
			if m.Node == c.id {
				c.inLog, c.votes = true, m.Voter
			}
		}
	}
	for _, m := range members { // members that the ledger has forgotten
		if !slices.ContainsFunc(all, func(c candidate) bool { return c.id == m.Node }) {
			all = append(all, candidate{id: m.Node, inLog: true, votes: m.Voter})
		}
	}
	return all
}

// change is one step of the Raft configuration.
type change struct {
	id       jobs.NodeID
	promotes bool
	change   func(*consensus.Log, jobs.NodeID) error
}

// nextChange decides which node to add, promote, demote or remove next. Votes
// go to min(most, living) of those that may have them, rounded down to an odd
// number above two: a dead voter is replaced before it is demoted, and none is
// demoted without a replacement.
func nextChange(all []candidate, self jobs.NodeID, most int) change {
	voters, livingVoters, eligible := 0, 0, 0
	var spare, dead *candidate
	for i := range all {
		c := &all[i]
		switch {
		case !c.inLog && c.living:
			return change{id: c.id, change: (*consensus.Log).AddFollower}
		case c.inLog && !c.member && c.id != self:
			return change{id: c.id, change: (*consensus.Log).RemoveMember}
		}
		if c.votes {
			voters++
			if c.living {
				livingVoters++
			} else if c.id != self {
				dead = c
			}
		}
		if c.mayVote && c.living && c.inLog {
			eligible++
			if !c.votes && c.caughtUp && spare == nil {
				spare = c
			}
		}
	}
	target := targetVoters(eligible, most)
	switch {
	case spare != nil && livingVoters < target:
		return change{id: spare.id, promotes: true, change: (*consensus.Log).AddVoter}
	case dead != nil && livingVoters >= 3 && livingVoters >= target && voters > livingVoters:
		return change{id: dead.id, change: (*consensus.Log).Demote}
	}
	return change{}
}

// targetVoters is how many votes a mesh with so many eligible nodes should have.
func targetVoters(eligible, most int) int {
	n := min(eligible, most)
	if n > 2 && n%2 == 0 {
		n--
	}
	return n
}
