package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// hello is what a server sends on the first one-way stream of a connection, as soon as it
// has accepted the client's certificate. In TLS 1.3 a client's handshake succeeds before
// that, so only the hello proves a connection good. Its first byte is an HTTP/3 stream
// type reserved for being ignored (RFC 9114, 6.2.3), so that HTTP/3 clients of others
// stay welcome.
var hello = []byte("\x21seedmesh")

func sendHello(conn *quic.Conn) error {
	stream, err := conn.OpenUniStream()
	if err != nil {
		return err
	}
	if err := stream.SetWriteDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if _, err := stream.Write(hello); err != nil {
		return err
	}
	return stream.Close()
}

func awaitHello(ctx context.Context, conn *quic.Conn) error {
	stream, err := conn.AcceptUniStream(ctx)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := stream.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	got := make([]byte, len(hello))
	if _, err := io.ReadFull(stream, got); err != nil {
		return err
	}
	if !slices.Equal(got, hello) {
		return fmt.Errorf("%w: its hello is not seedmesh's", ErrKind)
	}
	stream.CancelRead(endCode)
	return nil
}

// A session is one outgoing connection, shared by all callers that want the same key.
type session struct {
	key   sessionKey
	ready chan struct{} // closed when the fields up to web are final
	err   error
	web   *http3.RawClientConn // of KindHTTP3 only
	lane  *lane                // of the others

	// guarded by Endpoint.mu
	conn  *quic.Conn // nil until the peer is proven good
	peer  Peer
	users int       // streams and waiting callers
	since time.Time // when users last fell to zero
}

type sessionKey struct {
	id, addr string
	kind     Kind
}

// Dial opens a stream to a peer, on a connection that all streams of the same kind to the
// same peer share. The first Dial of a connection waits until the peer has judged our
// certificate; callers that wait for the same handshake each keep to their own ctx. The
// errors are [*DialError].
//
// A peer that vanished is noticed by silence (MaxIdleTimeout) or a failed Read, not by
// Dial: set deadlines, and call Forget when one passes.
func (e *Endpoint) Dial(ctx context.Context, kind Kind, to Peer) (*Conn, error) {
	if kind == kindJoin || kind == kindPing || kind == KindHTTP3 {
		return nil, &DialError{to, kind, ErrKind}
	}
	for retried := false; ; retried = true {
		s, err := e.session(ctx, kind, to)
		if err != nil {
			return nil, &DialError{to, kind, err}
		}
		stream, err := s.conn.OpenStreamSync(ctx)
		if err == nil {
			e.stats.streamsOut.Add(1)
			return &Conn{e: e, stream: stream, quic: s.conn, peer: s.peer, session: s}, nil
		}
		e.release(s)
		if ctx.Err() != nil {
			return nil, &DialError{to, kind, ctx.Err()}
		}
		e.drop(s) // its end had not been noticed; a fresh connection decides
		if retried {
			return nil, &DialError{to, kind, plain(err)}
		}
	}
}

// Ping proves that a peer is alive and accepts us, by a handshake and one answer on a
// connection of its own; no cached connection is believed. The errors are [*DialError].
func (e *Endpoint) Ping(ctx context.Context, to Peer) error {
	e.stats.pings.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	conn, _, err := e.connect(ctx, kindPing, to)
	if err == nil {
		conn.CloseWithError(endCode, "thank you")
		return nil
	}
	if e.ctx.Err() != nil {
		err = net.ErrClosed
	}
	return &DialError{to, kindPing, err}
}

// session returns the cached connection for a key, or dials it. The caller owes a release.
func (e *Endpoint) session(ctx context.Context, kind Kind, to Peer) (*session, error) {
	key := sessionKey{to.ID, to.Addr, kind}
	e.mu.Lock()
	s := e.sessions[key]
	if s == nil || s.conn != nil && s.conn.Context().Err() != nil {
		s = &session{key: key, ready: make(chan struct{})}
		if !e.startLocked(func() { e.run(s, to) }) {
			e.mu.Unlock()
			return nil, net.ErrClosed
		}
		e.sessions[key] = s
	}
	s.users++
	e.mu.Unlock()

	select {
	case <-s.ready:
		if s.err != nil {
			e.release(s)
			return nil, s.err
		}
		return s, nil
	case <-ctx.Done():
		e.release(s)
		return nil, ctx.Err()
	}
}

func (e *Endpoint) release(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.users--; s.users == 0 {
		s.since = time.Now()
	}
}

// drop takes a session out of the cache; its connection is left to end by itself.
func (e *Endpoint) drop(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions[s.key] == s {
		delete(e.sessions, s.key)
	}
}

// run is a session's life: dial, tell the waiting callers, watch until the end.
func (e *Endpoint) run(s *session, to Peer) {
	defer e.drop(s)
	conn, peer, err := e.connect(e.ctx, s.key.kind, to)
	if err == nil && s.key.kind != KindHTTP3 {
		if s.lane, err = newLane(conn, s.key.kind, peer.ID, true); err != nil {
			conn.CloseWithError(endCode, err.Error())
		}
	}
	if err != nil {
		if e.ctx.Err() != nil {
			err = net.ErrClosed
		}
		e.drop(s) // before the callers know, so that their next Dial is a new attempt
		s.err = err
		close(s.ready)
		return
	}
	if s.key.kind == KindHTTP3 {
		s.web = e.webClient(conn)
	} else {
		e.lanes.add(s.lane)
		defer e.lanes.remove(s.lane)
	}
	e.mu.Lock()
	s.conn, s.peer, s.since = conn, peer, time.Now()
	closed := e.closed
	e.mu.Unlock()
	close(s.ready)
	switch {
	case closed:
		conn.CloseWithError(endCode, reasonClosing)
	case e.cfg.Refuse(peer.ID): // revoked since the handshake, before Forget could see it
		conn.CloseWithError(endCode, reasonForgotten)
	}
	e.watch(s, conn)
}

// watch returns when the connection has ended; it ends it when nobody has used it for long.
func (e *Endpoint) watch(s *session, conn *quic.Conn) {
	timer := time.NewTimer(e.cfg.UnusedTimeout)
	defer timer.Stop()
	for {
		select {
		case <-conn.Context().Done():
			e.log.Debug("connection ended", "peer", s.peer.ID, "addr", s.key.addr, "kind", s.key.kind,
				"cause", plain(context.Cause(conn.Context())))
			return
		case <-timer.C:
		}
		e.mu.Lock()
		left := e.cfg.UnusedTimeout
		if s.users == 0 {
			left -= time.Since(s.since)
		}
		if left <= 0 && e.sessions[s.key] == s {
			delete(e.sessions, s.key)
		}
		e.mu.Unlock()
		if left <= 0 {
			conn.CloseWithError(endCode, reasonUnused)
			continue
		}
		timer.Reset(left)
	}
}

// connect makes a connection of which both sides have accepted the other's certificate.
// quic-go refuses connections while more than 32 wait to be accepted, as in a flash crowd;
// that says nothing against the peer, so it is tried again.
func (e *Endpoint) connect(caller context.Context, kind Kind, to Peer) (*quic.Conn, Peer, error) {
	e.stats.dials.Add(1)
	ctx, cancel := context.WithTimeout(caller, dialTimeouts*e.cfg.HandshakeTimeout)
	defer cancel()
	conn, peer, err := e.handshake(ctx, kind, to)
	for wait := busyWait; busy(err) && ctx.Err() == nil; wait *= 2 {
		select {
		case <-time.After(wait/2 + rand.N(wait)):
			conn, peer, err = e.handshake(ctx, kind, to)
		case <-ctx.Done():
		}
	}
	if err == nil {
		return conn, peer, nil
	}
	e.stats.dialFailures.Add(1)
	switch {
	case caller.Err() != nil:
		return nil, Peer{}, caller.Err()
	case silent(err):
		return nil, Peer{}, ErrUnreachable
	case busy(err):
		return nil, Peer{}, fmt.Errorf("%w: it takes no connections", ErrUnreachable)
	}
	return nil, Peer{}, plain(err)
}

func (e *Endpoint) handshake(ctx context.Context, kind Kind, to Peer) (*quic.Conn, Peer, error) {
	addr, err := resolve(ctx, to.Addr, e.Addr())
	if err != nil {
		return nil, Peer{}, err
	}
	conn, err := e.dialer(kind).Dial(ctx, addr, e.clientTLS(kind, to.ID), e.dialed)
	if err != nil {
		return nil, Peer{}, err
	}
	if err := awaitHello(ctx, conn); err != nil {
		conn.CloseWithError(endCode, "no hello")
		return nil, Peer{}, err
	}
	peer, err := nodeOf(conn.ConnectionState().TLS.PeerCertificates[0])
	if err != nil {
		conn.CloseWithError(endCode, err.Error())
		return nil, Peer{}, err
	}
	peer.Addr = to.Addr
	return conn, peer, nil
}

// silent reports whether a handshake failed because nothing came back.
func silent(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if _, ok := errors.AsType[*quic.IdleTimeoutError](err); ok {
		return true
	}
	_, ok := errors.AsType[*quic.HandshakeTimeoutError](err)
	return ok
}

// busy reports whether the peer answered, but takes no connections at this moment.
func busy(err error) bool {
	refusal, ok := errors.AsType[*quic.TransportError](err)
	return ok && refusal.Remote && refusal.ErrorCode == quic.ConnectionRefused
}

// resolve turns HOST:PORT into an address that the socket at local can send to. Only a
// host that is not an IP address is looked up.
func resolve(ctx context.Context, addr string, local net.Addr) (*net.UDPAddr, error) {
	if ip, err := netip.ParseAddrPort(addr); err == nil {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.Addr().Unmap(), ip.Port())), nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number below 65536", service)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	l, ok := local.(*net.UDPAddr)
	only4 := ok && l.IP.To4() != nil
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() || !only4 {
			return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))), nil
		}
	}
	return nil, fmt.Errorf("%s has no IPv4 address", host)
}
