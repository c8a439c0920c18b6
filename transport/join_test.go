package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

func (m *mesh) join(t *testing.T, from string, digest [32]byte, request []byte) ([]byte, error) {
	t.Helper()
	conn := m.listen(from)
	defer conn.Close()
	return Join(within(t, 30*time.Second), conn, addr(1), digest, request)
}

const joiner = "10.0.8.1:0"

func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		e := m.open(1)
		e.ServeJoin(func(ctx context.Context, from net.Addr, request []byte) ([]byte, error) {
			if !strings.HasPrefix(from.String(), "10.0.8.1:") {
				t.Errorf("from = %v, want the joiner", from)
			}
			return bytes.ToUpper(request), nil
		})
		for name, request := range map[string][]byte{
			"short":   []byte("let me in"),
			"largest": bytes.Repeat([]byte("x"), MaxJoinRequestBytes),
			"empty":   {},
		} {
			reply, err := m.join(t, joiner, m.ca.Digest(), request)
			if !bytes.Equal(reply, bytes.ToUpper(request)) || err != nil {
				t.Errorf("%s: Join = %d bytes, %v", name, len(reply), err)
			}
		}
		if s := e.Stats(); s.Joins != 3 || s.JoinsRefused != 0 {
			t.Errorf("Stats = %+v, want 3 joins", s)
		}
	})
}

// The node behind the address may be anybody's: it must prove its cluster before the
// secret leaves. Here it would tell if one byte of a request had reached it.
func TestJoinKeepsTheSecret(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		foreign := authority(t, "orchard")
		strangers := m.listen(addr(1))
		transport := &quic.Transport{Conn: &socket{PacketConn: strangers}}
		defer func() { transport.Close(); strangers.Close() }()
		var certificate atomic.Pointer[tls.Certificate]
		l, err := transport.Listen(&tls.Config{
			NextProtos:     []string{string(kindJoin)},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate.Load(), nil },
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var streams atomic.Int32
		go func() {
			for {
				conn, err := l.Accept(t.Context())
				if err != nil {
					return
				}
				go func() {
					for {
						s, err := conn.AcceptStream(t.Context())
						if err != nil {
							return
						}
						streams.Add(1)
						WriteFrame(s, frameJoinReply, []byte("welcome"))
						s.Close()
					}
				}()
			}
		}()
		own, theirs := identity(t, m.ca, nodeID(1), time.Hour), identity(t, foreign, nodeID(1), time.Hour)
		forged := theirs.certificate(false)
		forged.Certificate = append(forged.Certificate, m.ca.cert.Raw) // shows our CA, not signed by it
		for name, tt := range map[string]struct {
			cert tls.Certificate
			want error
		}{
			"another cluster":           {theirs.certificate(true), ErrUntrusted},
			"another's, with our CA":    {forged, ErrUntrusted},
			"ours, but no CA in chain":  {own.certificate(false), ErrUntrusted},
			"ours (the test can fail!)": {own.certificate(true), nil},
		} {
			certificate.Store(&tt.cert)
			before := streams.Load()
			reply, err := m.join(t, joiner, m.ca.Digest(), []byte("the secret"))
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: Join = %q, %v; want %v", name, reply, err, tt.want)
			}
			time.Sleep(time.Second)
			if saw := streams.Load() - before; (saw != 0) != (tt.want == nil) {
				t.Errorf("%s: the server saw %d requests", name, saw)
			}
		}
		ours := own.certificate(true)
		certificate.Store(&ours)
		before := streams.Load()
		_, err = m.join(t, joiner, foreign.Digest(), []byte("the secret"))
		wantErr(t, "Join of our node with another's digest", err, ErrUntrusted)
		if streams.Load() != before {
			t.Error("the server saw a request in spite of the wrong digest")
		}
		l.Close()
	})
}

func TestJoinRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		e := m.open(1)
		_, err := m.join(t, joiner, m.ca.Digest(), []byte("x"))
		wantErr(t, "Join before ServeJoin", err, ErrKind)
		e.ServeJoin(func(ctx context.Context, from net.Addr, request []byte) ([]byte, error) {
			switch string(request) {
			case "spent":
				return nil, errors.New("the token is spent")
			case "long":
				return nil, errors.New(strings.Repeat("no ", 100_000))
			case "huge":
				return make([]byte, MaxJoinReplyBytes+1), nil
			case "full":
				return make([]byte, MaxJoinReplyBytes), nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		for request, want := range map[string]string{"spent": "the token is spent", "long": "no no no", "huge": "65537 bytes", "slow": "deadline"} {
			start := time.Now()
			_, err := m.join(t, joiner, m.ca.Digest(), []byte(request))
			refusal, ok := errors.AsType[*JoinError](err)
			if request == "slow" && !ok { // both sides' patience ends together
				wantErr(t, "Join of a slow server", err, ErrUnreachable)
				ok, refusal = true, &JoinError{"deadline"}
			}
			if !ok || !strings.Contains(refusal.Reason, want) || len(refusal.Reason) > joinErrorBytes {
				t.Errorf("Join(%q) = %.100v, want a JoinError with %q", request, err, want)
			}
			if took := time.Since(start); took > joinTimeout {
				t.Errorf("Join(%q) took %v, want at most %v", request, took, joinTimeout)
			}
		}
		if reply, err := m.join(t, joiner, m.ca.Digest(), []byte("full")); len(reply) != MaxJoinReplyBytes || err != nil {
			t.Errorf("Join = %d bytes, %v; want %d", len(reply), err, MaxJoinReplyBytes)
		}
		_, err = m.join(t, joiner, m.ca.Digest(), make([]byte, MaxJoinRequestBytes+1))
		if _, ok := errors.AsType[*FrameTooLargeError](err); !ok {
			t.Errorf("Join with too large a request = %v, want a FrameTooLargeError", err)
		}
		hasty := m.listen(joiner)
		defer hasty.Close()
		start := time.Now()
		_, err = Join(within(t, 500*time.Millisecond), hasty, addr(1), m.ca.Digest(), []byte("slow"))
		wantErr(t, "Join with a deadline", err, context.DeadlineExceeded)
		if took := time.Since(start); took != 500*time.Millisecond {
			t.Errorf("Join took %v, want 500ms", took)
		}
		e.ServeJoin(nil)
		_, err = m.join(t, joiner, m.ca.Digest(), []byte("x"))
		wantErr(t, "Join after ServeJoin(nil)", err, ErrKind)
	})
}

// Whoever does not use Join can send anything on the one connection without a certificate.
func TestJoinersOfBadWill(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		e := m.open(1)
		var handled atomic.Int32
		e.ServeJoin(func(context.Context, net.Addr, []byte) ([]byte, error) { handled.Add(1); return nil, nil })
		knock := func(kinds ...string) *quic.Conn {
			conn := m.listen("10.0.9.9:0")
			transport := &quic.Transport{Conn: &socket{PacketConn: conn}}
			t.Cleanup(func() { transport.Close(); conn.Close() })
			q, err := transport.Dial(within(t, 5*time.Second), e.Addr(), &tls.Config{NextProtos: kinds, InsecureSkipVerify: true, ServerName: "x"}, &quic.Config{KeepAlivePeriod: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		var tooLarge, garbled bytes.Buffer
		WriteFrame(&tooLarge, frameJoinRequest, make([]byte, MaxJoinRequestBytes+1))
		WriteFrame(&garbled, frameJoinReply, []byte("x"))
		for name, tt := range map[string]struct {
			wire []byte
			want string
		}{
			"too large":  {tooLarge.Bytes(), "8193"},
			"wrong kind": {garbled.Bytes(), "could not be read"},
			"cut":        {tooLarge.Bytes()[:5], "could not be read"},
		} {
			q := knock(string(kindJoin))
			s, err := q.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			s.Write(tt.wire)
			s.Close()
			kind, reply, err := ReadFrame(s, MaxJoinReplyBytes)
			if kind != frameJoinError || !strings.Contains(string(reply), tt.want) || err != nil {
				t.Errorf("%s: answer = %d %q, %v; want an error with %q", name, kind, reply, err, tt.want)
			}
		}
		greedy := knock(string(kindJoin), string(kindRaft)) // only pure joiners need no certificate
		<-greedy.Context().Done()
		wantErr(t, "an offer of more than to join", plain(context.Cause(greedy.Context())), ErrRefused)
		silent := knock(string(kindJoin)) // opens nothing and is thrown out
		start := time.Now()
		<-silent.Context().Done()
		if took := time.Since(start); took > joinTimeout+time.Second {
			t.Errorf("a silent joiner was kept for %v, want %v", took, joinTimeout)
		}
		if handled.Load() != 0 || e.Stats().JoinsRefused != 3 || e.Stats().Accepted > 3 {
			t.Errorf("handled = %d, Stats = %+v; want nothing handled", handled.Load(), e.Stats())
		}
	})
}

func TestJoinRateLimit(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		e := m.open(1)
		e.ServeJoin(func(context.Context, net.Addr, []byte) ([]byte, error) { return []byte("ok"), nil })
		attempt := func(from string) error { _, err := m.join(t, from, m.ca.Digest(), []byte("x")); return err }
		start := time.Now()
		for i := range int(joinBurst) {
			if err := attempt(joiner); err != nil {
				t.Fatalf("attempt %d = %v", i, err)
			}
		}
		if time.Since(start) > time.Second {
			t.Fatalf("the burst took %v of fake time; it proves nothing", time.Since(start))
		}
		if _, ok := errors.AsType[*JoinError](attempt(joiner)); !ok {
			t.Error("an attempt beyond the burst succeeds")
		}
		if err := attempt("10.0.8.2:0"); err != nil {
			t.Errorf("attempt from another address = %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := attempt(joiner); err != nil {
			t.Errorf("attempt two seconds later = %v", err)
		}
		if got := e.Stats().JoinsRefused; got != 1 {
			t.Errorf("JoinsRefused = %d, want 1", got)
		}
	})
}
