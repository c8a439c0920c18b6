package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"seedmesh/consensus"
	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/scripts"
	"seedmesh/transport"
)

// service is the node's API.
type service struct{ n *Node }

const (
	writeTimeout = 10 * time.Second // of a command that a user waits for
	quietTimeout = 10 * time.Second // for all nodes to heed a cancel or a pause
	maxWait      = 30 * time.Second // of one waiting call
	endOfSpace   = 1<<64 - 1
)

// API is what the node answers on its socket and its port.
func (n *Node) API() meshv1connect.MeshHandler { return &service{n} }

func (n *Node) openAPI() error {
	h := api.Handler(n.API())
	if err := n.ep.ServeHTTP3(h); err != nil {
		return err
	}
	if n.cfg.Seams.NoSocket {
		return nil
	}
	server, err := api.Listen(n.dir.path, h, n.site != nil && n.site.hides)
	if err != nil {
		return err
	}
	n.later(server.Close)
	return nil
}

// apiError words what went wrong for whoever called.
func apiError(err error) error {
	var refusal *jobs.Refusal
	var stated *api.Error
	var remedy interface{ Remedy() string }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stated):
		return stated.Connect()
	case errors.Is(err, consensus.ErrNoLeader), errors.Is(err, consensus.ErrClosed):
		return (&api.Error{Code: connect.CodeUnavailable, What: "the mesh has no leader with a quorum at the moment", Remedy: "try again: it is safe; seedmesh status shows who is there"}).Connect()
	case errors.Is(err, consensus.ErrForbidden):
		return notAuthorised().Connect()
	case errors.As(err, &refusal):
		return refusalError(refusal).Connect()
	case errors.As(err, &remedy) && aboutTheRequest(err):
		return (&api.Error{Code: connect.CodeInvalidArgument, What: inWords(err), Remedy: remedy.Remedy()}).Connect()
	case errors.As(err, &remedy):
		return (&api.Error{Code: connect.CodeInternal, What: inWords(err), Remedy: remedy.Remedy()}).Connect()
	}
	return (&api.Error{Code: connect.CodeInternal, What: inWords(err)}).Connect()
}

// inWords is the text of an error without the name of the package that it is of.
func inWords(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "kernels: "), "scripts: ")
}

// aboutTheRequest tells whether what was asked for is wrong, and not this node.
func aboutTheRequest(err error) bool {
	var spec *kernels.SpecError
	var generator *kernels.UnknownGeneratorError
	var draw *kernels.DrawError
	var script *scripts.SpecError
	return errors.As(err, &script) || errors.As(err, &spec) || errors.As(err, &generator) || errors.As(err, &draw)
}

func refusalError(r *jobs.Refusal) *api.Error {
	e := &api.Error{Code: connect.CodeFailedPrecondition, What: r.Text}
	switch r.Code {
	case jobs.UnknownJob, jobs.UnknownNode, jobs.UnknownToken:
		e.Code = connect.CodeNotFound
	case jobs.UnknownPreload:
		e.Code, e.Remedy = connect.CodeNotFound, "seedmesh preload ls lists them"
	case jobs.KeyConflict:
		e.Code, e.Remedy = connect.CodeInvalidArgument, "use another --key, or repeat the first request exactly"
	case jobs.Limit:
		e.Code = connect.CodeResourceExhausted
	case jobs.Invalid, jobs.BadRange:
		e.Code = connect.CodeInvalidArgument
	case jobs.JobNotEnded:
		e.Remedy = "seedmesh job cancel ends it"
	case jobs.JobEnded:
		e.Remedy = "seedmesh job show says how it ended"
	default:
	}
	return e
}

func notAuthorised() *api.Error {
	return &api.Error{
		Code: connect.CodePermissionDenied, What: "only a node with the voter role may change who belongs to the mesh",
		Remedy: "run the command on a voter: seedmesh nodes lists them",
	}
}

// authorise refuses callers over the network who may not change who belongs to
// the mesh. Whoever speaks on the local socket is the node's own user.
func authorise(ctx context.Context) error {
	if peer, remote := transport.PeerFrom(ctx); remote && peer.Role != transport.RoleVoter {
		return notAuthorised()
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &api.Error{Code: connect.CodeInvalidArgument, What: fmt.Sprintf(format, args...)}
}

// plannedJob is a checked request.
type plannedJob struct {
	spec     *kernels.Spec
	searches []*kernels.Search
	stages   []jobs.StageSpec
	expected float64
	steps    float64
	seeds    float64
}

// planJob checks a request and lays out its stages: one for each generator, in
// the order of their names.
func planJob(r *v1.SubmitRequest) (p plannedJob, err error) {
	if p.spec, err = kernels.DecodeSpec(r.Spec); err != nil {
		return p, err
	}
	if err := p.spec.Validate(); err != nil {
		return p, err
	}
	if r.Last < r.First {
		return p, invalid("the seed range is empty: its first seed is %d, its last %d", r.First, r.Last)
	}
	names := slices.Sorted(slices.Values(p.spec.Generators))
	for _, name := range slices.Compact(names) {
		search, err := p.spec.Compile(name)
		if err != nil {
			return p, err
		}
		seeds := search.Over(kernels.Range{First: r.First, Last: r.Last})
		if err := search.CheckSeeds(seeds); err != nil {
			return p, err
		}
		p.searches = append(p.searches, search)
		p.stages = append(p.stages, jobs.StageSpec{
			Label: name, Range: jobs.Range(seeds), Grain: max(search.Grain(), 1), Shape: shapeOf(name, p.spec),
		})
		p.expected += kernels.Expected(search, seeds.Size())
		p.steps += seeds.Size() * float64(search.StepsPerSeed())
		p.seeds += seeds.Size()
	}
	if a := p.spec.Analysis; a != nil && p.seeds != float64(a.Seeds) {
		return p, invalid("the analysis is corrected for %d seeds, and its ranges have %.0f", a.Seeds, p.seeds)
	}
	return p, nil
}

// leftToCPU says which of the searches an accelerator leaves to one thread of the CPU,
// and why.
func (p *plannedJob) leftToCPU(device string) string {
	var list []string
	for _, s := range p.searches {
		if why := s.LeftToCPU(device); why != "" {
			list = append(list, fmt.Sprintf("%s on one thread of the CPU: %s", s.Generator(), why))
		}
	}
	return strings.Join(list, "; ")
}

// shapeOf names searches that run at equal rates: the generator and a digest of
// everything else but the values of the draws.
func shapeOf(generator string, s *kernels.Spec) string {
	shape := fmt.Appendf(nil, "%s %v %v %d %d %s %s %v %d", s.Observe, s.Skip, s.Offset, len(s.Draws), s.MinMatches, s.Mode, s.Direction, s.Strategies, s.Split)
	if a := s.Analysis; a != nil {
		shape = fmt.Appendf(shape, " %s %d %v %d %d", a.Type, a.Samples, a.Lags, a.Bins, a.Neighbours)
	}
	h := sha256.Sum256(shape)
	return generator + "/" + hex.EncodeToString(h[:6])
}

// Submit adds a seed search.
func (s *service) Submit(ctx context.Context, r *connect.Request[v1.SubmitRequest]) (*connect.Response[v1.SubmitReply], error) {
	p, err := planJob(r.Msg)
	if err != nil {
		return nil, apiError(err)
	}
	m := r.Msg
	spec, submitted, err := s.n.storeSpec(ctx, p.spec.Encode())
	if err != nil {
		return nil, apiError(err)
	}
	defer submitted()
	submit := &jobs.Submit{
		Key: m.Key, RequestDigest: requestDigest(m), Name: m.Name, Kind: jobs.Seeds, Spec: spec, Stages: p.stages,
		Priority: m.Priority, ChunkTimeMS: m.ChunkTimeMs, Attempts: m.Attempts, TimeoutMS: m.TimeoutMs, Expected: p.expected,
		Submitter: m.Submitter,
	}
	id, err := s.submit(ctx, submit, func() jobs.Command { return submit })
	if err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(&v1.SubmitReply{Job: id.String()}), nil
}

// checkSizes refuses, with the flag that it is of, what is above a limit of the ledger.
func checkSizes(c *jobs.Submit) error {
	for _, part := range []struct {
		what        string
		bytes, most int
		next        string
	}{
		{"--name", len(c.Name), jobs.MaxNameBytes, "shorten it"},
		{"--key", len(c.Key), jobs.MaxKeyBytes, "shorten it"},
		{"the submitter", len(c.Submitter), jobs.MaxTextBytes, "shorten it"},
		{"the specification", len(c.Spec), jobs.MaxSpecBytes, "give fewer draws: a few dozen tell seeds apart as well; or search on one machine with --local"},
	} {
		if part.bytes > part.most {
			return &api.Error{
				Code: connect.CodeResourceExhausted, What: fmt.Sprintf("%s has %d bytes, the limit is %d", part.what, part.bytes, part.most), Remedy: part.next,
			}
		}
	}
	if c.Attempts > jobs.MaxAttempts {
		return &api.Error{
			Code: connect.CodeResourceExhausted, What: fmt.Sprintf("a piece may be tried %d times at most, not %d", jobs.MaxAttempts, c.Attempts),
			Remedy: fmt.Sprintf("use --attempts 1 to %d", jobs.MaxAttempts),
		}
	}
	return nil
}

func newJobID() (id uint64) {
	for id == 0 {
		for _, b := range randomBytes(8) {
			id = id<<8 | uint64(b)
		}
	}
	return id
}

// requestDigest identifies what is asked for, so that a key cannot be used twice
// for different things.
func requestDigest(m *v1.SubmitRequest) jobs.Digest {
	return sha256.Sum256(fmt.Appendf(nil, "%x %d %d %q %d %d %d %d", m.Spec, m.First, m.Last, m.Name, m.Priority, m.ChunkTimeMs, m.Attempts, m.TimeoutMs))
}

// write makes a user's command happen; a refusal is an error.
func (s *service) write(ctx context.Context, r jobs.Request) (jobs.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	outcome, _, err := s.n.log.Propose(ctx, r)
	if err != nil {
		return outcome, err
	}
	return outcome, outcome.Err()
}

// Plan says what a submit would do.
func (s *service) Plan(_ context.Context, r *connect.Request[v1.SubmitRequest]) (*connect.Response[v1.PlanReply], error) {
	p, err := planJob(r.Msg)
	if err != nil {
		return nil, apiError(err)
	}
	reply := &v1.PlanReply{
		Generator: strings.Join(p.spec.Generators, ","), ExpectedByChance: p.expected, Steps: p.steps, EtaSeconds: -1,
		Method: "brute force: every seed, early stopping", Seeds: totalOf(p.stages).String(), Warning: chanceWarning(p.expected, 0),
	}
	if p.spec.Analysis != nil {
		reply.Method, reply.Warning = "the stream of every seed, on CPUs", ""
	}
	chunkTime := time.Duration(max(r.Msg.ChunkTimeMs, 1)) * time.Millisecond
	if r.Msg.ChunkTimeMs == 0 {
		chunkTime = jobs.DefaultChunkTimeMS * time.Millisecond
	}
	var sum float64
	known := true
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			if !m.Alive {
				continue
			}
			for i, sl := range m.Slots {
				if _, quarantined := sl.Quarantined(); quarantined {
					continue
				}
				rate := rateOf(sl, p.stages[0].Shape)
				known = known && rate > 0
				sum += rate
				reply.Slots = append(reply.Slots, &v1.PlanSlot{
					Node: m.Name, Slot: uint32(i), Device: sl.Device, Rate: rate, Measured: rate > 0, Note: p.leftToCPU(sl.Device),
				})
			}
		}
	})
	sortSlots(reply.Slots)
	if sum > 0 {
		reply.EtaSeconds = p.seeds / sum
		reply.Chunks = max(p.seeds/sum*float64(len(reply.Slots))/chunkTime.Seconds(), float64(len(p.stages)))
	}
	if !known {
		reply.Method += "; slots that never ran such a search begin with a probe"
	}
	return connect.NewResponse(reply), nil
}

func rateOf(sl *jobs.Slot, shape string) float64 {
	for _, r := range sl.Rates {
		if r.Shape == shape {
			return float64(r.Rate) / 1000 // the ledger counts the units of 1000 seconds
		}
	}
	return 0
}

func totalOf(stages []jobs.StageSpec) (c jobs.Count) {
	for _, st := range stages {
		c = c.Add(st.Range.Size())
	}
	return c
}

func chanceWarning(expected float64, found uint64) string {
	if !kernels.Indistinguishable(expected, found) {
		return ""
	}
	return fmt.Sprintf("this search cannot tell a true seed from chance: %.3g survivors are expected by chance alone", expected)
}

// sync makes sure that a linearizable read sees what it must.
func (s *service) sync(ctx context.Context, linearizable bool) error {
	if !linearizable {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := s.n.log.ReadIndex(ctx)
	return err
}

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

// Nodes lists the members.
func (s *service) Nodes(ctx context.Context, r *connect.Request[v1.NodesRequest]) (*connect.Response[v1.NodesReply], error) {
	if err := s.sync(ctx, r.Msg.Linearizable); err != nil {
		return nil, apiError(err)
	}
	voters := s.voters()
	leader, led := s.n.log.Leader()
	var silent []jobs.NodeID
	if led {
		silent = s.n.session.view().Silent
	}
	reply := &v1.NodesReply{}
	reply.Index = s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			info := s.nodeInfo(m, m.ID == leader, voters[m.ID])
			if info.State == "alive" && slices.Contains(silent, m.ID) {
				info.State = "suspect"
			}
			reply.Nodes = append(reply.Nodes, info)
		}
	})
	slices.SortFunc(reply.Nodes, func(a, b *v1.NodeInfo) int { return strings.Compare(a.Name, b.Name) })
	return connect.NewResponse(reply), nil
}

func (s *service) nodeInfo(m *jobs.Node, leads, votes bool) *v1.NodeInfo {
	info := &v1.NodeInfo{
		Name: m.Name, Address: m.Addr, State: "dead", Role: "nonvoter", Leader: leads, Version: m.Version,
		Slots: uint32(len(m.Slots)), Id: m.ID.String(),
	}
	if m.Role == jobs.Client {
		info.Role = "client"
	}
	if m.Alive {
		info.State = s.n.gossip.state(m.ID.String())
		if m.ID == s.n.id {
			info.State = "alive"
		}
	}
	if votes {
		info.Role = "voter"
	}
	info.Busy, info.ScriptSlots, info.Labels = busySlots(m), scriptSlots(m), labels(m)
	return info
}

// labels are the words by which jobs select a node.
func labels(m *jobs.Node) (words []string) {
	for _, sl := range m.Slots {
		for word := range strings.SplitSeq(sl.Label, ",") {
			selects := strings.HasPrefix(word, jobs.LabelPrefix) || strings.HasPrefix(word, jobs.VendorBegin)
			if selects && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

func busySlots(m *jobs.Node) (busy uint32) {
	for _, sl := range m.Slots {
		if len(sl.Claims) > 0 {
			busy++
		}
	}
	return busy
}

// quarantinedSlots are a node's slots that get no more work, with the reason.
func quarantinedSlots(m *jobs.Node) (list []string) {
	for i, sl := range m.Slots {
		reason, yes := sl.Quarantined()
		until := "it is released or its node starts again"
		if sl.Confined() {
			until = "it is released"
		}
		if _, released := sl.Released(); released {
			until = "it has passed its test"
		}
		if yes {
			list = append(list, fmt.Sprintf("slot %d of %s is quarantined until %s: %s", i, m.Name, until, reason))
		}
	}
	return list
}

func (s *service) voters() map[jobs.NodeID]bool {
	voters := map[jobs.NodeID]bool{}
	members, err := s.n.log.Members()
	if err != nil {
		return voters
	}
	for _, m := range members {
		if m.Voter {
			voters[m.Node] = true
		}
	}
	return voters
}

// Status says how the mesh stands, as this node sees it.
func (s *service) Status(ctx context.Context, r *connect.Request[v1.StatusRequest]) (*connect.Response[v1.StatusReply], error) {
	if err := s.sync(ctx, r.Msg.Linearizable); err != nil {
		return nil, apiError(err)
	}
	voters := s.voters()
	leader, led := s.n.log.Leader()
	reply := &v1.StatusReply{
		Cluster: s.n.dir.Cluster, Node: s.n.dir.Name, Term: s.n.log.Term(), Version: Version, Alarms: s.n.session.view().Alarms, Voters: []string{},
		Scripts: s.n.site.isolation(), Devices: deviceInfos(s.n.machine.last().devices),
	}
	now := standing{voters: len(voters), led: led, alone: s.n.session.alone()}
	quiet := s.n.quiet(ctx, led, voters)
	reply.Applied = s.n.log.View(func(st *jobs.State) {
		reply.LedgerDigest = st.Digest().String()
		for _, m := range st.Nodes() {
			if m.ID == leader {
				reply.Leader = m.Name
			}
			if voters[m.ID] {
				reply.Voters = append(reply.Voters, m.Name)
				now.add(m.Name, s.n.answers(m, led, quiet))
			}
			if m.Role != jobs.Client {
				reply.Nodes++
			}
			if m.Alive {
				reply.Slots += uint32(len(m.Slots))
				reply.Busy += busySlots(m)
				reply.Quarantined = append(reply.Quarantined, quarantinedSlots(m)...)
			}
		}
	})
	slices.Sort(reply.Voters)
	now.gone = now.voters - len(reply.Voters)
	reply.Survives = now.survives()
	return connect.NewResponse(reply), nil
}
