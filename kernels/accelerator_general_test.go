package kernels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"seedmesh/kernels/internal/gpu"
	"seedmesh/kernels/shim"
	"seedmesh/kernels/src"
)

// generate has clang make the PTX of all kernels for a target, or for that of the
// embedded PTX.
func generate(t *testing.T, target ...string) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("clang-16"); err != nil {
		t.Skipf("clang-16 is missing; on Debian it is in clang-16: %v", err)
	}
	dir = t.TempDir()
	if out, err := exec.Command("src/ptx/generate", append([]string{dir}, target...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %.4000s", err, out)
	}
	return dir
}

// TestPTXIsOfTheSource has the embedded PTX be what clang makes of the source.
func TestPTXIsOfTheSource(t *testing.T) {
	dir := generate(t)
	for _, family := range families {
		made, err := os.ReadFile(filepath.Join(dir, family+".ptx"))
		if err != nil || !bytes.Equal(made, src.Text("ptx/"+family+".ptx")) {
			t.Errorf("%s is not what clang makes of the source (%v): make generate", family, err)
		}
	}
}

// TestCompileGeneral has clang make PTX of the general form for sm_86 as well.
func TestCompileGeneral(t *testing.T) {
	dir := generate(t, sm86)
	for _, family := range families {
		if ptx, err := os.ReadFile(filepath.Join(dir, family+".ptx")); err != nil || !ptxKernel.Match(ptx) {
			t.Errorf("%s is no PTX with the kernel, %v", family, err)
		}
	}
}

// TestPTXIsForOldDrivers holds the embedded PTX to what the driver R470 and devices
// since Maxwell take, and its parameters to the size of those that are written to it.
func TestPTXIsForOldDrivers(t *testing.T) {
	size := binary.Size(generalParameters{})
	want := regexp.MustCompile(fmt.Sprintf(`(?s)\.version [1-6]\.\d\n\.target sm_50\n.*\.visible \.const \.align 8 \.b8 parameters\[%d\];.*\.visible \.entry search\(`, size))
	for _, family := range families {
		if !want.Match(src.Text("ptx/" + family + ".ptx")) {
			t.Errorf("the PTX of %s does not match %v", family, want)
		}
	}
}

// TestParametersHoldEveryPlan has the bounds of the general form be those of a plan.
func TestParametersHoldEveryPlan(t *testing.T) {
	text := string(src.Text("general.cu"))
	for name, most := range map[string]int{"ROWS": maxProgramTests, "TESTS": maxProgramTests, "GROUPS": maxStageGroups} {
		if line := fmt.Sprintf("#define MOST_%s %d\n", name, most); !strings.Contains(text, line) {
			t.Errorf("the source does not say %q", line)
		}
	}
}

// TestWithoutNVRTC names the way in which the device is reached, and has it keep that
// it passed apart from other ways.
func TestWithoutNVRTC(t *testing.T) {
	libraries := withoutNVRTC(t)
	d, err := OpenAccelerator(AcceleratorConfig{Kind: CUDA, Libraries: libraries})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, ok := d.(*vetted).driver.(generalDriver); !ok {
		t.Skipf("this machine has NVRTC: %s", Identity(d))
	}
	if want := "; embedded PTX, NVRTC missing"; !strings.HasSuffix(Identity(d), want) {
		t.Errorf("the device is %q, want %q at its end", Identity(d), want)
	}
	with, err := openDriver(AcceleratorConfig{Kind: CUDA, Libraries: shim.Libraries(t, false, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer with.Close()
	codes := codeCache(t.TempDir())
	if codes.path(with.Identity(), "passed", "") == codes.path(d.(*vetted).driver.Identity(), "passed", "") {
		t.Error("a device that passed with NVRTC has passed without it")
	}
	if _, err := d.(*vetted).driver.Compile("source"); !errors.Is(err, gpu.ErrNoCompiler) {
		t.Errorf("Compile = %v, want that there is no compiler", err)
	}
}

// TestGeneralFormFindsTheSame has the general form of a kernel find exactly the
// candidates that the one made for the search finds.
func TestGeneralFormFindsTheSame(t *testing.T) {
	with, err := openDriver(AcceleratorConfig{Kind: CUDA, Libraries: shim.Libraries(t, false, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer with.Close()
	without, err := openDriver(AcceleratorConfig{Kind: CUDA, Libraries: withoutNVRTC(t), Embedded: true})
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	rounds, most, defs, candidates, kinds := uint64(60), len(families)+len(streamFiles), representatives(), 0, map[string]bool{}
	if testing.Short() {
		rounds, most = 10, len(families)
	}
	for seed := *replay; seed < *replay+rounds; seed++ {
		rng := rand.New(rand.NewPCG(seed, 54))
		s, err := randomVectorSearch(rng, defs[seed%uint64(len(defs))])
		if err != nil {
			t.Fatal(err)
		}
		plan, err := s.planAccelerator(CUDA)
		if err != nil {
			continue
		}
		r := randomRange(rng, s.Space())
		want, got := candidatesOn(t, with, plan, r), candidatesOn(t, without, plan, r)
		if !slices.Equal(got, want) {
			t.Fatalf("%s, seeds %s: %d candidates, want %d\nreplay: go test ./kernels -run GeneralFormFindsTheSame -seed=%d", describe(s), r, len(got), len(want), seed)
		}
		candidates, kinds[plan.file()] = candidates+len(want), true
	}
	if candidates < 10*int(rounds) || len(kinds) < most {
		t.Errorf("%d candidates of %d kinds of kernels were compared; the test proves too little", candidates, len(kinds))
	}
}

// candidatesOn are the candidates of one launch.
func candidatesOn(t *testing.T, d driver, plan *acceleratorPlan, r Range) []uint32 {
	t.Helper()
	p, err := (&accelerator{CUDA, d, ""}).ready(plan)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	items := int((r.Count()-1)/plan.perItem()) + 1
	found := make([]uint32, maxLaunchFound)
	n, err := p.Launch([2]uint64{r.First, r.Count()}, items, make([]uint64, 2*items), found)
	if err != nil || n > len(found) {
		t.Fatalf("Launch found %d, %v", n, err)
	}
	slices.Sort(found[:n])
	return found[:n]
}

// TestPTXRefused has drivers that do not take the PTX, or lose what it finds: the
// device is refused, with what to do where there is something.
func TestPTXRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		kind   shim.Kind
		want   string
		remedy string
	}{
		"broken for it":    {shim.BadPTX, "cuModuleLoadDataEx gave error 218, CUDA_ERROR_INVALID_PTX: the shim refuses it", "update NVIDIA's driver"},
		"too new for it":   {shim.NewPTX, "cuModuleLoadDataEx gave error 222, CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "update NVIDIA's driver"},
		"a candidate lost": {shim.NoCompiler + " " + shim.Loses, "survivors", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := OpenAccelerator(AcceleratorConfig{Kind: CUDA, Libraries: shim.Libraries(t, false, &shim.Fault{Kind: tt.kind}), Embedded: true})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			err = Vet(t.Context(), d, "", false, func() {})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "embedded PTX") {
				t.Errorf("Vet = %.600v, want %q", err, tt.want)
			}
			var cause interface{ Remedy() string }
			if errors.As(err, &cause) != (tt.remedy != "") || cause != nil && !strings.Contains(cause.Remedy(), tt.remedy) {
				t.Errorf("the remedy is %v, want %q", cause, tt.remedy)
			}
		})
	}
}

// TestOtherPTX has the shim see that a text, or the size of its parameters, is another one.
func TestOtherPTX(t *testing.T) {
	d, err := openDriver(AcceleratorConfig{Kind: CUDA, Libraries: withoutNVRTC(t), Embedded: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	load := d.(generalDriver).LoadPTX
	ptx, parameters := src.Text("ptx/lcg32.ptx"), make([]byte, binary.Size(generalParameters{}))
	p, err := load(ptx, parameters, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	var refused *gpu.PTXError
	if _, err := load(bytes.Replace(ptx, []byte("mul.lo"), []byte("mul.hi"), 1), parameters, 1, 1); !errors.As(err, &refused) {
		t.Errorf("another text gave %v, want %T", err, refused)
	}
	if _, err := load(ptx, parameters[1:], 1, 1); err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), "parameters") {
		t.Errorf("other parameters gave %v, want that their size is wrong", err)
	}
}
