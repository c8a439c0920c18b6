package slot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"seedmesh/kernels"
	"seedmesh/node/slot/slotpb"
)

// The test binary is its own executor, and also plays broken ones and whole
// nodes, chosen by its first argument.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(m.Run())
	}
	role, args := os.Args[1], os.Args[2:]
	var err error
	switch {
	case role == "executor":
		err = Main(context.Background(), os.Stdin, os.Stdout, args)
	case role == "fake-orphan": // does not get the signal that its node has died
		err = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		if err == nil {
			err = Main(context.Background(), os.Stdin, os.Stdout, args)
		}
	case role == "node":
		err = playNode(args)
	case strings.HasPrefix(role, "fake-"):
		err = playFake(strings.TrimPrefix(role, "fake-"))
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// playNode is a node with one slot that searches without end. It writes the
// executor's pid when the search goes on.
func playNode(args []string) error {
	p, err := newProcess(Config{
		Device: "sim", Sim: kernels.SimConfig{Rate: 1e4}, Dir: args[0], Command: []string{selfPath, args[1]},
	}, defaultLimits)
	if err != nil {
		return err
	}
	told := false
	_, err = p.Run(context.Background(), Task{
		Spec: noneSpec(), Generator: "xorshift32", Range: kernels.Range{First: 0, Last: 1<<32 - 1},
		Progress: func(uint64) {
			if !told {
				fmt.Println(p.Pid())
				told = true
			}
		},
	})
	return err
}

// playFake is an executor that does one thing wrong.
func playFake(what string) error {
	say := func(m *slotpb.Report) { _ = writeMessage(os.Stdout, kindReport, m) }
	ready := &slotpb.Report{Kind: &slotpb.Report_Ready{Ready: &slotpb.Ready{Protocol: protocolVersion}}}
	next := func() *slotpb.Command {
		c, err := readCommand(os.Stdin)
		if err != nil {
			os.Exit(1)
		}
		return c
	}
	survivors := func(seeds ...uint64) {
		var batch []kernels.Survivor
		for _, seed := range seeds {
			batch = append(batch, kernels.Survivor{Seed: seed})
		}
		say(survivorsReport(1, batch))
	}
	switch what {
	case "exit":
		fmt.Fprintln(os.Stderr, strings.Repeat("x", 3*tailBytes))
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
	case "env":
		fmt.Fprintln(os.Stderr, os.Environ())
		os.Exit(3)
	case "garbage":
		fmt.Println(strings.Repeat("hello from a driver\n", 100))
		stay()
	case "silent":
		stay()
	case "old":
		ready.GetReady().Protocol = 99
	case "stubborn", "wedged": // does not look at its input any more; the first also survives its node
		if what == "stubborn" {
			_ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		}
		say(ready)
		id := next().GetSearch().GetId()
		say(progressReport(id, 0))
		stay()
	case "holder": // only holds the lock
		fmt.Println("holding")
		stay()
	case "chatty":
		in, out, err := takeOver()
		if err != nil {
			return err
		}
		fmt.Println("a library prints this")
		_, err = serve(context.Background(), in, out, kernels.NewCPU(1), 1, 0)
		return err
	case "family":
		cmd := exec.Command("/bin/sleep", "1000")
		if err := cmd.Start(); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "child", cmd.Process.Pid)
		say(ready)
		say(errorReport(next().GetSearch().GetId(), Failed, "not today"))
		os.Exit(4)
	case "late": // dies between two tasks
		say(ready)
		say(errorReport(next().GetSearch().GetId(), Failed, "not today"))
		os.Exit(5)
	}
	say(ready)
	search := next().GetSearch()
	switch what {
	case "deaf":
		for {
			say(progressReport(1, 0))
			next()
		}
	case "order":
		survivors(5, 4)
	case "equal":
		survivors(5)
		survivors(5)
	case "range":
		survivors(search.Last + 1)
	case "ragged":
		say(&slotpb.Report{Kind: &slotpb.Report_Survivors{Survivors: &slotpb.Survivors{Id: 1, Seeds: []uint64{1}}}})
	case "id":
		say(progressReport(7, 0))
	case "kind":
		say(&slotpb.Report{})
	case "class":
		say(errorReport(1, "what", "ever"))
	case "frame":
		_, _ = os.Stdout.Write([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, kindReport})
	case "beyond":
		say(doneReport(1, outcome{true, search.Last + 1, kernels.AccountOf(kernels.Range{First: search.First, Last: search.Last + 1}), 0}))
	case "short":
		say(doneReport(1, outcome{true, search.Last - 1, kernels.AccountOf(kernels.Range{First: search.First, Last: search.Last - 1}), 0}))
	}
	select {}
}

// noneSpec is a search without survivors, allSpec one that keeps every seed.
func noneSpec() []byte { return spec(40, false) }
func allSpec() []byte  { return spec(0, true) }

func spec(need uint32, all bool) []byte {
	s := kernels.Spec{Generators: []string{"xorshift32"}, Observe: "mod:1000", MinMatches: need, KeepAll: all}
	for i := range 40 {
		s.Draws = append(s.Draws, kernels.Draw{Value: uint64(i), Known: true})
	}
	return s.Encode()
}

// quick are limits for tests in which a wait is meant to run out.
func quick() limits {
	l := defaultLimits
	l.lock, l.ready, l.cancel = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	return l
}

func newTestProcess(t *testing.T, cfg Config, lim limits) *process {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Device == "" {
		cfg.Device = "cpu"
		cfg.Threads = 1
	}
	cfg.Env = append(cfg.Env, "GORACE=atexit_sleep_ms=0") // the race detector's default is a second
	p, err := newProcess(cfg, lim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return p
}

// awaitEnd waits until a process has ended, on its pidfd.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Fatalf("process %d has not ended: %v", pid, err)
		}
		return
	}
}

// alive is whether a process runs; one that nobody waited for does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
	return state != "Z" && state != "X"
}

// startNode starts a node process and waits until its executor searches.
func startNode(t *testing.T, dir, role string) (node *exec.Cmd, executor int) {
	t.Helper()
	node = exec.Command(selfPath, "node", dir, role)
	node.Args[0] = os.Args[0]
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	node.Stderr = os.Stderr
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill()
		endRecorded(recordPath(dir, 0)) // where the test has failed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &executor); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return node, executor
}

// stay does nothing for ever, in a system call: the Go runtime ends a process
// whose goroutines all wait for each other.
func stay() {
	for {
		_ = unix.Pause()
	}
}
