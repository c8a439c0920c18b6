package consensus

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// How long the third vote waits for the second voter, which may be gone: then the third
// one is what the mesh needs. One that answers heartbeats is waited for longer, as Raft's
// library sends entries again only after up to ten seconds where some were lost.
const (
	thirdVoteQuiet = 5 * time.Second // since the second voter answered anything
	thirdVoteWait  = 20 * time.Second
)

// A voteOrder is Raft's transport, except that a third voter hears of its vote behind the second one.
//
// The leader of two may commit the third vote with the new voter alone. Nobody could be elected
// if it died then: the second voter gives no vote to a node that, as far as it knows, has
// none itself, and needs the leader's for its own. With more voters at least one of those that
// commit such an entry is known to all others as a voter.
type voteOrder struct {
	*beat

	mu       sync.Mutex                  // guards what follows
	promoted raft.ServerID               // the node that is being given a vote; empty for none
	term     uint64                      // in which this node sends
	taken    map[raft.ServerID]uint64    // index of the last entry that a follower has taken in that term
	news     chan struct{}               // closed when that changes
	heard    map[raft.ServerID]time.Time // when a follower last answered
}

func newVoteOrder(b *beat) *voteOrder {
	return &voteOrder{beat: b, taken: map[raft.ServerID]uint64{}, heard: map[raft.ServerID]time.Time{}, news: make(chan struct{})}
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
		err := o.beat.AppendEntries(id, to, q, r)
		if err == nil {
			o.hear(id)
		}
		return err
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

// await waits until a follower has taken an entry, is quiet for thirdVoteQuiet, or thirdVoteWait
// has passed.
func (o *voteOrder) await(follower raft.ServerID, term, index uint64) {
	began := time.Now()
	look := time.NewTicker(thirdVoteQuiet / 8)
	defer look.Stop()
	for {
		o.mu.Lock()
		taken, heard, news := o.term == term && o.taken[follower] >= index, o.heard[follower], o.news
		o.mu.Unlock()
		if taken || time.Since(began) > thirdVoteWait || time.Since(began) > thirdVoteQuiet && time.Since(heard) > thirdVoteQuiet {
			return
		}
		select {
		case <-news:
		case <-look.C:
		case <-o.log.ctx.Done():
			return
		}
	}
}

// hear keeps that a follower has answered.
func (o *voteOrder) hear(follower raft.ServerID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard[follower] = time.Now()
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
