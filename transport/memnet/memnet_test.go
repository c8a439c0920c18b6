package memnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

const a, b, c = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"

func listen(t *testing.T, n *Network, addr string) net.PacketConn {
	t.Helper()
	conn, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// arrives sends a packet and reports whether it came, and after how long.
func arrives(t *testing.T, from, to net.PacketConn) (bool, time.Duration) {
	t.Helper()
	start := time.Now()
	text := fmt.Sprint(start)
	if _, err := from.WriteTo([]byte(text), to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	to.SetReadDeadline(start.Add(time.Second))
	got := make([]byte, 100)
	n, sender, err := to.ReadFrom(got)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, 0
	}
	if err != nil || string(got[:n]) != text || sender.String() != from.LocalAddr().String() {
		t.Fatalf("ReadFrom = %q from %v, %v; want %q from %v", got[:n], sender, err, text, from.LocalAddr())
	}
	return true, time.Since(start)
}

func TestLatencyAndCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		ca, cb, cc := listen(t, n, a), listen(t, n, b), listen(t, n, c)
		n.SetLink(Link{Latency: 3 * time.Millisecond})
		slow := n.Inject(Fault{Delay: 37 * time.Millisecond}, Both(a, b)...)
		check := func(name string, from, to net.PacketConn, want bool, after time.Duration) {
			t.Helper()
			if got, took := arrives(t, from, to); got != want || took != after {
				t.Errorf("%s: arrived = %v after %v, want %v after %v", name, got, took, want, after)
			}
		}
		check("slow path", ca, cb, true, 40*time.Millisecond)
		check("slow path, back", cb, ca, true, 40*time.Millisecond)
		check("another path", ca, cc, true, 3*time.Millisecond)
		oneWay := n.Inject(Fault{Loss: 1}, Path{a, b})
		check("cut", ca, cb, false, 0)
		check("the way back", cb, ca, true, 40*time.Millisecond)
		both := n.Cut("10.0.0.1", b)
		check("cut both ways", cb, ca, false, 0)
		oneWay.Lift()
		both.Lift()
		check("healed", ca, cb, true, 40*time.Millisecond)
		alone := n.Isolate("10.0.0.3")
		check("isolated, out", cc, ca, false, 0)
		check("isolated, in", cb, cc, false, 0)
		check("bystanders", cb, ca, true, 40*time.Millisecond)
		n.HealAll()
		check("all healed", cc, ca, true, 3*time.Millisecond)
		for name, tt := range map[string]struct{ got, want Effect }{
			"slow":          {slow.Effect(), Effect{Delayed: 7}},
			"one way":       {oneWay.Effect(), Effect{Lost: 1}},
			"cut both ways": {both.Effect(), Effect{Lost: 1}},
			"alone":         {alone.Effect(), Effect{Lost: 2}},
		} {
			if tt.got != tt.want {
				t.Errorf("Effect of %s = %+v, want %+v", name, tt.got, tt.want)
			}
		}
		if s := n.Stats(); s.Sent != 11 || s.Delivered != 7 || s.Lost != 4 {
			t.Errorf("Stats = %+v, want 11 sent, 7 delivered, 4 lost", s)
		}
	})
}

func TestLossAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			link     Link
			min, max int // delivered of 1000
			ordered  bool
		}{
			"perfect": {Link{}, 1000, 1000, true},
			"latency": {Link{Latency: time.Second}, 1000, 1000, true},
			"jitter":  {Link{Jitter: time.Second}, 1000, 1000, false},
			"loss":    {Link{Loss: 0.5}, 400, 600, true},
			"dead":    {Link{Loss: 1}, 0, 0, true},
		} {
			n := New(7)
			from, to := listen(t, n, a), listen(t, n, b)
			n.SetLink(tt.link)
			for i := range 1000 {
				from.WriteTo([]byte{byte(i >> 8), byte(i)}, to.LocalAddr())
			}
			to.SetReadDeadline(time.Now().Add(time.Minute))
			got, ordered, last := 0, true, -1
			for ; ; got++ {
				p := make([]byte, 2)
				if _, _, err := to.ReadFrom(p); err != nil {
					break
				}
				i := int(p[0])<<8 | int(p[1])
				ordered, last = ordered && i > last, i
			}
			if got < tt.min || got > tt.max || ordered != tt.ordered {
				t.Errorf("%s: %d arrived, in order %v; want %d to %d, %v", name, got, ordered, tt.min, tt.max, tt.ordered)
			}
			from.Close()
			to.Close()
		}
	})
}

func TestFaultsOnManyPackets(t *testing.T) {
	for name, tt := range map[string]struct {
		fault    Fault
		arrive   [2]int // least and most of 1000
		strikes  func(Effect) uint64
		striking [2]uint64
	}{
		"loss":      {Fault{Loss: 0.3}, [2]int{600, 800}, func(e Effect) uint64 { return e.Lost }, [2]uint64{200, 400}},
		"duplicate": {Fault{Duplicate: 0.3}, [2]int{1200, 1400}, func(e Effect) uint64 { return e.Duplicated }, [2]uint64{200, 400}},
		"reorder":   {Fault{Jitter: time.Second}, [2]int{1000, 1000}, func(e Effect) uint64 { return e.Overtaken }, [2]uint64{900, 1000}},
		"delay":     {Fault{Delay: time.Second}, [2]int{1000, 1000}, func(e Effect) uint64 { return e.Delayed - e.Overtaken }, [2]uint64{1000, 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New(7)
				from, to := listen(t, n, a), listen(t, n, b)
				fault := n.Inject(tt.fault, Path{"10.0.0.1", ""})
				for range 1000 {
					from.WriteTo([]byte{1}, to.LocalAddr())
				}
				to.SetReadDeadline(time.Now().Add(time.Minute))
				got := 0
				for ; ; got++ {
					if _, _, err := to.ReadFrom(make([]byte, 1)); err != nil {
						break
					}
				}
				if got < tt.arrive[0] || got > tt.arrive[1] {
					t.Errorf("%d packets arrived, want %d to %d", got, tt.arrive[0], tt.arrive[1])
				}
				if hit := tt.strikes(fault.Effect()); hit < tt.striking[0] || hit > tt.striking[1] {
					t.Errorf("Effect = %+v, want %d to %d struck", fault.Effect(), tt.striking[0], tt.striking[1])
				}
			})
		})
	}
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		from, to := listen(t, n, a), listen(t, n, b)
		from.WriteTo(make([]byte, MaxPacketBytes+1), to.LocalAddr())
		if s := n.Stats(); s.Lost != 1 {
			t.Errorf("a packet above the largest: %+v, want it lost", s)
		}
		for range QueuePackets + 10 {
			from.WriteTo(make([]byte, MaxPacketBytes), to.LocalAddr())
		}
		if s := n.Stats(); s.Lost != 11 || s.Delivered != QueuePackets {
			t.Errorf("Stats = %+v, want %d delivered", s, QueuePackets)
		}
	})
}

func TestConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		conn := listen(t, n, a)
		if _, err := n.Listen(a); err == nil {
			t.Error("Listen on a taken address = nil, want an error")
		}
		if _, err := n.Listen("orchard"); err == nil {
			t.Error("Listen on no address = nil, want an error")
		}
		if x, y := listen(t, n, "10.0.0.9:0"), listen(t, n, "10.0.0.9:0"); x.LocalAddr().String() == y.LocalAddr().String() {
			t.Errorf("port 0 gives %v twice", x.LocalAddr())
		}
		errs := make(chan error)
		read := func() { _, _, err := conn.ReadFrom(make([]byte, 1)); errs <- err }
		conn.SetReadDeadline(time.Now().Add(time.Hour))
		go read()
		synctest.Wait()
		conn.SetReadDeadline(time.Now().Add(-time.Second)) // wakes the reader
		err := <-errs
		if netErr, ok := errors.AsType[net.Error](err); !ok || !netErr.Timeout() {
			t.Errorf("ReadFrom after the deadline = %v, want a timeout", err)
		}
		conn.SetReadDeadline(time.Time{})
		go read()
		go read()
		synctest.Wait()
		conn.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("ReadFrom after Close = %v, want net.ErrClosed", err)
			}
		}
		if _, err := conn.WriteTo([]byte("x"), conn.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("WriteTo after Close = %v, want net.ErrClosed", err)
		}
		listen(t, n, a) // free again
	})
}

func TestRealTime(t *testing.T) {
	n := New(1)
	if ok, took := arrives(t, listen(t, n, a), listen(t, n, b)); !ok || took < DefaultLatency {
		t.Errorf("arrived = %v after %v, want at least %v", ok, took, DefaultLatency)
	}
}
