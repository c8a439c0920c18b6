package scripts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a task's own process, the leader of its session, until it was
// waited for.
type process struct {
	pid int

	mu     sync.Mutex // guards what follows, so that a signal never goes to another process
	reaped bool
	late   bool // its time is over
	doomed Class
	why    string // of doomed
}

// An ending is how a process ended.
type ending struct {
	status   unix.WaitStatus
	usage    unix.Rusage
	timedOut bool
	limit    time.Duration
	doomed   Class  // why the node ended it, or empty
	why      string // in words
}

// signal goes to the whole group.
func (p *process) signal(s unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.pid, s) // a group that is gone needs no signal
	}
}

// wait returns when the process has ended: by itself, or because its time was
// over or ctx ended, first asked and after the grace killed. What else is in its
// group is killed with it.
func (p *process) wait(ctx context.Context, limit, grace time.Duration) ending {
	var kill *time.Timer
	end := func() {
		p.signal(unix.SIGTERM)
		kill = time.AfterFunc(grace, func() { p.signal(unix.SIGKILL) })
	}
	var once sync.Once
	stop := context.AfterFunc(ctx, func() { once.Do(end) })
	var timer *time.Timer
	if limit > 0 {
		timer = time.AfterFunc(limit, func() {
			p.mu.Lock()
			p.late = !p.reaped
			p.mu.Unlock()
			once.Do(end)
		})
	}
	e := p.reap()
	stop()
	if timer != nil {
		timer.Stop()
	}
	once.Do(func() {}) // from here on nobody sets kill
	if kill != nil {
		kill.Stop()
	}
	p.mu.Lock()
	e.timedOut, e.limit, e.doomed, e.why = p.late, limit, p.doomed, p.why
	p.mu.Unlock()
	return e
}

// reap waits for the process. Its group is killed before it is waited for: until
// then no other process can have its number.
func (p *process) reap() (e ending) {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(p.pid, &e.status, 0, &e.usage); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.reaped = true
	return e
}

// Waits for descendants.
const (
	deathLimit = 5 * time.Second // for killed processes to be gone
	deathPoll  = 2 * time.Millisecond
	stopPasses = 8 // looks for processes that were forked while others were stopped
	patience   = 3 // tries to end descendants one by one, before all of the user are ended at once
)

// ErrStuck says that processes of an earlier task do not die. As long as there are
// such, their place runs nothing.
var ErrStuck = errors.New("scripts: processes of an earlier task do not die")

// endDescendants kills whatever descends from this process, until nothing does, or
// gives [ErrStuck].
func (r *Runner) endDescendants() error {
	for began, round := time.Now(), 0; ; round++ {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		r.place.Group.kill()
		for _, pid := range stopAll(os.Getpid(), nil) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if round >= patience {
			r.place.endUser()
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
		if time.Since(began) > deathLimit {
			return fmt.Errorf("%w within %v", ErrStuck, deathLimit)
		}
		time.Sleep(deathPoll)
	}
}

// endStrays kills whatever descends from this process but the given ones, until
// nothing does.
func (r *Runner) endStrays(but map[int]bool) error {
	for began := time.Now(); ; {
		left := 0
		for _, pid := range stopAll(os.Getpid(), but) {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // what is another's child ends with its parent
			if !dead(pid) {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if time.Since(began) > deathLimit {
			return fmt.Errorf("%w within %v", ErrStuck, deathLimit)
		}
		time.Sleep(deathPoll)
	}
}

// dead tells whether nothing of a process is left but its number.
func dead(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// stopAll stops the processes below one but for the given ones, until no new ones
// come, or it has looked often enough: what is stopped cannot fork. It lists them.
func stopAll(of int, but map[int]bool) []int {
	stopped := map[int]bool{}
	for pass := 1; ; pass++ {
		all, fresh := descendants(of), false
		all = slices.DeleteFunc(all, func(pid int) bool { return but[pid] })
		for _, pid := range all {
			if !stopped[pid] {
				stopped[pid], fresh = true, true
				_ = unix.Kill(pid, unix.SIGSTOP) // one that is gone needs none
			}
		}
		if !fresh || pass == stopPasses {
			return all
		}
	}
}

// descendants lists the processes below one.
func descendants(of int) []int {
	parents := map[int][]int{}
	eachProcess(func(pid int) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return
		}
		text := string(b)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 {
			return
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			parents[parent] = append(parents[parent], pid)
		}
	})
	var all []int
	for next := []int{of}; len(next) > 0; {
		children := parents[next[0]]
		all = append(all, children...)
		next = append(next[1:], children...)
	}
	return all
}

func eachProcess(do func(pid int)) {
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			do(pid)
		}
	}
}

// endUser kills all processes of the place's own user at once, so that none can
// fork away from it. It does nothing where scripts run as the runner's user.
func (p Place) endUser() {
	if p.UID < 0 {
		return
	}
	_ = limitProcesses(unix.RLIM_INFINITY) // the user may have as many as it may
	pid, err := syscall.ForkExec(shellPath, []string{shellPath, "-c", "kill -KILL -1"}, &syscall.ProcAttr{
		Env: []string{}, Files: []uintptr{devNull(), devNull(), devNull()}, Sys: &syscall.SysProcAttr{Setsid: true, Credential: p.credential()},
	})
	if err == nil {
		_, _ = unix.Wait4(pid, nil, 0, nil) // what it did is seen by what is left
	}
	_ = limitProcesses(maxProcesses)
}

// evict ends what runs under the place's own user, whoever started it.
func (p Place) evict() error {
	for began := time.Now(); p.UID >= 0; time.Sleep(deathPoll) {
		if !runsAs(p.UID) {
			return nil
		}
		if time.Since(began) > deathLimit {
			return fmt.Errorf("%w: of user %d", ErrStuck, p.UID)
		}
		p.endUser()
	}
	return nil
}

// runsAs tells whether a user has a process that lives.
func runsAs(uid int) (found bool) {
	eachProcess(func(pid int) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || found {
			return
		}
		zombie := false
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			switch {
			case len(fields) < 2:
			case fields[0] == "State:":
				zombie = fields[1] == "Z" || fields[1] == "X"
			case fields[0] == "Uid:":
				found = !zombie && slices.Contains(fields[1:], strconv.Itoa(uid))
			}
		}
	})
	return found
}

// endMarked kills processes that were started with a variable in their
// environment: what an executor left behind that was killed itself.
func endMarked(mark string) {
	eachProcess(func(pid int) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && pid != os.Getpid() && strings.Contains("\x00"+string(b), "\x00"+mark+"\x00") {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
}

// A stream reads what a process writes to one of its standard streams.
type stream struct {
	recorder
	live *liveFile
	buf  []byte
	pipe *os.File
	done chan struct{}
}

// streamChunk is how many bytes of a stream are read at once.
const streamChunk = 32 << 10

func newStream() *stream { return &stream{buf: make([]byte, streamChunk)} }

// open makes a pipe, and gives the end to write to.
func (s *stream) open() (int, error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	if err := unix.SetNonblock(fd[0], true); err != nil {
		return 0, errors.Join(err, unix.Close(fd[0]), unix.Close(fd[1]))
	}
	s.pipe = os.NewFile(uintptr(fd[0]), "pipe")
	return fd[1], nil
}

// drop gives an open pipe up.
func (s *stream) drop(fd int) {
	_ = unix.Close(fd)
	_ = s.pipe.Close()
}

// begin reads until every writer is gone.
func (s *stream) begin(fd int) {
	_ = unix.Close(fd) // the process has its own
	s.read()
}

// read reads in the background, until every writer is gone, or settle.
func (s *stream) read() {
	_ = s.pipe.SetReadDeadline(time.Time{})
	s.done = make(chan struct{})
	go func() { // finish and settle wait for it
		defer close(s.done)
		for {
			n, err := s.pipe.Read(s.buf)
			s.record(s.buf[:n])
			if err != nil {
				return
			}
		}
	}()
}

func (s *stream) record(b []byte) {
	_, _ = s.Write(b)
	s.live.write(b)
}

// maxSettled bounds what is read of a stream whose writer goes on, in bytes: more
// than a pipe holds.
const maxSettled = 256 << 10

// settle stops the reading when all is read that has been written so far.
func (s *stream) settle() {
	_ = s.pipe.SetReadDeadline(time.Now())
	<-s.done
	conn, err := s.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { // the end of the pipe is found by whoever reads on
		for total := 0; total < maxSettled; {
			n, err := unix.Read(int(fd), s.buf)
			if n <= 0 || err != nil {
				return
			}
			s.record(s.buf[:n])
			total += n
		}
	})
}

// finish returns when all is read that was written.
func (s *stream) finish() {
	_ = s.pipe.SetReadDeadline(time.Now().Add(drainLimit))
	<-s.done
	_ = s.pipe.Close()
}
