package bench

import (
	"os"
	"strings"
	"testing"

	"seedmesh/kernels"
	"seedmesh/kernels/shim"
)

// TestCrew measures an interface whose library aborts or errs, and the CPU: it ends
// nothing but its own process, and what cannot be used is named once.
func TestCrew(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  shim.Fault
		rows   int    // of the interface
		reason string // in each of them
	}{
		"aborts as it is opened": {shim.Fault{Call: "Init", Kind: shim.Aborts}, 2, "the process that measured it ended: exit status 2: SIGABRT: abort"},
		"aborts at work":         {shim.Fault{Call: "Launch", Kind: shim.Aborts}, 2, "the process that measured it ended: exit status 2: SIGABRT: abort"},
		"cannot be opened":       {shim.Fault{Call: "Init", Kind: shim.Fails}, 1, "cannot be opened"},
		"does not pass":          {shim.Fault{Kind: shim.Loses}, 1, "is not used"},
	} {
		t.Run(name, func(t *testing.T) {
			p := shortPlan("xorshift32", Device{Kind: kernels.CUDA}, Device{Kind: "cpu", Unit: Scalar})
			p.Generators = append(p.Generators, "lcg32")
			var words strings.Builder
			p.Words = &words
			p.Libraries, p.Command = shim.Libraries(t, false, &tt.fault), []string{os.Args[0], "measure"}
			r, err := p.Measure(t.Context(), ignore)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(words.String(), "goroutine") {
				t.Errorf("a user is shown %q", words.String())
			}
			if len(r.Rows) != tt.rows+2 {
				t.Fatalf("%d rows, want %d and 2: %+v", len(r.Rows), tt.rows, r.Rows)
			}
			for i, row := range r.Rows {
				cuda := row.Device == "cuda:0"
				if cuda != (i < tt.rows) || cuda != strings.Contains(row.Error, tt.reason) || !cuda && row.Error != "" {
					t.Errorf("row %d is %+v, want reason %q", i, row, tt.reason)
				}
			}
		})
	}
}

// TestCrewHasTheEnvironment has a library that knows its GPU under another name only.
func TestCrewHasTheEnvironment(t *testing.T) {
	libraries := shim.Libraries(t, true, &shim.Fault{Call: "CompileProgram", Kind: shim.Picky})
	for gfx, want := range map[string]string{"": "no such driver or device", "10.3.0": "CompileProgram gave error 719"} {
		p := shortPlan("xorshift32", Device{Kind: kernels.HIP})
		p.Libraries, p.GFX, p.Command = libraries, gfx, []string{os.Args[0], "measure"}
		r, err := p.Measure(t.Context(), ignore)
		if err != nil {
			t.Fatal(err)
		}
		if row := r.Rows[0]; !strings.Contains(row.Error, want) {
			t.Errorf("with gfx %q: %q, want %q", gfx, row.Error, want)
		}
	}
}

// TestAcceleratorsShare has the share of a whole device's limit, and why OpenCL has none.
func TestAcceleratorsShare(t *testing.T) {
	row := Row{Device: "cuda:0", Limit: 400}
	row.fill([]sample{{100, 7}, {300, 7}, {200, 7}}, 1)
	if row.Share != 0.5 || row.PerCore != 0 {
		t.Errorf("200 of 400 seeds a second are a share of %v", row.Share)
	}
	p := shortPlan("xorshift32", Device{Kind: kernels.OpenCL})
	p.Command, p.Words = []string{os.Args[0], "measure"}, os.Stderr
	r, err := p.Measure(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	if row := r.Rows[0]; row.Error != "" {
		t.Skip(row.Error)
	} else if row.Median <= 0 || row.Limit != 0 || !strings.Contains(row.NoLimit, "for OpenCL") {
		t.Errorf("%+v", row)
	}
}

// TestSayings passes each line on once, whatever pieces it comes in.
func TestSayings(t *testing.T) {
	var out strings.Builder
	s := &sayings{said: &said{to: &out, known: map[string]bool{}}}
	for _, piece := range []string{"hip", ": no device\n", "hip: no device\npocl: hello\n", "hip: no device\n", strings.Repeat("x", 3*maxSaying), "\n", "SIGABRT: abort\nPC=0x1\n"} {
		if n, err := s.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) < 3 || lines[0] != "hip: no device" || lines[1] != "pocl: hello" || len(lines[2]) != maxSaying || strings.Contains(out.String(), "PC=") || s.crash != "SIGABRT: abort" {
		t.Errorf("it passes on %.200q", out.String())
	}
}
