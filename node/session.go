package node

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"seedmesh/jobs"
	"seedmesh/transport"
)

// Every node holds one stream to the leader. It pings there what it has applied
// and how far its claims are; the leader's pongs give it leave to start new
// attempts, carry requests to trim, and show every node the whole mesh's progress.

const (
	maxSessionFrame = 1 << 20         // bytes of a ping or pong
	leaveToStart    = 2 * time.Second // after the ping that was answered last, a node starts no new attempt
	pongTimeout     = time.Second     // after which the stream is made anew
	sessionFrame    = byte(1)
)

// ping is what a node tells the leader.
type ping struct {
	Incarnation uint64
	Applied     uint64 // no attempt that this index forbids will be started
	DigestIndex uint64 // an index whose ledger digest is given
	Digest      jobs.Digest
	Running     []running
	Sick        []string // GPUs that should not be given work, and jobs of a newer program, and why
}

// running is a claim under work.
type running struct {
	Fence uint64
	Job   jobs.JobID
	Done  uint64 // units finished in order
	Rate  uint64 // units a second
}

// pong is the leader's answer.
type pong struct {
	Term    uint64
	Quiet   uint64        // no node will start an attempt that this index forbids
	Trim    []uint64      // fences of this node's claims that should give up a part
	Working []jobProgress // of all nodes
	Alarms  []string      // what an operator should know
	Silent  []jobs.NodeID // living nodes whose pings have stayed away just now
}

// jobProgress is the work on a job that is under way, beyond what is committed.
type jobProgress struct {
	Job   jobs.JobID
	Done  uint64
	Rate  uint64
	Slots uint32
}

// session is this node's end of its stream to the leader.
type session struct {
	n     *Node
	began time.Time // when this node started

	mu       sync.Mutex // guards what follows
	answered time.Time  // when the ping was sent that was answered last
	last     pong
}

// fresh tells whether a leader heard of this node so recently that it may start
// new attempts.
func (s *session) fresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.answered.IsZero() && time.Since(s.answered) < leaveToStart
}

// leave is until when new attempts may be started.
func (s *session) leave() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answered.IsZero() {
		return s.answered
	}
	return s.answered.Add(leaveToStart)
}

// alone is for how long no leader has answered this node.
func (s *session) alone() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answered.IsZero() {
		return time.Since(s.began)
	}
	return time.Since(s.answered)
}

// view is the last pong.
func (s *session) view() pong {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *session) record(sent time.Time, p pong) {
	s.mu.Lock()
	s.answered, s.last = sent, p
	s.mu.Unlock()
	for _, w := range s.n.workers {
		w.renew(sent.Add(leaveToStart))
	}
	for _, fence := range p.Trim {
		s.n.trim(fence)
	}
}

// run keeps a session with whoever leads until ctx ends.
func (s *session) run(ctx context.Context) {
	for ctx.Err() == nil {
		changed := s.n.log.LeadershipChanged()
		if err := s.once(ctx); err != nil && ctx.Err() == nil {
			s.n.cfg.Logger.Debug("session ended", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(time.Duration(s.n.cfg.Session.Ping) / 2):
		}
	}
}

var errNoLeaderKnown = errors.New("no leader is known")

// once speaks with the present leader until it changes or the stream breaks.
func (s *session) once(ctx context.Context) error {
	leader, known := s.n.log.Leader()
	if !known {
		return errNoLeaderKnown
	}
	if leader == s.n.id {
		return s.withMyself(ctx)
	}
	dialCtx, cancel := context.WithTimeout(ctx, pongTimeout)
	defer cancel()
	conn, err := s.n.dial(dialCtx, kindSession, leader.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	for {
		sent := time.Now()
		var answer pong
		if err := exchange(conn, s.n.makePing(), &answer); err != nil {
			if isTimeout(err) && ctx.Err() == nil {
				s.n.ep.Forget(leader.String())
			}
			return err
		}
		s.record(sent, answer)
		if now, known := s.n.log.Leader(); !known || now != leader {
			return nil
		}
		if !s.n.tick(ctx, time.Duration(s.n.cfg.Session.Ping)) {
			return ctx.Err()
		}
	}
}

// withMyself is the session of the leader's own node.
func (s *session) withMyself(ctx context.Context) error {
	for {
		if leader, _ := s.n.log.Leader(); leader != s.n.id {
			return nil
		}
		if _, leading := s.n.log.Leading(); leading {
			sent := time.Now()
			s.record(sent, s.n.overseer.heard(s.n.id, s.n.makePing()))
		}
		if !s.n.tick(ctx, time.Duration(s.n.cfg.Session.Ping)) {
			return ctx.Err()
		}
	}
}

// pause waits and tells whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// exchange sends a ping and reads the pong.
func exchange(conn net.Conn, out ping, in *pong) error {
	if err := conn.SetDeadline(time.Now().Add(pongTimeout)); err != nil {
		return err
	}
	if err := sendJSON(conn, out); err != nil {
		return err
	}
	return receiveJSON(conn, in)
}

func sendJSON(conn net.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return transport.WriteFrame(conn, sessionFrame, b)
}

func receiveJSON(conn net.Conn, v any) error {
	_, b, err := transport.ReadFrame(conn, maxSessionFrame)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// makePing says where this node stands. The applied index is read under the gate
// that every start of an attempt passes: what it forbids is not started any more.
func (n *Node) makePing() ping {
	p := ping{Running: []running{}, Sick: append(n.troubles(), n.machine.last().sick...)}
	n.gate.Lock()
	p.Applied = n.log.Applied()
	p.Incarnation = n.incarnation
	n.gate.Unlock()
	p.DigestIndex = p.Applied
	if d, ok := n.log.DigestAt(p.DigestIndex); ok {
		p.Digest = d
	} else {
		p.DigestIndex = 0
	}
	for _, w := range n.workers {
		p.Applied = w.heeded(p.Applied)
		p.Running = append(p.Running, w.progress()...)
	}
	return p
}

// serveSessions answers the pings of all nodes while this one leads.
func (n *Node) serveSessions(ctx context.Context) {
	n.serve(ctx, kindSession, func(ctx context.Context, conn *transport.Conn) {
		id, err := jobs.ParseNodeID(conn.Peer().ID)
		if err != nil {
			return
		}
		for {
			if err := conn.SetDeadline(time.Now().Add(2 * leaveToStart)); err != nil {
				return
			}
			var p ping
			if err := receiveJSON(conn, &p); err != nil {
				return
			}
			if _, leading := n.log.Leading(); !leading {
				return
			}
			if err := sendJSON(conn, n.overseer.heard(id, p)); err != nil {
				return
			}
		}
	})
}
