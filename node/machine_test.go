package node

import (
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"

	"seedmesh/kernels"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/host"
	"seedmesh/node/slot"
	"seedmesh/transport/memnet"
)

// TestFindGPUs has slots name GPUs in every way.
func TestFindGPUs(t *testing.T) {
	r := host.Report{Devices: []host.Device{
		{Vendor: "amd", PCI: "0000:03:00.0", UUID: "GPU-7a1c04b2f8e05d31", Number: 0},
		{Vendor: "amd", PCI: "0000:08:00.0", Number: 1},
		{Vendor: "amd", PCI: "0000:0b:00.0", Number: host.NotKnown},
	}}
	reached := host.Accelerators{List: []host.Accelerator{{Kind: kernels.OpenCL, Number: 4, PCI: "0000:03:00.0"}, {Kind: kernels.OpenCL, Number: 5, PCI: "0000:08:00.0"}}}
	for name, tt := range map[string]struct {
		in, want SlotConfig
		missing  string
	}{
		"tasks by PCI id":               {SlotConfig{Device: "cpu", GPU: "0000:03:00.0"}, SlotConfig{Device: "cpu", GPU: "GPU-7a1c04b2f8e05d31"}, ""},
		"tasks by PCI id, without UUID": {SlotConfig{Device: "cpu", GPU: "08:00.0"}, SlotConfig{Device: "cpu", GPU: "1"}, ""},
		"searches by PCI id":            {SlotConfig{Device: kernels.OpenCL, GPU: "0000:08:00.0"}, SlotConfig{Device: kernels.OpenCL, Number: 5, GPU: "1"}, ""},
		"searches by UUID":              {SlotConfig{Device: kernels.OpenCL, GPU: "GPU-7a1c04b2f8e05d31"}, SlotConfig{Device: kernels.OpenCL, Number: 4, GPU: "GPU-7a1c04b2f8e05d31"}, ""},
		"a number is left alone":        {SlotConfig{Device: kernels.OpenCL, Number: 2, GPU: "7"}, SlotConfig{Device: kernels.OpenCL, Number: 2, GPU: "7"}, ""},
		"no GPU":                        {SlotConfig{Device: "cpu"}, SlotConfig{Device: "cpu"}, ""},
		"one that is gone":              {SlotConfig{Device: kernels.OpenCL, GPU: "0000:0e:00.0"}, SlotConfig{Device: kernels.OpenCL, Number: noSuchDevice, GPU: "0000:0e:00.0"}, "has none of that name"},
		"one without a number":          {SlotConfig{Device: "cpu", GPU: "0000:0b:00.0"}, SlotConfig{Device: "cpu", GPU: "0000:0b:00.0"}, "have no name for"},
	} {
		t.Run(name, func(t *testing.T) {
			got, missing := findGPUs([]SlotConfig{tt.in}, r, reached)
			if !reflect.DeepEqual(got[0], tt.want) || (len(missing) > 0) != (tt.missing != "") || !strings.Contains(strings.Join(missing, ""), tt.missing) {
				t.Errorf("findGPUs(%+v) = %+v, missing %q; want %+v, missing %q", tt.in, got[0], missing, tt.want, tt.missing)
			}
		})
	}
	reached.List = nil
	reached.Missing = map[string]string{kernels.OpenCL: "there is no loader"}
	got, missing := findGPUs([]SlotConfig{{Device: kernels.OpenCL, GPU: "0000:03:00.0"}}, r, reached)
	if got[0].Number != noSuchDevice || len(missing) != 1 || !strings.Contains(missing[0], "there is no loader") {
		t.Errorf("without a driver: %+v, %q", got, missing)
	}
}

// sysOf makes a tree of /sys with one AMD card, at work or lost from the bus.
func sysOf(t *testing.T, config string) *host.Watch {
	t.Helper()
	dir := t.TempDir()
	card := filepath.Join(dir, "bus/pci/devices/0000:03:00.0")
	for file, text := range map[string]string{
		"vendor": "0x1002", "class": "0x030000", "config": config, "product_name": "Radeon RX 6600", "mem_info_vram_total": "8573157376",
		"hwmon/hwmon2/temp1_input": "61000",
	} {
		path := filepath.Join(card, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../../drivers/amdgpu", filepath.Join(card, "driver")); err != nil {
		t.Fatal(err)
	}
	return host.NewWatch(host.Config{Sys: os.DirFS(dir)})
}

// twoMachines starts the nodes well and sick, with the slots and what they see of their
// machines; join makes a member of another directory, under a token.
func twoMachines(t *testing.T, watches [2]*host.Watch, slots [2][]SlotConfig) (well, sick *Node, join func(name, token string)) {
	t.Helper()
	network := memnet.New(1)
	dirs := map[string]string{"well": t.TempDir()}
	join = func(name, token string) {
		dirs[name] = t.TempDir()
		s := Setup{Dir: dirs[name], Name: name, Listen: "10.0.0.2:7946", Socket: func() (net.PacketConn, error) { return network.Listen("10.0.1.2:1") }}
		if _, err := Join(t.Context(), s, token); err != nil {
			t.Fatal(err)
		}
	}
	open := func(i int, name, addr string) *Node {
		conn, err := network.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		c := DefaultConfig()
		c.Dir, c.Node.Slots, c.Node.GPUVendor = dirs[name], slots[i], "amd"
		c.Seams = Seams{PacketConn: conn, NoSocket: true, Machine: watches[i], Executor: func(i int, s SlotConfig) (slot.Executor, error) {
			return slot.NewInProcess(i, kernels.NewSim(kernels.SimConfig{Rate: s.SimRate})), nil
		}}
		n, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	made, err := Init(Setup{Dir: dirs["well"], Name: "well", Listen: "10.0.0.1:7946"})
	if err != nil {
		t.Fatal(err)
	}
	well = open(0, "well", "10.0.0.1:7946")
	join("sick", made.Join)
	return well, open(1, "sick", "10.0.0.2:7946"), join
}

// TestMachinesAreShown asks one node about another one's GPU, and has a sick one
// named by both.
func TestMachinesAreShown(t *testing.T) {
	watches := [2]*host.Watch{sysOf(t, "\x02\x10\xff\x73"), sysOf(t, "\xff\xff\xff\xff")}
	synctest.Test(t, func(t *testing.T) {
		only := []SlotConfig{{Device: "sim", SimRate: 1e6}}
		first, second, _ := twoMachines(t, watches, [2][]SlotConfig{only, only})
		defer first.Close()
		defer second.Close()

		show := func(n *Node, of string) *v1.NodeReply {
			r, err := n.API().Node(t.Context(), connect.NewRequest(&v1.NodeRequest{Node: of}))
			if err != nil {
				return nil
			}
			return r.Msg
		}
		var r *v1.NodeReply
		until(t, "answer of the other node", func() bool {
			r = show(first, "sick")
			return r != nil && r.Problem == "" && len(r.Devices) == 1
		})
		if d := r.Devices[0]; d.State != string(host.Sick) || d.Pci != "0000:03:00.0" || d.Celsius != host.NotKnown || d.MemoryBytes != 8573157376 || d.Model != "Radeon RX 6600" {
			t.Errorf("the other node's GPU is %v", d)
		}
		if len(r.Slots) != 1 || r.Slots[0].Device != "sim" || r.Slots[0].Scripts || !strings.HasPrefix(r.Scripts, "refused: ") {
			t.Errorf("the other node has slots %v and keeps scripts apart as %q", r.Slots, r.Scripts)
		}
		if r := show(first, ""); r == nil || r.Node.Name != "well" || len(r.Devices) != 1 || r.Devices[0].State != string(host.OK) || r.Devices[0].Celsius != 61 {
			t.Errorf("the node itself is %v", r)
		}
		for _, n := range []*Node{first, second} {
			until(t, "alarm of the sick GPU", func() bool {
				r, err := n.API().Status(t.Context(), connect.NewRequest(&v1.StatusRequest{}))
				return err == nil && len(r.Msg.Devices) == 1 && len(r.Msg.Alarms) == 1 &&
					strings.HasPrefix(r.Msg.Alarms[0], "node sick: Radeon RX 6600 at 0000:03:00.0 should not be given work: it is lost from the bus")
			})
		}
		if _, err := first.API().Node(t.Context(), connect.NewRequest(&v1.NodeRequest{Node: "nobody"})); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("Node of nobody: %v", err)
		}
	})
}
