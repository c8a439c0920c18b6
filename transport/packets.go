package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// packetMark is the first byte of every gossip packet on the wire. QUIC packets have at
	// least one of the two top bits set, so any payload may follow it.
	packetMark = 0x01
	// MaxPacketBytes is the largest packet: with its mark and the headers of IPv6 and UDP
	// it is 1280 bytes, which every path carries. The socket forbids fragments, so larger
	// ones would vanish.
	MaxPacketBytes = 1280 - 40 - 8 - 1
	// PacketQueue is how many packets wait for the reader of Packets; more are dropped.
	PacketQueue = 4096
)

// A Packet is one gossip datagram. It is not authenticated: seal it above.
type Packet struct {
	Data []byte // owned by the receiver
	From net.Addr
	At   time.Time
}

// A PacketTooLargeError is returned for packets above [MaxPacketBytes].
type PacketTooLargeError struct {
	Size int // bytes
}

func (e *PacketTooLargeError) Error() string {
	return fmt.Sprintf("transport: packet of %d bytes, at most %d are carried", e.Size, MaxPacketBytes)
}

// WritePacket sends b to HOST:PORT as one datagram, any bytes, up to [MaxPacketBytes]. It
// may be lost without notice. It returns [net.ErrClosed] after Close.
func (e *Endpoint) WritePacket(b []byte, addr string) error {
	if len(b) > MaxPacketBytes {
		return &PacketTooLargeError{len(b)}
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.HandshakeTimeout)
	defer cancel()
	to, err := resolve(ctx, addr, e.Addr())
	if e.ctx.Err() != nil {
		return fmt.Errorf("transport: packet to %s: %w", addr, net.ErrClosed)
	}
	if err != nil {
		return fmt.Errorf("transport: packet to %s: %w", addr, err)
	}
	if _, err := e.quic.WriteTo(append([]byte{packetMark}, b...), to); err != nil {
		if errors.Is(err, net.ErrClosed) {
			err = net.ErrClosed
		}
		return fmt.Errorf("transport: packet to %s: %w", addr, err)
	}
	e.stats.packetsOut.Add(1)
	return nil
}

// Packets is where packets arrive, from Open on; it is closed by Close. While nobody
// reads, the queue fills and further packets are dropped and counted.
func (e *Endpoint) Packets() <-chan Packet { return e.packets }

func (e *Endpoint) takePacket(data []byte, from net.Addr) {
	e.stats.packetsIn.Add(1)
	if len(e.packets) == cap(e.packets) { // this is the only sender: the send below has room
		e.stats.packetsDropped.Add(1)
		return
	}
	e.packets <- Packet{append([]byte(nil), data...), from, time.Now()}
}

// A socket lies between quic-go and the real socket and takes our packets out, by the mark
// they begin with. quic-go would hand them over as well, but queues 32 only and drops the
// rest in silence.
type socket struct {
	net.PacketConn
	take map[byte]func(data []byte, from net.Addr) // what follows the mark
}

// forQUIC is what quic-go reads from: for a real UDP socket one that still does batches,
// ECN and segmentation offload.
func (s *socket) forQUIC() net.PacketConn {
	if udp, ok := s.PacketConn.(*net.UDPConn); ok {
		return &udpSocket{udp, s, ipv4.NewPacketConn(udp)}
	}
	return s
}

// ours takes a packet out if it is marked.
func (s *socket) ours(data []byte, from net.Addr) bool {
	if len(data) == 0 || s.take[data[0]] == nil {
		return false
	}
	s.take[data[0]](data[1:], from)
	return true
}

func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.PacketConn.ReadFrom(b)
		if err != nil || !s.ours(b[:n], from) {
			return n, from, err
		}
	}
}

// SetReadBuffer keeps quic-go from warning about sockets that have no buffer to set.
func (s *socket) SetReadBuffer(bytes int) error {
	if c, ok := s.PacketConn.(interface{ SetReadBuffer(int) error }); ok {
		return c.SetReadBuffer(bytes)
	}
	return nil
}

// SetWriteBuffer is like SetReadBuffer.
func (s *socket) SetWriteBuffer(bytes int) error {
	if c, ok := s.PacketConn.(interface{ SetWriteBuffer(int) error }); ok {
		return c.SetWriteBuffer(bytes)
	}
	return nil
}

// A udpSocket is a socket on a real one. quic-go reads by ReadBatch where there are
// batches (Linux, BSD, macOS) and by ReadMsgUDP elsewhere.
type udpSocket struct {
	*net.UDPConn
	socket *socket
	batch  *ipv4.PacketConn // batches work the same for IPv6
}

func (s *udpSocket) ReadFrom(b []byte) (int, net.Addr, error) { return s.socket.ReadFrom(b) }

func (s *udpSocket) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	for {
		n, oobn, flags, from, err = s.UDPConn.ReadMsgUDP(b, oob)
		if err != nil || !s.socket.ours(b[:n], from) {
			return n, oobn, flags, from, err
		}
	}
}

// ReadBatch leaves the packets it took out as empty ones, which quic-go skips.
func (s *udpSocket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := s.batch.ReadBatch(ms, flags)
	for i := range max(n, 0) {
		if s.socket.ours(ms[i].Buffers[0][:ms[i].N], ms[i].Addr) {
			ms[i].N = 0
		}
	}
	return n, err
}
