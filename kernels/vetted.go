package kernels

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"seedmesh/kernels/src"
)

// vetted is an accelerator that passes the conformance suite before its first
// search: once for each device, driver and build of this program.
type vetted struct {
	accelerator
	again  bool // though it is known to have passed
	passed bool
}

func newVetted(name string, d driver, codes codeCache) *vetted {
	return &vetted{accelerator: accelerator{name, d, codes}}
}

// Vet has a device pass the conformance suite, unless it is known to have passed with
// the same driver and build. What a CPU has passed is kept in the directory programs; an
// accelerator has its own. It calls step before every search that it makes, as a sign of life.
func Vet(ctx context.Context, d Device, programs string, again bool, step func()) error {
	switch d := d.(type) {
	case *vetted:
		return d.vet(ctx, step)
	case cpu:
		return codeCache(programs).vet(ctx, stepping{d, step}, d.identity(), again)
	}
	return nil
}

// vet runs the suite unless it is known to have been passed.
func (c codeCache) vet(ctx context.Context, d Device, identity string, again bool) error {
	known := c.path(identity, "passed", thisBuild())
	if _, ok := c.read(known); ok && !again {
		return nil
	}
	if err := conformBriefly(ctx, d, representatives()); err != nil {
		return fmt.Errorf("%w; the device (%s) is not used", err, identity)
	}
	return c.write(known, nil)
}

// stepping is a device that tells of every search.
type stepping struct {
	Device
	step func()
}

func (d stepping) Prepare(ctx context.Context, s *Search) (Searcher, error) {
	d.step()
	return d.Device.Prepare(ctx, s)
}

func (v *vetted) Prepare(ctx context.Context, s *Search) (Searcher, error) {
	if _, err := s.planAccelerator(v.name); err != nil {
		return nil, err
	}
	if err := v.vet(ctx, func() {}); err != nil {
		return nil, err
	}
	return v.accelerator.Prepare(ctx, s)
}

func (v *vetted) vet(ctx context.Context, step func()) error {
	if v.passed {
		return nil
	}
	if err := v.codes.vet(ctx, stepping{&v.accelerator, step}, v.driver.Identity(), v.again); err != nil {
		return err
	}
	v.passed = true
	return nil
}

// thisBuild changes with every source of this program.
func thisBuild() string {
	var b strings.Builder
	if info, ok := debug.ReadBuildInfo(); ok {
		b.WriteString(info.String())
	}
	for _, name := range []string{"prelude.h", "search.h", "stream.h"} {
		b.Write(src.Text(name))
	}
	for _, family := range slices.Concat(families[:], streamFiles) {
		b.Write(src.Text(family + ".h"))
		b.Write(src.Text("ptx/" + family + ".ptx"))
	}
	return b.String()
}

// accelerated are the generators that accelerators have kernels for. A name that
// states a variable skip has none.
func accelerated() (defs []*definition) {
	for _, d := range registry {
		if d.notAccelerated() == "" {
			defs = append(defs, d)
		}
	}
	return defs
}

// notAccelerated says why the accelerators' kernels do not know the generator, or nothing.
func (d *definition) notAccelerated() string {
	if d.hybrid {
		return variableSkip
	}
	if _, ok := vectorFormOf(d.open()); !ok && d.kernel == (streamKernel{}) {
		return "no kernel makes its outputs: they come from a larger state, words of several outputs, or seeding and arithmetic that no kernel has"
	}
	return ""
}

// representatives are the first generator of each form of each kernel: the
// others differ in numbers only.
func representatives() (defs []*definition) {
	type shape struct {
		kernel                int
		quirk, modulus, drawn bool
		stream                streamKernel
	}
	known := map[shape]bool{}
	for _, d := range accelerated() {
		f, _ := vectorFormOf(d.open())
		s := shape{f.kernel, f.quirk, f.modulus != 0, f.accepted != maxWord, d.kernel}
		if !known[s] {
			known[s] = true
			defs = append(defs, d)
		}
	}
	return defs
}
