package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// opening is the first byte of every stream. The dialing side sends it with its first Read
// or Write, so that the other side's Accept returns even if that side is to speak first.
const opening = 0x01

// A Conn is one stream between two nodes, as a [net.Conn]. Deadlines give
// [os.ErrDeadlineExceeded] and leave the stream usable. A Read or Write that fails with
// [ErrLost] says nothing about whether earlier bytes arrived.
type Conn struct {
	e       *Endpoint
	stream  *quic.Stream
	quic    *quic.Conn
	peer    Peer
	session *session // nil for accepted streams

	openMu sync.Mutex // guards opened, and the opening byte's order before all others
	opened bool

	mu      sync.Mutex // guards the fields below
	closed  bool
	ended   bool // our half
	writers int
}

var _ net.Conn = (*Conn)(nil)

// Peer is who is at the other end, by its certificate.
func (c *Conn) Peer() Peer { return c.peer }

// LocalAddr is the address of the endpoint's socket.
func (c *Conn) LocalAddr() net.Addr { return c.quic.LocalAddr() }

// RemoteAddr is the address the peer is reached at now.
func (c *Conn) RemoteAddr() net.Addr { return c.quic.RemoteAddr() }

// open sends the opening byte (dialed) or takes it away (accepted), once. A deadline may
// strike; then the next call tries again.
func (c *Conn) open() error {
	c.openMu.Lock()
	defer c.openMu.Unlock()
	if c.opened {
		return nil
	}
	if c.session != nil {
		n, err := c.stream.Write([]byte{opening})
		c.opened = n == 1
		return err
	}
	var first [1]byte
	n, err := c.stream.Read(first[:])
	switch {
	case n == 1 && first[0] == opening:
		c.opened = true
		return nil
	case n == 1:
		return fmt.Errorf("%w: the stream begins with %#x", ErrKind, first[0])
	}
	return err
}

// Read reads what the peer wrote; [io.EOF] means that it ended its half in order.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.open(); err != nil {
		return 0, c.fail("read", err)
	}
	n, err := c.stream.Read(b)
	return n, c.fail("read", err)
}

// Write returns when b is sent or buffered; it does not mean that the peer has it.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.beginWrite(); err != nil {
		return 0, err
	}
	defer c.endWrite()
	if c.session != nil {
		if err := c.open(); err != nil {
			return 0, c.fail("write", err)
		}
	}
	n, err := c.stream.Write(b)
	return n, c.fail("write", err)
}

func (c *Conn) beginWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.ended {
		return fmt.Errorf("transport: write to %s: %w", c.peer, net.ErrClosed)
	}
	c.writers++
	return nil
}

func (c *Conn) endWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writers--
}

// fail turns an error of the stream into ours. A lost connection need not be taken out of
// the cache here: Dial notices.
func (c *Conn) fail(op string, err error) error {
	ours := plain(err)
	if ours == nil || errors.Is(ours, io.EOF) {
		return ours
	}
	return fmt.Errorf("transport: %s %s: %w", op, c.peer, ours)
}

// CloseWrite ends our half after what was written: the peer reads [io.EOF], and its answer
// can still be read. It must not run at the same time as Write.
func (c *Conn) CloseWrite() error {
	if c.session != nil {
		if err := c.open(); err != nil { // so that the peer's Accept returns
			return c.fail("close", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return fmt.Errorf("transport: close to %s: %w", c.peer, net.ErrClosed)
	case c.ended:
		return nil
	case c.writers > 0:
		return errors.New("transport: CloseWrite during Write")
	}
	c.ended = true
	return c.fail("close", c.stream.Close())
}

// Close ends both halves: what was written still arrives, what the peer has yet to say is
// not wanted. A Read or Write in progress fails with [net.ErrClosed]; as the latter was cut
// short, the peer then reads [ErrReset] instead of [io.EOF].
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.stream.CancelRead(endCode)
	switch {
	case c.writers > 0:
		c.stream.CancelWrite(endCode)
	case !c.ended:
		c.stream.Close()
	}
	if c.session != nil {
		c.e.release(c.session)
	}
	return nil
}

// abort refuses the stream: both halves fail at the peer with ErrReset.
func (c *Conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.stream.CancelRead(endCode)
	c.stream.CancelWrite(endCode)
}

// SetDeadline bounds Read and Write, those in progress included; zero means no bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.stream.SetReadDeadline(t) }

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

// An inbox holds the accepted streams of one kind until Accept takes them.
type inbox struct {
	kind  Kind
	queue chan *Conn

	mu        sync.Mutex
	stop      chan struct{} // closed while no listener wants streams
	listening bool
}

func newInbox(kind Kind) *inbox {
	return &inbox{kind: kind, queue: make(chan *Conn, acceptBacklog), stop: make(chan struct{})}
}

// open begins a listener's time and returns the channel that ends it.
func (in *inbox) open(kind Kind) <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.listening {
		panic(fmt.Sprintf("transport: Listen(%q): already listening", kind))
	}
	in.listening = true
	select {
	case <-in.stop:
		in.stop = make(chan struct{})
	default:
	}
	return in.stop
}

func (in *inbox) close(stop <-chan struct{}) {
	in.mu.Lock()
	if in.stop == stop && in.listening {
		in.listening = false
		close(in.stop)
	}
	in.mu.Unlock()
	in.clear()
}

func (in *inbox) clear() {
	for {
		select {
		case c := <-in.queue:
			c.abort()
		default:
			return
		}
	}
}

// put waits for room; false means that nobody will take the stream.
func (in *inbox) put(c *Conn, gone <-chan struct{}) bool {
	in.mu.Lock()
	stop := in.stop
	in.mu.Unlock()
	select {
	case <-stop:
		return false
	default:
	}
	select {
	case in.queue <- c:
	case <-stop:
		return false
	case <-gone:
		return false
	}
	select {
	case <-stop: // the listener may have cleared the queue just before
		in.clear()
	default:
	}
	return true
}

type listener struct {
	e    *Endpoint
	in   *inbox
	stop <-chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.stop: // first: a closed listener gives nothing, whatever waits
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.in.queue:
		return c, nil
	case <-l.stop:
		return nil, net.ErrClosed
	case <-l.e.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.in.close(l.stop)
	return nil
}

func (l *listener) Addr() net.Addr { return l.e.Addr() }
