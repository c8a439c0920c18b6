package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"seedmesh/consensus"
	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
)

// Jobs lists the jobs.
func (s *service) Jobs(ctx context.Context, r *connect.Request[v1.JobsRequest]) (*connect.Response[v1.JobsReply], error) {
	if err := s.sync(ctx, r.Msg.Linearizable); err != nil {
		return nil, apiError(err)
	}
	reply := &v1.JobsReply{}
	working, now := s.n.session.view().Working, s.n.log.LogTime()
	reply.Index = s.n.log.View(func(st *jobs.State) {
		for _, j := range st.Jobs() {
			if r.Msg.All || !j.State.Terminal() || now-j.FinishedAt < recentMS {
				reply.Jobs = append(reply.Jobs, jobInfo(st, j, working, now))
			}
		}
	})
	return connect.NewResponse(reply), nil
}

// recentMS is how long an ended job is listed without -a.
const recentMS = 24 * 3600 * 1000

// Job looks at one job, or waits for its end.
func (s *service) Job(ctx context.Context, r *connect.Request[v1.JobRequest]) (*connect.Response[v1.JobInfo], error) {
	if err := s.sync(ctx, r.Msg.Linearizable); err != nil {
		return nil, apiError(err)
	}
	until := time.Now().Add(min(time.Duration(r.Msg.WaitMs)*time.Millisecond, maxWait))
	if _, err := s.lookup(ctx, r.Msg.Job); err != nil {
		return nil, apiError(err)
	}
	for {
		info, ended, err := s.jobInfo(r.Msg.Job)
		if err != nil {
			return nil, apiError(err)
		}
		left := time.Until(until)
		if ended || left <= 0 {
			return connect.NewResponse(info), nil
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-s.n.ctx.Done():
			timer.Stop()
			return nil, apiError(consensus.ErrClosed)
		case <-s.n.log.Watch(info.Index):
			timer.Stop()
		case <-timer.C:
		}
	}
}

// lookup finds a job here, or, as this node may lag behind the one that took the
// submit, in what the leader had by now.
func (s *service) lookup(ctx context.Context, selector string) (*v1.JobInfo, error) {
	info, _, err := s.jobInfo(selector)
	if err == nil && selector != "last" {
		return info, nil
	}
	if synced := s.sync(ctx, true); synced != nil {
		if err == nil { // "last" without a quorum: the last that is known here
			return info, nil
		}
		return nil, synced // whether there is such a job, this node cannot tell
	}
	info, _, err = s.jobInfo(selector)
	return info, err
}

func (s *service) jobInfo(selector string) (info *v1.JobInfo, ended bool, err error) {
	working, now := s.n.session.view().Working, s.n.log.LogTime()
	index := s.n.log.View(func(st *jobs.State) {
		var j *jobs.Job
		if j, err = findJob(st, selector); err == nil {
			info, ended = jobInfo(st, j, working, now), j.State.Terminal()
		}
	})
	if info != nil {
		info.Index = index
	}
	return info, ended, err
}

// findJob resolves a selector: an id, the beginning of exactly one id, a name, which is
// that of the newest job of it, or "last".
func findJob(st *jobs.State, selector string) (*jobs.Job, error) {
	all := st.Jobs()
	if selector == "last" && len(all) > 0 {
		return all[len(all)-1], nil
	}
	var named, begun []*jobs.Job
	for _, j := range all {
		switch {
		case j.ID.String() == selector:
			return j, nil
		case j.Name == selector && selector != "":
			named = append(named, j)
		case len(selector) >= 2 && strings.HasPrefix(j.ID.String(), selector):
			begun = append(begun, j)
		}
	}
	found := named
	if len(found) == 0 {
		found = begun
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(named) > 1:
		return named[len(named)-1], nil // the latest of that name
	case len(found) > 1:
		return nil, invalid("%q is the beginning of %d job ids: give more digits", selector, len(found))
	}
	return nil, &api.Error{Code: connect.CodeNotFound, What: fmt.Sprintf("there is no job %q", selector), Remedy: "seedmesh jobs -a lists all jobs"}
}

// target is lookup for a change, of jobs that have ended or of others: of several jobs
// with one name it takes the only one that can be changed so, and refuses to choose.
func (s *service) target(ctx context.Context, selector string, ended bool) (*v1.JobInfo, error) {
	info, err := s.lookup(ctx, selector)
	if err != nil || info.Name != selector || info.Id == selector || selector == "last" {
		return info, err
	}
	var able []string
	s.n.log.View(func(st *jobs.State) { able = namesakes(st, selector, ended) })
	switch {
	case len(able) > 1:
		return nil, &api.Error{
			Code: connect.CodeInvalidArgument, What: fmt.Sprintf("%d jobs have the name %q", len(able), selector),
			Remedy: "name one by its id: " + strings.Join(able[max(0, len(able)-maxNamesakes):], ", "),
		}
	case len(able) == 1:
		return s.lookup(ctx, able[0])
	}
	return info, nil
}

// maxNamesakes is how many jobs of one name a refusal lists, the newest.
const maxNamesakes = 8

// namesakes are the ids of the jobs of a name that have ended, or that have not.
func namesakes(st *jobs.State, name string, ended bool) (ids []string) {
	for _, j := range st.Jobs() {
		if j.Name == name && j.State.Terminal() == ended {
			ids = append(ids, j.ID.String())
		}
	}
	return ids
}

// jobInfo is a job as it stands: what is committed, and what is under way.
func jobInfo(st *jobs.State, j *jobs.Job, working []jobProgress, now jobs.Instant) *v1.JobInfo {
	p := st.Progress(j)
	info := &v1.JobInfo{
		Id: j.ID.String(), Name: j.Name, Kind: j.Kind.String(), State: j.State.String(), Total: p.Total.String(),
		Survivors: fmt.Sprint(j.Survivors), ExpectedByChance: j.Expected, Failures: j.Failures, Retries: retries(j),
		Priority: j.Priority, Pieces: j.Pieces, Reclaimed: j.Reclaimed, UnderReplicated: p.UnderReplicated, Lost: p.Lost,
		Failed: p.Failed.String(), LastError: j.LastError, Records: uint64(p.Records), EtaSeconds: -1,
		BusySeconds: float64(j.Busy) / 1000, Generator: generators(j),
	}
	done := p.Done
	for _, w := range working {
		if w.Job == j.ID && !j.State.Terminal() {
			done = done.Add(jobs.Count{Lo: w.Done})
			info.Rate, info.Slots = float64(w.Rate), w.Slots
		}
	}
	if done.Float() > p.Total.Float() {
		done = p.Total
	}
	info.Done = done.String()
	if info.Rate > 0 {
		info.EtaSeconds = (p.Total.Float() - done.Float()) / info.Rate
		info.StepsRate = info.Rate * stepsPerSeed(j)
	}
	if info.Slots == 0 {
		info.Waits = waits(st, j)
	}
	if j.StartedAt > 0 {
		end := now
		if j.State.Terminal() {
			end = j.FinishedAt
			info.EtaSeconds = 0
		}
		info.ElapsedSeconds = float64(max(end-j.StartedAt, 0)) / 1000
	}
	if info.Type = typeOf(j); info.Type != kernels.TypeAnalysis && info.Type != kernels.TypeCorrelation || j.Expected < p.Total.Float() {
		info.Warning = chanceWarning(j.Expected*done.Float()/max(p.Total.Float(), 1), j.Survivors)
	}
	return info
}

// typeOf is a job's type in the original system's words.
func typeOf(j *jobs.Job) string {
	if j.Kind == jobs.Tasks {
		return "script"
	}
	return searchType(j.Spec)
}

// retries is how often a failed piece was, or will be, tried again.
func retries(j *jobs.Job) uint64 {
	given := uint64(0)
	for _, st := range j.Stages {
		for _, f := range st.Failed {
			if f.Attempts > 0 { // else it was set aside with another
				given++
			}
		}
	}
	return j.Failures - min(given, j.Failures)
}

func generators(j *jobs.Job) string {
	var names []string
	for _, st := range j.Stages {
		names = append(names, st.Label)
	}
	return strings.Join(names, ",")
}

func stepsPerSeed(j *jobs.Job) float64 {
	spec, err := kernels.DecodeSpec(j.Spec)
	if err != nil {
		return 0
	}
	search, err := spec.Compile(j.Stages[0].Label)
	if err != nil {
		return 0
	}
	return float64(search.StepsPerSeed())
}

// Control changes a job's course. A cancel or pause is answered when no node can
// start an attempt that it forbids.
func (s *service) Control(ctx context.Context, r *connect.Request[v1.ControlRequest]) (*connect.Response[v1.JobInfo], error) {
	actions := map[string]jobs.Action{
		"cancel": jobs.Cancel, "pause": jobs.Pause, "resume": jobs.Resume, "priority": jobs.SetPriority, "remove": jobs.Remove,
	}
	if r.Msg.Action == "retry" {
		return s.controlRetry(ctx, r.Msg)
	}
	action, known := actions[r.Msg.Action]
	if !known {
		return nil, apiError(invalid("there is no action %q: cancel, pause, resume, priority, remove or retry", r.Msg.Action))
	}
	request := jobs.Request{}
	var err error
	if request.ID, err = requestOf(r.Msg.Request); err != nil {
		return nil, apiError(err)
	}
	before, err := s.target(ctx, r.Msg.Job, action == jobs.Remove)
	if err != nil {
		return nil, apiError(err)
	}
	id, err := jobs.ParseJobID(before.Id)
	if err != nil {
		return nil, apiError(err)
	}
	request.Command = &jobs.Control{Job: id, Action: action, Priority: r.Msg.Priority}
	index, err := s.control(ctx, request)
	if err != nil {
		return nil, apiError(err)
	}
	if action == jobs.Cancel || action == jobs.Pause {
		if err := s.quiet(ctx, index); err != nil {
			return nil, apiError(err)
		}
	}
	if action == jobs.Remove {
		return connect.NewResponse(before), nil
	}
	after, _, err := s.jobInfo(before.Id)
	if err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(after), nil
}

// requestOf reads the id under which a request may be repeated; none is zero.
func requestOf(b []byte) (id [16]byte, err error) {
	if len(b) > 0 && (len(b) != len(id) || copy(id[:], b) != len(id)) {
		err = invalid("a request id has %d bytes, not %d", len(id), len(b))
	}
	return id, err
}

// control proposes a command and waits until this node shows it.
func (s *service) control(ctx context.Context, r jobs.Request) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	outcome, index, err := s.n.log.Propose(ctx, r)
	if err = errors.Join(err, outcome.Err()); err != nil {
		return 0, err
	}
	return index, s.n.log.WaitApplied(ctx, index)
}

// quiet waits until no node can start an attempt that the index forbids.
func (s *service) quiet(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	for s.n.session.view().Quiet < index {
		if !pause(ctx, 20*time.Millisecond) {
			return &api.Error{
				Code: connect.CodeUnavailable, What: "the change is in the log, but not every node has confirmed it",
				Remedy: "repeat the command to wait for the confirmation: it is safe",
			}
		}
	}
	return nil
}
