package consensus

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// TestLogIsSyncedBeforeItAnswers puts under an open log a disk that takes every
// write and cannot sync. Nothing may be acknowledged there, and the node stops.
func TestLogIsSyncedBeforeItAnswers(t *testing.T) {
	for name, write := range map[string]func(*store) error{
		"entry":   func(s *store) error { return s.StoreLog(&raft.Log{Index: 9, Term: 1, Data: []byte("x")}) },
		"entries": func(s *store) error { return s.StoreLogs([]*raft.Log{{Index: 9, Term: 1}, {Index: 10, Term: 1}}) },
		"vote":    func(s *store) error { return s.Set([]byte("LastVoteCand"), []byte("n1")) },
		"term":    func(s *store) error { return s.SetUint64([]byte("CurrentTerm"), 7) },
		"trim":    func(s *store) error { return s.DeleteRange(1, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log.db")
			var stopped error
			s, _, err := openStore(path, false, func(err error) { stopped = err })
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(8) { // the file has room for the next write
				if err := s.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: []byte("x")}); err != nil {
					t.Fatal(err)
				}
			}
			neverSyncs(t, path)
			if err := write(s); err == nil || stopped == nil {
				t.Errorf("the log answers %v on a disk that does not sync, and stops the node because of %v", err, stopped)
			}
			if err := s.Close(); err != nil {
				t.Logf("close: %v", err)
			}
		})
	}
}

// neverSyncs puts /dev/null in the place of this process's open file: it takes
// writes, and fdatasync fails on it.
func neverSyncs(t *testing.T, path string) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := unix.Pwrite(int(null.Fd()), []byte("x"), 4096); err != nil {
		t.Fatalf("the disk does not take writes: %v", err)
	}
	if err := unix.Fdatasync(int(null.Fd())); err == nil {
		t.Fatal("the disk syncs")
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var fd int
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || to != path {
			continue
		}
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil {
			t.Fatal(err)
		}
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%s is not open", path)
}
