package node

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"seedmesh/consensus"
	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/api"
	"seedmesh/node/blob"
)

// TestWhoseFaultItIs tells a request that cannot be done from a node that cannot
// do it: the exit codes are 2 and 1.
func TestWhoseFaultItIs(t *testing.T) {
	for err, want := range map[error]connect.Code{
		&kernels.SpecError{What: "w", Do: "d"}:    connect.CodeInvalidArgument,
		&blob.CorruptError{What: "w"}:             connect.CodeInternal,
		&blob.DiskFullError{}:                     connect.CodeInternal,
		&jobs.Refusal{Code: jobs.Limit}:           connect.CodeResourceExhausted,
		&jobs.Refusal{Code: jobs.UnknownJob}:      connect.CodeNotFound,
		consensus.ErrNoLeader:                     connect.CodeUnavailable,
		errors.New("something nobody thought of"): connect.CodeInternal,
	} {
		got := apiError(err)
		if connect.CodeOf(got) != want {
			t.Errorf("apiError(%v) has the code %v, want %v", err, connect.CodeOf(got), want)
		}
		if strings.Contains(got.Error(), "kernels: ") {
			t.Errorf("apiError(%v) names a package: %v", err, got)
		}
	}
}

// TestTooLargeForACommand refuses, with the exit code of limits, what the log would not take.
func TestTooLargeForACommand(t *testing.T) {
	for name, tt := range map[string]struct {
		submit jobs.Submit
		ok     bool
	}{
		"all that there is room for": {jobs.Submit{Name: strings.Repeat("n", jobs.MaxNameBytes), Spec: make([]byte, jobs.MaxSpecBytes)}, true},
		"a long name":                {jobs.Submit{Name: strings.Repeat("n", jobs.MaxNameBytes+1)}, false},
		"a long key":                 {jobs.Submit{Key: strings.Repeat("k", jobs.MaxKeyBytes+1)}, false},
		"a long submitter":           {jobs.Submit{Submitter: strings.Repeat("s", jobs.MaxTextBytes+1)}, false},
		"many attempts":              {jobs.Submit{Attempts: jobs.MaxAttempts + 1}, false},
		"a long specification":       {jobs.Submit{Spec: make([]byte, jobs.MaxSpecBytes+1)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if !tt.ok { // there is no mesh that it could reach
				_, err := new(service).submit(t.Context(), &tt.submit, nil)
				if connect.CodeOf(apiError(err)) != connect.CodeResourceExhausted {
					t.Errorf("submit: %v", err)
				}
			} else if err := checkSizes(&tt.submit); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFindJob resolves what a user may type for a job.
func TestFindJob(t *testing.T) {
	s := jobs.NewState()
	for id, name := range map[jobs.JobID]string{0xab01 << 48: "one", 0xab02 << 48: "two", 0xcd03 << 48: "one"} {
		s.Apply(jobs.Entry{Requests: []jobs.Request{{Command: &jobs.Submit{
			ID: id, Name: name, Kind: jobs.Seeds, Stages: []jobs.StageSpec{{Range: jobs.Range{Last: 9}, Grain: 1}},
		}}}})
	}
	for selector, want := range map[string]connect.Code{
		"ab01000000000000": 0, "ab01": 0, "two": 0, "last": 0, "one": 0,
		"ab": connect.CodeInvalidArgument, "a": connect.CodeNotFound, "": connect.CodeNotFound, "three": connect.CodeNotFound,
	} {
		j, err := findJob(s, selector)
		var refused *api.Error
		switch {
		case want == 0 && (err != nil || j == nil):
			t.Errorf("findJob(%q) = %v, %v", selector, j, err)
		case want != 0 && (!errors.As(err, &refused) || refused.Code != want):
			t.Errorf("findJob(%q) = %v, %v, want %v", selector, j, err, want)
		}
	}
	open := namesakes(s, "one", false)
	if j, err := findJob(s, "one"); err != nil || len(open) != 2 || j.ID.String() != open[1] {
		t.Errorf("of the jobs %v with one name it is %v, %v, want the newest", open, j, err)
	}
	if id, err := jobs.ParseJobID(open[0]); err != nil {
		t.Error(err)
	} else {
		s.Apply(jobs.Entry{Requests: []jobs.Request{{Command: &jobs.Control{Job: id, Action: jobs.Cancel}}}})
	}
	if left, over := namesakes(s, "one", false), namesakes(s, "one", true); !slices.Equal(left, open[1:]) || !slices.Equal(over, open[:1]) {
		t.Errorf("of %v, with the first cancelled, %v have not ended and %v have", open, left, over)
	}
}
