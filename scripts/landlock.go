package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSiblings bounds the entries of one directory that lie beside a hidden one.
const maxSiblings = 100_000

// The rights of Landlock, which name the version of the kernel's interface that
// has them.
const (
	fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	dirRights  = fileRights | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	referSince    = 2 // moving a file to another directory
	truncateSince = 3
	scopesSince   = 6 // signals and abstract sockets stay among the restricted
)

// LandlockVersion is the version of Landlock that this kernel has, 0 where it has
// none or does not let it be used.
func LandlockVersion() int {
	v, _, err := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if err != 0 {
		return 0
	}
	return int(v)
}

// hideBeside takes from the calling thread, and from what it starts, the files below
// a directory, and the right to trace processes outside. Everything else that is
// there now stays, and so does what comes below it; in the directories above the
// hidden one nothing new can be made or read. Names can still be listed.
func hideBeside(hidden, keep string) error {
	hidden, err := filepath.EvalSymlinks(hidden)
	if err != nil {
		return err
	}
	l := &landlock{version: LandlockVersion()}
	if l.version == 0 {
		return errors.New("this kernel has no Landlock")
	}
	if err := l.create(); err != nil {
		return err
	}
	defer func() { _ = unix.Close(l.fd) }()
	err = errors.Join(l.allowBeside("/", hidden), l.allow(keep, l.rights(dirRights)))
	if err != nil {
		return err
	}
	if _, _, e := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(l.fd), 0, 0); e != 0 {
		return fmt.Errorf("restrict: %w", e)
	}
	return nil
}

// A landlock is a set of rules in the making.
type landlock struct {
	version int
	fd      int
}

func (l *landlock) create() error {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: l.rights(dirRights)}
	if l.version >= scopesSince {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return fmt.Errorf("make the rules: %w", e)
	}
	l.fd = int(fd)
	return nil
}

// rights adds what later versions have.
func (l *landlock) rights(r uint64) uint64 {
	if l.version >= referSince && r != unix.LANDLOCK_ACCESS_FS_READ_DIR && r&unix.LANDLOCK_ACCESS_FS_READ_DIR != 0 {
		r |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if l.version >= truncateSince && r&unix.LANDLOCK_ACCESS_FS_WRITE_FILE != 0 {
		r |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	return r
}

// allowBeside allows what lies beside the way from a directory to the hidden one.
func (l *landlock) allowBeside(dir, hidden string) error {
	if dir == hidden {
		return nil
	}
	if err := l.allow(dir, unix.LANDLOCK_ACCESS_FS_READ_DIR); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrPermission): // scripts cannot read it either
		entries = nil
	case err != nil:
		return err
	case len(entries) > maxSiblings:
		return fmt.Errorf("%s has more than %d entries: have the data directory elsewhere", dir, maxSiblings)
	}
	rest, _ := filepath.Rel(dir, hidden) // it lies below
	next, _, _ := strings.Cut(rest, "/")
	for _, e := range entries {
		rights := uint64(fileRights)
		switch {
		case e.Name() == next, e.Type()&os.ModeSymlink != 0: // where a link leads has a rule of its own
			continue
		case e.IsDir():
			rights = dirRights
		}
		if err := l.allow(filepath.Join(dir, e.Name()), l.rights(rights)); err != nil {
			return err
		}
	}
	return l.allowBeside(filepath.Join(dir, next), hidden)
}

// allow allows rights below a path. What cannot be reached needs none.
func (l *landlock) allow(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(l.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	_ = unix.Close(fd)                        // the rule has its own hold
	if e != 0 && !errors.Is(e, unix.EBADFD) { // a path of the kernel's own needs no rule
		return fmt.Errorf("allow %s: %w", path, e)
	}
	return nil
}
