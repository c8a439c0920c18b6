package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An asking pair is two nodes, the first of which has dialed the second; it answers by
// turning questions into capitals.
func asking(t *testing.T, m *mesh, change ...func(*Config)) (a, b *Endpoint, asked *atomic.Int32) {
	a, b, asked = m.open(1, change...), m.open(2), new(atomic.Int32)
	b.Answer(kindRaft, func(from string, question []byte) []byte {
		asked.Add(1)
		if from != nodeID(1) {
			t.Errorf("asked by %s, want %s", from, nodeID(1))
		}
		if string(question) == "nothing" {
			return nil
		}
		return bytes.ToUpper(question)
	})
	echo(b, kindRaft)
	dial(t, a, kindRaft, peer(2))
	return a, b, asked
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestAsk(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b, asked := asking(t, m)
		for _, question := range []string{"", "who leads?", string(bytes.Repeat([]byte("q"), MaxAskBytes))} {
			got, err := a.Ask(soon(t), kindRaft, peer(2), []byte(question))
			if string(got) != string(bytes.ToUpper([]byte(question))) || err != nil {
				t.Errorf("Ask of %d bytes = %d bytes, %v", len(question), len(got), err)
			}
		}
		if s := a.Stats(); s.Asked != 3 || b.Stats().Answered != 3 || asked.Load() != 3 {
			t.Errorf("asked %d, answered %d, want 3", s.Asked, b.Stats().Answered)
		}
		var large *PacketTooLargeError
		if _, err := a.Ask(soon(t), kindRaft, peer(2), make([]byte, MaxAskBytes+1)); !errors.As(err, &large) {
			t.Errorf("Ask of too much = %v", err)
		}
		if _, err := a.Ask(soon(t), kindRaft, peer(2), []byte("nothing")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ask without an answer = %v, want the deadline", err)
		}
		if _, err := a.Ask(soon(t), kindRPC, peer(2), nil); !errors.Is(err, ErrLost) {
			t.Errorf("Ask where nothing was dialed = %v, want ErrLost", err)
		}
		if _, err := b.Ask(soon(t), kindRaft, peer(1), nil); !errors.Is(err, ErrLost) {
			t.Errorf("Ask on a connection that the other side dialed = %v, want ErrLost", err)
		}
		b.Answer(kindRaft, nil)
		if _, err := a.Ask(soon(t), kindRaft, peer(2), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ask when nobody answers any more = %v, want the deadline", err)
		}
	})
}

// A tap hears the questions that leave through a socket, and the answers that arrive.
type tap struct {
	net.PacketConn
	mu    sync.Mutex
	heard [][]byte
}

func (p *tap) WriteTo(b []byte, to net.Addr) (int, error) {
	p.hear(b)
	return p.PacketConn.WriteTo(b, to)
}

func (p *tap) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.PacketConn.ReadFrom(b)
	p.hear(b[:n])
	return n, from, err
}

func (p *tap) hear(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(b) > 0 && b[0] == askMark {
		p.heard = append(p.heard, bytes.Clone(b))
	}
}

func (p *tap) all() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

// Whoever can write into the network cannot ask: neither what was heard, nor what was heard
// and altered, nor what is made up.
func TestAskForged(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		tapped := &tap{PacketConn: m.listen(addr(1))}
		a, b, asked := asking(t, m, func(c *Config) { c.Conn = tapped })
		if _, err := a.Ask(soon(t), kindRaft, peer(2), []byte("who leads?")); err != nil {
			t.Fatal(err)
		}
		heard := tapped.all()
		if len(heard) != 2 || bytes.Contains(heard[0], []byte("who leads?")) {
			t.Fatalf("heard %q, want a sealed question and a sealed answer", heard)
		}
		stranger := m.listen(addr(9))
		defer stranger.Close()
		to, err := net.ResolveUDPAddr("udp", addr(2))
		if err != nil {
			t.Fatal(err)
		}
		sent := 0
		send := func(p []byte) {
			sent++
			if _, err := stranger.WriteTo(p, to); err != nil {
				t.Fatal(err)
			}
		}
		question := heard[0]
		send(question) // again
		send(heard[1]) // an answer
		for i := range question {
			altered := bytes.Clone(question)
			altered[i] ^= 1
			if i > 0 {
				send(altered)
			}
			send(question[:i+1])
		}
		later := bytes.Clone(question) // another number
		later[1+laneIDBytes+7]++
		send(later)
		time.Sleep(time.Second)
		if got := asked.Load(); got != 1 {
			t.Errorf("%d questions were answered after %d forged ones, want the first", got, sent)
		}
		if _, err := a.Ask(soon(t), kindRaft, peer(2), []byte("and now?")); err != nil || b.Stats().Answered != 2 {
			t.Errorf("Ask after the forged ones = %v", err)
		}
	})
}

// A lane ends with its connection.
func TestAskAfterTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b, _ := asking(t, m)
		b.Forget(nodeID(1))
		synctest.Wait()
		time.Sleep(time.Second)
		if _, err := a.Ask(soon(t), kindRaft, peer(2), nil); !errors.Is(err, ErrLost) {
			t.Errorf("Ask after Forget = %v, want ErrLost", err)
		}
		for e := range map[*Endpoint]bool{a: true, b: true} {
			e.lanes.mu.Lock()
			if len(e.lanes.byID) != 0 {
				t.Errorf("%d lanes are left", len(e.lanes.byID))
			}
			e.lanes.mu.Unlock()
		}
		dial(t, a, kindRaft, peer(2))
		if _, err := a.Ask(soon(t), kindRaft, peer(2), nil); err != nil {
			t.Errorf("Ask after a new Dial = %v", err)
		}
	})
}
