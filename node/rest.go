package node

import (
	"context"
	"time"
)

// restPace is how much longer a node waits between looks while the mesh rests (see
// [consensus.Log.Resting]): nobody waits for what they might find, and every look wakes a
// processor up.
const restPace = 4

// pace is how long to wait between looks that are d apart while the mesh works.
func (n *Node) pace(d time.Duration) time.Duration {
	if n.log.Resting() {
		return restPace * d
	}
	return d
}

// tick waits for the pace of d, and tells whether ctx still goes on. A change of the ledger
// ends a rest.
func (n *Node) tick(ctx context.Context, d time.Duration) bool {
	index := n.log.Applied()
	wait := n.pace(d)
	if wait == d {
		return pause(ctx, d)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.log.Watch(index):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// restCheck is how often a node that works looks whether it may rest.
const restCheck = time.Second

// tellRest calls Config.Rest when the mesh comes to rest, and when that ends.
func (n *Node) tellRest(ctx context.Context) {
	if n.cfg.Rest == nil {
		return
	}
	told := false
	for ctx.Err() == nil {
		index, rest := n.log.Applied(), n.log.Resting()
		if rest != told {
			n.cfg.Rest(rest)
			told = rest
		}
		var news <-chan struct{}
		if rest { // while there is work, a look now and then is enough
			news = n.log.Watch(index)
		}
		select {
		case <-news:
		case <-time.After(n.pace(restCheck)):
		case <-ctx.Done():
		}
	}
}
