package host

import (
	"context"
	"errors"

	"seedmesh/kernels"
)

// An Accelerator is one device that a programming interface reaches: the same
// GPU is there once for each interface that this machine has a driver for.
type Accelerator struct {
	Kind   string // as cluster.toml names the interface
	Number int    // from 0, over all devices of the interface
	Name   string // vendor, model and versions
	PCI    string // such as 0000:03:00.0; empty where the interface does not say
}

// Accelerators is what a machine has drivers for.
type Accelerators struct {
	List    []Accelerator
	Missing map[string]string // by kind, why there is none
}

// Why says why a device of a kind is not in the list.
func (a Accelerators) Why(kind string) string {
	if why := a.Missing[kind]; why != "" {
		return why
	}
	return "its driver does not list it"
}

// maxOfKind is how many accelerators of a kind are listed.
const maxOfKind = 64

// listAccelerators opens one after the other. It does not return where a driver aborts.
func listAccelerators(kind string) (a Accelerators, err error) {
	for n := range maxOfKind {
		d, err := kernels.OpenAccelerator(kernels.AcceleratorConfig{Kind: kind, Number: n})
		switch {
		case err != nil && n == 0:
			a.Missing = map[string]string{kind: errors.Unwrap(err).Error()}
			return a, nil
		case err != nil:
			return a, nil
		}
		a.List = append(a.List, Accelerator{kind, n, kernels.Identity(d), kernels.PCI(d)})
		if err := d.Close(); err != nil {
			return a, err
		}
	}
	return a, nil
}

// Accelerators lists what the machine has drivers for. Each interface is asked in
// a process of its own; one that does not answer is missing.
func (w *Watch) Accelerators(ctx context.Context) (all Accelerators, err error) {
	all.Missing = map[string]string{}
	for _, kind := range kernels.Accelerators() {
		p := prober{command: w.config.Probe, limit: probeLimit}
		a, err := p.ask("accelerators", kind)
		switch {
		case ctx.Err() != nil:
			return all, ctx.Err()
		case err != nil:
			all.Missing[kind] = err.Error()
		default:
			all.List = append(all.List, a.Accelerators.List...)
			if why := a.Accelerators.Missing[kind]; why != "" {
				all.Missing[kind] = why
			}
		}
	}
	return all, nil
}
