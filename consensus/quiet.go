package consensus

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A quietTransport keeps an idle mesh quiet. Raft's leader sends every follower a
// heartbeat fifteen times in its time-out, and as often an append without entries in
// case it has not heard what is committed; for a follower that answered a moment ago and
// would learn nothing new, the answer is known. So a follower hears of the leader at
// least every window and a heartbeat's interval, and the leader takes a follower for
// present for at most a window longer than it was, which with the lease must stay
// below the election's time-out.
type quietTransport struct {
	*raft.NetworkTransport
	window    time.Duration
	verifying atomic.Int32 // reads that need true answers

	mu    sync.Mutex // guards heard
	heard map[raft.ServerID]heard
}

// heard is what a follower last answered for.
type heard struct {
	at     time.Time // when it was asked
	term   uint64
	commit uint64 // index that it knows to be committed
}

// quietShare is the window's share of a heartbeat's time-out.
const quietShare = 3

func newQuietTransport(t *raft.NetworkTransport, heartbeat time.Duration) *quietTransport {
	return &quietTransport{NetworkTransport: t, window: heartbeat / quietShare, heard: map[raft.ServerID]heard{}}
}

// AppendEntries sends a request, unless it has nothing to say.
func (q *quietTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if q.idle(id, args) {
		*resp = raft.AppendEntriesResponse{RPCHeader: args.RPCHeader, Term: args.Term, Success: true}
		return nil
	}
	asked := time.Now()
	err := q.NetworkTransport.AppendEntries(id, target, args, resp)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil || !resp.Success || resp.Term != args.Term {
		delete(q.heard, id)
		return err
	}
	h := q.heard[id]
	if h.term != args.Term {
		h = heard{term: args.Term}
	}
	h.at, h.commit = asked, max(h.commit, args.LeaderCommitIndex)
	q.heard[id] = h
	return nil
}

// idle tells whether a follower's answer is known: it answered within the window, in
// this term, and the request has neither entries nor a new commit for it.
func (q *quietTransport) idle(id raft.ServerID, args *raft.AppendEntriesRequest) bool {
	if len(args.Entries) > 0 || q.verifying.Load() > 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	h, known := q.heard[id]
	return known && h.term == args.Term && args.LeaderCommitIndex <= h.commit && time.Since(h.at) < q.window
}

// verify runs a check of the leadership, whose answers must be true ones.
func (q *quietTransport) verify(check func() error) error {
	q.verifying.Add(1)
	defer q.verifying.Add(-1)
	return check()
}
