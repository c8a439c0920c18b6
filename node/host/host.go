// Package host knows the machine of a node: which GPUs it has, and how they do.
//
// What the kernel says of them is read below /sys; what NVIDIA's and OpenCL's
// libraries say is asked in a process of its own, which may hang or die without
// harm to the node. It does not search and changes no setting.
//
// Read host.go for the nouns, watch.go for who looks and how often, pci.go and
// amd.go for /sys, probe.go for the process, nvml.go for what it asks.
package host

import (
	"fmt"
	"slices"
	"strings"
)

// A State is how a GPU does.
type State string

// The states of a GPU, the worst last.
const (
	OK      State = "ok"
	Unknown State = "unknown" // nothing can be said, such as without a driver
	Warning State = "warning" // it works, and somebody should look at it
	Sick    State = "sick"    // it should not be given work
)

// NotKnown stands for a reading that cannot be had: N/A in the vendors' tools.
const NotKnown = -1

// A Device is one GPU of this machine.
type Device struct {
	Vendor     string // nvidia or amd
	Model      string // empty when not known
	Memory     uint64 // bytes; 0 when not known
	MemoryUsed uint64 // bytes
	Driver     string // name and version; empty when none is bound to it
	PCI        string // such as 0000:03:00.0
	UUID       string // that the vendor's libraries know it by; empty when it has none
	Number     int    // that the vendor's libraries count it by, or NotKnown
	Integrated bool   // part of a processor, without memory of its own

	Celsius   int // of the hottest sensor, or NotKnown
	CoreMHz   int // or NotKnown
	MemoryMHz int // or NotKnown

	State State
	Notes []string // what is wrong, and what to do about it

	answers bool // the kernel or its driver gave at least one reading
	asleep  bool // it rests, and must not be woken for readings
	limit   int  // degrees Celsius from which it is too hot
}

// newDevice is one of which nothing is known.
func newDevice(vendor, pci string) *Device {
	return &Device{Vendor: vendor, PCI: pci, Number: NotKnown, Celsius: NotKnown, CoreMHz: NotKnown, MemoryMHz: NotKnown, State: OK, limit: tooHot}
}

// tooHot is where a GPU that states no limit of its own is too hot, in degrees
// Celsius: below the throttling of the cards of the last ten years.
const tooHot = 95

// note adds something to say, and makes the state at least that bad.
func (d *Device) note(s State, format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
	if severity(s) > severity(d.State) {
		d.State = s
	}
}

func severity(s State) int { return slices.Index([]State{OK, Unknown, Warning, Sick}, s) }

// judgeHeat warns of a temperature at or above the limit.
func (d *Device) judgeHeat() {
	if d.Celsius != NotKnown && d.Celsius >= d.limit {
		d.note(Warning, "it is too hot: %d degrees Celsius, its limit is %d: clean its fans and filters, or lower its power limit", d.Celsius, d.limit)
	}
}

// ID is what a slot of cluster.toml names the GPU by: what its vendor's
// libraries know it by, as far as that lasts over a restart.
func (d *Device) ID() string {
	if d.UUID != "" {
		return d.UUID
	}
	return d.PCI
}

// String names the GPU for a person.
func (d *Device) String() string {
	model := d.Model
	if model == "" {
		model = d.Vendor + " GPU"
	}
	return model + " at " + d.PCI
}

// Is tells whether a name from cluster.toml means the GPU: its PCI id, with or
// without the domain, its UUID, or its number.
func (d *Device) Is(name string) bool {
	return strings.EqualFold(name, d.PCI) || "0000:"+strings.ToLower(name) == d.PCI ||
		d.UUID != "" && strings.EqualFold(name, d.UUID) || d.Number != NotKnown && name == fmt.Sprint(d.Number)
}

// Mask is how the vendor's libraries are told of the GPU, in a variable that
// makes it the only one that they see. ok is false when they have no name for it.
func (d *Device) Mask() (name string, ok bool) {
	if d.UUID != "" {
		return d.UUID, true
	}
	return fmt.Sprint(d.Number), d.Number != NotKnown
}
