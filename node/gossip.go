package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"seedmesh/transport"
)

// Settings of the gossip that are not worth a key.
const (
	gossipPacketBytes = 1200            // stays below any path's MTU: the socket does not fragment
	gossipTimeout     = 2 * time.Second // of a stream between members
	rejoinEvery       = 5 * time.Second // how often missing members are looked for
	leaveTimeout      = time.Second     // for telling the others of a planned stop
	probeTimeout      = 200 * time.Millisecond
	maxJoinSeeds      = 8 // addresses that one attempt to find the others tries
)

// gossip finds the members and says which of them seem to live. Its verdict is a
// hint: work is taken from nobody because of gossip alone.
type gossip struct {
	list   *memberlist.Memberlist
	trans  *gossipTransport
	log    *slog.Logger
	change func(id, addr string, alive bool) // called for every news
}

// gossipMeta is what a member says about itself, at most 512 bytes.
type gossipMeta struct {
	Addr string // where its port is reached
}

func startGossip(ep *transport.Endpoint, id *identity, c Config, advertise string, change func(id, addr string, alive bool)) (*gossip, error) {
	g := &gossip{log: c.Logger, change: change}
	g.trans = newGossipTransport(ep)
	m := memberlist.DefaultLANConfig()
	m.Name = id.Node
	m.Transport = g.trans
	m.SecretKey = id.Gossip
	m.EnableCompression = false
	m.UDPBufferSize = gossipPacketBytes
	m.ProbeInterval, m.ProbeTimeout = time.Duration(c.Gossip.Probe), min(probeTimeout, time.Duration(c.Gossip.Probe)/2)
	m.GossipInterval = m.ProbeInterval
	m.SuspicionMult = c.Gossip.Suspicion
	m.DeadNodeReclaimTime = time.Second
	m.TCPTimeout = gossipTimeout
	m.Events, m.Delegate = g, gossipSelf{advertise}
	m.Logger = log.New(gossipLog{c.Logger}, "", 0)
	host, port, err := splitAddr(advertise)
	if err != nil {
		return nil, err
	}
	m.AdvertiseAddr, m.AdvertisePort = host, port
	m.BindAddr, m.BindPort = host, port
	g.list, err = memberlist.Create(m)
	if err != nil {
		g.trans.stop()
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return g, nil
}

// splitAddr resolves a host:port to an IP, which is what gossip announces.
func splitAddr(addr string) (string, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port of %q: %w", addr, err)
	}
	if net.ParseIP(host) != nil {
		return host, int(n), nil
	}
	ip, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", 0, fmt.Errorf("the address %q cannot be resolved: %w", addr, err)
	}
	return ip.String(), int(n), nil
}

// find tells members at known addresses of this node.
func (g *gossip) find(book []address) {
	var seeds []string
	for _, a := range book {
		if !g.alive(a.Node) && len(seeds) < maxJoinSeeds {
			seeds = append(seeds, a.Node+"/"+a.Addr)
		}
	}
	if len(seeds) == 0 {
		return
	}
	if n, err := g.list.Join(seeds); err != nil {
		g.log.Debug("some members are not reachable", "reached", n, "of", len(seeds), "err", err)
	}
}

// alive tells whether a member is in the list and not known to be dead.
func (g *gossip) alive(id string) bool { return g.state(id) != "dead" }

// state is alive or dead. Whom the library suspects it does not tell.
func (g *gossip) state(id string) string {
	for _, n := range g.list.Members() {
		if n.Name == id {
			return "alive"
		}
	}
	return "dead"
}

// addr is where gossip last saw a living member.
func (g *gossip) addr(id string) (string, bool) {
	for _, n := range g.list.Members() {
		if n.Name == id {
			return metaAddr(n), true
		}
	}
	return "", false
}

func metaAddr(n *memberlist.Node) string {
	var m gossipMeta
	if json.Unmarshal(n.Meta, &m) == nil && m.Addr != "" {
		return m.Addr
	}
	return n.Address()
}

func (g *gossip) close() error {
	_ = g.list.Leave(leaveTimeout) // its error is that it told the others less often than it wanted, or that none answers
	err := g.list.Shutdown()
	g.trans.stop()
	return err
}

// NotifyJoin, NotifyUpdate and NotifyLeave are memberlist's news.
func (g *gossip) NotifyJoin(n *memberlist.Node) { g.change(n.Name, metaAddr(n), true) }

// NotifyUpdate reports a changed address.
func (g *gossip) NotifyUpdate(n *memberlist.Node) { g.change(n.Name, metaAddr(n), true) }

// NotifyLeave reports a member that left or died.
func (g *gossip) NotifyLeave(n *memberlist.Node) { g.change(n.Name, metaAddr(n), false) }

// gossipSelf is what this node says about itself.
type gossipSelf struct{ addr string }

func (s gossipSelf) NodeMeta(int) []byte {
	b, _ := json.Marshal(gossipMeta{s.addr}) // a struct of strings always encodes
	return b
}
func (gossipSelf) NotifyMsg([]byte)                {}
func (gossipSelf) GetBroadcasts(int, int) [][]byte { return nil }
func (gossipSelf) LocalState(bool) []byte          { return nil }
func (gossipSelf) MergeRemoteState([]byte, bool)   {}

// gossipTransport lets memberlist speak over the mesh's one socket.
type gossipTransport struct {
	ep      *transport.Endpoint
	packets chan *memberlist.Packet
	streams chan net.Conn
	lis     net.Listener
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

func newGossipTransport(ep *transport.Endpoint) *gossipTransport {
	t := &gossipTransport{
		ep: ep, packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn), lis: ep.Listen(kindGossip),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Add(2)
	go func() { defer t.wg.Done(); t.readPackets() }()
	go func() { defer t.wg.Done(); t.acceptStreams() }()
	return t
}

func (t *gossipTransport) readPackets() {
	for {
		select {
		case <-t.ctx.Done():
			return
		case p, open := <-t.ep.Packets():
			if !open {
				return
			}
			select {
			case t.packets <- &memberlist.Packet{Buf: p.Data, From: p.From, Timestamp: p.At}:
			case <-t.ctx.Done():
				return
			}
		}
	}
}

func (t *gossipTransport) acceptStreams() {
	for {
		conn, err := t.lis.Accept()
		if err != nil {
			return
		}
		select {
		case t.streams <- conn:
		case <-t.ctx.Done():
			_ = conn.Close()
			return
		}
	}
}

func (t *gossipTransport) stop() {
	t.cancel()
	_ = t.lis.Close()
	t.wg.Wait()
}

func (t *gossipTransport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return net.ParseIP(ip), port, nil
}

func (t *gossipTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return time.Now(), t.ep.WritePacket(b, addr)
}

func (t *gossipTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *gossipTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *gossipTransport) StreamCh() <-chan net.Conn           { return t.streams }
func (t *gossipTransport) Shutdown() error                     { t.cancel(); return nil }

func (t *gossipTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *gossipTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	return t.ep.Dial(ctx, kindGossip, transport.Peer{ID: a.Name, Addr: a.Addr})
}

// gossipLog turns memberlist's lines into debug lines of ours.
type gossipLog struct{ log *slog.Logger }

func (l gossipLog) Write(b []byte) (int, error) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("gossip", "line", strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

var _ io.Writer = gossipLog{}
