package slot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// This file has what keeps two executors from running for one slot.
//
// Every executor holds the slot's lock for as long as it lives: the node takes
// the lock, and hands the open file over. Before that the node kills the process
// group that the record names, if it is still the same process. So whatever
// happened to an earlier node, the lock is free soon, or its holder does not die
// and the slot is of no use.

const lockPoll = 20 * time.Millisecond

// A record names the process group of a slot's executor.
type record struct {
	Pid   int    `json:"pid"`   // of the leader, and so of the group
	Start uint64 `json:"start"` // clock ticks from boot
	Boot  string `json:"boot"`  // the kernel's id of this boot
}

func recordPath(dir string, index int) string {
	return filepath.Join(dir, fmt.Sprintf("slot-%d.pid", index))
}

// recordOf looks a process up.
func recordOf(pid int) (record, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return record{}, err
	}
	start, err := startTime(pid)
	return record{pid, start, strings.TrimSpace(string(boot))}, err
}

// startTime is field 22 of /proc/PID/stat. The second field is a name that may
// have blanks and parentheses.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// write makes the record durable, because it is for a node that starts after a crash.
func (r record) write(path string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// endRecorded kills the recorded group, unless its leader is gone or its number
// belongs to another process by now. A record that cannot be read is of no use,
// and the lock decides.
func endRecorded(path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		return
	}
	var was record
	if json.Unmarshal(b, &was) != nil || was.Pid <= 1 {
		return
	}
	if is, err := recordOf(was.Pid); err == nil && is == was {
		_ = unix.Kill(-was.Pid, unix.SIGKILL)
	}
}

// errLocked says that a lock stayed taken.
var errLocked = errors.New("the lock is held by another process")

// lock takes the slot's lock, and waits for it so long.
func lock(ctx context.Context, path string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return lockFile(ctx, f, wait)
}

// gpuLockWait is for a process to let a GPU go that was just killed.
const gpuLockWait = 2 * time.Second

// lockGPU takes a GPU for this process, until it ends. All users of the machine
// use the same file, which nobody needs to write.
func lockGPU(ctx context.Context, dir, pci string) error {
	if strings.ContainsRune(pci, filepath.Separator) {
		return fmt.Errorf("the GPU's place on the bus is %q", pci)
	}
	path := filepath.Join(dir, "seedmesh-gpu-"+pci+".lock")
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o644)
	}
	if err == nil {
		f, err = lockFile(ctx, f, gpuLockWait)
	}
	if errors.Is(err, errLocked) {
		return fmt.Errorf("the GPU %s is in use by another slot or node of this machine: take one out of cluster.toml, or let them share it with shared = true", pci)
	}
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, lockFD) // which nobody closes
	return errors.Join(err, f.Close())
}

// lockFile locks an open file, and waits for that so long. The lock belongs to the
// open file: it is held until the last process that has the file closes it.
func lockFile(ctx context.Context, f *os.File, wait time.Duration) (*os.File, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		poll := time.NewTimer(lockPoll)
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-deadline.C:
			err = errLocked
		case <-poll.C:
			continue
		}
		poll.Stop()
		return nil, errors.Join(err, f.Close())
	}
}

// onLauncher runs a function on the one thread that starts executors. It never
// ends, because the kernel sends PDEATHSIG when the thread that started a process
// ends, and Go ends threads as it likes.
func onLauncher(f func() error) error {
	done := make(chan error, 1)
	launcher() <- func() { done <- f() }
	return <-done
}

var launcher = sync.OnceValue(func() chan<- func() {
	starts := make(chan func())
	go func() {
		runtime.LockOSThread() // for good
		for start := range starts {
			start()
		}
	}()
	return starts
})
