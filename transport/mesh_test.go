package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"seedmesh/transport/memnet"
)

const (
	kindRaft Kind = "seedmesh-raft/1"
	kindRPC  Kind = "seedmesh-rpc/1"
)

// A mesh is a cluster for one test: a network and an authority.
type mesh struct {
	t   *testing.T
	net *memnet.Network
	ca  *Authority
}

// bubble runs f in fake time; goroutines left over make the test panic.
func bubble(t *testing.T, f func(t *testing.T, m *mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, &mesh{t, memnet.New(1), authority(t, "orchard")})
	})
}

func authority(t *testing.T, cluster string) *Authority {
	t.Helper()
	ca, err := NewAuthority(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// nodeID gives small numbers the form of ids.
func nodeID(n int) string { return fmt.Sprintf("%032x", n) }

// addr gives a node's usual address.
func addr(n int) string { return fmt.Sprintf("10.0.0.%d:7700", n) }

func peer(n int) Peer { return Peer{ID: nodeID(n), Addr: addr(n)} }

func identity(t *testing.T, ca *Authority, id string, validity time.Duration) *Identity {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := CertificateRequest(key, "a name")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, id, RoleVoter, validity)
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIdentity(cert, key, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// open starts node n; the test's end closes it.
func (m *mesh) open(n int, change ...func(*Config)) *Endpoint {
	m.t.Helper()
	cfg := Config{Kinds: []Kind{kindRaft, kindRPC, KindHTTP3}}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.Identity == nil {
		cfg.Identity = identity(m.t, m.ca, nodeID(n), time.Hour)
	}
	if cfg.Conn == nil {
		cfg.Conn = m.listen(addr(n))
	}
	e, err := Open(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { e.Close() })
	return e
}

func (m *mesh) listen(addr string) net.PacketConn {
	m.t.Helper()
	conn, err := m.net.Listen(addr)
	if err != nil {
		m.t.Fatal(err)
	}
	return conn
}

// crash takes a node off the network as a power cut does, and lets its process end.
func (m *mesh) crash(n int, e *Endpoint) {
	m.net.Isolate(addr(n))
	e.Close()
	m.net.HealAll()
}

// echo answers every stream of a kind with what it reads, until the listener closes.
func echo(e *Endpoint, kind Kind) net.Listener {
	l := e.Listen(kind)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.Copy(c, c); err == nil {
					c.(*Conn).CloseWrite()
				}
			}()
		}
	}()
	return l
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, e *Endpoint, kind Kind, to Peer) *Conn {
	t.Helper()
	c, err := e.Dial(within(t, 5*time.Second), kind, to)
	if err != nil {
		t.Fatalf("Dial(%s, %s) = %v", kind, to, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends text to an echoing peer and returns what comes back.
func ask(c *Conn, text string) (string, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	b := make([]byte, len(text))
	_, err := io.ReadFull(c, b)
	return string(b), err
}

func mustEcho(t *testing.T, c *Conn) {
	t.Helper()
	if got, err := ask(c, "apples"); err != nil || got != "apples" {
		t.Fatalf("echo over %s = %q, %v; want %q", c.Peer(), got, err, "apples")
	}
}

func wantErr(t *testing.T, call string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s = %v, want %v", call, got, want)
	}
}

func TestMain(m *testing.M) {
	log.SetOutput(noLog{}) // quic-go warns here; nothing may
	os.Exit(m.Run())
}

type noLog struct{}

func (noLog) Write(b []byte) (int, error) { panic("unwanted log line: " + string(b)) }
