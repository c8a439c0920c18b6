package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"seedmesh/jobs"
)

// This file finds what a bad disk did to the log and its snapshots while the node
// was down. A node must neither lead on such a log nor vote by it, so it refuses
// to start. Every entry and every value has a checksum; the pages around them are
// walked once before the log is used, where a fault can be caught.

// A DamagedError says that a file does not hold what was written to it.
type DamagedError struct {
	Path string
	What string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("consensus: %s is damaged: %s", e.Path, e.What)
}

// Remedy says what to do about it.
func (e *DamagedError) Remedy() string {
	return "this node must not go on with it: take it out with seedmesh node rm NAME on another node, and join again with another data directory; the others hold all that was acknowledged"
}

// A DiskError says that the log on disk could not be written. The node stops,
// rather than promise what may not be there.
type DiskError struct {
	Doing string
	Path  string
	Err   error
}

func (e *DiskError) Error() string {
	cause := e.Err
	var path *fs.PathError
	if errors.As(cause, &path) {
		cause = path.Err // the path is said already
	}
	return fmt.Sprintf("consensus: %s %s failed: %v", e.Doing, e.Path, cause)
}

// Unwrap is the error of the operating system.
func (e *DiskError) Unwrap() error { return e.Err }

// Remedy says what to do about it.
func (e *DiskError) Remedy() string {
	what := "mend the disk"
	if errors.Is(e.Err, syscall.ENOSPC) || errors.Is(e.Err, syscall.EDQUOT) {
		what = "make room on the disk of the data directory"
	}
	return what + ", then start this node again with: seedmesh up; nothing acknowledged is lost, and the other nodes go on if they are a majority"
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealOf is the checksum of an entry, which travels in its Extensions.
func sealOf(l *raft.Log) []byte {
	head := binary.BigEndian.AppendUint64(nil, l.Index)
	head = append(binary.BigEndian.AppendUint64(head, l.Term), byte(l.Type))
	return binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, l.Data))
}

// sealed appends the checksum of a key and its value to the value.
func sealed(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.BigEndian.AppendUint32(append([]byte{}, value...), sum)
}

// unsealed takes the checksum off again; ok is false when it is wrong.
func unsealed(key, b []byte) (value []byte, ok bool) {
	if len(b) < 4 {
		return nil, false
	}
	value = b[:len(b)-4]
	return value, string(sealed(key, value)) == string(b)
}

// guarded turns the panics and memory faults that damaged pages cause into an error.
func guarded(path string, do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &DamagedError{path, fmt.Sprint(p)}
		}
	}()
	return do()
}

// walk looks at every page of a log that is in use, and at both of its heads. It
// gives the indexes of the entries.
func walk(path string) (entries []uint64, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := checkHeads(path); err != nil {
		return nil, err
	}
	err = guarded(path, func() (err error) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bbolt.Bucket) (err error) {
				switch string(name) {
				case bucketLogs:
					entries, err = walkKeys(path, b, func(key []byte) bool { return len(key) == 8 })
				case bucketConf:
					_, err = walkKeys(path, b, func(key []byte) bool { return slices.Contains(confKeys, string(key)) })
				default:
					err = &DamagedError{path, fmt.Sprintf("it has an unknown bucket %q", name)}
				}
				return err
			})
		})
	})
	return entries, err
}

// walkKeys goes through a bucket in order, and finds every key from the root, too:
// what lies between is right then. It gives the keys that are numbers.
func walkKeys(path string, b *bbolt.Bucket, known func(key []byte) bool) (numbers []uint64, err error) {
	var last []byte
	err = b.ForEach(func(key, value []byte) error {
		found := b.Get(key)
		if !known(key) || last != nil && bytes.Compare(last, key) >= 0 || len(value) == 0 || len(found) != len(value) || &found[0] != &value[0] {
			return &DamagedError{path, fmt.Sprintf("it has a key %q out of place", key)}
		}
		last = key
		if len(key) == 8 {
			numbers = append(numbers, binary.BigEndian.Uint64(key))
		}
		return nil
	})
	return numbers, err
}

// The log's buckets and the keys of the second one.
const (
	bucketLogs = "logs"
	bucketConf = "conf"
)

var confKeys = []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"}

// A log's file begins with two pages that each head a state of it, of which the
// later one counts. When that is damaged the earlier one would be taken, which
// lacks what was acknowledged last: both must be whole.
const (
	headOffset   = 16 // in its page
	headBytes    = 56 // before its checksum
	headPageSize = 8  // offset of the page size in the head
)

func checkHeads(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var head [headBytes + 8]byte
	page := int64(os.Getpagesize())
	for i := range int64(2) {
		if _, err := f.ReadAt(head[:], i*page+headOffset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sum := fnv.New64a()
		_, _ = sum.Write(head[:headBytes]) // never fails
		if sum.Sum64() != binary.NativeEndian.Uint64(head[headBytes:]) {
			return &DamagedError{path, fmt.Sprintf("the checksum of its page %d is wrong", i)}
		}
		page = int64(binary.NativeEndian.Uint32(head[headPageSize:]))
	}
	return nil
}

// checkSnapshots reads every snapshot of a directory to its end. The Raft library
// would pass over a damaged one in silence and take an older.
func checkSnapshots(dir string, store raft.SnapshotStore) (newest uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("consensus: snapshots: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		index, err := checkSnapshot(e.Name(), store)
		if err != nil {
			return 0, &DamagedError{filepath.Join(dir, e.Name()), err.Error()}
		}
		newest = max(newest, index)
	}
	return newest, nil
}

func checkSnapshot(name string, store raft.SnapshotStore) (index uint64, err error) {
	meta, state, err := store.Open(name) // compares the checksum of the state
	if err != nil {
		return 0, err
	}
	defer state.Close()
	var term, at, ms uint64
	if _, err := fmt.Sscanf(name, "%d-%d-%d", &term, &at, &ms); err != nil || meta.ID != name || meta.Term != term || meta.Index != at {
		return 0, fmt.Errorf("it says of itself that it is %s of term %d at index %d", meta.ID, meta.Term, meta.Index)
	}
	for _, s := range meta.Configuration.Servers {
		if _, err := jobs.ParseNodeID(string(s.ID)); err != nil || s.ID != raft.ServerID(s.Address) {
			return 0, fmt.Errorf("it names a node %q at %q", s.ID, s.Address)
		}
	}
	return meta.Index, nil
}
