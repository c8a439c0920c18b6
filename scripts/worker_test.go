package scripts

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// servant is a worker that does what its tasks ask for: the first word of the
// arguments says what, from good conduct to hostility.
const servant = `
import json, os, signal, subprocess, sys, time
tasks, answers = os.fdopen(int(os.environ["SEEDMESH_TASKS_FD"])), os.fdopen(int(os.environ["SEEDMESH_ANSWERS_FD"]), "w", buffering=1)
say = lambda **m: answers.write(json.dumps(m) + "\n")
helper = subprocess.Popen(["sleep", "1000"]) if "--helper" in sys.argv else None
if "--dies-at-start" in sys.argv: print("no device"); sys.exit(7)
if "--slow-start" in sys.argv: time.sleep(100)
done = 0
say(ready=True)
for line in tasks:
    t = json.loads(line)
    do, args, n = t["args"][0], t["args"][1:], t["task"]
    done += 1
    print("task", n, "the", done, "of", os.getpid(), end="", flush=True)
    if do == "write": open(args[0], "w").write(args[1]); say(task=n, status=0)
    elif do == "ok": say(task=n, status=0)
    elif do == "fail": say(task=n, status=int(args[0]), message="it says no")
    elif do == "result": say(task=n, status=0, result={"n": n})
    elif do == "ls": print(sorted(os.listdir(".") + os.listdir(os.environ["TMPDIR"])), flush=True); say(task=n, status=0)
    elif do == "hook":
        say(task=n, status=0); print("between tasks", flush=True)
    elif do == "stray": print("", subprocess.Popen(["setsid", "sleep", "1000"]).pid, flush=True); say(task=n, status=0)
    elif do == "helper": say(task=n, status=0 if helper.poll() is None else 9)
    elif do == "wrong": say(task=n + 1, status=0)
    elif do == "garbage": answers.write("\x00\xff not json\n")
    elif do == "long": answers.write("x" * 200000)
    elif do == "more": answers.write('{"task": %d, "status": 0} {"task": %d, "status": 0}\n' % (n, n))
    elif do == "unfinished": answers.write('{"task": %d, "status": 0'  % n); answers.flush(); os._exit(0)
    elif do == "readies": say(ready=True)
    elif do == "twice": say(task=n, status=0); say(task=n, status=0)
    elif do == "twice-later": say(task=n, status=0); say(ready=True); say(task=n, status=0); continue
    elif do == "hang": time.sleep(1000)
    elif do == "stubborn": signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)
    elif do == "hang-between": say(task=n, status=0); time.sleep(1000)
    elif do == "shut": answers.close(); time.sleep(1000)
    elif do == "deaf": say(task=n, status=0); tasks.close(); say(ready=True); time.sleep(1000)
    elif do == "exit": sys.exit(int(args[0]))
    elif do == "answer-and-exit": say(task=n, status=0); os._exit(3)
    elif do == "crash": os.kill(os.getpid(), signal.SIGSEGV)
    elif do == "hog": a = bytearray(256 << 20); a[::4096] = b"x" * (len(a) // 4096); time.sleep(5); say(task=n, status=0)
    say(ready=True)
`

// servantIn puts the worker where a place's tasks find it.
func servantIn(t *testing.T, r *Runner) func(words string, edit ...func(*Attempt)) Attempt {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.place.Base, "inputs", "servant"), []byte(servant), 0o444); err != nil {
		t.Fatal(err)
	}
	next := uint64(0)
	return func(words string, edit ...func(*Attempt)) Attempt {
		next++
		argv := append([]string{"python3", "servant.py"}, strings.Fields(words)...)
		a := Attempt{
			Spec: &Spec{Worker: 2}, Task: Task{ID: "t" + strconv.FormatUint(next, 10), Argv: argv}, Number: next, Count: 1,
			Links: []Link{{"servant", "servant.py"}},
		}
		for _, e := range edit {
			e(&a)
		}
		return a
	}
}

// starting gives the worker more words to be started with.
func starting(flag string) func(*Attempt) {
	return func(a *Attempt) {
		a.Task.Argv = append([]string{"python3", "servant.py", flag}, a.Task.Argv[2:]...)
		a.Spec.Worker = 3
	}
}

func within(ms uint64) func(*Attempt) { return func(a *Attempt) { a.Spec.TimeoutMS = ms } }

// TestWorkerClasses has one worker, or a new one after each that was ended, do tasks
// well and badly. A good task after every one shows that nothing is charged to it.
func TestWorkerClasses(t *testing.T) {
	r := newPlace(t)
	task := servantIn(t, r)
	for _, tt := range []struct {
		name    string
		attempt Attempt
		class   Class
		status  int
		message string
		stays   bool // the worker does the next task too
	}{
		{"well", task("ok"), OK, 0, "", true},
		{"an output", task("write a/o 1", outputs("a/o")), OK, 0, "", true},
		{"no output", task("ok", outputs("o")), MissingOutput, 0, "o is not there", true},
		{"a bad output", task("write o {", outputs("o"), valid("json")), InvalidOutput, 0, "not valid json", true},
		{"it fails", task("fail 4"), ExitCode, 4, "status 4: it says no", true},
		{"a status of success", task("fail 4", func(a *Attempt) { a.Spec.OK = []int{4} }), OK, 4, "", true},
		{"a result", task("result", func(a *Attempt) { a.Spec.Capture = "json" }), OK, 0, "", true},
		{"no result", task("ok", func(a *Attempt) { a.Spec.Capture = "json" }), MissingOutput, 0, "no JSON object", true},
		{"a process is left", task("stray"), OK, 0, "", true},
		{"for the wrong task", task("wrong"), BadAnswer, -1, "answered for task", false},
		{"garbage", task("garbage"), BadAnswer, -1, "is no answer", false},
		{"an endless line", task("long"), BadAnswer, -1, "closed its answers", false},
		{"two answers on a line", task("more"), BadAnswer, -1, "more than an answer", false},
		{"half an answer", task("unfinished"), BadAnswer, 0, "is no answer", false},
		{"ready without an answer", task("readies"), BadAnswer, -1, "how its task ended", false},
		{"an answer twice", task("twice"), OK, 0, "", false},
		{"hangs", task("hang", within(100)), TimedOut, -1, "longer than 100ms", false},
		{"hangs and ignores TERM", task("stubborn", within(100)), TimedOut, -1, "longer than 100ms", false},
		{"closes its answers", task("shut"), BadAnswer, -1, "closed its answers", false},
		{"closes its tasks", task("deaf"), OK, 0, "", false},
		{"exits 0 without an answer", task("exit 0"), BadAnswer, 0, "ended without an answer", false},
		{"exits 5", task("exit 5"), ExitCode, 5, "its worker ended: exit status 5", false},
		{"answers and exits", task("answer-and-exit"), OK, 0, "", false},
		{"crashes", task("crash"), Signalled, -1, "SIGSEGV", false},
		{"dies at its start", task("ok", starting("--dies-at-start")), ExitCode, 7, "exit status 7", false},
		{"starts too slowly", task("ok", starting("--slow-start"), within(300)), TimedOut, -1, "longer than 300ms and has not said that it is ready", false},
		{"cannot be started", task("ok", func(a *Attempt) { a.Task.Argv[0] = "no-such-command-here" }), NotStarted, -1, "no command", false},
		{"too few words", task("", func(a *Attempt) { a.Spec.Worker = 9 }), NotStarted, -1, "fewer than start", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := r.pidOfWorker(t, task)
			o, err := r.Run(t.Context(), tt.attempt)
			if err := r.Reset(); err != nil {
				t.Error(err)
			}
			if err != nil || o.Class != tt.class || o.Status != tt.status || !strings.Contains(o.Message, tt.message) {
				t.Errorf("Run(%q) = %+v, %v, want %s, status %d, %q", tt.attempt.Task.Argv, o, err, tt.class, tt.status, tt.message)
			}
			after := r.pidOfWorker(t, task)
			if tt.attempt.Spec.Worker == 2 && len(tt.attempt.Spec.OK) == 0 && (before == after) != tt.stays && tt.class != NotStarted {
				t.Errorf("the worker was %s, it is %s; that it stays is to be %t", before, after, tt.stays)
			}
			if o.Captured != nil && string(o.Captured) != `{"n": `+strconv.FormatUint(o.Task, 10)+`}` {
				t.Errorf("the result is %s", o.Captured)
			}
			left := slices.DeleteFunc(descendants(os.Getpid()), dead) // it has not waited for what it left
			if len(left) > 1 {
				t.Errorf("beside the worker there is something in %v", left)
			}
		})
	}
}

// pidOfWorker does a good task, which must be done well, and says who did it.
func (r *Runner) pidOfWorker(t *testing.T, task func(string, ...func(*Attempt)) Attempt) string {
	t.Helper()
	a := task("ls")
	o, err := r.Run(t.Context(), a)
	words := string(o.Stdout.Head)
	if err != nil || o.Class != OK || !strings.HasPrefix(words, "task "+strconv.FormatUint(a.Number, 10)+" the ") || !strings.HasSuffix(words, "['servant.py']\n") {
		t.Fatalf("a good task: %+v, %v, it wrote %q", o, err, words)
	}
	return strings.Fields(words)[5]
}

// TestWorkerBetween keeps what a worker does between two tasks out of both, and
// what answers late out of the next.
func TestWorkerBetween(t *testing.T) {
	r := newPlace(t)
	task := servantIn(t, r)
	if o, err := r.Run(t.Context(), task("hook")); err != nil || o.Class != OK {
		t.Fatal(o, err)
	}
	first := r.pidOfWorker(t, task) // checks the words
	o, err := r.Run(t.Context(), task("twice-later"))
	if err != nil || o.Class != OK {
		t.Fatal(o, err)
	}
	if o, err = r.Run(t.Context(), task("write o 1", outputs("o"))); err != nil || o.Class != OK && o.Class != BadAnswer {
		t.Errorf("after an answer that nobody asked for: %+v, %v", o, err)
	}
	if err := r.Reset(); err != nil {
		t.Fatal(err)
	}
	if second := r.pidOfWorker(t, task); second == first {
		t.Error("a worker that answered out of turn is trusted")
	}
}

// TestWorkerOutputIsACopy has a worker change an output after its task, through a
// file that it has kept open.
func TestWorkerOutputIsACopy(t *testing.T) {
	r := newPlace(t)
	const keeper = `
import json, os
tasks, answers = os.fdopen(3), os.fdopen(4, "w", buffering=1)
answers.write('{"ready": true}\n')
for line in tasks:
    t = json.loads(line)
    if t["args"] == ["open"]: f = open("o", "w"); f.write("true"); f.flush()
    else: f.seek(0); f.write("lies"); f.flush()
    answers.write('{"task": %d, "status": 0}\n{"ready": true}\n' % t["task"])
`
	run := func(word string, edit ...func(*Attempt)) {
		t.Helper()
		a := Attempt{Spec: &Spec{Worker: 3}, Task: Task{Argv: []string{"python3", "-c", keeper, word}}, Number: 7, Count: 1}
		for _, e := range edit {
			e(&a)
		}
		if o, err := r.Run(t.Context(), a); err != nil || o.Class != OK {
			t.Fatal(o, err)
		}
	}
	run("open", outputs("o"))
	run("change")
	b, err := os.ReadFile(filepath.Join(r.place.Base, OutputPath(r.place.Name, 7, 0)))
	if err != nil || string(b) != "true" {
		t.Errorf("the output is %q, %v", b, err)
	}
	if err := r.Reset(); err != nil {
		t.Error(err)
	}
}

// TestWorkerKinds starts another worker for another command, environment or input,
// and none for a task without one.
func TestWorkerKinds(t *testing.T) {
	r := newPlace(t)
	task := servantIn(t, r)
	first := r.pidOfWorker(t, task)
	if again := r.pidOfWorker(t, task); again != first {
		t.Error("the worker was started anew")
	}
	run := func(a Attempt) string {
		t.Helper()
		o, err := r.Run(t.Context(), a)
		if err != nil || o.Class != OK {
			t.Fatalf("%+v, %v", o, err)
		}
		return strings.Fields(string(o.Stdout.Head) + " 0 0 0 0 0 0")[5]
	}
	if other := run(task("ok", func(a *Attempt) { a.Spec.Env = []string{"A=b"} })); other == first {
		t.Error("another environment has the same worker")
	}
	helped := run(task("helper", starting("--helper")))
	if again := run(task("helper", starting("--helper"))); again != helped {
		t.Error("a helper that was there from the start was taken from its worker")
	}
	if run(shell("true")); r.HasWorker() || len(descendants(os.Getpid())) > 0 {
		t.Error("a worker stays beside a task that has none")
	}
}

// TestWorkerLeave starts neither a worker nor a task without leave.
func TestWorkerLeave(t *testing.T) {
	r := newPlace(t)
	task := servantIn(t, r)
	leaves := 0
	counted := func(a *Attempt) {
		a.Start = func(context.Context) (func(), error) {
			if leaves--; leaves < 0 {
				return nil, nil
			}
			return func() {}, nil
		}
	}
	for n, want := range []error{ErrNotStarted, ErrNotStarted, nil} {
		leaves = n
		o, err := r.Run(t.Context(), task("ok", counted))
		if !errors.Is(err, want) || r.HasWorker() != (n > 0) {
			t.Errorf("with %d leaves: %+v, %v, a worker: %t", n, o, err, r.HasWorker())
		}
		if n == 0 && r.HasWorker() {
			t.Error("a worker was started without leave")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := r.Run(ctx, task("hang")); !errors.Is(err, context.Canceled) || r.HasWorker() {
		t.Errorf("cancelled: %v, a worker: %t", err, r.HasWorker())
	}
}

// TestWorkerMemory ends a worker that uses more than its task may.
func TestWorkerMemory(t *testing.T) {
	group := OpenGroup("seedmesh-worker-test-" + strconv.Itoa(os.Getpid()))
	for name, g := range map[string]*Group{"control group": group, "polling": nil} {
		t.Run(name, func(t *testing.T) {
			if name != "polling" && g == nil {
				t.Skip("no control group can be had here")
			}
			r := newPlace(t, func(p *Place) { p.Group = g })
			task := servantIn(t, r)
			before := r.pidOfWorker(t, task)
			o, err := r.Run(t.Context(), task("hog", func(a *Attempt) { a.Memory = 128 << 20 }))
			if err != nil || o.Class != OutOfMemory {
				t.Errorf("got %+v, %v", o, err)
			}
			if after := r.pidOfWorker(t, task); after == before {
				t.Error("the worker that used too much goes on")
			}
		})
	}
}
