package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"seedmesh/jobs"
)

// content is all that a log holds.
type content struct {
	entries map[uint64]string
	values  map[string]string
}

func contentOf(t *testing.T, s *store, entries []uint64) content {
	t.Helper()
	c := content{map[uint64]string{}, map[string]string{}}
	for _, i := range entries {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		c.entries[i] = fmt.Sprintf("%d %d %x", l.Term, l.Type, l.Data)
	}
	for _, key := range confKeys {
		if v, err := s.Get([]byte(key)); err == nil {
			c.values[key] = string(v)
		}
	}
	return c
}

// writtenLog gives a log as a node leaves it, and what it holds.
func writtenLog(t *testing.T) ([]byte, content) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.db")
	s, _, err := openStore(path, false, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	var all []uint64
	for i := range uint64(150) {
		l := &raft.Log{Index: i + 1, Term: 1 + i/40, Data: bytes.Repeat([]byte{byte(i)}, int(i*i)%900)}
		if err := errors.Join(s.StoreLog(l), s.SetUint64([]byte("CurrentTerm"), l.Term), s.Set([]byte("LastVoteCand"), []byte("me"))); err != nil {
			t.Fatal(err)
		}
		all = append(all, l.Index)
	}
	c := contentOf(t, s, all)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, c
}

// TestDamagedLogIsRefused changes a log in many ways: it opens with all that was
// written, or it does not open, and says which file is damaged.
func TestDamagedLogIsRefused(t *testing.T) {
	whole, want := writtenLog(t)
	r := rand.New(rand.NewPCG(1, 1))
	ways := map[string]func(b []byte) []byte{
		"a bit":    func(b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b },
		"a sector": func(b []byte) []byte { at := r.IntN(len(b)/512) * 512; clear(b[at : at+512]); return b },
		"its end":  func(b []byte) []byte { return b[:r.IntN(len(b))] },
		"all":      func([]byte) []byte { return nil },
		"a head":   func(b []byte) []byte { b[r.IntN(2)*4096+16+r.IntN(64)] ^= 4; return b },
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			dir, refused := t.TempDir(), 0
			for i := range 100 {
				path := filepath.Join(dir, fmt.Sprint(i))
				if err := os.WriteFile(path, way(bytes.Clone(whole)), 0o600); err != nil {
					t.Fatal(err)
				}
				s, entries, err := openStore(path, true, func(err error) { t.Error(err) })
				var damaged *DamagedError
				switch {
				case errors.As(err, &damaged):
					if refused++; damaged.Path != path {
						t.Fatalf("%v does not name the file", err)
					}
				case err != nil: // too short to be a log at all
					if refused++; !strings.Contains(err.Error(), path) {
						t.Fatalf("%v does not name the file", err)
					}
				default:
					got := contentOf(t, s, entries)
					if !reflect.DeepEqual(got, want) {
						t.Fatal("a damaged log was opened and holds something else")
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			t.Logf("%d of 100 refused", refused)
			if refused == 0 {
				t.Error("none was refused")
			}
		})
	}
}

// TestDamagedSnapshotIsRefused changes the files of a snapshot.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	for name, file := range map[string]string{"the ledger": "state.bin", "its description": "meta.json"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				defer c.close()
				for n := 1; n <= 20; n++ {
					c.propose(0, submit(n))
				}
				if err := c.logs[0].raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
				c.stop(0)
				found, err := filepath.Glob(filepath.Join(c.dirs[0], snapshotsDir, "*", file))
				if err != nil || len(found) != 1 {
					t.Fatalf("found %v: %v", found, err)
				}
				whole, err := os.ReadFile(found[0])
				if err != nil {
					t.Fatal(err)
				}
				at := len(whole) / 2
				if file == "meta.json" {
					at = strings.Index(string(whole), `"Index":`) + len(`"Index":`)
				}
				changed := bytes.Clone(whole)
				changed[at] ^= 1
				if err := os.WriteFile(found[0], changed, 0o600); err != nil {
					t.Fatal(err)
				}
				var damaged *DamagedError
				if _, err := Open(c.config(0)); !errors.As(err, &damaged) || damaged.Path != filepath.Dir(found[0]) {
					t.Fatalf("open = %v, want an error about %s", err, found[0])
				}
				if err := os.WriteFile(found[0], whole, 0o600); err != nil {
					t.Fatal(err)
				}
				c.open(0)
				c.logs[0].View(func(s *jobs.State) {
					if n := len(s.Jobs()); n != 20 {
						t.Errorf("%d jobs after the file was put back, want 20", n)
					}
				})
			})
		})
	}
}

// TestNewerSnapshot starts a node on a snapshot of a newer program: it does not start, also
// not from an older one, and says that it is to be upgraded.
func TestNewerSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		c.propose(0, submit(1))
		if err := c.logs[0].raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		c.stop(0)
		store, err := raft.NewFileSnapshotStoreWithLogger(c.dirs[0], maxSnapshots, hclogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		list, err := store.List()
		if err != nil || len(list) != 1 {
			t.Fatalf("%d snapshots: %v", len(list), err)
		}
		meta, from, err := store.Open(list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(from)
		if err = errors.Join(err, from.Close()); err != nil {
			t.Fatal(err)
		}
		b[8], b[9] = 2, 2                      // behind the index: its format, and the oldest that reads it
		time.Sleep(time.Second)                // of fake time: snapshots are named by it, and this is to be the newest
		_, peers := raft.NewInmemTransport("") // encodes the members
		sink, err := store.Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, peers)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = sink.Write(b); errors.Join(err, sink.Close()) != nil {
			t.Fatal(err)
		}
		said := make(chan error, 1)
		config := c.config(0)
		config.Fatal = func(err error) { said <- err }
		_, err = Open(config)
		var newer *jobs.NewerError
		if !errors.As(err, &newer) || !errors.As(<-said, &newer) {
			t.Errorf("open = %v, want that a newer seedmesh wrote the snapshot", err)
		}
	})
}

func TestDiskErrorSaysWhatToDo(t *testing.T) {
	full := &DiskError{"writing to the log", "/d/log.db", fmt.Errorf("write: %w", syscall.ENOSPC)}
	if !strings.Contains(full.Error(), "/d/log.db") || !strings.Contains(full.Remedy(), "make room") {
		t.Errorf("%v: %s", full, full.Remedy())
	}
	if broken := (&DiskError{"writing to the log", "/d/log.db", syscall.EIO}); !strings.Contains(broken.Remedy(), "mend the disk") {
		t.Errorf("%v: %s", broken, broken.Remedy())
	}
}
