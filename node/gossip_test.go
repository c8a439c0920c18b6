package node

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"seedmesh/transport"
	"seedmesh/transport/memnet"
)

// gossiper is a member of a cluster that gossips with a key, on an endpoint of its own.
type gossiper struct {
	*gossip
	id, addr string
}

func newGossiper(t *testing.T, network *memnet.Network, ca *transport.Authority, n int, key []byte) *gossiper {
	t.Helper()
	g := &gossiper{id: transport.NewID(), addr: fmt.Sprintf("10.0.0.%d:7946", n)}
	private, err := transport.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := transport.CertificateRequest(private, g.id)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, g.id, transport.RoleVoter, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := transport.NewIdentity(cert, private, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := network.Listen(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	ep, err := transport.Open(transport.Config{Conn: conn, Identity: credentials, Kinds: []transport.Kind{kindGossip}})
	if err != nil {
		t.Fatal(err)
	}
	g.gossip, err = startGossip(ep, &identity{Node: g.id, Gossip: key}, DefaultConfig(), g.addr, func(string, string, bool) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.close(); err != nil {
			t.Logf("gossip of %s: %v", g.addr, err)
		}
		time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
		if err := ep.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// TestGossipNeedsTheKey lets a peer gossip with a valid certificate, but without
// the mesh's key or with another: by streams and by packets it is refused.
func TestGossipNeedsTheKey(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	for name, tt := range map[string]struct {
		key  []byte
		heed bool
	}{
		"the mesh's key": {key, true},
		"another key":    {bytes.Repeat([]byte{2}, 32), false},
		"no key":         {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, err := transport.NewAuthority("orchard")
				if err != nil {
					t.Fatal(err)
				}
				network := memnet.New(1)
				member := newGossiper(t, network, ca, 1, key)
				peer := newGossiper(t, network, ca, 2, tt.key)
				at, err := net.ResolveUDPAddr("udp", member.addr)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := peer.list.Ping(member.id, at); (err == nil) != tt.heed {
					t.Errorf("a packet of the peer: %v, want an answer: %v", err, tt.heed)
				}
				peer.find([]address{{Node: member.id, Addr: member.addr}})
				if got := member.alive(peer.id); got != tt.heed {
					t.Errorf("the member takes the peer for one of its mesh: %v, want %v", got, tt.heed)
				}
				if got := peer.alive(member.id); got != tt.heed {
					t.Errorf("the peer was told who is in the mesh: %v, want %v", got, tt.heed)
				}
			})
		})
	}
}
