package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"seedmesh/transport/memnet"
)

// Three nodes, each dialing each other (and itself) for two kinds at once.
func TestThreeNodesTwoKinds(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		const streams = 20
		m.net.SetLink(memnet.Link{Latency: 5 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.02})
		nodes := []*Endpoint{m.open(1), m.open(2), m.open(3)}
		for _, e := range nodes {
			echo(e, kindRaft)
			echo(e, kindRPC)
		}
		var wg sync.WaitGroup
		for from, e := range nodes {
			for to := range nodes {
				for i := range streams {
					kind := []Kind{kindRaft, kindRPC}[i%2]
					wg.Go(func() {
						text := fmt.Sprintf("%d to %d, stream %d for %s", from, to, i, kind)
						c, err := e.Dial(within(t, 20*time.Second), kind, peer(to+1))
						if err != nil {
							t.Errorf("%s: %v", text, err)
							return
						}
						defer c.Close()
						if got, err := ask(c, text); got != text || err != nil {
							t.Errorf("%s: echo = %q, %v", text, got, err)
						}
						if c.Peer() != (Peer{nodeID(to + 1), RoleVoter, addr(to + 1)}) {
							t.Errorf("%s: Peer = %v", text, c.Peer())
						}
					})
				}
			}
		}
		wg.Wait()
		for _, e := range nodes {
			s := e.Stats()
			if s.Connections != 6 || s.Dials != 6 || s.Accepted != 6 || s.StreamsOut != 3*streams || s.StreamsIn != 3*streams {
				t.Errorf("Stats = %+v, want 6 shared connections each way (3 peers, 2 kinds), %d streams each way", s, 3*streams)
			}
		}
	})
}

func TestAcceptedPeer(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		l := b.Listen(kindRaft)
		if _, err := dial(t, a, kindRaft, peer(2)).Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, want := c.(*Conn).Peer(), (Peer{nodeID(1), RoleVoter, addr(1)}); got != want {
			t.Errorf("accepted Peer = %v, want %v", got, want)
		}
		if c.RemoteAddr().String() != addr(1) || c.LocalAddr().String() != addr(2) || l.Addr().String() != addr(2) {
			t.Errorf("addresses = %v, %v, %v", c.RemoteAddr(), c.LocalAddr(), l.Addr())
		}
	})
}

// Trap 3: Close of a half ends only that half.
func TestHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		l := b.Listen(kindRaft)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			question, err := io.ReadAll(c)
			fmt.Fprintf(c, "%s? %v", question, err)
			c.(*Conn).CloseWrite()
		}()
		c := dial(t, a, kindRaft, peer(2))
		io.WriteString(c, "apples")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "CloseWrite again", c.CloseWrite(), nil)
		_, err := c.Write([]byte("x"))
		wantErr(t, "Write after CloseWrite", err, net.ErrClosed)
		if got, err := io.ReadAll(c); string(got) != "apples? <nil>" || err != nil {
			t.Errorf("answer = %q, %v", got, err)
		}
	})
}

// Trap 11: QUIC tells the acceptor of a stream with its first byte only.
func TestServerSpeaksFirst(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		l := b.Listen(kindRaft)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "welcome")
			io.Copy(io.Discard, c)
			c.Close()
		}()
		c := dial(t, a, kindRaft, peer(2))
		c.SetDeadline(time.Now().Add(time.Second))
		got := make([]byte, len("welcome"))
		if _, err := io.ReadFull(c, got); string(got) != "welcome" || err != nil {
			t.Errorf("Read before any Write = %q, %v; want %q", got, err, "welcome")
		}
	})
}

// Traps 3 and 16: closed streams give their credit back, and what was written arrives.
func TestCloseKeepsDataAndCredit(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2, func(c *Config) { c.MaxStreams = 4 })
		l := b.Listen(kindRaft)
		got := make(chan int64)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go c.Write(make([]byte, 64<<10)) // never read by the dialer
				n, err := io.Copy(io.Discard, c)
				if err != nil {
					n = -1
				}
				c.Close()
				got <- n
			}
		}()
		for i := range 50 {
			c, err := a.Dial(within(t, 10*time.Second), kindRaft, peer(2))
			if err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
			c.Write(make([]byte, 100_000))
			c.Close()
			if n := <-got; n != 100_000 {
				t.Fatalf("stream %d: the peer read %d bytes to the end, want 100000", i, n)
			}
		}
		ctx := within(t, time.Second)
		for range 5 {
			c, err := a.Dial(ctx, kindRaft, peer(2))
			if err == nil {
				defer c.Close()
				continue
			}
			wantErr(t, "Dial beyond the peer's stream limit", err, context.DeadlineExceeded)
			return
		}
		t.Error("5 streams are open at once, the peer's limit is 4")
	})
}

func TestLargeTransferBothWays(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.net.SetLink(memnet.Link{Latency: time.Millisecond, Loss: 0.001})
		const size = 8 << 20
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		want := sha256.Sum256(data)
		both := func(c *Conn) error {
			var wg sync.WaitGroup
			wg.Go(func() {
				c.Write(data)
				c.CloseWrite()
			})
			sum := sha256.New()
			n, err := io.Copy(sum, c)
			wg.Wait()
			if err == nil && (n != size || [32]byte(sum.Sum(nil)) != want) {
				err = fmt.Errorf("%d bytes, sum differs", n)
			}
			return err
		}
		a, b := m.open(1), m.open(2)
		l := b.Listen(kindRPC)
		served := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				err = both(c.(*Conn))
				defer c.Close()
			}
			served <- err
		}()
		c := dial(t, a, kindRPC, peer(2))
		if err := both(c); err != nil {
			t.Errorf("dialer: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("acceptor: %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		stuck := b.Listen(kindRPC) // never accepts
		defer stuck.Close()
		c := dial(t, a, kindRPC, peer(2))
		wantTimeout := func(call string, err error) {
			t.Helper()
			netErr, ok := errors.AsType[net.Error](err)
			if !errors.Is(err, os.ErrDeadlineExceeded) || !ok || !netErr.Timeout() {
				t.Errorf("%s = %v, want a deadline error with Timeout()", call, err)
			}
		}
		c.SetReadDeadline(time.Now().Add(-time.Second))
		_, err := c.Read(make([]byte, 1))
		wantTimeout("Read after the deadline", err)
		start := time.Now()
		c.SetReadDeadline(start.Add(700 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		wantTimeout("Read", err)
		if took := time.Since(start); took != 700*time.Millisecond {
			t.Errorf("Read ended after %v, want 700ms", took)
		}
		c.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
		_, err = c.Write(make([]byte, 64<<20))
		wantTimeout("Write to a peer that does not read", err)

		// A deadline that strikes before anything was sent leaves the stream usable.
		fresh := dial(t, a, kindRaft, peer(2))
		fresh.SetDeadline(time.Now().Add(-time.Second))
		_, err = fresh.Write([]byte("x"))
		wantTimeout("Write after the deadline", err)
		fresh.SetDeadline(time.Time{})
		mustEcho(t, fresh)
	})
}

func TestCloseUnblocks(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		l := b.Listen(kindRPC)
		reader, writer := dial(t, a, kindRPC, peer(2)), dial(t, a, kindRPC, peer(2))
		errs := make(chan error, 2)
		go func() { _, err := reader.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := writer.Write(make([]byte, 64<<20)); errs <- err }()
		synctest.Wait()
		time.Sleep(time.Second)
		reader.Close()
		writer.Close()
		for range 2 {
			wantErr(t, "Read or Write cut short by Close", <-errs, net.ErrClosed)
		}
		reset := 0
		for range 2 {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.Copy(io.Discard, c); errors.Is(err, ErrReset) {
				reset++
			} else if err != nil {
				t.Errorf("peer's Read = %v", err)
			}
		}
		if reset != 1 {
			t.Errorf("%d streams end with %v, want 1: the one whose Write was cut short", reset, ErrReset)
		}
		_, err := reader.Read(make([]byte, 1))
		wantErr(t, "Read after Close", err, net.ErrClosed)
		_, err = writer.Write([]byte("x"))
		wantErr(t, "Write after Close", err, net.ErrClosed)
		wantErr(t, "Close again", reader.Close(), nil)
	})
}

func TestListener(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		early := dial(t, a, kindRaft, peer(2)) // before anybody listens: it waits
		io.WriteString(early, "apples")
		time.Sleep(time.Second)
		l := echo(b, kindRaft)
		got := make([]byte, 6)
		if _, err := io.ReadFull(early, got); string(got) != "apples" || err != nil {
			t.Errorf("echo of the early stream = %q, %v", got, err)
		}
		l.Close()
		_, err := l.Accept()
		wantErr(t, "Accept after Close", err, net.ErrClosed)
		late := dial(t, a, kindRaft, peer(2))
		_, err = ask(late, "x")
		wantErr(t, "use of a stream that nobody listens for", err, ErrReset)
		mustEcho(t, early) // streams live on

		echo(b, kindRaft)
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
		for name, kind := range map[string]Kind{"unknown": "seedmesh-tea/1", "h3": KindHTTP3, "listening": kindRaft} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("Listen for a kind that is %s does not panic", name)
					}
				}()
				b.Listen(kind)
			}()
		}
	})
}

// Streams beyond the backlog wait at the peer and are not lost.
func TestBacklogHoldsBack(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		const extra = 30
		a, b := m.open(1), m.open(2)
		var wg sync.WaitGroup
		for i := range acceptBacklog + extra {
			c := dial(t, a, kindRaft, peer(2))
			wg.Go(func() {
				if got, err := ask(c, "apples"); got != "apples" || err != nil {
					t.Errorf("stream %d: echo = %q, %v", i, got, err)
				}
			})
		}
		time.Sleep(time.Second)
		if got := b.Stats().StreamsIn; got != acceptBacklog+1 {
			t.Errorf("%d streams were taken in, want the backlog and one in hand", got)
		}
		echo(b, kindRaft)
		wg.Wait()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		l := a.Listen(kindRPC)
		errs := make(chan error)
		c := dial(t, a, kindRaft, peer(2))
		mustEcho(t, c)
		go func() { _, err := l.Accept(); errs <- err }()
		go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := a.Dial(context.Background(), kindRaft, peer(9)); errs <- err }()
		go func() { errs <- a.Ping(context.Background(), peer(9)) }()
		go func() {
			for range a.Packets() {
			}
			errs <- net.ErrClosed
		}()
		synctest.Wait()
		start := time.Now()
		go a.Close()
		if err := a.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		for range 5 {
			wantErr(t, "a call that Close cut short", <-errs, net.ErrClosed)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("Close took %v, want no waiting", took)
		}
		_, err := a.Dial(context.Background(), kindRaft, peer(2))
		wantErr(t, "Dial after Close", err, net.ErrClosed)
		wantErr(t, "WritePacket after Close", a.WritePacket([]byte("x"), addr(2)), net.ErrClosed)
		wantErr(t, "Ping after Close", a.Ping(context.Background(), peer(2)), net.ErrClosed)
		time.Sleep(time.Second)
		if s := b.Stats(); s.Accepted != 0 {
			t.Errorf("the peer still holds %d connections", s.Accepted)
		}
	})
}

// TestDialFrom gives a kind a socket of its own: its packets can then be lost alone.
func TestDialFrom(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		const own = "10.0.0.1:1"
		a, b := m.open(1, func(c *Config) {
			c.DialFrom = func(kind Kind) net.PacketConn {
				if kind == kindRaft {
					return m.listen(own)
				}
				return nil
			}
		}), m.open(2)
		echo(b, kindRaft)
		echo(b, kindRPC)
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
		cut := m.net.Isolate(own)
		mustEcho(t, dial(t, a, kindRPC, peer(2)))
		c := dial(t, a, kindRaft, peer(2))
		c.SetDeadline(time.Now().Add(time.Second))
		_, err := ask(c, "x")
		wantErr(t, "use of the kind that is cut", err, os.ErrDeadlineExceeded)
		if cut.Effect().Lost == 0 {
			t.Error("no packet was lost")
		}
		a.Close()
		m.listen(own) // free again
	})
}
