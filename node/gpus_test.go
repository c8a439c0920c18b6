package node

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"connectrpc.com/connect"

	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/host"
	"seedmesh/node/slot"
)

// TestGpus lists the GPUs of two machines, of which one is sick and used by no slot,
// and quarantines and releases one under each of its names.
func TestGpus(t *testing.T) {
	watches := [2]*host.Watch{sysOf(t, "\x02\x10\xff\x73"), sysOf(t, "\xff\xff\xff\xff")}
	synctest.Test(t, func(t *testing.T) {
		well, sick, join := twoMachines(t, watches, [2][]SlotConfig{
			{{Device: "sim", SimRate: 20_000, GPU: "0000:03:00.0"}, {Device: "cpu", SimRate: 20_000}}, {{Device: "cpu", SimRate: 20_000}},
		})
		defer well.Close()
		defer sick.Close()
		list := func(all bool) []*v1.GpuInfo {
			r, err := sick.API().Gpus(t.Context(), connect.NewRequest(&v1.GpusRequest{All: all}))
			if err != nil {
				t.Fatal(err)
			}
			return r.Msg.Gpus
		}
		does := func(name string) string {
			all := list(true)
			if i := slices.IndexFunc(all, func(g *v1.GpuInfo) bool { return g.Name == name }); i >= 0 {
				return all[i].Does
			}
			return ""
		}
		until(t, "slots of both", func() bool { return does("well/0") == "idle" && does("well/1") == "idle" && does("sick/0") == "idle" })
		id := submitLong(t, well)
		until(t, "work", func() bool { return does("well/0") == "works" })
		names := func(all bool) (names []string) {
			for _, g := range list(all) {
				names = append(names, g.Name)
			}
			return names
		}
		if got := names(false); !slices.Equal(got, []string{"sick/0000:03:00.0", "well/0"}) {
			t.Errorf("the GPUs are %q", got)
		}
		if got := names(true); len(got) != 4 {
			t.Errorf("all slots are %q", got)
		}
		gpus := list(false)
		if g := gpus[0]; g.Slot != -1 || g.Does != "no slot" || g.Gpu.State != string(host.Sick) || !strings.HasPrefix(g.Gpu.Notes[0], "it is lost from the bus") || g.Gpu.Celsius != host.NotKnown {
			t.Errorf("the sick GPU is %v", g)
		}
		if g := gpus[1]; g.Device != "sim" || g.Job != id || g.Gpu.Model != "Radeon RX 6600" || g.Gpu.Celsius != 61 || g.Gpu.State != "ok" || g.Range == "" {
			t.Errorf("the GPU at work is %v", g)
		}

		control := func(node, gpu string, release bool) (*v1.GpusReply, error) {
			r, err := sick.API().ControlGpu(t.Context(), connect.NewRequest(&v1.ControlGpuRequest{Node: node, Gpu: gpu, Release: release, Reason: "\x1b[1mloud\nfan", Request: randomBytes(16)}))
			if err != nil {
				return nil, err
			}
			return r.Msg, nil
		}
		for _, name := range []string{"0", "0000:03:00.0", "03:00.0"} {
			r, err := control("well", name, false)
			if err != nil || len(r.Gpus) != 1 || r.Gpus[0].Name != "well/0" || r.Gpus[0].Does != "quarantined" || r.Gpus[0].Quarantined != "[1mloud fan" {
				t.Errorf("quarantine of well/%s: %v, %v", name, r, err)
			}
			if r, err = control("well", name, true); err != nil || r.Gpus[0].Does != "tested" {
				t.Errorf("release of well/%s: %v, %v", name, r, err)
			}
			until(t, "work after the release", func() bool { return does("well/0") == "works" })
		}
		if _, err := control("sick", "0", false); err != nil {
			t.Error(err)
		}
		if got := names(false); !slices.Contains(got, "sick/0") {
			t.Errorf("a quarantined slot on a processor is not among %q", got)
		}

		token, err := well.API().CreateToken(t.Context(), connect.NewRequest(&v1.CreateTokenRequest{Role: "client", TtlSeconds: 60, Uses: 1}))
		if err != nil {
			t.Fatal(err)
		}
		join("laptop", token.Msg.Join)
		for name, tt := range map[string]struct {
			node, gpu    string
			release      bool
			code         connect.Code
			what, remedy string
		}{
			"no such node":                 {"wel", "0", false, connect.CodeNotFound, `no node "wel"`, "did you mean well?"},
			"no such slot":                 {"well", "7", false, connect.CodeNotFound, `no slot or GPU "7"`, "it has well/0 (sim, 0000:03:00.0), well/1 (cpu)"},
			"no such GPU":                  {"well", "0000:04:00.0", false, connect.CodeNotFound, "no slot or GPU", "it has well/0"},
			"a GPU without a slot":         {"sick", "0000:03:00.0", false, connect.CodeNotFound, "no slot or GPU", "it has sick/0 (cpu)"},
			"one that is in no quarantine": {"well", "1", true, connect.CodeInvalidArgument, "slot 1 of node well is not quarantined", ""},
			"a client":                     {"laptop", "0", false, connect.CodeFailedPrecondition, "laptop joined as a client", "gpus --all"},
		} {
			_, err := control(tt.node, tt.gpu, tt.release)
			code, what, remedy := api.Explain(err)
			if err == nil || code != tt.code || !strings.Contains(what, tt.what) || !strings.Contains(remedy, tt.remedy) {
				t.Errorf("%s: %v %q, %q; want %v %q, %q", name, code, what, remedy, tt.code, tt.what, tt.remedy)
			}
		}
	})
}

// TestCardOf has slots whose GPU is known in every way.
func TestCardOf(t *testing.T) {
	list := []host.Device{{PCI: "0000:03:00.0", UUID: "GPU-7a1c"}, {PCI: "0000:08:00.0", Number: 1}}
	for name, tt := range map[string]struct {
		slot  SlotConfig
		about slot.About
		want  string // PCI id, or the model
	}{
		"where the executor opened it": {SlotConfig{Device: "cuda", Number: 1}, slot.About{Driver: "H100", PCI: "0000:03:00.0"}, "0000:03:00.0"},
		"before it was opened":         {SlotConfig{Device: "cuda", GPU: "GPU-7a1c"}, slot.About{}, "0000:03:00.0"},
		"tasks alone have it":          {SlotConfig{Device: "cpu", GPU: "1"}, slot.About{Driver: "cpu"}, "0000:08:00.0"},
		"no GPU of the machine's list": {SlotConfig{Device: "opencl"}, slot.About{Driver: "pthread, PoCL 3.1"}, "pthread, PoCL 3.1"},
		"nothing is known":             {SlotConfig{Device: "opencl"}, slot.About{}, ""},
		"a processor":                  {SlotConfig{Device: "cpu"}, slot.About{Driver: "cpu"}, ""},
	} {
		got := ""
		if d := cardOf(tt.slot, tt.about, list); d != nil {
			if got = d.PCI; got == "" {
				got = d.Model
			}
		}
		if got != tt.want {
			t.Errorf("%s: cardOf gives %q, want %q", name, got, tt.want)
		}
	}
}

// TestDescribe has a slot on an accelerator that has not passed yet, and a GPU that two
// slots share.
func TestDescribe(t *testing.T) {
	card := host.Device{PCI: "0000:03:00.0"}
	k := told{facts: facts{Cards: []*host.Device{&card, &card, nil}, Waiting: []bool{true, false, true}, Devices: []host.Device{card, {PCI: "0000:08:00.0"}}}}
	slots := []*v1.GpuInfo{{Does: slotIdle}, {Does: slotIdle}, {Does: slotQuarantined}}
	k.describe(&slots, "rig")
	var got []string
	for _, g := range slots {
		got = append(got, g.Does+" "+g.Gpu.GetPci()+" "+g.Name)
	}
	if want := []string{"tested 0000:03:00.0 ", "idle 0000:03:00.0 ", "quarantined  ", "no slot 0000:08:00.0 rig/0000:08:00.0"}; !slices.Equal(got, want) {
		t.Errorf("describe gives %q, want %q", got, want)
	}
}
