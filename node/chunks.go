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
	last uint64        // items of the last task that succeeded and was no rest of a claim
	took time.Duration // its time
	most uint64        // items that may be tried, after more were too many; 0 for any
	// base is the least memory that a task needed, in bytes, and small its items; peak
	// is what about the largest of them needed, and large its items.
	base, peak   uint64
	small, large uint64
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
	if share > 0 {
		n = min(n, c.room(share-share/chunkPart))
	}
	if c.most > 0 {
		n = min(n, c.most)
	}
	return max(n, 1)
}

// room is how many items fit so much memory, if it grows with them as it did so far.
// That may be too many, as the first tasks can need more for their start than for
// their items: so it is twice as many as were tried at most, or what would fit if
// all memory were of the items.
func (c *chunks) room(share uint64) uint64 {
	safe := max(2*c.large, uint64(float64(c.large)*float64(share)/float64(max(c.peak, 1))))
	if c.large <= c.small || c.peak <= c.base {
		return safe
	}
	if share <= c.base {
		return c.small
	}
	return min(safe, c.small+uint64(float64(share-c.base)/float64(c.peak-c.base)*float64(c.large-c.small)))
}

// learn notes a task that succeeded, of a claim whose tasks get batch items. Among
// tasks of about one size the largest need counts.
func (c *chunks) learn(o scripts.Outcome, batch uint64) {
	units := o.Units()
	if c.small == 0 || units < c.small {
		c.small, c.base = units, o.PeakRSS
	}
	c.base = min(c.base, o.PeakRSS)
	switch {
	case units >= 2*c.large:
		c.large, c.peak = units, o.PeakRSS
	case 2*units >= c.large:
		c.large, c.peak = max(c.large, units), max(c.peak, o.PeakRSS)
	}
	if units >= min(batch, c.last) {
		c.last, c.took = units, o.Took
	}
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

// learnChunk notes what a task of many items needed, where its claim's tasks get batch
// items; free says that it may be tried again with fewer.
func (m *memory) learnChunk(job jobs.JobID, o scripts.Outcome, batch uint64) (free bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.chunks[job]
	if c == nil {
		c = new(chunks)
		m.chunks[job] = c
	}
	switch o.Class {
	case scripts.OK:
		c.learn(o, batch)
	case scripts.OutOfMemory:
		return c.cut(o)
	default:
	}
	return false
}
