package bubble

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/anishathalye/porcupine"

	"seedmesh/node/api"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/tests/faults"
)

// TestEndSeenElsewhere reads a job's results through a node whose log was cut off while
// the job ended: what others show is not denied.
func TestEndSeenElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		leader := m.leader()
		behind := (leader + 1) % 3
		s := newSearch(0, 60_000)
		m.mustSubmit(leader, s)
		m.await("the job on every node", time.Minute, func() bool { return m.job(behind, s.id) != nil })
		landed := newNemesis(m, 1).cutOff(behind, planeNamed("raft"), true, true)
		m.await("its end", 3*time.Minute, func() bool { j := m.job(leader, s.id); return j != nil && j.State == "done" })
		if j := m.job(behind, s.id); j == nil || j.State == "done" {
			t.Fatalf("the node whose log is cut off has the job as %v", j)
		}
		faults.Landed(t, faults.Bubble, "log of a follower cut off", "I9", landed())
		if got, err := m.results(behind, s); err != nil || !bytes.Equal(got, m.local(s)) {
			t.Errorf("results through the node that was behind: %d bytes, %v; an undisturbed search gives %d", len(got), err, len(m.local(s)))
		}
		m.drain(behind, s)
	})
}

// A question is what a client asks of one job, which it names by its key.
type question struct {
	job, verb string // verb: submit, cancel, pause, resume, priority or status
	priority  int32  // of the verb priority
}

// An answer is what it was told. The zero answer is none: what was asked may have
// happened, or may happen yet.
type answer struct {
	told     string // done, none (no such job), ended (refused, as the job has ended)
	id       string // of submit
	state    string // of status: working, paused or cancelled
	priority int32  // of status
}

// jobModel is what a job is to its users; the zero value does not exist. Its jobs
// never finish, so that nobody but users changes them.
type jobModel struct {
	exists, paused, cancelled bool
	id                        string
	priority                  int32
}

// step tells whether an answer is right for a job, and what the job is afterwards.
// What is not answered happens; if it never did, it is as if it happened last of all.
func step(state, input, output any) (bool, any) {
	j, q, a := state.(jobModel), input.(question), output.(answer)
	unknown := a.told == ""
	switch {
	case q.verb == "submit":
		same := !j.exists || unknown || j.id == "" || j.id == a.id
		if j.exists = true; !unknown {
			j.id = a.id
		}
		return same && (unknown || a.told == "done"), j
	case !j.exists:
		return unknown || a.told == "none", j
	case q.verb == "status":
		return unknown || a.told == "done" && a.state == j.state() && a.priority == j.priority, j
	case q.verb == "cancel":
		j.cancelled = true
		return unknown || a.told == "done", j
	case j.cancelled:
		return unknown || a.told == "ended", j
	case q.verb == "priority":
		j.priority = q.priority
	default:
		j.paused = q.verb == "pause"
	}
	return unknown || a.told == "done", j
}

func (j jobModel) state() string {
	switch {
	case j.cancelled:
		return "cancelled"
	case j.paused:
		return "paused"
	}
	return "working"
}

var jobsModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byJob := map[string][]porcupine.Operation{}
		for _, o := range history {
			byJob[o.Input.(question).job] = append(byJob[o.Input.(question).job], o)
		}
		var all [][]porcupine.Operation
		for _, one := range byJob {
			all = append(all, one)
		}
		return all
	},
	Init: func() any { return jobModel{} },
	Step: step,
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v: %+v", input, output)
	},
}

// never is the time of an answer that did not come.
const never = int64(1) << 62

// history is what clients asked and were told, in an order that the program saw: fake
// time is too coarse for that.
type history struct {
	clock atomic.Int64
	mu    sync.Mutex // guards what follows
	all   []porcupine.Operation
}

func (h *history) ask(client int, q question, do func() answer) {
	called := h.clock.Add(1)
	a := do()
	returned := h.clock.Add(1)
	if a.told == "" {
		returned = never
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, porcupine.Operation{ClientId: client, Input: q, Output: a, Call: called, Return: returned})
}

// TestLinearizable has clients submit, cancel, pause, resume, prioritise and look at
// jobs through any node, while the mesh is tormented: what they are told must agree
// with one order of all that they asked (I7).
func TestLinearizable(t *testing.T) {
	meshes, count := []int{3, 3, 5}, 150
	if testing.Short() {
		meshes, count = []int{3}, 10
	}
	for i, nodes := range meshes {
		t.Run(fmt.Sprintf("%d nodes, mesh %d", nodes, i), func(t *testing.T) {
			h := &history{}
			t.Run("asked", func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					m := newMesh(t, nodes, nodes, options{rate: 1})
					defer m.stop()
					n := newNemesis(m, mrand.Uint64())
					ctx, stop := context.WithCancel(t.Context())
					var clients sync.WaitGroup
					for c := range 4 {
						r := mrand.New(mrand.NewPCG(n.Uint64(), uint64(c)))
						clients.Go(func() { m.converse(ctx, r, c, h) })
					}
					n.torment(count)
					stop()
					clients.Wait()
					m.sameLedgers()
					n.account("I7 I12")
				})
			})
			t.Cleanup(func() { h.check(t) })
		})
	}
}

// check looks for an order of all that was asked that explains all that was told. It
// runs in real time.
func (h *history) check(t *testing.T) {
	told := 0
	for _, o := range h.all {
		if o.Output.(answer).told != "" {
			told++
		}
	}
	result := porcupine.CheckOperationsTimeout(jobsModel, h.all, time.Minute)
	t.Logf("%d questions, %d answered: %v", len(h.all), told, result)
	if told < len(h.all)/3 {
		t.Errorf("%d of %d questions were answered, which shows little", told, len(h.all))
	}
	if result == porcupine.Ok {
		return
	}
	t.Errorf("I7: the history is %v", result)
	for _, o := range h.all {
		t.Logf("%d..%d %+v: %+v", o.Call, o.Return, o.Input, o.Output)
	}
}

// jobsAsked is how many jobs the clients speak of.
const jobsAsked = 8

// converse asks one question after the other until ctx ends.
func (m *mesh) converse(ctx context.Context, r *mrand.Rand, client int, h *history) {
	verbs := []string{"submit", "status", "status", "status", "pause", "resume", "priority", "priority", "cancel"}
	for ctx.Err() == nil {
		number := r.IntN(jobsAsked)
		q := question{newSearch(number, roomForSeeds).key, verbs[r.IntN(len(verbs))], int32(r.IntN(100))}
		if q.verb == "cancel" && r.IntN(4) > 0 { // or all jobs soon are
			continue
		}
		n := m.at(r.IntN(len(m.lives)))
		if n == nil {
			time.Sleep(lookEvery)
			continue
		}
		h.ask(client, q, func() answer {
			ctx, cancel := context.WithTimeout(m.Context(), tryFor)
			defer cancel()
			return m.answer(ctx, clientOf(n), q, number)
		})
		time.Sleep(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
	}
}

// answer asks a node.
func (m *mesh) answer(ctx context.Context, c meshv1connect.MeshClient, q question, number int) answer {
	switch q.verb {
	case "submit":
		s := newSearch(number, roomForSeeds)
		r, err := c.Submit(ctx, connect.NewRequest(&meshv1.SubmitRequest{
			Spec: s.spec.Encode(), First: s.seeds.First, Last: s.seeds.Last, Key: s.key, Name: s.key,
		}))
		if err == nil {
			return answer{told: "done", id: r.Msg.Job}
		}
		return m.refused(err)
	case "status":
		r, err := c.Job(ctx, connect.NewRequest(&meshv1.JobRequest{Job: q.job, Linearizable: true}))
		if err != nil {
			return m.refused(err)
		}
		state := r.Msg.State
		if state == "queued" || state == "running" {
			state = "working"
		}
		return answer{told: "done", state: state, priority: r.Msg.Priority}
	}
	id := make([]byte, 16)
	rand.Read(id)
	_, err := c.Control(ctx, connect.NewRequest(&meshv1.ControlRequest{Job: q.job, Action: q.verb, Priority: q.priority, Request: id}))
	if err != nil {
		return m.refused(err)
	}
	return answer{told: "done"}
}

// refused makes an answer of an error: a refusal is one, anything else is none.
func (m *mesh) refused(err error) answer {
	switch code, what, _ := api.Explain(err); code {
	case connect.CodeNotFound:
		return answer{told: "none"}
	case connect.CodeFailedPrecondition:
		return answer{told: "ended"}
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled:
		return answer{}
	default:
		m.Errorf("%v: %s", code, what)
		return answer{}
	}
}
