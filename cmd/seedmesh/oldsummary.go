package main

import (
	"path"
	"path/filepath"
	"time"

	"seedmesh/node/api/meshv1"
	"seedmesh/scripts"
)

// The original's summary of a run of scripts, and its manifest.
type (
	oldSummary struct {
		Status     string              `json:"status"` // complete, partial or dry_run
		RunID      string              `json:"run_id"`
		Total      int                 `json:"total_jobs"`
		Successful int                 `json:"successful"`
		Failed     int                 `json:"failed"`
		Runtime    float64             `json:"runtime_seconds"`
		Timestamp  string              `json:"timestamp"`
		OutputDir  string              `json:"output_dir"`
		Preserve   bool                `json:"preserve_paths"`
		Nodes      map[string]*oldNode `json:"nodes"`
		Jobs       []oldJob            `json:"jobs"`
	}
	oldNode struct {
		Jobs       int    `json:"jobs"`
		Successful int    `json:"successful"`
		Failed     int    `json:"failed"`
		GPUs       uint32 `json:"gpu_count"` // slots
		GPUType    string `json:"gpu_type"`
	}
	oldJob struct {
		ID          string  `json:"job_id"`
		Success     bool    `json:"success"`
		Node        string  `json:"node"`
		GPU         uint32  `json:"gpu_id"` // number of the slot
		Runtime     float64 `json:"runtime"`
		Output      string  `json:"output_file"`
		Error       string  `json:"error"`
		FailureMode string  `json:"failure_mode"`
		Timestamp   string  `json:"timestamp"`
	}
	oldManifest struct {
		Version     string              `json:"manifest_version"`
		SpecVersion string              `json:"script_job_spec_version"`
		RunID       string              `json:"run_id"`
		Timestamp   string              `json:"timestamp"`
		Config      string              `json:"config_file"`
		JobsFile    string              `json:"jobs_file"`
		Expected    int                 `json:"jobs_expected"`
		Completed   int                 `json:"jobs_completed"`
		Failed      int                 `json:"jobs_failed"`
		Runtime     float64             `json:"runtime_seconds"`
		OutputDir   string              `json:"output_dir"`
		Outputs     []string            `json:"outputs"`
		Failures    []oldFailure        `json:"failures"`
		Nodes       map[string]*oldNode `json:"nodes"`
	}
	oldFailure struct {
		ID    string `json:"job_id"`
		Mode  string `json:"failure_mode"`
		Error string `json:"error"`
	}
)

// unitType is what the original's fields call a GPU type here.
const unitType = "slot"

// summary tells how the tasks went. Those that have none yet count as neither.
func (o *oldScripts) summary(status string, tasks []*meshv1.TaskInfo) *oldSummary {
	now := time.Now()
	s := &oldSummary{
		Status: status, RunID: o.id, Total: len(o.batch.tasks), Runtime: now.Sub(o.began).Seconds(), Timestamp: now.Format(time.RFC3339),
		OutputDir: o.dir, Preserve: o.preserve, Nodes: map[string]*oldNode{}, Jobs: []oldJob{},
	}
	for _, t := range tasks {
		j := oldJob{
			ID: t.GetTask(), Success: t.GetState() == "done", Node: t.GetNode(), GPU: t.GetSlot(), Runtime: t.GetSeconds(), Timestamp: s.Timestamp,
		}
		n := s.Nodes[j.Node]
		if n == nil && j.Node != "" { // of a failed task the ledger keeps no node
			n = &oldNode{GPUType: unitType}
			s.Nodes[j.Node] = n
		}
		if j.Success {
			s.Successful++
			n.Jobs++
			n.Successful++
			j.Output = o.output(t.GetNumber())
		} else {
			s.Failed++
			j.Error, j.FailureMode = t.GetMessage(), failureMode(t)
		}
		s.Jobs = append(s.Jobs, j)
	}
	return s
}

// output is where a task's own output was delivered, or empty.
func (o *oldScripts) output(number uint64) string {
	t := o.batch.tasks[number]
	switch {
	case len(t.As) == 0:
		return ""
	case o.preserve:
		return t.As[0]
	}
	return filepath.Join(o.dir, path.Base(t.Outputs[0]))
}

// failureMode is the original's word for how a task failed.
func failureMode(t *meshv1.TaskInfo) string {
	switch scripts.Class(t.GetClass()) {
	case scripts.MissingOutput:
		return "FILE_MISSING"
	case scripts.InvalidOutput:
		return "INVALID_JSON"
	case scripts.TimedOut:
		return "TIMEOUT"
	default:
		return "EXECUTION_ERROR"
	}
}

func (o *oldScripts) manifest(s *oldSummary) *oldManifest {
	m := &oldManifest{
		Version: "1.0.0", SpecVersion: "1.0", RunID: s.RunID, Timestamp: s.Timestamp, Config: o.config, JobsFile: o.jobsFile, Expected: s.Total,
		Completed: s.Successful, Failed: s.Failed, Runtime: s.Runtime, OutputDir: s.OutputDir, Outputs: []string{}, Failures: []oldFailure{}, Nodes: s.Nodes,
	}
	for _, j := range s.Jobs {
		if j.Output != "" {
			m.Outputs = append(m.Outputs, j.Output)
		}
		if !j.Success {
			m.Failures = append(m.Failures, oldFailure{j.ID, j.FailureMode, j.Error})
		}
	}
	return m
}
