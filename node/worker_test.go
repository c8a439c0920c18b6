package node

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/blob"
	"seedmesh/node/slot"
	"seedmesh/scripts"
	"seedmesh/transport/memnet"
)

// alone starts a mesh of one node in a bubble, with one slot of a stated rate;
// its executor may be wrapped.
func alone(t *testing.T, rate float64, wrap ...func(slot.Executor) slot.Executor) *Node {
	t.Helper()
	return aloneOn(t, SlotConfig{Device: "sim", SimRate: rate}, wrap...)
}

// aloneOn is alone with a slot that may be called something else than it is.
func aloneOn(t *testing.T, only SlotConfig, wrap ...func(slot.Executor) slot.Executor) *Node {
	t.Helper()
	dir := t.TempDir()
	if _, err := Init(Setup{Dir: dir, Name: "n1", Listen: aloneAt}); err != nil {
		t.Fatal(err)
	}
	return openAlone(t, dir, only, wrap...)
}

const aloneAt = "10.0.0.1:7946"

// openAlone starts the node of aloneOn from its directory.
func openAlone(t *testing.T, dir string, only SlotConfig, wrap ...func(slot.Executor) slot.Executor) *Node {
	t.Helper()
	conn, err := memnet.New(1).Listen(aloneAt)
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Dir, c.Node.Slots = dir, []SlotConfig{only}
	c.Seams = Seams{PacketConn: conn, NoSocket: true, Executor: func(i int, s SlotConfig) (slot.Executor, error) {
		e := slot.NewInProcess(i, kernels.NewSim(kernels.SimConfig{Rate: s.SimRate}))
		for _, w := range wrap {
			e = w(e)
		}
		return e, nil
	}}
	n, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// until waits, in fake time, for something to hold.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within ten minutes of fake time", what)
		}
	}
}

// submitLong submits a job of two million seeds.
func submitLong(t *testing.T, n *Node) (id string) {
	t.Helper()
	draws, err := kernels.ParseDraws(strings.NewReader("206 87 595 819"))
	if err != nil {
		t.Fatal(err)
	}
	spec := &kernels.Spec{Generators: []string{"xorshift32"}, Draws: draws, Observe: "mod:1000", Skip: kernels.Bounds{Max: 3}, MinMatches: 1}
	until(t, "acknowledged submit", func() bool {
		r, err := n.API().Submit(t.Context(), connect.NewRequest(&v1.SubmitRequest{Spec: spec.Encode(), Last: 2_000_000, Key: "k", ChunkTimeMs: 20_000}))
		if err == nil {
			id = r.Msg.Job
		}
		return err == nil
	})
	return id
}

// longClaim submits a job, and gives its id and a claim of it that is under way.
func longClaim(t *testing.T, n *Node) (id string, claim jobs.Claim) {
	t.Helper()
	id = submitLong(t, n)
	until(t, "claim of more than ten seconds under way", func() bool {
		claim = jobs.Claim{}
		if p := n.workers[0].progress(); len(p) == 1 && p[0].Done > 0 {
			n.log.View(func(s *jobs.State) {
				if c, held := s.Claim(p[0].Fence); held && c.Range.Last-c.Range.First > 200_000 {
					claim = c
				}
			})
		}
		return claim.Fence != 0
	})
	return id, claim
}

// endsComplete waits for the end of a job in which every seed was searched once,
// and closes the node.
func endsComplete(t *testing.T, n *Node, id string) {
	t.Helper()
	until(t, "end of the job", func() bool {
		r, err := n.API().Job(t.Context(), connect.NewRequest(&v1.JobRequest{Job: id}))
		return err == nil && r.Msg.State == "done"
	})
	r, err := n.API().Ledger(t.Context(), connect.NewRequest(&v1.LedgerRequest{Job: id, Verify: true}))
	if err != nil || !r.Msg.Complete || len(r.Msg.Problems) > 0 {
		t.Errorf("the ledger is %v, %v", r, err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
}

// TestTrimEndsWhereTheWorkerStops trims a running claim: the executor ends where the
// ledger says, so that what it found counts, and every seed is searched once.
func TestTrimEndsWhereTheWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := alone(t, 20_000)
		id, claim := longClaim(t, n)
		n.trim(claim.Fence)
		trimmed, counts := claim, false
		look := func() (held bool) {
			n.log.View(func(s *jobs.State) {
				var now jobs.Claim
				if now, held = s.Claim(claim.Fence); held {
					trimmed = now
				}
				for _, p := range s.Job(claim.Job).Stages[claim.Stage].Done {
					counts = counts || p.First <= trimmed.Range.First && p.Last >= trimmed.Range.Last
				}
			})
			return held
		}
		until(t, "shorter claim", func() bool {
			if !look() {
				t.Fatal("the claim ended before it was trimmed")
			}
			return trimmed.Range.Last < claim.Range.Last
		})
		until(t, "end of the claim", func() bool { return !look() })
		if !counts {
			t.Errorf("the claim of %v, trimmed to %v, ended without a result", claim.Range, trimmed.Range)
		}
		endsComplete(t, n, id)
	})
}

// breaking is an executor whose device can be broken during a search.
type breaking struct {
	slot.Executor
	broken atomic.Bool
}

func (b *breaking) Run(ctx context.Context, t slot.Task) (slot.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed, progress := false, t.Progress
	t.Progress = func(done uint64) {
		progress(done)
		if b.broken.Swap(false) {
			failed = true
			cancel()
		}
	}
	r, err := b.Executor.Run(ctx, t)
	if failed {
		err = &slot.Error{Class: slot.Failed, Message: "the device broke"}
	}
	return r, err
}

// TestForsakenClaimIsGivenBack has an attempt end without a word to the ledger, as by an
// error in this program. The claim must not stay the slot's for ever.
func TestForsakenClaimIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := alone(t, 20_000)
		id, claim := longClaim(t, n)
		w := n.workers[0]
		w.mu.Lock()
		w.current.cancel()
		w.mu.Unlock()
		until(t, "end of the attempt", func() bool { return len(w.progress()) == 0 || w.progress()[0].Fence != claim.Fence })
		if held := heldClaim(n, claim.Fence); !held {
			t.Fatal("the ledger has heard of the attempt's end, so that this tests nothing")
		}
		until(t, "claim given back", func() bool { return !heldClaim(n, claim.Fence) })
		endsComplete(t, n, id)
	})
}

func heldClaim(n *Node, fence uint64) (held bool) {
	n.log.View(func(s *jobs.State) { _, held = s.Claim(fence) })
	return held
}

// TestFailureOfATrimmedClaim breaks the device after a claim was trimmed: what is
// left of it is tried again.
func TestFailureOfATrimmedClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *breaking
		n := alone(t, 20_000, func(e slot.Executor) slot.Executor {
			b = &breaking{Executor: e}
			return b
		})
		id, claim := longClaim(t, n)
		n.trim(claim.Fence)
		until(t, "shorter claim", func() bool {
			var now jobs.Claim
			n.log.View(func(s *jobs.State) { now, _ = s.Claim(claim.Fence) })
			return now.Fence != 0 && now.Range.Last < claim.Range.Last
		})
		b.broken.Store(true)
		until(t, "failure", func() bool {
			r, err := n.API().Job(t.Context(), connect.NewRequest(&v1.JobRequest{Job: id}))
			return err == nil && r.Msg.Failures > 0
		})
		endsComplete(t, n, id)
	})
}

// TestHolderRemovedMeanwhile commits a result that names a holder which was removed
// for good before it was committed.
func TestHolderRemovedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := alone(t, 20_000)
		_, claim := longClaim(t, n)
		f := &jobs.Finish{
			Fence: claim.Fence, Node: n.id, Incarnation: claim.Incarnation, Last: claim.Range.Last, Account: jobs.AccountOf(claim.Range),
			Survivors: 1, Blob: jobs.Digest{1}, Holders: []jobs.NodeID{n.id, {9}},
		}
		if refusal := n.commit(t.Context(), f, f.Blob, &f.Holders); refusal != nil {
			t.Errorf("the result is refused: %v", refusal)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
	})
}

// TestJobOfANewerProgram gives a slot a job that it cannot read. It is given back and charged
// to nobody, everybody is told, and other jobs are done.
func TestJobOfANewerProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := alone(t, 1_000_000)
		newer := &jobs.Submit{
			ID: 7, Kind: jobs.Seeds, Spec: []byte(`{"version":99,"colour":"red"}`), Attempts: 1, Priority: 1,
			Stages: []jobs.StageSpec{{Label: "mt19937", Range: jobs.Range{First: 0, Last: 99}, Grain: 10, Shape: "s"}},
		}
		if o, err := n.propose(t.Context(), newer); err != nil || o.Err() != nil {
			t.Fatal(err, o.Err())
		}
		alarm := func() bool {
			r, err := n.API().Status(t.Context(), connect.NewRequest(&v1.StatusRequest{}))
			return err == nil && len(r.Msg.Alarms) == 1 && strings.Contains(r.Msg.Alarms[0], "node n1: it cannot work on job 0000000000000007, which was made by a newer seedmesh: upgrade this node")
		}
		until(t, "alarm", alarm)
		time.Sleep(time.Minute) // of fake time: it is tried again and again
		n.log.View(func(s *jobs.State) {
			if j := s.Job(7); j.State.Terminal() || j.Failures != 0 || j.LastError != "" {
				t.Errorf("the job is %s after %d failures: %s", j.State, j.Failures, j.LastError)
			}
		})
		if !alarm() {
			t.Error("the alarm has ended before its cause")
		}
		id := submitLong(t, n)
		if _, err := n.API().Control(t.Context(), connect.NewRequest(&v1.ControlRequest{Job: id, Action: "priority", Priority: 2})); err != nil {
			t.Fatal(err)
		}
		until(t, "end of another job", func() bool {
			r, err := n.API().Job(t.Context(), connect.NewRequest(&v1.JobRequest{Job: id}))
			return err == nil && r.Msg.State == "done"
		})
		if _, err := n.propose(t.Context(), &jobs.Control{Job: 7, Action: jobs.Cancel}); err != nil {
			t.Fatal(err)
		}
		until(t, "end of the alarm", func() bool { return !alarm() })
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
	})
}

// TestFailuresOfTheDisk are told apart from those of tasks: the node rests that has them.
func TestFailuresOfTheDisk(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		var err error = &os.PathError{Op: "write", Path: "blobs/x", Err: errno}
		if errno == syscall.ENOSPC || errno == syscall.EDQUOT {
			err = &blob.DiskFullError{Op: "writing", Err: err}
		}
		if class, _ := failureOf(fmt.Errorf("a segment: %w", err)); class != storageFailure {
			t.Errorf("%v is a failure of class %q", errno, class)
		}
	}
}

// TestClassesThatWait holds the ledger's names of failures that take a while to end against
// those that nodes report.
func TestClassesThatWait(t *testing.T) {
	usual := jobs.Backoff(string(scripts.ExitCode), 1)
	for _, class := range []string{string(scripts.GPUFault), string(scripts.InputMissing), string(scripts.DiskFull), storageFailure} {
		if jobs.Backoff(class, 1) <= usual {
			t.Errorf("after %q a piece waits no longer than after an exit code", class)
		}
	}
}
