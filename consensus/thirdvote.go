package consensus

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// thirdVoteWait bounds the wait for the second voter: without it the third one's vote may
// be what the mesh needs.
const thirdVoteWait = 2 * time.Second

// A voteOrder is Raft's transport, except that a third voter hears of its vote behind the second one.
//
// The leader of two may commit the third vote with the new voter alone. Nobody could be elected
// if it died then: the second voter gives no vote to a node that, as far as it knows, has
// none itself, and needs the leader's for its own. With more voters at least one of those that
// commit such an entry is known to all others as a voter.
type voteOrder struct {
	*beat

	mu       sync.Mutex               // guards what follows
	promoted raft.ServerID            // the node that is being given a vote; empty for none
	term     uint64                   // in which this node sends
	taken    map[raft.ServerID]uint64 // index of the last entry that a follower has taken in that term
	news     chan struct{}            // closed when that changes
}

func newVoteOrder(b *beat) *voteOrder {
	return &voteOrder{beat: b, taken: map[raft.ServerID]uint64{}, news: make(chan struct{})}
}

// promoting names the node that is about to be given a vote; empty for none any more.
func (o *voteOrder) promoting(id raft.ServerID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.promoted = id
}

// AppendEntries sends entries to a follower.
func (o *voteOrder) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	if len(q.Entries) == 0 { // a heartbeat
		return o.beat.AppendEntries(id, to, q, r)
	}
	for _, e := range q.Entries {
		if second, ok := o.thirdVote(id, e); ok {
			o.await(second, q.Term, e.Index)
		}
	}
	err := o.beat.AppendEntries(id, to, q, r)
	if err == nil && r.Success {
		o.note(id, q.Term, q.Entries[len(q.Entries)-1].Index)
	}
	return err
}

// thirdVote tells whether an entry gives a follower the third vote, and which node besides
// this one has a vote already.
func (o *voteOrder) thirdVote(id raft.ServerID, e *raft.Log) (second raft.ServerID, ok bool) {
	o.mu.Lock()
	promoted := o.promoted
	o.mu.Unlock()
	if e.Type != raft.LogConfiguration || id != promoted {
		return "", false
	}
	voters, votes := 0, false
	for _, s := range raft.DecodeConfiguration(e.Data).Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		switch {
		case s.ID == id:
			votes = true
		case string(s.ID) != o.log.cfg.Node.String():
			second = s.ID
		}
	}
	return second, votes && voters == 3 && second != ""
}

// await waits until a follower has taken an entry, or for thirdVoteWait.
func (o *voteOrder) await(follower raft.ServerID, term, index uint64) {
	limit := time.NewTimer(thirdVoteWait)
	defer limit.Stop()
	for {
		o.mu.Lock()
		taken, news := o.term == term && o.taken[follower] >= index, o.news
		o.mu.Unlock()
		if taken {
			return
		}
		select {
		case <-news:
		case <-limit.C:
			return
		case <-o.log.ctx.Done():
			return
		}
	}
}

// note keeps that a follower has taken all up to an entry.
func (o *voteOrder) note(follower raft.ServerID, term, index uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if term != o.term {
		o.term = term
		clear(o.taken)
	}
	o.taken[follower] = index
	close(o.news)
	o.news = make(chan struct{})
}
