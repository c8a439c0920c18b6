package transport

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// The one test on real sockets: there packets come in batches, with ECN and offload.
func TestRealSockets(t *testing.T) {
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") // trap 15: other machines' limits
	ca := authority(t, "orchard")
	open := func(n int) *Endpoint {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Skip("no loopback:", err)
		}
		e, err := Open(Config{Conn: conn, Identity: identity(t, ca, nodeID(n), time.Hour), Kinds: []Kind{kindRaft}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			if conn.Close() == nil {
				t.Error("Close left the socket open")
			}
		})
		return e
	}
	a, b := open(1), open(2)
	echo(b, kindRaft)
	to := Peer{ID: nodeID(2), Addr: b.Addr().String()}

	const packets = 200
	for i := range packets {
		if err := a.WritePacket([]byte{0xf4, byte(i)}, to.Addr); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, a, kindRaft, to)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	data := bytes.Repeat([]byte("seed"), 1<<20)
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); !bytes.Equal(got, data) || err != nil {
		t.Errorf("echo of %d bytes = %d bytes, %v", len(data), len(got), err)
	}
	b.Answer(kindRaft, func(_ string, question []byte) []byte { return bytes.ToUpper(question) })
	if got, err := a.Ask(within(t, 5*time.Second), kindRaft, to, []byte("who leads?")); string(got) != "WHO LEADS?" || err != nil {
		t.Errorf("Ask = %q, %v", got, err)
	}
	for range packets { // all of them: the burst is smaller than the kernel's buffer
		select {
		case p := <-b.Packets():
			if len(p.Data) != 2 || p.Data[0] != 0xf4 || p.From.String() != a.Addr().String() {
				t.Fatalf("packet = % x from %v", p.Data, p.From)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("packets are missing: %+v", b.Stats())
		}
	}
}
