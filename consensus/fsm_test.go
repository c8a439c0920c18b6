package consensus

import (
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"seedmesh/jobs"
)

// TestProgressIsNotHeldUp asks how far the ledger is while somebody looks at it and a
// change waits for him. Whoever asks may hold what he waits for.
func TestProgressIsNotHeldUp(t *testing.T) {
	f := newFSM(func(error) {}, nil)
	looking, seen := make(chan struct{}), make(chan struct{})
	defer close(seen)
	go f.view(func(*jobs.State) { close(looking); <-seen })
	<-looking
	go f.ApplyBatch([]*raft.Log{{Index: 1, Term: 1, Type: raft.LogNoop}})
	for f.mu.TryRLock() { // until the change waits
		f.mu.RUnlock()
		runtime.Gosched()
	}
	for name, ask := range map[string]func(){
		"applied": func() { f.applied() }, "last": func() { f.last() }, "watch": func() { f.watch(0) },
		"still": func() { f.still() }, "log time": func() { f.logTime() },
	} {
		done := make(chan struct{})
		go func() { ask(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s waits for the change", name)
		}
	}
}

// TestReadsSeeWhatFollowersShow asks a leader for where to read that has committed a
// command and not applied it yet: followers may have, and shown it to somebody.
func TestReadsSeeWhatFollowersShow(t *testing.T) {
	c := newCluster(t, 1)
	defer c.close()
	l := c.leader()
	index, err := l.ReadIndex(t.Context())
	if err != nil || index != l.Applied() {
		t.Fatalf("where there is nothing new to read: %d, %v, want %d", index, err, l.Applied())
	}
	looking, seen := make(chan struct{}), make(chan struct{})
	go l.View(func(*jobs.State) { close(looking); <-seen })
	<-looking
	proposed := make(chan struct{})
	go func() { defer close(proposed); c.propose(0, submit(1)) }()
	for l.raft.CommitIndex() == index {
		runtime.Gosched()
	}
	committed := l.raft.CommitIndex()
	if index, err = l.tryReadIndex(t.Context()); err != nil || index < committed || l.Applied() >= committed {
		t.Errorf("reads from %d on, %v, want from %d, which is committed; applied is %d", index, err, committed, l.Applied())
	}
	close(seen)
	<-proposed
}
