package scripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstalled runs scripts of this machine that are below an allowed directory, what
// was sent along, and programs of PATH; everything else is refused before it starts.
func TestInstalled(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // other users pass through
		t.Fatal(err)
	}
	allowed, other := filepath.Join(dir, "jobs"), filepath.Join(dir, "other")
	for _, name := range []string{allowed, other} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(name, "run.sh"), []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(other, "run.sh"), filepath.Join(allowed, "out.sh")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("run.sh", filepath.Join(allowed, "in.sh")); err != nil {
		t.Fatal(err)
	}
	r := newPlace(t, func(p *Place) { p.Installed = &Installed{Path: "/usr/bin", Directories: []string{allowed}} })
	if err := os.WriteFile(filepath.Join(r.place.Base, "inputs", "sent"), []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why   string
		argv  []string
		class Class
	}{
		{"below an allowed directory", []string{allowed + "/run.sh"}, OK},
		{"given to an interpreter", []string{"sh", "-e", allowed + "/run.sh"}, OK},
		{"a link that stays below it", []string{allowed + "/in.sh"}, OK},
		{"a link that leads out", []string{allowed + "/out.sh"}, InputMissing},
		{"a link that leads out, given to an interpreter", []string{"sh", allowed + "/out.sh"}, InputMissing},
		{"dots that lead out", []string{allowed + "/../other/run.sh"}, InputMissing},
		{"another directory", []string{other + "/run.sh"}, InputMissing},
		{"another directory, given to an interpreter", []string{"/bin/sh", other + "/run.sh"}, InputMissing},
		{"a relative path that leaves the working directory", []string{"../../other/run.sh"}, InputMissing},
		{"not there", []string{allowed + "/none.sh"}, InputMissing},
		{"sent along", []string{"./sent"}, OK},
		{"sent along, given to an interpreter", []string{"sh", "sent"}, OK},
		{"a program", []string{"echo", "ran"}, OK},
		{"a program by its path", []string{"/bin/echo", "ran"}, OK},
		{"words for a shell", []string{"sh", "-c", "echo ran", other + "/run.sh"}, OK},
		{"data for a program", []string{"grep", "-o", "ran", other + "/run.sh"}, OK},
	} {
		o := run(t, r, Attempt{Spec: &Spec{Template: &Task{}}, Task: Task{Argv: tt.argv}, Count: 1, Links: []Link{{"sent", "sent"}}})
		if ran := strings.TrimSpace(string(o.Stdout.Head)) == "ran"; o.Class != tt.class || ran != (tt.class == OK) {
			t.Errorf("%s: %q is %q with %q, want %q: %s", tt.why, tt.argv, o.Class, o.Stdout.Head, tt.class, o.Message)
		}
	}
	evil := Attempt{Spec: &Spec{Template: &Task{}, Env: []string{"PATH=" + other + ":/bin"}}, Task: Task{Argv: []string{"run.sh"}}, Count: 1}
	if o := run(t, r, evil); o.Class != InputMissing || !strings.Contains(o.Message, "directories") {
		t.Errorf("a PATH of the job's own: %q, %s", o.Class, o.Message)
	}
}

// run gives the outcome of an attempt.
func run(t *testing.T, r *Runner, a Attempt) Outcome {
	t.Helper()
	o, err := r.Run(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestInstalledAt takes a program from the PATH that a node's configuration sets, as for a
// virtual environment, and from no other of its kind.
func TestInstalledAt(t *testing.T) {
	i := InstalledAt([]string{"/opt/jobs"}, "HSA_ENABLE_SDMA=0", "PATH=/opt/venv/bin:/usr/bin")
	for path, want := range map[string]bool{
		"/opt/venv/bin/python3":       true,
		"/opt/venv/bin/../lib/python": false,
		"/opt/venv2/bin/python3":      false,
		"/opt/jobs/run.sh":            true,
	} {
		if got := i.Allows(path); got != want {
			t.Errorf("%s is allowed: %t, want %t", path, got, want)
		}
	}
}
