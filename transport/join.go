package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/quic-go/quic-go"
)

// The join exchange: one request, one reply, and the only thing that somebody without a
// certificate of this cluster can do.
const (
	MaxJoinRequestBytes = 8 << 10
	MaxJoinReplyBytes   = 64 << 10

	joinTimeout    = 10 * time.Second // the whole exchange, at the server and by default at the joiner
	joinErrorBytes = 1 << 10          // of an error's text
	joinsAtOnce    = 64

	joinRate      = 1.0  // per second and source address
	joinBurst     = 16.0 // at once from one source address
	joinAddresses = 4096 // sources remembered

	frameJoinRequest = 1
	frameJoinReply   = 2
	frameJoinError   = 3
)

// A JoinError is the answer of the node that was asked to let us in; Reason is its text.
type JoinError struct{ Reason string }

func (e *JoinError) Error() string { return "transport: join refused: " + e.Reason }

type joinServer struct {
	handle func(ctx context.Context, from net.Addr, request []byte) ([]byte, error)
	limits limiter
	slots  chan struct{}
}

// ServeJoin begins to answer the join exchange with handle, which may be called from many
// goroutines; before it, and after ServeJoin(nil), joiners are turned away like everybody
// without a certificate. A request is at most [MaxJoinRequestBytes] and is rate-limited by
// source address; a reply may have [MaxJoinReplyBytes]; an error reaches the joiner as text,
// so it must hold no secret. ctx ends after 10 s, when the joiner leaves, and with Close.
func (e *Endpoint) ServeJoin(handle func(ctx context.Context, from net.Addr, request []byte) (reply []byte, err error)) {
	if handle == nil {
		e.join.Store(nil)
		return
	}
	e.join.Store(&joinServer{
		handle: handle,
		limits: limiter{rate: joinRate, burst: joinBurst, size: joinAddresses, buckets: map[netip.Addr]*bucket{}},
		slots:  make(chan struct{}, joinsAtOnce),
	})
}

// serveJoin owns a joiner's connection. The joiner closes it when it has read the reply:
// closing it here would throw the reply away.
func (e *Endpoint) serveJoin(conn *quic.Conn) {
	ctx, cancel := context.WithTimeout(conn.Context(), joinTimeout)
	defer cancel()
	defer conn.CloseWithError(endCode, "the join exchange is over")
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return
	}
	deadline, _ := ctx.Deadline()
	stream.SetDeadline(deadline)
	reply, err := e.answerJoin(ctx, conn, stream)
	kind := byte(frameJoinReply)
	if err != nil {
		text := err.Error()
		kind, reply = frameJoinError, []byte(text[:min(len(text), joinErrorBytes)])
		e.log.Info("join refused", "from", conn.RemoteAddr(), "reason", err)
	}
	if err := WriteFrame(stream, kind, reply); err != nil {
		return
	}
	stream.CancelRead(endCode)
	stream.Close()
	awaitEnd(conn, time.Until(deadline))
}

func (e *Endpoint) answerJoin(ctx context.Context, conn *quic.Conn, stream *quic.Stream) ([]byte, error) {
	server := e.join.Load()
	refuse := func(reason string) ([]byte, error) {
		e.stats.joinsRefused.Add(1)
		return nil, errors.New(reason)
	}
	switch {
	case server == nil:
		return refuse("this node lets nobody join at the moment")
	case !server.limits.allow(conn.RemoteAddr(), time.Now()):
		return refuse("too many attempts from this address; wait a minute")
	}
	select {
	case server.slots <- struct{}{}:
		defer func() { <-server.slots }()
	default:
		return refuse("too many nodes are joining; try again")
	}
	kind, request, err := ReadFrame(stream, MaxJoinRequestBytes)
	if _, tooLarge := errors.AsType[*FrameTooLargeError](err); tooLarge {
		return refuse(err.Error())
	}
	if err != nil || kind != frameJoinRequest {
		return refuse("the request could not be read")
	}
	e.stats.joins.Add(1)
	reply, err := server.handle(ctx, conn.RemoteAddr(), request)
	if err == nil && len(reply) > MaxJoinReplyBytes {
		err = fmt.Errorf("the reply has %d bytes, at most %d are allowed", len(reply), MaxJoinReplyBytes)
	}
	return reply, err
}

// awaitEnd waits until the peer closes conn, or at most patience, and then closes it.
func awaitEnd(conn *quic.Conn, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-conn.Context().Done():
	case <-timer.C:
		conn.CloseWithError(endCode, "out of patience")
	}
}

// Join sends request to the node at addr and returns its reply. Before a byte of it leaves,
// the node has proven that it belongs to the cluster whose CA certificate has this SHA-256.
// conn stays the caller's to close, but must be used for nothing else. The errors:
// ErrUntrusted (another cluster), ErrUnreachable, ErrKind or ErrRefused (it does not serve
// joins), [*FrameTooLargeError], [*JoinError], ctx's.
func Join(ctx context.Context, conn net.PacketConn, addr string, caDigest [32]byte, request []byte) ([]byte, error) {
	if len(request) > MaxJoinRequestBytes {
		return nil, &FrameTooLargeError{int64(len(request)), MaxJoinRequestBytes}
	}
	limited, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	reply, err := join(limited, conn, addr, caDigest, request)
	if err == nil {
		return reply, nil
	}
	if _, ok := errors.AsType[*JoinError](err); ok {
		return nil, err
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case silent(err), errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrUnreachable
	}
	return nil, fmt.Errorf("transport: join %s: %w", addr, plain(err))
}

func join(ctx context.Context, conn net.PacketConn, addr string, caDigest [32]byte, request []byte) ([]byte, error) {
	to, err := resolve(ctx, addr, conn.LocalAddr())
	if err != nil {
		return nil, err
	}
	socket := &socket{PacketConn: conn}
	transport := &quic.Transport{Conn: socket.forQUIC()}
	defer transport.Close()
	peer, err := transport.Dial(ctx, to, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{string(kindJoin)},
		ServerName:         "seedmesh",
		InsecureSkipVerify: true, // the pinned digest is what counts
		VerifyConnection:   func(state tls.ConnectionState) error { return verifyPinned(state.PeerCertificates, caDigest) },
	}, &quic.Config{
		HandshakeIdleTimeout: DefaultHandshakeTimeout,
		MaxIdleTimeout:       DefaultMaxIdleTimeout,
		KeepAlivePeriod:      DefaultKeepAlive,
		MaxIncomingStreams:   -1, MaxIncomingUniStreams: -1,
	})
	if err != nil {
		return nil, err
	}
	defer peer.CloseWithError(endCode, "thank you")
	stream, err := peer.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		stream.SetDeadline(deadline)
	}
	defer context.AfterFunc(ctx, func() { stream.SetDeadline(time.Unix(1, 0)) })()
	if err := WriteFrame(stream, frameJoinRequest, request); err != nil {
		return nil, err
	}
	stream.Close()
	kind, reply, err := ReadFrame(stream, MaxJoinReplyBytes)
	switch {
	case err != nil:
		return nil, err
	case kind == frameJoinReply:
		return reply, nil
	case kind == frameJoinError:
		return nil, &JoinError{string(reply[:min(len(reply), joinErrorBytes)])}
	}
	return nil, fmt.Errorf("%w: frame of kind %d", ErrKind, kind)
}

// verifyPinned checks that chain is a node's certificate followed by the CA's that signed
// it, and that this CA is the one with the digest.
func verifyPinned(chain []*x509.Certificate, caDigest [32]byte) error {
	if len(chain) < 2 {
		return &peerError{ErrUntrusted, "it does not show its CA"}
	}
	ca := chain[len(chain)-1]
	if sha256.Sum256(ca.Raw) != caDigest || !ca.IsCA {
		return &peerError{ErrUntrusted, "it belongs to another cluster than the token"}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := verify(chain[0], roots, x509.ExtKeyUsageServerAuth, time.Now())
	return err
}
