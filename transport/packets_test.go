package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Trap 4: QUIC's demultiplexing would swallow three quarters of the first bytes.
func TestPacketsOfEveryFirstByte(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		var want []byte
		for first := range 256 {
			packet := []byte{byte(first), 'x', byte(first)}
			if err := a.WritePacket(packet, addr(2)); err != nil {
				t.Fatal(err)
			}
			want = append(want, byte(first))
		}
		sent := time.Now()
		var got []byte
		for range 256 {
			select {
			case p := <-b.Packets():
				if len(p.Data) != 3 || p.Data[0] != p.Data[2] || p.From.String() != addr(1) {
					t.Fatalf("packet = % x from %v", p.Data, p.From)
				}
				if late := p.At.Sub(sent); late < 0 || late > time.Second {
					t.Fatalf("packet arrived at %v after it was sent", late)
				}
				got = append(got, p.Data[0])
			case <-time.After(time.Second):
				t.Fatalf("%d packets arrived, want 256", len(got))
			}
		}
		if slices.Sort(got); !bytes.Equal(got, want) {
			t.Errorf("first bytes = % x, want all", got)
		}
	})
}

func TestPacketSizes(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		for _, size := range []int{0, 1, 1200, MaxPacketBytes} {
			packet := bytes.Repeat([]byte{0xc3}, size)
			if err := a.WritePacket(packet, addr(2)); err != nil {
				t.Fatalf("WritePacket of %d bytes = %v", size, err)
			}
			if p := <-b.Packets(); !bytes.Equal(p.Data, packet) {
				t.Errorf("%d bytes arrived, want %d", len(p.Data), size)
			}
		}
		err := a.WritePacket(make([]byte, MaxPacketBytes+1), addr(2))
		if tooLarge, ok := errors.AsType[*PacketTooLargeError](err); !ok || tooLarge.Size != MaxPacketBytes+1 {
			t.Errorf("WritePacket of %d bytes = %v, want a PacketTooLargeError", MaxPacketBytes+1, err)
		}
		if err := a.WritePacket([]byte("x"), "nonsense"); err == nil {
			t.Error("WritePacket to no address = nil, want an error")
		}
		if err := a.WritePacket([]byte("x"), addr(9)); err != nil {
			t.Errorf("WritePacket to nobody = %v, want nil as of UDP", err)
		}
	})
}

// Trap 5: bursts survive a reader that stalls or comes late, up to the queue; what is
// dropped is counted and is the newest.
func TestPacketBurst(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		const extra = 100
		a, b := m.open(1), m.open(2)
		for i := range PacketQueue + extra {
			if err := a.WritePacket(binary.BigEndian.AppendUint32(nil, uint32(i)), addr(2)); err != nil {
				t.Fatal(err)
			}
			if i%1000 == 999 {
				synctest.Wait()
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		s := b.Stats()
		if s.PacketsIn != PacketQueue+extra || s.PacketsDropped != extra || a.Stats().PacketsOut != PacketQueue+extra {
			t.Errorf("Stats = %+v, want %d in and %d dropped", s, PacketQueue+extra, extra)
		}
		for i := range PacketQueue {
			if p := <-b.Packets(); binary.BigEndian.Uint32(p.Data) != uint32(i) {
				t.Fatalf("packet %d = % x", i, p.Data)
			}
		}
		echo(b, kindRaft) // and streams did not suffer
		mustEcho(t, dial(t, a, kindRaft, peer(2)))
	})
}

func TestForeignPacketsAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		b := m.open(2)
		echo(b, kindRaft)
		raw := m.listen("10.0.9.9:1")
		defer raw.Close()
		for first := range 256 {
			if first != packetMark {
				raw.WriteTo([]byte{byte(first), 1, 2, 3, 4, 5, 6, 7, 8}, b.Addr())
			}
		}
		time.Sleep(time.Second)
		if got := b.Stats().PacketsIn; got != 0 {
			t.Errorf("%d packets without the mark came in, want 0", got)
		}
		mustEcho(t, dial(t, m.open(1), kindRaft, peer(2)))
	})
}
