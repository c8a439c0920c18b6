package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/blob"
	"seedmesh/node/slot"
	"seedmesh/scripts"
)

// gather is where outcomes of the tasks 0 to 99 are gathered, and the pieces that
// are closed on the way; nothing settles them.
func gather(t *testing.T) *pieces {
	t.Helper()
	store, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	memory, err := newMemory(1024)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{store: store, dir: &dataDir{identity: identity{Name: "n1"}}, site: &site{root: root, memory: memory}}
	a := &attempt{claim: jobs.Claim{Range: jobs.Range{First: 0, Last: 99}}, last: 99}
	return &pieces{w: &worker{n: n}, a: a, since: time.Now(), closed: make(chan *piece, 10)}
}

// outcome of a task that succeeded, whose output is said to have so many bytes.
func (p *pieces) outcome(t *testing.T, task uint64, size int64) {
	t.Helper()
	file := scripts.OutputPath("0", task, 0)
	at := filepath.Join(p.w.n.site.root.Name(), file)
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte("o"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := scripts.Outcome{Task: task, Class: scripts.OK, Outputs: []scripts.Output{{Path: "o", Bytes: size}}}
	if err := p.add(o, []string{file}); err != nil {
		t.Fatal(err)
	}
}

// TestAPieceKnowsItsTime ends three tasks of ten seconds each: the time of a piece
// is that of its tasks, and none waits for the end of the next.
func TestAPieceKnowsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := gather(t)
		for task := range uint64(3) {
			for range 50 {
				time.Sleep(200 * time.Millisecond)
				p.tick(task)
			}
			if len(p.closed) != int(task) {
				t.Fatalf("%d pieces are closed after %d tasks", len(p.closed), task)
			}
			p.outcome(t, task, 1)
		}
		for range 2 {
			c := <-p.closed
			if c.busy != 10*time.Second {
				t.Errorf("the piece up to task %d took %v, its task 10s", c.last, c.busy)
			}
			if _, err := c.segment.Finish(c.last); err != nil {
				t.Error(err)
			}
		}
		p.drop()
	})
}

// TestAPieceHasRoomForItsOutputs lets a task with as large outputs as it may have
// follow one with some: they are not of one piece, which no blob could hold.
func TestAPieceHasRoomForItsOutputs(t *testing.T) {
	p := gather(t)
	p.outcome(t, 0, 1)
	p.outcome(t, 1, scripts.MaxOutput)
	if len(p.closed) != 1 {
		t.Fatalf("%d pieces are closed", len(p.closed))
	}
	c := <-p.closed
	if _, err := c.segment.Finish(c.last); err != nil || c.last != 0 {
		t.Errorf("the first piece ends with task %d: %v", c.last, err)
	}
	p.drop()
}

// TestFailedTasks lists what a retry runs again, and refuses more than fits into memory.
func TestFailedTasks(t *testing.T) {
	j := &scriptJob{tasks: &scripts.Spec{Template: &scripts.Task{Argv: []string{"x"}}, Axes: []scripts.Axis{{From: 0, To: 1<<32 - 1}}}}
	j.JobInfo, j.ended = &v1.JobInfo{Id: "1"}, true
	for name, tt := range map[string]struct {
		spans []span
		want  int
		code  connect.Code
	}{
		"those that are not done": {[]span{{Range: jobs.Range{First: 0, Last: 3}, state: "done"}, {Range: jobs.Range{First: 4, Last: 6}, state: "failed"}}, 3, 0},
		"all are done":            {[]span{{Range: jobs.Range{First: 0, Last: 3}, state: "done"}}, 0, connect.CodeFailedPrecondition},
		"too many":                {[]span{{Range: jobs.Range{First: 0, Last: 1<<32 - 1}, state: "open"}}, 0, connect.CodeResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			j.spans = tt.spans
			list, err := j.failedTasks()
			var refused *api.Error
			if errors.As(err, &refused); len(list) != tt.want || (refused != nil) != (tt.code != 0) || refused != nil && refused.Code != tt.code {
				t.Errorf("%d tasks, %v; want %d, %v", len(list), err, tt.want, tt.code)
			}
		})
	}
}

// TestTasksOfANewerJob says that they are, before anything is done for them.
func TestTasksOfANewerJob(t *testing.T) {
	p := gather(t)
	_, err := p.w.runTasks(t.Context(), p, []byte(`{"version":1,"template":{"argv":["true"]},"colour":"red"}`))
	if !isBeyond(err) || !strings.Contains(err.Error(), "upgrade this node") {
		t.Errorf("tasks with an unknown field: %v", err)
	}
}

// TestWhatIsLeftIsGivenBack releases what a claim has left when its slot is stuck,
// which charges nobody, and nothing when all of it is settled.
func TestWhatIsLeftIsGivenBack(t *testing.T) {
	for name, tt := range map[string]struct {
		first    uint64 // that is not settled
		err      error
		released bool
		charged  bool
	}{
		"all is settled":    {100, nil, false, false},
		"a part is left":    {40, nil, true, false},
		"no room":           {40, errNoRoom, true, false},
		"a stuck slot":      {0, &slot.Error{Class: slot.Stuck}, true, false},
		"a newer job":       {0, &beyondError{err: errors.New("unknown field")}, true, false},
		"a lost executor":   {40, &slot.Error{Class: slot.Died}, false, true},
		"the claim is gone": {40, context.Canceled, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := gather(t)
			p.first, p.a.claim.Range.Last = tt.first, 99
			if released, charged := p.leftover(tt.err); released != tt.released || charged != tt.charged {
				t.Errorf("released %t, charged %t, want %t, %t", released, charged, tt.released, tt.charged)
			}
		})
	}
}
