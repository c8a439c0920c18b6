package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	blobsDir  = "blobs" // blobs/ab/abcdef...
	tempDir   = "tmp"   // what is being written; emptied by Open
	copyBytes = 128 << 10
)

// fileOps is what lies between a byte and its durability. Tests watch it, and
// make it fail.
type fileOps struct {
	write   func(f *os.File, b []byte) (int, error)
	sync    func(f *os.File) error
	rename  func(root *os.Root, from, to string) error
	syncDir func(root *os.Root, dir string) error
}

var systemOps = fileOps{
	write:   func(f *os.File, b []byte) (int, error) { return f.Write(b) },
	sync:    func(f *os.File) error { return f.Sync() },
	rename:  func(root *os.Root, from, to string) error { return root.Rename(from, to) },
	syncDir: syncDir,
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// A Store is one directory of blobs. It belongs to one process at a time, which
// the lock of the node's data directory sees to. All methods may be called at
// the same time, and none waits for another's disk.
type Store struct {
	root *os.Root
	ops  fileOps
	temp atomic.Uint64    // number of the last temporary file
	made [256]atomic.Bool // whether blobs/ab is on stable storage, by first byte
}

// Open makes or opens the store in a directory, and removes what writers left
// that were cut off.
func Open(dir string) (*Store, error) { return open(dir, systemOps) }

func open(dir string, ops fileOps) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, failed("open the store", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, failed("open the store", err)
	}
	s := &Store{root: root, ops: ops}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(failed("open the store", err), root.Close())
	}
	return s, nil
}

func (s *Store) prepare() error {
	if err := s.root.RemoveAll(tempDir); err != nil {
		return err
	}
	for _, dir := range []string{tempDir, blobsDir} {
		if err := s.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return s.ops.syncDir(s.root, ".")
}

// Close lets go of the directory. Files that were opened stay readable.
func (s *Store) Close() error { return s.root.Close() }

func dirOf(d Digest) string  { return path.Join(blobsDir, fmt.Sprintf("%02x", d[0])) }
func fileOf(d Digest) string { return path.Join(dirOf(d), d.String()) }

// A Spool is a blob that is being written. It is used by one goroutine, and
// ended by Commit or Abort.
type Spool struct {
	store *Store
	file  *os.File
	name  string
	hash  hash.Hash
	size  int64
	err   error // of the first operation that failed
}

// Create begins a blob whose digest is not known yet.
func (s *Store) Create() (*Spool, error) {
	name, f, err := s.createTemp()
	if err != nil {
		return nil, err
	}
	return &Spool{store: s, file: f, name: name, hash: sha256.New()}, nil
}

func (s *Store) createTemp() (string, *os.File, error) {
	name := path.Join(tempDir, strconv.FormatUint(s.temp.Add(1), 10))
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	return name, f, failed("begin a blob", err)
}

func (s *Store) removeTemp(name string, f *os.File) error {
	return failed("remove a temporary file", errors.Join(f.Close(), s.root.Remove(name)))
}

// Write adds bytes. It fails with a [*TooLargeError] beyond [MaxBlobBytes] and a
// [*DiskFullError]; after an error Commit fails too.
func (w *Spool) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.size+int64(len(b)) > MaxBlobBytes {
		w.err = &TooLargeError{What: "bytes", Max: MaxBlobBytes}
		return 0, w.err
	}
	n, err := w.store.ops.write(w.file, b)
	w.size += int64(n)
	w.hash.Write(b[:n])
	w.err = failed("write a blob", err)
	return n, w.err
}

// Commit names the blob. When it returns without an error, the bytes and the
// name are on stable storage; with one, nothing half-written remains.
func (w *Spool) Commit() (Digest, int64, error) {
	d := Digest(w.hash.Sum(nil))
	if err := w.commit(d); err != nil {
		return Digest{}, 0, err
	}
	return d, w.size, nil
}

// commit has the order that makes a blob durable: bytes, name, directory, and
// the directory's own name.
func (w *Spool) commit(d Digest) error {
	s := w.store
	err := w.err
	if err == nil {
		err = failed("sync a blob", s.ops.sync(w.file))
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	if !s.made[d[0]].Load() {
		if err := s.root.Mkdir(dirOf(d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return errors.Join(failed("name a blob", err), w.Abort())
		}
	}
	if err := s.ops.rename(s.root, w.name, fileOf(d)); err != nil {
		return errors.Join(failed("name a blob", err), w.Abort())
	}
	w.err = errEnded
	return errors.Join(failed("close a blob", w.file.Close()), s.settle(d))
}

// settle returns when the name of a blob is on stable storage.
func (s *Store) settle(d Digest) error {
	if err := s.ops.syncDir(s.root, dirOf(d)); err != nil {
		return failed("sync a blob's directory", err)
	}
	if made := &s.made[d[0]]; !made.Load() {
		if err := s.ops.syncDir(s.root, blobsDir); err != nil {
			return failed("sync the store's directory", err)
		}
		made.Store(true)
	}
	return nil
}

var errEnded = errors.New("blob: the blob was ended before")

// Abort drops what was written. After Commit or Abort it does nothing.
func (w *Spool) Abort() error {
	if errors.Is(w.err, errEnded) {
		return nil
	}
	w.err = errEnded
	return w.store.removeTemp(w.name, w.file)
}

// Put writes the blob that is the next size bytes of r. When they do not have the
// digest it fails with a [*CorruptError]; other errors are a [*TooLargeError], a
// [*DiskFullError], [io.ErrUnexpectedEOF] and r's own.
func (s *Store) Put(r io.Reader, want Digest, size int64) error {
	if size < 0 || size > MaxBlobBytes {
		return &TooLargeError{"bytes", uint64(size), MaxBlobBytes}
	}
	w, err := s.Create()
	if err != nil {
		return err
	}
	if _, err := copyN(w, r, size); err != nil {
		return errors.Join(err, w.Abort())
	}
	if got := Digest(w.hash.Sum(nil)); got != want {
		return errors.Join(&CorruptError{want, "its bytes have the digest " + got.String()}, w.Abort())
	}
	return w.commit(want)
}

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// copyN is io.CopyN with larger pieces; a source that ends early is an error.
func copyN(w io.Writer, r io.Reader, size int64) (int64, error) {
	buf := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(justWriter{w}, io.LimitReader(r, size), buf[:])
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// justWriter hides ReadFrom, so that the buffer of io.CopyBuffer is used.
type justWriter struct{ io.Writer }

// Open gives a blob's bytes and their number. Nothing is verified: see
// [Store.Verify] and [NewReader]. It fails with [ErrNotFound].
func (s *Store) Open(d Digest) (io.ReadSeekCloser, int64, error) {
	f, err := s.root.Open(fileOf(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, notFound(d)
	}
	if err != nil {
		return nil, 0, failed("open a blob", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		return nil, 0, errors.Join(failed("open a blob", err), f.Close())
	}
	return f, info.Size(), nil
}

// Has says whether there is a blob of that name. Its bytes are not looked at.
func (s *Store) Has(d Digest) (bool, error) {
	_, err := s.root.Lstat(fileOf(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, failed("look for a blob", err)
}

// Size is the number of a blob's bytes. It fails with [ErrNotFound].
func (s *Store) Size(d Digest) (int64, error) {
	info, err := s.root.Lstat(fileOf(d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, notFound(d)
	}
	if err != nil {
		return 0, failed("look for a blob", err)
	}
	return info.Size(), nil
}

// Delete removes a blob; one that is not there is no error. Readers that have it
// open go on.
func (s *Store) Delete(d Digest) error {
	err := s.root.Remove(fileOf(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return failed("delete a blob", err)
}

// Verify reads the whole blob and compares its digest. It fails with
// [ErrNotFound] or a [*CorruptError].
func (s *Store) Verify(d Digest) error {
	f, size, err := s.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := copyN(h, f, size); err != nil {
		return failed("read a blob", err)
	}
	if got := h.Sum(nil); !bytes.Equal(got, d[:]) {
		return &CorruptError{d, fmt.Sprintf("its bytes have the digest %x", got)}
	}
	return nil
}

// A Stat names a blob and its size.
type Stat struct {
	Digest Digest
	Bytes  int64
}

// List gives all blobs in the order of their digests. An error ends it. Blobs
// that come or go meanwhile may be in it or not.
func (s *Store) List() iter.Seq2[Stat, error] {
	return func(yield func(Stat, error) bool) {
		for first := range 256 {
			dir := path.Join(blobsDir, fmt.Sprintf("%02x", first))
			entries, err := fs.ReadDir(s.root.FS(), dir) // sorted
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				yield(Stat{}, failed("list the blobs", err))
				return
			}
			for _, entry := range entries {
				d, err := ParseDigest(entry.Name())
				if err != nil || int(d[0]) != first {
					continue // not ours
				}
				info, err := entry.Info()
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					yield(Stat{}, failed("list the blobs", err))
					return
				}
				if !yield(Stat{d, info.Size()}, nil) {
					return
				}
			}
		}
	}
}

// Usage is what a store takes, and what its disk has left.
type Usage struct {
	Blobs int
	Bytes int64 // of all blobs
	Free  int64 // bytes that this user may still write
}

// Usage counts the blobs; it reads every directory.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	for stat, err := range s.List() {
		if err != nil {
			return Usage{}, err
		}
		u.Blobs++
		u.Bytes += stat.Bytes
	}
	f, err := s.root.Open(".")
	if err != nil {
		return Usage{}, failed("measure the disk", err)
	}
	defer f.Close()
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &disk); err != nil {
		return Usage{}, failed("measure the disk", err)
	}
	u.Free = int64(disk.Bavail) * disk.Bsize
	return u, nil
}
