package slot

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"seedmesh/kernels"
	"seedmesh/node/slot/slotpb"
	"seedmesh/scripts"
)

const (
	lockFD       = 3 // where an executor finds the open file of its slot's lock
	niceness     = 10
	oomScore     = 500             // added to the kernel's wish to kill it when memory is short
	prepareLimit = 5 * time.Minute // of signs of life while a search is prepared
	leaveLimit   = time.Second     // for a search to end when the executor does
)

// simConfig is a [kernels.SimConfig] on the command line. Crash is a flag there:
// an executor that crashes kills itself.
type simConfig struct {
	Label        string  `json:"label,omitempty"`
	Rate         float64 `json:"rate,omitempty"`
	FailAt       *uint64 `json:"fail_at,omitempty"`
	HangAt       *uint64 `json:"hang_at,omitempty"`
	CrashAt      *uint64 `json:"crash_at,omitempty"`
	WrongAccount bool    `json:"wrong_account,omitempty"`
	MissEvery    uint64  `json:"miss_every,omitempty"`
}

func simOf(c kernels.SimConfig) simConfig {
	return simConfig{c.Label, c.Rate, c.FailAt, c.HangAt, c.CrashAt, c.WrongAccount, c.MissEvery}
}

// acceleratorConfig is the rest of a [Config]'s accelerator on the command line.
type acceleratorConfig struct {
	Number         int     `json:"number,omitempty"`
	Libraries      string  `json:"libraries,omitempty"`
	Programs       string  `json:"programs,omitempty"`
	MemoryFraction float64 `json:"memory_fraction,omitempty"`
	Again          bool    `json:"again,omitempty"`
	Shared         bool    `json:"shared,omitempty"`
	Locks          string  `json:"locks,omitempty"`
}

func (c acceleratorConfig) open(kind string) (kernels.Device, error) {
	return kernels.OpenAccelerator(kernels.AcceleratorConfig{
		Kind: kind, Number: c.Number, Libraries: c.Libraries, Programs: c.Programs, MemoryFraction: c.MemoryFraction, Again: c.Again,
	})
}

func (c simConfig) device() kernels.SimConfig {
	return kernels.SimConfig{
		Label: c.Label, Rate: c.Rate, FailAt: c.FailAt, HangAt: c.HangAt, CrashAt: c.CrashAt,
		WrongAccount: c.WrongAccount, MissEvery: c.MissEvery,
		Crash: func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) },
	}
}

// Main is an executor: what the hidden command of the binary runs, started by
// [NewProcess] with its arguments. It returns when it is told to quit, or when
// stdin ends, because then the node is gone. When stdin and stdout are those of
// the process, they are taken over: what libraries print goes to standard error.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error {
	flags := flag.NewFlagSet("executor", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	index := flags.Uint("index", 0, "number of the slot")
	name := flags.String("device", "cpu", strings.Join(Devices(), ", "))
	acceleratorText := flags.String("accelerator", "{}", "which accelerator, in JSON")
	threads := flags.Int("threads", 0, "of a cpu device")
	simText := flags.String("sim", "{}", "the simulated device, in JSON")
	fd := flags.Int("lock-fd", 0, "open file of the slot's lock")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("executor: %w", err)
	}
	sim, err := parseSim(*simText)
	if err != nil {
		return fmt.Errorf("executor: --sim: %w", err)
	}
	var accelerator acceleratorConfig
	if err := unmarshalStrict(*acceleratorText, &accelerator); err != nil {
		return fmt.Errorf("executor: --accelerator: %w", err)
	}
	if err := holdLock(*fd); err != nil {
		return fmt.Errorf("executor: %w", err)
	}
	if in, ok := stdin.(*os.File); ok && in == os.Stdin && stdout == io.Writer(os.Stdout) {
		if stdin, stdout, err = takeOver(); err != nil {
			return fmt.Errorf("executor: take over the pipes: %w", err)
		}
	}
	behave()
	device, n, err := openDevice(ctx, deviceConfig{*name, *threads, accelerator, sim.device()}, stdout)
	if err != nil {
		return errors.Join(err, writeMessage(stdout, kindReport, errorReport(0, Failed, err.Error())))
	}
	orphaned, err := serve(ctx, stdin, stdout, device, n, uint32(*index))
	if orphaned && unix.Getpgrp() == os.Getpid() {
		_ = unix.Kill(0, unix.SIGKILL) // takes along whatever a driver or a script left in the group
	}
	return err
}

// openDevice opens a device that nobody else on the machine uses, and has it pass
// its test, with a sign of life before each step.
func openDevice(ctx context.Context, c deviceConfig, stdout io.Writer) (kernels.Device, int, error) {
	d, n, err := newDevice(c)
	if err != nil {
		return nil, 0, remedied(err)
	}
	if pci := kernels.PCI(d); pci != "" && !c.accelerator.Shared {
		err = lockGPU(ctx, c.accelerator.Locks, pci)
	}
	if err == nil {
		err = kernels.Vet(ctx, d, c.accelerator.Programs, c.accelerator.Again, func() { _ = writeMessage(stdout, kindReport, progressReport(0, 0)) })
	}
	if err != nil {
		return nil, 0, errors.Join(remedied(err), d.Close())
	}
	forgetPeak()
	return d, n, nil
}

// forgetPeak gives back what the test took, and has the kernel forget it (proc(5),
// clear_refs): what a process has used at most is counted to those that it starts, and a
// task is judged by that.
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // where it cannot be done, tasks seem somewhat larger
}

// aboutOf is what a device says of itself; nothing for what is no accelerator.
func aboutOf(d kernels.Device) About {
	if !slices.Contains(kernels.Accelerators(), d.Name()) {
		return About{}
	}
	return About{kernels.Identity(d), kernels.PCI(d), kernels.Memory(d)}
}

// remedied adds what to do to the text of an error, since only that goes to the node.
func remedied(err error) error {
	if cause := (interface{ Remedy() string })(nil); errors.As(err, &cause) {
		return fmt.Errorf("%w; %s", err, cause.Remedy())
	}
	return err
}

// holdLock makes sure that the slot's lock is held by the open file, which stays
// open until the process ends, and is not inherited by its own children.
func holdLock(fd int) error {
	if fd < lockFD {
		return errors.New("it is started by a node, with the lock of its slot")
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the slot's lock: %w", err)
	}
	unix.CloseOnExec(fd)
	return nil
}

// takeOver moves the frames away from the standard input and output.
func takeOver() (io.Reader, io.Writer, error) {
	var moved [2]*os.File
	for fd := range moved {
		to, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lockFD+1)
		if err != nil {
			return nil, nil, err
		}
		moved[fd] = os.NewFile(uintptr(to), "frames")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(unix.Dup3(int(null.Fd()), 0, 0), unix.Dup3(2, 1, 0), null.Close())
	return moved[0], moved[1], err
}

// behave is what an executor owes to its machine: it is there for others before
// itself. Nothing of it has to succeed.
func behave() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if threads, err := os.ReadDir("/proc/self/task"); err == nil {
		for _, t := range threads { // later threads inherit it
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				_ = unix.Setpriority(unix.PRIO_PROCESS, tid, niceness)
			}
		}
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0)
}

// A server is an executor's end of the pipes.
type server struct {
	index  uint32
	engine engine

	use    sync.Mutex      // held by whoever uses what follows
	runner *scripts.Runner // nil before the first script job
	place  scripts.Place   // of the runner
	idle   *time.Timer     // ends the runner's persistent worker

	out sync.Mutex // one frame at a time
	w   io.Writer

	current *job // nil when no search runs
}

// A job is the search that runs.
type job struct {
	id     uint64
	stop   atomic.Uint64
	cancel context.CancelFunc
	done   chan struct{} // closed when its last frame is out
	leave  *leave        // of a script job
	over   bool          // its last frame is out; guarded by the server's out
}

// serve answers commands until quit or the end of stdin, which it reports as
// orphaned. A search that does not end within a second is left behind.
func serve(ctx context.Context, stdin io.Reader, stdout io.Writer, device kernels.Device, threads int, index uint32) (orphaned bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{engine: engine{device: device}, index: index, w: stdout}
	about := aboutOf(device)
	err = s.report(&slotpb.Report{Kind: &slotpb.Report_Ready{Ready: &slotpb.Ready{
		Protocol: protocolVersion, Pid: int64(os.Getpid()), Device: device.Name(), Threads: uint32(threads),
		Driver: about.Driver, Pci: about.PCI, Memory: about.Memory,
	}}})
	if err != nil {
		return true, err
	}
	commands := make(chan *slotpb.Command)
	ended := make(chan error, 1)
	go func() { // ends with stdin, or with the process
		r := bufio.NewReader(stdin)
		for {
			c, err := readCommand(r)
			if err != nil {
				ended <- err
				return
			}
			select {
			case commands <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case c := <-commands:
			if c.GetQuit() != nil {
				return false, s.leave()
			}
			if err := s.command(ctx, c); err != nil {
				return false, errors.Join(err, s.leave())
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return true, errors.Join(err, s.leave())
		case <-ctx.Done():
			return false, s.leave()
		}
	}
}

func (s *server) report(m *slotpb.Report) error {
	s.out.Lock()
	defer s.out.Unlock()
	return writeMessage(s.w, kindReport, m)
}

// reportOf sends a frame of a script job, unless its last one is out.
func (s *server) reportOf(j *job, m *slotpb.Report, last bool) error {
	s.out.Lock()
	defer s.out.Unlock()
	if j.over {
		return nil
	}
	j.over = last
	return writeMessage(s.w, kindReport, m)
}

// leave ends the search, and closes the device when that worked.
func (s *server) leave() error {
	if s.current == nil {
		return s.close()
	}
	s.current.cancel()
	timer := time.NewTimer(leaveLimit)
	defer timer.Stop()
	select {
	case <-s.current.done:
		return s.close()
	case <-timer.C:
		return errors.New("executor: a search did not end")
	}
}

// close lets go of the device, and of the place of scripts.
func (s *server) close() error {
	err := s.engine.close()
	s.use.Lock()
	defer s.use.Unlock()
	if s.runner != nil {
		err = errors.Join(err, s.runner.Close())
	}
	return err
}

// command handles all but quit. An error is of the pipe, or of the node, which
// does not give two searches at a time.
func (s *server) command(ctx context.Context, c *slotpb.Command) error {
	j := s.current
	if j != nil {
		select {
		case <-j.done:
			j, s.current = nil, nil
		default:
		}
	}
	switch k := c.Kind.(type) {
	case *slotpb.Command_Search, *slotpb.Command_Scripts:
		if j != nil {
			// Its last frame may be out, and the goroutine just behind.
			select {
			case <-j.done:
			case <-time.After(leaveLimit):
				return fmt.Errorf("executor: a task came during task %d", j.id)
			}
		}
		if m := c.GetScripts(); m != nil {
			return s.beginScripts(ctx, m)
		}
		return s.begin(ctx, c.GetSearch())
	case *slotpb.Command_StopAt:
		if j != nil && j.id == k.StopAt.Id && k.StopAt.Last < j.stop.Load() {
			j.stop.Store(k.StopAt.Last)
		}
	case *slotpb.Command_Cancel:
		if j == nil || j.id != k.Cancel.Id {
			return nil
		}
		j.cancel()
		return s.halt(j)
	case *slotpb.Command_Leave:
		if j == nil || j.id != k.Leave.Id || j.leave == nil {
			return nil
		}
		if k.Leave.Until == 0 {
			return s.halt(j)
		}
		j.leave.move(k.Leave.Until)
	default:
		return errors.New("executor: a command of an unknown kind")
	}
	return nil
}

// halt takes the leave of a script job away, and confirms it.
func (s *server) halt(j *job) error {
	if j.leave == nil {
		return nil
	}
	j.leave.move(0)
	return s.reportOf(j, haltedReport(j.id), false)
}

func (s *server) begin(ctx context.Context, m *slotpb.Search) error {
	r := kernels.Range{First: m.First, Last: m.Last}
	if r.First > r.Last {
		return s.report(errorReport(m.Id, BadTask, emptyRange(0, r).Message))
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &job{id: m.Id, cancel: cancel, done: make(chan struct{})}
	j.stop.Store(m.Last)
	s.current = j
	go func() { // leave waits for it
		defer close(j.done)
		defer cancel()
		_ = s.report(s.work(ctx, j, m, r)) // a broken pipe ends the loop of commands too
	}()
	return nil
}

// work does a search and gives its last frame.
func (s *server) work(ctx context.Context, j *job, m *slotpb.Search, r kernels.Range) *slotpb.Report {
	err := s.endWorker() // it may hold the device
	if err == nil {
		err = s.prepare(ctx, j.id, m, r)
	}
	var o outcome
	if err == nil {
		o, err = s.engine.run(ctx, r, hooks{
			stop: j.stop.Load,
			beat: func(done uint64) error { return s.report(progressReport(j.id, done)) },
			emit: func(batch []kernels.Survivor) error { return s.report(survivorsReport(j.id, batch)) },
		})
	}
	var e *Error
	switch {
	case err == nil:
		return doneReport(j.id, o)
	case ctx.Err() != nil:
		return errorReport(j.id, cancelled, "cancelled")
	case errors.As(err, &e):
		return errorReport(j.id, e.Class, e.Message)
	}
	return errorReport(j.id, Failed, err.Error())
}

// prepare gives signs of life meanwhile, because a compiler may take its time,
// but not for ever.
func (s *server) prepare(ctx context.Context, id uint64, m *slotpb.Search, r kernels.Range) error {
	stop := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() {
		tick := time.NewTicker(beatInterval)
		defer tick.Stop()
		for range int(prepareLimit / beatInterval) {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = s.report(progressReport(id, 0))
			}
		}
	})
	err := s.engine.prepare(ctx, m.Spec, m.Generator, r)
	close(stop)
	beats.Wait()
	return err
}

func parseSim(text string) (c simConfig, err error) {
	err = unmarshalStrict(text, &c)
	return c, err
}
