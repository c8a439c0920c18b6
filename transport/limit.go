package transport

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A bucket lets rate tokens per second through, and burst at once. The zero bucket is full.
type bucket struct {
	mu      sync.Mutex
	spent   float64 // tokens not yet won back at the time below
	spentAt time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	spent := b.owing(now, rate)
	if spent+1 > burst {
		return false
	}
	b.spent, b.spentAt = spent+1, now
	return true
}

func (b *bucket) owing(now time.Time, rate float64) float64 {
	return max(0, b.spent-rate*now.Sub(b.spentAt).Seconds())
}

// A limiter is a bucket per source address, with a bound on how many it remembers.
type limiter struct {
	rate, burst float64
	size        int // addresses remembered

	mu      sync.Mutex
	buckets map[netip.Addr]*bucket
}

// allow takes a token of addr's. When the table is full of addresses that still owe some,
// a new address is refused: memory is bounded whatever the number of sources.
func (l *limiter) allow(addr net.Addr, now time.Time) bool {
	ip := sourceIP(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[ip]
	if b == nil {
		if len(l.buckets) >= l.size {
			for other, old := range l.buckets {
				if old.owing(now, l.rate) == 0 {
					delete(l.buckets, other)
				}
			}
		}
		if len(l.buckets) >= l.size {
			return false
		}
		b = &bucket{}
		l.buckets[ip] = b
	}
	return b.take(now, l.rate, l.burst)
}

// sourceIP is what counts as one source: an IPv4 address, or the /64 that an IPv6 host owns.
func sourceIP(addr net.Addr) netip.Addr {
	parsed, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	ip := parsed.Addr().Unmap().WithZone("")
	if ip.Is6() {
		prefix, _ := ip.Prefix(64) // 64 is in range
		ip = prefix.Addr()
	}
	return ip
}
