package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
)

func frame(t *testing.T, kind byte, payload []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteFrame(&b, kind, payload); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFrameRoundTrip(t *testing.T) {
	for name, payload := range map[string][]byte{
		"empty":                      {},
		"short":                      []byte("pear"),
		"more than a header's trust": bytes.Repeat([]byte("plum"), frameTrust),
	} {
		t.Run(name, func(t *testing.T) {
			r := iotest.HalfReader(bytes.NewReader(frame(t, 7, payload)))
			kind, got, err := ReadFrame(r, len(payload))
			if kind != 7 || !bytes.Equal(got, payload) || err != nil {
				t.Errorf("ReadFrame = %d, %d bytes, %v; want 7, %d bytes, nil", kind, len(got), err, len(payload))
			}
			if _, _, err := ReadFrame(r, 1); !errors.Is(err, io.EOF) {
				t.Errorf("ReadFrame at the end = %v, want io.EOF", err)
			}
		})
	}
}

func TestFrameRefuses(t *testing.T) {
	good := frame(t, 7, []byte("pear"))
	changed := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, tt := range map[string]struct {
		wire []byte
		want error
	}{
		"changed kind":     {changed(8), ErrChecksum},
		"changed sum":      {changed(4), ErrChecksum},
		"changed payload":  {changed(10), ErrChecksum},
		"shorter length":   {changed(3)[:12], io.ErrUnexpectedEOF}, // 4 becomes 5
		"cut in header":    {good[:5], io.ErrUnexpectedEOF},
		"cut after header": {good[:FrameHeaderBytes], io.ErrUnexpectedEOF},
		"cut in payload":   {good[:len(good)-1], io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := ReadFrame(bytes.NewReader(tt.wire), 100); !errors.Is(err, tt.want) {
				t.Errorf("ReadFrame(% x) = %v, want %v", tt.wire, err, tt.want)
			}
		})
	}
	_, _, err := ReadFrame(bytes.NewReader(good), 3)
	if tooLarge, ok := errors.AsType[*FrameTooLargeError](err); !ok || tooLarge.Size != 4 || tooLarge.Max != 3 {
		t.Errorf("ReadFrame(4 bytes, max 3) = %v, want 4 of 3 too large", err)
	}
}

// A header alone must not make the reader allocate what it promises.
func TestFrameAllocatesWhatArrives(t *testing.T) {
	header := make([]byte, FrameHeaderBytes)
	binary.BigEndian.PutUint32(header, 1<<30)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ReadFrame(bytes.NewReader(header), 1<<30)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("ReadFrame of a lone 1 GiB header allocates %d bytes, want little more than %d", got, frameTrust)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{}, 10)
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 10)
	f.Add([]byte("\x00\x00\x00\x00\x52\x7d\x53\x51\x00"), 0)
	f.Fuzz(func(t *testing.T, wire []byte, max int) {
		max &= 1<<20 - 1
		r := bytes.NewReader(wire)
		kind, payload, err := ReadFrame(r, max)
		if err != nil {
			return
		}
		if len(payload) > max {
			t.Fatalf("ReadFrame gave %d bytes, max %d", len(payload), max)
		}
		read := wire[:len(wire)-r.Len()]
		if again := frame(t, kind, payload); !bytes.Equal(again, read) {
			t.Fatalf("ReadFrame(% x) = %d, % x, which is written as % x", read, kind, payload, again)
		}
	})
}
