// Package planted proves that the tests can fail: it plants one bug after the
// other and demands that the test named for it notices.
//
// A file in bugs is one bug. Its head says what is wrong, in which file, and
// which test must catch it; below, after empty lines, stand the hunks of a diff
// without line numbers. The bug goes into a copy that the compiler is given
// instead of the file (go build -overlay), so that the tree is never changed. A
// hunk whose lines do not stand in the file exactly once fails: the source has
// moved on.
package planted

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"seedmesh/tests/faults"
)

var all = flag.Bool("all", false, "all bugs, not only the quick ones")

// testTimeout ends a test that a bug makes wait for ever, which catches nothing.
const testTimeout = 5 * time.Minute

// A bug is one file of bugs.
type bug struct {
	name  string
	what  string // what is wrong
	file  string // where, from the root of the module
	pkg   string // folder of the test that must catch it
	test  string
	quick bool // that test is one of those that run with all others
	hunks []hunk
}

// A hunk is a text of the file, and what it becomes.
type hunk struct{ old, new string }

// parseBug reads a file of bugs.
func parseBug(name, text string) (bug, error) {
	b := bug{name: name}
	parts := strings.Split(text, "\n\n")
	for line := range strings.Lines(parts[0]) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "bug":
			b.what = value
		case "file":
			b.file = value
		case "test":
			b.pkg, b.test, _ = strings.Cut(value, " ")
		case "quick":
			b.quick = value == "yes"
		default:
			return b, fmt.Errorf("%q is not a line of a head", line)
		}
	}
	for _, part := range parts[1:] {
		h, err := parseHunk(part)
		if err != nil {
			return b, err
		}
		b.hunks = append(b.hunks, h)
	}
	if b.what == "" || b.file == "" || b.test == "" || len(b.hunks) == 0 {
		return b, errors.New("a bug needs what, file, test and a diff")
	}
	return b, nil
}

func parseHunk(text string) (h hunk, err error) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		switch mark, rest := line[0], line[1:]; mark {
		case '-':
			h.old += rest
		case '+':
			h.new += rest
		case ' ':
			h.old, h.new = h.old+rest, h.new+rest
		default:
			return h, fmt.Errorf("%q is not a line of a diff", line)
		}
	}
	if h.old == h.new || h.old == "" {
		return h, errors.New("a hunk changes nothing")
	}
	return h, nil
}

// plant gives the file's text with the bug in it.
func (b bug) plant(source string) (string, error) {
	for _, h := range b.hunks {
		if n := strings.Count(source, h.old); n != 1 {
			return "", fmt.Errorf("%s has these lines %d times, and a bug goes where they are once:\n%s", b.file, n, h.old)
		}
		source = strings.Replace(source, h.old, h.new, 1)
	}
	return source, nil
}

func readBugs(t *testing.T) []bug {
	t.Helper()
	files, err := filepath.Glob("bugs/*.diff")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bugs: %v", err)
	}
	slices.Sort(files)
	var bugs []bug
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseBug(strings.TrimSuffix(filepath.Base(file), ".diff"), string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		bugs = append(bugs, b)
	}
	return bugs
}

// TestEveryBugFits notices a source that has moved on.
func TestEveryBugFits(t *testing.T) {
	for _, b := range readBugs(t) {
		source, err := os.ReadFile(filepath.Join("../..", b.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.plant(string(source)); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
}

// TestPlanted plants the quick bugs, and with -all every one.
func TestPlanted(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the tests of many packages")
	}
	h := &house{T: t, dir: t.TempDir(), sound: map[string]error{}}
	var err error
	if h.root, err = filepath.Abs("../.."); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "BUG\tWHAT IS WRONG\tCAUGHT BY\tTHE TEST SAYS")
	for _, b := range readBugs(t) {
		t.Run(b.name, func(t *testing.T) {
			if !b.quick && !*all {
				t.Skip("planted by make planted")
			}
			says, err := h.try(b)
			if err != nil {
				t.Error(err)
				says = "NOT CAUGHT"
			}
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s %s\t%s\n", b.name, b.what, b.pkg, b.test, says)
		})
	}
	_ = table.Flush() // a buffer takes everything
	t.Logf("planted bugs:\n%s", out.String())
}

// house builds and runs tests, with and without bugs.
type house struct {
	*testing.T
	root  string
	dir   string
	sound map[string]error // by package and test: how it does without a bug
}

// try demands that a bug's test passes without it, that it compiles with it, and
// then fails. It gives the test's first complaint.
func (h *house) try(b bug) (says string, err error) {
	key := b.pkg + " " + b.test
	if _, known := h.sound[key]; !known {
		out, failed, err := h.run(b, "")
		if err == nil && failed {
			err = fmt.Errorf("%s fails without a bug:\n%s", key, out)
		}
		h.sound[key] = err
	}
	if err := h.sound[key]; err != nil {
		return "", err
	}
	overlay, err := h.overlay(b)
	if err != nil {
		return "", err
	}
	out, failed, err := h.run(b, overlay)
	switch {
	case err != nil:
		return "", err
	case !failed:
		return "", fmt.Errorf("%s passes although %s", key, b.what)
	case strings.Contains(out, "panic: test timed out"), !strings.Contains(out, "--- FAIL: "+b.test) && !strings.Contains(out, "panic: "):
		return "", fmt.Errorf("%s fails, but not by what it checks:\n%s", key, out)
	}
	return complaint(out), nil
}

// overlay writes the bug's file and what tells the compiler of it.
func (h *house) overlay(b bug) (path string, err error) {
	original := filepath.Join(h.root, b.file)
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	text, err := b.plant(string(source))
	if err != nil {
		return "", err
	}
	planted := filepath.Join(h.dir, b.name+".go")
	if err := os.WriteFile(planted, []byte(text), 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{original: planted}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(h.dir, b.name+".json")
	return path, os.WriteFile(path, list, 0o600)
}

// run builds a bug's test and runs it. The overlay, if there is one, is in the
// environment, so that it holds for what the test itself builds, too.
func (h *house) run(b bug, overlay string) (out string, failed bool, err error) {
	binary := filepath.Join(h.dir, "planted.test")
	environ := append(os.Environ(), faults.File+"=") // what a planted bug does to invariants is no account of the code
	if overlay != "" {
		environ = append(environ, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	build := exec.Command("go", "test", "-c", "-o", binary, "./"+b.pkg)
	build.Dir, build.Env = h.root, environ
	if out, err := build.CombinedOutput(); err != nil {
		return "", false, fmt.Errorf("%s: the test does not compile: %w\n%s", b.name, err, out)
	}
	test := exec.Command(binary, "-test.run", "^"+b.test+"$", "-test.timeout", testTimeout.String())
	test.Dir, test.Env = filepath.Join(h.root, b.pkg), environ
	text, err := test.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return string(text), true, nil
	case err == nil && !bytes.Contains(text, []byte("PASS")):
		err = fmt.Errorf("no test ran: %s", text)
	case err == nil && bytes.Contains(text, []byte("no tests to run")):
		err = fmt.Errorf("%s has no test %s", b.pkg, b.test)
	}
	return string(text), false, err
}

// complaint is the first line by which a test says what is wrong.
func complaint(out string) string {
	const most = 100 // bytes
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if _, what, ok := strings.Cut(line, "_test.go:"); ok {
			_, what, _ = strings.Cut(what, ": ")
			return clip(what, most)
		}
		if strings.HasPrefix(line, "panic: ") {
			return clip(line, most)
		}
	}
	return clip(strings.TrimSpace(out), most)
}

func clip(s string, most int) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// TestParseBug holds the format: what is malformed, or meets another source than
// it was written for, does not pass for a bug that was caught.
func TestParseBug(t *testing.T) {
	const good = "bug: it lies\nfile: a.go\ntest: jobs TestX\n\n keep\n-truth\n+lie\n"
	b, err := parseBug("x", good)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.plant("keep\ntruth\nend\n"); err != nil || got != "keep\nlie\nend\n" {
		t.Errorf("plant = %q, %v", got, err)
	}
	for name, source := range map[string]string{"gone": "keep\nelse\n", "twice": "keep\ntruth\nkeep\ntruth\n"} {
		if got, err := b.plant(source); err == nil {
			t.Errorf("%s: plant = %q, want an error", name, got)
		}
	}
	for name, text := range map[string]string{
		"no test":      "bug: it lies\nfile: a.go\n\n-truth\n+lie\n",
		"no change":    "bug: it lies\nfile: a.go\ntest: jobs TestX\n\n keep\n",
		"unknown head": "bug: it lies\nfiel: a.go\ntest: jobs TestX\n\n-truth\n+lie\n",
		"no mark":      "bug: it lies\nfile: a.go\ntest: jobs TestX\n\ntruth\n",
	} {
		if b, err := parseBug("x", text); err == nil {
			t.Errorf("%s: %+v, want an error", name, b)
		}
	}
}
