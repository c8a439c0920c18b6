package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain is also the processes that a verb starts of its own program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"measure", "probe"}, os.Args[1]) {
		os.Exit(start())
	}
	testscript.Main(m, map[string]func(){"seedmesh": main})
}

// TestScript runs the verbs that need no mesh as real processes.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: false,
		Setup: func(s *testscript.Env) error {
			s.Setenv("XDG_STATE_HOME", s.WorkDir+"/state")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": scriptCode},
	})
}

// scriptCode is the script command "code N VERB ...": it runs seedmesh in this
// process and checks the exit code, and that an error is one of up to three lines, and all
// that is printed where nothing was begun.
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N VERB ...")
	}
	var stdout, stderr bytes.Buffer
	getenv := func(k string) string { return ts.Getenv(k) }
	e := &env{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: getenv, dial: dialNode}
	for i, a := range args {
		if strings.HasPrefix(a, "./") || a == "." {
			args[i] = ts.MkAbs(a)
		}
	}
	code := run(context.Background(), args[1:], e)
	_, _ = ts.Stdout().Write(stdout.Bytes())
	_, _ = ts.Stderr().Write(stderr.Bytes())
	if lines := strings.Count(stderr.String(), "\n"); code != 0 && (lines > 3 || !strings.HasPrefix(stderr.String(), "seedmesh: ")) {
		ts.Fatalf("seedmesh %s: an error has up to three lines, not %d:\n%s", strings.Join(args[1:], " "), lines, stderr.String())
	}
	if code > exitFailure && stdout.Len() > 0 || strings.Contains(stderr.String(), "\nseedmesh: ") {
		ts.Fatalf("seedmesh %s: beside one error it prints:\n%s%s", strings.Join(args[1:], " "), stdout.String(), stderr.String())
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("seedmesh %s: exit code %s, want %s\n%s%s", strings.Join(args[1:], " "), got, args[0], stdout.String(), stderr.String())
	}
}

// result is what one command line did.
type result struct {
	code           int
	stdout, stderr string
}

// runWith runs a command line in this process.
func runWith(ctx context.Context, t *testing.T, dial dialer, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := &env{
		stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr, dial: dial,
		getenv: func(k string) string {
			if k == "SEEDMESH_DATA" {
				return t.TempDir()
			}
			return ""
		},
	}
	code := run(ctx, args, e)
	return result{code, stdout.String(), stderr.String()}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestInterruptWhileDrawsAreRead reads draws from a pipe that never ends.
func TestInterruptWhileDrawsAreRead(t *testing.T) {
	endless, silent := io.Pipe()
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	e := &env{stdin: endless, stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	if code := run(ctx, []string{"sieve", "--local", "-g", "xorshift32", "-d", "-", "-s", "0:10"}, e); code != exitInterrupted || stdout.Len() > 0 {
		t.Errorf("exit code %d, output %q, %q", code, stdout.String(), stderr.String())
	}
}

// TestGeneratorsNameTheirDevices has every accelerator beside the CPU for a
// generator with a kernel, and a reason for one without.
func TestGeneratorsNameTheirDevices(t *testing.T) {
	r := runWith(t.Context(), t, nil, "", "generators", "--json")
	var list []struct {
		Name           string   `json:"name"`
		Devices        []string `json:"devices"`
		NotAccelerated string   `json:"not_accelerated"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) < 100 {
		t.Fatalf("%d generators, %v", len(list), err)
	}
	accelerated := 0
	for _, g := range list {
		all := slices.Equal(g.Devices, []string{"cpu", "cuda", "hip", "opencl"})
		if all == (g.NotAccelerated != "") || !all && !slices.Equal(g.Devices, []string{"cpu"}) {
			t.Errorf("%s: devices %v, not accelerated: %q", g.Name, g.Devices, g.NotAccelerated)
		}
		if all {
			accelerated++
		}
	}
	if accelerated < 20 || accelerated == len(list) {
		t.Errorf("%d of %d generators are accelerated", accelerated, len(list))
	}
	if r := runWith(t.Context(), t, nil, "", "generators", "glibc_rand"); !strings.Contains(r.stdout, "not_accelerated") || !strings.Contains(r.stdout, "no kernel makes its outputs") {
		t.Errorf("generators glibc_rand: %s", r.stdout)
	}
}
