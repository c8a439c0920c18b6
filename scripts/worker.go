package scripts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A worker is a process that stays up and does one task after the other, so that
// its start is paid once. It reads tasks as lines of JSON from one descriptor, and
// answers on another:
//
//	it says      {"ready": true}
//	it is told   {"task": 7, "id": "7", "attempt": 1, "args": ["--fold", "7"]}
//	it answers   {"task": 7, "status": 0}, with a "message" and a "result" where it likes
//	it says      {"ready": true}, when it has tidied up for the next
//
// What it says otherwise ends it, and fails the task at hand alone.
type worker struct {
	*process
	kind    workerKind
	tasks   *os.File    // to it
	answers *os.File    // from it
	lines   chan []byte // from it; closed when no more can come
	ended   chan struct{}
	ending  ending       // valid once ended is closed
	ready   bool         // it waits for a task
	used    bool         // it was given one before
	stays   map[int]bool // itself, and what it had started when it was ready
}

// A workerKind is what makes two workers interchangeable.
type workerKind struct {
	argv, env []string
	links     []Link
}

// Descriptors of a worker, as it finds them, and the variables that say so.
const (
	tasksFD    = 3
	answersFD  = 4
	tasksEnv   = "SEEDMESH_TASKS_FD"
	answersEnv = "SEEDMESH_ANSWERS_FD"
)

// Limits of a worker.
const (
	maxAnswer = 64 << 10         // bytes of one line
	giveLimit = time.Second      // for a worker to take a task
	hookLimit = 30 * time.Second // for it to be ready after an answer
	quitLimit = time.Second      // for one without a task to end by itself
	shutLimit = time.Second      // between the end of its answers and its own
)

// givenTask is a task as a worker is told it.
type givenTask struct {
	Task    uint64   `json:"task"`
	ID      string   `json:"id"`
	Attempt uint32   `json:"attempt"`
	Args    []string `json:"args"`
}

// answer is what a worker says: that it is ready, or how a task has ended.
type answer struct {
	Ready   bool            `json:"ready"`
	Task    *uint64         `json:"task"`
	Status  *int            `json:"status"`
	Message string          `json:"message"`
	Result  json.RawMessage `json:"result"`
}

// What a worker does instead of answering.
var (
	errSilent = errors.New("it did not answer in time")
	errShut   = errors.New("it has closed its answers")
	errGone   = errors.New("it ended without an answer")
	errDeaf   = errors.New("it has closed its tasks")
	errShort  = errors.New("the kernel ended a process of it for want of memory")
)

// runOnWorker is [Runner.Run] for the tasks of persistent workers.
func (r *Runner) runOnWorker(ctx context.Context, a Attempt) (Outcome, error) {
	o := r.newOutcome(a)
	if err := r.prepare(a); err != nil {
		return r.failed(o, InputMissing, "%v", err), nil
	}
	if a.Spec.Worker > len(a.Task.Argv) {
		return r.failed(o, NotStarted, "it has %d words, fewer than start its worker", len(a.Task.Argv)), nil
	}
	if err := r.place.Group.setLimit(a.Memory); err != nil {
		return r.failed(o, NotStarted, "%v", err), nil
	}
	w, err := r.hire(ctx, a)
	switch {
	case ctx.Err() != nil:
		return o, errors.Join(ctx.Err(), r.EndWorker())
	case errors.Is(err, ErrNotStarted):
		return o, err
	case w == nil:
		return r.failed(o, notStarted(err), "%v", err), nil
	case err != nil:
		return r.dismissed(ctx, o, a, fmt.Errorf("before it was ready: %w", err))
	}
	started, err := a.may(ctx)
	if err != nil {
		return o, err
	}
	r.between(&o, a)
	cpu := w.cpu()
	err = w.give(a)
	started()
	if errors.Is(err, errDeaf) && w.used { // the task never was the worker's
		if err := r.EndWorker(); err != nil {
			return o, err
		}
		return r.runOnWorker(ctx, a)
	}
	w.used = true
	stop := w.watch(func() (Class, string) { return r.excess(w.process, a.Memory) })
	var said answer
	if err == nil {
		said, err = w.hear(ctx, a.Spec.Timeout(a.Task))
	}
	stop()
	if err == nil {
		err = said.check(a.Number)
	}
	if err == nil && r.place.Group.killed() { // whatever the worker made of that
		err = errShort
	}
	o.CPU, o.PeakRSS = max(w.cpu()-cpu, 0), w.peak()
	if err != nil {
		return r.dismissed(ctx, o, a, err)
	}
	w.ready = false
	if err := r.endStrays(w.stays); err != nil {
		r.stuck = true
		return r.dismissed(ctx, o, a, err)
	}
	r.hush()
	o.Took, o.Stdout, o.Stderr = time.Since(o.Started), r.out.words(), r.err.words()
	r.out.read()
	r.err.read()
	r.judge(ctx, &o, a, said)
	o.blameGPU()
	return o, nil
}

// hire gives a worker that waits for a task: the present one, or one that is
// started. With an error there may be one, which is not fit for a task.
func (r *Runner) hire(ctx context.Context, a Attempt) (*worker, error) {
	kind := workerKind{a.argv()[:a.Spec.Worker], r.workerEnv(a), a.Links}
	if w := r.worker; w != nil {
		if reflect.DeepEqual(w.kind, kind) && w.waits(ctx) {
			return w, nil
		}
		if err := r.EndWorker(); err != nil {
			return nil, err
		}
	}
	turn, err := r.gpuTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer turn.end()
	started, err := a.may(ctx)
	if err != nil {
		return nil, err
	}
	r.worker, err = r.startWorker(kind)
	started()
	turn.begun()
	if err != nil {
		return nil, err
	}
	said, err := r.worker.hear(ctx, a.Spec.Timeout(a.Task))
	if err == nil && !said.Ready {
		err = said.wrong("ready")
	}
	if err != nil {
		return r.worker, err
	}
	r.worker.ready, r.worker.stays = true, map[int]bool{r.worker.pid: true}
	for _, pid := range descendants(r.worker.pid) {
		r.worker.stays[pid] = true
	}
	return r.worker, nil
}

// waits tells whether a worker that has answered is ready for the next task, and
// has said nothing else.
func (w *worker) waits(ctx context.Context) bool {
	if !w.ready {
		said, err := w.hear(ctx, hookLimit)
		if err != nil || !said.Ready {
			return false
		}
		w.ready = true
	}
	select {
	case <-w.ended:
		return false
	case <-w.lines:
		return false
	default:
		return true
	}
}

func (r *Runner) workerEnv(a Attempt) []string {
	env := append(slices.Clone(r.env), tasksEnv+"="+strconv.Itoa(tasksFD), answersEnv+"="+strconv.Itoa(answersFD))
	return masked(append(env, a.Spec.Env...), r.place.Env, a.hint())
}

func (r *Runner) startWorker(kind workerKind) (*worker, error) {
	w := &worker{kind: kind, lines: make(chan []byte), ended: make(chan struct{})}
	var theirs [2]*os.File
	var err error
	if theirs[0], w.tasks, err = os.Pipe(); err != nil {
		return nil, err
	}
	if w.answers, theirs[1], err = os.Pipe(); err != nil {
		return nil, errors.Join(err, theirs[0].Close(), w.tasks.Close())
	}
	w.process, err = r.start(kind.argv, kind.env, theirs[0].Fd(), theirs[1].Fd())
	if err = errors.Join(err, theirs[0].Close(), theirs[1].Close()); err != nil {
		return nil, errors.Join(err, w.tasks.Close(), w.answers.Close())
	}
	go w.listen() // ends with the worker's answers
	go func() {   // ends with the worker
		w.ending = w.reap()
		_ = w.answers.SetReadDeadline(time.Now().Add(drainLimit)) // others may have the descriptor too
		close(w.ended)
	}()
	return w, nil
}

// listen reads lines until the worker's answers end, or one is too long.
func (w *worker) listen() {
	defer close(w.lines)
	lines := bufio.NewScanner(w.answers)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		select {
		case w.lines <- bytes.Clone(lines.Bytes()):
		case <-w.ended:
			select { // whoever waits for the end asks for what was said last
			case w.lines <- bytes.Clone(lines.Bytes()):
			case <-time.After(drainLimit):
				return
			}
		}
	}
}

// hear waits for what the worker says next.
func (w *worker) hear(ctx context.Context, limit time.Duration) (said answer, err error) {
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	var line []byte
	open := true
	select {
	case line, open = <-w.lines:
	case <-w.ended:
		if line, open = <-w.lines; !open {
			return said, errGone
		}
	case <-late:
		return said, errSilent
	case <-ctx.Done():
		return said, ctx.Err()
	}
	if !open {
		select {
		case <-w.ended:
			return said, errGone
		case <-time.After(shutLimit):
			return said, errShut
		}
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&said); err != nil {
		return said, fmt.Errorf("it said %.60q, which is no answer", line)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return said, fmt.Errorf("it said %.60q, which is more than an answer", line)
	}
	return said, nil
}

// check refuses what is not the answer to a task.
func (s answer) check(task uint64) error {
	switch {
	case s.Ready || s.Task == nil || s.Status == nil:
		return s.wrong("how its task ended")
	case *s.Task != task:
		return fmt.Errorf("it answered for task %d", *s.Task)
	}
	return nil
}

func (s answer) wrong(want string) error {
	return fmt.Errorf("it did not say %s, but %+v", want, s)
}

// give tells the worker its task.
func (w *worker) give(a Attempt) error {
	b, err := json.Marshal(givenTask{a.Number, a.Task.ID, a.Count, a.argv()[a.Spec.Worker:]})
	if err != nil {
		return err
	}
	if err := w.tasks.SetWriteDeadline(time.Now().Add(giveLimit)); err != nil {
		return err
	}
	switch _, err := w.tasks.Write(append(b, '\n')); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it does not read its tasks")
	case errors.Is(err, unix.EPIPE):
		return errDeaf
	default:
		return err
	}
}

// between begins an attempt: what the worker wrote since its last answer belongs to none.
func (r *Runner) between(o *Outcome, a Attempt) {
	r.hush()
	r.out.words()
	r.err.words()
	o.Started = time.Now()
	r.out.live.begin(o.Started, a.Number)
	r.err.live.begin(o.Started, a.Number)
	r.out.read()
	r.err.read()
}

// hush records what is in the worker's pipes now.
func (r *Runner) hush() {
	r.out.settle()
	r.err.settle()
}

// judge says how a task ended that was answered for.
func (r *Runner) judge(ctx context.Context, o *Outcome, a Attempt, said answer) {
	if o.Status = *said.Status; !a.Spec.succeeded(o.Status) {
		o.Class, o.Message = ExitCode, clip(strings.TrimSuffix(fmt.Sprintf("status %d: %s", o.Status, said.Message), ": "))
		return
	}
	if a.Spec.Capture == "json" && len(said.Result) > 0 && said.Result[0] == '{' {
		o.Captured = bytes.Clone(said.Result)
	}
	r.collect(ctx, o, a)
}

// dismissed ends a worker that did not do its task, and says how the task failed.
func (r *Runner) dismissed(ctx context.Context, o Outcome, a Attempt, why error) (Outcome, error) {
	w := r.worker
	w.stop(r.place.Grace)
	end := w.ending
	end.timedOut, end.limit = errors.Is(why, errSilent), a.Spec.Timeout(a.Task)
	w.mu.Lock()
	end.doomed, end.why = w.doomed, w.why
	w.mu.Unlock()
	if err := r.gone(); err != nil && !r.stuck {
		return o, err
	}
	o.Took, o.Stdout, o.Stderr = time.Since(o.Started), r.out.words(), r.err.words()
	if ctx.Err() != nil {
		return o, ctx.Err()
	}
	r.classify(&o, end, a)
	if r.stuck || errors.Is(why, ErrStuck) {
		o.Class, o.Message = Stuck, fmt.Sprintf("processes of it did not die within %v", deathLimit)
		return o, nil
	}
	own := errors.Is(why, errGone) || errors.Is(why, errSilent) || o.Class == OutOfMemory || end.doomed != ""
	switch {
	case errors.Is(why, errShort):
		o.Class, o.Signal, o.Message = OutOfMemory, "", why.Error()
	case !own || o.Class == OK:
		o.Class, o.Signal, o.Message = BadAnswer, "", clip(fmt.Sprintf("its worker was ended: %v", why))
	case errors.Is(why, errGone) && o.Class != OutOfMemory:
		o.Message = clip("its worker ended: " + o.Message)
	case o.Class == TimedOut && !w.began():
		o.Message += " and has not said that it is ready for a task"
	}
	o.blameGPU()
	return o, nil
}

// began tells whether the worker was ever ready for a task.
func (w *worker) began() bool { return w.stays != nil }

// stop ends the worker: asked first, and after the grace killed.
func (w *worker) stop(grace time.Duration) {
	w.signal(unix.SIGTERM)
	select {
	case <-w.ended:
		return
	case <-time.After(grace):
	}
	w.signal(unix.SIGKILL)
	<-w.ended
}

// gone tidies up after a worker that has ended.
func (r *Runner) gone() error {
	w := r.worker
	r.worker = nil
	err := r.endDescendants()
	r.stuck = err != nil
	err = errors.Join(err, w.answers.Close())
	_ = w.tasks.Close() // it may have been closed to tell the worker
	r.out.finish()
	r.err.finish()
	return err
}

// EndWorker ends the persistent worker, if there is one. It is asked to by the end
// of its tasks.
func (r *Runner) EndWorker() error {
	w := r.worker
	if w == nil {
		return nil
	}
	if err := w.tasks.Close(); err != nil {
		return err
	}
	select {
	case <-w.ended:
	case <-time.After(quitLimit):
		w.signal(unix.SIGKILL)
		<-w.ended
	}
	err := r.gone()
	r.out.words()
	r.err.words()
	return err
}

// HasWorker tells whether a persistent worker waits for the next task.
func (r *Runner) HasWorker() bool { return r.worker != nil }

// cpu is the time that the worker's threads have used.
func (w *worker) cpu() time.Duration {
	const ofProcess = 2 // the clock that the scheduler keeps of a process
	var t unix.Timespec
	if unix.ClockGettime(int32(^w.pid<<3|ofProcess), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// peak is the most memory that the worker has used, in bytes.
func (w *worker) peak() uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid))
	if err != nil {
		return w.lastPeak()
	}
	for line := range strings.Lines(string(b)) {
		var kib uint64
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10
			}
		}
	}
	return w.lastPeak()
}

// lastPeak is the peak of a worker that has ended, or 0.
func (w *worker) lastPeak() uint64 {
	select {
	case <-w.ended:
		return uint64(w.ending.usage.Maxrss) << 10
	default:
		return 0
	}
}
