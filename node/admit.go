package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"seedmesh/jobs"
	"seedmesh/transport"
)

// Frames of the admit streams.
const (
	frameJoin = byte(1) // a join request, passed on to the leader; answered by a frameJoin
	frameKey  = byte(2) // the CA's key, from the leader to a node that is to vote; answered by an empty frameKey
)

const (
	maxJoinRequest = 8 << 10
	maxJoinReply   = 64 << 10
	admitTimeout   = 10 * time.Second
)

// serveJoin answers a joiner: here when this node leads, else through the leader.
func (n *Node) serveJoin(ctx context.Context, from net.Addr, request []byte) ([]byte, error) {
	deadline, cancel := context.WithTimeout(ctx, admitTimeout)
	defer cancel()
	for {
		changed := n.log.LeadershipChanged()
		reply, err := n.passJoin(deadline, request)
		if err == nil {
			return reply, nil
		}
		n.cfg.Logger.Debug("join put off", "from", from, "err", err)
		select {
		case <-deadline.Done():
			return nil, errors.New("the mesh has no leader at the moment: try again when seedmesh status shows one")
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (n *Node) passJoin(ctx context.Context, request []byte) ([]byte, error) {
	if _, leading := n.log.Leading(); leading {
		return n.admit(ctx, request)
	}
	leader, known := n.log.Leader()
	if !known || leader == n.id {
		return nil, errNoLeaderKnown
	}
	_, reply, err := n.askAdmit(ctx, leader.String(), frameJoin, request)
	return reply, err
}

// askAdmit sends one frame to another node's admit stream and reads the answer.
func (n *Node) askAdmit(ctx context.Context, to string, kind byte, payload []byte) (byte, []byte, error) {
	conn, err := n.dial(ctx, kindAdmit, to)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return 0, nil, err
		}
	}
	if err := transport.WriteFrame(conn, kind, payload); err != nil {
		return 0, nil, err
	}
	return transport.ReadFrame(conn, maxJoinReply)
}

// admit makes a joiner a member. Only the leader does, since only it may spend a
// token's use.
func (n *Node) admit(ctx context.Context, request []byte) ([]byte, error) {
	var r joinRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return json.Marshal(joinReply{Error: "the join request is damaged", Code: jobs.Invalid})
	}
	id, err := jobs.ParseNodeID(r.Node)
	var token joinToken
	if err != nil || copy(token.secret[:], r.Secret) != len(token.secret) {
		return json.Marshal(joinReply{Error: "the join request is damaged", Code: jobs.Invalid})
	}
	ca, err := n.dir.authority()
	if err != nil {
		return nil, fmt.Errorf("the CA key: %w", err)
	}
	select {
	case <-n.begun:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.Addr == "" && !n.admitsClients(token.hash()) {
		return json.Marshal(joinReply{Error: "the token is for a node, and a node needs an address: --listen HOST:PORT", Code: jobs.Invalid})
	}
	outcome, _, err := n.log.Propose(ctx, jobs.Request{Command: &jobs.Admit{
		Node: id, Name: r.Name, Token: token.hash(), WallMS: n.wallClock().UnixMilli(),
	}})
	if err != nil {
		return nil, err
	}
	if outcome.Refusal != nil {
		return json.Marshal(joinReply{Error: outcome.Refusal.Text, Code: outcome.Refusal.Code})
	}
	cert, err := ca.Sign(r.CSR, id.String(), outcome.Role.String(), certificateLife)
	if err != nil {
		return json.Marshal(joinReply{Error: err.Error(), Code: jobs.Invalid})
	}
	gossip := n.dir.Gossip
	if outcome.Role == jobs.Client {
		gossip = nil // a client does not gossip
	}
	book := append(n.book.others(n.id.String()), address{n.id.String(), n.dir.Name, n.advertise})
	n.cfg.Logger.Info("member admitted", "name", r.Name, "id", id, "role", outcome.Role)
	return json.Marshal(joinReply{
		Cluster: n.dir.Cluster, Role: outcome.Role.String(), Cert: cert, CA: ca.CertPEM(), Gossip: gossip, Book: book,
	})
}

// admitsClients tells whether a token is one for clients.
func (n *Node) admitsClients(hash jobs.Digest) (ok bool) {
	n.log.View(func(s *jobs.State) {
		for _, t := range s.Tokens() {
			ok = ok || t.Hash == hash && t.Role == jobs.Client
		}
	})
	return ok
}

// serveAdmit takes join requests that other nodes pass on, and the CA's key from
// the leader.
func (n *Node) serveAdmit(ctx context.Context) {
	n.serve(ctx, kindAdmit, func(ctx context.Context, conn *transport.Conn) {
		if err := conn.SetDeadline(time.Now().Add(admitTimeout)); err != nil {
			return
		}
		kind, b, err := transport.ReadFrame(conn, maxJoinRequest)
		if err != nil {
			return
		}
		var reply []byte
		switch kind {
		case frameJoin:
			if _, leading := n.log.Leading(); !leading {
				return
			}
			reply, err = n.admit(ctx, b)
		case frameKey:
			err = n.takeAuthority(conn.Peer().ID, b)
		default:
			return
		}
		if err != nil {
			n.cfg.Logger.Warn("admit request failed", "peer", conn.Peer().ID, "err", err)
			return
		}
		if err := transport.WriteFrame(conn, kind, reply); err != nil {
			n.cfg.Logger.Debug("admit answer not sent", "err", err)
		}
	})
}

// takeAuthority stores the CA's key, which only the leader hands over.
func (n *Node) takeAuthority(from string, key []byte) error {
	if leader, known := n.log.Leader(); !known || leader.String() != from {
		return fmt.Errorf("node %s does not lead and may not hand over the CA key", from)
	}
	cert, err := n.dir.read(caCertFile)
	if err != nil {
		return err
	}
	if _, err := transport.LoadAuthority(cert, key); err != nil {
		return err
	}
	return n.dir.write(caKeyFile, key)
}

// handOverAuthority gives a node that is to vote the CA's key, so that it can
// admit members when it leads.
func (n *Node) handOverAuthority(to jobs.NodeID) error {
	key, err := n.dir.read(caKeyFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(n.ctx, proposeWithin)
	defer cancel()
	_, _, err = n.askAdmit(ctx, to.String(), frameKey, key)
	return err
}
