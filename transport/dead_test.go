package transport

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// Traps 7 and 9: on a connection whose peer vanished, Dial and Write succeed; only Read
// tells, by its deadline or when the silence has lasted MaxIdleTimeout.
func TestVanishedPeer(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
		m.net.Cut(addr(1), addr(2))
		cut := time.Now()

		c := dial(t, a, kindRaft, peer(2))
		c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, err := ask(c, "x")
		wantErr(t, "use with a deadline", err, os.ErrDeadlineExceeded)
		if a.Stats().Dials != 1 {
			t.Errorf("%d handshakes, want the cached connection", a.Stats().Dials)
		}
		wantErr(t, "Ping, which believes no cache", a.Ping(within(t, 10*time.Second), peer(2)), ErrUnreachable)

		c.SetDeadline(time.Time{})
		_, err = c.Read(make([]byte, 1))
		wantErr(t, "Read without a deadline", err, ErrLost)
		if took := time.Since(cut); took < DefaultMaxIdleTimeout-2*time.Second || took > DefaultMaxIdleTimeout+2*time.Second {
			t.Errorf("the silence was noticed after %v, want about %v", took, DefaultMaxIdleTimeout)
		}
		m.net.HealAll()
		mustEcho(t, dial(t, a, kindRaft, peer(2))) // at once: the lost connection is out of the cache
		wantErr(t, "Ping", a.Ping(within(t, time.Second), peer(2)), nil)
	})
}

func TestForget(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b, other := m.open(1), m.open(2), m.open(3)
		echo(a, kindRaft)
		echo(b, kindRaft)
		echo(b, kindRPC)
		echo(other, kindRaft)
		in, out, rpc := dial(t, b, kindRaft, peer(1)), dial(t, a, kindRaft, peer(2)), dial(t, a, kindRPC, peer(2))
		anyone, bystander := dial(t, a, kindRaft, Peer{Addr: addr(2)}), dial(t, a, kindRaft, peer(3))
		for _, c := range []*Conn{in, out, rpc, anyone, bystander} {
			mustEcho(t, c)
		}
		a.Forget(nodeID(2))
		a.Forget("")
		for name, c := range map[string]*Conn{"in": in, "out": out, "another kind": rpc, "dialed without id": anyone} {
			if _, err := ask(c, "x"); !errors.Is(err, ErrLost) {
				t.Errorf("%s: use after Forget = %v, want %v", name, err, ErrLost)
			}
		}
		mustEcho(t, bystander)
		mustEcho(t, dial(t, a, kindRaft, peer(2))) // forgetting is not refusing
		mustEcho(t, dial(t, b, kindRaft, peer(1)))
	})
}

// Trap 7 and design point 4: Forget ends the wait for a dead peer at once.
func TestForgetUnblocks(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		c := dial(t, a, kindRaft, peer(2))
		mustEcho(t, c)
		m.net.Isolate(addr(2))
		start := time.Now()
		time.AfterFunc(time.Second, func() { a.Forget(nodeID(2)) })
		_, err := c.Read(make([]byte, 1))
		wantErr(t, "Read", err, ErrLost)
		if took := time.Since(start); took != time.Second {
			t.Errorf("Read ended after %v, want 1s, with Forget", took)
		}
	})
}

// Trap 8: a node that restarts on its address ends its former connections with the first
// packet above 42 bytes that it gets of them (smaller ones are not worth a reset by RFC
// 9000, 10.3.3), thanks to a reset key that outlives it.
func TestRestartOnSameAddress(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.open(1)
		id := identity(t, m.ca, nodeID(2), time.Hour)
		as := func(c *Config) { c.Identity = id }
		b := m.open(2, as)
		echo(b, kindRaft)
		c := dial(t, a, kindRaft, peer(2))
		mustEcho(t, c)
		m.crash(2, b)
		b = m.open(2, as)
		echo(b, kindRaft)

		const text = "any message of more than a few bytes"
		start := time.Now()
		_, err := ask(c, text)
		wantErr(t, "use of the stale connection", err, ErrLost)
		if took := time.Since(start); took > time.Second {
			t.Errorf("the restart was noticed after %v, want at the first packet", took)
		}
		mustEcho(t, dial(t, a, kindRaft, peer(2)))

		m.crash(2, b) // and once more, with Dial as the first to meet the stale connection
		echo(m.open(2, as), kindRaft)
		stale := dial(t, a, kindRaft, peer(2))
		ask(stale, text)
		synctest.Wait()
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
	})
}

func TestOrderlyCloseIsNoticedByDial(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
		b.Close()
		echo(m.open(2), kindRaft)
		time.Sleep(time.Millisecond)
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
	})
}

// Trap 14: connections are found by address; a node that moved is dialed at its new one.
func TestRestartOnNewAddress(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
		m.crash(2, b)
		moved := m.open(2, func(c *Config) { c.Conn = m.listen("10.0.0.2:9900") })
		echo(moved, kindRaft)
		echo(m.open(3, func(c *Config) { c.Conn = m.listen(addr(2)) }), kindRaft) // another took the old one
		mustEcho(t, dial(t, a, kindRaft, Peer{ID: nodeID(2), Addr: "10.0.0.2:9900"}))
		a.Forget(nodeID(2))
		_, err := a.Dial(within(t, 5*time.Second), kindRaft, peer(2))
		wantErr(t, "Dial of the old address", err, ErrWrongPeer)
	})
}

// Trap 12: callers share a handshake but not each other's patience.
func TestSingleFlight(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.open(1)
		start := time.Now()
		type result struct {
			err  error
			took time.Duration
		}
		patient, hasty := make(chan result, 1), make(chan result, 1)
		try := func(d time.Duration, to chan result) {
			_, err := a.Dial(within(t, d), kindRaft, peer(2))
			to <- result{err, time.Since(start)}
		}
		go try(time.Minute, patient)
		synctest.Wait()
		go try(100*time.Millisecond, hasty)
		if r := <-hasty; !errors.Is(r.err, context.DeadlineExceeded) || r.took != 100*time.Millisecond {
			t.Errorf("the hasty Dial = %v after %v, want its own deadline after 100ms", r.err, r.took)
		}
		if r := <-patient; !errors.Is(r.err, ErrUnreachable) || r.took > DefaultHandshakeTimeout+100*time.Millisecond {
			t.Errorf("the patient Dial = %v after %v, want %v within the handshake timeout", r.err, r.took, ErrUnreachable)
		}
		if got := a.Stats().Dials; got != 1 {
			t.Errorf("%d handshakes, want 1", got)
		}
		echo(m.open(2), kindRaft)
		mustEcho(t, dial(t, a, kindRaft, peer(2))) // failures are not cached
	})
}

// A caller that gives up must not spoil the handshake for the others.
func TestFirstCallerLeaves(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.open(1)
		gone, cancel := context.WithCancel(context.Background())
		go a.Dial(gone, kindRaft, peer(2))
		synctest.Wait()
		cancel()
		time.Sleep(100 * time.Millisecond)
		echo(m.open(2), kindRaft)
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
		if got := a.Stats().Dials; got != 1 {
			t.Errorf("%d handshakes, want 1", got)
		}
	})
}

// Trap 13: two nodes that dial each other have a connection each, and both work.
func TestDialEachOther(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(a, kindRaft)
		echo(b, kindRaft)
		for range 3 {
			mustEcho(t, dial(t, a, kindRaft, peer(2)))
			mustEcho(t, dial(t, b, kindRaft, peer(1)))
		}
		for _, s := range []Stats{a.Stats(), b.Stats()} {
			if s.Connections != 1 || s.Accepted != 1 {
				t.Errorf("Stats = %+v, want 1 connection each way", s)
			}
		}
	})
}

// Keepalives hold a connection in use, however quiet; an unused one is closed.
func TestQuietAndUnused(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		c := dial(t, a, kindRaft, peer(2))
		mustEcho(t, c)
		time.Sleep(50 * time.Minute)
		mustEcho(t, c)
		c.Close()
		time.Sleep(DefaultUnusedTimeout / 2)
		if got := a.Stats().Connections; got != 1 {
			t.Errorf("%d connections soon after use, want 1", got)
		}
		time.Sleep(2 * DefaultUnusedTimeout)
		if got, held := a.Stats().Connections, b.Stats().Accepted; got != 0 || held != 0 {
			t.Errorf("%d connections here and %d there after long disuse, want none", got, held)
		}
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
	})
}

func TestPingUsesNoCache(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2, func(c *Config) { c.Kinds = nil })
		for range 3 {
			if err := a.Ping(within(t, time.Second), peer(2)); err != nil {
				t.Errorf("Ping = %v", err)
			}
		}
		wantErr(t, "Ping of a wrong id", a.Ping(within(t, time.Second), Peer{ID: nodeID(5), Addr: addr(2)}), ErrWrongPeer)
		start := time.Now()
		wantErr(t, "Ping of nobody", a.Ping(within(t, 300*time.Millisecond), peer(9)), context.DeadlineExceeded)
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("Ping took %v, want the caller's 300ms", took)
		}
		time.Sleep(time.Second)
		if s := b.Stats(); s.Accepted != 0 || a.Stats().Connections != 0 {
			t.Errorf("pings left connections: %+v, %+v", a.Stats(), s)
		}
	})
}

// Many streams die with their connection; none hangs.
func TestManyStreamsOfOneDeadPeer(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		echo(b, kindRaft)
		errs := make(chan error)
		for range 100 {
			c := dial(t, a, kindRaft, peer(2))
			mustEcho(t, c)
			go func() { _, err := io.Copy(io.Discard, c); errs <- err }()
		}
		m.net.Isolate(addr(2))
		for range 100 {
			wantErr(t, "Read", <-errs, ErrLost)
		}
		synctest.Wait()
		if got := a.Stats().Connections; got != 0 {
			t.Errorf("%d connections, want 0", got)
		}
	})
}

// Many handshakes at once are answered; those beyond the usual rate prove their address first.
func TestManyHandshakes(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.open(1)
		m.open(2)
		errs := make(chan error)
		const pings = unprovenDials + 50
		for range pings {
			go func() { errs <- a.Ping(context.Background(), peer(2)) }()
		}
		for range pings {
			wantErr(t, "Ping", <-errs, nil)
		}
	})
}
