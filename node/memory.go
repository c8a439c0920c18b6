package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"seedmesh/jobs"
)

// Limits of the memory that tasks of script jobs get.
const (
	admitWait   = 10 * time.Second // a claim that finds no room for so long is given back
	admitLook   = 250 * time.Millisecond
	memoryPart  = 10        // one part in so many of the machine's memory is left to the node and others
	memoryFloor = 256 << 20 // bytes that stay available whatever is admitted
)

// memory admits tasks as long as what they need together fits this node. What a
// task of a job needs is what its job says, or what earlier ones have used; it
// rises when one was killed for want of memory.
type memory struct {
	limit uint64 // bytes of all tasks together

	mu     sync.Mutex // guards what follows
	used   uint64     // admitted
	freed  chan struct{}
	raised map[jobs.JobID]uint64 // more than the job says, after a task was killed
	peak   map[jobs.JobID]uint64 // most that a task has used
	chunks map[jobs.JobID]*chunks
}

// newMemory has so many MiB to give, or 0 for all but a part of the machine's.
func newMemory(mib uint64) (*memory, error) {
	m := &memory{limit: mib << 20, freed: make(chan struct{}), raised: map[jobs.JobID]uint64{}, peak: map[jobs.JobID]uint64{}, chunks: map[jobs.JobID]*chunks{}}
	if mib > 0 {
		return m, nil
	}
	total, err := memInfo("MemTotal")
	m.limit = total - total/memoryPart
	return m, err
}

// memInfo reads a line of /proc/meminfo, in bytes.
func memInfo(name string) (uint64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib uint64
		if rest, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			_, err := fmt.Sscan(rest, &kib)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}

// errNoRoom says that a claim found no room on this node.
var errNoRoom = errors.New("there is no room in this node's memory")

// tooLargeError says that a task needs more memory than this node gives at all.
type tooLargeError struct{ need, limit uint64 }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("a task needs %d MiB of memory, this node gives %d MiB to scripts", e.need>>20, e.limit>>20)
}

// needs is what a task of a job may use, 0 for no limit of its own, and what room
// it needs.
func (m *memory) needs(job jobs.JobID, declared uint64) (limit, room uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if limit = max(declared, m.raised[job]); limit > 0 {
		return limit, limit
	}
	return 0, min(m.peak[job], m.limit)
}

// admit waits for room, and takes it.
func (m *memory) admit(ctx context.Context, room uint64) error {
	if room > m.limit {
		return &tooLargeError{room, m.limit}
	}
	until := time.Now().Add(admitWait)
	for {
		m.mu.Lock()
		ok, freed := m.used+room <= m.limit && (m.used == 0 || available(room)), m.freed
		if ok {
			m.used += room
		}
		m.mu.Unlock()
		switch {
		case ok:
			return nil
		case time.Now().After(until):
			return errNoRoom
		}
		timer := time.NewTimer(admitLook)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-freed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// available tells whether the machine has so much left: control groups do not see
// all that drivers take for their tasks.
func available(room uint64) bool {
	have, err := memInfo("MemAvailable")
	return err != nil || have >= room+memoryFloor
}

// release gives room back.
func (m *memory) release(room uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= room
	close(m.freed)
	m.freed = make(chan struct{})
}

// learn notes what a task has used.
func (m *memory) learn(job jobs.JobID, peak uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peak[job] = max(m.peak[job], peak)
}

// raise gives the tasks of a job more room after one was killed that might use so
// much; false when this node has no more to give.
func (m *memory) raise(job jobs.JobID, limit, peak uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if limit >= m.limit {
		return false
	}
	m.raised[job] = min(max(m.raised[job], limit+limit/2, peak+peak/2, 64<<20), m.limit)
	return true
}

// keep forgets the jobs that are gone.
func (m *memory) keep(exists func(jobs.JobID) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, known := range []map[jobs.JobID]uint64{m.raised, m.peak} {
		for id := range known {
			if !exists(id) {
				delete(known, id)
			}
		}
	}
	for id := range m.chunks {
		if !exists(id) {
			delete(m.chunks, id)
		}
	}
}
