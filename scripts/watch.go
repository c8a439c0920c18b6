package scripts

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is watched while a task runs.
const (
	watchEvery  = 200 * time.Millisecond
	reservePart = 50        // one part in so many of the disk stays free for the node
	reserveMax  = 512 << 20 // bytes, and never more than this
)

// watch looks at a running task from time to time, and ends it when it takes what
// the node needs for itself. After stop nobody looks any more.
func (p *process) watch(look func() (Class, string)) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() { // stop waits for it
		defer close(ended)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if class, why := look(); class != OK {
				p.doom(class, why)
				return
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// excess says what a task takes too much of.
func (r *Runner) excess(p *process, limit uint64) (Class, string) {
	var disk unix.Statfs_t
	if err := unix.Statfs(r.place.Base, &disk); err == nil {
		free, size := disk.Bavail*uint64(disk.Bsize), disk.Blocks*uint64(disk.Bsize)
		if free < min(size/reservePart, reserveMax) {
			return DiskFull, fmt.Sprintf("only %d bytes of the disk were left", free)
		}
	}
	if limit == 0 || r.place.Group != nil {
		return OK, ""
	}
	var used uint64
	for _, pid := range append(descendants(p.pid), p.pid) {
		used += residentOf(pid)
	}
	if used > limit {
		return OutOfMemory, fmt.Sprintf("it used %d bytes of memory, it may use %d", used, limit)
	}
	return OK, ""
}

// residentOf is the memory of a process, in bytes.
func residentOf(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// doom kills a task for a reason of the node's own.
func (p *process) doom(c Class, why string) {
	p.mu.Lock()
	if !p.reaped && p.doomed == "" {
		p.doomed, p.why = c, why
	}
	p.mu.Unlock()
	p.signal(unix.SIGKILL)
}

// A shortage counts the processes that the kernel has killed on this machine for
// want of memory.
type shortage struct{ kills uint64 }

// passed tells whether there was one since it was asked last.
func (s *shortage) passed() bool {
	b, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return false
	}
	was := s.kills
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			s.kills, _ = strconv.ParseUint(v, 10, 64) // 0 for what is no number
		}
	}
	return s.kills > was
}
