// Package shim builds libraries for tests that look like the drivers of GPUs and
// run kernels on the CPU, so that the host's part of CUDA and HIP is tested on
// machines without either. They compile a kernel with clang when they are asked to: its
// source, or for the PTX that comes with this program the source of which that was made.
package shim

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"seedmesh/kernels/src"
)

//go:embed src/driver.c
var driver []byte

//go:embed src/prelude.h
var prelude []byte

// A Fault is what is wrong with the libraries.
type Fault struct {
	Call string // that goes wrong, without its prefix; such as Init, CompileProgram or Launch
	Kind Kind
}

// Kind is how a call goes wrong.
type Kind string

// The kinds.
const (
	Fails   Kind = "-DKIND=1" // it gives an error
	Hangs   Kind = "-DKIND=2"
	Aborts  Kind = "-DKIND=3"
	Loses   Kind = "-DKIND=4"       // a candidate of every launch
	Missing Kind = "-DINCOMPLETE"   // the function that launches is not there
	Bare    Kind = "-DDEVICES=0"    // there is no device
	Picky   Kind = "-DKIND=1 -DGFX" // and there is no device unless it is taken for gfx1030

	// Without NVRTC, and a driver that takes the embedded PTX, or none of it: as broken,
	// or as newer than the driver.
	NoCompiler Kind = "-DNO_COMPILER"
	BadPTX     Kind = "-DNO_COMPILER -DREFUSES_PTX=218"
	NewPTX     Kind = "-DNO_COMPILER -DREFUSES_PTX=222"
)

func (k Kind) compiles() bool { return !strings.Contains(string(k), string(NoCompiler)) }

// Libraries builds those of CUDA, or of HIP, and gives their directory.
func Libraries(t testing.TB, hip bool, fault *Fault) string {
	t.Helper()
	clang, err := exec.LookPath("clang-16")
	if err != nil {
		t.Skipf("the shims of drivers need clang-16; on Debian it is in clang-16: %v", err)
	}
	dir := t.TempDir()
	source, header := filepath.Join(dir, "driver.c"), filepath.Join(dir, "prelude.h")
	for path, text := range map[string][]byte{source: driver, header: prelude} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "kernels"), src.Files); err != nil {
		t.Fatal(err)
	}
	names := []string{"libcuda.so.1", "libnvrtc.so.13"}
	args := []string{"-O1", "-fPIC", "-shared", "-w", `-DCLANG="` + clang + `"`, `-DPRELUDE="` + header + `"`, `-DSCRATCH="` + dir + `"`, source}
	if hip {
		names = []string{"libamdhip64.so.7", "libhiprtc.so.7"}
		args = append(args, "-DHIP")
	}
	args = append(args, "-o", filepath.Join(dir, names[0]))
	if fault != nil {
		if fault.Call != "" {
			args = append(args, `-DFAULT="`+fault.Call+`"`)
		}
		args = append(args, strings.Fields(string(fault.Kind))...)
	}
	if out, err := exec.Command(clang, args...).CombinedOutput(); err != nil {
		t.Fatalf("build the shim: %v: %s", err, out)
	}
	if fault == nil || fault.Kind.compiles() {
		if err := os.Symlink(names[0], filepath.Join(dir, names[1])); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
