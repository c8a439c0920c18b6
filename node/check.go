package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"time"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/blob"
	"seedmesh/node/slot"
	"seedmesh/transport"
)

// A share of the pieces is searched twice: the node that has finished one asks another
// slot, on another kind of device where there is one, to search its seeds too, before it
// proposes the result. Equal questions give equal blobs. Where the two differ, the
// Go reference decides seed by seed, and who is wrong is quarantined.

const (
	maxCheckers   = 3                // slots that are asked, one after the other, until one answers
	checkSlack    = 20 * time.Second // for a check, in addition to checkPatience
	checkPatience = 4                // times as long as the piece took, until a checker is given up
	maxDisputes   = 1 << 16          // seeds that the reference decides
)

// A checkQuestion asks a slot to search a range of a job once more.
type checkQuestion struct {
	Job   jobs.JobID
	Stage uint32
	Range jobs.Range
	Slot  uint32
	Index uint64 // of the log, where the asker has read of the job
}

// A checkAnswer is what the slot found.
type checkAnswer struct {
	Survivors uint64
	Blob      jobs.Digest // of the survivors, in the answering node's store; zero without any
	Error     string      // why there is no answer
}

// A suspect is a slot as the ledger knows it.
type suspect struct {
	jobs.SlotID
	life   uint64 // incarnation of its node
	name   string // of its node
	device string
}

func (s suspect) String() string { return fmt.Sprintf("slot %d of %s (%s)", s.Index, s.name, s.device) }

// drawn tells whether the piece under a fence is one of the share that is checked.
func drawn(fence uint64, share float64) bool {
	h := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("check"), fence))
	return float64(binary.LittleEndian.Uint64(h[:])>>11)/(1<<53) < share
}

// confirmed has a finished piece searched once more if it is drawn. It returns
// false when the result is not to be committed, because its own slot is wrong: then the claim
// has ended. What no other slot can check is taken as it is.
func (n *Node) confirmed(ctx context.Context, c jobs.Claim, r slot.Result, f *jobs.Finish) bool {
	if !drawn(c.Fence, n.cfg.Search.CheckShare) {
		return true
	}
	ctx, cancel := n.whileHeld(ctx, c.Fence)
	defer cancel()
	own, others := n.checkers(c)
	q := checkQuestion{Job: c.Job, Stage: c.Stage, Range: jobs.Range{First: c.Range.First, Last: r.Last}, Index: n.log.Applied()}
	for _, other := range others[:min(len(others), maxCheckers)] {
		q.Slot = other.Index
		a, err := n.askCheck(ctx, other.Node, q, checkPatience*r.Elapsed+checkSlack)
		if err != nil {
			n.cfg.Logger.Warn("a piece was not checked", "job", c.Job, "seeds", q.Range, "by", other, "err", err)
			continue
		}
		if a.Survivors == f.Survivors && a.Blob == f.Blob {
			return true
		}
		return n.decide(ctx, c, q, dispute{own, f.Blob}, dispute{other, a.Blob})
	}
	return ctx.Err() == nil
}

// whileHeld is a context that ends when the ledger no longer has a claim.
func (n *Node) whileHeld(ctx context.Context, fence uint64) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	n.goDo(func() {
		for held := true; held && ctx.Err() == nil; {
			index := n.log.Applied()
			n.log.View(func(s *jobs.State) { _, held = s.Claim(fence) })
			if !held {
				break
			}
			select {
			case <-ctx.Done():
			case <-n.log.Watch(index):
			}
		}
		cancel()
	})
	return ctx, cancel
}

// checkers are the slot of a claim, and those that may check it: on other kinds of
// device before its own kind, and not always the same first.
func (n *Node) checkers(c jobs.Claim) (own suspect, others []suspect) {
	n.log.View(func(s *jobs.State) {
		for _, m := range s.Nodes() {
			for i, sl := range m.Slots {
				one := suspect{jobs.SlotID{Node: m.ID, Index: uint32(i)}, m.Incarnation, m.Name, sl.Device}
				if one.SlotID == c.Slot {
					own = one
					continue
				}
				if _, quarantined := sl.Quarantined(); m.Alive && !quarantined {
					others = append(others, one)
				}
			}
		}
	})
	if len(others) > 0 {
		turn := int(c.Fence % uint64(len(others)))
		others = append(slices.Clone(others[turn:]), others[:turn]...)
	}
	same := func(s suspect) int {
		if s.device == own.device {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(others, func(a, b suspect) int { return cmp.Compare(same(a), same(b)) })
	return own, others
}

// askCheck has a slot, here or on another node, search.
func (n *Node) askCheck(ctx context.Context, of jobs.NodeID, q checkQuestion, limit time.Duration) (a checkAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if of == n.id {
		a = n.check(ctx, q)
	} else {
		err = n.ask(ctx, kindCheck, of, func(conn net.Conn) error {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			return errors.Join(sendJSON(conn, q), receiveJSON(conn, &a))
		})
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return a, err
}

// serveChecks answers other nodes.
func (n *Node) serveChecks(ctx context.Context) {
	n.serve(ctx, kindCheck, func(ctx context.Context, conn *transport.Conn) {
		var q checkQuestion
		if err := errors.Join(conn.SetReadDeadline(time.Now().Add(wordsTimeout)), receiveJSON(conn, &q), conn.SetReadDeadline(time.Time{})); err != nil {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		n.goDo(func() { // ends with the connection
			_, _ = conn.Read(make([]byte, 1)) // whoever asked is gone
			cancel()
		})
		if err := sendJSON(conn, n.check(ctx, q)); err != nil {
			n.cfg.Logger.Debug("a check was in vain", "peer", conn.Peer().ID, "err", err)
		}
	})
}

// check searches a range in a slot of this node, when its turn comes.
func (n *Node) check(ctx context.Context, q checkQuestion) (a checkAnswer) {
	fail := func(err error) checkAnswer { return checkAnswer{Error: err.Error()} }
	if err := n.log.WaitApplied(ctx, q.Index); err != nil {
		return fail(err)
	}
	var task slot.Task
	n.log.View(func(s *jobs.State) {
		if j := s.Job(q.Job); j != nil && j.Kind == jobs.Seeds && int(q.Stage) < len(j.Stages) && q.Range.Valid() && j.Stages[q.Stage].Range.Contains(q.Range) {
			task = slot.Task{Spec: j.Spec, Generator: j.Stages[q.Stage].Label, Range: kernels.Range(q.Range)}
		}
	})
	if task.Spec == nil || int(q.Slot) >= len(n.workers) {
		return fail(errors.New("there is no such piece or slot"))
	}
	spec, err := n.specOf(ctx, task.Spec)
	if err != nil {
		return fail(err)
	}
	task.Spec = spec
	spool := n.store.NewWriter(q.Stage, q.Range.First)
	task.Emit = func(batch []kernels.Survivor) error { return spool.Append(batch...) }
	result, err := n.workers[q.Slot].again(ctx, task)
	if err == nil && (!result.OK || result.Last != q.Range.Last) {
		err = errors.New("the search ended early")
	}
	if a.Survivors = spool.Count(); err != nil || a.Survivors == 0 {
		n.discard(spool)
	} else {
		var info blob.Info
		info, err = spool.Finish(q.Range.Last)
		a.Blob = info.Digest
	}
	if err != nil {
		return fail(err)
	}
	return a
}

// A dispute is what one of two slots found in a range: a blob, or nothing.
type dispute struct {
	suspect
	blob jobs.Digest
}

// decide holds two different answers against the reference, and quarantines who is
// wrong. It returns whether the first one, of this node, is right and the claim holds.
func (n *Node) decide(ctx context.Context, c jobs.Claim, q checkQuestion, mine, other dispute) bool {
	wrong, err := n.compare(ctx, q, mine, other)
	if wrong[0] == nil && wrong[1] == nil {
		what := fmt.Sprintf("%s and %s differ on %s, and it was not found out which is wrong: %v", mine.suspect, other.suspect, q.Range, err)
		n.cfg.Logger.Error(what)
		n.tell(n.ctx, &jobs.Fail{
			Fence: c.Fence, Node: n.id, Incarnation: c.Incarnation, Charged: q.Range, Class: "undecided", Message: bounded(what, jobs.MaxTextBytes),
		})
		return false
	}
	for i, d := range []dispute{mine, other} {
		if wrong[i] == nil {
			continue
		}
		reason := fmt.Sprintf("%s gave a wrong answer for seed %d of job %s, found by searching %s twice", d.suspect, *wrong[i], q.Job, q.Range)
		n.cfg.Logger.Error("a slot is quarantined: check its hardware and driver, then release it", "reason", reason)
		n.tell(n.ctx, &jobs.Quarantine{
			Node: n.id, Incarnation: n.incarnationNow(), Slot: d.SlotID, Life: d.life, Job: q.Job, Reason: bounded(reason, jobs.MaxTextBytes),
		})
	}
	return wrong[0] == nil
}

// searchOf is the search of a question's job.
func (n *Node) searchOf(ctx context.Context, q checkQuestion) (*kernels.Search, error) {
	var kept []byte
	var generator string
	n.log.View(func(s *jobs.State) {
		if j := s.Job(q.Job); j != nil {
			kept, generator = bytes.Clone(j.Spec), j.Stages[q.Stage].Label
		}
	})
	if kept == nil {
		return nil, errors.New("the job is gone")
	}
	encoded, err := n.specOf(ctx, kept)
	if err != nil {
		return nil, err
	}
	spec, err := kernels.DecodeSpec(encoded)
	if err != nil {
		return nil, err
	}
	return spec.Compile(generator)
}

// compare gives, for each of two answers, the first seed at which it is not what
// the reference says.
func (n *Node) compare(ctx context.Context, q checkQuestion, mine, other dispute) (wrong [2]*uint64, err error) {
	search, err := n.searchOf(ctx, q)
	if err != nil {
		return wrong, err
	}
	if other.blob != (jobs.Digest{}) {
		if err := n.fetch(ctx, other.blob, []jobs.NodeID{other.Node}); err != nil {
			return wrong, err
		}
	}
	left := maxDisputes
	for pair, err := range n.differences(mine.blob, other.blob) {
		if err != nil || left == 0 || ctx.Err() != nil {
			return wrong, errors.Join(err, ctx.Err())
		}
		left--
		seed := pair[0].Seed
		truth, survives := search.Record(seed)
		for i := range pair {
			if found := pair[i].found; wrong[i] == nil && (found != survives || found && pair[i].Survivor != truth) {
				wrong[i] = &seed
			}
		}
		if wrong[0] != nil && wrong[1] != nil {
			break
		}
	}
	return wrong, nil
}

// A finding is what one of two answers has for a seed.
type finding struct {
	kernels.Survivor
	found bool
}

// differences walks through two blobs at the same time, and gives the seeds for which they
// do not have the same record. The zero digest is a blob without survivors.
func (n *Node) differences(a, b jobs.Digest) iter.Seq2[[2]finding, error] {
	return func(yield func([2]finding, error) bool) {
		nextA, stopA := iter.Pull2(n.survivors(a))
		defer stopA()
		nextB, stopB := iter.Pull2(n.survivors(b))
		defer stopB()
		va, errA, moreA := nextA()
		vb, errB, moreB := nextB()
		for moreA || moreB {
			if err := errors.Join(errA, errB); err != nil {
				yield([2]finding{}, err)
				return
			}
			takeA, takeB := moreA && (!moreB || va.Seed <= vb.Seed), moreB && (!moreA || vb.Seed <= va.Seed)
			pair := [2]finding{{kernels.Survivor{Seed: vb.Seed}, false}, {kernels.Survivor{Seed: va.Seed}, false}}
			if takeA {
				pair[0] = finding{va, true}
			}
			if takeB {
				pair[1] = finding{vb, true}
			}
			if pair[0] != pair[1] && !yield(pair, nil) {
				return
			}
			if takeA {
				va, errA, moreA = nextA()
			}
			if takeB {
				vb, errB, moreB = nextB()
			}
		}
	}
}

// survivors are those of a blob of this node's store.
func (n *Node) survivors(d jobs.Digest) iter.Seq2[kernels.Survivor, error] {
	return func(yield func(kernels.Survivor, error) bool) {
		if d == (jobs.Digest{}) {
			return
		}
		r, err := n.store.Survivors(d)
		if err != nil {
			yield(kernels.Survivor{}, err)
			return
		}
		defer func() { _ = r.Close() }() // it was only read
		for v, err := range r.All() {
			if !yield(v, err) {
				return
			}
		}
	}
}
