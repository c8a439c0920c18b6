package jobs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Versions of the format of commands and snapshots. A reader refuses bytes
// whose oldest reader is newer than itself, and says which version can read them.
const (
	FormatVersion = 1 // what this program writes
	OldestReader  = 1 // the oldest program that can read what this one writes
	headerBytes   = 2 // of the two, as long as both are below 128
)

// errTruncated and errCorrupt are what a decoder finds wrong with bytes.
var (
	errTruncated = errors.New("jobs: truncated")
	errCorrupt   = errors.New("jobs: not in canonical form")
)

// A NewerError says that bytes are of a newer seedmesh than this one, which cannot know
// what they mean: to go on without them would make its ledger differ.
type NewerError struct{ What string }

func (e *NewerError) Error() string {
	return "jobs: " + e.What + " was made by a newer seedmesh than this one"
}

// Remedy says what to do about it.
func (e *NewerError) Remedy() string {
	return "upgrade this node: install the newer seedmesh, then start it with seedmesh up; nothing is lost"
}

// A coder encodes or decodes, field by field, so that each record states its
// layout once. Numbers are minimal varints; the encoding of a value is unique.
type coder struct {
	buf      []byte
	decoding bool
	err      error
}

func (x *coder) fail(err error) {
	if x.err == nil {
		x.err = err
	}
	x.buf = nil
}

func (x *coder) u64(v *uint64) {
	if !x.decoding {
		x.buf = binary.AppendUvarint(x.buf, *v)
		return
	}
	got, n := binary.Uvarint(x.buf)
	switch {
	case n <= 0:
		x.fail(errTruncated)
		return
	case n != (bits.Len64(got|1)+6)/7:
		x.fail(errCorrupt)
		return
	}
	*v, x.buf = got, x.buf[n:]
}

// num codes any integer that fits 64 bits, refusing what does not fit its type.
func num[T ~uint8 | ~uint32 | ~int32 | ~int64](x *coder, v *T) {
	w := uint64(*v)
	if *v < 0 || ^T(0) < 0 { // signed: zigzag
		s := int64(*v)
		w = uint64(s<<1) ^ uint64(s>>63)
	}
	x.u64(&w)
	if !x.decoding || x.err != nil {
		return
	}
	if ^T(0) < 0 {
		s := int64(w>>1) ^ -int64(w&1)
		if *v = T(s); int64(*v) != s {
			x.fail(errCorrupt)
		}
		return
	}
	if *v = T(w); uint64(*v) != w {
		x.fail(errCorrupt)
	}
}

func (x *coder) flag(v *bool) {
	var w uint64
	if *v {
		w = 1
	}
	x.u64(&w)
	if x.decoding {
		if w > 1 {
			x.fail(errCorrupt)
		}
		*v = w == 1
	}
}

func (x *coder) float(v *float64) {
	w := math.Float64bits(*v)
	x.u64(&w)
	if x.decoding {
		*v = math.Float64frombits(w)
	}
}

// fixed codes an array's bytes as they are.
func (x *coder) fixed(v []byte) {
	if !x.decoding {
		x.buf = append(x.buf, v...)
		return
	}
	if len(x.buf) < len(v) {
		x.fail(errTruncated)
		return
	}
	x.buf = x.buf[copy(v, x.buf):]
}

func (x *coder) bytes(v *[]byte, limit int) {
	n := uint64(len(*v))
	x.u64(&n)
	if !x.decoding {
		x.buf = append(x.buf, *v...)
		return
	}
	if n > uint64(limit) || n > uint64(len(x.buf)) {
		x.fail(errTruncated)
		return
	}
	if *v = nil; n > 0 {
		*v = append([]byte(nil), x.buf[:n]...)
	}
	x.buf = x.buf[n:]
}

func (x *coder) str(v *string, limit int) {
	b := []byte(*v)
	x.bytes(&b, limit)
	if x.decoding {
		*v = string(b)
	}
}

// list codes a slice of at most limit elements.
func list[T any](x *coder, v *[]T, limit int, each func(*T)) {
	n := uint64(len(*v))
	x.u64(&n)
	if x.decoding {
		if n > uint64(limit) || n > uint64(len(x.buf)) { // each element takes a byte at least
			x.fail(errTruncated)
			return
		}
		if *v = nil; n > 0 {
			*v = make([]T, n)
		}
	}
	for i := range *v {
		if x.err != nil {
			return
		}
		each(&(*v)[i])
	}
}

func (x *coder) rng(r *Range) {
	x.u64(&r.First)
	size := r.Last - r.First
	x.u64(&size)
	if x.decoding {
		if r.Last = r.First + size; r.Last < r.First {
			x.fail(errCorrupt)
		}
	}
}

func (x *coder) node(id *NodeID) { x.fixed(id[:]) }

func (x *coder) slot(s *SlotID) {
	x.node(&s.Node)
	num(x, &s.Index)
}

func (x *coder) job(id *JobID) { x.u64((*uint64)(id)) }

func (x *coder) account(a *Account) {
	x.u64(&a.Count)
	x.u64(&a.Sum)
	x.u64(&a.SumSq)
}

// done reports a decoding error, also for bytes left over.
func (x *coder) done() error {
	if x.err == nil && len(x.buf) > 0 {
		x.err = errCorrupt
	}
	return x.err
}

// header codes the version bytes that begin every entry and snapshot.
func (x *coder) header(what string) {
	version, oldest := uint64(FormatVersion), uint64(OldestReader)
	x.u64(&version)
	x.u64(&oldest)
	if x.decoding && x.err == nil && oldest > FormatVersion {
		x.fail(&NewerError{fmt.Sprintf("this %s, which needs a program that reads format %d and not just %d,", what, oldest, FormatVersion)})
	}
}

// MaxEntryBytes bounds one log entry.
const MaxEntryBytes = 1 << 20

// maxBatch bounds the commands of one entry.
const maxBatch = 4096

// A Request is a command with the id under which its sender may repeat it. The
// zero ID is for commands that are harmless when repeated.
type Request struct {
	ID      [16]byte
	Command Command
}

// An Entry is what one log entry holds: commands that happen at one moment.
type Entry struct {
	At       Instant // stamped by the leader
	Requests []Request
}

// fields is the layout of a command inside an entry: its number, its body's
// length and its body, so that an unknown number can be named.
func (r *Request) fields(x *coder) {
	x.fixed(r.ID[:])
	var number uint64
	if !x.decoding {
		number = uint64(r.Command.number())
	}
	x.u64(&number)
	if x.decoding {
		switch {
		case number == 0:
			x.fail(errCorrupt)
			return
		case number >= uint64(len(vocabulary)):
			x.fail(&NewerError{fmt.Sprintf("command %d", number)})
			return
		}
		r.Command = vocabulary[number]()
	}
	body := coder{decoding: x.decoding}
	if !x.decoding {
		r.Command.fields(&body)
	}
	x.bytes(&body.buf, MaxEntryBytes)
	if x.decoding && x.err == nil {
		r.Command.fields(&body)
		if err := body.done(); err != nil {
			x.fail(fmt.Errorf("%w in command %d", err, number))
		}
	}
}

// Encode gives the entry's bytes.
func (e *Entry) Encode() []byte {
	x := coder{}
	e.fields(&x)
	return x.buf
}

func (e *Entry) fields(x *coder) {
	x.header("log entry")
	num(x, &e.At)
	list(x, &e.Requests, maxBatch, func(r *Request) { r.fields(x) })
}

// DecodeEntry reads an entry's bytes. A command that this program does not know
// is an error: a node that skipped it would diverge from the others.
func DecodeEntry(b []byte) (Entry, error) {
	var e Entry
	x := coder{buf: b, decoding: true}
	e.fields(&x)
	return e, x.done()
}

// EncodeRequest and DecodeRequest carry one request to the leader.
func EncodeRequest(r Request) []byte {
	x := coder{}
	x.header("request")
	r.fields(&x)
	return x.buf
}

// DecodeRequest reads the bytes of [EncodeRequest].
func DecodeRequest(b []byte) (Request, error) {
	var r Request
	x := coder{buf: b, decoding: true}
	x.header("request")
	r.fields(&x)
	return r, x.done()
}

// EncodeOutcome and DecodeOutcome carry an answer back.
func EncodeOutcome(o Outcome) []byte {
	x := coder{}
	x.header("outcome")
	o.fields(&x)
	return x.buf
}

// DecodeOutcome reads the bytes of [EncodeOutcome].
func DecodeOutcome(b []byte) (Outcome, error) {
	var o Outcome
	x := coder{buf: b, decoding: true}
	x.header("outcome")
	o.fields(&x)
	return o, x.done()
}
