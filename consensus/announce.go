package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// An announcer tells followers what is committed as soon as the leader has applied it.
// Raft's library tells them with the next entry, or when its commit time-out has passed:
// alone, that has an idle leader ask every follower a hundred times a second, and
// followers wait for what they asked for.
//
// An announcement is an append without entries, right behind the entry that the leader
// applied last. All that it says stays true, whatever happens meanwhile: this node led the
// term that it names, and in that term the entry was committed at that index. So followers
// may hear it late, twice, or never.
type announcer struct {
	log *Log

	mu      sync.Mutex             // guards what follows
	telling map[raft.ServerID]bool // followers that are being told
}

func newAnnouncer(l *Log) *announcer {
	return &announcer{log: l, telling: map[raft.ServerID]bool{}}
}

// announce begins to tell every follower, unless it is being told already: who tells it
// looks again before it ends.
func (a *announcer) announce() {
	for _, s := range a.log.raft.GetConfiguration().Configuration().Servers {
		if string(s.ID) != a.log.cfg.Node.String() {
			a.announceTo(s)
		}
	}
}

// announceTo begins to tell one follower.
func (a *announcer) announceTo(s raft.Server) {
	if a.begin(s.ID) {
		a.log.wg.Go(func() { a.tell(s) })
	}
}

func (a *announcer) begin(id raft.ServerID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.telling[id] || a.log.ctx.Err() != nil {
		return false
	}
	a.telling[id] = true
	return true
}

// tell sends one follower announcements until it has heard of the last entry applied, or
// does not answer: then Raft's own appends tell it.
func (a *announcer) tell(to raft.Server) {
	told := uint64(0)
	for {
		last, ok := a.news(to.ID, told)
		if !ok {
			return
		}
		self := raft.ServerAddress(a.log.cfg.Node.String())
		request := raft.AppendEntriesRequest{
			RPCHeader:         raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: a.log.trans.EncodePeer(raft.ServerID(self), self)},
			Term:              last.term,
			PrevLogEntry:      last.index,
			PrevLogTerm:       last.term,
			LeaderCommitIndex: last.index,
		}
		var response raft.AppendEntriesResponse
		if err := a.log.trans.AppendEntries(to.ID, to.Address, &request, &response); err != nil || !response.Success {
			a.end(to.ID)
			return
		}
		told = last.index
	}
}

// news gives the last entry applied, if it came after what a follower was told, and in the
// term in which this node leads. Without news the follower's telling ends.
func (a *announcer) news(id raft.ServerID, told uint64) (position, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	term, leads := a.log.leader.ready()
	last := a.log.fsm.last()
	if leads && last.term == term && last.index > told && a.log.ctx.Err() == nil {
		return last, true
	}
	delete(a.telling, id)
	return position{}, false
}

func (a *announcer) end(id raft.ServerID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.telling, id)
}
