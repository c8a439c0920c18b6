package scripts

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Group is the control group that a slot's tasks run in, made once: of version 2
// or 1, whichever has the memory of processes. The nil Group does nothing.
type Group struct {
	version int    // 2 or 1
	dir     string // of the group
	fd      int    // of dir, for version 2
	bounded bool   // limit is in effect
	limit   uint64 // bytes; 0 for none
	ooms    uint64 // kills that were seen before
}

// OpenGroup makes the group of that name below the one that this process is in.
// Without a hierarchy that can be written to and limits memory it gives nil.
func OpenGroup(name string) *Group {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for _, version := range []int{2, 1} {
		parent, ok := groupOf(version, string(own))
		if !ok {
			continue
		}
		g := &Group{version: version, dir: filepath.Join(parent, name)}
		if g.make() == nil {
			return g
		}
	}
	return nil
}

// groupOf is the directory of this process's group, in the hierarchy that limits memory.
func groupOf(version int, own string) (string, bool) {
	path := ""
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		if version == 2 && parts[0] == "0" || version == 1 && hasWord(parts[1], "memory") {
			path = parts[2]
		}
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil || path == "" {
		return "", false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 98:0 ROOT POINT options ... - TYPE source SUPER
		left, right, _ := strings.Cut(lines.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if len(before) < 5 || len(after) < 3 {
			continue
		}
		if version == 2 && after[0] != "cgroup2" || version == 1 && (after[0] != "cgroup" || !hasWord(after[2], "memory")) {
			continue
		}
		below, err := filepath.Rel(before[3], path)
		if err != nil || strings.HasPrefix(below, "..") {
			below = "."
		}
		return filepath.Join(before[4], below), true
	}
	return "", false
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

func (g *Group) make() error {
	if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(g.dir, g.file("memory.max", "memory.limit_in_bytes"))); err != nil {
		return errors.Join(err, os.Remove(g.dir))
	}
	if g.version == 2 {
		fd, err := unix.Open(g.dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		g.fd = fd
	}
	g.ooms = g.kills()
	return g.setLimit(0)
}

// Describe names the version of the control groups, or what takes their place.
func (g *Group) Describe() string {
	if g == nil {
		return "memory watched by polling"
	}
	return fmt.Sprintf("cgroup v%d", g.version)
}

// Close removes the group, which must be empty.
func (g *Group) Close() error {
	if g == nil {
		return nil
	}
	if g.version == 2 {
		if err := unix.Close(g.fd); err != nil {
			return err
		}
	}
	return os.Remove(g.dir)
}

func (g *Group) file(v2, v1 string) string {
	if g.version == 2 {
		return v2
	}
	return v1
}

func (g *Group) write(name, text string) error {
	return os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0)
}

// setLimit bounds the memory of all processes together; 0 is no bound.
func (g *Group) setLimit(bytes uint64) error {
	if g == nil || g.bounded && bytes == g.limit {
		return nil
	}
	text, swap := g.file("max", "-1"), g.file("memory.swap.max", "memory.memsw.limit_in_bytes")
	if bytes > 0 {
		text = strconv.FormatUint(bytes, 10)
	}
	_ = g.write(swap, g.file("0", "-1")) // not every kernel counts swap
	if err := g.write(g.file("memory.max", "memory.limit_in_bytes"), text); err != nil {
		return fmt.Errorf("scripts: limit the memory: %w", err)
	}
	if g.version == 1 {
		_ = g.write(swap, text) // memory and swap together, so never below the memory
	}
	g.bounded, g.limit = true, bytes
	return nil
}

// enter puts the calling thread, and so what it starts, into a group of version 1.
func (g *Group) enter() error {
	if g == nil || g.version == 2 {
		return nil
	}
	return g.write("tasks", strconv.Itoa(unix.Gettid()))
}

// leave puts the calling thread back.
func (g *Group) leave() error {
	if g == nil || g.version == 2 {
		return nil
	}
	return os.WriteFile(filepath.Join(filepath.Dir(g.dir), "tasks"), []byte(strconv.Itoa(unix.Gettid())), 0)
}

// join starts a process in a group of version 2.
func (g *Group) join(attr *syscall.SysProcAttr) {
	if g != nil && g.version == 2 {
		attr.UseCgroupFD, attr.CgroupFD = true, g.fd
	}
}

// kill ends all processes of the group, but for this one: a thread of it is in a
// group of version 1.
func (g *Group) kill() {
	switch {
	case g == nil:
	case g.version == 2:
		_ = g.write("cgroup.kill", "1") // the processes are also found by their parent
	default:
		b, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs")) // as above
		for _, word := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 && pid != os.Getpid() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// kills counts the processes that the kernel has killed for want of memory.
func (g *Group) kills() uint64 {
	b, err := os.ReadFile(filepath.Join(g.dir, g.file("memory.events", "memory.oom_control")))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			n, err := strconv.ParseUint(v, 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// killed tells whether the kernel has killed a process since it was asked last.
func (g *Group) killed() bool {
	if g == nil {
		return false
	}
	now := g.kills()
	was := g.ooms
	g.ooms = now
	return now > was
}
