// Package blob keeps the mesh's big things on disk, each under the SHA-256 of
// its bytes, and copies them between nodes.
//
// It does not decide what is kept where: holders are chosen by the node, and
// recorded in the ledger. It refuses bytes that do not have the digest they are
// said to have, and says that it has a blob only when the bytes and the name are
// on stable storage.
//
// Read store.go for what is on disk, codec.go for the blobs of survivors,
// wire.go for the copies.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"seedmesh/jobs"
)

// Limits of a blob.
const (
	MaxBlobBytes = 4 * 64 << 20 // bytes of any blob
	MaxRecords   = 15 << 20     // survivors in one blob, so that even incompressible ones fit
)

// A Digest is the SHA-256 of a blob's bytes, and its name.
type Digest = jobs.Digest

// ParseDigest reads the 64 lower-case hexadecimal digits that Digest.String writes.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != text {
		return Digest{}, fmt.Errorf("blob: %.80q is not a digest of %d hexadecimal digits", text, 2*len(d))
	}
	return Digest(b), nil
}

// ErrNotFound is wrapped by the errors about blobs that the store does not have.
var ErrNotFound = errors.New("not in this store")

func notFound(d Digest) error { return fmt.Errorf("blob: %s is %w", d, ErrNotFound) }

// ErrDiskFull is what a [*DiskFullError], here or on another node, matches with errors.Is.
var ErrDiskFull = errors.New("the disk is full")

// A DiskFullError says that a blob was not written because the disk, or the
// user's quota, is full. Nothing of the blob remains.
type DiskFullError struct {
	Op  string // what was being done
	Err error  // of the operating system
}

func (e *DiskFullError) Error() string { return fmt.Sprintf("blob: %s: the disk is full", e.Op) }

// Unwrap is the error of the operating system.
func (e *DiskFullError) Unwrap() error { return e.Err }

// Is matches [ErrDiskFull].
func (e *DiskFullError) Is(target error) bool { return target == ErrDiskFull }

// Remedy says what to do about it.
func (e *DiskFullError) Remedy() string {
	return "make room on the disk of the data directory, or remove results that are no longer needed with: seedmesh job rm JOB"
}

// A TooLargeError refuses more bytes or records than a blob may have.
type TooLargeError struct {
	What string // "bytes" or "survivors"
	Size uint64 // 0 when the end was not seen
	Max  uint64
}

func (e *TooLargeError) Error() string {
	if e.Size == 0 {
		return fmt.Sprintf("blob: more than the %d %s that a blob may have", e.Max, e.What)
	}
	return fmt.Sprintf("blob: %d %s, and a blob has at most %d", e.Size, e.What, e.Max)
}

// Remedy says what to do about it.
func (e *TooLargeError) Remedy() string { return "use a higher threshold or smaller chunks" }

// A CorruptError says that bytes are not what their digest or their header says.
type CorruptError struct {
	Digest Digest // that was asked for
	What   string // what is wrong
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("blob: %s is damaged: %s", e.Digest, e.What)
}

// Remedy says what to do about it.
func (e *CorruptError) Remedy() string {
	return "another holder's copy is used where there is one; check the disk of this node"
}

// failed says in the store's words that an operation on the disk went wrong.
func failed(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &DiskFullError{op, err}
	case errors.Is(err, fs.ErrClosed):
		return fmt.Errorf("blob: %s: the store is closed: %w", op, err)
	}
	return fmt.Errorf("blob: %s: %w", op, err)
}
