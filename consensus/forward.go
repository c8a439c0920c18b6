package consensus

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"seedmesh/jobs"
)

// The forwarding protocol: one stream a request. The request is a uvarint length
// and the bytes of [jobs.EncodeRequest]; length 0 asks for a read index. The
// answer is a status byte, the index as 8 bytes, and a length-prefixed outcome.

// Status bytes of an answer.
const (
	answered  byte = 1
	notLeader byte = 2
	refusedTo byte = 3 // the sender may not propose this
)

const (
	maxForwardBytes = jobs.MaxEntryBytes // bytes of one forwarded request or outcome
	forwardDeadline = 5 * time.Second    // longest time that a forwarded request is worked on
)

// errForbidden means that the leader refused the command because of its sender.
var errForbidden = errors.New("consensus: the leader does not take this command from this node")

// forward sends a request to the leader and reads its answer.
func (l *Log) forward(ctx context.Context, to jobs.NodeID, request []byte) result {
	conn, err := l.cfg.Network.DialForward(ctx, to.String())
	if err != nil {
		return result{err: err}
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return result{err: err}
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := conn.Write(append(binary.AppendUvarint(nil, uint64(len(request))), request...)); err != nil {
		return result{err: err}
	}
	var head [9]byte
	r := bufio.NewReader(conn)
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return result{err: err}
	}
	res := result{index: binary.BigEndian.Uint64(head[1:])}
	switch head[0] {
	case answered:
	case refusedTo:
		return result{err: errForbidden}
	default:
		return result{err: errNotLeading}
	}
	if len(request) == 0 {
		return res
	}
	b, err := readBytes(r)
	if err != nil {
		return result{err: err}
	}
	res.outcome, res.err = jobs.DecodeOutcome(b)
	return res
}

func readBytes(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > maxForwardBytes {
		return nil, fmt.Errorf("consensus: %d bytes announced, the limit is %d", n, maxForwardBytes)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
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
	b, err := readBytes(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(l.ctx, forwardDeadline)
	defer cancel()
	status, res := l.decide(ctx, l.cfg.Network.PeerOf(conn), b)
	out := append([]byte{status}, binary.BigEndian.AppendUint64(nil, res.index)...)
	if status == answered && len(b) > 0 {
		outcome := jobs.EncodeOutcome(res.outcome)
		out = append(binary.AppendUvarint(out, uint64(len(outcome))), outcome...)
	}
	_, err = conn.Write(out)
	return err
}

// decide does what a peer asks for, if this node leads and the peer may ask.
func (l *Log) decide(ctx context.Context, peer string, request []byte) (byte, result) {
	if _, leads := l.leader.ready(); !leads {
		return notLeader, result{}
	}
	if len(request) == 0 {
		index, err := l.tryReadIndex(ctx)
		if err != nil {
			return notLeader, result{}
		}
		return answered, result{index: index}
	}
	r, err := jobs.DecodeRequest(request)
	if err != nil {
		return refusedTo, result{}
	}
	actor := r.Command.Actor()
	if jobs.LeaderOnly(r.Command) || actor != (jobs.NodeID{}) && actor.String() != peer {
		l.cfg.Logger.Warn("refused a command from a node that may not send it", "peer", peer, "command", fmt.Sprintf("%T", r.Command))
		return refusedTo, result{}
	}
	res := l.leader.submit(ctx, r)
	if res.err != nil {
		return notLeader, result{}
	}
	return answered, res
}
