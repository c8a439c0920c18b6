package bench

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"seedmesh/kernels"
)

// TestMain is also a process that measures.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "measure" {
		if err := Serve(context.Background(), os.Stdin); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shortPlan measures in a moment.
func shortPlan(generator string, devices ...Device) Plan {
	return Plan{
		Devices: devices, Generators: []string{generator}, Question: Question{Observe: "mod:1000", Draws: 10, Threshold: 1},
		Time: 2 * time.Millisecond, Repeats: 3,
	}
}

func ignore(Row) {}

// TestMeasure has every unit of this CPU measured, with what each row must say.
func TestMeasure(t *testing.T) {
	var devices []Device
	for _, unit := range append(kernels.VectorUnits(), Scalar) {
		d, err := ParseDevice("cpu:" + unit)
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, d)
	}
	p := shortPlan("xorshift32", devices...)
	p.Question.Skip = kernels.Bounds{Min: 0, Max: 4}
	shown := 0
	r, err := p.Measure(t.Context(), func(Row) { shown++ })
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != len(devices) || shown != len(devices) {
		t.Fatalf("%d rows, %d shown, want %d", len(r.Rows), shown, len(devices))
	}
	for i, row := range r.Rows {
		vector := devices[i].Unit != Scalar
		if row.Device != devices[i].String() || row.Error != "" || len(row.Samples) != 3 || row.Chunk == 0 || !(row.Least <= row.Median && row.Median <= row.Most && row.Least > 0) {
			t.Errorf("row %d: %+v", i, row)
		}
		if want := row.Median * 10 * (1 + 2 + 3 + 4 + 5); math.Abs(row.Steps-want) > 1e-9*want {
			t.Errorf("%s: %v steps a second, want %v", row.Device, row.Steps, want)
		}
		if (row.Limit > 0) != vector || (row.Share > 0) != vector || row.PerCore <= 0 {
			t.Errorf("%s: limit %v, share %v", row.Device, row.Limit, row.Share)
		}
	}
}

// TestMeasureSmallSpace has a generator with fewer seeds than any chunk.
func TestMeasureSmallSpace(t *testing.T) {
	for _, g := range kernels.Generators() {
		if g.SeedBits > 16 {
			continue
		}
		r, err := shortPlan(g.Name, Device{Kind: "cpu", Unit: Scalar}).Measure(t.Context(), ignore)
		if err != nil || r.Rows[0].Error != "" || r.Rows[0].Median <= 0 {
			t.Errorf("%s: %+v, %v", g.Name, r, err)
		}
		return
	}
	t.Skip("there is no such generator")
}

// TestMeasureMissing keeps going over a device that is not there.
func TestMeasureMissing(t *testing.T) {
	p := shortPlan("xorshift32", Device{Kind: kernels.OpenCL, Number: 200}, Device{Kind: "cpu", Unit: Scalar})
	r, err := p.Measure(t.Context(), ignore)
	if err != nil || r.Rows[0].Error == "" || r.Rows[1].Error != "" {
		t.Errorf("Measure = %+v, %v", r, err)
	}
}

// TestParseDevice reads what users type.
func TestParseDevice(t *testing.T) {
	for text, want := range map[string]string{
		"cpu:scalar": "cpu:scalar", "opencl": "opencl:0", "opencl:3": "opencl:3",
		"cpu:skalar": "!cpu:scalar", "opencel": "!opencl", "gpu": "!cpu", "opencl:x": "!opencl:0", "opencl:-1": "!opencl:0",
	} {
		d, err := ParseDevice(text)
		near, bad := strings.CutPrefix(want, "!")
		if bad {
			var e *DeviceError
			if !errors.As(err, &e) || e.Nearest != near || !strings.Contains(e.Remedy(), near) {
				t.Errorf("ParseDevice(%q) = %v, %v; want an error that names %q", text, d, err, near)
			}
		} else if err != nil || d.String() != want {
			t.Errorf("ParseDevice(%q) = %v, %v", text, d, err)
		}
	}
}

// TestBest chooses among settings whose figures are known.
func TestBest(t *testing.T) {
	row := func(median, spread float64) Row { return Row{Median: median, Spread: spread} }
	failed := Row{Median: 900, Error: "the device hung"}
	for name, tt := range map[string]struct {
		rows []Row
		want int
	}{
		"the fastest":                              {[]Row{row(100, 0.02), row(200, 0.02), row(150, 0.01)}, 1},
		"an unstable one is fastest":               {[]Row{row(100, 0.02), row(300, 0.5), row(150, 0.01)}, 2},
		"the steadiest of those that are as fast":  {[]Row{row(98, 0.01), row(100, 0.05), row(96, 0)}, 0},
		"an unstable one sets no mark for others":  {[]Row{row(100, 0.02), row(101, 0.3), row(99, 0.01)}, 2},
		"one that failed":                          {[]Row{failed, row(1, 0)}, 1},
		"none is stable":                           {[]Row{failed, row(1, 1)}, -1},
		"at the edges of what counts as the same":  {[]Row{row(100, 0.1), row(97, 0)}, 1},
		"just beyond what counts as the same rate": {[]Row{row(100, 0.1), row(96.9, 0)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := Envelope{MaxSpread: 0.1, Within: 0.03}
			if got := e.best(tt.rows); got != tt.want {
				t.Errorf("best(%v) = %d, want %d", tt.rows, got, tt.want)
			}
		})
	}
}

// TestSweep sweeps each parameter for real, over the file and into a drawing.
func TestSweep(t *testing.T) {
	for _, parameter := range Parameters() {
		t.Run(parameter, func(t *testing.T) {
			p := shortPlan("xorshift32", Device{Kind: "cpu", Unit: Scalar})
			p.Repeats = 1
			r, err := p.Sweep(t.Context(), Envelope{Parameter: parameter, MaxSpread: 1, Within: 0.03}, ignore)
			if err != nil {
				t.Fatal(err)
			}
			var values []float64
			for _, row := range r.Rows {
				values = append(values, r.Envelope.Of(row))
			}
			if len(values) < 2 || !slices.IsSorted(values) || values[0] == values[len(values)-1] || r.Envelope.Best < 0 {
				t.Errorf("the values are %v, the best is %d", values, r.Envelope.Best)
			}
			file := filepath.Join(t.TempDir(), "r.json")
			var b bytes.Buffer
			if err := errors.Join(r.Write(&b), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
				t.Fatal(err)
			}
			again, err := Read(file)
			if err != nil {
				t.Fatal(err)
			}
			checkPlot(t, again)
		})
	}
}

// checkPlot reads the drawing as XML: a point for each row, inside of it.
func checkPlot(t *testing.T, r *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := r.Plot(&b); err != nil {
		t.Fatal(err)
	}
	points, best := 0, strings.Count(b.String(), "best stable: ")
	d := xml.NewDecoder(&b)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && (e.Name.Local == "circle" || e.Name.Local == "path") {
			points++
		}
	}
	if points != len(r.Rows) || best != 1 {
		t.Errorf("the drawing has %d points and %d best ones for %d rows", points, best, len(r.Rows))
	}
}

// TestPlot draws what could break a drawing.
func TestPlot(t *testing.T) {
	r := &Report{Machine: Machine{CPU: `<"&>`}, Envelope: &Envelope{Parameter: "draws", MaxSpread: 0.1, Best: 1}, Rows: []Row{
		{Device: "opencl:0", Generator: "<g>", Draws: 1, Error: "it <hung>"}, {Draws: 450, Median: 15.41, Least: 15, Most: 16, Spread: 0.06},
	}}
	checkPlot(t, r)
	r.Rows = r.Rows[1:]
	r.Envelope.Best = 0
	checkPlot(t, r)
	if err := new(Report).Plot(io.Discard); err == nil {
		t.Error("a report without a sweep was drawn")
	}
}

// TestReadRefuses refuses files that are no report.
func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "seeds", "another schema": `{"schema":"seedmesh-bench/9"}`, "no schema": `{"rows":[]}`,
		"no samples": `{"schema":"seedmesh-bench/1","rows":[{"device":"cpu"}]}`, "a list": `[]`,
	} {
		file := filepath.Join(t.TempDir(), "r.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var e *FormatError
		if _, err := Read(file); !errors.As(err, &e) || !strings.Contains(e.Error(), file) {
			t.Errorf("%s: Read = %v", name, err)
		}
	}
}

// TestCompare pairs rows, and calls different only what does not overlap.
func TestCompare(t *testing.T) {
	row := func(device string, least, median, most float64) Row {
		return Row{Device: device, Generator: "g", Samples: []float64{median}, Least: least, Median: median, Most: most}
	}
	old := &Report{Rows: []Row{row("a", 90, 100, 110), row("b", 90, 100, 110), row("c", 90, 100, 110), row("d", 90, 100, 110), row("old", 1, 1, 1)}}
	now := &Report{Rows: []Row{row("a", 105, 120, 130), row("b", 111, 120, 130), row("c", 70, 80, 89), {Device: "d", Generator: "g", Error: "hung"}, row("new", 1, 1, 1)}}
	changes, lone := Compare(old, now)
	want := []Verdict{Same, Faster, Slower, Failed}
	var got []Verdict
	for _, c := range changes {
		got = append(got, c.Verdict)
	}
	if !slices.Equal(got, want) || changes[0].Ratio != 1.2 || len(lone) != 1 || lone[0].Device != "new" {
		t.Errorf("Compare = %+v, %+v; want %v", changes, lone, want)
	}
	if d := Differences(old, now); len(d) != 0 {
		t.Errorf("Differences = %q", d)
	}
	old.Rows[1].Driver, now.Rows[1].Driver = "nvrtc 12.3", "embedded PTX"
	if d := Differences(old, now); len(d) != 1 || !strings.Contains(d[0], "driver of b differs: it was nvrtc 12.3, and is embedded PTX") {
		t.Errorf("Differences = %q", d)
	}
	now.Rows[1].Driver = ""
	now.Question.Draws, now.Machine.Cores = 3, 4
	if d := Differences(old, now); len(d) != 2 {
		t.Errorf("Differences = %q", d)
	}
	old.Envelope, now.Envelope = &Envelope{Parameter: "chunk"}, &Envelope{Parameter: "chunk"}
	now.Rows = []Row{{Device: "a", Generator: "g", Chunk: 8, Samples: []float64{1}, Median: 1}}
	if changes, lone := Compare(old, now); len(changes) != 0 || len(lone) != 1 {
		t.Errorf("another chunk of a sweep was compared: %+v", changes)
	}
}
