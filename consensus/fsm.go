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

	mu       sync.RWMutex // guards what follows
	state    *jobs.State
	position                            // of the last entry applied
	at       time.Time                  // when it was applied here
	recent   [digestsKept]indexedDigest // by index modulo its length
	waiting  chan struct{}              // closed at the next change
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
	return &fsm{fatal: fatal, observe: observe, state: jobs.NewState(), waiting: make(chan struct{})}
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
		f.position = position{entry.Index, entry.Term}
		f.observe(f.index, f.state)
		f.recent[entry.Index%digestsKept] = indexedDigest{entry.Index, f.state.Digest()}
	}
	f.at = time.Now()
	close(f.waiting)
	f.waiting = make(chan struct{})
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

// Restore replaces the ledger by a snapshot.
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
		return fmt.Errorf("consensus: snapshot: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.position, f.at = state, position{index: binary.BigEndian.Uint64(b)}, time.Now()
	f.observe(f.index, f.state)
	close(f.waiting)
	f.waiting = make(chan struct{})
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
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.position
}

func (f *fsm) watch(index uint64) <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.index > index {
		return alreadyClosed
	}
	return f.waiting
}

var alreadyClosed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// still is for how long nothing has been applied; 0 while there is work.
func (f *fsm) still() time.Duration {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.at.IsZero() || !f.state.Idle() {
		return 0
	}
	return time.Since(f.at)
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
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.at.IsZero() {
		return f.state.Now()
	}
	return f.state.Now() + jobs.Instant(time.Since(f.at).Milliseconds())
}
