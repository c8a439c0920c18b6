package chaos

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"seedmesh/tests/faults"
)

// This file has the faults. Each proves that it happened before it counts.

// holds names the invariants that [mesh.check] checks after a fault. A test that
// does not end with it says what it checks in mesh.checks.
const holds = "I1 I2 I3 I4 I5 I9 I10 I12"

// landed notes a fault that was proven to have happened.
func (m *mesh) landed(kind, checks string) {
	m.Helper()
	faults.Landed(m.T, faults.Process, kind, checks, 1)
}

// kill ends a node with SIGKILL and proves that it died of it.
func (m *mesh) kill(i int, role string) {
	m.Helper()
	p := m.nodes[i]
	if !p.running() {
		m.Fatalf("%s does not run, so it cannot be killed", p.name)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		m.Fatal(err)
	}
	_ = p.cmd.Wait()
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		m.Fatalf("%s did not die of SIGKILL: %v", p.name, p.cmd.ProcessState)
	}
	m.landed("kill -9 of "+role, m.checks)
}

// freeze stops processes with SIGSTOP and proves that they stand still.
func (m *mesh) freeze(role string, pids ...int) {
	m.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			m.Fatal(err)
		}
	}
	for _, pid := range pids {
		m.await(5*time.Second, "stopped process", func() bool { return statOf(pid).state == "T" })
	}
	m.landed("SIGSTOP of "+role, m.checks)
}

// thaw lets them go on.
func (m *mesh) thaw(pids ...int) {
	m.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			m.Fatal(err)
		}
	}
}

// family is a node's process and those of its executors.
func (m *mesh) family(i int) []int {
	node := m.nodes[i].cmd.Process.Pid
	return append(m.executors(node), node)
}

// killExecutor kills the executor of a node's slot and proves that it is gone.
// It tells whether there was one.
func (m *mesh) killExecutor(i int) bool {
	m.Helper()
	pids := m.executors(m.nodes[i].cmd.Process.Pid)
	if len(pids) == 0 || syscall.Kill(pids[0], syscall.SIGKILL) != nil {
		return false
	}
	m.await(5*time.Second, "end of the executor", func() bool {
		s := statOf(pids[0]).state
		return s == "" || s == "Z" || s == "X"
	})
	m.landed("kill -9 of an executor", m.checks)
	return true
}

// executors lists the executor processes of a node.
func (m *mesh) executors(node int) []int {
	m.Helper()
	var found []int
	for pid := range m.processes() {
		if cmdline(pid) == "executor" && statOf(pid).parent == node {
			found = append(found, pid)
		}
	}
	return found
}

// checkExecutors proves that no slot has two executor processes (invariant I5):
// each holds its slot's lock as its fourth file.
func (m *mesh) checkExecutors() {
	m.Helper()
	seen := map[string]int{}
	for pid := range m.processes() {
		lock, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/3", pid))
		if err != nil || cmdline(pid) != "executor" || !strings.HasPrefix(lock, m.dir) {
			continue
		}
		if seen[lock]++; seen[lock] > 1 {
			m.Errorf("two executors hold %s", lock)
		}
	}
}

// processes gives the numbers of all processes.
func (m *mesh) processes() iter.Seq[int] {
	m.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		m.Fatal(err)
	}
	return func(yield func(int) bool) {
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && !yield(pid) {
				return
			}
		}
	}
}

// cmdline is the first argument of a process; empty when it is gone.
func cmdline(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := bytes.Split(b, []byte{0})
	if err != nil || len(args) < 2 {
		return ""
	}
	return string(args[1])
}

// stat is what the kernel says about a process; zero when it is gone.
type stat struct {
	state  string // R, S, T, Z ...
	parent int
}

func statOf(pid int) stat {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	parent, _ := strconv.Atoi(fields[1])
	return stat{fields[0], parent}
}

// tmpfs mounts a small file system on a directory, which needs root.
func (m *mesh) tmpfs(dir string, bytes int) {
	m.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.Fatal(err)
	}
	if err := syscall.Mount("seedmesh-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		m.Skipf("a small file system cannot be mounted here, which takes root: %v", err)
	}
	m.Cleanup(func() {
		m.stop()
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			m.Error(err)
		}
	})
}

// fill writes a file until its file system has no room, and gives its path.
func (m *mesh) fill(dir string) string {
	m.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		m.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return path
}

// damage changes a file as a bad disk would.
func (m *mesh) damage(path string, change func(b []byte) []byte) {
	m.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		m.Fatal(err)
	}
	changed := change(bytes.Clone(b))
	if bytes.Equal(b, changed) {
		m.Fatalf("%s was not changed", path)
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		m.Fatal(err)
	}
}

// flipped changes one byte in the middle.
func flipped(b []byte) []byte {
	b[len(b)/2] ^= 0x10
	return b
}

// halved cuts the second half off.
func halved(b []byte) []byte { return b[:len(b)/2] }
