package scripts

import "time"

// A Class says how an attempt ended.
type Class string

// The classes. Only OK is a success.
const (
	OK            Class = "ok"
	ExitCode      Class = "exit code"      // an exit status that is none of success
	Signalled     Class = "signal"         // a signal that was not ours
	TimedOut      Class = "timeout"        // it ran longer than it may
	OutOfMemory   Class = "out of memory"  // the kernel, or the watch over its memory, killed it
	MissingOutput Class = "missing output" // a declared output is not there, or empty
	InvalidOutput Class = "invalid output" // an output is no file, too large, or fails its check
	NotStarted    Class = "not started"    // there is no such command, or it cannot be executed
	InputMissing  Class = "input missing"  // an input cannot be had, or an installed script that the task names
	GPUFault      Class = "gpu fault"      // it failed, and its last words are those of a GPU's runtime
	DiskFull      Class = "disk full"      // it left too little of the disk
	Stuck         Class = "stuck"          // its processes do not die
	BadAnswer     Class = "bad answer"     // its persistent worker said something else than how it ended
)

// Outcome is what became of one attempt at a task.
type Outcome struct {
	Task     uint64        `json:"task"`
	Last     uint64        `json:"last,omitempty"` // of the units of its range, where it is more than one
	ID       string        `json:"id,omitempty"`
	Attempt  uint32        `json:"attempt"` // from 1
	Class    Class         `json:"class"`
	Status   int           `json:"status"`           // exit status, or -1
	Signal   string        `json:"signal,omitempty"` // that ended it
	Message  string        `json:"message,omitempty"`
	Node     string        `json:"node,omitempty"`
	Slot     uint32        `json:"slot"`
	Started  time.Time     `json:"started"`
	Took     time.Duration `json:"took"`     // nanoseconds
	CPU      time.Duration `json:"cpu"`      // nanoseconds of user and system time
	PeakRSS  uint64        `json:"peak_rss"` // bytes of its largest process
	Stdout   Words         `json:"stdout,omitzero"`
	Stderr   Words         `json:"stderr,omitzero"`
	Captured []byte        `json:"captured,omitempty"` // the last JSON object of stdout, where the job wants it
	Outputs  []Output      `json:"outputs,omitempty"`
}

// End is the last unit of the job's range that the attempt was at.
func (o *Outcome) End() uint64 { return max(o.Task, o.Last) }

// Units is how many units of the job's range the attempt was at.
func (o *Outcome) Units() uint64 { return o.End() - o.Task + 1 }

// Output is a file that an attempt made. Its bytes are in the segment, behind
// those of the outputs before it.
type Output struct {
	Path   string `json:"path"` // below the working directory
	Bytes  int64  `json:"bytes"`
	Digest Digest `json:"digest"`
	Exec   bool   `json:"exec,omitempty"`
	Offset int64  `json:"offset"` // in the segment's bytes of outputs
}

// Words is what a process wrote to one of its streams: all of it, or the
// beginning and the end.
type Words struct {
	Head  []byte `json:"head,omitempty"`
	Tail  []byte `json:"tail,omitempty"`
	Total uint64 `json:"total,omitempty"` // bytes that were written
}

// Bytes of one stream of an attempt that are kept.
const (
	keepHead = 16 << 10
	keepTail = 48 << 10
)

// IsZero tells whether nothing was written.
func (w Words) IsZero() bool { return w.Total == 0 }

// Cut is the number of bytes that are missing between head and tail.
func (w Words) Cut() uint64 { return w.Total - uint64(len(w.Head)) - uint64(len(w.Tail)) }

// End gives the last bytes that were written, at most n of those that are kept.
func (w Words) End(n int) []byte {
	all := w.Tail
	if w.Cut() == 0 {
		all = append(append([]byte(nil), w.Head...), w.Tail...)
	}
	return all[max(len(all)-n, 0):]
}

// A recorder keeps the words of one stream. The zero recorder has none.
type recorder struct {
	head, ring []byte
	at         int // in ring, where the next byte goes, once it is full
	total      uint64
}

func (r *recorder) Write(b []byte) (int, error) {
	n := len(b)
	r.total += uint64(n)
	if room := keepHead - len(r.head); room > 0 {
		part := b[:min(room, len(b))]
		r.head = append(r.head, part...)
		b = b[len(part):]
	}
	if extra := len(b) - keepTail; extra > 0 {
		b = b[extra:]
	}
	if room := keepTail - len(r.ring); room > 0 {
		part := b[:min(room, len(b))]
		r.ring = append(r.ring, part...)
		b = b[len(part):]
	}
	for len(b) > 0 {
		k := copy(r.ring[r.at:], b)
		r.at = (r.at + k) % keepTail
		b = b[k:]
	}
	return n, nil
}

// words copies what was kept, and begins anew.
func (r *recorder) words() Words {
	w := Words{Total: r.total}
	if len(r.head) > 0 {
		w.Head = append([]byte(nil), r.head...)
	}
	if len(r.ring) > 0 {
		w.Tail = append(append([]byte(nil), r.ring[r.at:]...), r.ring[:r.at]...)
	}
	r.head, r.ring, r.at, r.total = r.head[:0], r.ring[:0], 0, 0
	return w
}
