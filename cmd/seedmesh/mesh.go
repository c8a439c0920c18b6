package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/transport"
)

const (
	callTimeout  = 30 * time.Second // for one answer to one call
	retryFirst   = 50 * time.Millisecond
	retryLongest = time.Second
	patience     = 2 * time.Second // after which a person is told what is waited for
)

// A procedure is one call of the API, as a method expression of the client.
type procedure[Q, R any] = func(meshv1connect.MeshClient, context.Context, *connect.Request[Q]) (*connect.Response[R], error)

// call makes one call to the node. While no node or no leader can be reached it
// tries again for --connect-timeout: every call of the API is safe to repeat.
func call[Q, R any](ctx context.Context, e *env, rpc procedure[Q, R], q *Q) (*R, error) {
	return callWithin(ctx, e, callTimeout, rpc, q)
}

// callWithin is call with another bound on the wait for one answer; 0 is none.
func callWithin[Q, R any](ctx context.Context, e *env, limit time.Duration, rpc procedure[Q, R], q *Q) (*R, error) {
	var answer *R
	err := e.persist(ctx, func(client meshv1connect.MeshClient) error {
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if limit > 0 {
			attempt, cancel = context.WithTimeout(ctx, limit)
		}
		defer cancel()
		r, err := rpc(client, attempt, connect.NewRequest(q))
		if err != nil && ctx.Err() == nil && attempt.Err() != nil {
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("the node gave no answer within %s", limit))
		}
		if err == nil {
			answer = r.Msg
		}
		return err
	})
	return answer, err
}

// persist repeats attempts until one gets through, or until none has for
// --connect-timeout.
func (e *env) persist(ctx context.Context, attempt func(meshv1connect.MeshClient) error) error {
	if err := errors.Join(e.checkNode(), e.checkData()); err != nil {
		return err
	}
	began, told := time.Now(), false
	for wait := retryFirst; ; wait = min(2*wait, retryLongest) {
		err := e.try(attempt)
		if foreign(err) {
			return e.foreign()
		}
		if err == nil || ctx.Err() != nil || !unavailable(err) {
			return err
		}
		left := e.connectTimeout - time.Since(began)
		if left <= 0 {
			return e.unreachable(err)
		}
		if !told && time.Since(began) > patience && width(e.stderr) > 0 {
			told = true
			_, _ = fmt.Fprintf(e.stderr, "waiting for %s ...\n", e.target())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(wait, left)):
		}
	}
}

// try makes one attempt. After one that failed it hangs up, so that a node that
// has been started again is found.
func (e *env) try(attempt func(meshv1connect.MeshClient) error) error {
	if e.client == nil {
		var err error
		if e.client, e.hangUp, err = e.dial(e.dataDir(), e.node); err != nil {
			e.client = nil
			return err
		}
	}
	err := attempt(e.client)
	if err != nil {
		_ = e.disconnect() // the attempt's error is the one that says something
	}
	return err
}

// disconnect ends the connection to the node, if there is one.
func (e *env) disconnect() error {
	if e.client == nil {
		return nil
	}
	e.client = nil
	return e.hangUp()
}

// checkData tells a machine on which nothing was ever set up from one whose node
// is down: there is nothing to wait for.
func (e *env) checkData() error {
	_, err := os.Stat(e.dataDir())
	if !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &exitError{
		code: exitUnavailable,
		err:  errors.New("this machine belongs to no mesh yet"),
		why:  "there is no data directory " + e.dataDir(),
		next: "name one with --data, begin with: seedmesh init --listen HOST:PORT, or search without a mesh: seedmesh sieve --local",
	}
}

// checkNode refuses a --node that is no address.
func (e *env) checkNode() error {
	if e.node == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(e.node)
	if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 {
		return &usageError{what: fmt.Sprintf("--node %q is not HOST:PORT", clip(e.node)), next: "such as --node 10.0.0.5:7946; seedmesh nodes lists the addresses"}
	}
	return nil
}

// foreign tells a node that belongs to another mesh than the identity of the
// data directory: one of the two does not trust the other.
func foreign(err error) bool {
	return errors.Is(err, transport.ErrUntrusted) || errors.Is(err, transport.ErrRefused)
}

func (e *env) foreign() error {
	return &exitError{
		code: exitUnauthorised,
		err:  fmt.Errorf("%s does not accept the identity in %s", e.target(), e.dataDir()),
		why:  "it belongs to another mesh, or this machine was removed from it",
		next: "name the right directory with --data, or join that mesh: seedmesh join TOKEN@HOST:PORT --listen HOST:PORT",
	}
}

func (e *env) target() string {
	if e.node != "" {
		return "the node at " + e.node
	}
	return "the node of " + e.dataDir()
}

// unreachable words the end of all attempts.
func (e *env) unreachable(err error) error {
	exit := &exitError{code: exitUnavailable, err: fmt.Errorf("%s cannot be reached", e.target())}
	var remote *connect.Error
	var dial *transport.DialError
	switch {
	case errors.As(err, &dial):
		exit.why = dial.Err.Error()
	case errors.As(err, &remote) && connect.IsWireError(err):
		exit.err = errors.New(remote.Message()) // the node itself says what is missing, and what to do
		return exit
	case errors.As(err, &remote):
		exit.why = remote.Message()
	default:
		exit.why = err.Error()
	}
	if e.node == "" && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR)) {
		exit.why = "no node is running there"
		if _, missing := os.Stat(filepath.Join(e.dataDir(), "identity.json")); missing != nil {
			exit.why = "no node was ever set up there"
			exit.next = "name the right directory with --data, or begin with: seedmesh init --listen HOST:PORT"
			return exit
		}
	}
	exit.next = "start it with: seedmesh up --data " + e.dataDir() + ", or ask another one with --node HOST:PORT"
	if e.node != "" {
		exit.next = "ask another one with --node, or the one of this machine without it"
	}
	return exit
}

// unavailable tells whether the same call may get through later.
func unavailable(err error) bool {
	var remote *connect.Error
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return true
	case !errors.As(err, &remote):
		var sys *os.SyscallError
		return errors.As(err, &sys)
	case remote.Code() == connect.CodeUnavailable:
		return true
	case connect.IsWireError(err):
		return false
	}
	// The connection broke within an answer.
	switch remote.Code() {
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeInvalidArgument, connect.CodeDataLoss, connect.CodeCanceled:
		return true
	default:
		return false
	}
}

// requestID makes a request that is sent again happen once.
func requestID() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: the process ends instead
	return b
}

// streamResults copies a job's survivors to w. When the node goes away it goes
// on where it was: the same job always has the same bytes.
func (e *env) streamResults(ctx context.Context, job string, partial bool, w io.Writer) error {
	var written int64
	for {
		before := written
		err := e.persist(ctx, func(client meshv1connect.MeshClient) error {
			return receive(ctx, client, &meshv1.ResultsRequest{Job: job, Partial: partial}, w, &written)
		})
		if err == nil || written == before || !unavailable(err) {
			return err
		}
	}
}

// receive reads one stream of results, leaving out what has been written.
func receive(ctx context.Context, client meshv1connect.MeshClient, q *meshv1.ResultsRequest, w io.Writer, written *int64) error {
	stream, err := client.Results(ctx, connect.NewRequest(q))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }() // nothing is left to read
	for skip := *written; stream.Receive(); {
		data := stream.Msg().GetData()
		have := min(skip, int64(len(data)))
		skip -= have
		n, err := w.Write(data[have:])
		*written += int64(n)
		if err != nil {
			return &exitError{code: exitFailure, err: fmt.Errorf("writing the results: %w", err)}
		}
	}
	return stream.Err()
}
