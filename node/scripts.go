package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/blob"
	"seedmesh/scripts"
)

// MissingBlobs says which blobs this node does not have.
func (s *service) MissingBlobs(_ context.Context, r *connect.Request[v1.MissingBlobsRequest]) (*connect.Response[v1.MissingBlobsReply], error) {
	reply := &v1.MissingBlobsReply{}
	for _, text := range r.Msg.Digests {
		d, err := blob.ParseDigest(text)
		if err != nil {
			return nil, apiError(invalid("%v", err))
		}
		has, err := s.n.store.Has(d)
		if err != nil {
			return nil, apiError(err)
		}
		if !has {
			reply.Digests = append(reply.Digests, text)
		}
	}
	return connect.NewResponse(reply), nil
}

// PutBlob takes an input of a script job.
func (s *service) PutBlob(_ context.Context, in *connect.ClientStream[v1.PutBlobRequest]) (*connect.Response[v1.PutBlobReply], error) {
	if !in.Receive() {
		return nil, apiError(errors.Join(invalid("a blob begins with its digest"), in.Err()))
	}
	d, err := blob.ParseDigest(in.Msg().Digest)
	if err != nil {
		return nil, apiError(invalid("%v", err))
	}
	if in.Msg().Bytes > blob.MaxBlobBytes {
		return nil, apiError(&api.Error{
			Code: connect.CodeResourceExhausted, What: fmt.Sprintf("an input has %d bytes, the limit is %d", in.Msg().Bytes, blob.MaxBlobBytes),
			Remedy: "split it, or have it on the nodes and name it by its path",
		})
	}
	if err := s.n.store.Put(&messageReader{in: in, rest: in.Msg().Data}, d, int64(in.Msg().Bytes)); err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(&v1.PutBlobReply{}), nil
}

// messageReader reads the data of a stream of messages.
type messageReader struct {
	in   *connect.ClientStream[v1.PutBlobRequest]
	rest []byte
}

func (m *messageReader) Read(b []byte) (int, error) {
	for len(m.rest) == 0 {
		if !m.in.Receive() {
			if err := m.in.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		m.rest = m.in.Msg().Data
	}
	n := copy(b, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// SubmitScripts adds a script job.
func (s *service) SubmitScripts(ctx context.Context, r *connect.Request[v1.SubmitScriptsRequest]) (*connect.Response[v1.SubmitReply], error) {
	spec, err := scripts.Decode(r.Msg.Spec)
	if err != nil {
		return nil, apiError(err)
	}
	job, err := s.submitScripts(ctx, spec, r.Msg)
	if err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(&v1.SubmitReply{Job: job.String()}), nil
}

// submitScripts has the inputs on as many disks as a result needs, and proposes
// the job.
func (s *service) submitScripts(ctx context.Context, spec *scripts.Spec, m *v1.SubmitScriptsRequest) (jobs.JobID, error) {
	if err := s.anyTakesTasks(); err != nil {
		return 0, err
	}
	asked := sha256.Sum256(fmt.Appendf(nil, "%x %q %d %d %d %d %v%s", m.Spec, m.Name, m.Priority, m.ChunkTimeMs, m.Attempts, m.MaxParallel, followed(m.After), selected(m.Nodes)))
	terms, err := s.terms(spec, m)
	if err != nil {
		return 0, err
	}
	var holders []jobs.NodeID
	for _, d := range blobsOf(spec) {
		s.n.pinned.add(d)
		defer s.n.pinned.remove(d)
		if has, err := s.n.store.Has(d); err != nil || !has {
			return 0, errors.Join(&api.Error{Code: connect.CodeFailedPrecondition, What: fmt.Sprintf("the input %s was not sent to this node", d), Remedy: "submit again"}, err)
		}
		for _, h := range s.n.replicate(ctx, d, []jobs.NodeID{s.n.id}) {
			if !slices.Contains(holders, h) {
				holders = append(holders, h)
			}
		}
	}
	if err := s.scriptsAllowed(ctx, spec); err != nil {
		return 0, err
	}
	spec.Holders = nil
	for _, h := range holders[:min(len(holders), scripts.MaxHolders)] {
		spec.Holders = append(spec.Holders, h.String())
	}
	encoded, err := spec.Encode()
	if err != nil {
		return 0, err
	}
	submit := jobs.Submit{
		Key: m.Key, RequestDigest: asked, Name: m.Name, Kind: jobs.Tasks, Spec: encoded,
		Stages: []jobs.StageSpec{{
			Label: bounded(spec.Label(), jobs.MaxTextBytes), Range: jobs.Range{First: 0, Last: spec.Count() - 1}, Grain: 1, Shape: scriptShape(spec),
		}},
		Priority: m.Priority, ChunkTimeMS: m.ChunkTimeMs, Attempts: m.Attempts, Submitter: m.Submitter,
	}
	return s.submit(ctx, &submit, func() jobs.Command {
		tasks := jobs.SubmitTasks{Submit: submit, Terms: terms}
		if len(spec.Preloads) > 0 {
			return &jobs.SubmitRequiring{SubmitTasks: tasks, Preloads: spec.Preloads}
		}
		return &tasks
	})
}

// terms are what a job asks for beside its tasks. Selectors that suit no slot of
// the mesh are refused: they are mistakes.
func (s *service) terms(spec *scripts.Spec, m *v1.SubmitScriptsRequest) (t jobs.Terms, err error) {
	t = jobs.Terms{MaxParallel: m.MaxParallel, Nodes: m.Nodes, MemoryMiB: (spec.Memory + 1<<20 - 1) >> 20}
	if spec.List != nil {
		t.Ready = spec.List.Ready
	}
	if t.After, err = s.follows(m.After); err != nil {
		return t, err
	}
	if len(t.Nodes) > jobs.MaxSelectors {
		return t, invalid("a job has %d selectors at most, not %d", jobs.MaxSelectors, len(t.Nodes))
	}
	for _, selector := range t.Nodes {
		one, suits := jobs.Terms{Nodes: []string{selector}}, false
		s.n.log.View(func(st *jobs.State) {
			for _, n := range st.Nodes() {
				suits = suits || slices.ContainsFunc(n.Slots, func(sl *jobs.Slot) bool { return sl.TakesTasks() && one.Suits(n, sl) })
			}
		})
		if !suits || len(selector) > jobs.MaxTextBytes {
			return t, &api.Error{
				Code: connect.CodeFailedPrecondition, What: fmt.Sprintf("no slot of this mesh suits --node %.80q", selector),
				Remedy: "write the name of a node, label:WORD or vendor:WORD as seedmesh nodes --json shows them, and commas between what must all hold",
			}
		}
	}
	return t, s.fits(&t)
}

// selected writes selectors down.
func selected(list []string) (text string) {
	for _, selector := range list {
		text += fmt.Sprintf(" %q", selector)
	}
	return text
}

// followed writes down what a job is to follow.
func followed(list []*v1.Follows) (text string) {
	for _, f := range list {
		text += fmt.Sprintf("%q:%t ", f.Job, f.Any)
	}
	return text
}

// follows finds the jobs that one is to follow.
func (s *service) follows(list []*v1.Follows) (after []jobs.Dependency, err error) {
	s.n.log.View(func(st *jobs.State) {
		for _, f := range list {
			var j *jobs.Job
			if j, err = findJob(st, f.Job); err != nil {
				return
			}
			after = append(after, jobs.Dependency{Job: j.ID, Any: f.Any})
		}
	})
	return after, err
}

// submit proposes a job under an id of its own; command is what carries it.
func (s *service) submit(ctx context.Context, c *jobs.Submit, command func() jobs.Command) (jobs.JobID, error) {
	if err := checkSizes(c); err != nil {
		return 0, err
	}
	if c.Key == "" {
		c.Key = hex.EncodeToString(randomBytes(16))
	}
	for {
		c.ID = jobs.JobID(newJobID())
		outcome, err := s.write(ctx, jobs.Request{Command: command()})
		if !errors.Is(err, &jobs.Refusal{Code: jobs.IDTaken}) {
			return outcome.Job, err
		}
	}
}

// scriptShape names tasks that take about the same time: those that run the same
// command, or come from the same list.
func scriptShape(spec *scripts.Spec) string {
	of := ""
	switch {
	case spec.List != nil:
		of = spec.List.Digest.String()
	case spec.Split != nil:
		of = fmt.Sprintf("%q %s %d", spec.Template.Argv, spec.Split.Digest, spec.Split.Size)
	default:
		of = fmt.Sprintf("%q", spec.Template.Argv)
	}
	h := sha256.Sum256([]byte(of))
	return "script/" + hex.EncodeToString(h[:6])
}

// anyTakesTasks refuses a script job when all slots of the mesh have said that they
// run none.
func (s *service) anyTakesTasks() error {
	known, willing := 0, uint32(0)
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			known += len(m.Slots)
			willing += scriptSlots(m)
		}
	})
	if willing > 0 || known == 0 {
		return nil
	}
	return &api.Error{
		Code: connect.CodeFailedPrecondition, What: "no node of this mesh runs script jobs: this one's scripts are " + s.n.site.isolation(),
		Remedy: "run nodes as root, or set [scripts] trusted = true in cluster.toml",
	}
}

func scriptSlots(m *jobs.Node) (n uint32) {
	for _, sl := range m.Slots {
		if sl.TakesTasks() {
			n++
		}
	}
	return n
}

// fits refuses tasks that need more memory than any node gives that their selectors
// suit, also when it is away now: like a selector that suits nothing, that is a mistake.
// A node that has not said what it gives may have enough.
func (s *service) fits(t *jobs.Terms) error {
	selected := jobs.Terms{Nodes: t.Nodes}
	most, on, known := uint64(0), "", true
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			for _, sl := range m.Slots {
				switch mib, said := sl.Memory(); {
				case !sl.TakesTasks() || !selected.Suits(m, sl):
				case !said:
					known = false
				case mib >= most:
					most, on = mib, m.Name
				}
			}
		}
	})
	if !known || on == "" || t.MemoryMiB <= most {
		return nil
	}
	return &api.Error{
		Code:   connect.CodeResourceExhausted,
		What:   fmt.Sprintf("a task is to have %d MiB of memory; the most that a node which suits gives to scripts is %d MiB, on %s", t.MemoryMiB, most, on),
		Remedy: "ask for less with --mem, or first add a node that has as much ([scripts] memory_mib in cluster.toml)",
	}
}

// maxJudged is how many tasks of a list are looked at before the job is taken; those
// behind are judged where they run.
const maxJudged = 10_000

// scriptsAllowed refuses a job whose tasks name scripts that were not sent along, by
// paths that cluster.toml does not allow. Where others run scripts too, each judges by
// its own configuration.
func (s *service) scriptsAllowed(ctx context.Context, spec *scripts.Spec) error {
	if s.othersTakeTasks() {
		return nil
	}
	judge := func(t scripts.Task) error {
		for _, path := range scripts.Names(t.Argv) {
			if !s.n.site.installed().Allows(path) {
				return &api.Error{
					Code: connect.CodeFailedPrecondition, What: fmt.Sprintf("task %q names %.200s, which was not sent along, and is in no directory that [scripts] directories allows", t.ID, path),
					Remedy: "name it by its path below this directory, so that it is sent along, or allow its directory in cluster.toml: [scripts] directories",
				}
			}
		}
		return nil
	}
	if spec.Template != nil {
		return judge(*spec.Template)
	}
	list, done, err := s.n.lists.use(ctx, s.n, spec)
	if err != nil {
		return err
	}
	for n := uint64(0); n < min(list.Count(), maxJudged) && err == nil; n++ {
		var t scripts.Task
		if t, err = list.Task(n); err == nil {
			err = judge(t)
		}
	}
	return errors.Join(err, done())
}

// othersTakeTasks tells whether a node besides this one has slots for tasks.
func (s *service) othersTakeTasks() (others bool) {
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			others = others || m.ID != s.n.id && scriptSlots(m) > 0
		}
	})
	return others
}

// scriptJob is what reading the tasks of a job needs, taken at one moment.
type scriptJob struct {
	jobCopy
	tasks *scripts.Spec
	list  *scripts.List
	close func() error
}

// openScripts copies a script job. Its list of tasks is fetched if there is one.
func (s *service) openScripts(ctx context.Context, selector string) (*scriptJob, error) {
	c, err := s.copyJob(ctx, selector)
	if err != nil {
		return nil, err
	}
	if c.kind != jobs.Tasks {
		return nil, &api.Error{Code: connect.CodeInvalidArgument, What: "job " + c.Id + " searches seeds: it has no tasks", Remedy: "see what it found with: seedmesh results " + c.Id}
	}
	j := &scriptJob{jobCopy: c, close: func() error { return nil }}
	if j.tasks, err = scripts.Decode(c.spec); err != nil || j.tasks.List == nil {
		return j, err
	}
	j.list, j.close, err = s.n.lists.use(ctx, s.n, j.tasks)
	return j, err
}

func (j *scriptJob) task(n uint64) (scripts.Task, error) {
	if j.list != nil {
		return j.list.Task(n)
	}
	return j.tasks.Task(n)
}

// name of a task: its id, or its number.
func (j *scriptJob) name(n uint64) string {
	if t, err := j.task(n); err == nil && t.ID != "" {
		return t.ID
	}
	return fmt.Sprint(n)
}

// find resolves the name of a task; #N is task number N from 0.
func (j *scriptJob) find(name string) (uint64, error) {
	if digits, ok := strings.CutPrefix(name, "#"); ok {
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil && n < j.tasks.Count() {
			return n, nil
		}
	}
	if n, ok := j.tasks.Number(name); ok {
		return n, nil
	}
	if j.list != nil {
		for n := range j.list.Count() {
			if j.name(n) == name {
				return n, nil
			}
		}
	}
	return 0, &api.Error{Code: connect.CodeNotFound, What: fmt.Sprintf("job %s has no task %q", j.Id, name), Remedy: "seedmesh task ls " + j.Id + " lists them"}
}

// outcomes reads the table of a segment, here or from a holder, until visit says
// that it has seen enough.
func (s *service) outcomes(ctx context.Context, d jobs.Digest, holders []jobs.NodeID, visit func(scripts.Outcome) bool) error {
	read := func(seg *blob.Segment) error {
		for o, err := range seg.All() {
			if err != nil {
				return err
			}
			if !visit(o) {
				return nil
			}
		}
		return nil
	}
	if has, err := s.n.store.Has(d); err != nil {
		return err
	} else if has {
		seg, err := s.n.store.Segment(d)
		if err != nil {
			return err
		}
		return errors.Join(read(seg.Segment), seg.Close())
	}
	err := fmt.Errorf("no node that holds the segment %s is there", d)
	for _, h := range holders {
		conn, dialErr := s.n.dial(ctx, kindBlob, h.String())
		if dialErr != nil {
			err = dialErr
			continue
		}
		err = blob.Get(ctx, conn, d, func(r io.Reader, _ int64) error {
			seg, err := blob.NewSegmentReader(r)
			if err != nil {
				return err
			}
			return read(seg)
		})
		if err = errors.Join(err, conn.Close()); err == nil {
			return nil
		}
	}
	return &api.Error{Code: connect.CodeUnavailable, What: fmt.Sprintf("the outcomes of tasks cannot be read: %v", err), Remedy: "start one of the nodes that hold them and try again: seedmesh nodes"}
}

// sendOutcomes streams the outcomes of the done tasks of a job as JSON Lines.
func (s *service) sendOutcomes(ctx context.Context, j jobCopy, out *connect.ServerStream[v1.ResultsChunk]) error {
	var buf bytes.Buffer
	var sent error
	for _, stage := range j.stages {
		for _, p := range stage.pieces {
			err := s.outcomes(ctx, p.Blob, p.Holders, func(o scripts.Outcome) bool {
				if o.Class != scripts.OK || o.Task < p.First || o.Task > p.Last {
					return true
				}
				sent = appendOutcome(&buf, o)
				if sent == nil && buf.Len() >= resultsChunk {
					sent = out.Send(&v1.ResultsChunk{Data: bytes.Clone(buf.Bytes())})
					buf.Reset()
				}
				return sent == nil
			})
			if err = errors.Join(err, sent); err != nil {
				return err
			}
		}
	}
	if buf.Len() == 0 {
		return nil
	}
	return out.Send(&v1.ResultsChunk{Data: buf.Bytes()})
}

// Outputs streams the files of the done tasks of a job.
func (s *service) Outputs(ctx context.Context, r *connect.Request[v1.OutputsRequest], out *connect.ServerStream[v1.OutputChunk]) error {
	if err := s.catchUp(ctx, r.Msg.Job, r.Msg.Partial); err != nil {
		return apiError(err)
	}
	j, err := s.openScripts(ctx, r.Msg.Job)
	if err != nil {
		return apiError(err)
	}
	err = j.mayRead(r.Msg.Partial)
	for _, stage := range j.stages {
		for _, p := range stage.pieces {
			if err == nil && p.Last >= r.Msg.First {
				err = s.sendOutputs(ctx, j, p, r.Msg.First, out)
			}
		}
	}
	return apiError(errors.Join(err, j.close()))
}

func (s *service) sendOutputs(ctx context.Context, j *scriptJob, p jobs.Piece, from uint64, out *connect.ServerStream[v1.OutputChunk]) error {
	if err := s.n.fetch(ctx, p.Blob, p.Holders); err != nil {
		return &api.Error{
			Code: connect.CodeUnavailable, What: fmt.Sprintf("the outputs of tasks %s cannot be read: %v", p.Range, err),
			Remedy: "start one of the nodes that hold them and try again: seedmesh nodes",
		}
	}
	seg, err := s.n.store.Segment(p.Blob)
	if err != nil {
		return err
	}
	defer func() { _ = seg.Close() }() // it was only read
	for o, err := range seg.All() {
		if err != nil {
			return err
		}
		if o.Class != scripts.OK || o.Task < max(p.First, from) || o.Task > p.Last {
			continue
		}
		task, err := j.task(o.Task)
		if err != nil {
			return err
		}
		if o.Captured != nil {
			h := sha256.Sum256(o.Captured)
			c := &v1.OutputChunk{Number: o.Task, Task: nameOfTask(o), Path: capturedName, Data: o.Captured, End: true, Joined: j.tasks.Split != nil, Digest: hex.EncodeToString(h[:])}
			if err := out.Send(c); err != nil {
				return err
			}
		}
		for _, f := range o.Outputs {
			c := &v1.OutputChunk{Number: o.Task, Task: nameOfTask(o), Path: f.Path, Executable: f.Exec, Joined: j.tasks.Split != nil}
			if k := slices.Index(task.Outputs, f.Path); k >= 0 {
				c.Own = true
				if k < len(task.As) {
					c.As = task.As[k]
				}
			}
			if err := sendFile(c, seg.Output(f), f, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// capturedName is the file name of what a task's standard output was taken for.
const capturedName = "stdout.json"

// sendFile sends one output in pieces, and checks its digest on the way.
func sendFile(c *v1.OutputChunk, r io.Reader, f scripts.Output, out *connect.ServerStream[v1.OutputChunk]) error {
	h := sha256.New()
	buf := make([]byte, resultsChunk)
	for {
		n, err := io.ReadFull(r, buf)
		h.Write(buf[:n])
		c.Data = buf[:n]
		if c.End = err != nil; c.End {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return err
			}
			if scripts.Digest(h.Sum(nil)) != f.Digest {
				return fmt.Errorf("this node's copy of the output %s of task %s is damaged", f.Path, c.Task)
			}
			c.Digest = f.Digest.String()
		}
		if err := out.Send(c); err != nil || c.End {
			return err
		}
	}
}
