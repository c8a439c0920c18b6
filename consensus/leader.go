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

// Limits of proposing.
const (
	maxPending      = 16384                  // requests that wait for an entry
	entryBytes      = 64 << 10               // bytes after which an entry is closed
	entryRequests   = 1024                   // requests after which an entry is closed
	entriesInFlight = 8                      // entries that are not yet committed
	resendAfter     = 300 * time.Millisecond // wait for the leader's answer before asking again
	retryPause      = 10 * time.Millisecond  // wait for a leader to be known
)

// errNotLeading means that the request must go to another node.
var errNotLeading = errors.New("consensus: this node does not lead")

// leader is the part of a node that works while it leads. It stamps entries with
// log time: the ledger's time at its barrier plus the monotonic time since.
type leader struct {
	log     *Log
	pending chan *proposal
	slots   chan struct{} // one token for each entry in flight

	mu     sync.Mutex // guards what follows
	term   uint64     // of the present leadership; 0 while not leading
	base   jobs.Instant
	since  time.Time
	notify chan struct{} // closed when the leadership changes, here or elsewhere
}

type proposal struct {
	request jobs.Request
	done    chan result // buffered
}

type result struct {
	outcome jobs.Outcome
	index   uint64
	err     error
}

func newLeader(l *Log) *leader {
	return &leader{
		log: l, pending: make(chan *proposal, maxPending), slots: make(chan struct{}, entriesInFlight), notify: make(chan struct{}),
	}
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
	d.log.wg.Add(1)
	go func() { defer d.log.wg.Done(); d.batch() }()
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
	d.set(term)
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

// batch packs waiting requests into entries. While entriesInFlight entries wait
// for their commit, requests gather, so that entries grow under load.
func (d *leader) batch() {
	for {
		var first *proposal
		select {
		case <-d.log.ctx.Done():
			return
		case first = <-d.pending:
		}
		select {
		case <-d.log.ctx.Done():
			return
		case d.slots <- struct{}{}:
		}
		d.propose(d.gather(first))
	}
}

func (d *leader) gather(first *proposal) []*proposal {
	batch := []*proposal{first}
	size := len(jobs.EncodeRequest(first.request))
	for len(batch) < entryRequests && size < entryBytes {
		select {
		case p := <-d.pending:
			batch = append(batch, p)
			size += len(jobs.EncodeRequest(p.request))
		default:
			return batch
		}
	}
	return batch
}

// propose puts a batch into the log as one entry and answers its requests when
// it is applied.
func (d *leader) propose(batch []*proposal) {
	entry := jobs.Entry{At: d.logTime(), Requests: make([]jobs.Request, len(batch))}
	for i, p := range batch {
		entry.Requests[i] = p.request
	}
	future := d.log.raft.Apply(entry.Encode(), 0)
	d.log.wg.Add(1)
	go func() {
		defer d.log.wg.Done()
		err := future.Error()
		<-d.slots
		outcomes, ok := []jobs.Outcome(nil), false
		if err == nil {
			outcomes, ok = future.Response().([]jobs.Outcome)
		}
		for i, p := range batch {
			if !ok {
				p.done <- result{err: fmt.Errorf("%w: %w", errNotLeading, err)}
				continue
			}
			p.done <- result{outcome: outcomes[i], index: future.Index()}
		}
	}()
}

// Propose makes a command happen, through whichever node leads, and gives its
// outcome and the index at which it happened. It sends again until ctx ends,
// which is safe: commands bear repetition, users' ones by the request's ID. A
// refusal is part of the outcome; the error is [ErrNoLeader], [ErrClosed], or
// that the request itself is malformed.
func (l *Log) Propose(ctx context.Context, r jobs.Request) (jobs.Outcome, uint64, error) {
	encoded := jobs.EncodeRequest(r)
	if _, err := jobs.DecodeRequest(encoded); err != nil { // what no node could read must not reach the log
		return jobs.Outcome{}, 0, fmt.Errorf("consensus: request: %w", err)
	}
	for {
		changed := l.leader.changed()
		res := l.try(ctx, r, encoded)
		if res.err == nil {
			return res.outcome, res.index, nil
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return jobs.Outcome{}, 0, fmt.Errorf("%w (last try: %w)", ErrNoLeader, res.err)
		case <-l.ctx.Done():
			pause.Stop()
			return jobs.Outcome{}, 0, ErrClosed
		case <-changed:
			pause.Stop()
		case <-pause.C:
		}
	}
}

// try sends the request once, here or to the leader.
func (l *Log) try(ctx context.Context, r jobs.Request, encoded []byte) result {
	if _, leads := l.leader.ready(); leads {
		return l.leader.submit(ctx, r)
	}
	id, known := l.Leader()
	if !known || id == l.cfg.Node {
		return result{err: errNotLeading}
	}
	ctx, cancel := context.WithTimeout(ctx, resendAfter)
	defer cancel()
	return l.forward(ctx, id, encoded)
}

// submit waits for a request to be committed and applied here.
func (d *leader) submit(ctx context.Context, r jobs.Request) result {
	if take, ok := r.Command.(*jobs.Take); ok && !d.log.worth(take) {
		return result{outcome: jobs.Outcome{Refusal: &jobs.Refusal{Code: jobs.NothingToDo, Text: "no work for the slot"}}}
	}
	p := &proposal{r, make(chan result, 1)}
	select {
	case d.pending <- p:
	case <-ctx.Done():
		return result{err: ctx.Err()}
	case <-d.log.ctx.Done():
		return result{err: ErrClosed}
	}
	select {
	case res := <-p.done:
		return res
	case <-ctx.Done():
		return result{err: ctx.Err()}
	case <-d.log.ctx.Done():
		return result{err: ErrClosed}
	}
}

// ReadIndex gives an index such that a ledger which shows it shows every command
// acknowledged before the call, wherever: the leader's, once a quorum has
// confirmed that it still leads.
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	for {
		changed := l.leader.changed()
		index, err := l.tryReadIndex(ctx)
		if err == nil {
			return index, l.WaitApplied(ctx, index)
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return 0, fmt.Errorf("%w (last try: %w)", ErrNoLeader, err)
		case <-l.ctx.Done():
			pause.Stop()
			return 0, ErrClosed
		case <-changed:
			pause.Stop()
		case <-pause.C:
		}
	}
}

func (l *Log) tryReadIndex(ctx context.Context) (uint64, error) {
	if _, leads := l.leader.ready(); leads {
		index := l.Applied()
		return index, l.raft.VerifyLeader().Error()
	}
	id, known := l.Leader()
	if !known || id == l.cfg.Node {
		return 0, errNotLeading
	}
	ctx, cancel := context.WithTimeout(ctx, resendAfter)
	defer cancel()
	res := l.forward(ctx, id, nil)
	return res.index, res.err
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
