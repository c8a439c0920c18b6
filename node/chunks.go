package node

import (
	"time"

	"seedmesh/jobs"
	"seedmesh/scripts"
)

// How many items of an input a task gets, where the job leaves that open. It is
// what the items were seen to need: so long that starting the program costs little,
// and so few that every slot of the node has room for such a task at the same time.
const (
	chunkTarget = 5 * time.Second // of one task
	chunkGrowth = 8               // a chunk is at most so many times the last one
	chunkPart   = 8               // one part in so many of a slot's share of the memory is left free
)

// chunks is what the tasks of one job have shown.
type chunks struct {
	last uint64        // items of the last task that succeeded
	took time.Duration // its time
	most uint64        // items that may be tried, after more were too many; 0 for any
	// base and each are bytes that a task needs, and those of each item.
	base, each uint64
	small      uint64 // items of the task that base comes from
}

// size is how many items the next tasks get, on a node that has so much memory for
// each; 0 of memory is any.
func (c *chunks) size(share uint64, target time.Duration) uint64 {
	if c == nil || c.last == 0 {
		n := uint64(1)
		if c != nil && c.most > 0 {
			n = c.most
		}
		return n
	}
	n := c.last * chunkGrowth
	if c.took > 0 {
		n = min(n, uint64(float64(c.last)*float64(target)/float64(c.took)))
	}
	share -= share / chunkPart
	if c.each > 0 && share > 0 {
		room := uint64(0)
		if share > c.base {
			room = (share - c.base) / c.each
		}
		n = min(n, room+c.small)
	}
	if c.most > 0 {
		n = min(n, c.most)
	}
	return max(n, 1)
}

// learn notes a task that succeeded.
func (c *chunks) learn(o scripts.Outcome) {
	units := o.Units()
	if c.small == 0 || units < c.small {
		c.base, c.small = o.PeakRSS, units
	}
	if units > c.small && o.PeakRSS > c.base {
		c.each = max(c.each, (o.PeakRSS-c.base+units-c.small-1)/(units-c.small))
	}
	c.last, c.took = units, o.Took
}

// cut notes a task that was killed for want of memory; false when it had one item.
func (c *chunks) cut(o scripts.Outcome) bool {
	units := o.Units()
	if units == 1 {
		return false
	}
	c.most = units / 2
	return true
}

// chunkOf is the size of the next chunks of a job's claim, and the memory that each
// may use: a slot's share, or more where one item needs that.
func (m *memory) chunkOf(claim jobs.Claim, declared uint64, slots int, target time.Duration) (batch, limit uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	share := m.limit / uint64(max(slots, 1))
	limit = max(declared, m.raised[claim.Job], share)
	batch = m.chunks[claim.Job].size(limit, target)
	for range min(claim.Attempts, 20) { // one item may be what makes the others fail
		batch = max(batch/chunkGrowth, 1)
	}
	return batch, limit
}

// learnChunk notes what a task of many items needed; free says that it may be tried
// again with fewer.
func (m *memory) learnChunk(job jobs.JobID, o scripts.Outcome) (free bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.chunks[job]
	if c == nil {
		c = new(chunks)
		m.chunks[job] = c
	}
	switch o.Class {
	case scripts.OK:
		c.learn(o)
	case scripts.OutOfMemory:
		return c.cut(o)
	default:
	}
	return false
}
