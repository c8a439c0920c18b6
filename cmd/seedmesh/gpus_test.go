package main

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"seedmesh/node/api"
	"seedmesh/node/api/meshv1"
)

func (s *rigServer) Gpus(_ context.Context, r *connect.Request[meshv1.GpusRequest]) (*connect.Response[meshv1.GpusReply], error) {
	none := &meshv1.DeviceInfo{Number: -1, Celsius: -1, CoreMhz: -1, MemoryMhz: -1}
	reply := &meshv1.GpusReply{Gpus: []*meshv1.GpuInfo{
		{Name: "rig/0", Node: "rig", Device: "opencl", Does: "works", Job: "00c0ffee00c0ffee", Range: "0:4096", Gpu: rigGPUs[0]},
		{Name: "rig/2", Node: "rig", Slot: 2, Device: "cuda", Does: "quarantined", Quarantined: "ann@desk: its fan is loud", Gpu: none},
		{Name: "far/0", Node: "far", Device: "hip", Does: "dead", Problem: "the node does not live", Gpu: none},
		{Name: "rig/0000:08:00.0", Node: "rig", Slot: -1, Does: "no slot", Gpu: rigGPUs[1]},
	}}
	if s.asked == "nothing" {
		reply.Gpus = nil
	}
	if r.Msg.All {
		reply.Gpus = append(reply.Gpus, &meshv1.GpuInfo{Name: "rig/1", Node: "rig", Slot: 1, Device: "cpu", Does: "idle", Gpu: none})
	}
	return connect.NewResponse(reply), nil
}

func (s *rigServer) ControlGpu(_ context.Context, r *connect.Request[meshv1.ControlGpuRequest]) (*connect.Response[meshv1.GpusReply], error) {
	q := r.Msg
	s.asked = strings.Join([]string{q.Node, q.Gpu, q.Reason}, "|")
	if q.Node != "rig" || len(q.Request) != 16 {
		return nil, (&api.Error{Code: connect.CodeNotFound, What: "there is no node \"rg\"", Remedy: "did you mean rig? seedmesh nodes lists them"}).Connect()
	}
	g := &meshv1.GpuInfo{Name: "rig/0", Does: "quarantined", Quarantined: q.Reason}
	if q.Release {
		g.Does, g.Quarantined = "tested", "it was released"
	}
	return connect.NewResponse(&meshv1.GpusReply{Gpus: []*meshv1.GpuInfo{g}}), nil
}

// TestGpus prints the GPUs of a mesh for eyes and for scripts.
func TestGpus(t *testing.T) {
	server := new(rigServer)
	dial := serveFake(t, server)
	r := runWith(t.Context(), t, dial, "", "gpus")
	for _, line := range []string{
		`NAME +DEVICE +DOES +STATE +CELSIUS +CORE_MHZ +MEMORY_MIB +VENDOR +DRIVER +MODEL`,
		`rig/0 +opencl +works on 00c0ffee00c0ffee 0:4096 +ok +74 +2044 +8176 +amd +amdgpu +AMD Radeon RX 6600`,
		`rig/2 +cuda +quarantined +unknown +N/A +N/A +N/A +- +- +-`,
		`far/0 +hip +dead +unknown +N/A.*`,
		`rig/0000:08:00.0 +- +no slot +sick +N/A +N/A +N/A +amd +- +-`,
		`rig/2: quarantined: ann@desk: its fan is loud`,
		`far/0: its GPU is not known: the node does not live`,
		`rig/0000:08:00.0: sick: it is lost from the bus`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(r.stdout) {
			t.Errorf("no line %q in\n%s%s", line, r.stdout, r.stderr)
		}
	}
	if strings.Contains(r.stdout, "rig/1") {
		t.Errorf("a slot on a processor is listed without --all:\n%s", r.stdout)
	}
	r = runWith(t.Context(), t, dial, "", "gpus", "--all", "--json")
	var list []struct {
		Name, Does, Job, Quarantined string
		Slot                         int
		GPU                          struct{ Celsius int }
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) != 5 || list[0].GPU.Celsius != 74 || list[1].GPU.Celsius != -1 || list[3].Slot != -1 || list[4].Name != "rig/1" {
		t.Errorf("--all --json gives %+v, %v", list, err)
	}
	server.asked = "nothing"
	if r := runWith(t.Context(), t, dial, "", "gpus"); r.code != 0 || !strings.HasPrefix(r.stdout, "No slot of this mesh runs on an accelerator") {
		t.Errorf("without a GPU it says %q, %q", r.stdout, r.stderr)
	}
}

// TestGpu quarantines and releases, and refuses what names no GPU.
func TestGpu(t *testing.T) {
	server := new(rigServer)
	dial := serveFake(t, server)
	for name, tt := range map[string]struct {
		args                  []string
		code                  int
		asked, stdout, stderr string // expressions
	}{
		"quarantine":               {[]string{"quarantine", "rig/0", "--reason", "its fan is loud"}, 0, `rig\|0\|.*: its fan is loud`, `rig/0 quarantined: .*: its fan is loud`, ""},
		"quarantine for no reason": {[]string{"quarantine", "rig/0000:03:00.0"}, 0, `rig\|0000:03:00.0\|.* gave no reason`, `rig/0 quarantined: .* gave no reason`, ""},
		"release":                  {[]string{"release", "rig/0"}, 0, `rig\|0\|`, `rig/0 released: it works again once its device has passed its test`, ""},
		"no node":                  {[]string{"quarantine", "rg/0"}, exitNotFound, "", "", `(?s)there is no node "rg".*did you mean rig`},
		"no name":                  {[]string{"quarantine"}, exitUsage, "", "", "needs NODE/GPU"},
		"no GPU":                   {[]string{"release", "rig"}, exitUsage, "", "", `(?s)"rig" is not NODE/GPU.*seedmesh gpus --all`},
		"no verb":                  {nil, exitUsage, "", "", "one of: quarantine, release"},
	} {
		server.asked = ""
		r := runWith(t.Context(), t, dial, "", append([]string{"gpu"}, tt.args...)...)
		matches := func(expression, text string) bool {
			return regexp.MustCompile("^(" + expression + ")\n?$").MatchString(text)
		}
		if r.code != tt.code || tt.code == 0 && !matches(tt.asked, server.asked) || !matches(tt.stdout, r.stdout) || !regexp.MustCompile(tt.stderr).MatchString(r.stderr) {
			t.Errorf("%s: code %d, asked %q, printed %q, %q", name, r.code, server.asked, r.stdout, r.stderr)
		}
	}
	if r := runWith(t.Context(), t, dial, "", "__complete", "gpu", "quarantine", ""); !strings.HasPrefix(r.stdout, "rig/0\nrig/2\nfar/0\nrig/1\n:4") {
		t.Errorf("a shell is offered %q, %q", r.stdout, r.stderr)
	}
}
