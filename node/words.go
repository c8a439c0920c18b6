package node

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"time"

	"seedmesh/jobs"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/scripts"
	"seedmesh/transport"
)

// What a running attempt has written so far is on its node alone. Another node asks
// that one, over a stream for each question; what it says is nothing that must not
// be lost, because the words of an ended attempt are part of its outcome.

// wordsQuestion asks what the attempt at a task that runs in a slot has written.
type wordsQuestion struct {
	Job     jobs.JobID
	Task    uint64
	Slot    uint32
	Started time.Time // of the attempt that From is about
	From    [2]uint64 // bytes of its standard output and its standard error that are known
}

type wordsAnswer struct {
	Runs  bool // false: no attempt at the task runs there now
	Words [2]scripts.LiveWords
}

const (
	maxQuestionBytes = 4 << 10
	maxAnswerBytes   = 1 << 20
	wordsTimeout     = 3 * time.Second // for one question; the follower asks again
	wordsFrame       = 1               // kind of both frames
)

// words answers a question about a slot of this node.
func (n *Node) words(q wordsQuestion) (a wordsAnswer, err error) {
	if int(q.Slot) >= len(n.workers) || n.site.root == nil {
		return a, nil
	}
	began, runs := n.workers[q.Slot].runs(q.Job)
	if !runs {
		return a, nil
	}
	for i := range a.Words {
		a.Words[i], err = scripts.ReadLive(n.site.root, n.site.place(q.Slot).Name, i, q.Started, q.From[i])
		if err != nil {
			return a, err
		}
	}
	out, errs := a.Words[0], a.Words[1]
	a.Runs = out.Task == q.Task && errs.Task == q.Task && out.Started.Equal(errs.Started) && !out.Started.Before(began)
	return a, nil
}

// runs tells whether the slot works on tasks of a job, and since when.
func (w *worker) runs(job jobs.JobID) (since time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.current; a != nil && a.tasks && a.claim.Job == job {
		return a.began.Round(0), true // by the wall clock, as in the executor
	}
	return time.Time{}, false
}

// serveWords answers the other nodes.
func (n *Node) serveWords(ctx context.Context) {
	n.serve(ctx, kindWords, func(_ context.Context, conn *transport.Conn) {
		err := n.answerWords(conn)
		if err != nil {
			n.cfg.Logger.Debug("a question about words failed", "peer", conn.Peer().ID, "err", err)
		}
	})
}

func (n *Node) answerWords(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(wordsTimeout)); err != nil {
		return err
	}
	var q wordsQuestion
	if err := readWords(conn, maxQuestionBytes, &q); err != nil {
		return err
	}
	a, err := n.words(q)
	if err != nil {
		return err
	}
	return writeWords(conn, a)
}

// askWords asks the node on which an attempt runs.
func (n *Node) askWords(ctx context.Context, of jobs.NodeID, q wordsQuestion) (a wordsAnswer, err error) {
	if of == n.id {
		return n.words(q)
	}
	ctx, cancel := context.WithTimeout(ctx, wordsTimeout)
	defer cancel()
	err = n.ask(ctx, kindWords, of, func(conn net.Conn) error {
		return errors.Join(conn.SetDeadline(time.Now().Add(wordsTimeout)), writeWords(conn, q), readWords(conn, maxAnswerBytes, &a))
	})
	return a, err
}

func writeWords(conn net.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return transport.WriteFrame(conn, wordsFrame, b)
}

func readWords(conn net.Conn, limit int, v any) error {
	_, b, err := transport.ReadFrame(conn, limit)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// live is what an attempt has written that is running, behind what the caller has
// of it; nil where that cannot be had now.
func (s *service) live(ctx context.Context, job jobs.JobID, number uint64, t jobs.TaskState, f *v1.Follow) (*v1.LiveInfo, error) {
	if f == nil || t.State != "running" {
		return nil, nil
	}
	q := wordsQuestion{Job: job, Task: number, Slot: t.Slot.Index, From: [2]uint64{f.Stdout, f.Stderr}}
	if f.Started != "" {
		var err error
		if q.Started, err = time.Parse(time.RFC3339Nano, f.Started); err != nil {
			return nil, invalid("%q is not the start of an attempt", f.Started)
		}
	}
	a, err := s.n.askWords(ctx, t.Slot.Node, q)
	if err != nil || !a.Runs {
		s.n.cfg.Logger.Debug("the words of a running attempt cannot be had", "job", job, "task", number, "err", err)
		return nil, nil
	}
	return &v1.LiveInfo{
		Started:    startOf(a.Words[0].Started),
		StdoutFrom: a.Words[0].From, Stdout: a.Words[0].Data, StderrFrom: a.Words[1].From, Stderr: a.Words[1].Data,
	}, nil
}

// startOf names an attempt by its start, the same in all answers.
func startOf(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
