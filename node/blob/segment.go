package blob

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"

	"github.com/klauspost/compress/zstd"

	"seedmesh/kernels"
	"seedmesh/scripts"
)

// A segment is a blob of the outcomes of tasks, and of their outputs:
//
//	magic "SMTS", version (1 byte), stage, first, last, count, length of the table (uvarints)
//	the table: one zstd stream of count outcomes, one JSON object a line, by rising task
//	the bytes of the outputs, in the order of their tasks
//
// The same outcomes and outputs give the same bytes.
const (
	segmentMagic   = "SMTS"
	segmentVersion = 1
	maxOutcome     = 2 << 20 // bytes of an outcome's line
	spillBytes     = 1 << 20 // that a part of a segment may have in memory
)

// A spill is bytes of unknown number: in memory, or in a temporary file.
type spill struct {
	store *Store
	buf   []byte
	file  *os.File
	name  string
	size  int64
}

func (s *spill) Write(b []byte) (int, error) {
	s.size += int64(len(b))
	if s.file == nil && len(s.buf)+len(b) <= spillBytes {
		s.buf = append(s.buf, b...)
		return len(b), nil
	}
	if s.file == nil {
		name, f, err := s.store.createTemp()
		if err != nil {
			return 0, err
		}
		s.name, s.file = name, f
		if _, err := s.store.ops.write(f, s.buf); err != nil {
			return 0, failed("write a segment", err)
		}
		s.buf = nil
	}
	n, err := s.store.ops.write(s.file, b)
	return n, failed("write a segment", err)
}

// copyTo writes everything to w.
func (s *spill) copyTo(w io.Writer) error {
	if s.file == nil {
		_, err := w.Write(s.buf)
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return failed("read a segment", err)
	}
	_, err := copyN(w, s.file, s.size)
	return err
}

func (s *spill) drop() error {
	s.buf = nil
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return s.store.removeTemp(s.name, f)
}

// A SegmentWriter makes a segment, with bounded memory. It is used by one
// goroutine, and ended by Finish or Abort.
type SegmentWriter struct {
	store   *Store
	stage   uint32
	first   uint64
	table   spill
	zstd    *zstd.Encoder
	outputs spill
	count   uint64
	prev    uint64 // last task, when there is one
	err     error
}

// NewSegment begins a segment of the tasks from one on.
func (s *Store) NewSegment(stage uint32, first uint64) *SegmentWriter {
	return &SegmentWriter{store: s, stage: stage, first: first, table: spill{store: s}, outputs: spill{store: s}}
}

// Count is the number of outcomes so far, Bytes that of their outputs.
func (w *SegmentWriter) Count() uint64 { return w.count }

// Bytes is the size of the outputs so far.
func (w *SegmentWriter) Bytes() int64 { return w.outputs.size }

// Add adds an outcome, by rising task, and copies its outputs. It fills in where
// they are, their size and their digest; one that has a digest already must have it.
func (w *SegmentWriter) Add(o *scripts.Outcome, open func(k int) (io.ReadCloser, error)) error {
	if w.err == nil {
		w.err = w.add(o, open)
	}
	return w.err
}

func (w *SegmentWriter) add(o *scripts.Outcome, open func(k int) (io.ReadCloser, error)) error {
	if o.Task < w.first || w.count > 0 && o.Task < w.prev {
		return &OrderError{o.Task, kernels.Range{First: max(w.first, w.prev), Last: math.MaxUint64}}
	}
	for k := range o.Outputs {
		if err := w.addOutput(&o.Outputs[k], func() (io.ReadCloser, error) { return open(k) }); err != nil {
			return err
		}
	}
	if w.zstd == nil {
		var err error
		w.zstd, err = zstd.NewWriter(&w.table, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
			zstd.WithWindowSize(windowBytes), zstd.WithEncoderCRC(true), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return fmt.Errorf("blob: %w", err)
		}
	}
	line, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if len(line) > maxOutcome {
		return &TooLargeError{"bytes in an outcome", uint64(len(line)), maxOutcome}
	}
	_, err = w.zstd.Write(append(line, '\n'))
	w.count++
	w.prev = o.Task
	return err
}

func (w *SegmentWriter) addOutput(out *scripts.Output, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return fmt.Errorf("the output %s: %w", out.Path, err)
	}
	h := sha256.New()
	offset := w.outputs.size
	n, err := io.Copy(io.MultiWriter(&w.outputs, h), io.LimitReader(r, MaxBlobBytes))
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("the output %s: %w", out.Path, err)
	}
	got := scripts.Digest(h.Sum(nil))
	if out.Digest != (scripts.Digest{}) && (got != out.Digest || n != out.Bytes) {
		return &CorruptError{Digest(out.Digest), "an output has other bytes"}
	}
	out.Digest, out.Bytes, out.Offset = got, n, offset
	return nil
}

// Finish writes the segment of the range that ends with a task, which is durable
// when it returns. It ends the writer, whatever it returns.
func (w *SegmentWriter) Finish(last uint64) (Info, error) {
	info, err := w.finish(last)
	if abort := w.Abort(); err == nil {
		err = abort
	}
	return info, err
}

func (w *SegmentWriter) finish(last uint64) (Info, error) {
	h := Header{Stage: w.stage, Range: kernels.Range{First: w.first, Last: last}, Count: w.count}
	switch {
	case w.err != nil:
		return Info{}, w.err
	case w.count == 0 || last < w.prev:
		return Info{}, fmt.Errorf("blob: a segment of %d outcomes ends at task %d, the last is %d", w.count, last, w.prev)
	}
	err := w.zstd.Close()
	if w.zstd = nil; err != nil {
		return Info{}, err
	}
	spool, err := w.store.Create()
	if err != nil {
		return Info{}, err
	}
	head := append([]byte(segmentMagic), segmentVersion)
	for _, v := range []uint64{uint64(w.stage), w.first, last, w.count, uint64(w.table.size)} {
		head = binary.AppendUvarint(head, v)
	}
	_, err = spool.Write(head)
	if err == nil {
		err = w.table.copyTo(spool)
	}
	if err == nil {
		err = w.outputs.copyTo(spool)
	}
	if err != nil {
		return Info{}, errors.Join(err, spool.Abort())
	}
	d, size, err := spool.Commit()
	return Info{h, d, size}, err
}

// Abort drops everything. After Finish or Abort it does nothing.
func (w *SegmentWriter) Abort() error {
	w.err = errEnded
	if w.zstd != nil {
		_ = w.zstd.Close() // what it writes is dropped
		w.zstd = nil
	}
	return errors.Join(w.table.drop(), w.outputs.drop())
}

// A Segment reads a segment from its beginning: the outcomes, and then, if
// wanted, the outputs. Its digest is not verified, but its checksums are.
type Segment struct {
	Header
	base  int64 // where the outputs begin
	src   *bufio.Reader
	table *io.LimitedReader
}

// NewSegmentReader reads a header.
func NewSegmentReader(r io.Reader) (*Segment, error) {
	s := &Segment{src: bufio.NewReader(r)}
	var start [len(segmentMagic) + 1]byte
	if _, err := io.ReadFull(s.src, start[:]); err != nil {
		return nil, err
	}
	if string(start[:len(segmentMagic)]) != segmentMagic || start[len(segmentMagic)] != segmentVersion {
		return nil, fmt.Errorf("blob: it is no segment of version %d", segmentVersion)
	}
	s.base = int64(len(start))
	var fields [5]uint64
	for i := range fields {
		v, err := binary.ReadUvarint(s.src)
		if err != nil {
			return nil, err
		}
		fields[i] = v
		s.base += int64(len(binary.AppendUvarint(nil, v)))
	}
	s.Header = Header{Stage: uint32(fields[0]), Range: kernels.Range{First: fields[1], Last: fields[2]}, Count: fields[3]}
	if fields[0] > math.MaxUint32 || fields[1] > fields[2] || fields[4] > MaxBlobBytes {
		return nil, errors.New("blob: the header of a segment is wrong")
	}
	s.base += int64(fields[4])
	s.table = &io.LimitedReader{R: s.src, N: int64(fields[4])}
	return s, nil
}

// All gives the outcomes in order. After an error there is nothing more.
func (s *Segment) All() iter.Seq2[scripts.Outcome, error] {
	return func(yield func(scripts.Outcome, error) bool) {
		z, err := zstd.NewReader(s.table, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowBytes))
		if err != nil {
			yield(scripts.Outcome{}, fmt.Errorf("blob: %w", err))
			return
		}
		defer z.Close()
		lines := bufio.NewReader(io.LimitReader(z, int64(s.Count)*(maxOutcome+1)))
		prev := s.Range.First
		for range s.Count {
			var o scripts.Outcome
			line, err := lines.ReadBytes('\n')
			if err == nil {
				err = json.Unmarshal(line, &o)
			}
			if err == nil && (o.Task < prev || o.Task > s.Range.Last) {
				err = &OrderError{o.Task, kernels.Range{First: prev, Last: s.Range.Last}}
			}
			if prev = o.Task; !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// A StoredSegment is a segment of a store, whose outputs can be read.
type StoredSegment struct {
	*Segment
	file io.ReadSeekCloser
}

// Segment opens a segment of the store.
func (s *Store) Segment(d Digest) (*StoredSegment, error) {
	f, _, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	seg, err := NewSegmentReader(f)
	if err != nil {
		return nil, errors.Join(&CorruptError{d, err.Error()}, f.Close())
	}
	return &StoredSegment{seg, f}, nil
}

// Output gives the bytes of an output. It does not verify them.
func (s *StoredSegment) Output(o scripts.Output) io.Reader {
	return io.NewSectionReader(s.file.(io.ReaderAt), s.base+o.Offset, o.Bytes)
}

// Close closes the file.
func (s *StoredSegment) Close() error { return s.file.Close() }

// VerifySegment reads a whole segment: its digest, its header, the outcomes that
// a piece needs, and every output's digest.
func VerifySegment(r io.Reader, want Digest, stage uint32, piece kernels.Range) error {
	whole := sha256.New()
	s, err := NewSegmentReader(io.TeeReader(r, whole))
	if err != nil {
		return &CorruptError{want, err.Error()}
	}
	var next, done uint64
	var outputs []scripts.Output
	for o, err := range s.All() {
		if err != nil {
			return &CorruptError{want, err.Error()}
		}
		if o.Class == scripts.OK && o.Task >= piece.First && o.Task <= piece.Last {
			done += o.Units()
		}
		outputs = append(outputs, o.Outputs...)
	}
	if _, err := io.Copy(io.Discard, s.table); err != nil {
		return err
	}
	for _, o := range outputs {
		h := sha256.New()
		if o.Offset != int64(next) {
			return &CorruptError{want, "its outputs do not follow each other"}
		}
		if _, err := copyN(h, s.src, o.Bytes); err != nil {
			return &CorruptError{want, err.Error()}
		}
		if scripts.Digest(h.Sum(nil)) != o.Digest {
			return &CorruptError{want, "the output " + o.Path + " has other bytes"}
		}
		next += uint64(o.Bytes)
	}
	if n, err := io.Copy(io.Discard, s.src); n > 0 || err != nil {
		return &CorruptError{want, fmt.Sprintf("%d bytes follow its outputs", n)}
	}
	if Digest(whole.Sum(nil)) != want {
		return &CorruptError{want, "its bytes have another digest"}
	}
	if s.Stage != stage || done != piece.Last-piece.First+1 {
		return &CorruptError{want, fmt.Sprintf("it is of stage %d with %d of the outcomes of %s", s.Stage, done, piece)}
	}
	return nil
}
