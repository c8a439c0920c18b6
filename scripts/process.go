package scripts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
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
)

// endDescendants kills whatever descends from this process, until nothing does.
func (r *Runner) endDescendants() error {
	for began := time.Now(); ; {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		r.place.Group.kill()
		for _, pid := range stopAll(os.Getpid()) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
		if time.Since(began) > deathLimit {
			return fmt.Errorf("processes of it do not die within %v", deathLimit)
		}
		time.Sleep(deathPoll)
	}
}

// stopAll stops the processes below one, until no new ones come: what is stopped
// cannot fork. It lists them.
func stopAll(of int) []int {
	stopped := map[int]bool{}
	for {
		all, fresh := descendants(of), false
		for _, pid := range all {
			if !stopped[pid] {
				stopped[pid], fresh = true, true
				_ = unix.Kill(pid, unix.SIGSTOP) // one that is gone needs none
			}
		}
		if !fresh {
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
	s.done = make(chan struct{})
	go func() { // finish waits for it
		defer close(s.done)
		for {
			n, err := s.pipe.Read(s.buf)
			_, _ = s.Write(s.buf[:n])
			s.live.write(s.buf[:n])
			if err != nil {
				return
			}
		}
	}()
}

// finish returns when all is read that was written.
func (s *stream) finish() {
	_ = s.pipe.SetReadDeadline(time.Now().Add(drainLimit))
	<-s.done
	_ = s.pipe.Close()
}
