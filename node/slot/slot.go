// Package slot runs searches in executors: one warm child process for each slot
// of the node, of the same binary, so that a device that hangs or a driver that
// crashes never takes the node down.
//
// It does not know of jobs or claims, and does not try again: a [Task] ends with
// a [Result] that was checked here, or with an [*Error] whose class says what
// broke. At no time do two executors run for one slot, also across a kill of the
// node; see guard.go.
//
// Read slot.go for the nouns, process.go for the node's side, main.go for the
// executor's side, engine.go for what both an executor process and
// [NewInProcess] do with a device.
package slot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"seedmesh/kernels"
)

// Config is one slot's executor.
type Config struct {
	Index   int    // of the slot in its node, from 0
	Device  string // one of [Devices]
	Threads int    // of a cpu device; 0 for all cores
	// Accelerator is what device to open of the kind Device, and how; its Kind,
	// Programs and Again are not used.
	Accelerator kernels.AcceleratorConfig
	GFX         string // HSA_OVERRIDE_GFX_VERSION of AMD's runtime, such as 10.3.0; empty for what the GPUs need
	Shared      bool   // others on this machine may use the same GPU at the same time
	Locks       string // directory of the locks of GPUs; empty for [DefaultLocks]
	// Sim is the device "sim". Its Crash is not used: in an executor process a
	// crash is a real one.
	Sim kernels.SimConfig

	Dir  string // holds the slot's lock, the record of its process, and compiled programs unless Accelerator names their directory; must exist
	Lock string // path of the lock; empty for slot-N.lock in Dir

	Command []string // of the executor, a path first; empty for this binary with the argument "executor"
	Env     []string // "K=V", in addition to the allowed part of this process's environment

	// StartToken is shared by the slots of a node: an executor starts only while
	// it has put a value in, so that the capacity bounds the starts at one time.
	// Nil is no bound.
	StartToken chan struct{}
	IdleStop   time.Duration // the process is ended when idle for so long; 0 for [DefaultIdleStop]
	HangAfter  time.Duration // silence in a search that gets the process killed; 0 for [DefaultHangAfter]
	Logger     *slog.Logger  // nil for none
}

// The defaults of [Config].
const (
	DefaultIdleStop  = 10 * time.Minute
	DefaultHangAfter = 30 * time.Second
	DefaultLocks     = "/tmp" // which all users and nodes of a machine share
)

// A Task is one range to search. Its functions are called from the goroutine of
// Run, one at a time, and hold the search up while they run.
type Task struct {
	Spec      []byte // as [kernels.Spec.Encode] gives it, at most [kernels.MaxSpecBytes]
	Generator string // one of the spec's
	Range     kernels.Range
	// Scripts makes this a task of a script job, without Spec, Generator and Emit.
	Scripts *Scripts

	// Emit gets the survivors in rising order of seed; the slice is valid during
	// the call. What it returns ends the search, and Run returns it. After a
	// StopAt, survivors above Result.Last may have been given before: the caller
	// cuts them. Nil drops the survivors.
	Emit func([]kernels.Survivor) error
	// Progress gets the number of seeds finished in order, modulo 2^64, about five
	// times a second. May be nil.
	Progress func(done uint64)
}

// A Result is the finished part of a task's range. It was checked against
// [kernels.AccountOf] outside of the executor.
type Result struct {
	OK        bool   // whether at least one seed was finished
	Last      uint64 // last seed of the finished part
	Account   kernels.Account
	Elapsed   time.Duration // from the order to the result
	Searching time.Duration // the executor's own time, without the preparation
}

// An Executor does one task after the other on one device. Its methods may be
// called at the same time; a second Run waits for the first.
type Executor interface {
	// Ready has the executor started, and its device tested: again though it has
	// passed before, when it gave reason to doubt it. Its errors are those of Run.
	Ready(ctx context.Context, again bool) error
	// Run does a task. Its errors are an [*Error], ctx's error, [ErrClosed], and
	// what the task's Emit returned; after any of them what was emitted is void. An
	// executor that died, or had to be killed, is started again by the next Run.
	Run(ctx context.Context, t Task) (Result, error)
	// StopAt shortens the task that runs: seeds above last do not count any more,
	// and a Result that comes after StopAt does not have them. A last that is not
	// in the range of the task, or above an earlier one, changes nothing.
	StopAt(last uint64)
	// Leave moves on until when a script job that runs may start tasks; the zero
	// time takes that away for good, which its Halted confirms: the task that runs
	// is its last.
	Leave(until time.Time)
	// Close ends the task that runs, and the executor, and returns when both are gone.
	Close() error
	// Pid is that of the executor process, or 0 when none runs.
	Pid() int
	// About is what the device said of itself when it was opened last.
	About() About
}

// About is an accelerator as its driver names it. It is zero before the device was opened,
// and for what is none.
type About struct {
	Driver string // how it names itself and what reaches it: model and versions
	PCI    string // where it is on the bus, such as 0000:03:00.0, or empty
	Memory uint64 // bytes, 0 where that is not known
}

// A Class tells apart what can go wrong with an executor; see [Error].
type Class string

// The classes of errors. After the first group the executor process is ended,
// and started again by the next Run; after the second it stays.
const (
	Died         Class = "executor died"          // its process ended
	Hung         Class = "executor hung"          // it was silent for too long, and was killed
	NotStarted   Class = "executor did not start" // it could not be started, or was not ready in time
	Protocol     Class = "protocol error"         // it sent what it should not
	WrongAccount Class = "wrong account"          // it did not visit exactly the seeds that it says
	WrongOrder   Class = "wrong order"            // its survivors are not in rising order, or not in the range
	Quarantined  Class = "slot quarantined"       // an earlier executor does not end

	BadTask     Class = "bad task"           // the spec, generator or range is refused
	Unsupported Class = "unsupported"        // the device cannot run this search
	Failed      Class = "search failed"      // the device reports a failure
	Stuck       Class = "slot stuck"         // processes of an earlier task do not die
	cancelled   Class = "search cancelled"   // the answer to a cancel; never seen by callers
	unknown     Class = "unknown error kind" // what an executor called a class of no known name
)

// An Error says why an executor has no result.
type Error struct {
	Slot    int
	Class   Class
	Message string
	Pid     int    // of the executor, 0 for none
	Status  string // how its process ended, such as "signal: killed", or empty
	Stderr  string // the last part of what it wrote there, at most 4 KiB
	Err     error  // the cause, or nil
}

func (e *Error) Error() string {
	text := fmt.Sprintf("slot %d: %s: %s", e.Slot, e.Class, e.Message)
	if e.Status != "" {
		text += " (" + e.Status + ")"
	}
	return text
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Remedy says what to do about it.
func (e *Error) Remedy() string {
	if cause := (interface{ Remedy() string })(nil); errors.As(e.Err, &cause) {
		return cause.Remedy()
	}
	switch e.Class {
	case Stuck:
		return "find what they wait for with: ps -eo pid,stat,wchan,cmd; if they do not end, restart the machine"
	case Quarantined:
		return "find the process that holds the slot's lock with fuser -v, and end it; if it does not end, restart the machine"
	case BadTask, Unsupported:
		return "see which devices run the generator with: seedmesh generators"
	case WrongAccount, WrongOrder, Protocol:
		return "the device gave wrong answers: check its driver and its memory, and take its slot out of cluster.toml until then"
	default:
		return "see the executor's last words in the node's log"
	}
}

// ErrClosed is returned by Run after Close, and by a Run that Close ended.
var ErrClosed = fmt.Errorf("slot: the executor is closed")
