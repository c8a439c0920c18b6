package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

const (
	// FrameHeaderBytes go before each payload: length (4, big endian), CRC32C (4), kind (1).
	FrameHeaderBytes = 9
	// frameTrust is what ReadFrame allocates on the word of a header alone, in bytes;
	// beyond it memory grows with what really arrives.
	frameTrust = 64 << 10
)

// ErrChecksum is returned by [ReadFrame] for a frame whose bytes were changed on the way.
// The reader is then at an unknown place in the stream; give it up.
var ErrChecksum = errors.New("transport: frame checksum does not match")

// A FrameTooLargeError names a frame beyond the reader's cap, or beyond what a header can say.
type FrameTooLargeError struct {
	Size, Max int64 // payload bytes
}

func (e *FrameTooLargeError) Error() string {
	return fmt.Sprintf("transport: frame of %d bytes, at most %d are allowed", e.Size, e.Max)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frameSum(kind byte, payload []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, []byte{kind}), castagnoli, payload)
}

// WriteFrame writes payload behind a header, in one Write. The kind is the caller's to
// define. Errors are w's, or a [*FrameTooLargeError] from 4 GiB on.
func WriteFrame(w io.Writer, kind byte, payload []byte) error {
	if int64(len(payload)) > math.MaxUint32 {
		return &FrameTooLargeError{int64(len(payload)), math.MaxUint32}
	}
	b := make([]byte, 0, FrameHeaderBytes+len(payload))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, frameSum(kind, payload))
	b = append(b, kind)
	_, err := w.Write(append(b, payload...))
	return err
}

// ReadFrame reads one frame with a payload of at most max bytes. It returns [io.EOF] when
// r ends before the frame begins, [io.ErrUnexpectedEOF] when r ends inside it,
// [*FrameTooLargeError], [ErrChecksum], or r's error.
func ReadFrame(r io.Reader, max int) (kind byte, payload []byte, err error) {
	var header [FrameHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := int64(binary.BigEndian.Uint32(header[:4]))
	if size > int64(max) {
		return 0, nil, &FrameTooLargeError{size, int64(max)}
	}
	body := bytes.NewBuffer(make([]byte, 0, min(size, frameTrust)+bytes.MinRead))
	if _, err := io.CopyN(body, r, size); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	kind, payload = header[8], body.Bytes()
	if frameSum(kind, payload) != binary.BigEndian.Uint32(header[4:8]) {
		return 0, nil, ErrChecksum
	}
	return kind, payload, nil
}
