package chaos

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKilledInSnapshot kills a node while it writes a snapshot. What it leaves is no
// snapshot: the node starts from the one before and its log, to the same ledger.
func TestKilledInSnapshot(t *testing.T) {
	m := newMesh(t, 3, "[raft]\nsnapshot_every = 64\n"+simulated(simRate))
	m.checks = "I2 I12"
	r := rand.New(rand.NewPCG(*seed, 18))
	for victim := 0; ; victim = (victim + 1) % 3 {
		dir := filepath.Join(m.nodes[victim].dir, "raft", "snapshots")
		began := watchFor(t, dir, ".tmp")
		var names []string
		for range 80 {
			names = append(names, m.write(r))
		}
		if !<-began {
			t.Fatalf("%s wrote no snapshot within %s", m.nodes[victim].name, startWait)
		}
		m.kill(victim, "a node that writes a snapshot")
		half, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
		if err != nil {
			t.Fatal(err)
		}
		m.up(victim)
		m.whole()
		for _, name := range names {
			if ids := m.named(m.nodes[victim], name); len(ids) != 1 {
				t.Fatalf("%s has %d jobs %s, want 1", m.nodes[victim].name, len(ids), name)
			}
		}
		m.checkDigests()
		if len(half) > 0 {
			m.landed("half a snapshot left behind", m.checks)
			return
		}
	}
}

// watchFor tells once whether an entry with a text in its name is made in a directory.
func watchFor(t *testing.T, dir, text string) <-chan bool {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	if err := events.SetReadDeadline(time.Now().Add(startWait)); err != nil {
		t.Fatal(err)
	}
	made := make(chan bool, 1)
	go func() {
		defer events.Close()
		buffer := make([]byte, 4096)
		for {
			n, err := events.Read(buffer)
			if err != nil || bytes.Contains(buffer[:n], []byte(text)) {
				made <- err == nil
				return
			}
		}
	}()
	return made
}
