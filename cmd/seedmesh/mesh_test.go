package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// fakeMesh answers calls as a test says; other calls fail the test.
type fakeMesh struct {
	meshv1connect.MeshClient // nil: an unexpected call panics

	submit  func(*meshv1.SubmitRequest) (*meshv1.SubmitReply, error)
	job     func(context.Context, *meshv1.JobRequest) (*meshv1.JobInfo, error)
	jobs    func() (*meshv1.JobsReply, error)
	control func(*meshv1.ControlRequest) (*meshv1.JobInfo, error)
	ledger  func() (*meshv1.LedgerReply, error)
}

func answer[R any](r *R, err error) (*connect.Response[R], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(r), nil
}

func (f *fakeMesh) Submit(_ context.Context, q *connect.Request[meshv1.SubmitRequest]) (*connect.Response[meshv1.SubmitReply], error) {
	return answer(f.submit(q.Msg))
}

func (f *fakeMesh) Job(ctx context.Context, q *connect.Request[meshv1.JobRequest]) (*connect.Response[meshv1.JobInfo], error) {
	return answer(f.job(ctx, q.Msg))
}

func (f *fakeMesh) Jobs(context.Context, *connect.Request[meshv1.JobsRequest]) (*connect.Response[meshv1.JobsReply], error) {
	return answer(f.jobs())
}

func (f *fakeMesh) Control(_ context.Context, q *connect.Request[meshv1.ControlRequest]) (*connect.Response[meshv1.JobInfo], error) {
	return answer(f.control(q.Msg))
}

func (f *fakeMesh) Ledger(context.Context, *connect.Request[meshv1.LedgerRequest]) (*connect.Response[meshv1.LedgerReply], error) {
	return answer(f.ledger())
}

func (f *fakeMesh) dial(string, string) (meshv1connect.MeshClient, func() error, error) {
	return f, func() error { return nil }, nil
}

// refusal is an error as a node sends it.
func refusal(code connect.Code, text string) error {
	return connect.NewWireError(code, errors.New(text))
}

var down = connect.NewError(connect.CodeUnavailable, &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED})

const sieveLine = "sieve -g xorshift32 -d - -s 0:2^20"

func TestSubmitIsRepeatedUnderOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		f := &fakeMesh{submit: func(q *meshv1.SubmitRequest) (*meshv1.SubmitReply, error) {
			keys = append(keys, q.GetKey())
			if len(keys) < 4 {
				return nil, down
			}
			if q.GetFirst() != 0 || q.GetLast() != 1<<20-1 || q.GetChunkTimeMs() != 10_000 || q.GetAttempts() != 3 {
				t.Errorf("the request is %v", q)
			}
			return &meshv1.SubmitReply{Job: "0a"}, nil
		}}
		r := runWith(t.Context(), t, f.dial, "1\n2\n", append(strings.Fields(sieveLine), "--json")...)
		if r.code != 0 || r.stdout != `{"job":"0a"}`+"\n" || r.stderr != "" {
			t.Errorf("got %+v", r)
		}
		if len(keys) != 4 || len(keys[0]) < 16 || keys[0] != keys[3] {
			t.Errorf("the keys are %q", keys)
		}
	})
}

func TestNoNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := &fakeMesh{jobs: func() (*meshv1.JobsReply, error) { return nil, down }}
		data := t.TempDir()
		if err := os.WriteFile(filepath.Join(data, "identity.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := runWith(t.Context(), t, f.dial, "", "jobs", "--data", data)
		if took := time.Since(began); r.code != exitUnavailable || took < connectTimeout || took > connectTimeout+2*time.Second {
			t.Errorf("exit code %d after %s", r.code, took)
		}
		if !strings.Contains(r.stderr, "no node is running there") || !strings.Contains(r.stderr, "seedmesh up") {
			t.Errorf("it says %q", r.stderr)
		}
	})
}

// TestElapsedNeverFalls follows a job at a node that lags behind: what it estimated before
// it knew how the job ended was too much, and is not shown to have been.
func TestElapsedNeverFalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []*meshv1.JobInfo{
			{Id: "0a", State: "running", ElapsedSeconds: 3}, {Id: "0a", State: "running", ElapsedSeconds: 2.5}, {Id: "0a", State: "failed", ElapsedSeconds: 2.75},
		}
		f := &fakeMesh{job: func(context.Context, *meshv1.JobRequest) (*meshv1.JobInfo, error) {
			time.Sleep(time.Second)
			info := answers[0]
			answers = answers[1:]
			return info, nil
		}}
		r := runWith(t.Context(), t, f.dial, "", "job", "watch", "0a")
		if n := strings.Count(r.stderr, `"elapsed_seconds":3}`); r.code != exitJobFailed || n != 3 || len(answers) > 0 {
			t.Errorf("%d of 3 lines are at 3 s: %+v", n, r)
		}
	})
}

func TestExitCodes(t *testing.T) {
	for code, want := range map[connect.Code]int{
		connect.CodeUnauthenticated: exitUnauthorised, connect.CodePermissionDenied: exitUnauthorised,
		connect.CodeNotFound: exitNotFound, connect.CodeUnavailable: exitUnavailable, connect.CodeResourceExhausted: exitLimits,
		connect.CodeInvalidArgument: exitUsage, connect.CodeAlreadyExists: exitUsage, connect.CodeDeadlineExceeded: exitTimeout,
		connect.CodeInternal: exitFailure, connect.CodeFailedPrecondition: exitFailure,
	} {
		f := &fakeMesh{control: func(*meshv1.ControlRequest) (*meshv1.JobInfo, error) { return nil, refusal(code, "what\nwhy\nnext") }}
		r := runWith(t.Context(), t, f.dial, "", "job", "cancel", "x", "--connect-timeout", "1ms")
		if r.code != want || !strings.HasPrefix(r.stderr, "seedmesh: what\n  why\n  next\n") {
			t.Errorf("%v: got %+v, want exit code %d", code, r, want)
		}
	}
}

func TestControlKeepsItsRequest(t *testing.T) {
	var requests [][]byte
	f := &fakeMesh{control: func(q *meshv1.ControlRequest) (*meshv1.JobInfo, error) {
		if requests = append(requests, q.GetRequest()); len(requests) == 1 {
			return nil, down
		}
		return &meshv1.JobInfo{Id: "0a", State: "queued", Priority: q.GetPriority()}, nil
	}}
	r := runWith(t.Context(), t, f.dial, "", "job", "priority", "--json", "last", "--", "-5")
	if r.code != 0 || !strings.Contains(r.stdout, `"priority":-5`) {
		t.Errorf("got %+v", r)
	}
	if len(requests) != 2 || len(requests[0]) != 16 || !bytes.Equal(requests[0], requests[1]) {
		t.Errorf("the requests are %x", requests)
	}
}

func TestJobWait(t *testing.T) {
	for name, tt := range map[string]struct {
		state string
		args  []string
		code  int
		out   string
	}{
		"done":        {"done", nil, 0, "0a done\n"},
		"failed":      {"failed", nil, exitJobFailed, "0a failed\n"},
		"cancelled":   {"cancelled", []string{"--json"}, exitJobFailed, `{"id":"0a",`},
		"out of time": {"running", []string{"--timeout", "20ms"}, exitTimeout, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeMesh{job: func(ctx context.Context, q *meshv1.JobRequest) (*meshv1.JobInfo, error) {
				if tt.state == "running" && q.GetWaitMs() > 0 {
					<-ctx.Done()
					return nil, connect.NewError(connect.CodeDeadlineExceeded, ctx.Err())
				}
				return &meshv1.JobInfo{Id: "0a", State: tt.state, LastError: "no room"}, nil
			}}
			r := runWith(t.Context(), t, f.dial, "", append([]string{"job", "wait", "last"}, tt.args...)...)
			if r.code != tt.code || !strings.HasPrefix(r.stdout, tt.out) || tt.out == "" && r.stdout != "" {
				t.Errorf("got %+v, want exit code %d and %q", r, tt.code, tt.out)
			}
		})
	}
}

func TestInterruptDetaches(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fakeMesh{
		submit: func(*meshv1.SubmitRequest) (*meshv1.SubmitReply, error) { return &meshv1.SubmitReply{Job: "0a"}, nil },
		job: func(ctx context.Context, _ *meshv1.JobRequest) (*meshv1.JobInfo, error) {
			cancel()
			return nil, connect.NewError(connect.CodeCanceled, ctx.Err())
		},
	}
	r := runWith(ctx, t, f.dial, "1\n2\n", append(strings.Fields(sieveLine), "--wait")...)
	if r.code != exitInterrupted || r.stdout != "" || !strings.Contains(r.stderr, "seedmesh job watch 0a") {
		t.Errorf("got %+v", r)
	}
}

func TestLedgerVerify(t *testing.T) {
	for name, tt := range map[string]struct {
		reply *meshv1.LedgerReply
		args  []string
		code  int
	}{
		"right":                   {&meshv1.LedgerReply{Complete: true}, []string{"--verify"}, 0},
		"a problem":               {&meshv1.LedgerReply{Complete: true, Problems: []string{"a digest is wrong"}}, []string{"--verify"}, exitFailure},
		"twice":                   {&meshv1.LedgerReply{Overlaps: []string{"0:5"}}, nil, exitFailure},
		"incomplete, looked at":   {&meshv1.LedgerReply{Gaps: []string{"0:5"}}, nil, 0},
		"incomplete, to be whole": {&meshv1.LedgerReply{Gaps: []string{"0:5"}}, []string{"--verify", "--json"}, exitFailure},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeMesh{ledger: func() (*meshv1.LedgerReply, error) { return tt.reply, nil }}
			r := runWith(t.Context(), t, f.dial, "", append([]string{"ledger", "last"}, tt.args...)...)
			if r.code != tt.code || r.stdout == "" {
				t.Errorf("got %+v, want exit code %d", r, tt.code)
			}
		})
	}
}

// resultsServer streams results over a unix socket, and breaks off now and then.
type resultsServer struct {
	meshv1connect.UnimplementedMeshHandler
	parts []string
	calls atomic.Int32
	stop  func(call, part int) error
}

func (s *resultsServer) Job(context.Context, *connect.Request[meshv1.JobRequest]) (*connect.Response[meshv1.JobInfo], error) {
	return connect.NewResponse(&meshv1.JobInfo{Kind: "seeds"}), nil
}

func (s *resultsServer) Results(_ context.Context, _ *connect.Request[meshv1.ResultsRequest], stream *connect.ServerStream[meshv1.ResultsChunk]) error {
	call := int(s.calls.Add(1))
	for i, p := range s.parts {
		if err := s.stop(call, i); err != nil {
			return err
		}
		if err := stream.Send(&meshv1.ResultsChunk{Data: []byte(p)}); err != nil {
			return err
		}
	}
	return nil
}

const (
	recordA = `{"seed":"18446744073709551615","family":"xorshift32","matches":2,"total":2,"match_rate":1,"best_skip":0,"best_offset":3}` + "\n"
	recordB = `{"seed":"7","family":"xorshift32","matches":1,"total":2,"match_rate":0.5,"best_skip":0,"best_offset":3,"direction":"reverse-window"}` + "\n"
	recordC = `{"seed":"8","family":"mt19937","matches":2,"total":3,"match_rate":0.6666666666666666,"best_skip":4,"best_offset":0,"strategy":"3:5","skip_pattern":[4,-1,4]}` + "\n"

	csvHeader = "seed,family,matches,total,match_rate,best_skip,best_offset,direction,strategy,skip_pattern,origin,held_out_matches,held_out_total,held_out_match_rate," +
		"reverse_matches,reverse_total,reverse_match_rate,reverse_skip,reverse_offset\n"
)

func TestResults(t *testing.T) {
	both := []string{recordA[:20], recordA[20:] + recordB[:5], recordB[5:]}
	for name, tt := range map[string]struct {
		parts  []string
		format string
		want   string
	}{
		"lines":       {both, "jsonl", recordA + recordB},
		"no lines":    {nil, "jsonl", ""},
		"array":       {both, "json", "[\n" + strings.TrimSpace(recordA) + ",\n" + strings.TrimSpace(recordB) + "\n]\n"},
		"empty array": {nil, "json", "[]\n"},
		"csv": {append(both, recordC), "csv", csvHeader +
			"18446744073709551615,xorshift32,2,2,1,0,3,forward,,,,,,,,,,,\n7,xorshift32,1,2,0.5,0,3,reverse-window,,,,,,,,,,,\n" +
			"8,mt19937,2,3,0.6666666666666666,4,0,forward,3:5,\"[4,-1,4]\",,,,,,,,,\n"},
		"empty csv": {nil, "csv", csvHeader},
	} {
		t.Run(name, func(t *testing.T) {
			s := &resultsServer{parts: tt.parts, stop: func(call, part int) error {
				if call < 3 && part == call {
					return connect.NewError(connect.CodeUnavailable, errors.New("no leader"))
				}
				return nil
			}}
			dial := serveFake(t, s)
			out := filepath.Join(t.TempDir(), "out")
			if r := runWith(t.Context(), t, dial, "", "results", "last", "--format", tt.format, "-o", out); r.code != 0 || r.stdout != "" {
				t.Fatalf("got %+v", r)
			}
			if got := readFile(t, out); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.format == "json" && !json.Valid([]byte(tt.want)) {
				t.Error("that is not JSON")
			}
		})
	}
}

func TestResultsAreWholeOrNotThere(t *testing.T) {
	dial := serveFake(t, &resultsServer{parts: []string{recordA, recordB}, stop: func(_, part int) error {
		if part == 1 {
			return connect.NewError(connect.CodeNotFound, errors.New("the job is gone"))
		}
		return nil
	}})
	dir := t.TempDir()
	r := runWith(t.Context(), t, dial, "", "results", "last", "-o", filepath.Join(dir, "out"))
	left, err := os.ReadDir(dir)
	if r.code != exitNotFound || err != nil || len(left) != 0 {
		t.Errorf("got %+v, the directory has %v, %v", r, left, err)
	}
}
