package host

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"seedmesh/kernels/dl"
)

// Numbers of NVML's header, version 12.
const (
	nvmlSuccess     = 0
	nvmlGPUIsLost   = 15
	nvmlOnDie       = 0 // temperature sensor
	nvmlSlowdown    = 1 // temperature threshold
	nvmlSM, nvmlMem = 1, 2
	maxNVMLDevices  = 64
	maxNVMLText     = 96 // bytes of a name, a UUID or a version
	nvmlBusID       = 36 // where nvmlPciInfo_t has the address, as text
	nvmlBusIDEnd    = 68
)

// nvmlLibrary is the functions of NVML that are used, under their names without
// nvml. Devices are pointers that only the library follows.
type nvmlLibrary struct {
	init             func() int32
	driverVersion    func(text *byte, size uint32) int32
	count            func(n *uint32) int32
	handle           func(index uint32, device *uintptr) int32
	name             func(device uintptr, text *byte, size uint32) int32
	uuid             func(device uintptr, text *byte, size uint32) int32
	pciInfo          func(device uintptr, info *byte) int32
	memoryInfo       func(device uintptr, sizes *[3]uint64) int32 // all, free, used
	temperature      func(device uintptr, sensor uint32, celsius *uint32) int32
	temperatureLimit func(device uintptr, kind uint32, celsius *uint32) int32
	clock            func(device uintptr, kind uint32, mhz *uint32) int32
}

func (l *nvmlLibrary) functions() map[string]any {
	return map[string]any{
		"nvmlInit_v2":                       &l.init,
		"nvmlSystemGetDriverVersion":        &l.driverVersion,
		"nvmlDeviceGetCount_v2":             &l.count,
		"nvmlDeviceGetHandleByIndex_v2":     &l.handle,
		"nvmlDeviceGetName":                 &l.name,
		"nvmlDeviceGetUUID":                 &l.uuid,
		"nvmlDeviceGetPciInfo_v3":           &l.pciInfo,
		"nvmlDeviceGetMemoryInfo":           &l.memoryInfo,
		"nvmlDeviceGetTemperature":          &l.temperature,
		"nvmlDeviceGetTemperatureThreshold": &l.temperatureLimit,
		"nvmlDeviceGetClockInfo":            &l.clock,
	}
}

// An nvmlAnswer is what NVML says, as it goes from one process to the other.
type nvmlAnswer struct {
	Driver  string
	Devices []nvmlDevice
}

type nvmlDevice struct {
	Number       int
	Name, UUID   string
	PCI          string
	Memory, Used uint64
	Celsius      int // or NotKnown, as the next three
	LimitCelsius int
	CoreMHz      int
	MemoryMHz    int
	Lost         bool // from the bus
}

// askNVML asks the library of a file name. It does not return where that aborts.
func askNVML(name string) (a nvmlAnswer, err error) {
	library, err := dl.Open("", name)
	if err != nil {
		return a, fmt.Errorf("there is no library to ask: %w", err)
	}
	l := new(nvmlLibrary)
	if err := library.Bind(l.functions()); err != nil {
		return a, err
	}
	if err := nvmlCheck("nvmlInit_v2", l.init()); err != nil {
		return a, err
	}
	a.Driver, _ = nvmlText(func(text *byte) int32 { return l.driverVersion(text, maxNVMLText) })
	var n uint32
	if err := nvmlCheck("nvmlDeviceGetCount_v2", l.count(&n)); err != nil {
		return a, err
	}
	for i := range min(n, maxNVMLDevices) {
		var device uintptr
		if status := l.handle(i, &device); status == nvmlSuccess {
			a.Devices = append(a.Devices, l.device(int(i), device))
		}
	}
	return a, nil
}

// device reads one device. What it does not support is not known.
func (l *nvmlLibrary) device(number int, device uintptr) nvmlDevice {
	d := nvmlDevice{Number: number}
	var lost [6]bool
	d.Name, lost[0] = nvmlText(func(text *byte) int32 { return l.name(device, text, maxNVMLText) })
	d.UUID, lost[1] = nvmlText(func(text *byte) int32 { return l.uuid(device, text, maxNVMLText) })
	var info [128]byte
	if l.pciInfo(device, &info[0]) == nvmlSuccess {
		d.PCI = normalPCI(nvmlString(info[nvmlBusID:nvmlBusIDEnd]))
	}
	var sizes [3]uint64
	if l.memoryInfo(device, &sizes) == nvmlSuccess {
		d.Memory, d.Used = sizes[0], sizes[2]
	}
	d.Celsius, lost[2] = nvmlReading(func(v *uint32) int32 { return l.temperature(device, nvmlOnDie, v) }, maxCelsius)
	d.LimitCelsius, lost[3] = nvmlReading(func(v *uint32) int32 { return l.temperatureLimit(device, nvmlSlowdown, v) }, maxCelsius)
	d.CoreMHz, lost[4] = nvmlReading(func(v *uint32) int32 { return l.clock(device, nvmlSM, v) }, maxMHz)
	d.MemoryMHz, lost[5] = nvmlReading(func(v *uint32) int32 { return l.clock(device, nvmlMem, v) }, maxMHz)
	d.Lost = slices.Contains(lost[:], true)
	return d
}

func nvmlText(get func(*byte) int32) (text string, lost bool) {
	var b [maxNVMLText]byte
	status := get(&b[0])
	if status != nvmlSuccess {
		return "", status == nvmlGPUIsLost
	}
	return nvmlString(b[:]), false
}

func nvmlReading(get func(*uint32) int32, most uint32) (value int, lost bool) {
	var v uint32
	status := get(&v)
	if status != nvmlSuccess || v > most {
		return NotKnown, status == nvmlGPUIsLost
	}
	return int(v), false
}

func nvmlString(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return strings.TrimSpace(strings.ToValidUTF8(string(before), "?"))
}

func nvmlCheck(call string, status int32) error {
	if status == nvmlSuccess {
		return nil
	}
	return fmt.Errorf("%s gave error %d", call, status)
}

// readNVML adds what NVML said of a GPU, or why it said nothing.
func readNVML(a nvmlAnswer, err error, d *Device) {
	if err != nil {
		d.note(Unknown, "nothing is known of its health: %v", err)
		return
	}
	i := slices.IndexFunc(a.Devices, func(n nvmlDevice) bool { return n.PCI == d.PCI })
	if i < 0 {
		d.note(Sick, "the driver does not answer for it: reboot the machine, and reseat the card if it comes again")
		return
	}
	n := a.Devices[i]
	d.Model, d.UUID, d.Number, d.Memory, d.MemoryUsed = n.Name, n.UUID, n.Number, n.Memory, n.Used
	d.Celsius, d.CoreMHz, d.MemoryMHz = n.Celsius, n.CoreMHz, n.MemoryMHz
	if a.Driver != "" {
		d.Driver = "nvidia " + a.Driver
	}
	if n.LimitCelsius > 0 {
		d.limit = n.LimitCelsius
	}
	d.answers = d.Celsius != NotKnown || d.CoreMHz != NotKnown || d.MemoryMHz != NotKnown
	if n.Lost {
		d.note(Sick, lostFromBus)
	}
}
