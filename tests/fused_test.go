package tests

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// unfused are the files of package kernels whose results must be equal to the
// last bit on every machine.
var unfused = []string{"analysis.go", "analyst.go", "figures.go", "statistics.go", "portable.go", "observe.go"}

var fusedInstruction = regexp.MustCompile(`seedmesh/kernels/(\w+\.go):(\d+)\)\s+FN?M(?:ADD|SUB)[DS]\b`)

// TestNothingIsFused compiles the statistics for a processor that can multiply and
// add in one rounding, and looks for instructions that do.
func TestNothingIsFused(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles package kernels")
	}
	c := exec.Command("go", "build", "-trimpath", "-gcflags=-S", "-o", os.DevNull, "seedmesh/kernels")
	c.Env = append(os.Environ(), "GOARCH=arm64", "GOOS=linux", "CGO_ENABLED=0")
	assembly, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, assembly)
	}
	others := 0 // that show that the compiler does fuse
	for _, m := range fusedInstruction.FindAllSubmatch(assembly, -1) {
		others++
		for _, file := range unfused {
			if string(m[1]) == file {
				others--
				t.Errorf("kernels/%s:%s adds to a product that is not rounded: convert it with float64() first", m[1], m[2])
			}
		}
	}
	if others == 0 || !strings.Contains(string(assembly), "kernels/statistics.go") {
		t.Error("there is no fused instruction anywhere, or no statistics: this test would find nothing")
	}
}
