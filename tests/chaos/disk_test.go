package chaos

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// logOf is the log of a node's processes.
func (m *mesh) logOf(i int) string {
	m.Helper()
	b, err := os.ReadFile(m.nodes[i].dir + ".log")
	if err != nil {
		m.Fatal(err)
	}
	return string(b)
}

// smallDisk moves a node's data, or a part of it, to a small file system.
func (m *mesh) smallDisk(i int, part string, bytes int) string {
	m.Helper()
	return m.ownDisk(i, part, func(dir string) { m.tmpfs(dir, bytes) })
}

// ownDisk moves a node's data, or a part of it, to a file system of its own. The
// node is stopped meanwhile.
func (m *mesh) ownDisk(i int, part string, mount func(dir string)) string {
	m.Helper()
	m.kill(i, "a node, to move its data")
	dir := filepath.Join(m.nodes[i].dir, part)
	aside := dir + ".aside"
	if err := os.Rename(dir, aside); err != nil {
		m.Fatal(err)
	}
	mount(dir)
	for _, c := range [][]string{{"cp", "-a", aside + "/.", dir}, {"sync", "-f", dir}} { // as the node had synced it
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			m.Fatalf("%s: %v: %s", c[0], err, out)
		}
	}
	m.up(i)
	m.whole()
	return dir
}

// exited gives a node work to do until its process has ended by itself, and gives
// its exit code.
func (m *mesh) exited(i int, work func()) int {
	m.Helper()
	p := m.nodes[i]
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	m.await(jobWait, "end of "+p.name, func() bool {
		select {
		case <-done:
			return true
		default:
			work()
			return false
		}
	})
	return p.cmd.ProcessState.ExitCode()
}

// TestFullDiskStopsANode fills the disk of a node under its log. The node says
// why and stops; the job ends on the others, and nothing acknowledged is lost.
// With room again the node starts and catches up.
func TestFullDiskStopsANode(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 13))
	victim := m.leader() // the hardest case: what it writes is everybody's
	dir := m.smallDisk(victim, "", 48<<20)
	s := m.undisturbed(r, 3*simRate*4, 1)
	id := m.submit(m.nodes[victim], s)
	m.atShare(id, 0.1)
	filler := m.fill(dir)
	if code := m.exited(victim, func() { m.writeDraws(r, strings.Repeat("1 2 3 ", 1000)) }); code != 1 {
		t.Fatalf("a node without room exits %d, want 1:\n%s", code, lastError(m.logOf(victim)))
	}
	said := lastError(m.logOf(victim))
	if !strings.Contains(said, "no space left on device") || !strings.Contains(said, "make room") || strings.Contains(said, "goroutine ") {
		t.Fatalf("a node without room says: %s", said)
	}
	t.Logf("a node without room says: %s", said)
	m.landed("full disk under the log", holds)
	m.check(id, s)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	m.up(victim)
	m.whole()
	m.check(id, s)
}

// TestFullDiskUnderResults fills the disk under a node's results alone. The node
// refuses to hold results, the others finish the job, and with room again it
// takes part.
func TestFullDiskUnderResults(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	r := rand.New(rand.NewPCG(*seed, 14))
	victim := (m.leader() + 1) % 3
	dir := m.smallDisk(victim, "blobs", 2<<20)
	filler := m.fill(dir)
	s := m.undisturbed(r, 3*simRate*4, 1)
	id := m.submit(m.nodes[victim], s)
	m.await(jobWait, "a refusal", func() bool { return strings.Contains(m.logOf(victim), "the disk is full") })
	m.landed("full disk under the results", holds)
	m.ended(id)
	for i, p := range m.nodes {
		if i != victim {
			m.checkOn(p, id, s)
		}
	}
	if _, stderr, code := m.exec("results", id, "--data", m.nodes[victim].dir); code != 7 || !strings.Contains(stderr, "disk is full") {
		t.Errorf("results of a node without room exits %d, want 7: %s", code, stderr)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s = m.undisturbed(r, 3*simRate*2, 1)
	id = m.submit(m.nodes[victim], s)
	m.check(id, s)
	if len(m.blobsOf(victim)) == 0 {
		t.Error("a node that has room again holds nothing")
	}
}

// TestReadOnlyDataDirectory starts a node on a data directory that is mounted
// read-only: it says so and does not start, and starts when it can write again.
func TestReadOnlyDataDirectory(t *testing.T) {
	m := newMesh(t, 3, simulated(simRate))
	victim := (m.leader() + 1) % 3
	dir := m.smallDisk(victim, "", 48<<20)
	s := m.undisturbed(rand.New(rand.NewPCG(*seed, 15)), 3*simRate*3, 2)
	id := m.submit(m.nodes[victim], s)
	m.atShare(id, 0.1)
	m.kill(victim, "a node, to make its data read-only")
	m.await(startWait, "read-only file system", func() bool { // while an executor that dies has a file open it is busy
		return syscall.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") == nil
	})
	if err := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("the directory is not read-only: %v", err)
	}
	m.refuses(victim, "read-only data directory", dir)
	m.check(id, s)
	if err := syscall.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	m.up(victim)
	m.whole()
	m.check(id, s)
}

// blockDisk mounts a file system on a directory that lies on a device of its own, and
// gives what mounts it anew. It takes root.
func (m *mesh) blockDisk(dir string) (again func()) {
	m.Helper()
	image := dir + ".image"
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		m.Fatal(err)
	}
	try := func(command ...string) {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			m.Skipf("a file system that can be broken cannot be had here, which takes root and a loop device: %s: %v: %s", command[0], err, out)
		}
	}
	mount := func() { try("mount", "-o", "loop", image, dir) }
	try("mkfs.ext4", "-q", "-F", image)
	mount()
	m.Cleanup(func() {
		m.stop()
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			m.Error(err)
		}
	})
	return func() {
		m.Helper()
		m.await(startWait, "end of what had files open", func() bool { return syscall.Unmount(dir, 0) == nil })
		mount()
	}
}

// What makes a file system of a device fail while files on it are open, as the kernel does
// when the device fails: writes are refused from then on, or everything is.
func turnReadOnly(dir string) error { return syscall.Mount("", dir, "", unix.MS_REMOUNT, "abort") }

func shutDown(dir string) error {
	const request, dropLog = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN; what is not on the device yet does not get there
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), request, dropLog), f.Close())
}

// TestDiskBreaksUnderTheLeader breaks the file system of the leader's data while it works. The
// node says why and stops, having acknowledged nothing more; the job ends on the others. On
// the mended disk it starts and catches up.
func TestDiskBreaksUnderTheLeader(t *testing.T) {
	for kind, tt := range map[string]struct {
		fault func(dir string) error
		errno syscall.Errno // of what is written then
	}{
		"data directory turns read-only under the leader": {turnReadOnly, syscall.EROFS},
		"disk fails under the leader":                     {shutDown, syscall.EIO},
	} {
		t.Run(kind, func(t *testing.T) {
			m := newMesh(t, 3, simulated(simRate))
			r := rand.New(rand.NewPCG(*seed, 16))
			victim := (m.leader() + 1) % 3
			var again func()
			dir := m.ownDisk(victim, "", func(dir string) { again = m.blockDisk(dir) })
			for m.leader() != victim {
				other := m.leader()
				m.kill(other, "the leader, for another to lead")
				m.up(other)
				m.whole()
			}
			s := m.undisturbed(r, 3*simRate*4, 2)
			id := m.submit(m.nodes[victim], s)
			m.atShare(id, 0.1)
			if err := tt.fault(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600); !errors.Is(err, tt.errno) {
				t.Fatalf("writing there gives %v, want %v", err, tt.errno)
			}
			if code := m.exited(victim, func() {}); code != 1 {
				t.Fatalf("the node exits %d, want 1:\n%s", code, lastError(m.logOf(victim)))
			}
			said := lastError(m.logOf(victim))
			if !strings.Contains(said, filepath.Join(dir, "raft")) || !strings.Contains(said, "mend the disk") || strings.Contains(said, "goroutine ") {
				t.Fatalf("the node says: %s", said)
			}
			t.Logf("the node says: %s", said)
			m.landed(kind, holds)
			m.check(id, s)
			again()
			m.up(victim)
			m.whole()
			m.check(id, s)
		})
	}
}
