package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"seedmesh/kernels"
)

// The test binary is its own probe.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "probe" {
		if err := ProbeMain(os.Stdin, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const namesOfLibdrm = "# List of AMDGPU IDs\n1.0.0\n73FF,\tC1,\tAMD Radeon RX 6600 XT\n73FF,\tC7,\tAMD Radeon RX 6600\n1638,\tC9,\tAMD Radeon Graphics\n"

// openTree makes a recorded tree of /sys and opens it as the watch does. Each
// line of it is FILE = TEXT, or LINK -> TARGET; edit changes the lines before.
func openTree(t *testing.T, name string, edit func(line string) string) (dir string, sys fs.FS) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".sys"))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for line := range strings.Lines(string(b)) {
		if edit != nil {
			line = edit(line)
		}
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			plantLine(t, dir, line)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, root.FS()
}

func plantLine(t *testing.T, dir, line string) {
	t.Helper()
	name, target, isLink := strings.Cut(line, " -> ")
	if !isLink {
		name, target, _ = strings.Cut(line, " =")
		target = strings.TrimPrefix(target, " ")
		if text, err := strconv.Unquote(target); err == nil {
			target = text
		}
	}
	name = filepath.Join(dir, filepath.FromSlash(name))
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil && isLink {
		err = os.Symlink(target, name)
	} else if err == nil {
		err = os.WriteFile(name, []byte(target), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// look watches a recorded tree once.
func look(t *testing.T, w *Watch) []Device {
	t.Helper()
	r, err := w.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r.Devices
}

// TestAMD reads recorded trees.
func TestAMD(t *testing.T) {
	rx6600 := Device{
		Vendor: "amd", Model: "AMD Radeon RX 6600", Memory: 8573157376, MemoryUsed: 17526784, Driver: "amdgpu", PCI: "0000:03:00.0",
		UUID: "GPU-7a1c04b2f8e05d31", Number: 0, Celsius: 74, CoreMHz: 2044, MemoryMHz: 875, State: OK,
	}
	gfxoff := rx6600
	gfxoff.Celsius, gfxoff.CoreMHz, gfxoff.MemoryMHz, gfxoff.State = 41, 0, 96, Warning
	gfxoff.Notes = []string{"GFXOFF is on, which lets some cards freeze: start the kernel with amdgpu.ppfeaturemask=0xfff73fff"}
	hot := rx6600
	hot.Celsius, hot.State = 110, Warning
	hot.Notes = []string{"it is too hot: 110 degrees Celsius, its limit is 110: clean its fans and filters, or lower its power limit"}
	smu := rx6600
	smu.State = Sick
	smu.Notes = []string{"the driver cannot speak with the card's controller (its performance level is unknown): reboot the machine, and reseat the card if it comes again"}
	asleep := rx6600
	asleep.Celsius, asleep.CoreMHz, asleep.MemoryMHz = NotKnown, NotKnown, NotKnown
	lost := asleep
	lost.State, lost.Notes = Sick, []string{lostFromBus}
	undriven := Device{
		Vendor: "amd", PCI: "0000:03:00.0", Number: 0, Celsius: NotKnown, CoreMHz: NotKnown, MemoryMHz: NotKnown, State: Unknown,
		Notes: []string{"no driver is bound to it: install the vendor's driver"},
	}
	garbled := Device{
		Vendor: "amd", Driver: "amdgpu", PCI: "0000:03:00.0", Number: NotKnown, Celsius: NotKnown, CoreMHz: NotKnown, MemoryMHz: NotKnown,
		State: Warning, Notes: []string{"it gave no readings (N/A)"},
	}
	apu := Device{
		Vendor: "amd", Model: "AMD Radeon Graphics", Memory: 512 << 20, MemoryUsed: 41017344, Driver: "amdgpu", PCI: "0000:0a:00.0",
		Number: 0, Integrated: true, Celsius: 44, CoreMHz: 400, MemoryMHz: NotKnown, State: OK,
	}
	instead := func(file, text string) func(string) string {
		return func(line string) string {
			name, _, _ := strings.Cut(line, " =")
			if strings.HasSuffix(name, file) {
				return name + " = " + text
			}
			return line
		}
	}
	for name, tt := range map[string]struct {
		tree string
		edit func(string) string
		want []Device
	}{
		"a card at work":              {"rx6600", nil, []Device{rx6600}},
		"GFXOFF":                      {"rx6600-gfxoff", nil, []Device{gfxoff}},
		"missing and garbled files":   {"rx6600-garbled", nil, []Device{garbled}},
		"a processor's graphics":      {"apu", nil, []Device{apu}},
		"no GPU":                      {"none", nil, []Device{}},
		"too hot":                     {"rx6600", instead("temp2_input", "110000"), []Device{hot}},
		"a controller that is silent": {"rx6600", instead("performance_level", "unknown"), []Device{smu}},
		"asleep":                      {"rx6600", instead("runtime_status", "suspended"), []Device{asleep}},
		"lost from the bus":           {"rx6600", instead("03:00.0/config", `"\xff\xff\xff\xff\xff\xff\xff\xff"`), []Device{lost}},
		"without a driver": {"rx6600", func(line string) string {
			if strings.Contains(line, "/driver ->") {
				return ""
			}
			return line
		}, []Device{undriven}},
	} {
		t.Run(name, func(t *testing.T) {
			_, sys := openTree(t, tt.tree, tt.edit)
			got := look(t, NewWatch(Config{Sys: sys, Names: namesOfLibdrm}))
			if len(got) != len(tt.want) {
				t.Fatalf("Look = %+v, want %+v", got, tt.want)
			}
			for i := range got {
				if a, b := shown(got[i]), shown(tt.want[i]); a != b {
					t.Errorf("Look =\n%s\nwant\n%s", a, b)
				}
			}
		})
	}
	if got := look(t, NewWatch(Config{Sys: os.DirFS(t.TempDir())})); len(got) != 0 {
		t.Errorf("Look without a bus = %+v, want nothing", got)
	}
}

// shown is what others see of a device.
func shown(d Device) string {
	d.answers, d.asleep, d.limit = false, false, 0
	return fmt.Sprintf("%+v", d)
}

// TestLookMemory looks at a card that falls silent and then is gone, and never
// sooner than the interval.
func TestLookMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(dir string) error
		want   []State // at the looks after it
		says   string
	}{
		"silent": {func(dir string) error {
			return os.RemoveAll(filepath.Join(dir, "bus/pci/devices/0000:03:00.0/hwmon"))
		}, []State{Warning, Sick, Sick}, "does not respond"},
		"gone": {func(dir string) error {
			return os.Remove(filepath.Join(dir, "bus/pci/devices/0000:03:00.0"))
		}, []State{Sick, Sick}, "lost from the bus"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, sys := openTree(t, "rx6600", nil)
			synctest.Test(t, func(t *testing.T) {
				w := NewWatch(Config{Sys: sys})
				if d := look(t, w); d[0].State != OK {
					t.Fatalf("at first %+v", d)
				}
				if err := tt.change(dir); err != nil {
					t.Fatal(err)
				}
				time.Sleep(LookEvery - time.Millisecond)
				if d := look(t, w); d[0].State != OK {
					t.Errorf("it was looked at again before %v", LookEvery)
				}
				time.Sleep(time.Millisecond)
				var d []Device
				for i, want := range tt.want {
					if d = look(t, w); len(d) != 1 || d[0].State != want {
						t.Errorf("look %d after it: %+v, want state %s", i, d, want)
					}
					time.Sleep(LookEvery)
				}
				if text := strings.Join(d[0].Notes, "; "); !strings.Contains(text, tt.says) || d[0].UUID != "GPU-7a1c04b2f8e05d31" {
					t.Errorf("the card is %+v, and not said to be %q", d[0], tt.says)
				}
			})
		})
	}
}

// buildNVML compiles the stand-in for NVIDIA's library with a fault.
func buildNVML(t *testing.T, fault int) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("there is no C compiler")
	}
	lib := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	out, err := exec.CommandContext(t.Context(), cc, "-shared", "-fPIC", "-DFAULT="+strconv.Itoa(fault), "-o", lib, "testdata/nvml.c").CombinedOutput()
	if err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return lib
}

// TestNVML asks a stand-in for NVIDIA's library, in a process, with every fault
// that a library can have: the test goes on, and the GPUs say why.
func TestNVML(t *testing.T) {
	for name, tt := range map[string]struct {
		fault int // of testdata/nvml.c
		state []State
		says  string
	}{
		"well":             {0, []State{OK, OK}, ""},
		"a missing symbol": {1, []State{Unknown, Unknown}, "nvmlDeviceGetClockInfo"},
		"an error":         {2, []State{Unknown, Unknown}, "nvmlInit_v2 gave error 9"},
		"a hang":           {3, []State{Unknown, Unknown}, "gave no answer within"},
		"an abort":         {4, []State{Unknown, Unknown}, "ended the process that asked it: exit status 2 NVML: internal error"},
		"a lost card":      {5, []State{OK, Sick}, "lost from the bus"},
		"it prints":        {6, []State{OK, OK}, ""},
		"a hot card":       {7, []State{Warning, Warning}, "97 degrees Celsius, its limit is 95"},
	} {
		t.Run(name, func(t *testing.T) {
			_, sys := openTree(t, "nvidia", nil)
			w := NewWatch(Config{Sys: sys, NVML: buildNVML(t, tt.fault), Probe: selfProbe()})
			if tt.fault == 3 {
				w.prober.limit = 500 * time.Millisecond
			}
			got := look(t, w)
			var states []State
			for _, d := range got {
				states = append(states, d.State)
			}
			if text := strings.Join(slices.Concat(got[0].Notes, got[1].Notes), "; "); !slices.Equal(states, tt.state) || !strings.Contains(text, tt.says) || (tt.says == "") != (text == "") {
				t.Fatalf("the states are %v, with %q; want %v, with %q", states, text, tt.state, tt.says)
			}
			<-w.prober.living // the process has ended, whatever it did
			if tt.fault != 0 {
				return
			}
			want := Device{
				Vendor: "nvidia", Model: "NVIDIA GeForce RTX 3080 Ti", Memory: 12 << 30, MemoryUsed: 256 << 20, Driver: "nvidia 550.54.14",
				PCI: "0000:02:00.0", UUID: "GPU-66666666-7777-8888-9999-aaaaaaaaaaaa", Number: 1, Celsius: 55, CoreMHz: 1665, MemoryMHz: 9501, State: OK,
			}
			if a, b := shown(got[1]), shown(want); a != b {
				t.Errorf("Look =\n%s\nwant\n%s", a, b)
			}
		})
	}
}

// TestNVMLMissing has a card, its kernel driver and no library.
func TestNVMLMissing(t *testing.T) {
	_, sys := openTree(t, "nvidia", nil)
	w := NewWatch(Config{Sys: sys, NVML: "libno-such-library.so.1", Probe: selfProbe()})
	if got := look(t, w); got[0].State != Unknown || !strings.Contains(got[0].Notes[0], "there is no library to ask") {
		t.Errorf("Look = %+v", got)
	}
	// A failed question rests: the same answer comes without a process.
	w.prober.command = []string{"/nonexistent"}
	if _, err := w.prober.ask("nvml", w.config.NVML); err == nil || !strings.Contains(err.Error(), "there is no library to ask") {
		t.Errorf("asked again at once: %v, want the answer of before", err)
	}
	w.prober.again = time.Now()
	if _, err := w.prober.ask("nvml", w.config.NVML); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("asked again later: %v, want that the process cannot be started", err)
	}
}

// TestProbeEndsWithItsNode has a library hang in a process whose node is gone.
func TestProbeEndsWithItsNode(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), selfProbe()[0], "probe", "nvml", buildNVML(t, 3))
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the process ended with %v, want exit status 1", err)
	}
}

// TestAccelerators has PoCL's processor listed, and nothing where there is no driver.
func TestAccelerators(t *testing.T) {
	if _, err := os.Stat("/etc/OpenCL/vendors/pocl.icd"); err != nil {
		t.Skip("PoCL is not installed")
	}
	w := NewWatch(Config{Probe: selfProbe()})
	all, err := w.Accelerators(t.Context())
	if err != nil || len(all.List) == 0 || all.List[0].Kind != kernels.OpenCL || !strings.Contains(all.List[0].Name, "pthread") {
		t.Errorf("Accelerators = %+v, %v", all, err)
	}
	t.Setenv("OCL_ICD_VENDORS", t.TempDir())
	if all, err := w.Accelerators(t.Context()); err != nil || len(all.List) != 0 || all.Missing[kernels.OpenCL] == "" {
		t.Errorf("Accelerators without a driver = %+v, %v", all, err)
	}
}

// TestNames has slots name GPUs.
func TestNames(t *testing.T) {
	d := Device{PCI: "0000:03:00.0", UUID: "GPU-7a1c04b2f8e05d31", Number: 2}
	for name, want := range map[string]bool{
		"0000:03:00.0": true, "03:00.0": true, "0000:03:00.1": false, "GPU-7a1c04b2f8e05d31": true, "gpu-7A1C04B2F8E05D31": true,
		"GPU-7a1c04b2f8e05d32": false, "2": true, "3": false, "": false,
	} {
		if got := d.Is(name); got != want {
			t.Errorf("Is(%q) = %v, want %v", name, got, want)
		}
	}
	if normalPCI("00000000:0A:00.0") != "0000:0a:00.0" || normalPCI("00010000:0A:00.0") != "10000:0a:00.0" {
		t.Errorf("%s, %s", normalPCI("00000000:0A:00.0"), normalPCI("00010000:0A:00.0"))
	}
}
