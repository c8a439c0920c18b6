package host

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// gfxOff is the bit of amdgpu's ppfeaturemask that lets a card switch its
// shaders off, after which some hang (amdgpu documentation: PP_GFXOFF_MASK).
const gfxOff = 1 << 15

// Limits of what is believed.
const (
	maxCelsius  = 200
	maxMHz      = 100_000
	maxHwmon    = 16 // sensors of a kind, and chips of a card
	maxKFDNodes = 256
)

// readAMD adds what the driver amdgpu says of a card, whose model is in names
// where the card does not state it.
func readAMD(sys fs.FS, names string, d *Device) {
	at := path.Join(pciDevices, d.PCI)
	if d.Model = attribute(sys, at, "product_name"); d.Model == "" {
		device, _ := number(sys, at, "device")
		revision, _ := number(sys, at, "revision")
		d.Model = modelName(names, device, revision)
	}
	if id := attribute(sys, at, "unique_id"); isHex(id) {
		d.UUID = "GPU-" + id
	}
	d.Memory, _ = number(sys, at, "mem_info_vram_total")
	d.MemoryUsed, _ = number(sys, at, "mem_info_vram_used")
	if d.State != OK || d.asleep {
		return
	}
	readHwmon(sys, at, d)
	perf := attribute(sys, at, "power_dpm_force_performance_level")
	d.answers = d.Celsius != NotKnown || d.CoreMHz != NotKnown || d.MemoryMHz != NotKnown
	if perf == "unknown" {
		d.note(Sick, "the driver cannot speak with the card's controller (its performance level is unknown): reboot the machine, and reseat the card if it comes again")
	}
	if mask, ok := number(sys, "module/amdgpu/parameters/ppfeaturemask"); ok && mask&gfxOff != 0 && !d.Integrated {
		d.note(Warning, "GFXOFF is on, which lets some cards freeze: start the kernel with amdgpu.ppfeaturemask=0x%x", mask&^gfxOff)
	}
}

// readHwmon reads the sensors of a card's chips. A processor's graphics show by a
// voltage that no card has.
func readHwmon(sys fs.FS, at string, d *Device) {
	chips, err := fs.ReadDir(sys, path.Join(at, "hwmon"))
	if err != nil {
		return
	}
	for _, chip := range chips[:min(len(chips), maxHwmon)] {
		in := path.Join(at, "hwmon", chip.Name())
		if attribute(sys, in, "in1_label") == "vddnb" {
			d.Integrated = true
		}
		for i := 1; i <= maxHwmon; i++ {
			n := strconv.Itoa(i)
			readTemperature(sys, in, "temp"+n, d)
			hertz, ok := number(sys, in, "freq"+n+"_input")
			if mhz := int(hertz / 1e6); ok && hertz/1e6 <= maxMHz {
				switch attribute(sys, in, "freq"+n+"_label") {
				case "sclk":
					d.CoreMHz = mhz
				case "mclk":
					d.MemoryMHz = mhz
				}
			}
		}
	}
}

// readTemperature keeps the hottest sensor, with the limit that is stated for it.
func readTemperature(sys fs.FS, in, sensor string, d *Device) {
	milli, ok := number(sys, in, sensor+"_input")
	if celsius := int(milli / 1000); ok && milli/1000 <= maxCelsius && celsius > d.Celsius {
		d.Celsius = celsius
		if crit, ok := number(sys, in, sensor+"_crit"); ok && crit/1000 > 0 && crit/1000 <= maxCelsius {
			d.limit = int(crit / 1000)
		}
	}
}

// readKFD gives the cards the numbers by which ROCm counts them.
func readKFD(sys fs.FS, list []*Device) {
	const nodes = "class/kfd/kfd/topology/nodes"
	entries, err := fs.ReadDir(sys, nodes)
	if err != nil {
		return
	}
	for node, gpu := 0, 0; node < min(len(entries), maxKFDNodes); node++ {
		text := attribute(sys, nodes, strconv.Itoa(node), "properties") // empty for those of others
		properties := map[string]uint64{}
		for line := range strings.Lines(text) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				properties[key], _ = strconv.ParseUint(value, 10, 64)
			}
		}
		if properties["simd_count"] == 0 {
			continue
		}
		pci := pciOf(properties["domain"], properties["location_id"])
		for _, d := range list {
			if d.PCI == pci {
				d.Number = gpu
			}
		}
		gpu++
	}
}

// pciOf writes the address that a location of the topology stands for: bus,
// device and function in 8, 5 and 3 bits.
func pciOf(domain, location uint64) string {
	hex := func(v uint64, digits int) string {
		s := strconv.FormatUint(v, 16)
		return strings.Repeat("0", max(0, digits-len(s))) + s
	}
	return hex(domain, 4) + ":" + hex(location>>8&0xff, 2) + ":" + hex(location>>3&0x1f, 2) + "." + hex(location&7, 1)
}

// isHex tells a number of sixteen hexadecimal digits that is not zero.
func isHex(s string) bool {
	n, err := strconv.ParseUint(s, 16, 64)
	return err == nil && n != 0 && len(s) == 16
}

// modelName finds the name of an AMD card in the list that comes with libdrm, by
// its device and revision: "73FF,	C7,	AMD Radeon RX 6600" is a line of it.
func modelName(list string, device, revision uint64) string {
	for line := range strings.Lines(list) {
		fields := strings.SplitN(line, ",", 3)
		if len(fields) != 3 {
			continue
		}
		id, err := strconv.ParseUint(strings.TrimSpace(fields[0]), 16, 16)
		rev, err2 := strconv.ParseUint(strings.TrimSpace(fields[1]), 16, 8)
		if err == nil && err2 == nil && id == device && rev == revision {
			return strings.TrimSpace(fields[2])
		}
	}
	return ""
}
