package consensus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"seedmesh/jobs"
)

// The forwarding protocol: one stream a batch. The batch is a uvarint length and
// so many bytes, which are requests, each a uvarint length and the bytes of
// [jobs.EncodeRequest]; a request of length 0 asks for a read index. The answers
// come in the same order, each a status byte, the index as 8 bytes, and, to a
// request that was answered, a length-prefixed outcome.

// Status bytes of an answer.
const (
	answered  byte = 1
	notLeader byte = 2
	refusedTo byte = 3 // the sender may not propose this
)

const (
	maxForwardBytes = jobs.MaxEntryBytes + batchBytes // bytes of one batch
	maxOutcomeBytes = 64 << 10                        // bytes of one outcome
	forwardDeadline = 5 * time.Second                 // longest time that a forwarded batch is worked on
)

// forward sends a batch to the leader and answers its proposals. Those that a
// leader does not answer in time, or before it is the leader no more, are sent again.
func (l *Log) forward(batch []*proposal) {
	ctx, cancel := l.whileLed(l.ctx)
	defer cancel()
	to, known := l.Leader()
	if !known || to == l.cfg.Node {
		fail(batch, errNotLeading)
		return
	}
	requests := make([][]byte, len(batch))
	for i, p := range batch {
		requests[i] = p.encoded
	}
	results, err := l.ask(ctx, to, requests)
	for i, r := range results {
		batch[i].done <- r
	}
	fail(batch[len(results):], err)
}

// whileLed gives a context that ends after resendAfter, and at once when the
// leader changes: one that died hangs in silence. The leader is to be asked for
// after it.
func (l *Log) whileLed(ctx context.Context) (context.Context, context.CancelFunc) {
	changed := l.leader.changed()
	ctx, cancel := context.WithTimeout(ctx, resendAfter)
	l.wg.Go(func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

// ask sends requests to the leader and reads the answers. When it fails, it gives
// the answers that came before.
func (l *Log) ask(ctx context.Context, to jobs.NodeID, requests [][]byte) ([]result, error) {
	conn, err := l.cfg.Network.DialForward(ctx, to.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	var body []byte
	for _, r := range requests {
		body = append(binary.AppendUvarint(body, uint64(len(r))), r...)
	}
	if _, err := conn.Write(append(binary.AppendUvarint(nil, uint64(len(body))), body...)); err != nil {
		return nil, err
	}
	results := make([]result, 0, len(requests))
	r := bufio.NewReader(conn)
	for _, request := range requests {
		res, err := readAnswer(r, len(request) > 0)
		if err != nil {
			return results, err
		}
		results = append(results, res)
	}
	return results, nil
}

// readAnswer reads one answer, with an outcome unless it is that to a read index.
func readAnswer(r *bufio.Reader, outcome bool) (result, error) {
	var head [9]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return result{}, err
	}
	res := result{index: binary.BigEndian.Uint64(head[1:])}
	switch head[0] {
	case answered:
	case refusedTo:
		return result{err: ErrForbidden}, nil
	default:
		return result{err: errNotLeading}, nil
	}
	if !outcome {
		return res, nil
	}
	b, err := readBytes(r, maxOutcomeBytes)
	if err != nil {
		return result{}, err
	}
	res.outcome, res.err = jobs.DecodeOutcome(b)
	return res, nil
}

func readBytes(r *bufio.Reader, limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("consensus: %d bytes announced, the limit is %d", n, limit)
	}
	b := make([]byte, n)
	if _, err = io.ReadFull(r, b); errors.Is(err, io.EOF) && n > 0 {
		err = io.ErrUnexpectedEOF // the end is where no length is
	}
	return b, err
}

// serveForward answers the followers' requests while this node leads.
func (l *Log) serveForward() {
	listener := l.cfg.Network.Forward()
	stop := context.AfterFunc(l.ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			defer conn.Close()
			stop := context.AfterFunc(l.ctx, func() { _ = conn.SetDeadline(time.Now()) })
			defer stop()
			if err := l.answer(conn); err != nil {
				l.cfg.Logger.Debug("forwarded request failed", "peer", l.cfg.Network.PeerOf(conn), "err", err)
			}
		}()
	}
}

func (l *Log) answer(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(forwardDeadline)); err != nil {
		return err
	}
	body, err := readBytes(bufio.NewReader(conn), maxForwardBytes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(l.ctx, forwardDeadline)
	defer cancel()
	var waiting []*proposal
	for r := bufio.NewReader(bytes.NewReader(body)); ; {
		request, err := readBytes(r, maxForwardBytes)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(waiting) == batchRequests {
			return fmt.Errorf("consensus: a batch of more than %d requests", batchRequests)
		}
		waiting = append(waiting, l.decide(ctx, l.cfg.Network.PeerOf(conn), request))
	}
	out := bufio.NewWriter(conn)
	for _, p := range waiting {
		res := p.await(ctx)
		if _, err := out.Write(encodeAnswer(res, len(p.encoded) > 0)); err != nil {
			return err
		}
	}
	return out.Flush()
}

// encodeAnswer is the counterpart of readAnswer.
func encodeAnswer(res result, outcome bool) []byte {
	status := answered
	switch {
	case errors.Is(res.err, ErrForbidden):
		status = refusedTo
	case res.err != nil:
		status = notLeader
	}
	out := append([]byte{status}, binary.BigEndian.AppendUint64(nil, res.index)...)
	if status == answered && outcome {
		b := jobs.EncodeOutcome(res.outcome)
		out = append(binary.AppendUvarint(out, uint64(len(b))), b...)
	}
	return out
}

// decide begins what a peer asks for, if this node leads and the peer may ask.
func (l *Log) decide(ctx context.Context, peer string, request []byte) *proposal {
	p := newProposal(jobs.Request{}, request)
	if _, leads := l.leader.ready(); !leads {
		p.done <- result{err: errNotLeading}
		return p
	}
	if len(request) == 0 {
		index, err := l.tryReadIndex(ctx)
		p.done <- result{index: index, err: err}
		return p
	}
	r, err := jobs.DecodeRequest(request)
	var newer *jobs.NewerError
	if errors.As(err, &newer) {
		p.done <- result{outcome: jobs.Outcome{Refusal: &jobs.Refusal{Code: jobs.Outdated, Text: "the leader runs an older seedmesh, which does not know this command"}}}
		return p
	}
	if err != nil {
		p.done <- result{err: ErrForbidden}
		return p
	}
	if !l.mayPropose(peer, r.Command) {
		l.cfg.Logger.Warn("refused a command from a node that may not send it", "peer", peer, "command", fmt.Sprintf("%T", r.Command))
		p.done <- result{err: ErrForbidden}
		return p
	}
	p.request = r
	if err := l.leader.put(ctx, p); err != nil {
		p.done <- result{err: errNotLeading}
	}
	return p
}

// mayPropose tells whether a peer may send a command: its own, a user's, or, when
// it may vote, one about the members.
func (l *Log) mayPropose(peer string, c jobs.Command) bool {
	if actor := c.Actor(); actor != (jobs.NodeID{}) && actor.String() != peer || jobs.LeaderOnly(c) {
		return false
	}
	if !jobs.VotersOnly(c) {
		return true
	}
	id, err := jobs.ParseNodeID(peer)
	var role jobs.Role
	l.View(func(s *jobs.State) {
		if n := s.Node(id); n != nil {
			role = n.Role
		}
	})
	return err == nil && role == jobs.Voter
}
