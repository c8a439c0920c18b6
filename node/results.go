package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"seedmesh/jobs"
	"seedmesh/node/blob"
	"seedmesh/node/slot"
	"seedmesh/scripts"
	"seedmesh/transport"
)

// discard drops an attempt's survivors.
func (n *Node) discard(w *blob.Writer) {
	if err := w.Abort(); err != nil {
		n.cfg.Logger.Warn("a temporary file stays until the next start", "err", err)
	}
}

// deliver commits an attempt's result: on this disk, on a second holder's disk,
// and only then in the log. It goes on until the ledger has it or does not want
// it any more.
func (n *Node) deliver(ctx context.Context, c jobs.Claim, r slot.Result, w *blob.Writer) {
	err := w.Cut(r.Last)
	f := &jobs.Finish{
		Fence: c.Fence, Node: n.id, Incarnation: c.Incarnation, Last: r.Last, Account: jobs.Account(r.Account),
		Survivors: w.Count(), BusyMS: uint64(max(r.Elapsed.Milliseconds(), 1)),
	}
	if f.Survivors == 0 {
		n.discard(w)
	} else {
		info, finishErr := w.Finish(r.Last)
		if err = errors.Join(err, finishErr); err != nil {
			n.notStored(err)
			n.tell(ctx, &jobs.Fail{
				Fence: c.Fence, Node: n.id, Incarnation: c.Incarnation, Charged: jobs.Range{First: c.Range.First, Last: r.Last},
				Class: storageFailure, Message: bounded(err.Error(), jobs.MaxTextBytes),
			})
			return
		}
		f.Blob, f.Bytes = info.Digest, uint64(info.Bytes)
		f.Holders = []jobs.NodeID{n.id}
		n.pinned.add(f.Blob)
		defer n.pinned.remove(f.Blob)
	}
	if !n.confirmed(ctx, c, r, f) {
		return
	}
	if refusal := n.commit(ctx, f, f.Blob, &f.Holders); refusal != nil {
		n.refused(ctx, c, jobs.Range{First: c.Range.First, Last: r.Last}, refusal)
	}
}

// commit proposes a result, with as many copies of its blob as it needs, until the
// ledger has it, or refuses it for good, or ctx ends. It gives that refusal.
func (n *Node) commit(ctx context.Context, result jobs.Command, d jobs.Digest, holders *[]jobs.NodeID) *jobs.Refusal {
	for ctx.Err() == nil {
		if d != (jobs.Digest{}) {
			*holders = n.replicate(ctx, d, *holders)
		}
		outcome, err := n.propose(ctx, result)
		if refusal := outcome.Refusal; err == nil {
			switch {
			case refusal == nil:
				return nil
			case refusal.Code == jobs.UnknownNode: // a holder has been removed for good
				*holders = []jobs.NodeID{n.id}
			case refusal.Code != jobs.UnderHeld:
				return refusal
			}
		}
		pause(ctx, deliverPause)
	}
	return nil
}

// refused ends a claim whose result the ledger does not take, as a failure of the
// range: nobody else would.
func (n *Node) refused(ctx context.Context, c jobs.Claim, charged jobs.Range, refusal *jobs.Refusal) {
	if refusal.Code == jobs.StaleClaim { // it is not this node's any more
		return
	}
	n.cfg.Logger.Error("a result was refused", "job", c.Job, "fence", c.Fence, "err", refusal)
	n.tell(ctx, &jobs.Fail{
		Fence: c.Fence, Node: n.id, Incarnation: c.Incarnation, Charged: charged, Class: "refused", Message: bounded(refusal.Text, jobs.MaxTextBytes),
	})
}

// storageRest is how long a node whose disk refused a result asks for no work.
const storageRest = 5 * time.Second

// notStored notes that this disk refused a result: what the node would search next
// would be searched in vain.
func (n *Node) notStored(err error) {
	n.full.Store(time.Now().Add(storageRest).UnixNano())
	var r interface{ Remedy() string }
	what := "check the disk of the data directory"
	if errors.As(err, &r) {
		what = r.Remedy()
	}
	n.cfg.Logger.Error("a result could not be stored, this node asks for no work for a while", "err", err, "what to do", what)
}

// canStore tells whether the disk took what it was given lately.
func (n *Node) canStore() bool { return time.Now().UnixNano() > n.full.Load() }

// replicate pushes a blob to living nodes until it has the copies that it needs.
// One that does not acknowledge in time is replaced by the next.
func (n *Node) replicate(ctx context.Context, d jobs.Digest, holders []jobs.NodeID) []jobs.NodeID {
	var need int
	var others []jobs.NodeID
	n.log.View(func(s *jobs.State) {
		need = s.CopiesRequired()
		for _, m := range s.Nodes() {
			if m.Alive && !slices.Contains(holders, m.ID) {
				others = append(others, m.ID)
			}
		}
	})
	if len(others) > 0 { // spread over the members, the same blob always in the same order
		turn := int(d[0]) % len(others)
		others = append(slices.Clone(others[turn:]), others[:turn]...)
	}
	for _, to := range others {
		if len(holders) >= need || ctx.Err() != nil {
			break
		}
		if err := n.push(ctx, to, d); err != nil {
			n.cfg.Logger.Debug("holder did not acknowledge", "node", to, "err", err)
			continue
		}
		holders = append(slices.Clone(holders), to)
	}
	return holders
}

// pushRate is how fast a holder must take a blob beyond the push timeout, in bytes a second.
const pushRate = 4 << 20

func (n *Node) push(ctx context.Context, to jobs.NodeID, d jobs.Digest) error {
	limit := time.Duration(n.cfg.Storage.PushTimeout)
	if size, err := n.store.Size(d); err == nil {
		limit += time.Duration(size) * time.Second / pushRate
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := n.ask(ctx, kindBlob, to, func(conn net.Conn) error { return blob.Push(ctx, conn, n.store, d) })
	if isTimeout(err) {
		n.ep.Forget(to.String())
	}
	return err
}

// ask makes a request, which bears repetition, to a member. A
// connection that was lost since it was last used, as by the member's restart, is
// noticed by using it only: then the request is made once more on a new one.
func (n *Node) ask(ctx context.Context, kind transport.Kind, member jobs.NodeID, request func(net.Conn) error) error {
	for again := false; ; again = true {
		conn, err := n.dial(ctx, kind, member.String())
		if err != nil {
			return &awayError{err}
		}
		err = request(conn)
		conn.Close()
		if !errors.Is(err, transport.ErrLost) {
			return err
		}
		if again || ctx.Err() != nil {
			return &awayError{err}
		}
	}
}

// awayError says that a member did not answer, which says nothing of its blobs.
type awayError struct{ err error }

func (e *awayError) Error() string { return "the node does not answer: " + e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// fetchTimeout bounds the copying of one blob from one holder; one that stalls is
// given up long before.
const fetchTimeout = 5 * time.Minute

// fetch gets a blob whole into this node's store, from any of its holders when it
// is not there yet or damaged.
func (n *Node) fetch(ctx context.Context, d jobs.Digest, holders []jobs.NodeID) error {
	err := n.store.Verify(d)
	switch {
	case err == nil:
		return nil
	case isDamaged(err):
		n.lose(d)
	case !errors.Is(err, blob.ErrNotFound):
		return err
	}
	err = fmt.Errorf("no holder of blob %s is left", d)
	for _, h := range holders {
		if h == n.id {
			continue
		}
		if err = n.fetchFrom(ctx, h, d); err == nil {
			return nil
		}
	}
	return err
}

func (n *Node) fetchFrom(ctx context.Context, from jobs.NodeID, d jobs.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return n.ask(ctx, kindBlob, from, func(conn net.Conn) error { return blob.Fetch(ctx, conn, n.store, d) })
}

// serveBlobs keeps and gives out blobs for other nodes.
func (n *Node) serveBlobs(ctx context.Context) {
	n.serve(ctx, kindBlob, func(ctx context.Context, conn *transport.Conn) {
		err := blob.Serve(ctx, conn, n.store)
		if err != nil {
			n.cfg.Logger.Debug("blob request failed", "peer", conn.Peer().ID, "err", err)
		}
		var damaged *blob.CorruptError
		if errors.As(err, &damaged) {
			n.lose(damaged.Digest)
		}
	})
}

func isDamaged(err error) bool {
	var damaged *blob.CorruptError
	return errors.As(err, &damaged)
}

// lose gives up a blob of which this disk has damaged bytes: they go, and the
// ledger is told, so that another copy is read and copied.
func (n *Node) lose(d jobs.Digest) {
	err := n.store.Verify(d)
	if !isDamaged(err) {
		return
	}
	n.cfg.Logger.Error("a blob is damaged on this disk: check the disk; the copy of another node is used", "err", err)
	if err := n.store.Delete(d); err != nil {
		n.cfg.Logger.Error("a damaged blob stays", "err", err)
	}
	n.goDo(func() {
		if !n.awaitGreeting(n.ctx) {
			return
		}
		for _, drop := range n.holdings(func(held jobs.Digest) bool { return held == d }) {
			n.tell(n.ctx, drop)
		}
	})
}

const (
	upkeepEvery  = time.Second
	sweepEvery   = 30 * time.Second
	repairsAtOne = 16 // pieces copied in one round
)

// upkeep folds, repairs and sweeps until ctx ends.
func (n *Node) upkeep(ctx context.Context) {
	if !n.awaitGreeting(ctx) {
		return
	}
	n.reportLost(ctx)
	swept, orphans, scrub := time.Now(), map[jobs.Digest]time.Time{}, scrub{}
	for pause(ctx, upkeepEvery) {
		scrub.round(n)
		if !n.session.fresh() {
			continue
		}
		n.fold(ctx)
		n.repair(ctx)
		if time.Since(swept) > sweepEvery {
			n.sweep(orphans)
			swept = time.Now()
		}
	}
}

// fold joins one run of neighbouring pieces, if this node is the one to do it.
func (n *Node) fold(ctx context.Context) {
	var task jobs.FoldTask
	var due bool
	n.log.View(func(s *jobs.State) { task, due = s.FoldPlan(n.id) })
	if !due {
		return
	}
	info, err := n.join(ctx, task)
	if err != nil {
		n.cfg.Logger.Debug("fold put off", "err", err)
		return
	}
	n.pinned.add(info.Digest)
	defer n.pinned.remove(info.Digest)
	f := &jobs.Fold{
		Job: task.Job, Stage: task.Stage, Range: task.Range, Survivors: task.Survivors,
		Blob: info.Digest, Bytes: uint64(info.Bytes), Node: n.id,
	}
	f.Holders = n.replicate(ctx, f.Blob, []jobs.NodeID{n.id})
	n.proposeSoon(ctx, f)
}

// join writes the blobs of a run of pieces as one.
func (n *Node) join(ctx context.Context, task jobs.FoldTask) (blob.Info, error) {
	if n.kindOf(task.Job) == jobs.Tasks {
		return n.joinSegments(ctx, task)
	}
	w := n.store.NewWriter(task.Stage, task.Range.First)
	for _, p := range task.Pieces {
		if p.Survivors == 0 {
			continue
		}
		if err := n.append(ctx, w, p); err != nil {
			return blob.Info{}, errors.Join(err, w.Abort())
		}
	}
	return w.Finish(task.Range.Last)
}

func (n *Node) kindOf(id jobs.JobID) (kind jobs.Kind) {
	n.log.View(func(s *jobs.State) {
		if j := s.Job(id); j != nil {
			kind = j.Kind
		}
	})
	return kind
}

// joinSegments writes the outcomes of a run of pieces, and their outputs, as one segment.
func (n *Node) joinSegments(ctx context.Context, task jobs.FoldTask) (blob.Info, error) {
	w := n.store.NewSegment(task.Stage, task.Range.First)
	for _, p := range task.Pieces {
		if err := n.appendSegment(ctx, w, p); err != nil {
			return blob.Info{}, errors.Join(err, w.Abort())
		}
	}
	return w.Finish(task.Range.Last)
}

func (n *Node) appendSegment(ctx context.Context, w *blob.SegmentWriter, p jobs.Piece) error {
	if err := n.fetch(ctx, p.Blob, p.Holders); err != nil {
		return err
	}
	s, err := n.store.Segment(p.Blob)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // it was only read
	for o, err := range s.All() {
		if err != nil {
			return err
		}
		if o.Class != scripts.OK || o.Task < p.First || o.Task > p.Last {
			continue
		}
		outputs := slices.Clone(o.Outputs)
		if err := w.Add(&o, func(k int) (io.ReadCloser, error) { return io.NopCloser(s.Output(outputs[k])), nil }); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) append(ctx context.Context, w *blob.Writer, p jobs.Piece) error {
	if err := n.fetch(ctx, p.Blob, p.Holders); err != nil {
		return err
	}
	r, err := n.store.Survivors(p.Blob)
	if err != nil {
		return err
	}
	return errors.Join(w.AppendBlob(r), r.Close())
}

// repair fetches copies of pieces whose holders are gone for a while.
func (n *Node) repair(ctx context.Context) {
	var plan []jobs.RepairTask
	now := n.log.LogTime()
	n.log.View(func(s *jobs.State) { plan = s.RepairPlan(n.id, now, repairsAtOne) })
	for _, r := range plan {
		if err := n.fetch(ctx, r.Piece.Blob, r.Piece.Holders); err != nil {
			n.cfg.Logger.Debug("repair put off", "err", err)
			continue
		}
		n.tell(ctx, &jobs.Hold{Job: r.Job, Stage: r.Stage, First: r.Piece.First, Blob: r.Piece.Blob, Node: n.id})
	}
}

// reportLost tells the ledger of blobs that this node should hold and does not.
func (n *Node) reportLost(ctx context.Context) {
	lost := n.holdings(func(d jobs.Digest) bool {
		has, err := n.store.Has(d)
		return !has && err == nil
	})
	for _, d := range lost {
		n.cfg.Logger.Error("a blob is missing on this disk", "job", d.Job, "blob", d.Blob)
		n.tell(ctx, d)
	}
}

// holdings lists the pieces that the ledger says this node holds, and whose blob
// is lost, in the words in which the ledger is told.
func (n *Node) holdings(lost func(jobs.Digest) bool) (drops []*jobs.Drop) {
	n.log.View(func(s *jobs.State) {
		for _, j := range s.Jobs() {
			for i, st := range j.Stages {
				for _, p := range st.Done {
					if slices.Contains(p.Holders, n.id) && lost(p.Blob) {
						drops = append(drops, &jobs.Drop{Job: j.ID, Stage: uint32(i), First: p.First, Blob: p.Blob, Node: n.id})
					}
				}
			}
		}
	})
	return drops
}

const (
	scrubEvery = 24 * time.Hour
	scrubBytes = 32 << 20 // read in one round of the upkeep
)

// scrub reads all blobs of this disk, some in every round: damage is found while
// there is another copy. The first pass begins with the node's start.
type scrub struct {
	left []blob.Stat
	next time.Time
}

func (s *scrub) round(n *Node) {
	if len(s.left) == 0 && time.Now().After(s.next) {
		s.next = time.Now().Add(scrubEvery)
		for b, err := range n.store.List() {
			if err != nil {
				n.cfg.Logger.Error("scrub put off", "err", err)
				break
			}
			s.left = append(s.left, b)
		}
	}
	for read := int64(0); len(s.left) > 0 && read < scrubBytes; s.left = s.left[1:] {
		b := s.left[0]
		read += b.Bytes
		if isDamaged(n.store.Verify(b.Digest)) {
			n.lose(b.Digest)
		}
	}
}

// sweep removes blobs that the ledger has not named for a while; orphans
// remembers since when.
func (n *Node) sweep(orphans map[jobs.Digest]time.Time) {
	files, err := n.site.files()
	if err != nil {
		n.cfg.Logger.Error("sweep failed", "err", err)
	}
	wanted := map[jobs.Digest]bool{}
	n.log.View(func(s *jobs.State) {
		s.Blobs(func(d jobs.Digest, _ []jobs.NodeID) { wanted[d] = true })
		n.site.wanted(s, func(d jobs.Digest) { wanted[d] = true })
		for _, p := range s.Preloads() {
			for _, f := range p.Files {
				wanted[f.Digest] = true
			}
		}
	})
	if err := n.site.sweep(files, wanted); err != nil {
		n.cfg.Logger.Error("sweep failed", "err", err)
	}
	for b, err := range n.store.List() {
		if err != nil {
			n.cfg.Logger.Error("sweep failed", "err", err)
			return
		}
		if wanted[b.Digest] || n.pinned.has(b.Digest) {
			delete(orphans, b.Digest)
			continue
		}
		since, known := orphans[b.Digest]
		if !known {
			orphans[b.Digest] = time.Now()
			continue
		}
		if time.Since(since) < time.Duration(n.cfg.Storage.KeepOrphans) {
			continue
		}
		delete(orphans, b.Digest)
		if err := n.store.Delete(b.Digest); err != nil {
			n.cfg.Logger.Error("sweep failed", "blob", b.Digest, "err", err)
		}
	}
}
