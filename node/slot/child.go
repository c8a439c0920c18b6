package slot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"seedmesh/node/slot/slotpb"
)

const (
	tailBytes   = 4 << 10 // of an executor's standard error
	maxLogLines = 1000    // of it that one process may add to the log
	maxLogLine  = 1 << 10 // bytes
	sendLimit   = 10 * time.Second
	drainLimit  = time.Second // for what is in the pipes of a process that ended
)

// allowedEnv are the variables, and beginnings of names, that an executor inherits.
var allowedEnv = []string{
	"PATH=", "HOME=", "USER=", "LANG=", "LC_", "TZ=", "TMPDIR=", "XDG_CACHE_HOME=", "XDG_RUNTIME_DIR=",
	"LD_LIBRARY_PATH=", "GOMAXPROCS=", "GODEBUG=", "GOTRACEBACK=", "GOCOVERDIR=", "SEEDMESH_SIMD=",
	"ROCM_", "ROCR_", "HIP_", "HSA_", "AMD_", "GPU_", "CUDA_", "NVIDIA_", "OCL_", "OPENCL_", "POCL_",
}

func allowed(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		return !slices.ContainsFunc(allowedEnv, func(name string) bool { return strings.HasPrefix(kv, name) })
	})
}

// A child is one executor process, from its start until it was waited for.
type child struct {
	cmd     *exec.Cmd
	pid     int
	started time.Time
	in      *os.File
	out     *os.File
	frames  chan *slotpb.Report // closed at the end of its output
	broken  error               // how its output ended; valid once frames is closed
	gone    chan struct{}       // closed when nobody takes frames any more
	dead    chan struct{}       // closed when the process was waited for
	stderr  *tail
	pipes   sync.WaitGroup // readers of its output

	send sync.Mutex // one frame at a time to in

	mu     sync.Mutex // guards reaped, so that a signal never goes to another process
	reaped bool
}

// spawn starts a process that takes the lock over. It never gives it back.
func spawn(argv, env []string, lock *os.File, log *slog.Logger) (*child, error) {
	var pipes []*os.File
	closeAll := func(err error) (*child, error) {
		for _, f := range pipes {
			err = errors.Join(err, f.Close())
		}
		return nil, err
	}
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return closeAll(err)
		}
		pipes = append(pipes, r, w)
	}
	cmd := &exec.Cmd{
		Path: argv[0], Args: argv, Env: env,
		Stdin: pipes[0], Stdout: pipes[3], Stderr: pipes[5], ExtraFiles: []*os.File{lock},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if argv[0] == selfPath {
		cmd.Args = slices.Clone(argv)
		cmd.Args[0] = selfName()
	}
	if err := onLauncher(cmd.Start); err != nil {
		return closeAll(err)
	}
	c := &child{
		cmd: cmd, pid: cmd.Process.Pid, started: time.Now(), in: pipes[1], out: pipes[2],
		frames: make(chan *slotpb.Report), gone: make(chan struct{}), dead: make(chan struct{}),
		stderr: &tail{log: log},
	}
	for _, f := range []*os.File{pipes[0], pipes[3], pipes[5]} {
		_ = f.Close() // the process has its own
	}
	c.pipes.Go(c.readFrames)
	c.pipes.Go(func() { c.stderr.readFrom(pipes[4]) })
	go c.wait(pipes[4]) // ends with the process; end waits for it
	return c, nil
}

// selfPath is this very binary, also when its file was replaced since the start.
const selfPath = "/proc/self/exe"

func selfName() string {
	if name, err := os.Executable(); err == nil {
		return name
	}
	return selfPath
}

func (c *child) readFrames() {
	defer close(c.frames)
	r := bufio.NewReader(c.out)
	for {
		m, err := readReport(r)
		if err != nil {
			c.broken = err
			return
		}
		select {
		case c.frames <- m:
		case <-c.gone:
			return
		}
	}
}

// wait kills what is left of the group when its leader has ended, before the
// leader is waited for: until then no other process can have its number.
func (c *child) wait(stderr *os.File) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	c.mu.Lock()
	_ = unix.Kill(-c.pid, unix.SIGKILL)
	_ = c.cmd.Wait() // ProcessState tells
	c.reaped = true
	c.mu.Unlock()
	limit := time.Now().Add(drainLimit)
	_ = c.out.SetReadDeadline(limit)
	_ = stderr.SetReadDeadline(limit)
	c.pipes.Wait()
	_ = c.in.Close()
	_ = c.out.Close()
	_ = stderr.Close()
	close(c.dead)
}

// command sends a frame. A process that does not read for ten seconds is an error.
func (c *child) command(m *slotpb.Command) error {
	c.send.Lock()
	defer c.send.Unlock()
	if err := c.in.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	return writeCommand(c.in, m)
}

// kill ends the whole process group.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Kill(-c.pid, unix.SIGKILL)
	}
}

// end kills the group and waits for its end, but not for ever: a process that
// hangs in a driver may not die, and then it keeps the slot's lock.
func (c *child) end(limit time.Duration) error {
	c.kill()
	return c.await(limit)
}

// quit asks the process to end, and kills it when it does not.
func (c *child) quit(grace, limit time.Duration) error {
	if c.command(quitCommand()) == nil && c.await(grace) == nil {
		return nil
	}
	return c.end(limit)
}

func (c *child) await(limit time.Duration) error {
	select {
	case <-c.gone:
	default:
		close(c.gone)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.dead:
		return nil
	case <-timer.C:
		return fmt.Errorf("the executor %d did not end within %v", c.pid, limit)
	}
}

// ended says whether the process is known to have ended.
func (c *child) ended() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// status says how the process ended, once it is dead.
func (c *child) status() string {
	if !c.ended() {
		return ""
	}
	return c.cmd.ProcessState.String()
}

// ready waits for the frame that says so. A device that is tested meanwhile gives
// signs of life, and the limit is for the next one.
func (c *child) ready(ctx context.Context, closing <-chan struct{}, limit time.Duration) (*slotpb.Ready, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		m, err := c.firstFrame(ctx, closing, timer.C)
		switch {
		case err != nil:
			return nil, err
		case m.GetProgress() == nil:
			return m.GetReady(), nil
		}
		timer.Reset(limit)
	}
}

// firstFrame gives a frame that is ready or progress.
func (c *child) firstFrame(ctx context.Context, closing <-chan struct{}, late <-chan time.Time) (*slotpb.Report, error) {
	select {
	case m, ok := <-c.frames:
		switch {
		case !ok && isEnd(c.broken):
			return nil, errors.New("it ended")
		case !ok:
			return nil, fmt.Errorf("it does not speak as it should: %w", c.broken)
		case m.GetError() != nil:
			return nil, errors.New(parseError(m.GetError()).Message)
		case m.GetProgress() != nil && m.GetProgress().Id == 0:
			return m, nil
		case m.GetReady() == nil:
			return nil, errors.New("its first frame was not ready")
		case m.GetReady().Protocol != protocolVersion:
			return nil, fmt.Errorf("it speaks version %d of the protocol, and this node %d", m.GetReady().Protocol, protocolVersion)
		}
		return m, nil
	case <-late:
		return nil, errors.New("it hangs: it was not ready in time, and gave no sign of life")
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-closing:
		return nil, ErrClosed
	}
}

// A tail keeps the end of what an executor writes to its standard error, and
// passes the lines on to the log.
type tail struct {
	log   *slog.Logger
	lines int

	mu    sync.Mutex
	text  []byte
	crash string // the line with which Go says what killed the process, or ""
}

// crashes are how such lines begin: a driver's abort is a signal.
var crashes = []string{"SIG", "panic: ", "fatal error: "}

func (t *tail) readFrom(f *os.File) {
	r := bufio.NewReaderSize(f, maxLogLine)
	for {
		line, err := r.ReadSlice('\n') // a longer line comes in pieces
		t.add(line)
		if line := strings.TrimRight(string(line), "\r\n"); line != "" {
			t.look(line)
			if t.lines++; t.lines <= maxLogLines {
				t.log.Info("executor says", "line", validUTF8(line))
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (t *tail) add(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if extra := len(t.text) - tailBytes; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
}

func (t *tail) look(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crash == "" && slices.ContainsFunc(crashes, func(begin string) bool { return strings.HasPrefix(line, begin) }) {
		t.crash = validUTF8(line)
	}
}

// why completes a text about the end of the process, if it crashed.
func (t *tail) why(text string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crash == "" {
		return text
	}
	return text + ": " + t.crash
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return validUTF8(string(t.text))
}

func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "?")
}
