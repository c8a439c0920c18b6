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
	case jobs.Outdated:
		e.Remedy = "upgrade every node before you use what is new: seedmesh status names the leader, seedmesh nodes shows the versions"
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
