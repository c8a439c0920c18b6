package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/blob"
)

// resultsChunk is about how many bytes of results travel in one message.
const resultsChunk = 64 << 10

// jobCopy is what reading a job's results needs, taken at one moment.
type jobCopy struct {
	*v1.JobInfo
	spec     []byte
	kind     jobs.Kind
	ended    bool
	stages   []stageCopy
	cover    jobs.Coverage
	held     []*v1.Held
	spans    []span // of a script job
	attempts uint32

	chunkTimeMS uint64
	maxParallel uint32
}

// mayRead refuses the results of a job that has not ended, unless a part is wanted.
func (c *jobCopy) mayRead(partial bool) error {
	if c.ended || partial {
		return nil
	}
	return &api.Error{
		Code: connect.CodeFailedPrecondition, What: fmt.Sprintf("job %s is %s", c.Id, c.State),
		Remedy: "wait with: seedmesh job wait " + c.Id + ", or ask for what is there with --partial",
	}
}

// catchUp makes this node's ledger show the end of a job if any node's has shown it,
// unless a part of the job is enough: that it has not ended is not said of a ledger
// that lags behind.
func (s *service) catchUp(ctx context.Context, selector string, partial bool) error {
	_, ended, err := s.jobInfo(selector)
	return s.sync(ctx, err == nil && !ended && !partial)
}

type stageCopy struct {
	label  string
	pieces []jobs.Piece
}

func (s *service) copyJob(ctx context.Context, selector string) (c jobCopy, err error) {
	c.JobInfo, err = s.lookup(ctx, selector)
	if err != nil {
		return c, err
	}
	s.n.log.View(func(st *jobs.State) {
		var j *jobs.Job
		if j, err = findJob(st, c.Id); err != nil {
			return
		}
		c.spec, c.ended, c.cover = bytes.Clone(j.Spec), j.State.Terminal(), j.Coverage()
		c.kind, c.attempts, c.chunkTimeMS, c.maxParallel = j.Kind, j.Attempts, j.ChunkTimeMS, j.MaxParallel
		for _, stage := range j.Stages {
			c.stages = append(c.stages, stageCopy{stage.Label, stage.Pieces()})
			if j.Kind == jobs.Tasks {
				c.spans = append(c.spans, spans(stage)...)
			}
		}
		c.held = heldOf(st, j.ID)
	})
	if err == nil {
		c.spec, err = s.n.specOf(ctx, c.spec)
	}
	return c, err
}

// heldOf lists the claims on a job, by node and slot.
func heldOf(st *jobs.State, job jobs.JobID) []*v1.Held {
	held := []*v1.Held{}
	for _, m := range st.Nodes() {
		for i := range m.Slots {
			for _, c := range st.Claims(jobs.SlotID{Node: m.ID, Index: uint32(i)}) {
				if c.Job == job {
					held = append(held, &v1.Held{Seeds: c.Range.String(), Node: m.Name, Slot: uint32(i), Fence: fmt.Sprint(c.Fence)})
				}
			}
		}
	}
	return held
}

// Results streams a job's survivors in the order of its ranges. Memory does not
// grow with them: piece by piece is fetched, verified and sent.
func (s *service) Results(ctx context.Context, r *connect.Request[v1.ResultsRequest], out *connect.ServerStream[v1.ResultsChunk]) error {
	if err := s.catchUp(ctx, r.Msg.Job, r.Msg.Partial); err != nil {
		return apiError(err)
	}
	c, err := s.copyJob(ctx, r.Msg.Job)
	if err != nil {
		return apiError(err)
	}
	if err := c.mayRead(r.Msg.Partial); err != nil {
		return apiError(err)
	}
	if c.kind == jobs.Tasks {
		return apiError(s.sendOutcomes(ctx, c, out))
	}
	spec, err := kernels.DecodeSpec(c.spec)
	if err != nil {
		return apiError(err)
	}
	buf := make([]byte, 0, resultsChunk+4096)
	for _, stage := range c.stages {
		search, err := spec.Compile(stage.label)
		if err != nil {
			return apiError(err)
		}
		for _, p := range stage.pieces {
			if p.Survivors == 0 {
				continue
			}
			if buf, err = s.sendPiece(ctx, search, p, buf, out); err != nil {
				return apiError(err)
			}
		}
	}
	if len(buf) == 0 {
		return nil
	}
	return out.Send(&v1.ResultsChunk{Data: buf})
}

func (s *service) sendPiece(ctx context.Context, search *kernels.Search, p jobs.Piece, buf []byte, out *connect.ServerStream[v1.ResultsChunk]) ([]byte, error) {
	err := s.n.fetch(ctx, p.Blob, p.Holders)
	switch {
	case errors.Is(err, blob.ErrDiskFull):
		return buf, &api.Error{
			Code: connect.CodeResourceExhausted, What: fmt.Sprintf("the survivors of seeds %s cannot be brought to this node: its disk is full", p.Range),
			Remedy: "make room on it, or ask another node for the results",
		}
	case err != nil:
		return buf, &api.Error{
			Code: connect.CodeUnavailable, What: fmt.Sprintf("the survivors of seeds %s cannot be read: %v", p.Range, err),
			Remedy: "start one of the nodes that hold them and try again: seedmesh nodes",
		}
	}
	reader, err := s.n.store.Survivors(p.Blob)
	if err != nil {
		return buf, err
	}
	defer reader.Close()
	for v, err := range reader.All() {
		if err != nil {
			return buf, err
		}
		if buf = search.AppendJSON(buf, v); len(buf) >= resultsChunk {
			if err := out.Send(&v1.ResultsChunk{Data: buf}); err != nil {
				return buf, err
			}
			buf = make([]byte, 0, resultsChunk+4096)
		}
	}
	return buf, nil
}

// Ledger accounts for every seed of a job: the ranges against each other, the
// executors' sums against their closed form, and, to verify, every copy of every
// piece against its digest, count, order and range. Without a quorum it is the account
// of what this node knows.
func (s *service) Ledger(ctx context.Context, r *connect.Request[v1.LedgerRequest]) (*connect.Response[v1.LedgerReply], error) {
	_ = s.catchUp(ctx, r.Msg.Job, false)
	c, err := s.copyJob(ctx, r.Msg.Job)
	if err != nil {
		return nil, apiError(err)
	}
	reply := &v1.LedgerReply{
		Job: c.Id, Gaps: []string{}, Overlaps: []string{}, Problems: []string{}, Seeds: c.cover.Seeds.String(),
		Sum: fmt.Sprint(c.cover.Account.Sum), SumSq: fmt.Sprint(c.cover.Account.SumSq), Pieces: c.Pieces,
		Reclaimed: c.Reclaimed, UnderReplicated: c.UnderReplicated, Held: c.held,
	}
	for _, g := range c.cover.Gaps {
		reply.Gaps = append(reply.Gaps, g.String())
	}
	for _, o := range c.cover.Overlaps {
		reply.Overlaps = append(reply.Overlaps, o.String())
	}
	s.n.log.View(func(st *jobs.State) { reply.Digest = st.Digest().String() })
	whole := len(reply.Gaps) == 0 && len(reply.Overlaps) == 0
	if whole && c.cover.Account != c.cover.Expected {
		reply.Problems = append(reply.Problems, fmt.Sprintf("the executors' sums are %v, the ranges give %v", c.cover.Account, c.cover.Expected))
	}
	if r.Msg.Verify {
		s.verify(ctx, c, reply)
	}
	reply.Complete = whole && len(reply.Problems) == 0 && c.Lost == 0
	return connect.NewResponse(reply), nil
}

// verify reads every piece from every holder.
func (s *service) verify(ctx context.Context, c jobCopy, reply *v1.LedgerReply) {
	for i, stage := range c.stages {
		for _, p := range stage.pieces {
			if p.Survivors == 0 {
				continue
			}
			for _, h := range p.Holders {
				err := s.readCopy(ctx, c.kind, h, uint32(i), p)
				var away *awayError
				switch {
				case errors.As(err, &away):
					reply.Unreachable++
				case err != nil:
					reply.Problems = append(reply.Problems, fmt.Sprintf("seeds %s on node %s: %v", p.Range, s.n.nameOf(h), err))
				default:
					reply.Verified++
				}
			}
			if len(p.Holders) == 0 {
				reply.Problems = append(reply.Problems, fmt.Sprintf("seeds %s: no node holds their survivors any more", p.Range))
			}
		}
	}
}

// readCopy reads one holder's copy of a piece and holds it against the ledger.
func (s *service) readCopy(ctx context.Context, kind jobs.Kind, holder jobs.NodeID, stage uint32, p jobs.Piece) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	read := func(bytes io.Reader) error {
		if kind == jobs.Tasks {
			return blob.VerifySegment(bytes, p.Blob, stage, kernels.Range(p.Range))
		}
		r, err := blob.NewReader(bytes, p.Blob)
		if err != nil {
			return err
		}
		defer r.Close()
		h := r.Header
		if h.Stage != stage || jobs.Range(h.Range) != p.Range || h.Count != p.Survivors {
			return fmt.Errorf("the copy is of stage %d, seeds %s, %d survivors", h.Stage, h.Range, h.Count)
		}
		for _, err := range r.All() {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if holder == s.n.id {
		f, _, err := s.n.store.Open(p.Blob)
		if err == nil {
			err = errors.Join(read(f), f.Close())
		}
		if isDamaged(err) {
			s.n.lose(p.Blob)
		}
		return err
	}
	err := s.n.ask(ctx, kindBlob, holder, func(conn net.Conn) error {
		return blob.Get(ctx, conn, p.Blob, func(bytes io.Reader, _ int64) error { return read(bytes) })
	})
	if isTimeout(err) {
		return &awayError{err}
	}
	return err
}

func (n *Node) nameOf(id jobs.NodeID) string {
	name := id.String()
	n.log.View(func(s *jobs.State) {
		if m := s.Node(id); m != nil {
			name = m.Name
		}
	})
	return name
}

// Limits of a token that a user asks for.
const (
	defaultTokenLife = time.Hour
	maxTokenLife     = 30 * 24 * time.Hour
)

// CreateToken makes a token with which others join.
func (s *service) CreateToken(ctx context.Context, r *connect.Request[v1.CreateTokenRequest]) (*connect.Response[v1.CreateTokenReply], error) {
	if err := authorise(ctx); err != nil {
		return nil, apiError(err)
	}
	role, err := jobs.ParseRole(r.Msg.Role)
	if err != nil {
		return nil, apiError(invalid("%q is not a role: voter, worker or client", r.Msg.Role))
	}
	life := time.Duration(r.Msg.TtlSeconds) * time.Second
	if life == 0 {
		life = defaultTokenLife
	}
	if life > maxTokenLife || life < 0 {
		return nil, apiError(&api.Error{
			Code: connect.CodeInvalidArgument, What: fmt.Sprintf("a token may not live for %v", life),
			Remedy: fmt.Sprintf("use --ttl %v or less", maxTokenLife),
		})
	}
	uses := max(r.Msg.Uses, 1)
	if uses > jobs.MaxNodes {
		return nil, apiError(&api.Error{
			Code: connect.CodeResourceExhausted, What: fmt.Sprintf("a token has 1 to %d uses, not %d", jobs.MaxNodes, uses), Remedy: fmt.Sprintf("use --uses 1 to %d", jobs.MaxNodes),
		})
	}
	token := newToken(s.n.ep.Identity().CADigest())
	expires := s.n.wallClock().Add(life)
	mint := &jobs.Mint{Token: jobs.Token{Hash: token.hash(), Role: role, ExpiresMS: expires.UnixMilli(), Uses: uses, CreatedFor: "token create"}}
	if _, err := s.write(ctx, jobs.Request{ID: [16]byte(randomBytes(16)), Command: mint}); err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(&v1.CreateTokenReply{
		Token: token.String(), Join: token.String() + "@" + s.n.advertise, Role: role.String(),
		Expires: expires.UTC().Format(time.RFC3339), Uses: uses,
	}), nil
}

// ListTokens lists the tokens; their secrets are not kept.
func (s *service) ListTokens(context.Context, *connect.Request[v1.ListTokensRequest]) (*connect.Response[v1.ListTokensReply], error) {
	reply := &v1.ListTokensReply{}
	s.n.log.View(func(st *jobs.State) {
		for _, t := range st.Tokens() {
			reply.Tokens = append(reply.Tokens, &v1.TokenInfo{
				Hash: t.Hash.String(), Role: t.Role.String(), Expires: time.UnixMilli(t.ExpiresMS).UTC().Format(time.RFC3339),
				Uses: t.Uses, Spent: uint32(len(t.Spent)),
			})
		}
	})
	return connect.NewResponse(reply), nil
}

// RevokeToken ends a token, named by its hash or the beginning of it.
func (s *service) RevokeToken(ctx context.Context, r *connect.Request[v1.RevokeTokenRequest]) (*connect.Response[v1.RevokeTokenReply], error) {
	if err := authorise(ctx); err != nil {
		return nil, apiError(err)
	}
	var found []jobs.Digest
	s.n.log.View(func(st *jobs.State) {
		for _, t := range st.Tokens() {
			if text := t.Hash.String(); len(r.Msg.Hash) >= 4 && len(r.Msg.Hash) <= len(text) && text[:len(r.Msg.Hash)] == r.Msg.Hash {
				found = append(found, t.Hash)
			}
		}
	})
	switch {
	case len(found) == 0:
		return nil, apiError(&api.Error{Code: connect.CodeNotFound, What: fmt.Sprintf("no token has a hash that begins with %q", r.Msg.Hash), Remedy: "give 4 digits of it or more; seedmesh token ls lists them"})
	case len(found) > 1:
		return nil, apiError(invalid("%d tokens have a hash that begins with %q: give more digits", len(found), r.Msg.Hash))
	}
	if _, err := s.write(ctx, jobs.Request{ID: [16]byte(randomBytes(16)), Command: &jobs.Revoke{Hash: found[0]}}); err != nil {
		return nil, apiError(err)
	}
	return connect.NewResponse(&v1.RevokeTokenReply{}), nil
}

// RemoveNode forgets a member for good. A living node must be stopped first.
func (s *service) RemoveNode(ctx context.Context, r *connect.Request[v1.RemoveNodeRequest]) (*connect.Response[v1.RemoveNodeReply], error) {
	if err := authorise(ctx); err != nil {
		return nil, apiError(err)
	}
	var found []jobs.Node
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			if m.Name == r.Msg.Node || m.ID.String() == r.Msg.Node {
				found = append(found, *m)
			}
		}
	})
	living := slices.IndexFunc(found, func(m jobs.Node) bool { return m.Alive })
	switch {
	case len(found) == 0:
		return nil, apiError(s.unknownNode(r.Msg.Node))
	case living >= 0 && s.n.gossip.state(found[living].ID.String()) == "dead":
		return nil, apiError(&api.Error{Code: connect.CodeUnavailable, What: fmt.Sprintf("node %s has stopped, but its work is not taken back yet", r.Msg.Node), Remedy: "try again in a few seconds"})
	case living >= 0:
		return nil, apiError(&api.Error{Code: connect.CodeFailedPrecondition, What: fmt.Sprintf("node %s is alive", r.Msg.Node), Remedy: "stop it first, then remove it"})
	}
	if _, err := s.write(ctx, jobs.Request{ID: [16]byte(randomBytes(16)), Command: &jobs.Forget{Node: found[0].ID}}); err != nil {
		return nil, apiError(err)
	}
	s.n.ep.Forget(found[0].ID.String())
	return connect.NewResponse(&v1.RemoveNodeReply{Name: found[0].Name}), nil
}
