package host

import (
	"context"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// How often this machine is looked at.
const (
	LookEvery    = 10 * time.Second // at the most
	askAfterFail = 30 * time.Second // NVIDIA's library, when it failed; doubling
	askAtLeast   = 10 * time.Minute
	silentMost   = 2 // looks in a row without any reading that make a GPU sick
)

// NVML is the library of the NVIDIA driver that says how its GPUs do.
const NVML = "libnvidia-ml.so.1"

// A Config says where to look.
type Config struct {
	Sys   fs.FS    // the tree of /sys
	Names string   // of AMD's models, as libdrm lists them; may be empty
	NVML  string   // file name of NVIDIA's library
	Probe []string // the command of [ProbeMain]: a path first
}

// A Report is what was seen at one look.
type Report struct {
	At      time.Time
	Devices []Device // in the order of their PCI ids
}

// A Watch looks at the GPUs of this machine when it is asked to, and remembers
// what it saw: a GPU that was there stays in its reports.
type Watch struct {
	config Config
	turn   chan struct{} // who has put a value in owns what follows
	last   Report
	seen   map[string]Device // by PCI id, as they were last there
	silent map[string]int    // looks in a row without a reading, by PCI id
	prober prober
}

// NewWatch is a watch that has not looked yet.
func NewWatch(c Config) *Watch {
	return &Watch{
		config: c, turn: make(chan struct{}, 1), seen: map[string]Device{}, silent: map[string]int{},
		prober: prober{command: c.Probe, limit: probeLimit},
	}
}

// NewThisMachine watches the machine that it runs on, and asks libraries in
// processes of this binary.
func NewThisMachine() (*Watch, error) {
	sys, err := os.OpenRoot("/sys") // stays open as long as the process
	if err != nil {
		return nil, err
	}
	names, _ := os.ReadFile("/usr/share/libdrm/amdgpu.ids") // only names the models
	return NewWatch(Config{Sys: sys.FS(), Names: string(names), NVML: NVML, Probe: selfProbe()}), nil
}

// Look gives the GPUs as they are, or as they were up to [LookEvery] ago.
func (w *Watch) Look(ctx context.Context) (Report, error) {
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	if now := time.Now(); w.last.At.IsZero() || now.Sub(w.last.At) >= LookEvery {
		list, err := pciGPUs(w.config.Sys)
		if err != nil {
			return Report{}, err
		}
		w.read(list)
		w.last = Report{At: now, Devices: w.remember(list)}
	}
	return Report{w.last.At, slices.Clone(w.last.Devices)}, nil
}

// read adds what the vendors' drivers say.
func (w *Watch) read(list []*Device) {
	var nvidia []*Device
	for _, d := range list {
		switch {
		case d.Driver == "":
		case d.Vendor == "amd":
			readAMD(w.config.Sys, w.config.Names, d)
		case d.State == OK && !d.asleep:
			nvidia = append(nvidia, d)
		}
	}
	readKFD(w.config.Sys, list)
	if len(nvidia) == 0 {
		return
	}
	answer, err := w.prober.ask("nvml", w.config.NVML)
	for _, d := range nvidia {
		readNVML(answer.NVML, err, d)
	}
}

// remember judges the GPUs by what was seen before, and adds those that are gone.
func (w *Watch) remember(list []*Device) []Device {
	report := []Device{}
	here := map[string]bool{}
	for _, d := range list {
		if d.State == OK && !d.asleep && !d.answers {
			w.silent[d.PCI]++
			if w.silent[d.PCI] < silentMost {
				d.note(Warning, "it gave no readings (N/A)")
			} else {
				d.note(Sick, "it does not respond (N/A in all readings): reboot the machine, and use smaller samples or chunks if it comes again")
			}
		} else {
			w.silent[d.PCI] = 0
		}
		d.judgeHeat()
		here[d.PCI] = true
		w.seen[d.PCI] = *d
		report = append(report, *d)
	}
	for pci, d := range w.seen {
		if !here[pci] {
			d.Celsius, d.CoreMHz, d.MemoryMHz, d.MemoryUsed = NotKnown, NotKnown, NotKnown, 0
			d.State, d.Notes = OK, nil
			d.note(Sick, lostFromBus)
			report = append(report, d)
		}
	}
	slices.SortFunc(report, func(a, b Device) int { return strings.Compare(a.PCI, b.PCI) })
	return report
}

// Find gives the GPU that a name from cluster.toml means.
func (r Report) Find(name string) (Device, bool) {
	i := slices.IndexFunc(r.Devices, func(d Device) bool { return d.Is(name) })
	if i < 0 {
		return Device{}, false
	}
	return r.Devices[i], true
}
