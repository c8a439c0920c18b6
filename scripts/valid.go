package scripts

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits of a check of outputs.
const (
	validTime    = 2 * time.Minute // for all outputs of one attempt
	validChunk   = 64 << 10        // bytes that are read at once
	maxDirectory = 8 << 20         // bytes of the directory of an archive
	maxExpanded  = 2 << 30         // bytes of all arrays of an archive
)

// validators are the checks by name. Each reads what it is given once, in little
// memory.
var validators = map[string]func(r io.ReaderAt, size int64) error{
	"json":  func(r io.ReaderAt, size int64) error { return scanJSON(io.NewSectionReader(r, 0, size), false) },
	"jsonl": func(r io.ReaderAt, size int64) error { return scanJSON(io.NewSectionReader(r, 0, size), true) },
	"npz":   validNPZ,
}

// validator is how a file is checked: as the job says, or as its name ends.
func validator(how, name string) string {
	if how != "auto" {
		return how
	}
	return strings.TrimPrefix(path.Ext(name), ".")
}

// check reads a whole output and says what is wrong with it.
func (r *Runner) check(ctx context.Context, how, at string, size int64) error {
	valid, known := validators[how]
	if !known {
		return nil
	}
	f, err := r.root.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	return valid(&meter{ctx, f, size + maxDirectory}, size) // an archive is read by way of its directory
}

// A meter reads as long as its context lives and its bytes last.
type meter struct {
	ctx  context.Context
	r    io.ReaderAt
	left int64
}

var errTooMuch = errors.New("it takes more reading than it may")

func (m *meter) ReadAt(b []byte, at int64) (int, error) {
	if m.ctx.Err() != nil {
		return 0, fmt.Errorf("its check was cut off: %w", context.Cause(m.ctx))
	}
	if m.left -= int64(len(b)); m.left < 0 {
		return 0, errTooMuch
	}
	return m.r.ReadAt(b, at)
}

// validNPZ reads every array of a NumPy archive; the archive has their checksums.
func validNPZ(r io.ReaderAt, size int64) error {
	m := r.(*meter)
	directory := &meter{m.ctx, m.r, maxDirectory}
	z, err := zip.NewReader(directory, size)
	if err != nil {
		return err
	}
	directory.left = m.left // what follows are the arrays
	left := int64(maxExpanded)
	for _, entry := range z.File {
		f, err := entry.Open()
		if err != nil {
			return err
		}
		n, err := readArray(m.ctx, f, left)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%.100q: %w", entry.Name, err)
		}
		left -= n
	}
	return nil
}

// readArray reads one array, of at most so many bytes.
func readArray(ctx context.Context, r io.Reader, limit int64) (n int64, err error) {
	var magic [6]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil || string(magic[:]) != "\x93NUMPY" {
		return 0, errors.Join(errors.New("it is no array"), err)
	}
	buf := make([]byte, validChunk)
	for n = int64(len(magic)); ; {
		k, err := r.Read(buf)
		n += int64(k)
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		case n > limit:
			return n, fmt.Errorf("the arrays have more than %d bytes", int64(maxExpanded))
		case ctx.Err() != nil:
			return n, fmt.Errorf("its check was cut off: %w", context.Cause(ctx))
		}
	}
}

// lastObject finds the last line that is a JSON object.
func lastObject(text []byte) []byte {
	lines := bytes.Split(text, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] == '{' && json.Valid(line) {
			return bytes.Clone(line)
		}
	}
	return nil
}
