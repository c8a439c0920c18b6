package gpu

import (
	"testing"
	"testing/fstest"
)

func TestAMDPace(t *testing.T) {
	root := fstest.MapFS{
		topologyNodes + "/0/properties": {Data: []byte("cpu_cores_count 16\nsimd_count 0\nlocation_id 0\n")},
		topologyNodes + "/1/properties": {Data: []byte("simd_count 56\nlocation_id 768\ndomain 0\nmax_engine_clk_fcompute 2491\n")},
	}
	for pci, want := range map[string]float64{"0000:03:00.0": 28 * 64 * 2491e6, "0000:00:00.0": 0, "0000:04:00.0": 0} {
		if got := amdPace(root, pci); got != want {
			t.Errorf("amdPace(%s) = %g, want %g", pci, got, want)
		}
	}
}
