package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/scripts"
)

// Limits of one answer of [service.Tasks]; what follows is asked for again.
const (
	maxTaskList      = 1000
	maxTaskListBytes = 1 << 20 // about, of outputs; one task is always listed whole
	outputBytesAbout = 96      // of one output beside its path
)

// span is a run of tasks in one state.
type span struct {
	jobs.Range
	state    string
	failures uint32
	class    string
	message  string
	slot     jobs.SlotID
	piece    jobs.Piece
}

// spans lists the tasks of a stage by their states, in order.
func spans(st *jobs.Stage) []span {
	var all []span
	for _, p := range st.Pieces() {
		all = append(all, span{Range: p.Range, state: "done", piece: p})
	}
	for _, f := range st.Failed {
		all = append(all, span{Range: f.Range, state: "failed", failures: f.Attempts, class: f.Class, message: f.Message})
	}
	for _, c := range st.Held() {
		all = append(all, span{Range: c.Range, state: "running", failures: c.Attempts, slot: c.Slot})
	}
	for _, o := range st.Open {
		state := "open"
		switch {
		case o.Blocked():
			state = "blocked"
		case o.Attempts > 0:
			state = "waiting"
		}
		all = append(all, span{Range: o.Range, state: state, failures: o.Attempts})
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.First, b.First) })
	return all
}

// Tasks lists tasks of a script job.
func (s *service) Tasks(ctx context.Context, r *connect.Request[v1.TasksRequest]) (*connect.Response[v1.TasksReply], error) {
	if states := []string{"", "open", "blocked", "waiting", "running", "done", "failed"}; !slices.Contains(states, r.Msg.State) {
		return nil, apiError(&api.Error{
			Code: connect.CodeInvalidArgument, What: fmt.Sprintf("tasks have no state %q", r.Msg.State), Remedy: "use --state open, blocked, waiting, running, done or failed",
		})
	}
	j, err := s.openScripts(ctx, r.Msg.Job)
	if err != nil {
		return nil, apiError(err)
	}
	limit := int(cmp.Or(min(r.Msg.Limit, maxTaskList), maxTaskList))
	reply := &v1.TasksReply{}
	room := maxTaskListBytes
	for _, sp := range j.spans {
		if sp.Last < r.Msg.First || r.Msg.State != "" && sp.state != r.Msg.State {
			continue
		}
		if len(reply.Tasks) == limit || room <= 0 {
			reply.Next = sp.First
			break
		}
		sp.First = max(sp.First, r.Msg.First)
		if more := uint64(limit - len(reply.Tasks)); sp.Last-sp.First >= more {
			reply.Next = sp.First + more
			sp.Last = reply.Next - 1
		}
		if err = s.listSpan(ctx, j, sp, reply, &room); err != nil || reply.Next > 0 {
			break
		}
	}
	if err = errors.Join(err, j.close()); err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(reply), nil
}

// listSpan adds the tasks of a span to a list, as long as there is room.
func (s *service) listSpan(ctx context.Context, j *scriptJob, sp span, reply *v1.TasksReply, room *int) error {
	if sp.state == "done" {
		return s.outcomes(ctx, sp.piece.Blob, sp.piece.Holders, func(o scripts.Outcome) bool {
			if o.Class == scripts.OK && sp.Contains(jobs.Range{First: o.Task, Last: o.End()}) {
				if *room <= 0 {
					reply.Next = o.Task
					return false
				}
				reply.Tasks = append(reply.Tasks, doneTask(o))
				for _, f := range o.Outputs {
					*room -= len(f.Path) + outputBytesAbout
				}
			}
			return o.Task <= sp.Last
		})
	}
	for n := sp.First; ; n++ {
		number := n
		name := j.nameOf(&n, sp.Last)
		info := &v1.TaskInfo{Number: number, Task: name, State: sp.state, Failures: sp.failures, Class: sp.class, Message: sp.message}
		if sp.state == "running" {
			info.Node, info.Slot = s.n.nameOf(sp.slot.Node), sp.slot.Index
		}
		reply.Tasks = append(reply.Tasks, info)
		if n == sp.Last {
			return nil
		}
	}
}

// nameOf is the name of a task that is listed. Where the items of an input become
// tasks as they are worked on, those up to last are listed as one.
func (j *scriptJob) nameOf(n *uint64, last uint64) string {
	if j.tasks.Whole() {
		return j.name(*n)
	}
	first := *n
	*n = last
	return (&scripts.Part{Split: j.tasks.Split, First: first, Last: last}).Name()
}

func doneTask(o scripts.Outcome) *v1.TaskInfo {
	info := &v1.TaskInfo{
		Number: o.Task, Task: nameOfTask(o), State: "done", Failures: o.Attempt - 1, Class: string(o.Class), Message: o.Message,
		Node: o.Node, Slot: o.Slot, Seconds: o.Took.Seconds(), PeakRss: o.PeakRSS,
	}
	for _, f := range o.Outputs {
		info.Outputs = append(info.Outputs, &v1.OutputInfo{Path: f.Path, Bytes: uint64(f.Bytes), Digest: f.Digest.String()})
	}
	return info
}

// Task looks at one task and what its attempts wrote.
func (s *service) Task(ctx context.Context, r *connect.Request[v1.TaskRequest]) (*connect.Response[v1.TaskReply], error) {
	j, err := s.openScripts(ctx, r.Msg.Job)
	if err != nil {
		return nil, apiError(err)
	}
	reply, err := s.task(ctx, j, r.Msg)
	if err = errors.Join(err, j.close()); err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(reply), nil
}

func (s *service) task(ctx context.Context, j *scriptJob, m *v1.TaskRequest) (*v1.TaskReply, error) {
	number, err := j.find(m.Task)
	if err != nil {
		return nil, err
	}
	var t jobs.TaskState
	var id jobs.JobID
	s.n.log.View(func(st *jobs.State) {
		var job *jobs.Job
		if job, err = findJob(st, j.Id); err == nil {
			id = job.ID
			t, _ = st.Task(job, number)
		}
	})
	if err != nil {
		return nil, err
	}
	reply := &v1.TaskReply{Ended: j.ended, Task: &v1.TaskInfo{
		Number: number, Task: j.name(number), State: t.State, Failures: t.Attempts, Class: t.Class, Message: t.Message,
	}}
	if reply.Live, err = s.live(ctx, id, number, t, m.Follow); err != nil {
		return nil, err
	}
	if t.State == "running" {
		reply.Task.Node, reply.Task.Slot = s.n.nameOf(t.Slot.Node), t.Slot.Index
	}
	seen := map[jobs.Digest]bool{}
	for _, segment := range t.Segments {
		if seen[segment.Blob] {
			continue
		}
		seen[segment.Blob] = true
		err := s.outcomes(ctx, segment.Blob, segment.Holders, func(o scripts.Outcome) bool {
			if o.Task <= number && number <= o.End() {
				reply.Attempts = append(reply.Attempts, attemptInfo(o))
				if o.Class == scripts.OK {
					reply.Task = doneTask(o)
				}
			}
			return o.Task <= number
		})
		if err != nil {
			s.n.cfg.Logger.Debug("an attempt's words cannot be read", "job", j.Id, "task", number, "err", err)
		}
	}
	return reply, nil
}

func attemptInfo(o scripts.Outcome) *v1.AttemptInfo {
	words := func(w scripts.Words) *v1.WordsInfo { return &v1.WordsInfo{Head: w.Head, Tail: w.Tail, Total: w.Total} }
	return &v1.AttemptInfo{
		Attempt: o.Attempt, Class: string(o.Class), Status: int32(o.Status), Signal: o.Signal, Message: o.Message, Node: o.Node, Slot: o.Slot,
		Started: startOf(o.Started), Seconds: o.Took.Seconds(), CpuSeconds: o.CPU.Seconds(), PeakRss: o.PeakRSS,
		Stdout: words(o.Stdout), Stderr: words(o.Stderr),
	}
}

// result is a done task in the results of a script job.
type result struct {
	Task     string          `json:"task"`
	Number   uint64          `json:"number"`
	Status   int             `json:"status"`
	Attempt  uint32          `json:"attempt"`
	Node     string          `json:"node"`
	Seconds  float64         `json:"seconds"`
	PeakRSS  uint64          `json:"peak_rss"`
	Captured json.RawMessage `json:"stdout,omitempty"` // the JSON object that was taken
	Outputs  []resultFile    `json:"outputs"`
}

type resultFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Digest string `json:"digest"`
}

// appendOutcome adds a done task's line.
func appendOutcome(buf *bytes.Buffer, o scripts.Outcome) error {
	line := result{
		Task: nameOfTask(o), Number: o.Task, Status: o.Status, Attempt: o.Attempt, Node: o.Node, Seconds: o.Took.Seconds(), PeakRSS: o.PeakRSS,
		Captured: o.Captured, Outputs: []resultFile{},
	}
	for _, f := range o.Outputs {
		line.Outputs = append(line.Outputs, resultFile{f.Path, f.Bytes, f.Digest.String()})
	}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	buf.Write(append(b, '\n'))
	return nil
}

// retry submits the failed tasks of a job that has ended as a new one.
func (s *service) retry(ctx context.Context, selector string, key string) (jobs.JobID, error) {
	if err := s.catchUp(ctx, selector, false); err != nil {
		return 0, err
	}
	j, err := s.openScripts(ctx, selector)
	if err != nil {
		return 0, err
	}
	spec := *j.tasks
	if spec.Holders = nil; spec.Split != nil {
		err = s.failedItems(ctx, j, &spec)
	} else {
		err = s.failedList(j, &spec)
	}
	if err = errors.Join(err, j.close()); err != nil {
		return 0, err
	}
	for _, in := range spec.Inputs { // this node has to have them to give them away
		if err := s.n.fetch(ctx, jobs.Digest(in.Digest), s.n.site.sources(j.tasks)); err != nil {
			return 0, err
		}
	}
	encoded, err := spec.Encode()
	if err != nil {
		return 0, err
	}
	name := j.Name
	if name == "" {
		name = "retry of " + j.Id
	}
	return s.submitScripts(ctx, &spec, &v1.SubmitScriptsRequest{
		Spec: encoded, Name: name, Key: key, Priority: j.Priority, Attempts: j.attempts, ChunkTimeMs: j.chunkTimeMS, MaxParallel: j.maxParallel,
	})
}

// failedList makes a list of the tasks that are not done.
func (s *service) failedList(j *scriptJob, spec *scripts.Spec) error {
	list, err := j.failedTasks()
	if err != nil {
		return err
	}
	d, size, err := s.spool(func(w io.Writer) error { return scripts.WriteList(w, list) })
	spec.Template, spec.Axes = nil, nil
	spec.List = &scripts.Listing{Digest: scripts.Digest(d), Tasks: uint64(len(list)), Bytes: size, Ready: scripts.Ready(list)}
	return err
}

// failedItems makes an input of the items that are not done.
func (s *service) failedItems(ctx context.Context, j *scriptJob, spec *scripts.Spec) error {
	left, err := j.failedSpans()
	if err != nil {
		return err
	}
	split := *spec.Split
	if err := s.n.fetch(ctx, jobs.Digest(split.Digest), s.n.site.sources(j.tasks)); err != nil {
		return err
	}
	f, _, err := s.n.store.Open(jobs.Digest(split.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	all, err := scripts.OpenItems(f.(io.ReaderAt))
	if err != nil {
		return err
	}
	var header []byte
	var items [][]byte
	for _, sp := range left {
		h, some, err := all.Read(split.ItemsOf(sp.First, sp.Last))
		if err != nil {
			return err
		}
		header, items = h, append(items, some...)
	}
	d, size, err := s.spool(func(w io.Writer) error { return scripts.WriteItems(w, header, items) })
	split.Digest, split.Bytes, split.Items = scripts.Digest(d), size, uint64(len(items))
	spec.Split = &split
	return err
}

// spool stores a blob that is written here.
func (s *service) spool(write func(io.Writer) error) (d jobs.Digest, size int64, err error) {
	spool, err := s.n.store.Create()
	if err != nil {
		return d, 0, err
	}
	if err := write(spool); err != nil {
		return d, 0, errors.Join(err, spool.Abort())
	}
	return spool.Commit()
}

func (s *service) controlRetry(ctx context.Context, m *v1.ControlRequest) (*connect.Response[v1.JobInfo], error) {
	id, err := s.retry(ctx, m.Job, hex.EncodeToString(m.Request))
	if err != nil {
		return nil, apiError(err)
	}
	info, err := s.lookup(ctx, id.String())
	if err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(info), nil
}

// maxRetried bounds the tasks of a job that is retried: they are listed in memory.
const maxRetried = 1 << 20

// failedSpans are the tasks that are not done, which are not too many.
func (j *scriptJob) failedSpans() ([]span, error) {
	if !j.ended {
		return nil, &api.Error{Code: connect.CodeFailedPrecondition, What: fmt.Sprintf("job %s is %s", j.Id, j.State), Remedy: "wait with: seedmesh job wait " + j.Id}
	}
	left := slices.DeleteFunc(slices.Clone(j.spans), func(sp span) bool { return sp.state == "done" })
	count := uint64(0)
	for _, sp := range left {
		count += sp.Last - sp.First + 1
	}
	switch {
	case count == 0:
		return nil, &api.Error{Code: connect.CodeFailedPrecondition, What: "job " + j.Id + " has no failed tasks", Remedy: "nothing is left to do"}
	case count > maxRetried:
		return nil, &api.Error{
			Code: connect.CodeResourceExhausted, What: fmt.Sprintf("%d tasks of job %s are not done, the limit is %d", count, j.Id, maxRetried),
			Remedy: "submit it again, for the range that is wanted",
		}
	}
	return left, nil
}

// failedTasks lists them, in their order.
func (j *scriptJob) failedTasks() ([]scripts.Task, error) {
	left, err := j.failedSpans()
	if err != nil {
		return nil, err
	}
	var list []scripts.Task
	var numbers []uint64
	for _, sp := range left {
		for n := sp.First; n <= sp.Last; n++ {
			t, err := j.task(n)
			if err != nil {
				return nil, err
			}
			if t.ID == "" {
				t.ID = fmt.Sprint(n)
			}
			list = append(list, t)
			numbers = append(numbers, n)
		}
	}
	keepNeeds(list, numbers)
	return list, nil
}

// keepNeeds makes tasks need those of the others that are in the list too, by their
// places there; numbers are those that they had.
func keepNeeds(list []scripts.Task, numbers []uint64) {
	kept := func(needs []uint64) (places []uint64) {
		for _, n := range needs {
			if k, found := slices.BinarySearch(numbers, n); found {
				places = append(places, uint64(k))
			}
		}
		return places
	}
	for i := range list {
		list[i].Needs, list[i].NeedsAny = kept(list[i].Needs), kept(list[i].NeedsAny)
	}
}
