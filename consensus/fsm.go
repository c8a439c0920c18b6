package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"seedmesh/jobs"
)

// digestsKept is how many recent (index, digest) pairs a node can compare with others.
const digestsKept = 1024

// fsm applies committed entries to the ledger: decode, apply, nothing else.
type fsm struct {
	fatal   func(error)
	observe func(index uint64, s *jobs.State)

	mu     sync.RWMutex // guards what follows
	state  *jobs.State
	index  uint64                     // of the last entry applied
	recent [digestsKept]indexedDigest // by index modulo its length

	told progress
}

// progress is how far the ledger is. It has a lock of its own, under which nothing else is
// done: whoever asks may hold a lock that somebody waits for who looks at the ledger.
type progress struct {
	mu sync.Mutex
	position
	at      time.Time     // when the last entry was applied here
	now     jobs.Instant  // log time
	idle    bool          // no job has work
	waiting chan struct{} // closed at the next change
}

// tell says that the ledger has changed.
func (p *progress) tell(at position, s *jobs.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.position, p.at, p.now, p.idle = at, time.Now(), s.Now(), s.Idle()
	close(p.waiting)
	p.waiting = make(chan struct{})
}

// position is where an entry stands in the log.
type position struct {
	index, term uint64 // the term is 0 where it isn't known
}

type indexedDigest struct {
	index  uint64
	digest jobs.Digest
}

func newFSM(fatal func(error), observe func(uint64, *jobs.State)) *fsm {
	if observe == nil {
		observe = func(uint64, *jobs.State) {}
	}
	return &fsm{fatal: fatal, observe: observe, state: jobs.NewState(), told: progress{waiting: make(chan struct{})}}
}

// ApplyBatch applies entries in order. An entry that cannot be decoded stops the
// node: one that skipped it would diverge from the others.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]any, len(logs))
	for i, entry := range logs {
		if entry.Type == raft.LogCommand {
			e, err := jobs.DecodeEntry(entry.Data)
			if err != nil {
				err = fmt.Errorf("consensus: log entry %d cannot be applied: %w", entry.Index, err)
				f.fatal(err)
				out[i] = err
				return out
			}
			out[i] = f.state.Apply(e)
		}
		f.index = entry.Index
		f.observe(f.index, f.state)
		f.recent[entry.Index%digestsKept] = indexedDigest{entry.Index, f.state.Digest()}
	}
	last := logs[len(logs)-1]
	f.told.tell(position{last.Index, last.Term}, f.state)
	return out
}

// Apply applies one entry.
func (f *fsm) Apply(entry *raft.Log) any { return f.ApplyBatch([]*raft.Log{entry})[0] }

// Snapshot copies the ledger as bytes, behind the index that it shows. Its size
// is bounded by what is live.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return snapshot(append(binary.BigEndian.AppendUint64(nil, f.index), f.state.Snapshot()...)), nil
}

// Restore replaces the ledger by a snapshot. One that cannot be decoded stops the node:
// it would never see what comes behind.
func (f *fsm) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("consensus: snapshot: %w", err)
	}
	if len(b) < 8 {
		return errors.New("consensus: snapshot: truncated")
	}
	state, err := jobs.Restore(b[8:])
	if err != nil {
		err = fmt.Errorf("consensus: the snapshot cannot be read: %w", err)
		f.fatal(err)
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.index = state, binary.BigEndian.Uint64(b)
	f.observe(f.index, f.state)
	f.told.tell(position{index: f.index}, f.state)
	return nil
}

func (f *fsm) view(look func(*jobs.State)) uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	look(f.state)
	return f.index
}

func (f *fsm) applied() uint64 { return f.last().index }

// last is where the last entry applied stands.
func (f *fsm) last() position {
	f.told.mu.Lock()
	defer f.told.mu.Unlock()
	return f.told.position
}

func (f *fsm) watch(index uint64) <-chan struct{} {
	f.told.mu.Lock()
	defer f.told.mu.Unlock()
	if f.told.index > index {
		return alreadyClosed
	}
	return f.told.waiting
}

var alreadyClosed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// still is for how long nothing has been applied; 0 while there is work.
func (f *fsm) still() time.Duration {
	f.told.mu.Lock()
	defer f.told.mu.Unlock()
	if f.told.at.IsZero() || !f.told.idle {
		return 0
	}
	return time.Since(f.told.at)
}

func (f *fsm) digestAt(index uint64) (jobs.Digest, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	d := f.recent[index%digestsKept]
	return d.digest, d.index == index && index > 0
}

// snapshot is a ledger's bytes on their way to disk.
type snapshot []byte

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (snapshot) Release() {}

// logTime estimates the log time from the last command and the time since.
func (f *fsm) logTime() jobs.Instant {
	f.told.mu.Lock()
	defer f.told.mu.Unlock()
	if f.told.at.IsZero() {
		return f.told.now
	}
	return f.told.now + jobs.Instant(time.Since(f.told.at).Milliseconds())
}
