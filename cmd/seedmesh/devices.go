package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/node/host"
)

// newProbe is what asks vendors' libraries in a process of its own; nobody types it.
func newProbe(e *env) *cobra.Command {
	return &cobra.Command{
		Use:                "probe",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return host.ProbeMain(e.stdin, args) },
	}
}

func newDevices(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "devices",
		Short: "List the GPUs and drivers of this machine, and the lines of cluster.toml that use them",
		Long:  "devices looks at this machine, whether it belongs to a mesh or not. seedmesh node show asks a node about its own.",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			watch, err := host.NewThisMachine()
			if err != nil {
				return err
			}
			report, err := watch.Look(c.Context())
			if err != nil {
				return err
			}
			reached, err := watch.Accelerators(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeValue(e.stdout, devicesJSON(report, reached))
			}
			return printDevices(e.stdout, report, reached)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// A machineInfo is what devices --json prints.
type machineInfo struct {
	GPUs         []gpuInfo         `json:"gpus"`
	Accelerators []acceleratorInfo `json:"accelerators"`
	Missing      map[string]string `json:"missing"` // by kind of accelerator, why there is none
	ClusterTOML  string            `json:"cluster_toml"`
}

// A gpuInfo is one GPU. A reading that is not known is null.
type gpuInfo struct {
	Vendor     string   `json:"vendor"`
	Model      string   `json:"model"`
	PCI        string   `json:"pci"`
	UUID       string   `json:"uuid"`
	Number     *int     `json:"number"`
	Driver     string   `json:"driver"`
	Memory     uint64   `json:"memory_bytes"`
	MemoryUsed uint64   `json:"memory_used_bytes"`
	Integrated bool     `json:"integrated"`
	State      string   `json:"state"`
	Notes      []string `json:"notes"`
	Celsius    *int     `json:"celsius"`
	CoreMHz    *int     `json:"core_mhz"`
	MemoryMHz  *int     `json:"memory_mhz"`
}

type acceleratorInfo struct {
	Device string `json:"device"`
	Number int    `json:"number"`
	Name   string `json:"name"`
	PCI    string `json:"pci"`
}

func devicesJSON(r host.Report, reached host.Accelerators) machineInfo {
	known := func(v int) *int {
		if v == host.NotKnown {
			return nil
		}
		return &v
	}
	m := machineInfo{GPUs: []gpuInfo{}, Accelerators: []acceleratorInfo{}, Missing: reached.Missing, ClusterTOML: clusterLines(r, reached)}
	for _, d := range r.Devices {
		m.GPUs = append(m.GPUs, gpuInfo{
			d.Vendor, d.Model, d.PCI, d.UUID, known(d.Number), d.Driver, d.Memory, d.MemoryUsed, d.Integrated, string(d.State),
			append([]string{}, d.Notes...), known(d.Celsius), known(d.CoreMHz), known(d.MemoryMHz),
		})
	}
	for _, a := range reached.List {
		m.Accelerators = append(m.Accelerators, acceleratorInfo{a.Kind, a.Number, a.Name, a.PCI})
	}
	return m
}

func printDevices(w io.Writer, r host.Report, reached host.Accelerators) error {
	t := newTable(w, "GPU", "VENDOR", "STATE", "CELSIUS", "CORE_MHZ", "MEMORY_MIB", "DRIVER", "UUID", "MODEL")
	for _, d := range r.Devices {
		t.row(d.PCI, d.Vendor, string(d.State), shownReading(d.Celsius), shownReading(d.CoreMHz), fmt.Sprint(d.Memory>>20), d.Driver, d.UUID, d.Model)
	}
	if len(r.Devices) == 0 {
		t = newTable(w)
		t.row("This machine has no GPU of NVIDIA or AMD.")
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, d := range r.Devices {
		for _, note := range d.Notes {
			if _, err := fmt.Fprintf(w, "%s: %s: %s\n", d.PCI, d.State, note); err != nil {
				return err
			}
		}
	}
	t = newTable(w, "\nDEVICE", "NUMBER", "GPU", "NAME")
	for _, a := range reached.List {
		t.row(a.Kind, fmt.Sprint(a.Number), a.PCI, a.Name)
	}
	for _, kind := range slices.Sorted(maps.Keys(reached.Missing)) {
		t.row(kind, "none", "", reached.Missing[kind])
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s", clusterLines(r, reached))
	return err
}

func shownReading(v int) string {
	if v == host.NotKnown {
		return "N/A"
	}
	return fmt.Sprint(v)
}

// clusterLines are the lines of cluster.toml that use what a machine has: a slot
// for each GPU, and one of its processor.
func clusterLines(r host.Report, reached host.Accelerators) string {
	var b strings.Builder
	usable := slices.DeleteFunc(slices.Clone(r.Devices), func(d host.Device) bool { return d.Integrated || d.State == host.Sick || d.Driver == "" })
	b.WriteString("# For cluster.toml; NAME is this node's name.\n")
	if len(usable) > 0 {
		fmt.Fprintf(&b, "[node.NAME]\ngpu_vendor = %q\n", usable[0].Vendor)
	}
	b.WriteString("\n[[node.NAME.slot]]\ndevice = \"cpu\"\n")
	for _, d := range usable {
		if d.Vendor == usable[0].Vendor { // a node has GPUs of one vendor
			fmt.Fprintf(&b, "\n[[node.NAME.slot]]   # %s\n%s", &d, slotLines(d, reached))
		}
	}
	for _, a := range reached.List {
		if a.PCI == "" {
			fmt.Fprintf(&b, "\n[[node.NAME.slot]]   # %s\ndevice = %q\nnumber = %d\n", a.Name, a.Kind, a.Number)
		}
	}
	return b.String()
}

// slotLines are those of a GPU: its searches run on the first interface that
// reaches it, or else on one thread of the processor.
func slotLines(d host.Device, reached host.Accelerators) string {
	i := slices.IndexFunc(reached.List, func(a host.Accelerator) bool { return a.PCI == d.PCI })
	if i < 0 {
		return fmt.Sprintf("device = \"cpu\"\nthreads = 1\ngpu = %q\n", d.ID())
	}
	return fmt.Sprintf("device = %q\ngpu = %q\n", reached.List[i].Kind, d.ID())
}
