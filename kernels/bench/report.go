package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"seedmesh/kernels"
)

// Schema names the form of a report; a form that readers of this one would
// misread gets another name.
const Schema = "seedmesh-bench/1"

// maxReport bounds a file that is read.
const maxReport = 64 << 20 // bytes

// A Report is what was measured. Rates are in seeds a second.
type Report struct {
	Schema   string    `json:"schema"`
	At       time.Time `json:"at"`
	Machine  Machine   `json:"machine"`
	Question Question  `json:"question"`
	Seconds  float64   `json:"seconds"` // of one sample
	Rows     []Row     `json:"rows"`
	Envelope *Envelope `json:"envelope,omitempty"`
}

// A Machine is where it was measured.
type Machine struct {
	CPU   string   `json:"cpu"`
	Cores int      `json:"cores"`
	Units []string `json:"vector_units"`
	OS    string   `json:"os"`
	Arch  string   `json:"arch"`
}

// A Row is one device, generator and setting. Where the device cannot run the
// search, Error says why and the figures are 0; a device that cannot be used has no Generator.
type Row struct {
	Device      string    `json:"device"`
	Driver      string    `json:"driver,omitempty"` // of an accelerator: how it names itself and what reaches it
	Generator   string    `json:"generator"`
	Chunk       uint64    `json:"chunk"` // seeds of one call
	Draws       int       `json:"draws"`
	Concurrency int       `json:"concurrency"`
	Samples     []float64 `json:"samples"`
	Median      float64   `json:"median"`
	Least       float64   `json:"least"`
	Most        float64   `json:"most"`
	Spread      float64   `json:"spread"`             // (most - least) / median
	Steps       float64   `json:"steps"`              // generator advances a second, without early stopping
	PerCore     float64   `json:"per_core"`           // median for each second of processor time, which other load does not count in; 0 for accelerators
	Limit       float64   `json:"limit_per_core"`     // computed, of the whole device for accelerators; 0 when there is none
	Share       float64   `json:"share"`              // of the limit that per_core reaches, or the median of an accelerator; 0 without a limit
	NoLimit     string    `json:"no_limit,omitempty"` // why an accelerator has no limit
	Error       string    `json:"error,omitempty"`
}

// fill adds the figures, behind the limit.
func (r *Row) fill(samples []sample, stepsPerSeed float64) {
	var cores []float64
	for _, s := range samples {
		r.Samples, cores = append(r.Samples, s.rate), append(cores, s.core)
	}
	r.Median, r.Least, r.Most = median(r.Samples), slices.Min(r.Samples), slices.Max(r.Samples)
	r.Spread = (r.Most - r.Least) / r.Median
	r.Steps = r.Median * stepsPerSeed
	reached := r.Median
	if strings.HasPrefix(r.Device, "cpu:") {
		r.PerCore = median(cores)
		reached = r.PerCore
	}
	if r.Limit > 0 {
		r.Share = reached / r.Limit
	}
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func newReport(p Plan) *Report {
	return &Report{
		Schema: Schema, At: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(), Question: p.Question, Seconds: p.Time.Seconds(), Rows: []Row{},
	}
}

func thisMachine() Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), Units: append([]string{}, kernels.VectorUnits()...), OS: runtime.GOOS, Arch: runtime.GOARCH}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// Write writes a report as JSON.
func (r *Report) Write(w io.Writer) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// A FormatError is a file that is no report.
type FormatError struct{ File, Why string }

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s is no report of a benchmark: %s", e.File, e.Why)
}

// Remedy says what makes one.
func (e *FormatError) Remedy() string { return "make one with: seedmesh bench -o FILE" }

// Read reads a report from a file. Fields that a later version has added are left out.
func Read(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxReport {
		return nil, &FormatError{path, fmt.Sprintf("it has more than %d bytes", maxReport)}
	}
	r := new(Report)
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(r); err != nil {
		return nil, &FormatError{path, err.Error()}
	}
	if r.Schema != Schema {
		return nil, &FormatError{path, fmt.Sprintf("its schema is %.60q, not %q", r.Schema, Schema)}
	}
	for _, row := range r.Rows {
		if row.Error == "" && (len(row.Samples) == 0 || row.Median <= 0) {
			return nil, &FormatError{path, fmt.Sprintf("%s with %s has no samples", row.Device, row.Generator)}
		}
	}
	return r, nil
}
