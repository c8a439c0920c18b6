package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// knock connects with any TLS settings and returns the connection once the server has
// greeted it.
func (m *mesh) knock(t *testing.T, addr string, conf *tls.Config) (*quic.Conn, error) {
	t.Helper()
	conn := m.listen("10.0.9.9:0")
	transport := &quic.Transport{Conn: &socket{PacketConn: conn}}
	t.Cleanup(func() { transport.Close(); conn.Close() })
	ctx := within(t, 5*time.Second)
	to, err := resolve(ctx, addr, conn.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	conf.ServerName, conf.InsecureSkipVerify = "seedmesh", true
	q, err := transport.Dial(ctx, to, conf, nil)
	if err != nil {
		return nil, err
	}
	return q, awaitHello(ctx, q)
}

func TestOnlyMembersAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		foreign := authority(t, "orchard")
		short := identity(t, m.ca, nodeID(4), time.Hour)
		later := identity(t, m.ca, nodeID(5), 100*time.Hour)
		e := m.open(1, func(c *Config) { c.Identity = identity(t, m.ca, nodeID(1), 100*time.Hour) })
		var served atomic.Int32
		for _, kind := range []Kind{kindRaft, kindRPC} {
			l := e.Listen(kind)
			go func() {
				for {
					if _, err := l.Accept(); err != nil {
						return
					}
					served.Add(1)
				}
			}()
		}
		time.Sleep(2 * time.Hour) // short is expired now
		for name, tt := range map[string]struct {
			certs []tls.Certificate
			ok    bool
		}{
			"no certificate":      {nil, false},
			"another cluster's":   {[]tls.Certificate{identity(t, foreign, nodeID(2), time.Hour).certificate(true)}, false},
			"expired":             {[]tls.Certificate{short.certificate(true)}, false},
			"the CA's own":        {[]tls.Certificate{{Certificate: [][]byte{m.ca.cert.Raw}, PrivateKey: m.ca.key}}, false},
			"a member's":          {[]tls.Certificate{later.certificate(false)}, true},
			"a member's, with CA": {[]tls.Certificate{later.certificate(true)}, true},
		} {
			for _, alpn := range [][]string{
				{string(kindRaft)}, {string(kindRPC)}, {string(kindPing)}, {string(KindHTTP3)},
				{string(kindJoin), string(kindRaft)}, {string(kindJoin), string(kindJoin)},
			} {
				if alpn[len(alpn)-1] == string(kindJoin) && tt.ok {
					continue // nobody serves joins here, members included
				}
				certs := tt.certs
				q, err := m.knock(t, addr(1), &tls.Config{NextProtos: alpn, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(certs) == 0 {
						return &tls.Certificate{}, nil
					}
					return &certs[0], nil // even if the server does not want it
				}})
				if (err == nil) != tt.ok {
					t.Errorf("%s, ALPN %q: answered = %v (%v), want %v", name, alpn, err == nil, err, tt.ok)
				}
				if q != nil && !tt.ok { // a stream that is opened nevertheless must reach nobody
					if s, err := q.OpenStream(); err == nil {
						s.Write([]byte{opening, 'x'})
					}
				}
			}
		}
		if served.Load() != 0 {
			t.Errorf("%d streams of strangers were accepted, want 0", served.Load())
		}
	})
}

func TestDialJudgesBothSides(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		foreign := authority(t, "orchard")
		long := 100 * time.Hour
		server := m.open(1, func(c *Config) { c.Identity = identity(t, m.ca, nodeID(1), long) })
		echo(server, kindRaft)
		as := func(id *Identity) func(*Config) { return func(c *Config) { c.Identity = id } }
		member := m.open(2, as(identity(t, m.ca, nodeID(2), long)))
		stranger := m.open(3, as(identity(t, foreign, nodeID(3), long)))
		expired := m.open(4) // one hour
		time.Sleep(2 * time.Hour)
		for name, tt := range map[string]struct {
			from *Endpoint
			kind Kind
			to   Peer
			want error
		}{
			"member to member":            {member, kindRaft, peer(1), nil},
			"member to whoever is there":  {member, kindRaft, Peer{Addr: addr(1)}, nil},
			"right CA, wrong id":          {member, kindRaft, Peer{ID: nodeID(7), Addr: addr(1)}, ErrWrongPeer},
			"unknown kind":                {member, "seedmesh-tea/1", peer(1), ErrKind},
			"reserved kind":               {member, kindJoin, peer(1), ErrKind},
			"foreign server, any id":      {member, kindRaft, Peer{Addr: addr(3)}, ErrUntrusted},
			"foreign server":              {member, kindRaft, peer(3), ErrUntrusted},
			"expired server":              {member, kindRaft, peer(4), ErrUntrusted},
			"nobody there":                {member, kindRaft, peer(5), ErrUnreachable},
			"expired client":              {expired, kindRaft, peer(1), ErrRefused},
			"foreign client":              {stranger, kindRaft, peer(1), ErrUntrusted}, // it judges first
			"oneself":                     {member, kindRaft, peer(2), nil},
			"a node of no such port name": {member, kindRaft, Peer{Addr: "10.0.0.1:http"}, errAny},
		} {
			c, err := tt.from.Dial(within(t, 10*time.Second), tt.kind, tt.to)
			if err == nil {
				c.Close()
			}
			if !matches(err, tt.want) {
				t.Errorf("%s: Dial = %v, want %v", name, err, tt.want)
			}
			if _, ok := errors.AsType[*DialError](err); err != nil && !ok {
				t.Errorf("%s: Dial gives a %T, want a *DialError", name, err)
			}
			if errors.Is(tt.want, ErrKind) || errors.Is(tt.want, errAny) {
				continue // a ping has no kind
			}
			if err := tt.from.Ping(within(t, 10*time.Second), tt.to); !matches(err, tt.want) {
				t.Errorf("%s: Ping = %v, want %v", name, err, tt.want)
			}
		}
		if got := server.Stats().PeersRefused; got == 0 {
			t.Error("the server counts no refused peer")
		}
	})
}

var errAny = errors.New("any error")

func matches(err, want error) bool {
	return errors.Is(err, want) || errors.Is(want, errAny) && err != nil
}

// Trap 10: a client's handshake ends well before the server has judged its certificate. A
// stranger that trusts everybody shows that our own side of Dial would not notice.
func TestDialWaitsForTheServersJudgement(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		server := m.open(1, func(c *Config) { c.Refuse = func(id string) bool { return id == nodeID(2) } })
		echo(server, kindRaft)
		client := m.open(2)
		for range 2 { // a refusal must not be cached as a connection
			_, err := client.Dial(within(t, 5*time.Second), kindRaft, peer(1))
			wantErr(t, "Dial of a server that refuses us", err, ErrRefused)
		}
		wantErr(t, "Ping", client.Ping(within(t, 5*time.Second), peer(1)), ErrRefused)
		if s := client.Stats(); s.Connections != 0 || s.DialFailures != 3 {
			t.Errorf("Stats = %+v, want no connection and 3 failures", s)
		}
	})
}

func TestRevocation(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		var revoked atomic.Bool
		refuse := func(c *Config) { c.Refuse = func(id string) bool { return revoked.Load() && id == nodeID(2) } }
		a, b := m.open(1, refuse), m.open(2)
		echo(a, kindRaft)
		echo(b, kindRaft)
		out, in := dial(t, a, kindRaft, peer(2)), dial(t, b, kindRaft, peer(1))
		mustEcho(t, out)
		mustEcho(t, in)

		revoked.Store(true)
		a.Forget(nodeID(2))
		for name, c := range map[string]*Conn{"dialed": out, "accepted": in} {
			if _, err := ask(c, "x"); !errors.Is(err, ErrLost) {
				t.Errorf("use of the %s connection = %v, want %v", name, err, ErrLost)
			}
		}
		_, err := a.Dial(within(t, 5*time.Second), kindRaft, peer(2))
		wantErr(t, "Dial of the revoked", err, ErrUntrusted)
		_, err = b.Dial(within(t, 5*time.Second), kindRaft, peer(1))
		wantErr(t, "Dial by the revoked", err, ErrRefused)
	})
}

func TestClockOfCertificates(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		late := func(c *Config) { c.Time = func() time.Time { return time.Now().Add(2 * time.Hour) } }
		server, client := m.open(1), m.open(2, late)
		echo(server, kindRaft)
		_, err := client.Dial(context.Background(), kindRaft, peer(1))
		wantErr(t, "Dial two hours later by Config.Time", err, ErrUntrusted)
	})
}

func TestOpenRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		id := identity(t, m.ca, nodeID(1), time.Hour)
		for name, cfg := range map[string]Config{
			"nothing":       {},
			"no identity":   {Conn: m.listen("10.0.0.1:0")},
			"reserved kind": {Conn: m.listen("10.0.0.1:0"), Identity: id, Kinds: []Kind{kindJoin}},
			"kind twice":    {Conn: m.listen("10.0.0.1:0"), Identity: id, Kinds: []Kind{kindRaft, kindRaft}},
			"no conn":       {Identity: id},
		} {
			if e, err := Open(cfg); err == nil {
				t.Errorf("%s: Open = nil, want an error", name)
				e.Close()
			}
			if cfg.Conn != nil && cfg.Conn.Close() == nil {
				t.Errorf("%s: Open left its conn open", name)
			}
		}
	})
}

// A kind may be for some roles alone, whoever dials; the other direction is not judged by it.
func TestRolesOfAKind(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		limit := func(roles ...string) func(*Config) {
			return func(c *Config) { c.Roles = map[Kind][]string{kindRaft: roles} }
		}
		server, open := m.open(1, limit("nobody")), m.open(2, limit(RoleVoter))
		echo(server, kindRaft)
		echo(open, kindRaft)
		client := m.open(3, limit("nobody"))
		_, err := client.Dial(within(t, 5*time.Second), kindRaft, peer(1))
		wantErr(t, "Dial of a kind that is not for our role", err, ErrRefused)
		if err := client.Ping(within(t, 5*time.Second), peer(1)); err != nil {
			t.Errorf("Ping = %v, though only another kind is limited", err)
		}
		if _, err := client.Dial(within(t, 5*time.Second), kindRaft, peer(2)); err != nil {
			t.Errorf("Dial of a kind that is for our role = %v", err)
		}
	})
}
