// Package memnet is a datagram network in memory, for tests: latency, and faults that can be
// put on any path and lifted again, each with an account of what it did.
//
// It works in real time and, having no goroutine and no socket, inside a testing/synctest
// bubble. Like UDP it loses what nobody receives without a word. Loss and jitter come from
// one seed, but which packet meets them depends on the order of the senders, so runs are
// alike and not equal.
//
// Read memnet.go for the network and its conns, fault.go for what befalls packets.
package memnet

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultLatency is that of a link nobody has set, one way.
	DefaultLatency = 200 * time.Microsecond
	// QueuePackets is how many packets one conn holds, on the way and arrived; more are lost.
	QueuePackets = 8192
	// MaxPacketBytes is the largest packet that passes, as on Ethernet without fragments.
	MaxPacketBytes = 1472

	firstFreePort = 40_000 // for Listen with port 0
)

// A Link is how packets travel where no fault befalls them.
type Link struct {
	Latency time.Duration // one way
	Jitter  time.Duration // added, evenly from 0 up to this; packets may overtake each other
	Loss    float64       // share of the packets lost, 0 to 1
}

// A Network joins the conns of one test. Its methods are safe for concurrent use. They
// panic on addresses that are not IP:PORT, as these come from the test itself.
type Network struct {
	mu     sync.Mutex
	rng    *rand.Rand
	conns  map[netip.AddrPort]*conn
	usual  Link
	faults []*Injected
	order  uint64 // of the last packet that was not lost
	stats  Stats
}

type direction struct{ from, to netip.AddrPort }

// Stats counts packets since New.
type Stats struct {
	Sent, Delivered uint64
	Lost            uint64 // by Loss, faults, size, full queues and addresses nobody listens on
}

// New makes an empty network whose losses are drawn from seed.
func New(seed uint64) *Network {
	return &Network{
		rng:   rand.New(rand.NewPCG(seed, 0)),
		conns: map[netip.AddrPort]*conn{},
		usual: Link{Latency: DefaultLatency},
	}
}

// Listen opens a conn at IP:PORT; port 0 picks a free one. An address can be used again
// after Close, as by a restarted process. The error says that it is taken.
func (n *Network) Listen(addr string) (net.PacketConn, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("memnet: listen: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for port := uint16(firstFreePort); at.Port() == 0; port++ {
		if free := netip.AddrPortFrom(at.Addr(), port); n.conns[free] == nil {
			at = free
		}
	}
	if n.conns[at] != nil {
		return nil, fmt.Errorf("memnet: listen: %s is in use", at)
	}
	c := &conn{net: n, at: at, newest: map[netip.AddrPort]uint64{}, changed: make(chan struct{})}
	n.conns[at] = c
	return c, nil
}

// SetLink sets how packets travel from now on.
func (n *Network) SetLink(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.usual = l
}

// Stats returns the counts so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// send decides a packet's fate and hands what is left of it to the receiving conn.
func (n *Network) send(d direction, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	to := n.conns[d.to]
	f := n.fate(d)
	if to == nil || f.lost || len(data) > MaxPacketBytes {
		n.stats.Lost++
		return
	}
	for i := range f.copies {
		n.order++
		p := packet{
			due: time.Now().Add(f.delay()), order: n.order, from: d.from, jittered: f.jittered, data: slices.Clone(data),
		}
		if !to.push(p) {
			n.stats.Lost++
			return
		}
		if i == 0 {
			n.stats.Delivered++
		}
	}
}

func (n *Network) remove(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns[c.at] == c {
		delete(n.conns, c.at)
	}
}

type packet struct {
	due      time.Time
	order    uint64 // packets due together keep the order they were sent in
	from     netip.AddrPort
	jittered []*Injected // faults that may have let later packets overtake this one
	data     []byte
}

// A conn holds its packets until they are due and a ReadFrom asks: no goroutine moves them.
type conn struct {
	net *Network
	at  netip.AddrPort

	mu       sync.Mutex // guards the fields below; Network.mu comes first where both are held
	queue    packets
	deadline time.Time
	closed   bool
	newest   map[netip.AddrPort]uint64 // order of the latest packet read, by sender
	changed  chan struct{}             // closed and made anew when a waiting reader must look again
	waiting  int
}

func (c *conn) push(p packet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.queue) >= QueuePackets {
		return false
	}
	heap.Push(&c.queue, p)
	if c.queue[0].order == p.order {
		c.wake()
	}
	return true
}

func (c *conn) wake() {
	if c.waiting > 0 {
		close(c.changed)
		c.changed, c.waiting = make(chan struct{}), 0
	}
}

func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		now := time.Now()
		var wait time.Duration // 0: until something changes
		switch {
		case c.closed:
			return 0, nil, c.fail("read", net.ErrClosed)
		case !c.deadline.IsZero() && !now.Before(c.deadline):
			return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
		case len(c.queue) > 0 && !now.Before(c.queue[0].due):
			p := heap.Pop(&c.queue).(packet)
			c.arrived(p)
			return copy(b, p.data), net.UDPAddrFromAddrPort(p.from), nil
		case len(c.queue) > 0:
			wait = c.queue[0].due.Sub(now)
		}
		if left := c.deadline.Sub(now); !c.deadline.IsZero() && (wait == 0 || left < wait) {
			wait = left
		}
		c.await(wait)
	}
}

// arrived notes whether later packets of the same sender came before this one.
func (c *conn) arrived(p packet) {
	if p.order > c.newest[p.from] {
		c.newest[p.from] = p.order
		return
	}
	for _, f := range p.jittered {
		f.overtaken.Add(1)
	}
}

// await gives the lock away until something changes, or for at most wait if that is not 0.
func (c *conn) await(wait time.Duration) {
	changed := c.changed
	c.waiting++
	c.mu.Unlock()
	defer c.mu.Lock()
	if wait == 0 {
		<-changed
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func (c *conn) WriteTo(b []byte, addr net.Addr) (int, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, c.fail("write", net.ErrClosed)
	}
	to, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return 0, c.fail("write", err)
	}
	c.net.send(direction{c.at, to}, b)
	return len(b), nil
}

func (c *conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: c.LocalAddr(), Err: err}
}

func (c *conn) Close() error {
	c.net.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.closed, c.queue = true, nil
	c.wake()
	return nil
}

func (c *conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.at) }

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.wake()
	return nil
}

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes never wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// packets is a heap: the earliest due first, then the earliest sent.
type packets []packet

func (q packets) Len() int { return len(q) }
func (q packets) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].order < q[j].order
}
func (q packets) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *packets) Push(p any)   { *q = append(*q, p.(packet)) }
func (q *packets) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = packet{}
	*q = old[:len(old)-1]
	return last
}
