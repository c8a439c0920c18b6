package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"seedmesh/jobs"
)

// Waits of proposing.
const (
	resendAfter = 300 * time.Millisecond // wait for the leader's answer before asking again
	retryPause  = 10 * time.Millisecond  // wait for a leader to be known
)

// errNotLeading means that the request must go to another node.
var errNotLeading = errors.New("consensus: this node does not lead")

// leader is the part of a node that works while it leads. It stamps entries with
// log time: the ledger's time at its barrier plus the monotonic time since.
type leader struct {
	log     *Log
	entries *batcher

	mu     sync.Mutex // guards what follows
	term   uint64     // of the present leadership; 0 while not leading
	base   jobs.Instant
	since  time.Time
	notify chan struct{} // closed when the leadership changes, here or elsewhere
}

func newLeader(l *Log) *leader {
	d := &leader{log: l, notify: make(chan struct{})}
	d.entries = newBatcher(d.propose)
	return d
}

// run follows Raft's word on who leads, until the log closes.
func (d *leader) run(notify <-chan bool) {
	observed := make(chan raft.Observation, 16)
	observer := raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	d.log.raft.RegisterObserver(observer)
	defer d.log.raft.DeregisterObserver(observer)
	for {
		select {
		case <-d.log.ctx.Done():
			d.set(0)
			return
		case <-observed:
			d.signal()
		case leads := <-notify:
			for len(notify) > 0 { // only the latest word counts
				leads = <-notify
			}
			if !leads {
				d.set(0)
				continue
			}
			d.takeOver()
		}
	}
}

// takeOver begins a leadership: nothing is judged before the ledger holds all
// that earlier leaders committed (invariant I11).
func (d *leader) takeOver() {
	term := d.log.raft.CurrentTerm()
	if err := d.log.raft.Barrier(0).Error(); err != nil {
		d.log.cfg.Logger.Warn("barrier failed", "term", term, "err", err)
		return
	}
	if d.log.raft.CurrentTerm() == term { // otherwise Raft has another word for us, and the barrier may be of another term
		d.set(term)
	}
}

func (d *leader) set(term uint64) {
	var base jobs.Instant
	d.log.View(func(s *jobs.State) { base = s.Now() })
	d.mu.Lock()
	d.term, d.base, d.since = term, base, time.Now()
	d.mu.Unlock()
	d.signal()
}

func (d *leader) signal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.notify)
	d.notify = make(chan struct{})
}

func (d *leader) changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notify
}

func (d *leader) ready() (term uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.term, d.term != 0
}

func (d *leader) logTime() jobs.Instant {
	d.mu.Lock()
	leads, at := d.term != 0, d.base+jobs.Instant(time.Since(d.since).Milliseconds())
	d.mu.Unlock()
	if leads {
		return at
	}
	return d.log.fsm.logTime()
}

// propose puts a batch into the log as one entry and answers its proposals when
// it is applied.
func (d *leader) propose(batch []*proposal) {
	entry := jobs.Entry{At: d.logTime(), Requests: make([]jobs.Request, len(batch))}
	for i, p := range batch {
		entry.Requests[i] = p.request
	}
	future := d.log.raft.Apply(entry.Encode(), 0)
	if err := future.Error(); err != nil {
		fail(batch, fmt.Errorf("%w: %w", errNotLeading, err))
		return
	}
	outcomes, ok := future.Response().([]jobs.Outcome)
	if !ok { // the entry could not be applied, and the node stops
		fail(batch, ErrClosed)
		return
	}
	for i, p := range batch {
		p.done <- result{outcome: outcomes[i], index: future.Index()}
	}
	if d.entries.alone() { // otherwise the next entry tells
		d.log.announcer.announce()
	}
}

// Propose makes a command happen, through whichever node leads, and gives its
// outcome and the index at which it happened. It sends again until ctx ends,
// which is safe: commands bear repetition, users' ones by the request's ID. A
// refusal is part of the outcome; the error is [ErrNoLeader], [ErrForbidden],
// [ErrClosed], or that the request itself is malformed.
func (l *Log) Propose(ctx context.Context, r jobs.Request) (jobs.Outcome, uint64, error) {
	encoded := jobs.EncodeRequest(r)
	if _, err := jobs.DecodeRequest(encoded); err != nil { // what no node could read must not reach the log
		return jobs.Outcome{}, 0, fmt.Errorf("consensus: request: %w", err)
	}
	var outcome jobs.Outcome
	index, err := l.retry(ctx, func(ctx context.Context) (uint64, error) {
		res := l.try(ctx, newProposal(r, encoded))
		outcome = res.outcome
		return res.index, res.err
	})
	return outcome, index, err
}

// retry tries something that needs a leader, at once when the leadership
// changes, until it works or ctx or the log ends.
func (l *Log) retry(ctx context.Context, once func(context.Context) (uint64, error)) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	for {
		changed := l.leader.changed()
		index, err := once(ctx)
		if err == nil || errors.Is(err, ErrForbidden) {
			return index, err
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-pause.C:
		}
		pause.Stop()
		switch {
		case l.ctx.Err() != nil:
			return 0, ErrClosed
		case ctx.Err() != nil:
			return 0, fmt.Errorf("%w (last try: %w)", ErrNoLeader, err)
		}
	}
}

// try sends the request once, here or to the leader.
func (l *Log) try(ctx context.Context, p *proposal) result {
	if _, leads := l.leader.ready(); leads {
		return l.leader.submit(ctx, p)
	}
	if id, known := l.Leader(); !known || id == l.cfg.Node {
		return result{err: errNotLeading}
	}
	if err := l.forwards.put(ctx, p); err != nil {
		return result{err: err}
	}
	return p.await(ctx)
}

// submit has a proposal committed and applied here.
func (d *leader) submit(ctx context.Context, p *proposal) result {
	if err := d.put(ctx, p); err != nil {
		return result{err: err}
	}
	return p.await(ctx)
}

// put hands a proposal to the entries, or answers it when it would change nothing.
func (d *leader) put(ctx context.Context, p *proposal) error {
	if take, ok := p.request.Command.(*jobs.Take); ok && !d.log.worth(take) {
		p.done <- result{outcome: jobs.Outcome{Refusal: &jobs.Refusal{Code: jobs.NothingToDo, Text: "no work for the slot"}}}
		return nil
	}
	return d.entries.put(ctx, p)
}

// ReadIndex gives an index such that a ledger which shows it shows all that any node's
// ledger showed before the call: the leader's, once a quorum has confirmed that it still
// leads (Ongaro, Consensus: Bridging Theory and Practice, section 6.4).
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	index, err := l.retry(ctx, l.tryReadIndex)
	if err != nil {
		return 0, err
	}
	return index, l.WaitApplied(ctx, index)
}

func (l *Log) tryReadIndex(ctx context.Context) (uint64, error) {
	if _, leads := l.leader.ready(); leads {
		index, err := l.committed()
		if err != nil {
			return 0, err
		}
		return index, l.raft.VerifyLeader().Error()
	}
	ctx, cancel := l.whileLed(ctx)
	defer cancel()
	id, known := l.Leader()
	if !known || id == l.cfg.Node {
		return 0, errNotLeading
	}
	results, err := l.ask(ctx, id, [][]byte{nil})
	if err != nil {
		return 0, err
	}
	return results[0].index, results[0].err
}

// committed is the last index, of those that this node knows to be committed, whose entry
// goes into the ledger. A follower may have applied it before the leader does.
func (l *Log) committed() (uint64, error) {
	for i := l.raft.CommitIndex(); i > l.Applied(); i-- {
		var entry raft.Log
		switch err := l.store.GetLog(i, &entry); {
		case errors.Is(err, raft.ErrLogNotFound): // in a snapshot, and so applied
			return l.Applied(), nil
		case err != nil:
			return 0, err
		case entry.Type == raft.LogCommand || entry.Type == raft.LogConfiguration:
			return i, nil
		default: // what only Raft itself looks at
		}
	}
	return l.Applied(), nil
}

// WaitApplied waits until this node's ledger shows an index.
func (l *Log) WaitApplied(ctx context.Context, index uint64) error {
	for l.Applied() < index {
		select {
		case <-l.Watch(l.Applied()):
		case <-ctx.Done():
			return fmt.Errorf("%w: this node is behind the leader", ErrNoLeader)
		case <-l.ctx.Done():
			return ErrClosed
		}
	}
	return nil
}

// worth tells whether a slot that asks for work would get some, so that idle
// slots cost no log entries.
func (l *Log) worth(t *jobs.Take) (ok bool) {
	now := l.LogTime()
	l.View(func(s *jobs.State) { ok = s.Offer(t.Slot, t.Want, now) })
	return ok
}
