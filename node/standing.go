package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"seedmesh/jobs"
	"seedmesh/transport"
)

// electionPatience is for how long a mesh without a leader may just be electing
// one. After it, voters that gossip calls dead are what is missing.
const electionPatience = 3 * time.Second

// answer is whether a member shows signs of life.
type answer int

const (
	present answer = iota
	silent         // its answers have stayed away
	down           // it is dead for the ledger, or for gossip
)

// quiet are the members, of some, that do not answer now: by the word of the leader, or
// without one by dialling them, which takes up to dialTimeout.
func (n *Node) quiet(ctx context.Context, led bool, of map[jobs.NodeID]bool) []jobs.NodeID {
	if led {
		return n.session.view().Silent
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var (
		dials sync.WaitGroup
		mu    sync.Mutex // guards list
		list  []jobs.NodeID
	)
	for id := range of {
		if id == n.id {
			continue
		}
		dials.Go(func() {
			addr, known := n.resolve(id.String())
			if known && n.ep.Ping(ctx, transport.Peer{ID: id.String(), Addr: addr}) == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			list = append(list, id)
		})
	}
	dials.Wait()
	return list
}

// answers tells what is known of a member now. The ledger learns of a death
// seconds later, and of none while there is no leader.
func (n *Node) answers(m *jobs.Node, led bool, quiet []jobs.NodeID) answer {
	away := slices.Contains(quiet, m.ID)
	switch {
	case m.ID == n.id:
		return present
	case led && !m.Alive, away && !n.gossip.alive(m.ID.String()):
		return down
	case away:
		return silent
	}
	return present
}

// standing is what the voters of a mesh look like from one node.
type standing struct {
	voters int
	down   []string // names
	silent []string
	gone   int // removed from the ledger, and not yet from those that vote
	led    bool
	alone  time.Duration // since a leader answered this node
}

func (s *standing) add(name string, a answer) {
	switch a {
	case silent:
		s.silent = append(s.silent, name)
	case down:
		s.down = append(s.down, name)
	case present:
	}
}

// survives says what the mesh can lose and still go on by itself, and what to do
// where that is certain.
func (s *standing) survives() string {
	missing := len(s.down) + len(s.silent) + s.gone
	spare := s.voters - missing - (s.voters/2 + 1)
	switch {
	case !s.led && s.alone < electionPatience:
		return "nothing just now: no leader, an election is under way" + s.away("; ", false)
	case !s.led && spare >= 0:
		return fmt.Sprintf("nothing just now: no leader for %d s%s", int(s.alone.Seconds()), s.away("; ", false))
	case spare < 0:
		return "nothing: there is no quorum" + s.away("; ", true)
	case s.voters == 1:
		return "nothing: one voter holds the log; join two more nodes"
	case s.voters-s.gone == 2:
		return "no node: with two voters nothing acknowledged is lost, but both must be up; join a third node"
	case spare == 0:
		return "no further node" + s.away(": ", true)
	case spare == 1:
		return "any one node" + s.away("; ", true)
	}
	return fmt.Sprintf("any %d nodes", spare) + s.away("; ", true)
}

// away names the voters that are missing, behind a separator, and what brings those
// back that are certain to be down.
func (s *standing) away(separator string, certain bool) string {
	silent, remedy := slices.Clone(s.silent), ""
	slices.Sort(s.down)
	if !certain {
		silent = append(silent, s.down...)
	} else if len(s.down) > 0 {
		remedy = separator + "start " + list(s.down)
		separator = "; "
	}
	slices.Sort(silent)
	switch len(silent) {
	case 0:
		return remedy
	case 1:
		return remedy + separator + silent[0] + " does not answer"
	}
	return remedy + separator + list(silent) + " do not answer"
}

// list joins names as a sentence does.
func list(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
