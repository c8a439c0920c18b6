package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// poll is how long one call waits for a job's end.
const poll = time.Second

// follow shows a job's progress until it has ended. A job that failed or was
// cancelled is an error with the exit code for that; so is the end of the time,
// which is unbounded when it is 0. An interrupt detaches: the job goes on.
func (e *env) follow(ctx context.Context, job string, quiet bool, timeout time.Duration) (*meshv1.JobInfo, error) {
	meter := newMeter(e, quiet)
	defer meter.clear()
	wait, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		wait, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	every := poll
	if meter.width > 0 {
		every = poll / 4
	}
	elapsed := 0.0
	for {
		info, err := call(wait, e, meshv1connect.MeshClient.Job, &meshv1.JobRequest{Job: job, WaitMs: uint64(every.Milliseconds())})
		switch {
		case ctx.Err() != nil:
			return nil, detached(job, "seedmesh job watch "+job)
		case wait.Err() != nil, timeout > 0 && connect.CodeOf(err) == connect.CodeDeadlineExceeded: // the node's clock may be first
			return nil, &exitError{code: exitTimeout, err: fmt.Errorf("job %s has not ended within %s", job, timeout), next: "it goes on; wait again with: seedmesh job wait " + job}
		case err != nil:
			return nil, err
		}
		job = info.GetId() // what "last" or a name meant stays meant
		// A job's times are the log's. What a node says before it knows the newest entry, or while
		// no leader counts on, is an estimate that the next entry may correct downwards.
		elapsed = max(elapsed, info.GetElapsedSeconds())
		info.ElapsedSeconds = elapsed
		if ended(info.GetState()) {
			return info, e.conclude(meter, info)
		}
		if meter.due() {
			meter.show(progressOf(info))
		}
	}
}

// ended tells whether a job's state is final.
func ended(state string) bool { return state == "done" || state == "failed" || state == "cancelled" }

func detached(job, back string) error {
	return &exitError{code: exitInterrupted, err: errors.New("detached from job " + job + ", which goes on"), next: "come back with: " + back}
}

// conclude shows how a job ended.
func (e *env) conclude(meter *meter, info *meshv1.JobInfo) error {
	p := progressOf(info)
	if info.GetElapsedSeconds() > 0 && p.Rate == 0 {
		done, _ := strconv.ParseFloat(info.GetDone(), 64)
		p.Rate = math.Round(done / info.GetElapsedSeconds())
	}
	meter.finish(p)
	if info.GetState() == "done" {
		if info.GetWarning() != "" {
			warnChance(e.stderr, p.Expected, p.Survivors, analyses(info))
		}
		return nil
	}
	return jobFailed(info)
}

// jobFailed is the error for a job that ended otherwise than done.
func jobFailed(info *meshv1.JobInfo) error {
	exit := &exitError{code: exitJobFailed, err: fmt.Errorf("job %s is %s", info.GetId(), info.GetState())}
	if info.GetState() == "failed" {
		exit.why = firstLine(info.GetLastError())
		if isScripts(info) {
			exit.next = "see them with: seedmesh task ls --state failed " + info.GetId() + ", and try them again with: seedmesh job retry " + info.GetId()
			return exit
		}
		exit.next = "what was found before: seedmesh results --partial " + info.GetId()
	}
	return exit
}

func progressOf(info *meshv1.JobInfo) progress {
	done, _ := strconv.ParseFloat(info.GetDone(), 64) // for show: 0 is good enough for what is no number
	total, _ := strconv.ParseFloat(info.GetTotal(), 64)
	survivors, _ := strconv.ParseUint(info.GetSurvivors(), 10, 64)
	return progress{
		State: info.GetState(), Done: info.GetDone(), Total: info.GetTotal(),
		Rate: info.GetRate(), StepsRate: info.GetStepsRate(), ETA: info.GetEtaSeconds(), Slots: info.GetSlots(),
		Survivors: survivors, Expected: info.GetExpectedByChance(), Elapsed: info.GetElapsedSeconds(),
		share: done / max(total, 1), tasks: isScripts(info), lost: orNone(info.GetFailed()),
	}
}
