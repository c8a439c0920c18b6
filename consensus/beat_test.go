package consensus

import (
	"testing"
	"testing/synctest"
	"time"

	"seedmesh/jobs"
)

// asked is how many questions a node was asked since the last call.
func (c *cluster) asked(i int) int {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	n := c.net.nodes[id(i).String()]
	was := n.asked
	n.asked = 0
	return was
}

// follower is a node that does not lead.
func (c *cluster) follower() int { return (c.leaderIndex() + 1) % len(c.logs) }

// between fails unless a follower got so many heartbeats in ten seconds.
func (c *cluster) between(when string, i, least, most int) {
	c.Helper()
	c.asked(i)
	time.Sleep(10 * time.Second) // of fake time
	if got := c.asked(i); got < least || got > most {
		c.Errorf("%s: %d heartbeats in 10 s, want %d to %d", when, got, least, most)
	}
}

// A leader sends a heartbeat every 15 to 30 ms while there is work, and every 60 to 120 ms
// when there has been none for a while. Work ends the rest at once.
func TestHeartbeatsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		term := c.leader().Term()
		if o := c.propose(0, submit(1)); o.Err() != nil {
			t.Fatal(o.Err())
		}
		i := c.follower()
		time.Sleep(2 * restAfter)
		c.between("with an open job", i, 300, 700)
		if c.leader().Resting() {
			t.Error("the mesh rests with an open job")
		}
		if o := c.propose(0, &jobs.Control{Job: submit(1).ID, Action: jobs.Cancel}); o.Err() != nil {
			t.Fatal(o.Err())
		}
		time.Sleep(3 * restAfter)
		if !c.leader().Resting() {
			t.Fatal("the mesh does not rest")
		}
		c.between("at rest", i, 80, 170)
		if o := c.propose(0, submit(2)); o.Err() != nil {
			t.Fatal(o.Err())
		}
		c.between("with work again", i, 300, 700)
		if now := c.leader().Term(); now != term {
			t.Errorf("the term went from %d to %d: somebody suspected the leader", term, now)
		}
	})
}

// A leader that dies while the mesh rests is missed as soon as ever.
func TestDeathAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		time.Sleep(3 * restAfter)
		victim := c.leaderIndex()
		if !c.logs[victim].Resting() {
			t.Fatal("the mesh does not rest")
		}
		survivor := c.follower()
		c.stop(victim)
		start := time.Now()
		if o := c.propose(survivor, submit(1)); o.Err() != nil {
			t.Fatal(o.Err())
		}
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("writes were refused for %v of fake time", took)
		}
	})
}

// Where no datagram arrives, heartbeats go on streams, and nobody suspects the leader.
func TestHeartbeatsOnStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		c.settle()
		c.net.mu.Lock()
		for _, n := range c.net.nodes {
			n.deaf = true
		}
		c.net.mu.Unlock()
		term := c.leader().Term()
		i := c.follower()
		c.asked(i)
		time.Sleep(time.Minute)
		if now := c.leader().Term(); now != term {
			t.Errorf("the term went from %d to %d", term, now)
		}
		if got := c.asked(i); got != 0 {
			t.Errorf("%d questions arrived at a deaf node", got)
		}
	})
}

// A node answers the heartbeats of the leader it follows; what would change its mind
// comes on a stream.
func TestOtherHeartbeatsAreNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		c.settle()
		leader, i := c.leaderIndex(), c.follower()
		other := 3 - leader - i
		term := c.logs[i].Term()
		answer := func(from int, term uint64) []byte {
			return c.logs[i].trans.answer(id(from).String(), heartbeatQuestion(term))
		}
		if answer(leader, term) == nil {
			t.Error("the leader's heartbeat is not answered")
		}
		for what, got := range map[string][]byte{
			"of a newer term":      answer(leader, term+1),
			"of an older term":     answer(leader, term-1),
			"of another node":      answer(other, term),
			"of no known form":     c.logs[i].trans.answer(id(leader).String(), []byte("hello")),
			"to the leader itself": c.logs[leader].trans.answer(id(leader).String(), heartbeatQuestion(term)),
		} {
			if got != nil {
				t.Errorf("a heartbeat %s is answered", what)
			}
		}
		if now := c.logs[i].Term(); now != term {
			t.Errorf("the term went from %d to %d", term, now)
		}
	})
}
