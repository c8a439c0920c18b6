package main

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/node/host"
)

// rigServer is a node with two cards, of which one is sick.
type rigServer struct {
	meshv1connect.UnimplementedMeshHandler
	asked string
}

var rigGPUs = []*meshv1.DeviceInfo{
	{
		Vendor: "amd", Model: "AMD Radeon RX 6600", Pci: "0000:03:00.0", Uuid: "GPU-7a1c04b2f8e05d31", Driver: "amdgpu", MemoryBytes: 8573157376,
		MemoryUsedBytes: 17526784, State: "ok", Celsius: 74, CoreMhz: 2044, MemoryMhz: 875,
	},
	{Vendor: "amd", Pci: "0000:08:00.0", State: "sick", Notes: []string{"it is lost from the bus"}, Number: -1, Celsius: -1, CoreMhz: -1, MemoryMhz: -1},
}

func (s *rigServer) Node(_ context.Context, r *connect.Request[meshv1.NodeRequest]) (*connect.Response[meshv1.NodeReply], error) {
	s.asked = r.Msg.Node
	if r.Msg.Node == "far" {
		return connect.NewResponse(&meshv1.NodeReply{Node: &meshv1.NodeInfo{Name: "far"}, Problem: "the node does not answer"}), nil
	}
	return connect.NewResponse(&meshv1.NodeReply{
		Node: &meshv1.NodeInfo{Name: "rig", State: "alive"}, Scripts: "as user 64222, sessions of their own, cgroup v2", Devices: rigGPUs,
		Slots: []*meshv1.SlotInfo{{Device: "opencl", Gpu: "GPU-7a1c04b2f8e05d31", Scripts: true, Busy: true}, {Slot: 1, Device: "cpu"}, {Slot: 2, Device: "cuda", Quarantined: "it hangs"},
			{Slot: 3, Device: "cuda", Driver: "GTX 1660; cuda driver 11040; embedded PTX, NVRTC missing", Scripts: true}},
	}), nil
}

func (s *rigServer) Status(context.Context, *connect.Request[meshv1.StatusRequest]) (*connect.Response[meshv1.StatusReply], error) {
	return connect.NewResponse(&meshv1.StatusReply{Node: "rig", Devices: rigGPUs}), nil
}

// TestNodeShow prints a node for eyes and for scripts.
func TestNodeShow(t *testing.T) {
	server := new(rigServer)
	dial := serveFake(t, server)
	gpus := []string{
		`gpu 0000:03:00.0 +ok, 74 °C, 2044 MHz, 16 of 8176 MiB, AMD Radeon RX 6600, amdgpu, GPU-7a1c04b2f8e05d31`,
		`gpu 0000:08:00.0 +sick, N/A °C, N/A MHz, memory N/A, amd GPU`, ` +sick +it is lost from the bus`,
	}
	for _, tt := range []struct {
		args []string
		want []string // lines
	}{
		{[]string{"node", "show", "rig"}, append([]string{`scripts +as user 64222, .*cgroup v2`, `slot 0 +opencl, GPU GPU-7a1c04b2f8e05d31, busy`, `slot 1 +cpu, no scripts`, `slot 2 +cuda, no scripts, quarantined: it hangs`,
			`slot 3 +cuda, GTX 1660; cuda driver 11040; embedded PTX, NVRTC missing`}, gpus...)},
		{[]string{"status"}, gpus},
	} {
		r := runWith(t.Context(), t, dial, "", tt.args...)
		for _, line := range tt.want {
			if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(r.stdout) {
				t.Errorf("%q: no line %q in\n%s%s", tt.args, line, r.stdout, r.stderr)
			}
		}
	}
	if r := runWith(t.Context(), t, dial, "", "node", "show", "far"); r.code != 0 || server.asked != "far" || !strings.Contains(r.stderr, "not known: the node does not answer") {
		t.Errorf("node show far: %+v", r)
	}
	for _, args := range [][]string{{"node", "show", "--json"}, {"status", "--json"}} {
		r := runWith(t.Context(), t, dial, "", args...)
		var reply struct {
			Devices []struct {
				PCI     string
				State   string
				Celsius int
				Notes   []string
			}
		}
		if err := json.Unmarshal([]byte(r.stdout), &reply); err != nil || len(reply.Devices) != 2 || reply.Devices[0].Celsius != 74 || reply.Devices[1].Notes[0] != "it is lost from the bus" {
			t.Errorf("%q: %+v, %v", args, reply, err)
		}
	}
}

// TestClusterLines has the lines that use a rig's cards: none for what is sick or
// part of a processor.
func TestClusterLines(t *testing.T) {
	card := func(pci, uuid string, s host.State) host.Device {
		return host.Device{Vendor: "amd", Model: "RX 6600", Driver: "amdgpu", PCI: pci, UUID: uuid, State: s}
	}
	inside := card("0000:0a:00.0", "", host.OK)
	inside.Integrated = true
	r := host.Report{Devices: []host.Device{card("0000:03:00.0", "GPU-7a1c04b2f8e05d31", host.OK), card("0000:08:00.0", "", host.Warning), card("0000:09:00.0", "", host.Sick), inside}}
	reached := host.Accelerators{List: []host.Accelerator{{Kind: "opencl", Number: 1, PCI: "0000:03:00.0"}, {Kind: "opencl", Name: "pthread"}}}
	const want = `# For cluster.toml; NAME is this node's name.
[node.NAME]
gpu_vendor = "amd"

[[node.NAME.slot]]
device = "cpu"

[[node.NAME.slot]]   # RX 6600 at 0000:03:00.0
device = "opencl"
gpu = "GPU-7a1c04b2f8e05d31"

[[node.NAME.slot]]   # RX 6600 at 0000:08:00.0
device = "cpu"
threads = 1
gpu = "0000:08:00.0"

[[node.NAME.slot]]   # pthread
device = "opencl"
number = 0
`
	got := clusterLines(r, reached)
	if got != want {
		t.Errorf("clusterLines = %s\nwant %s", got, want)
	}
	checkCluster(t, got)
}

// checkCluster has seedmesh config check read the lines.
func checkCluster(t *testing.T, lines string) {
	t.Helper()
	file := t.TempDir() + "/cluster.toml"
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(lines, "NAME", "rig")), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := runWith(t.Context(), t, nil, "", "config", "check", file, "--name", "rig"); r.code != 0 {
		t.Errorf("config check refuses the lines: %s", r.stderr)
	}
}
