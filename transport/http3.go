package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// ServeHTTP3 begins to answer HTTP/3 requests with h and returns; Close ends it. [PeerFrom]
// tells h who is asking, and the request's context ends with the connection. Connections
// that come earlier wait. It returns an error when KindHTTP3 is not in Config.Kinds, and
// the second time.
func (e *Endpoint) ServeHTTP3(h http.Handler) error {
	if e.inboxes[KindHTTP3] == nil {
		return errors.New("transport: ServeHTTP3: h3 is not in Config.Kinds")
	}
	if !e.webSet.CompareAndSwap(false, true) {
		return errors.New("transport: ServeHTTP3: a handler is already set")
	}
	e.web = &http3.Server{Handler: h, Logger: e.log, ConnContext: func(ctx context.Context, conn *quic.Conn) context.Context {
		e.mu.Lock()
		defer e.mu.Unlock()
		return context.WithValue(ctx, peerKey{}, e.accepted[conn])
	}}
	close(e.webUp)
	return nil
}

func (e *Endpoint) serveHTTP3(conn *quic.Conn) {
	select {
	case <-e.webUp:
	case <-conn.Context().Done():
		return
	}
	if err := e.web.ServeQUICConn(conn); err != nil {
		e.log.Debug("http/3 connection ended", "addr", conn.RemoteAddr(), "cause", plain(err))
	}
}

// PeerFrom returns who sent the HTTP/3 request with this context.
func PeerFrom(ctx context.Context) (Peer, bool) {
	peer, ok := ctx.Value(peerKey{}).(Peer)
	return peer, ok
}

type peerKey struct{}

// HTTPClient speaks HTTP/3 to one peer, whatever host its https URLs name ("https://mesh/"
// will do). Connections are cached and checked like those of [Endpoint.Dial], and ended by
// Forget; the client itself costs nothing. It follows no redirects and adds no compression.
//
// A request on a connection whose peer vanished fails after MaxIdleTimeout or at its own
// deadline. Only a request without body and effect (GET, HEAD) is sent a second time, when
// the cached connection turned out to be dead.
func (e *Endpoint) HTTPClient(to Peer) *http.Client {
	return &http.Client{
		Transport:     &roundTripper{e, to},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type roundTripper struct {
	e  *Endpoint
	to Peer
}

func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	harmless := (req.Method == "" || req.Method == http.MethodGet || req.Method == http.MethodHead) &&
		(req.Body == nil || req.Body == http.NoBody)
	for retried := false; ; retried = true {
		s, err := rt.e.session(req.Context(), KindHTTP3, rt.to)
		if err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, &DialError{rt.to, KindHTTP3, err}
		}
		resp, err := s.web.RoundTrip(req)
		if err == nil {
			resp.Body = &heldBody{ReadCloser: resp.Body, release: sync.OnceFunc(func() { rt.e.release(s) })}
			return resp, nil
		}
		rt.e.release(s)
		err = plain(err)
		if errors.Is(err, ErrLost) {
			rt.e.drop(s)
		}
		if retried || !harmless || !errors.Is(err, ErrLost) || req.Context().Err() != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
	}
}

// A heldBody keeps its connection from being closed as unused until it is read.
type heldBody struct {
	io.ReadCloser
	release func()
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	return n, plain(err)
}

func (b *heldBody) Close() error {
	b.release()
	return plain(b.ReadCloser.Close())
}

// webClient speaks HTTP/3 on a connection that was just made.
func (e *Endpoint) webClient(conn *quic.Conn) *http3.RawClientConn {
	web := (&http3.Transport{DisableCompression: true, Logger: e.log}).NewRawClientConn(conn)
	e.start(func() {
		var streams sync.WaitGroup
		defer streams.Wait()
		for {
			stream, err := conn.AcceptUniStream(conn.Context())
			if err != nil {
				return
			}
			streams.Go(func() { web.HandleUnidirectionalStream(stream) })
		}
	})
	return web
}
