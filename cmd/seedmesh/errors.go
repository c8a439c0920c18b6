package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node"
	"seedmesh/scripts"
)

// Exit codes.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2 // also for a file that was named and cannot be read, or does not have the form that it must
	exitJobFailed    = 3 // or cancelled
	exitUnauthorised = 4
	exitNotFound     = 5
	exitUnavailable  = 6 // a retry is safe
	exitLimits       = 7
	exitTimeout      = 124
	exitInterrupted  = 130
)

// A usageError is a command line that cannot be run.
type usageError struct{ what, why, next string }

func (e *usageError) Error() string { return e.what }

// An exitError ends the command with a code and up to three lines. A nil err
// prints nothing: what there was to say has been said.
type exitError struct {
	code int
	err  error
	why  string
	next string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// report prints an error in up to three lines (what, why, what to type next)
// and gives the exit code for it.
func (e *env) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	code, lines := explain(ctx, err)
	prefix := "seedmesh: "
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			_, _ = fmt.Fprintf(e.stderr, "%s%s\n", prefix, line)
			prefix = "  "
		}
	}
	return code
}

// explain gives the exit code of an error and the lines about it.
func explain(ctx context.Context, err error) (int, []string) {
	var usage *usageError
	var exit *exitError
	var remote *connect.Error
	var refused *jobs.Refusal
	var join *node.JoinError
	var removed *node.RemovedError
	switch {
	case errors.As(err, &exit):
		if exit.err == nil {
			return exit.code, nil
		}
		return exit.code, append(strings.SplitN(exit.Error(), "\n", 3), exit.why, cmp.Or(exit.next, room(err)))
	case errors.As(err, &usage):
		return exitUsage, []string{usage.what, usage.why, usage.next}
	case ctx.Err() != nil:
		return exitInterrupted, []string{"interrupted"}
	case errors.As(err, &remote):
		return remoteCode(remote.Code()), strings.SplitN(remote.Message(), "\n", 3)
	case errors.As(err, &refused):
		return refusalCode(refused.Code), withRemedy(err)
	case errors.As(err, &join):
		return joinCode(join), withRemedy(err)
	case errors.As(err, &removed):
		return exitUnauthorised, withRemedy(err)
	case isUsage(err):
		return exitUsage, withRemedy(err)
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout, withRemedy(err)
	}
	return exitFailure, withRemedy(err)
}

// isUsage tells the errors about what was asked.
func isUsage(err error) bool {
	var input *node.InputError
	var spec *kernels.SpecError
	var unknown *kernels.UnknownGeneratorError
	var draw *kernels.DrawError
	var script *scripts.SpecError
	if errors.As(err, &script) {
		return true
	}
	return errors.As(err, &spec) || errors.As(err, &unknown) || errors.As(err, &draw) || errors.As(err, &input)
}

// withRemedy is the message of an error, and the remedy that rides along.
func withRemedy(err error) []string {
	lines := strings.SplitN(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "kernels: "), "scripts: "), "\n", 3)
	var r interface{ Remedy() string }
	if errors.As(err, &r) {
		return append(lines, r.Remedy())
	}
	return append(lines, room(err))
}

// room is what to do about a full disk of this machine, and empty for other errors.
func room(err error) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return "make room on its disk, then try again, or write to another one"
	}
	return ""
}

// remoteCode is the exit code for the code of a node's answer.
func remoteCode(c connect.Code) int {
	switch c {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return exitUnauthorised
	case connect.CodeNotFound:
		return exitNotFound
	case connect.CodeUnavailable:
		return exitUnavailable
	case connect.CodeResourceExhausted:
		return exitLimits
	case connect.CodeInvalidArgument, connect.CodeAlreadyExists:
		return exitUsage
	case connect.CodeDeadlineExceeded:
		return exitTimeout
	case connect.CodeCanceled:
		return exitInterrupted
	default:
		return exitFailure
	}
}

// joinCode is the exit code for a join that nobody refused in the ledger's name.
func joinCode(e *node.JoinError) int {
	switch {
	case e.Foreign():
		return exitUnauthorised
	case e.Unreachable():
		return exitUnavailable
	}
	return exitFailure
}

// refusalCode is the exit code for what the ledger refused while joining.
func refusalCode(c jobs.Code) int {
	switch c {
	case jobs.UnknownToken, jobs.TokenExpired, jobs.TokenSpent, jobs.WrongRole:
		return exitUnauthorised
	case jobs.UnknownJob, jobs.UnknownNode:
		return exitNotFound
	case jobs.NameTaken, jobs.KeyConflict, jobs.Invalid:
		return exitUsage
	case jobs.Limit:
		return exitLimits
	default:
		return exitFailure
	}
}

// inputError words a failure to read a file that the user named: the command has to be
// corrected, as for a file with the wrong content. Other errors stay as they are.
func inputError(what string, err error) error { return unreadable(what, err, "") }

// unreadable is inputError with what to type next.
func unreadable(what string, err error, next string) error {
	var path *os.PathError
	if !errors.As(err, &path) {
		return err
	}
	return &usageError{what: fmt.Sprintf("%s cannot be read: %s: %v", what, path.Path, path.Err), next: next}
}

// writeError words a failure to write a file that is not the output that a user named.
func writeError(what string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return &exitError{code: exitFailure, err: fmt.Errorf("%s cannot be written: %s: %w", what, path.Path, path.Err)}
	}
	return fmt.Errorf("%s cannot be written: %w", what, err)
}
