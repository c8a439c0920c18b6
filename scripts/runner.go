package scripts

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Waits and modes of a runner.
const (
	DefaultGrace = 5 * time.Second // between TERM and KILL
	drainLimit   = time.Second     // for what is in the pipes of processes that are gone
	placeMode    = 0o711           // others may pass through, and see nothing
	privateMode  = 0o700
)

// Place is where a slot's scripts run, and as whom.
type Place struct {
	Base string // has the inputs of all slots in "inputs"
	Name string // of the slot's own directory below Base
	Slot uint32
	// UID and GID that scripts run under; -1 is the runner's own. Nothing else runs
	// under the UID: whatever does is ended.
	UID, GID int
	Groups   []uint32      // further groups of theirs, where they have a UID of their own
	Hide     string        // directory that scripts of the runner's own user must not see; empty for none
	Env      []string      // of every task, in front of what its job says
	Grace    time.Duration // between TERM and KILL; 0 for [DefaultGrace]
	Group    *Group        // control group of the slot, or nil
	// Installed is what tasks may name by its path; nil for anything.
	Installed *Installed
}

// Link is an input in the place's base that appears in a working directory.
type Link struct{ Source, Path string }

// Attempt is one run of a task.
type Attempt struct {
	Spec   *Spec
	Task   Task
	Number uint64
	Count  uint32 // of this attempt, from 1
	Links  []Link
	Part   *Part  // of an input that is split, or nil
	Memory uint64 // bytes that it may use; 0 for no limit
	// Start waits until the command may be started, and gives what is called once
	// it was; a nil one says that it may not be started at all. Nil is no wait.
	Start func(context.Context) (started func(), err error)
}

// ErrNotStarted says that an attempt's Start forbade it.
var ErrNotStarted = errors.New("scripts: the task may not be started")

// LinksFor is those of a job's inputs that one of its tasks finds in its working
// directory; all has a link for each input of the specification, in its order.
func (s *Spec) LinksFor(t Task, all []Link) []Link {
	if !slices.ContainsFunc(s.Inputs, func(in Input) bool { return in.Own }) || len(all) != len(s.Inputs) {
		return all
	}
	var links []Link
	for i, in := range s.Inputs {
		if !in.Own || slices.Contains(t.Inputs, in.Path) {
			links = append(links, all[i])
		}
	}
	return links
}

// OutputPath is where output k of a task lies, relative to the base, when its
// attempt has succeeded: outside of the working directory.
func OutputPath(place string, task uint64, k int) string {
	return path.Join(place, "out", strconv.FormatUint(task, 10), strconv.Itoa(k))
}

// Runner runs one task after the other in one place. It is used by one goroutine
// at a time, and makes its process the reaper of all that its tasks leave behind:
// it ends every descendant of the process between two tasks.
type Runner struct {
	place    Place
	root     *os.Root // of Base
	env      []string
	launch   chan<- func()
	out, err *stream
	last     [3]string // command name, where it was looked for, and the path it was found at
	shortage shortage
	stuck    bool    // processes of the last task live
	worker   *worker // that stays up, or nil
}

// NewRunner makes the place's directories, and ends what an earlier runner of the
// same place left running.
func NewRunner(p Place) (*Runner, error) {
	if p.Grace <= 0 {
		p.Grace = DefaultGrace
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("scripts: become the reaper: %w", err)
	}
	if err := limitResources(p.UID >= 0); err != nil {
		return nil, fmt.Errorf("scripts: limit the resources: %w", err)
	}
	p.Group.kill() // those that have dropped the mark
	if err := p.vacate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(p.Base, p.Name), placeMode); err != nil {
		return nil, fmt.Errorf("scripts: %w", err)
	}
	root, err := os.OpenRoot(p.Base)
	if err != nil {
		return nil, fmt.Errorf("scripts: %w", err)
	}
	r := &Runner{place: p, root: root, out: newStream(), err: newStream()}
	for _, dir := range ofTasks {
		if err := r.makeDir(dir); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	for i, stream := range []*stream{r.out, r.err} {
		if stream.live, err = r.openLive(i); err != nil {
			return nil, errors.Join(fmt.Errorf("scripts: %w", err), root.Close())
		}
	}
	r.shortage.passed()
	work := filepath.Join(p.Base, p.Name, "work")
	r.env = append(inherited(os.Environ()), "HOME="+work, "TMPDIR="+filepath.Join(p.Base, p.Name, "tmp"),
		p.mark(), fmt.Sprintf("SEEDMESH_SLOT=%d", p.Slot))
	r.env = append(r.env, p.Env...)
	r.launch, err = launcher(p)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return r, nil
}

// ofTasks are the directories of a place that belong to the task that runs.
var ofTasks = []string{"work", "tmp", "out"}

// mark is in the environment of every process that runs in a place.
func (p Place) mark() string { return "SEEDMESH_PLACE=" + filepath.Join(p.Base, p.Name) }

// vacate ends what runs in a place.
func (p Place) vacate() error {
	endMarked(p.mark())
	return p.evict()
}

// Sweep ends what a node that was killed has left running in a place that no runner has, and
// removes what its tasks made there.
func Sweep(p Place) error {
	if err := p.vacate(); err != nil {
		return err
	}
	root, err := os.OpenRoot(p.Base)
	if err != nil {
		return fmt.Errorf("scripts: %w", err)
	}
	r := &Runner{place: p, root: root}
	for _, dir := range ofTasks {
		if _, missing := root.Lstat(r.path(dir)); missing == nil && err == nil {
			err = r.empty(dir)
		}
	}
	return errors.Join(err, root.Close())
}

// maxProcesses bounds those of the scripts' user on the whole machine.
const maxProcesses = 4096

// limitResources sets what every task inherits: no core dumps, and, for a user of
// their own, so many processes. The node's own user is not limited by it.
func limitResources(ownUser bool) error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if ownUser {
		err = errors.Join(err, limitProcesses(maxProcesses))
	}
	return err
}

func limitProcesses(n uint64) error {
	return unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: n})
}

// credential is what scripts run as where they have a user of their own.
func (p Place) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID), Groups: p.Groups}
}

// Close lets go of the place. Its launching thread ends with it.
func (r *Runner) Close() error {
	err := r.EndWorker()
	left := make(chan error)
	r.launch <- func() { left <- r.place.Group.leave() }
	err = errors.Join(err, <-left)
	close(r.launch)
	return errors.Join(err, r.out.live.f.Close(), r.err.live.f.Close(), r.root.Close(), r.place.Group.Close())
}

// path is below the base.
func (r *Runner) path(name ...string) string {
	return filepath.Join(append([]string{r.place.Name}, name...)...)
}

func (r *Runner) makeDir(name string) error {
	err := r.root.Mkdir(r.path(name), privateMode)
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed the place
		if err = r.root.Mkdir(r.place.Name, placeMode); err == nil {
			err = r.root.Mkdir(r.path(name), privateMode)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("scripts: %w", err)
	}
	if name == "out" || r.place.UID < 0 {
		return nil
	}
	if err := r.root.Lchown(r.path(name), r.place.UID, r.place.GID); err != nil {
		return fmt.Errorf("scripts: %w", err)
	}
	return nil
}

// inheritedEnv are the variables, and beginnings of names, that a task gets from
// its node.
var inheritedEnv = []string{
	"PATH=", "LANG=", "LC_", "TZ=", "LD_LIBRARY_PATH=", "PYTORCH_", "ROCM_", "ROCR_", "HIP_", "HSA_", "AMD_", "GPU_", "CUDA_", "NVIDIA_", "OCL_", "OPENCL_",
}

func inherited(environ []string) []string {
	var kept []string
	for _, kv := range environ {
		for _, name := range inheritedEnv {
			if strings.HasPrefix(kv, name) {
				kept = append(kept, kv)
				break
			}
		}
	}
	return kept
}

// Run runs one attempt from an empty working directory to an empty machine: when
// it returns, no process of the attempt lives but a persistent worker. Its outputs lie at [OutputPath] until
// the caller takes them away. The error is ctx's, its Start's, or that the place
// itself is unusable, such as [ErrStuck] of an earlier task; whatever the task does
// is part of the outcome.
func (r *Runner) Run(ctx context.Context, a Attempt) (Outcome, error) {
	if r.stuck {
		if err := r.endDescendants(); err != nil {
			return Outcome{}, err
		}
		r.stuck = false
	}
	if a.Spec.Worker > 0 {
		return r.runOnWorker(ctx, a)
	}
	if err := r.EndWorker(); err != nil {
		return Outcome{}, err
	}
	o := r.newOutcome(a)
	if err := r.prepare(a); err != nil {
		return r.failed(o, InputMissing, "%v", err), nil
	}
	turn, err := r.gpuTurn(ctx)
	if err != nil {
		return o, err
	}
	defer turn.end()
	started, err := a.may(ctx)
	if err != nil {
		return o, err
	}
	o.Started = time.Now()
	r.out.live.begin(o.Started, a.Number)
	r.err.live.begin(o.Started, a.Number)
	err = r.place.Group.setLimit(a.Memory)
	var p *process
	if err == nil {
		p, err = r.start(a.argv(), r.environment(a))
	}
	started()
	turn.begun()
	if err != nil {
		return r.failed(o, notStarted(err), "%v", err), nil
	}
	stop := p.watch(func() (Class, string) { return r.excess(p, a.Memory) })
	end := p.wait(ctx, a.Spec.Timeout(a.Task), r.place.Grace)
	stop()
	if err := r.endDescendants(); err != nil {
		r.stuck = true
	}
	r.out.finish()
	r.err.finish()
	o.Took = time.Since(o.Started)
	o.CPU = time.Duration(end.usage.Utime.Nano() + end.usage.Stime.Nano())
	o.PeakRSS = uint64(end.usage.Maxrss) << 10
	r.classify(&o, end, a)
	if len(a.Spec.Check) > 0 && o.Class == OK && !r.stuck && ctx.Err() == nil {
		r.checkByCommand(ctx, &o, a)
	}
	o.Stdout, o.Stderr = r.out.words(), r.err.words()
	if ctx.Err() != nil {
		return o, ctx.Err()
	}
	o.blameGPU()
	if r.stuck {
		o.Class, o.Message = Stuck, fmt.Sprintf("processes of it did not die within %v", deathLimit)
	}
	if o.Class == OK {
		r.collect(ctx, &o, a)
	}
	return o, ctx.Err()
}

// notStarted is the class of a command that could not be started.
func notStarted(err error) Class {
	var script *notInstalledError
	if errors.As(err, &script) {
		return InputMissing
	}
	return NotStarted
}

func (r *Runner) newOutcome(a Attempt) Outcome {
	o := Outcome{Task: a.Number, ID: a.Task.ID, Attempt: a.Count, Slot: r.place.Slot, Status: -1, Class: OK, Started: time.Now()}
	if a.Part != nil && a.Part.Last > a.Part.First {
		o.Last = a.Part.Last
	}
	return o
}

// may waits until the attempt may begin.
func (a Attempt) may(ctx context.Context) (started func(), err error) {
	if a.Start == nil {
		return func() {}, nil
	}
	if started, err = a.Start(ctx); err == nil && started == nil {
		err = ErrNotStarted
	}
	return started, err
}

func (r *Runner) failed(o Outcome, c Class, format string, args ...any) Outcome {
	o.Class, o.Message, o.Took = c, clip(fmt.Sprintf(format, args...)), time.Since(o.Started)
	return o
}

// maxMessage bounds an outcome's message.
const maxMessage = 300 // bytes

func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxMessage)], "?")
}

// classify says how the process ended.
func (r *Runner) classify(o *Outcome, e ending, a Attempt) {
	s := a.Spec
	killed := r.place.Group.killed()
	switch {
	case e.doomed != "":
		o.Class, o.Message = e.doomed, e.why
	case e.timedOut:
		o.Class, o.Message = TimedOut, fmt.Sprintf("it ran longer than %v", e.limit)
	case killed: // whatever it made of that: a part of its work is missing
		o.Class, o.Message = OutOfMemory, "the kernel ended a process of it for want of memory"
		if a.Memory > 0 {
			o.Message = fmt.Sprintf("it used more than the %d bytes of memory that it may", a.Memory)
		}
	case e.status.Signaled() && e.status.Signal() == unix.SIGKILL && r.shortage.passed():
		o.Class, o.Message = OutOfMemory, "the machine had no memory left"
	case e.status.Signaled():
		o.Class, o.Signal = Signalled, unix.SignalName(e.status.Signal())
		o.Message = "ended by " + o.Signal
	case !s.succeeded(e.status.ExitStatus()):
		o.Class, o.Message = ExitCode, fmt.Sprintf("exit status %d", e.status.ExitStatus())
	}
	if e.status.Exited() {
		o.Status = e.status.ExitStatus()
	}
}

// Reset removes outputs that nobody has taken away.
func (r *Runner) Reset() error { return r.empty("out") }

// Tidy removes what the last attempt has left, but for its outputs.
func (r *Runner) Tidy() error {
	return errors.Join(r.empty("work"), r.empty("tmp"))
}

// prepare empties the directories, and puts the inputs and the parents of the
// declared outputs there.
func (r *Runner) prepare(a Attempt) error {
	if err := r.Tidy(); err != nil {
		return err
	}
	for _, l := range a.Links {
		if err := r.parents(l.Path); err != nil {
			return err
		}
		if err := r.root.Link(filepath.Join("inputs", l.Source), r.path("work", l.Path)); err != nil {
			return fmt.Errorf("the input %s: %w", l.Path, err)
		}
	}
	if a.Part != nil {
		if err := r.writePart(a.Part); err != nil {
			return fmt.Errorf("the part %s of the input: %w", a.Part.Name(), err)
		}
	}
	for _, list := range [][]string{a.Spec.Outputs, a.Task.Outputs} {
		for _, o := range list {
			if !strings.ContainsAny(o, globSigns) {
				if err := r.parents(o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// writePart puts a task's part of an input into its working directory.
func (r *Runner) writePart(p *Part) (err error) {
	if err := r.parents(p.Split.Name); err != nil {
		return err
	}
	f, err := r.root.OpenFile(r.path("work", p.Split.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if r.place.UID >= 0 {
		if err := f.Chown(r.place.UID, r.place.GID); err != nil {
			return err
		}
	}
	return p.write(f)
}

// parents makes the directories above a path, for the task's user.
func (r *Runner) parents(p string) error {
	for i, c := range p {
		if c != '/' {
			continue
		}
		dir := r.path("work", p[:i])
		if err := r.root.Mkdir(dir, privateMode); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if r.place.UID >= 0 {
			if err := r.root.Lchown(dir, r.place.UID, r.place.GID); err != nil {
				return err
			}
		}
	}
	return nil
}

// empty removes everything in a directory, whatever its modes are. A tree is taken apart
// from above: directories are moved up until they are empty, so that neither paths nor the
// number of open files grow with its depth, which is the task's to choose.
func (r *Runner) empty(dir string) (err error) {
	names, err := opened(r.root, r.path(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.makeDir(dir)
	case err != nil || len(names) == 0:
		return err
	}
	top, err := r.root.OpenRoot(r.path(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, top.Close()) }()
	prefix, moved := rand.Text(), 0 // no task has names of this beginning
	for len(names) > 0 {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		if top.Remove(name) == nil {
			continue
		}
		below, err := opened(top, name)
		var sub *os.Root
		if err == nil {
			sub, err = top.OpenRoot(name)
		}
		if err != nil {
			return fmt.Errorf("the working directory cannot be emptied: %w", err)
		}
		for _, b := range below {
			if sub.Remove(b) == nil {
				continue
			}
			_ = sub.Chmod(b, privateMode) // else its owner cannot move it
			moved++
			to := prefix + strconv.Itoa(moved)
			if err = errors.Join(err, top.Rename(filepath.Join(name, b), to)); err == nil {
				names = append(names, to)
			}
		}
		if err = errors.Join(err, sub.Close()); err == nil {
			err = top.Remove(name)
		}
		if err != nil {
			return fmt.Errorf("the working directory cannot be emptied: %w", err)
		}
	}
	return nil
}

// opened lists a directory, and opens it to its owner if a task has closed it.
func opened(in *os.Root, dir string) ([]string, error) {
	f, err := in.Open(dir)
	if errors.Is(err, fs.ErrPermission) && in.Chmod(dir, privateMode) == nil {
		f, err = in.Open(dir)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode() != fs.ModeDir|privateMode {
		err = f.Chmod(privateMode)
	}
	names, listErr := f.Readdirnames(-1)
	return names, errors.Join(err, listErr, f.Close())
}
