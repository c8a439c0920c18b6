package blob

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"seedmesh/transport"
)

// One connection carries one request. Requests and answers are frames of package
// transport, whose kinds are below; the bytes of a blob follow without a frame.
//
//	put digest size    -> want; the bytes -> ok (durable), or at once ok where the blob is there
//	get digest         -> ok size; the bytes
//	has digest...      -> ok, one byte 0 or 1 for each
//
// Instead of any answer there can be refused: class (1 byte) and text.
const (
	kindPut byte = iota + 1
	kindGet
	kindHas
	kindWant
	kindOK
	kindRefused
)

// Limits of the wire. A blob may take a minute and what its size takes at
// minRate, but the peer must always let some bytes through within stallLimit.
const (
	MaxAsk         = 1024 // digests in one question
	maxFrameBytes  = MaxAsk * len(Digest{})
	maxRefusal     = 512 // bytes of text
	answerLimit    = 30 * time.Second
	stallLimit     = 30 * time.Second
	transferMargin = time.Minute
	minRate        = 64 << 10 // bytes per second
)

// The classes of refusals.
const (
	refusedFailed byte = iota
	refusedNotFound
	refusedDiskFull
	refusedTooLarge
	refusedCorrupt
	refusedMalformed
)

// A RemoteError is the other node's reason for a refusal. It matches
// [ErrNotFound] and [ErrDiskFull] with errors.Is.
type RemoteError struct {
	class byte
	Text  string // at most 512 bytes
}

func (e *RemoteError) Error() string { return "blob: the other node says: " + e.Text }

// Is matches the error that the other node had.
func (e *RemoteError) Is(target error) bool {
	return e.class == refusedNotFound && target == ErrNotFound ||
		e.class == refusedDiskFull && target == ErrDiskFull
}

// Corrupt is whether the bytes that were sent do not have their digest.
func (e *RemoteError) Corrupt() bool { return e.class == refusedCorrupt }

// errMalformed is wrapped by the errors about frames that make no sense.
var errMalformed = errors.New("malformed message")

func malformed(what string) error { return fmt.Errorf("blob: %w: %s", errMalformed, what) }

func classOf(err error) byte {
	var tooLarge *TooLargeError
	var frame *transport.FrameTooLargeError
	var corrupt *CorruptError
	switch {
	case errors.Is(err, ErrNotFound):
		return refusedNotFound
	case errors.Is(err, ErrDiskFull):
		return refusedDiskFull
	case errors.As(err, &tooLarge):
		return refusedTooLarge
	case errors.As(err, &corrupt):
		return refusedCorrupt
	case errors.Is(err, errMalformed), errors.As(err, &frame), errors.Is(err, transport.ErrChecksum):
		return refusedMalformed
	}
	return refusedFailed
}

// A request is the first frame of a connection.
type request struct {
	kind    byte
	digests []Digest // one, but for has
	size    int64    // of put
}

func readRequest(r io.Reader) (request, error) {
	kind, b, err := transport.ReadFrame(r, maxFrameBytes)
	if err != nil {
		return request{}, err
	}
	req := request{kind: kind}
	switch kind {
	case kindPut:
		if len(b) != len(Digest{})+8 {
			return request{}, malformed("a put of a wrong length")
		}
		size := binary.BigEndian.Uint64(b[len(Digest{}):])
		if size > MaxBlobBytes {
			return request{}, &TooLargeError{"bytes", size, MaxBlobBytes}
		}
		req.size, b = int64(size), b[:len(Digest{})]
	case kindGet:
		if len(b) != len(Digest{}) {
			return request{}, malformed("a get of a wrong length")
		}
	case kindHas:
		if len(b)%len(Digest{}) != 0 {
			return request{}, malformed("a question of a wrong length")
		}
	default:
		return request{}, malformed(fmt.Sprintf("the request %d is unknown", kind))
	}
	for ; len(b) > 0; b = b[len(Digest{}):] {
		req.digests = append(req.digests, Digest(b[:len(Digest{})]))
	}
	return req, nil
}

// readAnswer reads a frame of a kind that is expected, or the refusal as a
// [*RemoteError].
func readAnswer(r io.Reader, expected ...byte) (byte, []byte, error) {
	kind, b, err := transport.ReadFrame(r, max(MaxAsk, 1+maxRefusal))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, err
	}
	if kind == kindRefused && len(b) > 0 {
		return 0, nil, &RemoteError{b[0], string(b[1:min(len(b), 1+maxRefusal)])}
	}
	for _, k := range expected {
		if kind == k {
			return kind, b, nil
		}
	}
	return 0, nil, malformed(fmt.Sprintf("the answer %d was not expected", kind))
}

// A stream is a connection that ends with a context, and where every read and
// write has to bring something before a deadline.
type stream struct {
	ctx   context.Context
	conn  net.Conn
	until time.Time     // for all
	stall time.Duration // for each
}

// newStream lets a connection end with ctx until release is called.
func newStream(ctx context.Context, conn net.Conn, all time.Duration) (s *stream, release func() bool) {
	s = &stream{ctx, conn, time.Now().Add(all), stallLimit}
	return s, context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
}

var longAgo = time.Unix(1, 0)

func transferTime(size int64) time.Duration {
	return transferMargin + time.Duration(size)*time.Second/minRate
}

func (s *stream) Read(b []byte) (int, error) {
	if err := s.begin(s.conn.SetReadDeadline); err != nil {
		return 0, err
	}
	n, err := s.conn.Read(b)
	return n, s.explain(err)
}

func (s *stream) Write(b []byte) (int, error) {
	if err := s.begin(s.conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	n, err := s.conn.Write(b)
	return n, s.explain(err)
}

// begin sets a deadline, and looks at the context after that, because its end
// may have set an earlier one just before.
func (s *stream) begin(set func(time.Time) error) error {
	deadline := s.until
	if next := time.Now().Add(s.stall); s.stall > 0 && next.Before(deadline) {
		deadline = next
	}
	if err := set(deadline); err != nil {
		return err
	}
	return context.Cause(s.ctx)
}

func (s *stream) explain(err error) error {
	if err != nil && s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return err
}

// Serve answers the one request of a connection, within limits of its own and
// until ctx ends. It changes the deadlines of conn, and leaves closing it to the
// caller. The peer is told of an error where that can be.
func Serve(ctx context.Context, conn net.Conn, store *Store) error {
	s, release := newStream(ctx, conn, answerLimit)
	defer release()
	req, err := readRequest(s)
	if err == nil {
		s.until = time.Now().Add(answerLimit + transferTime(req.size))
		switch req.kind {
		case kindPut:
			err = servePut(s, store, req)
		case kindGet:
			err = serveGet(s, store, req.digests[0])
		case kindHas:
			err = serveHas(s, store, req.digests)
		}
	}
	if err == nil {
		return nil
	}
	s.until = time.Now().Add(answerLimit)
	text := err.Error()
	refusal := append([]byte{classOf(err)}, text[:min(len(text), maxRefusal)]...)
	if told := transport.WriteFrame(s, kindRefused, refusal); told != nil {
		return fmt.Errorf("%w (and telling it failed: %w)", err, told)
	}
	return err
}

func servePut(s *stream, store *Store, req request) error {
	d := req.digests[0]
	if err := store.confirm(d, req.size); err != nil {
		if err := transport.WriteFrame(s, kindWant, nil); err != nil {
			return err
		}
		if err := store.Put(s, d, req.size); err != nil {
			return err
		}
	}
	return transport.WriteFrame(s, kindOK, nil)
}

// confirm is without an error when the blob is there, whole and durable.
func (s *Store) confirm(d Digest, size int64) error {
	f, have, err := s.Open(d)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if have != size {
		return &CorruptError{d, fmt.Sprintf("it has %d bytes and not %d", have, size)}
	}
	if err := s.Verify(d); err != nil {
		return err
	}
	return s.settle(d)
}

func serveGet(s *stream, store *Store, d Digest) error {
	if err := store.Verify(d); err != nil { // damaged bytes are not given out
		return err
	}
	f, size, err := store.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	s.until = time.Now().Add(transferTime(size))
	if err := transport.WriteFrame(s, kindOK, binary.BigEndian.AppendUint64(nil, uint64(size))); err != nil {
		return err
	}
	_, err = copyN(s, f, size)
	return err
}

func serveHas(s *stream, store *Store, digests []Digest) error {
	answer := make([]byte, len(digests))
	for i, d := range digests {
		have, err := store.Has(d)
		if err != nil {
			return err
		}
		if have {
			answer[i] = 1
		}
	}
	return transport.WriteFrame(s, kindOK, answer)
}

// Push sends a blob of store to the node at the other end of conn. When it
// returns without an error, that node has it on stable storage. It fails with
// [ErrNotFound], a [*RemoteError], ctx's error and conn's. conn is not closed,
// and not good for anything else afterwards.
func Push(ctx context.Context, conn net.Conn, store *Store, d Digest) error {
	f, size, err := store.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	s, release := newStream(ctx, conn, transferTime(size))
	defer release()
	put := binary.BigEndian.AppendUint64(append([]byte{}, d[:]...), uint64(size))
	if err := transport.WriteFrame(s, kindPut, put); err != nil {
		return pushFailed(d, err)
	}
	kind, _, err := readAnswer(s, kindWant, kindOK)
	if err == nil && kind == kindWant {
		err = pushBytes(s, f, size)
	}
	return pushFailed(d, err)
}

func pushFailed(d Digest, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("push %s: %w", d, err)
}

// pushBytes listens while it sends, because the answer may be a refusal in the
// middle, which says more than the write that it makes fail.
func pushBytes(s *stream, f io.Reader, size int64) error {
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	answer := make(chan error, 1)
	go func() {
		_, _, err := readAnswer(&stream{s.ctx, s.conn, s.until, 0}, kindOK)
		if err != nil {
			stop()
			_ = s.conn.SetWriteDeadline(longAgo)
		}
		answer <- err
	}()
	_, sent := copyN(&stream{ctx, s.conn, s.until, s.stall}, f, size)
	if sent != nil && ctx.Err() == nil { // the peer cannot answer what it did not get
		_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
	}
	err := <-answer
	var refused *RemoteError
	if sent != nil && !errors.As(err, &refused) && s.ctx.Err() == nil && ctx.Err() == nil {
		return sent
	}
	return err
}

// Fetch asks the node at the other end of conn for a blob, and puts it into
// store. It fails as [Store.Put] and Push do.
func Fetch(ctx context.Context, conn net.Conn, store *Store, d Digest) error {
	return Get(ctx, conn, d, func(r io.Reader, size int64) error { return store.Put(r, d, size) })
}

// Get asks the node at the other end of conn for a blob, and has use read its
// bytes, which are not verified; r ends after size bytes. It fails as Push does, and with use's error.
func Get(ctx context.Context, conn net.Conn, d Digest, use func(r io.Reader, size int64) error) error {
	s, release := newStream(ctx, conn, answerLimit)
	defer release()
	err := transport.WriteFrame(s, kindGet, d[:])
	var b []byte
	if err == nil {
		_, b, err = readAnswer(s, kindOK)
	}
	if err == nil && len(b) != 8 {
		err = malformed("a size of a wrong length")
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", d, err)
	}
	size := binary.BigEndian.Uint64(b)
	if size > MaxBlobBytes {
		return fmt.Errorf("fetch %s: %w", d, &TooLargeError{"bytes", size, MaxBlobBytes})
	}
	s.until = time.Now().Add(transferTime(int64(size)))
	if err := use(io.LimitReader(s, int64(size)), int64(size)); err != nil {
		return fmt.Errorf("fetch %s: %w", d, err)
	}
	return nil
}

// Ask says which of at most [MaxAsk] blobs the node at the other end of conn has.
func Ask(ctx context.Context, conn net.Conn, digests []Digest) ([]bool, error) {
	if len(digests) > MaxAsk {
		return nil, fmt.Errorf("blob: %d blobs asked for at once, at most %d are allowed", len(digests), MaxAsk)
	}
	s, release := newStream(ctx, conn, answerLimit)
	defer release()
	question := make([]byte, 0, len(digests)*len(Digest{}))
	for _, d := range digests {
		question = append(question, d[:]...)
	}
	err := transport.WriteFrame(s, kindHas, question)
	var b []byte
	if err == nil {
		_, b, err = readAnswer(s, kindOK)
	}
	if err == nil && len(b) != len(digests) {
		err = malformed("an answer of a wrong length")
	}
	if err != nil {
		return nil, fmt.Errorf("ask for blobs: %w", err)
	}
	have := make([]bool, len(digests))
	for i := range have {
		have[i] = b[i] == 1
	}
	return have, nil
}
