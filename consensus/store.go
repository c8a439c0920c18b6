package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// lockTimeout is how long opening the log waits for another process's lock.
const lockTimeout = 2 * time.Second

// store is the log on disk. A failed write may have happened in part, so it
// stops the node: to try again could acknowledge what is not there. What it reads
// it compares with the checksum that it wrote.
type store struct {
	*raftboltdb.BoltStore
	path  string
	fatal func(error)
	began atomic.Bool // Raft's goroutines run
}

// openStore opens a log, and reads it from end to end before anything relies on
// it. One that existed must not be empty. It gives the indexes of its entries.
func openStore(path string, existed bool, fatal func(error)) (*store, []uint64, error) {
	options := *bbolt.DefaultOptions
	options.NoFreelistSync = true
	options.FreelistType = bbolt.FreelistMapType
	options.Timeout = lockTimeout
	entries, err := walk(path)
	if err != nil {
		return nil, nil, openError(path, err)
	}
	s := &store{path: path, fatal: fatal}
	err = guarded(path, func() (err error) {
		s.BoltStore, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &options})
		return err
	})
	if err != nil {
		return nil, nil, openError(path, err)
	}
	if err := guarded(path, func() error { return s.readAll(entries, existed || len(entries) > 0) }); err != nil {
		return nil, nil, errors.Join(openError(path, err), s.Close())
	}
	return s, entries, nil
}

// openError leaves errors that name the file as they are.
func openError(path string, err error) error {
	var damaged *DamagedError
	var disk *DiskError
	if errors.As(err, &damaged) || errors.As(err, &disk) {
		return err
	}
	return &DiskError{"opening the log", path, err}
}

// readAll reads every value and every entry. A log that was ever in use has a term.
func (s *store) readAll(entries []uint64, used bool) error {
	for _, key := range confKeys {
		if _, err := s.Get([]byte(key)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return err
		}
	}
	if _, err := s.Get([]byte(confKeys[0])); err != nil && used {
		return &DamagedError{s.path, "what this node wrote to it is gone, and without it the node could vote twice"}
	}
	for _, i := range entries {
		if err := s.GetLog(i, new(raft.Log)); err != nil {
			return err
		}
	}
	return nil
}

// lost tells of a read that shows damage.
func (s *store) lost(what string) error {
	err := &DamagedError{s.path, what}
	if s.began.Load() {
		s.fatal(err)
	}
	return err
}

// wrote tells of a write that failed.
func (s *store) wrote(doing string, err error) error {
	if err != nil && !errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		s.fatal(&DiskError{doing, s.path, err})
	}
	return err
}

// GetLog reads an entry.
func (s *store) GetLog(index uint64, l *raft.Log) error {
	err := s.BoltStore.GetLog(index, l)
	switch {
	case errors.Is(err, raft.ErrLogNotFound), errors.Is(err, bbolterrors.ErrDatabaseNotOpen):
		return err
	case err != nil:
		return s.lost(fmt.Sprintf("entry %d cannot be read: %v", index, err))
	case l.Index != index || !bytes.Equal(l.Extensions, sealOf(l)):
		return s.lost(fmt.Sprintf("entry %d does not have its checksum", index))
	}
	return nil
}

// StoreLog writes an entry.
func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries with their checksums.
func (s *store) StoreLogs(all []*raft.Log) error {
	marked := make([]*raft.Log, len(all))
	for i, l := range all {
		c := *l
		c.Extensions = sealOf(l)
		marked[i] = &c
	}
	return s.wrote("writing to the log", s.BoltStore.StoreLogs(marked))
}

// DeleteRange removes entries.
func (s *store) DeleteRange(low, high uint64) error {
	return s.wrote("trimming the log", s.BoltStore.DeleteRange(low, high))
}

// Get reads a value.
func (s *store) Get(key []byte) ([]byte, error) {
	b, err := s.BoltStore.Get(key)
	if err != nil {
		return nil, err
	}
	value, ok := unsealed(key, b)
	if !ok {
		return nil, s.lost(fmt.Sprintf("the value of %s does not have its checksum", key))
	}
	return value, nil
}

// Set writes a value with its checksum.
func (s *store) Set(key, value []byte) error {
	return s.wrote("writing to the log", s.BoltStore.Set(key, sealed(key, value)))
}

// GetUint64 reads a number.
func (s *store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, s.lost(fmt.Sprintf("the value of %s is not a number", key))
	}
	return binary.BigEndian.Uint64(b), nil
}

// SetUint64 writes a number. Raft panics when it cannot write its term; as the
// node stops in good order by then, the goroutine that would panic ends instead.
func (s *store) SetUint64(key []byte, value uint64) error {
	err := s.Set(key, binary.BigEndian.AppendUint64(nil, value))
	if err != nil && s.began.Load() {
		runtime.Goexit()
	}
	return err
}

// fatalSnapshots stops the node when a snapshot cannot be written.
type fatalSnapshots struct {
	raft.SnapshotStore
	dir   string
	fatal func(error)
}

func (f fatalSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := f.SnapshotStore.Create(v, index, term, c, at, t)
	if err != nil {
		f.fatal(&DiskError{"beginning a snapshot in", f.dir, err})
		return nil, err
	}
	return fatalSink{sink, f.dir, f.fatal}, nil
}

type fatalSink struct {
	raft.SnapshotSink
	dir   string
	fatal func(error)
}

func (s fatalSink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	if err != nil {
		s.fatal(&DiskError{"writing a snapshot to", s.dir, err})
	}
	return n, err
}

func (s fatalSink) Close() error {
	err := s.SnapshotSink.Close()
	if err != nil {
		s.fatal(&DiskError{"writing a snapshot to", s.dir, err})
	}
	return err
}

var _ io.WriteCloser = fatalSink{}

// hclogger hands the Raft library's log lines on as debug lines of ours: it
// reports every peer that goes away as an error, which is an ordinary day here.
func hclogger(log *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, DisableTime: true, Output: lineWriter{log}})
}

type lineWriter struct{ log *slog.Logger }

func (w lineWriter) Write(b []byte) (int, error) {
	if w.log.Enabled(context.Background(), slog.LevelDebug) {
		w.log.Debug("raft", "line", string(b))
	}
	return len(b), nil
}
