package scripts

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newPlace gives a runner in a directory that scripts of another user can reach.
func newPlace(t testing.TB, edit ...func(*Place)) *Runner {
	t.Helper()
	base := t.TempDir()
	p := Place{Base: base, Name: "0", UID: -1, GID: -1, Grace: 200 * time.Millisecond}
	if os.Getuid() == 0 {
		p.UID, p.GID = ownUser(), ownUser()
	}
	if err := errors.Join(os.Chmod(filepath.Dir(base), placeMode), os.Mkdir(filepath.Join(base, "inputs"), placeMode)); err != nil {
		t.Fatal(err)
	}
	for _, e := range edit {
		e(&p)
	}
	r, err := NewRunner(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Tidy(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// ownUser is a number that belongs to nobody, also when this test runs twice at once.
func ownUser() int { return 1<<30 + os.Getpid()*8 }

// shell is an attempt that runs a shell command.
func shell(command string, edit ...func(*Attempt)) Attempt {
	a := Attempt{Spec: &Spec{Template: &Task{}}, Task: Task{ID: "it", Argv: []string{"/bin/sh", "-c", command}}, Number: 7, Count: 2}
	for _, e := range edit {
		e(&a)
	}
	return a
}

func outputs(patterns ...string) func(*Attempt) {
	return func(a *Attempt) { a.Spec.Outputs = patterns }
}

func valid(how string) func(*Attempt) { return func(a *Attempt) { a.Spec.Valid = how } }

// check is a shell command that checks outputs.
func check(command string) func(*Attempt) {
	return func(a *Attempt) { a.Spec.Check = []string{"/bin/sh", "-c", command, "check"} }
}

// TestPlaceRemoved has somebody remove the place of a slot between two tasks.
func TestPlaceRemoved(t *testing.T) {
	r := newPlace(t)
	if err := os.RemoveAll(filepath.Join(r.place.Base, r.place.Name)); err != nil {
		t.Fatal(err)
	}
	if err := r.Reset(); err != nil {
		t.Fatal(err)
	}
	if o, err := r.Run(t.Context(), shell("echo > o; echo > $TMPDIR/x", outputs("o"))); err != nil || o.Class != OK {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestDeepTree has a task leave directories below each other, many more than files may be open.
func TestDeepTree(t *testing.T) {
	r := newPlace(t)
	o, err := r.Run(t.Context(), shell(`python3 -c '
import os
for i in range(2000):
    open("f", "w").close(); os.makedirs("e/e"); os.chmod("e", 0); os.mkdir("d"); os.chdir("d")'`))
	if err != nil || o.Class != OK {
		t.Fatalf("%+v, %v", o, err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err = r.Tidy()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	left, listErr := os.ReadDir(filepath.Join(r.place.Base, r.path("work")))
	if err != nil || listErr != nil || len(left) > 0 {
		t.Errorf("Tidy = %v, and leaves %d files: %v", err, len(left), listErr)
	}
}

// TestClasses ends attempts in every way, the hostile ones too. The runner is the
// same throughout, so that each also shows that the one before left nothing.
func TestClasses(t *testing.T) {
	r := newPlace(t)
	for _, tt := range []struct {
		name    string
		attempt Attempt
		class   Class
		status  int
		message string
	}{
		{"true", shell("true"), OK, 0, ""},
		{"exit 3", shell("exit 3"), ExitCode, 3, "exit status 3"},
		{"exits 137 by itself", shell("exit 137"), ExitCode, 137, "exit status 137"},
		{"a status that counts as success", shell("exit 3", func(a *Attempt) { a.Spec.OK = []int{0, 3} }), OK, 3, ""},
		{"killed", shell("kill -9 $$"), Signalled, -1, "SIGKILL"},
		{"segmentation fault", shell("kill -SEGV $$"), Signalled, -1, "SIGSEGV"},
		{"sleeps too long", shell("sleep 100", func(a *Attempt) { a.Spec.TimeoutMS = 50 }), TimedOut, -1, "longer than 50ms"},
		{"ignores TERM", shell("trap '' TERM; while :; do sleep 1; done", func(a *Attempt) { a.Spec.TimeoutMS = 100 }), TimedOut, -1, "longer"},
		{"no such command", shell("", func(a *Attempt) { a.Task.Argv = []string{"no-such-command-here"} }), NotStarted, -1, "no command"},
		{"not executable", shell("", func(a *Attempt) { a.Task.Argv = []string{"/etc/passwd"} }), NotStarted, -1, "permission denied"},
		{"no output", shell("true", outputs("out.json")), MissingOutput, 0, "out.json is not there"},
		{"output in a new directory", shell("echo 1 > a/b/c", outputs("a/b/c")), OK, 0, ""},
		{"glob without a match", shell("echo > x.txt", outputs("*.csv")), MissingOutput, 0, "*.csv"},
		{"a symlink out of its directory", shell("ln -s /etc/passwd out", outputs("out")), InvalidOutput, 0, "not a regular file"},
		{"a directory as a symlink", shell("rmdir d; ln -s /etc d", outputs("d/passwd")), InvalidOutput, 0, ""},
		{"a fifo", shell("mkfifo out", outputs("out")), InvalidOutput, 0, "not a regular file"},
		{"too large", shell("truncate -s 1T out", outputs("out")), InvalidOutput, 0, "more than"},
		{"half a JSON", shell(`printf '{"a":[1,2' > out`, outputs("out"), valid("json")), InvalidOutput, 0, "not valid json"},
		{"NaN in JSON", shell(`printf '{"a":NaN}' > out`, outputs("out"), valid("json")), InvalidOutput, 0, "not valid json"},
		{"two values", shell(`printf '{} {}' > out`, outputs("out"), valid("json")), InvalidOutput, 0, "follows"},
		{"good JSON", shell(`printf '{"a":[1,2]}' > out`, outputs("out"), valid("json")), OK, 0, ""},
		{"good lines", shell(`printf '1\n{}\n' > out`, outputs("out"), valid("jsonl")), OK, 0, ""},
		{"bad line", shell(`printf '1\n{\n' > out`, outputs("out"), valid("jsonl")), InvalidOutput, 0, "line 2"},
		{"a bomb of brackets", shell(`head -c 100000000 /dev/zero | tr '\0' '[' > out`, outputs("out"), valid("json")), InvalidOutput, 0, "deep"},
		{"an archive of very many names", shell(`python3 -c '
import zipfile
with zipfile.ZipFile("out", "w") as z:
    for i in range(100, 500): z.writestr(str(i) * 10000, b"")'`, outputs("out"), valid("npz")), InvalidOutput, 0, "more reading"},
		{"no archive", shell(`echo > out`, outputs("out"), valid("npz")), InvalidOutput, 0, "not valid npz"},
		{"a check that accepts", shell("echo yes > out; echo 1 > a.csv; echo 2 > b.csv", outputs("out", "*.csv"), check(`echo $# "$@"; grep -q yes $1`)), OK, 0, ""},
		{"a check that refuses", shell("echo no > out", outputs("out"), check("grep -q yes $1")), InvalidOutput, 0, "exit status 1"},
		{"a check that kills itself", shell("echo no > out", outputs("out"), check("kill -9 $$")), InvalidOutput, 0, "signal 9"},
		{"a check that leaves processes", shell("echo no > out", outputs("out"), check("setsid sleep 1000 & exit 1")), InvalidOutput, 0, "exit status 1"},
		{"a check that does not exist", shell("echo no > out", outputs("out"), func(a *Attempt) { a.Spec.Check = []string{"no-such-command-here"} }), InvalidOutput, 0, "cannot be started"},
		{"nothing to check", shell("true", outputs("out"), check("true")), MissingOutput, 0, "not there"},
		{"no object on stdout", shell("echo hello", func(a *Attempt) { a.Spec.Capture = "json" }), MissingOutput, 0, "JSON object"},
		{"closes its descriptors", shell("exec 0<&- 1>&- 2>&-; exit 4"), ExitCode, 4, ""},
		{"unremovable directories", shell("mkdir -p a/b; touch a/b/c; chmod 0 a/b a"), OK, 0, ""},
		{"closes its directories", shell("chmod 0 . $TMPDIR"), OK, 0, ""},
		{"they are open again", shell("echo > x; echo > $TMPDIR/x; exit 6"), ExitCode, 6, ""},
		{"nothing is left of it", shell(`test -z "$(ls -A . )$(ls -A $TMPDIR)" || exit 9`), OK, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := r.Run(t.Context(), tt.attempt)
			if err := r.Reset(); err != nil {
				t.Error(err)
			}
			if err != nil || o.Class != tt.class || o.Status != tt.status || !strings.Contains(o.Message+o.Signal, tt.message) {
				t.Errorf("Run(%q) = %+v, %v, want %s, status %d, %q", tt.attempt.Task.Argv, o, err, tt.class, tt.status, tt.message)
			}
			if o.Task != 7 || o.Attempt != 2 {
				t.Errorf("it is of task %d, attempt %d", o.Task, o.Attempt)
			}
		})
	}
}

// TestNothingSurvives leaves processes behind in every way a script can.
func TestNothingSurvives(t *testing.T) {
	r := newPlace(t)
	for name, command := range map[string]string{
		"in the background":   `sleep 1000 & echo $!`,
		"in another session":  `setsid sleep 1000 & sleep 0.1; pgrep -n -x sleep`,
		"forked twice":        `(setsid sh -c 'sleep 1000 & echo $!; exit' &) ; sleep 0.2`,
		"holding the streams": `setsid sleep 1000 & echo $!`,
		"a bomb of forks":     `b() { b | b & }; b; sleep 0.3; echo $!`,
		"forking on and on":   `(f() { (f &) ; sleep 0.001; f; }; f) & sleep 0.05; echo $!`,
	} {
		t.Run(name, func(t *testing.T) {
			o, err := r.Run(t.Context(), shell(command))
			if err != nil || o.Class != OK || o.Stdout.Total == 0 {
				t.Fatalf("got %+v, %v: the script told no process", o, err)
			}
			if left := descendants(os.Getpid()); len(left) > 0 {
				t.Errorf("the processes %v outlived their task", left)
			}
		})
	}
}

// TestLeftovers ends, at a runner's start, what a runner left that was killed.
func TestLeftovers(t *testing.T) {
	r := newPlace(t)
	a := shell("setsid sleep 1000")
	p, err := r.start(a.argv(), r.environment(a))
	if err != nil {
		t.Fatal(err)
	}
	for len(descendants(p.pid)) == 0 && unix.Kill(p.pid, 0) == nil { // until the script has begun
		time.Sleep(time.Millisecond)
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/comm"); err == nil && strings.TrimSpace(string(b)) == "sleep" {
			break
		}
	}
	endMarked("SEEDMESH_PLACE=" + filepath.Join(r.place.Base, "1"))
	if err := unix.Kill(p.pid, 0); err != nil {
		t.Fatalf("another slot's process was ended: %v", err)
	}
	endMarked("SEEDMESH_PLACE=" + filepath.Join(r.place.Base, "0"))
	if e := p.wait(context.Background(), time.Minute, time.Minute); e.status.Signal() != unix.SIGKILL || e.timedOut {
		t.Errorf("it ended with %v", e.status)
	}
	if err := r.endDescendants(); err != nil {
		t.Error(err)
	}
	r.out.finish()
	r.err.finish()
}

// TestLeftoversWithoutMark ends what an earlier runner has left in its control
// group, also where it has another environment than it was started with.
func TestLeftoversWithoutMark(t *testing.T) {
	g := OpenGroup("seedmesh-test-" + strconv.Itoa(os.Getpid()))
	if g == nil {
		t.Skip("no control group can be made here")
	}
	c := exec.CommandContext(t.Context(), "/bin/sleep", "1000")
	c.Env = []string{"NOTHING=1"}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.write("cgroup.procs", strconv.Itoa(c.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	pid := c.Process.Pid
	newPlace(t, func(p *Place) { p.Group = g })
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Errorf("process %d lives", pid)
		_ = c.Process.Kill()
		<-ended
	}
}

// TestFlood keeps the beginning and the end of what a script writes, and its size.
func TestFlood(t *testing.T) {
	r := newPlace(t)
	o, err := r.Run(t.Context(), shell("echo first; head -c 300000000 /dev/zero; echo last; echo oops >&2"))
	if err != nil || o.Class != OK {
		t.Fatalf("got %+v, %v", o, err)
	}
	if o.Stdout.Total != 300_000_011 || !bytes.HasPrefix(o.Stdout.Head, []byte("first\n")) || !bytes.HasSuffix(o.Stdout.Tail, []byte("\x00last\n")) {
		t.Errorf("kept of %d bytes: %.20q and %.20q", o.Stdout.Total, o.Stdout.Head, o.Stdout.End(20))
	}
	if len(o.Stdout.Head) != keepHead || len(o.Stdout.Tail) != keepTail || string(o.Stderr.End(10)) != "oops\n" {
		t.Errorf("kept %d and %d bytes; stderr %q", len(o.Stdout.Head), len(o.Stdout.Tail), o.Stderr.End(10))
	}
}

// TestCancel ends an attempt whose claim is gone.
func TestCancel(t *testing.T) {
	r := newPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if o, err := r.Run(ctx, shell("sleep 1000")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v", o, err)
	}
}

// TestOutputsAndInputs runs a script that reads an input, and cannot change it.
func TestOutputsAndInputs(t *testing.T) {
	r := newPlace(t)
	input := filepath.Join(r.place.Base, "inputs", "abc")
	if err := os.WriteFile(input, []byte("input\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	a := shell("cat sub/in.txt > sub/out.txt; echo more >> sub/in.txt; rm -f sub/in.txt; echo '{\"a\":1}'; echo bye", outputs("sub/*.txt"), func(a *Attempt) {
		a.Links = []Link{{"abc", "sub/in.txt"}}
		a.Spec.Capture = "json"
	})
	o, err := r.Run(t.Context(), a)
	if err != nil || o.Class != OK || len(o.Outputs) != 1 || o.Outputs[0].Path != "sub/out.txt" || o.Outputs[0].Bytes != 6 {
		t.Fatalf("got %+v, %v", o, err)
	}
	if got, err := os.ReadFile(filepath.Join(r.place.Base, OutputPath("0", 7, 0))); err != nil || string(got) != "input\n" {
		t.Errorf("the output is %q, %v", got, err)
	}
	if string(o.Captured) != `{"a":1}` {
		t.Errorf("captured %q", o.Captured)
	}
	if b, err := os.ReadFile(input); err != nil || os.Getuid() == 0 && string(b) != "input\n" {
		t.Errorf("the input is now %q, %v", b, err)
	}
}

// TestHides checks what a script of root's node can see of it.
func TestHides(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run scripts as another user")
	}
	r := newPlace(t)
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := r.Run(t.Context(), shell("id -u; grep NoNewPrivs /proc/self/status; grep -E 'core file|processes' /proc/self/limits | tr -s ' '; cat "+secret+" ../../*/out/* ; ls ../; kill -9 $PPID; env", func(a *Attempt) { a.Spec.Env = []string{"MINE=1"} }))
	text := string(o.Stdout.Head)
	if err != nil || !strings.HasPrefix(text, strconv.Itoa(ownUser())+"\nNoNewPrivs:\t1\nMax core file size 0 0 bytes \nMax processes 4096 4096 processes \n") || strings.Contains(text, "secret") {
		t.Errorf("got %v, %v: %s", o.Class, err, text)
	}
	if !strings.Contains(text, "\nMINE=1\n") || strings.Contains(text, "GOPATH") || !strings.Contains(text, "SEEDMESH_ATTEMPT=2\n") {
		t.Errorf("the environment is %s", text)
	}
}

// BenchmarkTrue is the cost of the cheapest task.
func BenchmarkTrue(b *testing.B) {
	r := newPlace(b)
	a := Attempt{Spec: &Spec{Template: &Task{}}, Task: Task{Argv: []string{"true"}}}
	for b.Loop() {
		if o, err := r.Run(b.Context(), a); err != nil || o.Class != OK {
			b.Fatal(o, err)
		}
	}
}

// TestStart asks whether a task may be started when all is prepared for it, and
// heeds the answer.
func TestStart(t *testing.T) {
	r := newPlace(t)
	if err := os.WriteFile(filepath.Join(r.place.Base, "inputs", "i"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(r.place.Base, r.place.Name, "work", "ran")
	for _, may := range []bool{true, false} {
		prepared, started := false, 0
		_, err := r.Run(t.Context(), shell("touch ran", func(a *Attempt) {
			a.Links = []Link{{"i", "input"}}
			a.Start = func(context.Context) (func(), error) {
				_, err := os.Stat(filepath.Join(filepath.Dir(ran), "input"))
				if prepared = err == nil; !may {
					return nil, nil
				}
				return func() { started++ }, nil
			}
		}))
		_, missing := os.Stat(ran)
		if !prepared || may != (missing == nil) || may != (started == 1) || may != (err == nil) || !may && !errors.Is(err, ErrNotStarted) {
			t.Errorf("allowed %t: prepared %t, started %d times, ran %t, %v", may, prepared, started, missing == nil, err)
		}
	}
}

// TestFind passes over commands in PATH that the scripts' user cannot run.
func TestFind(t *testing.T) {
	open, closed := t.TempDir(), filepath.Join(t.TempDir(), "closed")
	for _, dir := range []string{closed, filepath.Join(open, "bin")} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\nexit 0\n"), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for dir := open; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(closed, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("only root can run scripts as another user")
	}
	r := newPlace(t)
	want := filepath.Join(open, "bin", "tool")
	if got, err := r.find("tool", []string{"PATH=" + closed + ":relative:" + filepath.Dir(want)}); err != nil || got != want {
		t.Errorf("find = %s, %v, want %s", got, err, want)
	}
	if got, err := r.find("tool2", []string{"PATH=" + filepath.Dir(want)}); err == nil {
		t.Errorf("find of nothing = %s", got)
	}
	if got, err := r.find("tool", []string{"PATH=" + t.TempDir()}); err == nil {
		t.Errorf("find in another job's PATH = %s", got)
	}
}

// hog uses 64 MiB and more of memory for some time.
const hog = `python3 -c '
import time
a = bytearray(96 << 20)
for i in range(0, len(a), 4096): a[i] = 1
time.sleep(2)
'`

// TestMemory ends a task that uses more than it may, by whichever way there is,
// and one that stays below is left alone.
func TestMemory(t *testing.T) {
	group := OpenGroup("seedmesh-test-" + strconv.Itoa(os.Getpid()))
	for name, g := range map[string]*Group{"control group": group, "polling": nil} {
		t.Run(name, func(t *testing.T) {
			if name != "polling" && g == nil {
				t.Skip("no control group can be had here")
			}
			r := newPlace(t, func(p *Place) { p.Group = g })
			limit := func(bytes uint64) func(*Attempt) { return func(a *Attempt) { a.Memory = bytes } }
			if o, err := r.Run(t.Context(), shell(hog, limit(48<<20))); err != nil || o.Class != OutOfMemory {
				t.Errorf("with 48 MiB: %+v, %v", o, err)
			}
			if o, err := r.Run(t.Context(), shell(hog, limit(512<<20))); err != nil || o.Class != OK {
				t.Errorf("with 512 MiB: %+v, %v", o, err)
			}
			if o, err := r.Run(t.Context(), shell("true")); err != nil || o.Class != OK {
				t.Errorf("after that: %+v, %v", o, err)
			}
		})
	}
}

// TestNoInterpreter runs a file without a first line that names its interpreter.
func TestNoInterpreter(t *testing.T) {
	r := newPlace(t)
	if err := os.WriteFile(filepath.Join(r.place.Base, "inputs", "abc"), []byte("echo $1\n"), 0o555); err != nil {
		t.Fatal(err)
	}
	o, err := r.Run(t.Context(), shell("", func(a *Attempt) {
		a.Task.Argv = []string{"./run", "it runs"}
		a.Links = []Link{{"abc", "run"}}
	}))
	if err != nil || o.Class != OK || string(o.Stdout.Head) != "it runs\n" {
		t.Errorf("got %+v, %v", o, err)
	}
}
