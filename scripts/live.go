package scripts

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"time"
)

// A liveFile has the last bytes that the present attempt in a place has written to
// one of its streams, for whoever follows it from another process. It is a header
// and a ring, so that it does not grow.
type liveFile struct {
	f *os.File
	liveHead
}

// liveHead begins a file. It is read while it may be written, so it has a check.
type liveHead struct {
	started int64 // nanoseconds since 1970: which attempt it is
	task    uint64
	total   uint64 // bytes written by the attempt
}

const (
	liveBytes    = 1 << 20   // of the ring
	liveHeadSize = 32        // bytes
	liveOnce     = 256 << 10 // bytes that one reading gives at most
	liveRetries  = 8
)

// liveNames are the files of the two streams, in the place's own directory.
var liveNames = [2]string{"stdout", "stderr"}

func (r *Runner) openLive(stream int) (*liveFile, error) {
	f, err := r.root.OpenFile(r.path(liveNames[stream]), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	return &liveFile{f: f}, err
}

// begin has the file be about another attempt.
func (l *liveFile) begin(started time.Time, task uint64) {
	l.liveHead = liveHead{started: started.UnixNano(), task: task}
	l.writeHead()
}

// write adds what the attempt has written. A file that cannot be written shows
// nothing new; the attempt's words are kept elsewhere.
func (l *liveFile) write(b []byte) {
	for rest := b; len(rest) > 0; {
		at := l.total % liveBytes
		n := min(uint64(len(rest)), liveBytes-at)
		if _, err := l.f.WriteAt(rest[:n], liveHeadSize+int64(at)); err != nil {
			return
		}
		rest, l.total = rest[n:], l.total+n
	}
	if len(b) > 0 {
		l.writeHead()
	}
}

func (l *liveFile) writeHead() {
	_, _ = l.f.WriteAt(l.encode(), 0) // see write
}

func (h liveHead) encode() []byte {
	b := make([]byte, 0, liveHeadSize)
	for _, v := range []uint64{uint64(h.started), h.task, h.total, h.sum()} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// sum tells a header that was read in the middle of a write.
func (h liveHead) sum() uint64 { return ^(uint64(h.started)*3 ^ h.task*5 ^ h.total*7) }

// errTorn says that a file changed while it was read.
var errTorn = errors.New("scripts: the words of an attempt change faster than they are read")

func readLiveHead(f io.ReaderAt) (h liveHead, err error) {
	b := make([]byte, liveHeadSize)
	if _, err := f.ReadAt(b, 0); errors.Is(err, io.EOF) {
		return h, nil // nothing has run yet
	} else if err != nil {
		return h, err
	}
	h = liveHead{int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])}
	if binary.LittleEndian.Uint64(b[24:]) != h.sum() {
		return h, errTorn
	}
	return h, nil
}

// LiveWords is a part of what the present attempt in a place has written to one
// of its streams.
type LiveWords struct {
	Started time.Time // which attempt it is; zero when none has run in the place
	Task    uint64
	From    uint64 // number of the first byte
	Data    []byte
}

// ReadLive reads on from byte number from of what an attempt wrote to a stream (0
// is its standard output, 1 its standard error) in a place below root. It gives
// later bytes where those are not kept any more, and the first of another attempt
// where from belongs to one that is over, which wanted, its start, tells.
func ReadLive(root *os.Root, place string, stream int, wanted time.Time, from uint64) (LiveWords, error) {
	f, err := root.Open(path.Join(place, liveNames[stream]))
	if err != nil {
		return LiveWords{}, err
	}
	defer f.Close()
	for range liveRetries {
		w, err := readLive(f, wanted.UnixNano(), from)
		if !errors.Is(err, errTorn) {
			return w, err
		}
	}
	return LiveWords{}, errTorn
}

func readLive(f io.ReaderAt, wanted int64, from uint64) (w LiveWords, err error) {
	h, err := readLiveHead(f)
	if err != nil || h.started == 0 {
		return w, err
	}
	w = LiveWords{Started: time.Unix(0, h.started), Task: h.task}
	if h.started == wanted {
		w.From = min(from, h.total)
	}
	const kept = liveBytes - streamChunk // the rest may be under the writer's pen
	w.From = max(w.From, h.total-min(h.total, kept))
	w.Data = make([]byte, min(h.total-w.From, liveOnce))
	for at := 0; at < len(w.Data); {
		pos := (w.From + uint64(at)) % liveBytes
		n := min(len(w.Data)-at, int(liveBytes-pos))
		if _, err := f.ReadAt(w.Data[at:at+n], liveHeadSize+int64(pos)); err != nil {
			return w, err
		}
		at += n
	}
	after, err := readLiveHead(f)
	if err == nil && (after.started != h.started || after.total-w.From > kept) {
		err = errTorn
	}
	return w, err
}
