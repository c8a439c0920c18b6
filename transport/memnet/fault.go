package memnet

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// A Fault is what befalls packets while it is in force. Several may strike one packet.
type Fault struct {
	Loss      float64       // share of the packets lost, 0 to 1
	Duplicate float64       // share of the packets that arrive twice, 0 to 1
	Delay     time.Duration // added to every packet
	Jitter    time.Duration // added, evenly from 0 up to this; packets may overtake each other
}

// A Path is a direction in which packets travel. An end is "IP:PORT", "IP" for every port
// of a host, or "" for anywhere.
type Path struct{ From, To string }

// Both gives the paths between two ends, there and back.
func Both(a, b string) []Path { return []Path{{a, b}, {b, a}} }

// Injected is a fault in force.
type Injected struct {
	net   *Network
	fault Fault
	paths []path

	lost, duplicated, delayed, overtaken atomic.Uint64
}

// Effect counts the packets that a fault has struck.
type Effect struct {
	Lost, Duplicated, Delayed uint64
	Overtaken                 uint64 // arrived behind packets that were sent after them
}

// Inject puts a fault on paths. It panics on ends that are no addresses, as these come
// from the test itself.
func (n *Network) Inject(f Fault, on ...Path) *Injected {
	i := &Injected{net: n, fault: f}
	for _, p := range on {
		i.paths = append(i.paths, path{parseEnd(p.From), parseEnd(p.To)})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, i)
	return i
}

// Lift ends the fault. What it held up still arrives late.
func (i *Injected) Lift() {
	i.net.mu.Lock()
	defer i.net.mu.Unlock()
	i.net.faults = slices.DeleteFunc(i.net.faults, func(o *Injected) bool { return o == i })
}

// Effect is what the fault has done so far.
func (i *Injected) Effect() Effect {
	return Effect{i.lost.Load(), i.duplicated.Load(), i.delayed.Load(), i.overtaken.Load()}
}

// Cut loses everything between two ends from now on; what is on the way arrives.
func (n *Network) Cut(a, b string) *Injected { return n.Inject(Fault{Loss: 1}, Both(a, b)...) }

// Isolate cuts an end off from everybody.
func (n *Network) Isolate(end string) *Injected { return n.Cut(end, "") }

// HealAll lifts every fault.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = nil
}

// path is a Path whose ends are parsed.
type path struct{ from, to end }

// end is an address without the parts that may be anything.
type end struct {
	ip   netip.Addr // the zero Addr is anywhere
	port uint16     // 0 is every port
}

func parseEnd(s string) end {
	if s == "" {
		return end{}
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return end{ip: ip}
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		panic(fmt.Sprintf("memnet: %q is neither IP:PORT nor IP", s))
	}
	return end{at.Addr(), at.Port()}
}

func (e end) matches(at netip.AddrPort) bool {
	return e.ip == netip.Addr{} || e.ip == at.Addr() && (e.port == 0 || e.port == at.Port())
}

func (i *Injected) strikes(d direction) bool {
	return slices.ContainsFunc(i.paths, func(p path) bool { return p.from.matches(d.from) && p.to.matches(d.to) })
}

// fate is what is to become of a packet.
type fate struct {
	lost     bool
	copies   int
	delay    func() time.Duration // of one copy
	jittered []*Injected
}

// fate draws the fate of a packet from the link and from the faults in force. The caller
// holds the lock, also while it asks for delays.
func (n *Network) fate(d direction) fate {
	f := fate{lost: n.draw(n.usual.Loss), copies: 1}
	least, jitters := n.usual.Latency, []time.Duration{n.usual.Jitter}
	for _, i := range n.faults {
		if !i.strikes(d) {
			continue
		}
		if n.draw(i.fault.Loss) {
			i.lost.Add(1)
			f.lost = true
		}
		if n.draw(i.fault.Duplicate) {
			i.duplicated.Add(1)
			f.copies = 2
		}
		if i.fault.Delay > 0 || i.fault.Jitter > 0 {
			i.delayed.Add(1)
			least += i.fault.Delay
		}
		if i.fault.Jitter > 0 {
			jitters = append(jitters, i.fault.Jitter)
			f.jittered = append(f.jittered, i)
		}
	}
	f.delay = func() time.Duration {
		delay := least
		for _, j := range jitters {
			if j > 0 {
				delay += time.Duration(n.rng.Int64N(int64(j)))
			}
		}
		return delay
	}
	return f
}

func (n *Network) draw(share float64) bool { return share > 0 && n.rng.Float64() < share }
