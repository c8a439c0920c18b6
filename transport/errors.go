package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// What can go wrong between two nodes, for errors.Is. A deadline that passed is
// [os.ErrDeadlineExceeded], a closed endpoint, listener or conn is [net.ErrClosed].
var (
	// ErrUntrusted: the peer has no valid certificate of this cluster.
	ErrUntrusted = errors.New("the peer has no valid certificate of this cluster")
	// ErrWrongPeer: a node of this cluster answered, but not the one that was asked for.
	ErrWrongPeer = errors.New("another node answers at this address")
	// ErrRefused: the peer did not accept our certificate.
	ErrRefused = errors.New("the peer refused our certificate")
	// ErrKind: the peer does not accept this kind of stream.
	ErrKind = errors.New("the peer does not accept this kind of stream")
	// ErrUnreachable: nothing answered within the handshake timeout.
	ErrUnreachable = errors.New("no answer")
	// ErrLost: the connection below a stream ended (silence, restart of the peer, Forget).
	// What was in flight may or may not have arrived.
	ErrLost = errors.New("connection lost")
	// ErrReset: the peer closed its end of this stream early.
	ErrReset = errors.New("the peer closed the stream")
)

// A DialError says which peer could not be reached for what; Err is one of the errors
// above, a context's error, or [net.ErrClosed]. It is a [net.Error].
type DialError struct {
	To   Peer
	Kind Kind
	Err  error
}

func (e *DialError) Error() string {
	return fmt.Sprintf("transport: dial %s for %s: %v", e.To, e.Kind, e.Err)
}

// Unwrap returns Err.
func (e *DialError) Unwrap() error { return e.Err }

// Timeout reports whether time ran out, the caller's or the handshake's.
func (e *DialError) Timeout() bool {
	return errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, ErrUnreachable)
}

// Temporary is what [net.Error] still asks for; it equals Timeout.
func (e *DialError) Temporary() bool { return e.Timeout() }

const (
	// endCode is the code of every ended stream and connection; the reason travels as text.
	// It reads as "no error" on HTTP/3 connections.
	endCode = 0x100

	reasonClosing   = "the node is closing"
	reasonForgotten = "the peer was given up"
	reasonUnused    = "unused"
)

// TLS alerts (RFC 8446, 6.2) arrive as QUIC error codes from 0x100.
const (
	alertBase                  = 0x100
	alertBadCertificate        = 42
	alertCertificateUnknown    = 46
	alertUnknownCA             = 48
	alertAccessDenied          = 49
	alertCertificateRequired   = 116
	alertNoApplicationProtocol = 120
)

// plain turns quic-go's errors into this package's, so that its types stay inside.
func plain(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	if ours, ok := errors.AsType[*peerError](err); ok {
		return ours
	}
	if h, ok := errors.AsType[*http3.Error](err); ok {
		return fmt.Errorf("%w: %v", ErrReset, h)
	}
	if s, ok := errors.AsType[*quic.StreamError](err); ok {
		if s.Remote {
			return ErrReset
		}
		return net.ErrClosed
	}
	if a, ok := errors.AsType[*quic.ApplicationError](err); ok {
		switch {
		case a.Remote:
			return fmt.Errorf("%w: closed by the peer: %s", ErrLost, a.ErrorMessage)
		case a.ErrorMessage == reasonClosing:
			return net.ErrClosed
		}
		return fmt.Errorf("%w: %s", ErrLost, a.ErrorMessage)
	}
	if t, ok := errors.AsType[*quic.TransportError](err); ok {
		return plainTransport(t)
	}
	if _, ok := errors.AsType[*quic.HandshakeTimeoutError](err); ok {
		return ErrUnreachable
	}
	if _, ok := errors.AsType[*quic.IdleTimeoutError](err); ok {
		return fmt.Errorf("%w: silence", ErrLost)
	}
	if _, ok := errors.AsType[*quic.StatelessResetError](err); ok {
		return fmt.Errorf("%w: the peer restarted", ErrLost)
	}
	if errors.Is(err, quic.ErrStreamClosed) || errors.Is(err, quic.ErrTransportClosed) || errors.Is(err, quic.ErrServerClosed) {
		return net.ErrClosed
	}
	if errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%w: %v", ErrLost, err)
	}
	return err
}

func plainTransport(t *quic.TransportError) error {
	if !t.Remote {
		return fmt.Errorf("%w: %v", ErrLost, t)
	}
	switch alert := t.ErrorCode - alertBase; {
	case alert == alertNoApplicationProtocol:
		return ErrKind
	case alert >= alertBadCertificate && alert <= alertCertificateUnknown,
		alert == alertUnknownCA, alert == alertAccessDenied, alert == alertCertificateRequired:
		return ErrRefused
	}
	return fmt.Errorf("%w: %v", ErrLost, t)
}

// A peerError is what this side holds against the other's certificate. It goes through
// the TLS library and comes out again, so it is a type of its own.
type peerError struct {
	kind error // ErrUntrusted or ErrWrongPeer
	why  string
}

func (e *peerError) Error() string { return e.kind.Error() + ": " + e.why }
func (e *peerError) Unwrap() error { return e.kind }
