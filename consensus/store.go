package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
// stops the node: to try again could acknowledge what is not there.
type store struct {
	*raftboltdb.BoltStore
	fatal func(error)
}

func openStore(path string, fatal func(error)) (*store, error) {
	options := *bbolt.DefaultOptions
	options.NoFreelistSync = true
	options.FreelistType = bbolt.FreelistMapType
	options.Timeout = lockTimeout
	b, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &options})
	if err != nil {
		return nil, fmt.Errorf("consensus: the log %s cannot be opened: %w", path, err)
	}
	return &store{b, fatal}, nil
}

func (s *store) guard(doing string, err error) error {
	if err != nil && !errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		s.fatal(fmt.Errorf("consensus: %s the log failed, so this node stops rather than promise what may not be on disk; mend the disk and start it again: %w", doing, err))
	}
	return err
}

func (s *store) StoreLog(l *raft.Log) error { return s.guard("writing to", s.BoltStore.StoreLog(l)) }

func (s *store) StoreLogs(l []*raft.Log) error {
	return s.guard("writing to", s.BoltStore.StoreLogs(l))
}

func (s *store) Set(key, value []byte) error {
	return s.guard("writing to", s.BoltStore.Set(key, value))
}

func (s *store) SetUint64(key []byte, value uint64) error {
	return s.guard("writing to", s.BoltStore.SetUint64(key, value))
}

func (s *store) DeleteRange(low, high uint64) error {
	return s.guard("trimming", s.BoltStore.DeleteRange(low, high))
}

// fatalSnapshots stops the node when a snapshot cannot be written.
type fatalSnapshots struct {
	raft.SnapshotStore
	fatal func(error)
}

func (f fatalSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := f.SnapshotStore.Create(v, index, term, c, at, t)
	if err != nil {
		f.fatal(snapshotError(err))
		return nil, err
	}
	return fatalSink{sink, f.fatal}, nil
}

func snapshotError(err error) error {
	return fmt.Errorf("consensus: writing a snapshot failed, so this node stops; mend the disk and start it again: %w", err)
}

type fatalSink struct {
	raft.SnapshotSink
	fatal func(error)
}

func (s fatalSink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	if err != nil {
		s.fatal(snapshotError(err))
	}
	return n, err
}

func (s fatalSink) Close() error {
	err := s.SnapshotSink.Close()
	if err != nil {
		s.fatal(snapshotError(err))
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
