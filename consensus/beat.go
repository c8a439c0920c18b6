package consensus

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// restPace is how much slower a leader's heartbeats are while the mesh rests: one every 60
// to 120 ms, not 15 to 30, for a heartbeat time-out of 150 ms.
const restPace = 4

// A beat is Raft's transport with heartbeats as single datagrams, one there and one back,
// which takes a fifth of the wake-ups of a stream. A heartbeat that is not
// answered in time is sent again on a stream; so is one that would change who leads the
// asked node, or its term: such news takes the library's way.
type beat struct {
	*raft.NetworkTransport
	log    *Log
	handle atomic.Pointer[func(raft.RPC)]
}

// AppendEntries is how Raft sends heartbeats, among others.
func (b *beat) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if !heartbeat(args) {
		return b.NetworkTransport.AppendEntries(id, target, args, resp)
	}
	ctx, cancel := context.WithTimeout(b.log.ctx, b.log.cfg.Timings.Heartbeat/6)
	defer cancel()
	answer, err := b.log.cfg.Network.AskRaft(ctx, string(id), heartbeatQuestion(args.Term))
	if err == nil && readHeartbeatAnswer(answer, resp) {
		return nil
	}
	err = b.NetworkTransport.AppendEntries(id, target, args, resp)
	if err == nil && resp.Success { // it may have started again, and know of nothing committed
		b.log.announcer.announceTo(raft.Server{ID: id, Address: target})
	}
	return err
}

// heartbeat tells an append that only says who leads in which term, as Raft's library does.
func heartbeat(a *raft.AppendEntriesRequest) bool {
	return a.Term != 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// pace has Raft send heartbeats at the pace of rest while this node leads and the mesh
// rests, until ctx ends. The library knows one time-out, by which a follower suspects and a
// leader sends, so it is that of a follower again before this node follows for long.
func (l *Log) pace() {
	slow := false
	for l.ctx.Err() == nil {
		changed, index := l.LeadershipChanged(), l.Applied()
		rest := l.raft.State() == raft.Leader && l.Resting()
		if rest != slow {
			l.setPace(rest)
			slow = rest
		}
		news := l.Watch(index)
		if !rest {
			news = nil // while there is work, a look now and then is enough
		}
		select {
		case <-changed:
		case <-news:
		case <-time.After(restAfter):
		case <-l.ctx.Done():
		}
	}
}

func (l *Log) setPace(rest bool) {
	c := l.raft.ReloadableConfig()
	c.HeartbeatTimeout, c.ElectionTimeout = l.cfg.Timings.Heartbeat, l.cfg.Timings.Election
	if rest {
		c.HeartbeatTimeout, c.ElectionTimeout = restPace*c.HeartbeatTimeout, restPace*c.ElectionTimeout
	}
	if err := l.raft.ReloadConfig(c); err != nil {
		l.cfg.Logger.Error("the pace of heartbeats cannot be changed", "err", err)
	}
}

// SetHeartbeatHandler is told by Raft who answers heartbeats, on streams and here.
func (b *beat) SetHeartbeatHandler(handle func(raft.RPC)) {
	b.NetworkTransport.SetHeartbeatHandler(handle)
	b.handle.Store(&handle)
}

// answer answers the heartbeat of the leader that this node follows, and no other.
func (b *beat) answer(leader string, question []byte) []byte {
	handle := b.handle.Load()
	if handle == nil || len(question) != 8 {
		return nil
	}
	term, r := binary.BigEndian.Uint64(question), b.log.raft
	if _, followed := r.LeaderWithID(); r.State() != raft.Follower || r.CurrentTerm() != term || string(followed) != leader {
		return nil
	}
	answer := make(chan raft.RPCResponse, 1)
	(*handle)(raft.RPC{
		Command: &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader), Addr: b.EncodePeer(raft.ServerID(leader), raft.ServerAddress(leader))},
			Term:      term,
		},
		RespChan: answer,
	})
	select {
	case r := <-answer:
		if resp, ok := r.Response.(*raft.AppendEntriesResponse); ok && r.Error == nil {
			return heartbeatAnswer(resp)
		}
	default: // Raft has stopped
	}
	return nil
}

// A question is the leader's term; an answer is the follower's term, the last index of its
// log, and 1 if it follows.
func heartbeatQuestion(term uint64) []byte { return binary.BigEndian.AppendUint64(nil, term) }

func heartbeatAnswer(r *raft.AppendEntriesResponse) []byte {
	b := binary.BigEndian.AppendUint64(nil, r.Term)
	b = binary.BigEndian.AppendUint64(b, r.LastLog)
	if r.Success {
		return append(b, 1)
	}
	return append(b, 0)
}

func readHeartbeatAnswer(b []byte, r *raft.AppendEntriesResponse) bool {
	if len(b) != 17 || b[16] > 1 {
		return false
	}
	*r = raft.AppendEntriesResponse{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax},
		Term:      binary.BigEndian.Uint64(b), LastLog: binary.BigEndian.Uint64(b[8:]), Success: b[16] == 1,
	}
	return true
}
