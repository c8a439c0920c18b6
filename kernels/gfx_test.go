package kernels

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestAcceleratorEnv has machines by what the kernel says of their GPUs.
func TestAcceleratorEnv(t *testing.T) {
	tree := func(versions ...string) fstest.MapFS {
		fs := fstest.MapFS{"0/properties": {Data: []byte("cpu_cores_count 16\ngfx_target_version 0\n")}}
		for i, v := range versions {
			fs[string(rune('1'+i))+"/properties"] = &fstest.MapFile{Data: []byte("simd_count 56\ngfx_target_version " + v + "\n")}
		}
		return fs
	}
	for name, tt := range map[string]struct {
		kind, gfx, environ string
		tree               fstest.MapFS
		want               string
	}{
		"an RX 6600":               {HIP, "", "", tree("100302"), "HSA_OVERRIDE_GFX_VERSION=10.3.0"},
		"two of them":              {HIP, "", "", tree("100302", "100300"), "HSA_OVERRIDE_GFX_VERSION=10.3.0"},
		"beside another kind":      {HIP, "", "", tree("100302", "110000"), ""},
		"an RX 6800":               {HIP, "", "", tree("100300"), ""},
		"no GPU":                   {HIP, "", "", tree(), ""},
		"the environment has one":  {HIP, "", "HSA_OVERRIDE_GFX_VERSION=10.3.1", tree("100302"), ""},
		"the configuration is it":  {HIP, "11.0.0", "HSA_OVERRIDE_GFX_VERSION=10.3.1", tree("100302"), "HSA_OVERRIDE_GFX_VERSION=11.0.0"},
		"through OpenCL as well":   {OpenCL, "", "", tree("100302"), "HSA_OVERRIDE_GFX_VERSION=10.3.0"},
		"a processor":              {"cpu", "11.0.0", "", tree("100302"), ""},
		"a tree of nothing at all": {HIP, "", "", fstest.MapFS{}, ""},
	} {
		got := strings.Join(acceleratorEnv(tt.kind, tt.gfx, []string{tt.environ}, tt.tree), " ")
		if got != tt.want {
			t.Errorf("%s: acceleratorEnv = %q, want %q", name, got, tt.want)
		}
	}
}
