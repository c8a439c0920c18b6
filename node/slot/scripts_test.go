package slot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"seedmesh/kernels"
	"seedmesh/node/slot/slotpb"
	"seedmesh/scripts"
)

// scriptTask runs a shell command for the numbers first to last.
func scriptTask(t *testing.T, command string, last uint64) (Task, *[]scripts.Outcome) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "inputs"), 0o700); err != nil {
		t.Fatal(err)
	}
	spec := &scripts.Spec{
		Template: &scripts.Task{Argv: []string{"/bin/sh", "-c", command}, Outputs: []string{"out"}},
		Axes:     []scripts.Axis{{From: 0, To: 1000}},
	}
	encoded, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var got []scripts.Outcome
	return Task{Range: kernels.Range{First: 0, Last: last}, Scripts: &Scripts{
		Spec: encoded, Attempt: 1, Place: scripts.Place{Base: base, Name: "0", UID: -1, GID: -1}, Leave: time.Now().Add(time.Minute),
		Ended: func(o scripts.Outcome, files []string) error {
			if len(files) == 1 {
				b, err := os.ReadFile(filepath.Join(base, files[0]))
				if err != nil {
					return err
				}
				o.Message = strings.TrimSpace(string(b))
			}
			got = append(got, o)
			return nil
		},
		Halted: func() {},
	}}, &got
}

// TestScriptsOneAfterTheOther runs a claim of tasks, of which one fails.
func TestScriptsOneAfterTheOther(t *testing.T) {
	p := newTestProcess(t, Config{Index: 2}, defaultLimits)
	task, got := scriptTask(t, "echo {} > out; test {} != 3", 9)
	r, err := p.Run(t.Context(), task)
	if err != nil || !r.OK || r.Last != 9 || r.Account != kernels.AccountOf(task.Range) {
		t.Fatalf("Run = %+v, %v", r, err)
	}
	if len(*got) != 10 {
		t.Fatalf("%d outcomes", len(*got))
	}
	for n, o := range *got {
		want := scripts.OK
		if n == 3 {
			want = scripts.ExitCode
		}
		if o.Task != uint64(n) || o.Class != want || n != 3 && o.Message != o.ID || o.Slot != 2 {
			t.Errorf("outcome %d is %+v", n, o)
		}
	}
	if _, err := p.Run(t.Context(), smallTask()); err != nil {
		t.Errorf("a search after scripts: %v", err)
	}
}

// TestLeave starts no task before there is leave, and none after it was taken
// away: what has ended by then is the result.
func TestLeave(t *testing.T) {
	p := newTestProcess(t, Config{}, defaultLimits)
	task, got := scriptTask(t, "echo > out; sleep 0.2", 900) // so long that the leave ends during a task, whose end would confirm as much
	var beats, halted atomic.Int32
	task.Scripts.Leave = time.Now().Add(-time.Second)
	task.Scripts.Halted = func() { halted.Add(1) }
	task.Progress = func(done uint64) {
		switch beats.Add(1) {
		case 1:
			if done > 0 {
				t.Error("a task began without leave")
			}
			p.Leave(time.Now().Add(time.Hour))
		case 4:
			p.Leave(time.Time{})
			p.Leave(time.Now().Add(time.Hour)) // comes too late
		}
	}
	r, err := p.Run(t.Context(), task)
	if err != nil || !r.OK || r.Last == 900 || halted.Load() != 1 || uint64(len(*got)) != r.Last+1 {
		t.Errorf("Run = %+v, %v, with %d outcomes, halted %d times", r, err, len(*got), halted.Load())
	}
}

func TestScriptsAreCancelled(t *testing.T) {
	p := newTestProcess(t, Config{}, defaultLimits)
	task, _ := scriptTask(t, "sleep 1000", 3)
	ctx, cancel := context.WithCancel(t.Context())
	task.Progress = func(uint64) { cancel() }
	var halted atomic.Bool
	task.Scripts.Halted = func() { halted.Store(true) }
	pid := p.Pid()
	if r, err := p.Run(ctx, task); !errors.Is(err, context.Canceled) || !halted.Load() {
		t.Fatalf("Run = %+v, %v, halted: %v", r, err, halted.Load())
	}
	if p.Pid() == 0 || pid != 0 && p.Pid() != pid {
		t.Errorf("the executor was %d and is %d", pid, p.Pid())
	}
}

// TestScriptsStopAt trims a claim of tasks.
func TestScriptsStopAt(t *testing.T) {
	p := newTestProcess(t, Config{}, defaultLimits)
	task, got := scriptTask(t, "echo > out; sleep 0.05", 500)
	task.Progress = func(done uint64) { p.StopAt(10) }
	r, err := p.Run(t.Context(), task)
	if err != nil || r.Last != 10 || len(*got) != 11 {
		t.Errorf("Run = %+v, %v, %d outcomes, want 11", r, err, len(*got))
	}
}

func TestBadScripts(t *testing.T) {
	p := newTestProcess(t, Config{}, defaultLimits)
	task, _ := scriptTask(t, "true", 3)
	task.Scripts.Spec = []byte(`{"version":1}`)
	_, err := p.Run(t.Context(), task)
	wantClass(t, err, BadTask)
	in := NewInProcess(0, kernels.NewCPU(1))
	defer in.Close()
	_, err = in.Run(t.Context(), task)
	wantClass(t, err, Unsupported)
}

// TestLateLeave takes the leave away just when a task ends, again and again: the
// executor has nothing to say about a task that is over.
func TestLateLeave(t *testing.T) {
	p := newTestProcess(t, Config{}, defaultLimits)
	task, _ := scriptTask(t, "echo > out", 0)
	pid := 0
	for range 100 {
		task.Scripts.Ended = func(scripts.Outcome, []string) error {
			go p.Leave(time.Time{})
			return nil
		}
		if _, err := p.Run(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if pid == 0 {
			pid = p.Pid()
		}
	}
	if p.Pid() != pid {
		t.Errorf("the executor was %d and is %d", pid, p.Pid())
	}
}

// TestOutcomeTooLarge ends a task whose list of outputs fits into no frame: it has
// failed, and the outcomes before it arrive.
func TestOutcomeTooLarge(t *testing.T) {
	var out bytes.Buffer
	r := &taskRun{server: &server{w: &out}, job: &job{id: 1}}
	long := scripts.Outcome{Task: 1, Class: scripts.OK, Outputs: make([]scripts.Output, scripts.MaxFiles)}
	for k := range long.Outputs {
		long.Outputs[k].Path = fmt.Sprintf("%0200d", k)
	}
	small := scripts.Outcome{Class: scripts.OK, Stdout: scripts.Words{Head: make([]byte, 16<<10), Total: 16 << 10}}
	if err := errors.Join(r.ended(small), r.ended(long), r.flush()); err != nil {
		t.Fatal(err)
	}
	var got []scripts.Class
	for out.Len() > 0 {
		m, err := readReport(&out)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range m.GetEnded().GetOutcomes() {
			var o scripts.Outcome
			if err := json.Unmarshal(b, &o); err != nil {
				t.Fatal(err)
			}
			got = append(got, o.Class)
		}
	}
	if want := []scripts.Class{scripts.OK, scripts.InvalidOutput}; !slices.Equal(got, want) {
		t.Errorf("the outcomes are %q, want %q", got, want)
	}
}

// TestLeaveDoesNotWait moves the leave of an executor that reads nothing, far more
// often than its pipe has room for, and is not held up by it.
func TestLeaveDoesNotWait(t *testing.T) {
	p := newTestProcess(t, Config{}, defaultLimits)
	task, _ := scriptTask(t, "echo > out", 3)
	moved := make(chan struct{})
	var once sync.Once
	task.Scripts.Leave = time.Now().Add(-time.Second)
	task.Progress = func(uint64) {
		once.Do(func() {
			if err := unix.Kill(p.Pid(), unix.SIGSTOP); err != nil {
				t.Error(err)
			}
			go func() {
				defer close(moved)
				for range 20_000 {
					p.Leave(time.Now().Add(-time.Second))
				}
				p.Leave(time.Now().Add(time.Hour))
			}()
			select {
			case <-moved:
			case <-time.After(sendLimit / 2):
				t.Error("moving the leave waits for the executor")
			}
			if err := unix.Kill(p.Pid(), unix.SIGCONT); err != nil {
				t.Error(err)
			}
		})
	}
	if r, err := p.Run(t.Context(), task); err != nil || r.Last != 3 {
		t.Errorf("Run = %+v, %v", r, err)
	}
}

// TestStuckEndsTheClaim lets an executor end its claim behind a task whose processes do not die.
func TestStuckEndsTheClaim(t *testing.T) {
	task, _ := scriptTask(t, "", 9)
	r := &remote{run: newRun(task.Range), scripts: true}
	b, err := json.Marshal(scripts.Outcome{Task: 2, Class: scripts.Stuck})
	if err != nil {
		t.Fatal(err)
	}
	if emitted, err := r.ended(task, &slotpb.Ended{Outcomes: [][]byte{b}}); emitted != nil || err != nil {
		t.Fatal(emitted, err)
	}
	last := kernels.Range{First: 0, Last: 2}
	if got, err := r.result(outcome{true, 2, kernels.AccountOf(last), 0}); err != nil || got.Last != 2 {
		t.Errorf("result = %+v, %v", got, err)
	}
	if e := parseError(&slotpb.Error{Class: string(Stuck)}); e.Class != Stuck {
		t.Errorf("what a stuck executor reports is read as %v", e)
	}
	if fatal(&Error{Class: Stuck}) {
		t.Error("the executor whose children they are is ended")
	}
}

// echo is a persistent worker that says its number.
const echo = `
echo '{"ready": true}' >&4
while read -r task <&3; do
	n=${task#*\"task\":}; n=${n%%,*}
	echo $$ > out
	echo "{\"task\": $n, \"status\": 0}" >&4
	echo '{"ready": true}' >&4
done`

// TestWorkerOutlivesItsClaim has the next claim find the worker of the last, and a
// search, or a time without claims, end it.
func TestWorkerOutlivesItsClaim(t *testing.T) {
	p := newTestProcess(t, Config{}, defaultLimits)
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "inputs"), 0o700); err != nil {
		t.Fatal(err)
	}
	claim := func() string {
		t.Helper()
		task, got := scriptTask(t, echo, 2)
		spec := &scripts.Spec{Template: &scripts.Task{Argv: []string{"/bin/sh", "-c", echo}, Outputs: []string{"out"}}, Axes: []scripts.Axis{{From: 0, To: 9}}, Worker: 3}
		encoded, err := spec.Encode()
		if err != nil {
			t.Fatal(err)
		}
		task.Scripts.Spec, task.Scripts.Place.Base = encoded, base
		ended := task.Scripts.Ended
		task.Scripts.Ended = func(o scripts.Outcome, files []string) error {
			b, err := os.ReadFile(filepath.Join(base, files[0]))
			if err = errors.Join(err, os.RemoveAll(filepath.Join(base, filepath.Dir(files[0])))); err != nil {
				return err
			}
			if err := ended(o, nil); err != nil {
				return err
			}
			(*got)[len(*got)-1].Message = strings.TrimSpace(string(b))
			return nil
		}
		if r, err := p.Run(t.Context(), task); err != nil || !r.OK || len(*got) != 3 {
			t.Fatalf("Run = %+v, %v, %+v", r, err, *got)
		}
		for _, o := range *got {
			if o.Class != scripts.OK || o.Message != (*got)[0].Message {
				t.Errorf("the outcome is %+v, the worker was %s", o, (*got)[0].Message)
			}
		}
		return (*got)[0].Message
	}
	first := claim()
	if again := claim(); again != first {
		t.Errorf("the second claim has the worker %s, the first had %s", again, first)
	}
	if _, err := p.Run(t.Context(), smallTask()); err != nil {
		t.Fatal(err)
	}
	if runs(first) {
		t.Error("the worker is up beside a search")
	}
	second := claim()
	if second == first {
		t.Error("a worker that was ended does tasks")
	}
	for began := time.Now(); runs(second); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > WorkerIdle+30*time.Second {
			t.Fatal("a worker stays up without claims")
		}
	}
}

// runs tells whether a process runs.
func runs(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}
