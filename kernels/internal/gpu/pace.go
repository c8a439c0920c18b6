package gpu

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Lanes that begin a 32-bit integer instruction in one cycle: of a multiprocessor of
// NVIDIA's since compute capability 7.0, and of one of AMD's SIMDs since RDNA.
// Sources: CUDA C++ Programming Guide, arithmetic instructions; RDNA whitepaper.
const (
	nvidiaLanes = 64
	amdLanes    = 32
)

// Numbers of attributes of NVIDIA's devices.
const (
	attributeClock           = 13 // kHz
	attributeMultiprocessors = 16
)

// topologyNodes is where the kernel describes AMD's GPUs, below /.
const topologyNodes = "sys/class/kfd/kfd/topology/nodes"

// Pace is how many 32-bit integer instructions, counted for each lane, the device
// begins in a second at the clock that its driver states. 0 is unknown.
func (d *Device) Pace(root fs.FS) float64 {
	if d.lib.vendor == HIP {
		return amdPace(root, d.pci)
	}
	var clock, units int32
	if d.lib.attribute(&clock, attributeClock, d.id) != success || d.lib.attribute(&units, attributeMultiprocessors, d.id) != success {
		return 0
	}
	return float64(units) * nvidiaLanes * float64(clock) * 1e3
}

// amdPace looks the GPU at a place on the bus up.
func amdPace(root fs.FS, pci string) float64 {
	files, err := fs.Glob(root, topologyNodes+"/*/properties")
	if err != nil {
		return 0
	}
	for _, file := range files {
		if p := properties(root, file); p["simd_count"] > 0 && place(p["domain"], p["location_id"]) == pci {
			return float64(p["simd_count"]) * amdLanes * float64(p["max_engine_clk_fcompute"]) * 1e6
		}
	}
	return 0
}

// place writes a location_id as PCI places are written.
func place(domain, location uint64) string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", domain, location>>8&0xff, location>>3&0x1f, location&7)
}

// properties reads lines of a name and a number.
func properties(root fs.FS, file string) map[string]uint64 {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return nil
	}
	list := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			list[name] = n
		}
	}
	return list
}
