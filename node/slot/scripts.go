package slot

import (
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"seedmesh/node/slot/slotpb"
	"seedmesh/scripts"
)

// Scripts makes a [Task] one of a script job: its range is one of task numbers.
// The executor runs them one after the other, and starts each only while it has
// leave to, which [Executor.Leave] moves on.
type Scripts struct {
	Spec    []byte // as [scripts.Spec.Encode] gives it
	List    string // path of the list of tasks, or of the items of an input, where the spec has one
	Batch   uint64 // items of one task at most, where the job splits an input
	Memory  uint64 // bytes that one task may use; 0 for no limit
	Attempt uint32 // number of these attempts, from 1
	Links   []scripts.Link
	Place   scripts.Place // without its group ...
	Group   string        // ... which has this name
	Leave   time.Time     // until when tasks may be started, at first

	// Ended gets the outcomes in the order of their tasks, with the paths of the
	// outputs relative to the place's base; the files are the caller's to take
	// away before it returns. What it returns ends the run.
	Ended func(scripts.Outcome, []string) error
	// Halted is called when the executor confirms that it starts no more tasks.
	Halted func()
}

// maxEndedBytes is how many bytes of outcomes an executor gathers before it sends them.
const maxEndedBytes = 64 << 10

// maxOutcome bounds one outcome on its way to the node, and those that travel with it, in bytes.
const maxOutcome = maxFrameBytes - maxEndedBytes

// cancelScripts is the wait for an answer to a cancel beyond the place's grace.
const cancelScripts = 10 * time.Second

// monotonic gives the system's monotonic clock, which all processes share, at a
// moment; 0 for the zero moment.
func monotonic(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return monotonicNow() + int64(time.Until(at))
}

func monotonicNow() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0 // no leave is given: it cannot fail
	}
	return now.Nano()
}

func scriptsCommand(id uint64, t Task) *slotpb.Command {
	s := t.Scripts
	m := &slotpb.Scripts{
		Id: id, Spec: s.Spec, List: s.List, First: t.Range.First, Last: t.Range.Last, Attempt: s.Attempt, Leave: monotonic(s.Leave), Memory: s.Memory, Batch: s.Batch,
		Place: &slotpb.Place{Base: s.Place.Base, Name: s.Place.Name, Uid: int64(s.Place.UID), Gid: int64(s.Place.GID), Env: s.Place.Env, Group: s.Group, Groups: s.Place.Groups, Hide: s.Place.Hide},
	}
	if s.Place.Installed != nil {
		m.Place.Directories = s.Place.Installed.Directories
	}
	for _, l := range s.Links {
		m.Links = append(m.Links, &slotpb.Link{Source: l.Source, Path: l.Path})
	}
	return &slotpb.Command{Kind: &slotpb.Command_Scripts{Scripts: m}}
}

func leaveCommand(id uint64, until int64) *slotpb.Command {
	return &slotpb.Command{Kind: &slotpb.Command_Leave{Leave: &slotpb.Leave{Id: id, Until: until}}}
}

func haltedReport(id uint64) *slotpb.Report {
	return &slotpb.Report{Kind: &slotpb.Report_Progress{Progress: &slotpb.Progress{Id: id, Halted: true}}}
}

// Leave moves on until when the script job that runs may start tasks; the zero
// time takes the leave away.
func (p *process) Leave(until time.Time) {
	p.mu.Lock()
	r := p.running
	p.mu.Unlock()
	if r != nil && r.scripts {
		r.leaveUntil(monotonic(until))
	}
}

// ended hands outcomes on. emitted is the error of the task's own function.
func (r *remote) ended(t Task, m *slotpb.Ended) (emitted, err error) {
	if t.Scripts == nil {
		return nil, &Error{Class: Protocol, Message: "outcomes of tasks in a search of seeds"}
	}
	for _, b := range m.Outcomes {
		var o scripts.Outcome
		if err := json.Unmarshal(b, &o); err != nil {
			return nil, &Error{Class: Protocol, Message: "an outcome cannot be read", Err: err}
		}
		if o.Task < t.Range.First || o.End() > t.Range.Last || r.some && o.Task <= r.prev {
			return nil, &Error{Class: WrongOrder, Message: fmt.Sprintf("the outcome of task %d in the range %s came after %d", o.Task, t.Range, r.prev)}
		}
		r.some, r.prev = true, o.End()
		if o.Class == scripts.Stuck { // nothing runs behind it
			r.early.Store(true)
		}
		if o.End() > r.stop.Load() {
			continue // it was not wanted any more; the next claim empties its directory
		}
		files := make([]string, len(o.Outputs))
		for k := range files {
			files[k] = scripts.OutputPath(t.Scripts.Place.Name, o.Task, k)
		}
		if emitted == nil {
			emitted = t.Scripts.Ended(o, files)
		}
	}
	return emitted, nil
}
