package slot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"seedmesh/kernels"
)

func wantClass(t *testing.T, err error, class Class) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Class != class {
		t.Fatalf("got %v, want an error of class %q", err, class)
	}
	return e
}

func smallTask() Task {
	return Task{Spec: noneSpec(), Generator: "xorshift32", Range: kernels.Range{First: 10, Last: 50_000}}
}

func longTask() Task {
	return Task{Spec: noneSpec(), Generator: "xorshift32", Range: kernels.Range{First: 0, Last: 1<<32 - 1}}
}

func TestProcessIsWarmAndWellBehaved(t *testing.T) {
	p := newTestProcess(t, Config{Index: 3}, defaultLimits)
	if _, err := p.Run(t.Context(), smallTask()); err != nil {
		t.Fatal(err)
	}
	pid := p.Pid()
	for range 20 {
		if _, err := p.Run(t.Context(), smallTask()); err != nil {
			t.Fatal(err)
		}
	}
	if pid == os.Getpid() || p.Pid() != pid {
		t.Errorf("the executor was %d and is %d", pid, p.Pid())
	}
	if pgid, err := unix.Getpgid(pid); err != nil || pgid != pid {
		t.Errorf("process group %d, %v", pgid, err)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if fields[16] != strconv.Itoa(niceness) {
			t.Errorf("%s: nice %s", path, fields[16])
		}
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)); err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(oomScore) {
		t.Errorf("oom_score_adj %s, %v", b, err)
	}
	if _, err := lock(t.Context(), p.cfg.Lock, time.Millisecond); !errors.Is(err, errLocked) {
		t.Errorf("the slot's lock: %v, want it held", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) || p.Pid() != 0 {
		t.Error("the executor is there after Close")
	}
	f, err := lock(t.Context(), p.cfg.Lock, time.Millisecond)
	if err != nil {
		t.Fatalf("the lock after Close: %v", err)
	}
	_ = f.Close()
	if _, err := os.Stat(recordPath(p.cfg.Dir, 3)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record after Close: %v", err)
	}
	if _, err := p.Run(t.Context(), smallTask()); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Close = %v", err)
	}
}

func TestCrashIsReal(t *testing.T) {
	at := uint64(20_000)
	p := newTestProcess(t, Config{Device: "sim", Sim: kernels.SimConfig{Rate: 1e9, CrashAt: &at}}, defaultLimits)
	before := smallTask()
	before.Range.Last = at - 1
	if _, err := p.Run(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	pid := p.Pid()
	_, err := p.Run(t.Context(), smallTask())
	if e := wantClass(t, err, Died); e.Status != "signal: killed" || e.Pid != pid {
		t.Errorf("status %q of %d, want a kill of %d", e.Status, e.Pid, pid)
	}
	if alive(pid) {
		t.Error("the executor is alive")
	}
	if _, err := p.Run(t.Context(), before); err != nil {
		t.Errorf("the next task: %v", err)
	}
	if p.Pid() == pid || p.Pid() == 0 {
		t.Errorf("the next executor is %d", p.Pid())
	}
}

func TestHangIsKilled(t *testing.T) {
	at := uint64(20_000)
	p := newTestProcess(t, Config{
		Device: "sim", Sim: kernels.SimConfig{Rate: 1e6, HangAt: &at}, HangAfter: 700 * time.Millisecond,
	}, defaultLimits)
	_, err := p.Run(t.Context(), smallTask())
	e := wantClass(t, err, Hung)
	if alive(e.Pid) {
		t.Error("the executor is alive")
	}
}

func TestSimFaultsThatStay(t *testing.T) {
	at := uint64(20_000)
	p := newTestProcess(t, Config{Device: "sim", Sim: kernels.SimConfig{Rate: 1e9, FailAt: &at}}, defaultLimits)
	_, err := p.Run(t.Context(), smallTask())
	wantClass(t, err, Failed)
	pid := p.Pid()
	bad := smallTask()
	bad.Spec = []byte("{}")
	_, err = p.Run(t.Context(), bad)
	wantClass(t, err, BadTask)
	bad = smallTask()
	bad.Range.Last = 1 << 40
	_, err = p.Run(t.Context(), bad)
	wantClass(t, err, BadTask)
	if p.Pid() != pid || pid == 0 {
		t.Errorf("the executor was %d and is %d", pid, p.Pid())
	}
}

func TestBrokenExecutors(t *testing.T) {
	t.Setenv("SEEDMESH_SECRET", "hush")
	for role, tt := range map[string]struct {
		class  Class
		status string
		stderr string
	}{
		"exit":    {NotStarted, "exit status 3", "last words"},
		"env":     {NotStarted, "exit status 3", "EXTRA=1"},
		"garbage": {NotStarted, "signal: killed", ""},
		"silent":  {NotStarted, "signal: killed", ""},
		"old":     {NotStarted, "signal: killed", ""},
		"order":   {WrongOrder, "signal: killed", ""},
		"equal":   {WrongOrder, "signal: killed", ""},
		"range":   {WrongOrder, "signal: killed", ""},
		"ragged":  {Protocol, "signal: killed", ""},
		"id":      {Protocol, "signal: killed", ""},
		"kind":    {Protocol, "signal: killed", ""},
		"class":   {Protocol, "signal: killed", ""},
		"frame":   {Protocol, "signal: killed", ""},
		"beyond":  {WrongAccount, "signal: killed", ""},
		"short":   {WrongAccount, "signal: killed", ""},
	} {
		t.Run(role, func(t *testing.T) {
			lim := defaultLimits
			lim.backoff = time.Millisecond
			if role == "silent" {
				lim = quick()
			}
			p := newTestProcess(t, Config{Command: []string{selfPath, "fake-" + role}, Env: []string{"EXTRA=1"}}, lim)
			_, err := p.Run(t.Context(), smallTask())
			e := wantClass(t, err, tt.class)
			if e.Status != tt.status || !strings.Contains(e.Stderr, tt.stderr) || len(e.Stderr) > tailBytes {
				t.Errorf("status %q, stderr %q; want %q, %q", e.Status, e.Stderr, tt.status, tt.stderr)
			}
			if strings.Contains(e.Stderr, "hush") {
				t.Error("the executor has the whole environment")
			}
			if p.Pid() != 0 || alive(e.Pid) {
				t.Error("the executor is alive")
			}
		})
	}
	t.Run("wrong account", func(t *testing.T) {
		p := newTestProcess(t, Config{Device: "sim", Sim: kernels.SimConfig{Rate: 1e9, WrongAccount: true}}, defaultLimits)
		_, err := p.Run(t.Context(), smallTask())
		wantClass(t, err, WrongAccount)
	})
}

func TestBackoff(t *testing.T) {
	lim := defaultLimits
	lim.backoff = time.Hour
	p := newTestProcess(t, Config{Command: []string{selfPath, "fake-exit"}}, lim)
	for range 2 { // the start in the background, or this one, is the first
		if _, err := p.Run(t.Context(), smallTask()); errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if p.failures >= 2 {
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Run(ctx, smallTask()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run = %v, want it to wait", err)
	}
	if p.failures != 2 {
		t.Errorf("%d failures, want 2", p.failures)
	}
}

func TestDeadBetweenTasks(t *testing.T) {
	p := newTestProcess(t, Config{Command: []string{selfPath, "fake-late"}}, defaultLimits)
	for range 2 { // the second with a fresh one
		_, err := p.Run(t.Context(), smallTask())
		wantClass(t, err, Failed)
		<-p.child.dead
	}
}

func TestGroupDiesWithItsLeader(t *testing.T) {
	p := newTestProcess(t, Config{Command: []string{selfPath, "fake-family"}}, defaultLimits)
	_, err := p.Run(t.Context(), smallTask())
	wantClass(t, err, Failed)
	<-p.child.dead // of itself: nothing but its end kills the group
	var pid int
	if _, err := fmt.Sscanf(p.child.stderr.String(), "child %d", &pid); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pid)
}

func TestPrintsDoNotDisturb(t *testing.T) {
	p := newTestProcess(t, Config{Command: []string{selfPath, "fake-chatty"}}, defaultLimits)
	if _, err := p.Run(t.Context(), smallTask()); err != nil {
		t.Fatal(err)
	}
	if text := p.child.stderr.String(); !strings.Contains(text, "a library prints this") {
		t.Errorf("standard error has %q", text)
	}
}

func TestCancelOfADeafExecutor(t *testing.T) {
	lim := defaultLimits
	lim.cancel = 100 * time.Millisecond
	p := newTestProcess(t, Config{Command: []string{selfPath, "fake-deaf"}}, lim)
	ctx, cancel := context.WithCancel(t.Context())
	task := smallTask()
	task.Progress = func(uint64) { cancel() }
	began := time.Now()
	if _, err := p.Run(ctx, task); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	if took := time.Since(began); took > DefaultHangAfter/4 {
		t.Errorf("it took %v, and %v are enough", took, lim.cancel)
	}
	if p.Pid() != 0 {
		t.Error("the executor is alive")
	}
}

func TestIdleStop(t *testing.T) {
	p := newTestProcess(t, Config{IdleStop: 10 * time.Millisecond}, defaultLimits)
	if _, err := p.Run(t.Context(), smallTask()); err != nil {
		t.Fatal(err)
	}
	if pid := p.Pid(); pid != 0 {
		awaitEnd(t, pid)
	}
	if _, err := p.Run(t.Context(), smallTask()); err != nil {
		t.Errorf("after the idle stop: %v", err)
	}
	if p.failures != 0 {
		t.Errorf("an idle stop counts as a failure")
	}
}

func TestStartToken(t *testing.T) {
	token := make(chan struct{}, 1)
	token <- struct{}{} // another slot starts
	p := newTestProcess(t, Config{StartToken: token}, defaultLimits)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Run(ctx, smallTask()); !errors.Is(err, context.DeadlineExceeded) || p.Pid() != 0 {
		t.Errorf("Run = %v with the executor %d, want it to wait", err, p.Pid())
	}
	<-token
	if _, err := p.Run(t.Context(), smallTask()); err != nil {
		t.Fatal(err)
	}
	if len(token) != 0 {
		t.Error("the token is still out")
	}
}

// All starts come from one thread, however busy the others are.
func TestLauncherIsOneThread(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[int]bool)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				_ = onLauncher(func() error {
					mu.Lock()
					defer mu.Unlock()
					seen[unix.Gettid()] = true
					return unix.Access("/", unix.R_OK)
				})
				runtime.Gosched()
			}
		})
	}
	all.Wait()
	if len(seen) != 1 {
		t.Errorf("executors were started from %d threads", len(seen))
	}
}

// A thread that ends must not take along what was started for it.
func TestStartingThreadEnds(t *testing.T) {
	var p *process
	var started sync.WaitGroup
	started.Add(1)
	go func() {
		defer started.Done()
		runtime.LockOSThread() // the thread ends with this goroutine
		p = newTestProcess(t, Config{}, defaultLimits)
		if _, err := p.Run(context.Background(), smallTask()); err != nil {
			t.Error(err)
		}
	}()
	started.Wait()
	pid := p.Pid()
	for range 5 {
		if _, err := p.Run(t.Context(), smallTask()); err != nil {
			t.Fatal(err)
		}
	}
	if p.Pid() != pid {
		t.Error("the executor died with the thread")
	}
}

// Whatever happens to the node, one slot never has two executors.
func TestNodeKilled(t *testing.T) {
	for _, role := range []string{"executor", "fake-stubborn"} {
		t.Run(role, func(t *testing.T) {
			dir := t.TempDir()
			for range 3 {
				node, old := startNode(t, dir, role)
				if !alive(old) {
					t.Fatal("no executor")
				}
				if err := node.Process.Signal(unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if role == "executor" {
					_ = node.Wait()
				} // else the next node starts while this one may still be dying
				p := newTestProcess(t, Config{Dir: dir}, defaultLimits)
				if _, err := p.Run(t.Context(), smallTask()); err != nil {
					t.Fatal(err)
				}
				if alive(old) {
					t.Errorf("the executor %d of the old node runs beside %d", old, p.Pid())
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				_ = node.Wait()
			}
		})
	}
}

// Either is enough: the signal, and the end of its input.
func TestExecutorEndsWithItsNode(t *testing.T) {
	for _, role := range []string{"executor", "fake-wedged", "fake-orphan"} {
		t.Run(role, func(t *testing.T) {
			node, executor := startNode(t, t.TempDir(), role)
			_ = node.Process.Kill()
			_ = node.Wait()
			awaitEnd(t, executor)
		})
	}
}

// A process that holds the lock and is not the recorded one is left alone, and
// the slot is of no use.
func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "slot-0.lock")
	f, err := lock(t.Context(), path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	holder := exec.Command(selfPath, "fake-holder")
	holder.Args[0] = os.Args[0]
	holder.ExtraFiles = []*os.File{f}
	holder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	is, err := recordOf(holder.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]record{
		"another start": {is.Pid, is.Start + 1, is.Boot},
		"another boot":  {is.Pid, is.Start, "x"},
		"nonsense":      {-1, 0, ""},
		"init":          {1, 0, is.Boot},
	} {
		if err := r.write(recordPath(dir, 0)); err != nil {
			t.Fatal(err)
		}
		_, err = newProcess(Config{Dir: dir, Device: "cpu"}, quick())
		if e := wantClass(t, err, Quarantined); e.Remedy() == "" {
			t.Error("no remedy")
		}
		if !alive(holder.Process.Pid) {
			t.Fatalf("%s: a process that was not recorded was killed", name)
		}
	}
}

func TestRecord(t *testing.T) {
	r, err := recordOf(os.Getpid())
	if err != nil || r.Pid != os.Getpid() || r.Start == 0 || len(r.Boot) != 36 {
		t.Errorf("recordOf = %+v, %v", r, err)
	}
	if _, err := recordOf(math.MaxInt32); err == nil {
		t.Error("a process that is not there has a record")
	}
}

func TestUnknownDevice(t *testing.T) {
	if _, err := NewProcess(Config{Dir: t.TempDir(), Device: "abacus"}); err == nil {
		t.Error("no error")
	}
}

func TestCloseDuringATask(t *testing.T) {
	p := newTestProcess(t, Config{Device: "sim", Sim: kernels.SimConfig{Rate: 1e4}}, defaultLimits)
	task := longTask()
	on := make(chan struct{})
	task.Progress = signal(on)
	done := make(chan error)
	go func() {
		_, err := p.Run(t.Context(), task)
		done <- err
	}()
	<-on
	pid := p.Pid()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("Run = %v", err)
	}
	if alive(pid) {
		t.Error("the executor is alive")
	}
}
