package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"seedmesh/node"
)

const oldConfig = `{
  "nodes": [
    {"hostname": "localhost", "username": "u", "gpu_count": 2, "gpu_type": "RTX 3080 Ti", "script_path": "/home/u/x", "python_env": "/home/u/cuda/bin/python", "max_concurrent_script_jobs": 2},
    {"hostname": "192.168.3.120", "username": "u", "password": "secret", "gpu_count": 12, "gpu_type": "RX 6600", "python_env": "/home/u/rocm_env/bin/activate", "use_ramdisk": true},
    {"hostname": "small", "gpu_count": 3, "gpu_type": "cpu", "gpus": 4},
    {"hostname": "odd\n\"one\"", "gpu_count": 1, "gpu_type": "Voodoo"}
  ],
  "sieve_defaults": {}, "search_bounds": {}
}`

// TestConfigImport reads what was printed as each of the nodes would.
func TestConfigImport(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("distributed_config.json", []byte(oldConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runWith(t.Context(), t, nil, "", "config", "import", "distributed_config.json")
	const unused = "nodes.gpus, nodes.password, nodes.script_path, nodes.use_ramdisk, nodes.username, search_bounds, sieve_defaults, the gpu_type \"Voodoo\" of odd\n\"one\", whose slots are CPU slots then\n"
	if r.code != 0 || r.stderr != "warning: without a meaning on a mesh: "+unused || strings.Contains(r.stdout, "secret") {
		t.Fatalf("got %+v", r)
	}
	if written := runWith(t.Context(), t, nil, "", "config", "import", "distributed_config.json", "-o", "cluster.toml"); written.code != 0 || readFile(t, "cluster.toml") != r.stdout {
		t.Errorf("-o: got %+v", written)
	}
	slot := func(gpu string) node.SlotConfig { return node.SlotConfig{Device: "cpu", Threads: 1, GPU: gpu} }
	rocm := []string{"HSA_OVERRIDE_GFX_VERSION=10.3.0", "HSA_ENABLE_SDMA=0", "ROCM_PATH=/opt/rocm", "HIP_PATH=/opt/rocm", "PYTORCH_HIP_ALLOC_CONF=garbage_collection_threshold:0.8,max_split_size_mb:128"}
	for name, want := range map[string]node.NodeConfig{
		"localhost":     {MaxScripts: 2, GPUVendor: "nvidia", ScriptEnv: []string{"PATH=/home/u/cuda/bin:/usr/local/bin:/usr/bin:/bin"}, Slots: []node.SlotConfig{slot("0"), slot("1")}},
		"192.168.3.120": {GPUVendor: "amd", ScriptEnv: append([]string{"PATH=/home/u/rocm_env/bin:/usr/local/bin:/usr/bin:/bin"}, rocm...)},
		"small":         {Slots: []node.SlotConfig{slot(""), slot(""), slot("")}},
		"odd\n\"one\"":  {Slots: []node.SlotConfig{slot("")}},
	} {
		c, err := node.LoadConfig("cluster.toml", name)
		if err != nil {
			t.Fatal(err)
		}
		got := c.Node
		if name == "192.168.3.120" {
			if len(got.Slots) != 12 || got.Slots[11] != slot("11") {
				t.Errorf("%s has the slots %+v", name, got.Slots)
			}
			got.Slots = nil
		}
		if got.MaxScripts != want.MaxScripts || got.GPUVendor != want.GPUVendor || !slices.Equal(got.ScriptEnv, want.ScriptEnv) || !slices.Equal(got.Slots, want.Slots) {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
}

func TestConfigImportRefusals(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"no JSON": "x", "no nodes": "{}", "no hostname": `{"nodes":[{"gpu_count":1}]}`, "no slots": `{"nodes":[{"hostname":"a"}]}`,
		"the same name": `{"nodes":[{"hostname":"a","gpu_count":1},{"hostname":"a","gpu_count":1}]}`, "a text": `{"nodes":[{"hostname":"a","gpu_count":"2"}]}`,
		"too many": `{"nodes":[{"hostname":"a","gpu_count":100000}]}`, "negative": `{"nodes":[{"hostname":"a","gpu_count":1,"max_concurrent_script_jobs":-1}]}`,
	} {
		if err := os.WriteFile("c.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := runWith(t.Context(), t, nil, "", "config", "import", "c.json"); r.code != exitUsage || r.stdout != "" {
			t.Errorf("%s: got %+v", name, r)
		}
	}
}
