package transport

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestLimiterRemembersBoundedly(t *testing.T) {
	now := time.Now()
	l := limiter{rate: 1, burst: 2, size: 3, buckets: map[netip.Addr]*bucket{}}
	from := func(host string) net.Addr {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 1))
	}
	for i := range 3 {
		if !l.allow(from(fmt.Sprintf("10.0.0.%d", i)), now) {
			t.Errorf("address %d is refused", i)
		}
	}
	if l.allow(from("10.0.0.9"), now) {
		t.Error("a fourth address is let in while three owe")
	}
	if !l.allow(from("10.0.0.1"), now) || l.allow(from("10.0.0.1"), now) {
		t.Error("a known address has not exactly its burst")
	}
	if now = now.Add(3 * time.Second); !l.allow(from("10.0.0.9"), now) || len(l.buckets) != 1 {
		t.Errorf("%d addresses are remembered after all have paid, want 1", len(l.buckets))
	}
}

func TestSource(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1:7":                "10.0.0.1",
		"[::ffff:10.0.0.1]:7":       "10.0.0.1",
		"[2001:db8:1:2:3:4:5:6]:7":  "2001:db8:1:2::",
		"[2001:db8:1:2:f:f:f:f]:99": "2001:db8:1:2::",
		"[fe80::1%eth0]:7":          "fe80::",
	} {
		if got := sourceIP(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got.String() != want {
			t.Errorf("sourceIP(%s) = %v, want %s", addr, got, want)
		}
	}
}
