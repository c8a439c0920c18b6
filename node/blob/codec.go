package blob

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"math"
	"os"
	"sort"

	"github.com/klauspost/compress/zstd"

	"seedmesh/kernels"
)

// A blob of survivors is one zstd stream of a header and records:
//
//	magic "SMSV", version (1 byte), stage, first, last, count (uvarints), in version 2 figures (uvarint)
//	count records: seed (8 bytes), offset (4), matches (2), skip (2), little-endian, by rising seed,
//	and in version 2 as many bytes of figures as the header says, which is not 0
//
// The same stage, range and records give the same bytes.
const (
	magic          = "SMSV"
	version        = 1
	figuresVersion = 2
	recordBytes    = 16                 // without figures
	bufferBytes    = 4096 * recordBytes // about what a Writer holds in memory
	windowBytes    = 1 << 20            // of the compression; a constant of the format
)

// A Header says what a blob of survivors covers.
type Header struct {
	Stage uint32
	Range kernels.Range // that was searched
	Count uint64        // survivors in it, at most [MaxRecords]

	Figures int // bytes of figures of each survivor, at most [kernels.MaxFigures]; 0 for a search
}

func (h Header) append(b []byte) []byte {
	v, fields := byte(version), []uint64{uint64(h.Stage), h.Range.First, h.Range.Last, h.Count}
	if h.Figures > 0 {
		v, fields = figuresVersion, append(fields, uint64(h.Figures))
	}
	b = append(append(b, magic...), v)
	for _, v := range fields {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func readHeader(r *bufio.Reader) (h Header, err error) {
	var start [len(magic) + 1]byte
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return h, err
	}
	if string(start[:len(magic)]) != magic {
		return h, errors.New("it is not a blob of survivors")
	}
	fields := make([]uint64, 4, 5)
	switch v := start[len(magic)]; v {
	case version:
	case figuresVersion:
		fields = fields[:5]
	default:
		return h, fmt.Errorf("it has version %d, and this program reads versions %d and %d", v, version, figuresVersion)
	}
	for i := range fields {
		if fields[i], err = binary.ReadUvarint(r); err != nil {
			return h, err
		}
	}
	h = Header{Stage: uint32(fields[0]), Range: kernels.Range{First: fields[1], Last: fields[2]}, Count: fields[3]}
	if len(fields) == 5 {
		if fields[4] == 0 || fields[4] > kernels.MaxFigures {
			return h, fmt.Errorf("its header says %d bytes of figures for each survivor", fields[4])
		}
		h.Figures = int(fields[4])
	}
	switch {
	case fields[0] > math.MaxUint32 || h.Range.First > h.Range.Last:
		return h, errors.New("its header is wrong")
	case h.Count > MaxRecords || h.Count-1 > h.Range.Last-h.Range.First && h.Count > 0:
		return h, fmt.Errorf("its header says %d survivors, which is too many", h.Count)
	}
	return h, nil
}

func appendRecord(b []byte, v kernels.Survivor) []byte {
	b = binary.LittleEndian.AppendUint64(b, v.Seed)
	b = binary.LittleEndian.AppendUint32(b, v.Offset)
	b = binary.LittleEndian.AppendUint16(b, v.Matches)
	b = binary.LittleEndian.AppendUint16(b, v.Skip)
	return append(b, v.Figures...)
}

func parseRecord(b []byte) kernels.Survivor {
	return kernels.Survivor{
		Seed:    binary.LittleEndian.Uint64(b),
		Offset:  binary.LittleEndian.Uint32(b[8:]),
		Matches: binary.LittleEndian.Uint16(b[12:]),
		Skip:    binary.LittleEndian.Uint16(b[14:]),
		Figures: string(b[recordBytes:]),
	}
}

// An OrderError refuses a survivor that is not above the one before it, or not in
// the range.
type OrderError struct {
	Seed  uint64
	Range kernels.Range // where it would be right
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("blob: the survivor %d is out of order, it should lie in %s", e.Seed, e.Range)
}

// A Writer makes a blob of survivors. Its memory is bounded: what it cannot hold
// goes to a temporary file of the store, because the header, which is first, is
// known last. It is used by one goroutine, and ended by Finish or Abort.
type Writer struct {
	store   *Store
	stage   uint32
	first   uint64
	size    int      // bytes of a record, when there was one
	buf     []byte   // records after those in the file
	file    *os.File // nil until buf was full once
	name    string
	spilled uint64 // records in the file
	prev    uint64 // last seed, when there is a record
	merged  bool   // covered is valid
	covered uint64 // last seed of the ranges of AppendBlob
	err     error
}

// NewWriter begins a blob of the survivors of a search from a seed on.
func (s *Store) NewWriter(stage uint32, first uint64) *Writer {
	return &Writer{store: s, stage: stage, first: first}
}

// Count is the number of survivors so far.
func (w *Writer) Count() uint64 { return w.spilled + uint64(len(w.buf)/max(w.size, recordBytes)) }

// Append adds survivors, by rising seed over all calls. It fails with an
// [*OrderError], a [*TooLargeError] or a [*DiskFullError], and then Finish does too.
func (w *Writer) Append(batch ...kernels.Survivor) error {
	for _, v := range batch {
		if w.err != nil {
			return w.err
		}
		n := w.Count()
		if n == 0 {
			w.size = recordBytes + len(v.Figures)
		}
		low := w.first
		if n > 0 {
			low = w.prev + 1 // 0 after the last seed of all, which the second check finds
		}
		switch {
		case v.Seed < low || n > 0 && v.Seed <= w.prev:
			w.err = &OrderError{v.Seed, kernels.Range{First: low, Last: math.MaxUint64}}
		case n == MaxRecords:
			w.err = &TooLargeError{What: "survivors", Max: MaxRecords}
		case len(v.Figures) > kernels.MaxFigures || recordBytes+len(v.Figures) != w.size:
			w.err = fmt.Errorf("blob: the survivor %d has %d bytes of figures, and the first had %d", v.Seed, len(v.Figures), w.size-recordBytes)
		case len(w.buf) >= bufferBytes:
			w.err = w.spill()
		}
		if w.err != nil {
			return w.err
		}
		w.buf = appendRecord(w.buf, v)
		w.prev = v.Seed
	}
	return w.err
}

func (w *Writer) spill() (err error) {
	if w.file == nil {
		if w.name, w.file, err = w.store.createTemp(); err != nil {
			return err
		}
	}
	if _, err := w.store.ops.write(w.file, w.buf); err != nil {
		return failed("write survivors", err)
	}
	w.spilled += uint64(len(w.buf) / w.size)
	w.buf = w.buf[:0]
	return nil
}

// record reads back one survivor.
func (w *Writer) record(i uint64) (kernels.Survivor, error) {
	size := uint64(w.size)
	if i >= w.spilled {
		return parseRecord(w.buf[(i-w.spilled)*size:][:size]), nil
	}
	b := make([]byte, size)
	if _, err := w.file.ReadAt(b, int64(i*size)); err != nil {
		return kernels.Survivor{}, failed("read survivors", err)
	}
	return parseRecord(b), nil
}

// Cut drops the survivors above a seed, where a claim was shortened after they
// had been found.
func (w *Writer) Cut(last uint64) error {
	if w.err != nil {
		return w.err
	}
	if w.Count() == 0 || w.prev <= last {
		return nil
	}
	keep := uint64(sort.Search(int(w.Count()), func(i int) bool {
		v, err := w.record(uint64(i))
		w.err = errors.Join(w.err, err)
		return v.Seed > last
	}))
	if w.err != nil {
		return w.err
	}
	if keep >= w.spilled {
		w.buf = w.buf[:(keep-w.spilled)*uint64(w.size)]
	} else {
		w.buf = w.buf[:0]
		w.spilled = keep
		end := int64(keep) * int64(w.size)
		_, err := w.file.Seek(end, io.SeekStart)
		w.err = failed("cut survivors", errors.Join(w.file.Truncate(end), err))
	}
	if keep > 0 && w.err == nil {
		var v kernels.Survivor
		v, w.err = w.record(keep - 1)
		w.prev = v.Seed
	}
	return w.err
}

// An Info is a finished blob of survivors.
type Info struct {
	Header
	Digest Digest
	Bytes  int64
}

// Finish writes the blob of the range that ends with a seed, which is durable
// when it returns. Survivors above that seed are an [*OrderError]. It ends the
// Writer, whatever it returns.
func (w *Writer) Finish(last uint64) (Info, error) {
	info, err := w.finish(last)
	if abort := w.Abort(); err == nil {
		err = abort
	}
	return info, err
}

func (w *Writer) finish(last uint64) (Info, error) {
	h := Header{Stage: w.stage, Range: kernels.Range{First: w.first, Last: last}, Count: w.Count()}
	if h.Count > 0 {
		h.Figures = w.size - recordBytes
	}
	switch {
	case w.err != nil:
		return Info{}, w.err
	case last < w.first:
		return Info{}, fmt.Errorf("blob: a range from %d to %d has no seed", w.first, last)
	case h.Count > 0 && w.prev > last:
		return Info{}, &OrderError{w.prev, h.Range}
	}
	if w.file != nil {
		if _, err := w.file.Seek(0, io.SeekStart); err != nil {
			return Info{}, failed("read survivors", err)
		}
	}
	spool, err := w.store.Create()
	if err != nil {
		return Info{}, err
	}
	if err := w.encode(spool, h); err != nil {
		return Info{}, errors.Join(err, spool.Abort())
	}
	d, size, err := spool.Commit()
	return Info{h, d, size}, err
}

func (w *Writer) encode(to io.Writer, h Header) error {
	enc, err := zstd.NewWriter(to,
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(windowBytes), zstd.WithEncoderCRC(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	_, err = enc.Write(h.append(nil))
	if err == nil && w.file != nil {
		_, err = copyN(enc, w.file, int64(w.spilled)*int64(w.size))
	}
	if err == nil {
		_, err = enc.Write(w.buf)
	}
	return errors.Join(err, enc.Close())
}

// Abort drops everything. After Finish or Abort it does nothing.
func (w *Writer) Abort() error {
	w.err = errEnded
	w.buf = nil
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file, w.spilled = nil, 0
	return w.store.removeTemp(w.name, f)
}

// A Reader reads a blob of survivors and verifies it on the way: header, order,
// range, count, and the digest of the whole file. What it gave is void when it
// does not end with [io.EOF]. It is used by one goroutine.
type Reader struct {
	Header
	want Digest
	raw  io.Reader // the file, hashed
	hash hash.Hash
	zstd *zstd.Decoder
	body *bufio.Reader
	line []byte // memory for a record
	read uint64
	prev uint64
	err  error
	file io.Closer // of [Store.Survivors]
}

// NewReader reads a header. r is not closed by Close. Errors of it and of Read
// are a [*CorruptError] and r's own.
func NewReader(r io.Reader, want Digest) (*Reader, error) {
	v := &Reader{want: want, hash: sha256.New()}
	v.raw = io.TeeReader(&limitReader{r, MaxBlobBytes}, v.hash)
	var err error
	v.zstd, err = zstd.NewReader(v.raw,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowBytes))
	if err == nil {
		v.body = bufio.NewReaderSize(v.zstd, bufferBytes)
		v.Header, err = readHeader(v.body)
		v.line = make([]byte, recordBytes+v.Figures)
	}
	if err != nil {
		_ = v.Close()
		return nil, v.broken(err)
	}
	return v, nil
}

// Survivors opens a blob of survivors of the store.
func (s *Store) Survivors(d Digest) (*Reader, error) {
	f, _, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	r, err := NewReader(f, d)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.file = f
	return r, nil
}

// broken tells the errors of the source, which have their own words, from those
// that the bytes caused.
func (r *Reader) broken(err error) error {
	var source *sourceError
	if errors.As(err, &source) {
		return source.error
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptError{r.want, "it ends too early"}
	}
	return &CorruptError{r.want, err.Error()}
}

// Read gives the next survivors, at least one when to has room. It returns
// [io.EOF] alone, after the last one, when everything was right.
func (r *Reader) Read(to []kernels.Survivor) (int, error) {
	for i := range to {
		if r.err == nil && r.read == r.Count {
			r.err = r.end()
		}
		if r.err != nil {
			if i > 0 {
				return i, nil
			}
			return 0, r.err
		}
		if to[i], r.err = r.next(); r.err != nil {
			return i, r.err
		}
	}
	return len(to), nil
}

func (r *Reader) next() (kernels.Survivor, error) {
	if _, err := io.ReadFull(r.body, r.line); err != nil {
		return kernels.Survivor{}, r.broken(err)
	}
	v := parseRecord(r.line)
	if v.Seed < r.Range.First || v.Seed > r.Range.Last || r.read > 0 && v.Seed <= r.prev {
		return kernels.Survivor{}, &CorruptError{r.want, fmt.Sprintf("the survivor %d is out of order", v.Seed)}
	}
	r.read++
	r.prev = v.Seed
	return v, nil
}

// end is io.EOF when nothing follows and the digest is right.
func (r *Reader) end() error {
	switch _, err := r.body.ReadByte(); {
	case err == nil:
		return &CorruptError{r.want, fmt.Sprintf("there is more than its %d survivors", r.Count)}
	case !errors.Is(err, io.EOF):
		return r.broken(err)
	}
	if _, err := io.Copy(io.Discard, r.raw); err != nil {
		return r.broken(err)
	}
	if got := Digest(r.hash.Sum(nil)); got != r.want {
		return &CorruptError{r.want, "its bytes have the digest " + got.String()}
	}
	return io.EOF
}

// All gives the survivors one by one; an error is the last thing that it gives.
func (r *Reader) All() iter.Seq2[kernels.Survivor, error] {
	return func(yield func(kernels.Survivor, error) bool) {
		var batch [256]kernels.Survivor
		for {
			n, err := r.Read(batch[:])
			for _, v := range batch[:n] {
				if !yield(v, nil) {
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(kernels.Survivor{}, err)
				}
				return
			}
		}
	}
}

// Close lets go of what the Reader holds.
func (r *Reader) Close() error {
	if r.zstd != nil {
		r.zstd.Close()
	}
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// AppendBlob adds a whole blob, whose range must lie after those that were added
// before; there may be gaps. It fails as Append and [Reader.Read] do.
func (w *Writer) AppendBlob(r *Reader) error {
	switch {
	case w.err != nil:
		return w.err
	case r.Stage != w.stage:
		w.err = fmt.Errorf("blob: a blob of stage %d cannot be merged into one of stage %d", r.Stage, w.stage)
	case r.Range.First < w.first || w.merged && r.Range.First <= w.covered:
		w.err = fmt.Errorf("blob: the range %s of %s is out of order", r.Range, r.want)
	}
	w.merged, w.covered = true, r.Range.Last
	for v, err := range r.All() {
		if w.err == nil {
			w.err = err
		}
		if w.Append(v) != nil {
			break
		}
	}
	return w.err
}

// Merge adds blobs of the store in the order of their ranges, one open at a
// time, so that memory does not grow with them. It fails as
// [Writer.AppendBlob] and [Store.Open] do; w is then only good to abort.
func (s *Store) Merge(w *Writer, from ...Digest) error {
	for _, d := range from {
		r, err := s.Survivors(d)
		if err != nil {
			return err
		}
		if err := errors.Join(w.AppendBlob(r), r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// limitReader fails where io.LimitReader would pretend an end.
type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return 0, &sourceError{&TooLargeError{What: "bytes", Max: MaxBlobBytes}}
	}
	if err != nil && err != io.EOF {
		err = &sourceError{err}
	}
	return n, err
}

// A sourceError is an error of the source on its way through the decoder.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }
