package kernels

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"seedmesh/kernels/internal/gpu"
)

// Targets of the compilers that need no device of theirs.
const (
	gfx1030 = "gfx1030" // what an RX 6600 says it is, under HSA_OVERRIDE_GFX_VERSION
	sm86    = "sm_86"
)

// shapes are searches whose programs differ in kind: one comparison and many,
// every way to see an output, one skip and a range, all draws and some.
var shapes = map[string]struct {
	spec  Spec
	draws int
}{
	"first output":    {Spec{Observe: "raw", MinMatches: 1}, 1},
	"all of 30":       {Spec{Observe: "mod:1000", Skip: Bounds{0, 16}, MinMatches: 30}, 30},
	"15 of 30":        {Spec{Observe: "mod:1000", Skip: Bounds{0, 16}, MinMatches: 15}, 30},
	"offsets":         {Spec{Observe: "mod:256", Skip: Bounds{1, 1}, Offset: Bounds{0, 20}, MinMatches: 8}, 8},
	"top bits":        {Spec{Observe: "top:4", Skip: Bounds{0, 3}, MinMatches: 10}, 12},
	"scaled":          {Spec{Observe: "scale:52", MinMatches: 6}, 6},
	"odd modulus far": {Spec{Observe: "mod:37", Skip: Bounds{2, 6}, Offset: Bounds{5, 9}, MinMatches: 7}, 9},
}

// allSources are the programs of every form of every kernel in every shape that
// fits one, each text once.
func allSources(t *testing.T) map[string]string {
	t.Helper()
	known := map[string]bool{}
	sources := map[string]string{}
	kinds := map[string]int{}
	for _, def := range representatives() {
		for shape, tt := range shapes {
			if def.kernel.variant > 0 && shape != "first output" {
				continue // as that of the file's first generator, but for its arithmetic
			}
			s, err := plant(def, 4711, tt.spec, tt.draws)
			if err != nil {
				continue // the generator's outputs are too narrow for the observation
			}
			plan, err := s.planAccelerator("test")
			if err != nil {
				continue
			}
			text := plan.source(1)
			if !known[text] {
				known[text] = true
				sources[def.Name+", "+shape] = text
				kinds[plan.file()]++
			}
		}
	}
	for _, kind := range slices.Concat(families[:], streamFiles) {
		if kinds[kind] < len(shapes)-2 {
			t.Errorf("only %d programs of %s; the test proves too little", kinds[kind], kind)
		}
	}
	if testing.Short() {
		for name := range sources {
			if !strings.Contains(name, "first") {
				delete(sources, name)
			}
		}
	}
	return sources
}

// alone runs the test that calls it in a process of its own, and returns false there: two
// compilers that share LLVM's library, as those of PoCL and of hipRTC do on Debian, end
// a process in which both are loaded.
func alone(t *testing.T) bool {
	t.Helper()
	const mark = "SEEDMESH_TEST_ALONE"
	if os.Getenv(mark) != "" {
		return false
	}
	c := exec.Command(os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
	c.Env = append(os.Environ(), mark+"=1")
	out, err := c.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	}
	t.Logf("%s", out)
	return true
}

// TestCompileHIP has AMD's own compiler make code of every program for gfx1030.
func TestCompileHIP(t *testing.T) {
	if alone(t) {
		return
	}
	if _, err := gpu.CompileFor(gpu.HIP, gfx1030, `extern "C" __global__ void search() {}`); errors.Is(err, gpu.ErrNoCompiler) {
		t.Skipf("hipRTC is missing; on Debian it is in libamdhip64-5 and libhiprtc-builtins5: %v", err)
	}
	sources := allSources(t)
	for name, source := range sources {
		code, err := gpu.CompileFor(gpu.HIP, gfx1030, source)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.HasPrefix(code, []byte("\x7fELF")) || !bytes.Contains(code, []byte(gfx1030)) || !bytes.Contains(code, []byte("search.kd")) {
			t.Errorf("%s: %d bytes, which are no code object of %s with the kernel", name, len(code), gfx1030)
		}
	}
	t.Logf("%d programs", len(sources))
	if _, err := gpu.CompileFor(gpu.HIP, gfx1030, "nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("nonsense gave %v, want the compiler's message", err)
	}
}

var ptxKernel = regexp.MustCompile(`(?s)\.target sm_86.*\.visible \.entry search\(`)

// TestCompileCUDA has clang make PTX of every program for sm_86.
func TestCompileCUDA(t *testing.T) {
	clang, err := exec.LookPath("clang-16")
	if err != nil {
		t.Skipf("clang-16 is missing; on Debian it is in clang-16: %v", err)
	}
	dir, sources := t.TempDir(), allSources(t)
	var files []string
	for name, source := range sources {
		file := filepath.Join(dir, fmt.Sprintf("%d.cu", len(files)))
		if err := os.WriteFile(file, []byte("// "+name+"\n"+source), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	header, err := filepath.Abs("src/cuda.h")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(clang, append([]string{
		"-x", "cuda", "--cuda-device-only", "--cuda-gpu-arch=" + sm86, "-nocudainc", "-nocudalib", "-O2", "-S",
		"-Werror", "-Wno-unknown-cuda-version", "-include", header,
	}, files...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %.4000s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*.s"))
	if err != nil || len(made) != len(files) {
		t.Fatalf("%d of %d programs became PTX, %v", len(made), len(files), err)
	}
	for _, file := range made {
		if ptx, err := os.ReadFile(file); err != nil || !ptxKernel.Match(ptx) {
			t.Errorf("%s is no PTX with the kernel, %v", file, err)
		}
	}
	t.Logf("%d programs", len(sources))
}
