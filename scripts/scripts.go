// Package scripts is what script jobs are made of: which command each task of a
// job runs, how a command is run on this machine so that nothing of it is left
// behind, and what became of it.
//
// It knows nothing of jobs, claims or networks: a [Spec] says what task n is, a
// [Runner] runs a [Task] and gives an [Outcome].
//
// Read scripts.go and axes.go for the specification, list.go for long lists of
// tasks, outcome.go for how attempts end, runner.go for how one is run.
package scripts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"encoding/hex"
)

// Limits of a specification.
const (
	MaxSpecBytes = 60 << 10 // bytes of an encoded specification
	MaxTasks     = 1 << 32  // tasks of one job
	MaxArgs      = 4096     // words of one command
	MaxTaskBytes = 128 << 10
	MaxAxes      = 16
	MaxFiles     = 4096 // inputs of a job, and outputs of a task
	MaxPathBytes = 1024
	MaxTimeout   = 30 * 24 * time.Hour
	specVersion  = 1
	MaxOutput    = 250 << 20 // bytes of one task's outputs together
	defaultOK    = 0         // exit status of success
	MaxHolders   = 8         // nodes that a specification names as those that have its inputs
	MaxPreloads  = 16        // that one job requires
)

// Spec is what the tasks of a job are, and what they share. It either has a
// Template with Axes, or a List.
type Spec struct {
	Version  int      `json:"version"`
	Template *Task    `json:"template,omitempty"`
	Axes     []Axis   `json:"axes,omitempty"`
	List     *Listing `json:"list,omitempty"`
	Split    *Split   `json:"split,omitempty"` // with a template without axes: each task gets a part of an input

	Env     []string `json:"env,omitempty"`     // "K=V"
	Inputs  []Input  `json:"inputs,omitempty"`  // files in the working directory
	Outputs []string `json:"outputs,omitempty"` // of every task: names or globs
	Capture string   `json:"capture,omitempty"` // "json": the last JSON object of stdout is an output, or ""
	Valid   string   `json:"valid,omitempty"`   // what outputs must be: "json", "jsonl", "npz", "auto" (what their names end with) or ""
	Check   []string `json:"check,omitempty"`   // command that says with status 0 that the outputs, its last arguments, are valid
	OK      []int    `json:"ok,omitempty"`      // exit statuses of success; none is 0 alone

	Holders   []string `json:"holders,omitempty"`    // nodes that had the inputs when the job was submitted
	TimeoutMS uint64   `json:"timeout_ms,omitempty"` // longest run of one attempt; 0 for none
	Memory    uint64   `json:"memory,omitempty"`     // bytes that one task may use; 0 for no limit of its own
	GPUHint   bool     `json:"gpu_hint,omitempty"`   // tasks see the GPU that their hint names, and get it as --gpu-id
	Preloads  []string `json:"preloads,omitempty"`   // that must be ready on a node before it runs a task; in order
	// Worker is how many words at the beginning of each task's command start a process
	// that stays up and is given the words behind; 0 for a process for each task.
	Worker int `json:"worker,omitempty"`
}

// Task is one command.
type Task struct {
	ID      string   `json:"id,omitempty"` // the user's name for it; empty for its number
	Argv    []string `json:"argv"`
	Outputs []string `json:"outputs,omitempty"` // that this task must make, beside those of the job
	Inputs  []string `json:"inputs,omitempty"`  // paths of the job's inputs for tasks that name them, which this one does
	As      []string `json:"as,omitempty"`      // the outputs' paths as the user wrote them, where they differ
	// TimeoutMS is this task's own limit, 0 for the job's.
	TimeoutMS uint64 `json:"timeout_ms,omitempty"`
	GPU       *int   `json:"gpu,omitempty"` // the hint of old job files
	// Needs are the numbers of tasks that must have succeeded before this one starts,
	// NeedsAny those that must have ended. All are in front of it.
	Needs    []uint64 `json:"needs,omitempty"`
	NeedsAny []uint64 `json:"needs_any,omitempty"`
}

// Input is a file that a task finds in its working directory. Its bytes are a
// blob of that digest.
type Input struct {
	Path   string `json:"path"` // relative, clean, with slashes
	Digest Digest `json:"digest"`
	Bytes  int64  `json:"bytes"`
	Exec   bool   `json:"exec,omitempty"`
	Own    bool   `json:"own,omitempty"` // only for tasks that name it
}

// Listing names the blob that has the tasks of a job, as [WriteList] writes it.
type Listing struct {
	Digest Digest `json:"digest"`
	Tasks  uint64 `json:"tasks"`
	Bytes  int64  `json:"bytes"`
	Ready  uint64 `json:"ready,omitempty"` // tasks, from the first, that need no other; 0 when none does
}

// Digest is the SHA-256 that names a blob, in JSON as hexadecimal digits.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads them.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	if err != nil || len(v) != len(d) {
		return fmt.Errorf("%.80q is not a SHA-256 in hexadecimal digits", b)
	}
	copy(d[:], v)
	return nil
}

// SpecError refuses a specification.
type SpecError struct{ What, Next string }

func (e *SpecError) Error() string { return "scripts: " + e.What }

// Remedy says what to write instead.
func (e *SpecError) Remedy() string { return e.Next }

func wrong(next, format string, args ...any) error {
	return &SpecError{fmt.Sprintf(format, args...), next}
}

// Encode writes the specification; equal ones give equal bytes.
func (s *Spec) Encode() ([]byte, error) {
	s.Version = specVersion
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("scripts: %w", err)
	}
	if len(b) > MaxSpecBytes {
		return nil, wrong("put long commands into a jobs file, and many inputs into one archive", "the specification has %d bytes, the limit is %d", len(b), MaxSpecBytes)
	}
	return b, s.Validate()
}

func newer(format string, args ...any) error {
	return wrong("upgrade this node: install the newer seedmesh, then start it with seedmesh up",
		"the job was made by a newer seedmesh than this one: "+format, args...)
}

// Decode reads what Encode wrote. A field that it does not know, another version
// and an invalid specification are errors.
func Decode(b []byte) (*Spec, error) {
	if len(b) > MaxSpecBytes {
		return nil, wrong("", "the specification has %d bytes, the limit is %d", len(b), MaxSpecBytes)
	}
	var head struct{ Version int }
	s := new(Spec)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := json.Unmarshal(b, &head)
	switch {
	case err == nil && head.Version > specVersion:
		return nil, newer("its specification has version %d, this program reads version %d", head.Version, specVersion)
	case err == nil:
		err = d.Decode(s)
	}
	switch {
	case err != nil && json.Unmarshal(b, new(Spec)) == nil: // but for a field that is not known
		return nil, newer("%v", err)
	case err != nil:
		return nil, wrong("", "the specification cannot be read: %v", err)
	case s.Version != specVersion:
		return nil, wrong("", "the specification has version %d, this program reads version %d", s.Version, specVersion)
	}
	return s, s.Validate()
}

// Validate refuses what no node can run.
func (s *Spec) Validate() error {
	switch {
	case (s.Template == nil) == (s.List == nil):
		return wrong("", "a job has either a template or a list of tasks")
	case s.List != nil && s.List.Ready >= s.List.Tasks && s.List.Ready > 0:
		return wrong("", "of %d tasks %d need no other", s.List.Tasks, s.List.Ready)
	case s.List != nil && (s.List.Tasks == 0 || s.List.Tasks > MaxTasks || len(s.Axes) > 0):
		return wrong("", "the list has %d tasks, it must have 1 to %d", s.List.Tasks, uint64(MaxTasks))
	case s.TimeoutMS > uint64(MaxTimeout.Milliseconds()):
		return wrong("", "the timeout is above %v", MaxTimeout)
	case !slices.Contains([]string{"", "json"}, s.Capture):
		return wrong("use stdout:json", "stdout cannot be taken as %q", s.Capture)
	case !slices.Contains([]string{"", "auto", "json", "jsonl", "npz"}, s.Valid):
		return wrong("use auto, json, jsonl or npz", "outputs cannot be checked as %q", s.Valid)
	case len(s.Holders) > MaxHolders:
		return wrong("", "%d holders are named, the limit is %d", len(s.Holders), MaxHolders)
	case len(s.Check) > MaxArgs || len(s.Check) > 0 && s.Check[0] == "" || strings.ContainsRune(strings.Join(s.Check, ""), 0):
		return wrong("such as --valid 'command:python3 check.py'", "%.60q is no command that checks outputs", s.Check)
	case s.Worker > 0 && (len(s.Check) > 0 || s.Split != nil):
		return wrong("check and cut in the worker itself", "a worker's outputs are not checked by a command, and it is given no parts of an input")
	case len(s.Preloads) > MaxPreloads || !slices.IsSorted(s.Preloads) || len(slices.Compact(slices.Clone(s.Preloads))) != len(s.Preloads):
		return wrong("name each once, in order", "a job requires at most %d preloads, in order", MaxPreloads)
	case s.Worker < 0 || s.Worker > MaxArgs || s.Template != nil && s.Worker > len(s.Template.Argv):
		return wrong("name the words that start it first", "a worker is started by %d words of a command that has fewer", s.Worker)
	case len(s.Inputs) > MaxFiles:
		return wrong("put them into an archive", "%d inputs, the limit is %d", len(s.Inputs), MaxFiles)
	}
	if s.Split != nil {
		if s.Template == nil || len(s.Axes) > 0 {
			return wrong("leave --array and --matrix out", "a job that splits an input has one command")
		}
		if err := s.Split.validate(); err != nil {
			return err
		}
	}
	if s.Template != nil {
		if err := s.checkAxes(); err != nil {
			return err
		}
		if err := s.Template.Validate(); err != nil {
			return err
		}
	}
	for _, kv := range s.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" || strings.ContainsRune(kv, 0) {
			return wrong("write --env NAME=VALUE", "%.60q is not a variable of the environment", kv)
		}
	}
	seen := map[string]bool{}
	if s.Split != nil {
		seen[s.Split.Name] = true
	}
	for _, in := range s.Inputs {
		if err := CheckPath(in.Path); err != nil {
			return err
		}
		if seen[in.Path] {
			return wrong("name it once", "the input %s is there twice", in.Path)
		}
		seen[in.Path] = true
	}
	return checkOutputs(s.Outputs)
}

// Validate refuses a task that no node can run.
func (t *Task) Validate() error {
	size := 0
	for _, a := range t.Argv {
		if strings.ContainsRune(a, 0) {
			return wrong("", "an argument of task %q has a zero byte", t.ID)
		}
		size += len(a) + 1
	}
	switch {
	case len(t.Argv) == 0 || t.Argv[0] == "":
		return wrong("name one, such as: seedmesh exec -- python3 script.py", "task %q has no command", t.ID)
	case len(t.Argv) > MaxArgs || size > MaxTaskBytes:
		return wrong("put them into a file and ship it with --input", "the arguments of task %q have %d words and %d bytes, the limits are %d and %d", t.ID, len(t.Argv), size, MaxArgs, MaxTaskBytes)
	case !utf8.ValidString(t.ID) || len(t.ID) > MaxPathBytes || strings.ContainsAny(t.ID, "/\x00\n") || t.ID == "." || t.ID == "..":
		return wrong("use letters, digits, - and _", "%.60q is not a name for a task", t.ID)
	}
	return checkOutputs(t.Outputs)
}

func checkOutputs(patterns []string) error {
	if len(patterns) > MaxFiles {
		return wrong("use a glob", "%d outputs are declared, the limit is %d", len(patterns), MaxFiles)
	}
	for _, p := range patterns {
		if err := CheckPath(p); err != nil {
			return err
		}
		if _, err := path.Match(p, ""); err != nil {
			return wrong("quote [ as \\[", "the output pattern %.60q is malformed", p)
		}
	}
	return nil
}

// CheckPath refuses what is not a clean relative path beneath a directory.
func CheckPath(p string) error {
	if p == "" || len(p) > MaxPathBytes || path.IsAbs(p) || path.Clean(p) != p || p == "." || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\x00\n") {
		return wrong("name files by their path below the task's working directory", "the path %.80q does not stay beneath the working directory", p)
	}
	return nil
}

// Count is the number of tasks.
func (s *Spec) Count() uint64 {
	if s.List != nil {
		return s.List.Tasks
	}
	if s.Split != nil {
		return s.Split.count()
	}
	n := uint64(1)
	for _, a := range s.Axes {
		n *= a.size()
	}
	return n
}

// HeldBy tells whether a node had the inputs when the job was submitted.
func (s *Spec) HeldBy(node string) bool { return slices.Contains(s.Holders, node) }

// Label is what the tasks run, in a few words: as exec takes them, with :: behind those
// that start a worker.
func (s *Spec) Label() string {
	if s.List != nil {
		return fmt.Sprintf("list of %d", s.List.Tasks)
	}
	argv := s.Template.Argv
	if s.Worker > 0 && s.Worker < len(argv) {
		argv = slices.Insert(slices.Clone(argv), s.Worker, "::")
	}
	words := strings.Join(argv, " ")
	const most = 80 // bytes
	if len(words) > most {
		words = strings.ToValidUTF8(words[:most], "") + "..."
	}
	return strings.ToValidUTF8(words, "?")
}

// Timeout is the longest run of an attempt at a task, 0 for none.
func (s *Spec) Timeout(t Task) time.Duration {
	if t.TimeoutMS > 0 {
		return time.Duration(t.TimeoutMS) * time.Millisecond
	}
	return time.Duration(s.TimeoutMS) * time.Millisecond
}

// succeeded tells whether an exit status is one of success.
func (s *Spec) succeeded(status int) bool {
	if len(s.OK) == 0 {
		return status == defaultOK
	}
	return slices.Contains(s.OK, status)
}
