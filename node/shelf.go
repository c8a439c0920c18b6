package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"seedmesh/jobs"
)

// A shelf is the directories in which this node keeps preloads. The marker of a
// preload is written last, when every file is there with its digest, and is the
// first thing to go when that is not known any more.
type shelf struct {
	dirs   []string // below which preloads may be
	source func(ctx context.Context, d jobs.Digest, holders []jobs.NodeID) (io.ReadCloser, error)
	save   func(map[string]placed) error // notes what is placed, on disk
	closed func(dir string) string       // the directory, it or one above it, that scripts may not enter, or empty
	placed map[string]placed             // by name of the preload
	roots  map[string]*lockedRoot        // of dirs
	kept   map[string]*keeping           // what was verified by this process
}

// placed is what of a preload may lie around on this node.
type placed struct {
	Root  string   `json:"root"` // one of the dirs
	Dir   string   `json:"dir"`  // below it
	Files []string `json:"files"`
}

// keeping is a verified copy: it is right as long as nothing about it changes.
type keeping struct {
	round  uint64
	stamps map[string]stamp
	text   string // what had to be mended
}

// A stamp tells one state of a file from every other.
type stamp struct {
	dev, ino, size uint64
	changed        int64 // nanoseconds
	written        int64
}

// readyName is the marker of a preload that is complete.
const readyName = ".ready"

// Modes of what scripts may read.
const (
	shelfDirMode = 0o755
	partEnd      = ".part" // of the name of a file that is not complete
)

// keep has a preload complete, and says what had to be mended for that. Before it
// does anything that takes time it calls losing: the copy does not count meanwhile.
func (s *shelf) keep(ctx context.Context, p *jobs.Preload, losing func()) (text string, err error) {
	at, err := s.where(p)
	if err != nil {
		losing()
		return "", err
	}
	root, err := s.open(at.Root)
	if err != nil {
		losing()
		return "", err
	}
	closed := s.enterable(at.Root)
	if k := s.kept[p.Name]; k != nil && k.round == p.Round && closed == nil && s.same(root, at, k) {
		return k.text, nil
	}
	delete(s.kept, p.Name)
	losing()
	if err := root.Remove(path.Join(at.Dir, readyName)); err != nil && !missing(err) {
		return "", err
	}
	if closed != nil {
		return "", closed
	}
	again, err := s.claim(p.Name, at)
	if err != nil {
		return "", err
	}
	return s.fill(ctx, root, at, p, again)
}

// fill verifies what is there, copies the rest, and writes the marker.
func (s *shelf) fill(ctx context.Context, root *os.Root, at placed, p *jobs.Preload, again bool) (text string, err error) {
	k := &keeping{round: p.Round, stamps: map[string]stamp{}}
	var lacking []jobs.PreloadFile
	need := uint64(0)
	for _, f := range p.Files {
		if st, err := verify(root, path.Join(at.Dir, f.Name), f); err == nil {
			k.stamps[f.Name] = st
		} else {
			lacking = append(lacking, f)
			need += f.Bytes
		}
	}
	if err := makeDirs(root, at.Dir); err != nil {
		return "", err
	}
	for _, f := range lacking { // what is wrong goes before it is replaced: there may be no room for both
		if err := root.RemoveAll(path.Join(at.Dir, f.Name)); err != nil {
			return "", err
		}
	}
	if err := headRoom(at.Root, need); err != nil {
		return "", err
	}
	var mended []string
	for _, f := range lacking {
		if err := s.copy(ctx, root, path.Join(at.Dir, f.Name), f, p.Holders); err != nil {
			return "", fmt.Errorf("%s: %w", f.Name, err)
		}
		if k.stamps[f.Name], err = verify(root, path.Join(at.Dir, f.Name), f); err != nil {
			return "", fmt.Errorf("%s: %w", f.Name, err)
		}
		mended = append(mended, f.Name)
	}
	if again && len(mended) > 0 {
		k.text = "put back: " + strings.Join(mended, ", ")
	}
	if !unchanged(root, at, k) {
		return "", errors.New("somebody changes the files while they are verified")
	}
	if err := writeMarker(root, at, p); err != nil {
		return "", err
	}
	k.stamps[readyName], err = stampOf(root, path.Join(at.Dir, readyName))
	if err == nil {
		s.kept[p.Name] = k
	}
	return k.text, err
}

// where is the directory of a preload on this node.
func (s *shelf) where(p *jobs.Preload) (placed, error) {
	at := placed{}
	for _, f := range p.Files {
		at.Files = append(at.Files, f.Name)
	}
	if len(s.dirs) > 0 && !path.IsAbs(p.Path) {
		at.Root, at.Dir = s.dirs[0], p.Path
		return at, nil
	}
	for _, dir := range s.dirs {
		if below, ok := strings.CutPrefix(p.Path, dir+"/"); ok {
			at.Root, at.Dir = dir, below
			return at, nil
		}
	}
	return at, fmt.Errorf("%s is not below a directory that this node's preload_dirs allow: %s", p.Path, strings.Join(s.dirs, ", "))
}

// open gives one of the directories, which is made where it is missing, and belongs
// to one node alone.
func (s *shelf) open(dir string) (*os.Root, error) {
	if root := s.roots[dir]; root != nil {
		was, err := root.Stat(".")
		now, nowErr := os.Lstat(dir)
		if err == nil && nowErr == nil && os.SameFile(was, now) {
			return root.Root, nil
		}
		delete(s.roots, dir) // it was removed or replaced
		if err := root.Close(); err != nil {
			return nil, err
		}
	}
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lock, err := root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s belongs to another node of this machine: give each its own preload_dirs", dir), lock.Close(), root.Close())
	}
	s.roots[dir] = &lockedRoot{root, lock}
	return root, nil
}

// enterable refuses a directory that the users of this node's scripts cannot reach: what
// is in it would be of no use.
func (s *shelf) enterable(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if closed := s.closed(real); closed != "" {
		return fmt.Errorf("scripts may not enter %s, so they could not read what is in %s: chmod o+x %s, or choose another directory for preload_dirs", closed, dir, closed)
	}
	return nil
}

// lockName is the file that shows whose a directory is.
const lockName = ".lock"

// A lockedRoot is a directory that is this node's as long as it is open.
type lockedRoot struct {
	*os.Root
	lock *os.File
}

func (r *lockedRoot) Close() error { return errors.Join(r.Root.Close(), r.lock.Close()) }

// claim notes that files of a preload may be on this node, before the first of them
// is; again tells that it was noted before. What lies elsewhere under its name goes.
func (s *shelf) claim(name string, at placed) (again bool, err error) {
	was, known := s.placed[name]
	if known && was.Root == at.Root && was.Dir == at.Dir && slices.Equal(was.Files, at.Files) {
		return true, nil
	}
	if known {
		if err := s.clear(name); err != nil {
			return false, err
		}
	}
	s.placed[name] = at
	return false, s.save(s.placed)
}

// clear removes what is left of a preload: the marker first.
func (s *shelf) clear(name string) error {
	at := s.placed[name]
	delete(s.kept, name)
	root, err := s.open(at.Root)
	if err != nil {
		return err
	}
	for _, f := range append([]string{readyName}, at.Files...) {
		for _, end := range []string{"", partEnd} {
			if err := root.Remove(path.Join(at.Dir, f+end)); err != nil && !missing(err) {
				return err
			}
		}
	}
	for dir := at.Dir; dir != "."; dir = path.Dir(dir) {
		if root.Remove(dir) != nil { // it has other things in it
			break
		}
	}
	delete(s.placed, name)
	return s.save(s.placed)
}

// clearBut removes all preloads but those that are wanted.
func (s *shelf) clearBut(wanted func(name string) bool) (err error) {
	for _, name := range slices.Sorted(maps.Keys(s.placed)) {
		if !wanted(name) {
			err = errors.Join(err, s.clear(name))
		}
	}
	return err
}

func (s *shelf) close() (err error) {
	for _, root := range s.roots {
		err = errors.Join(err, root.Close())
	}
	return err
}

// same tells whether a copy is as it was when it was verified, with its marker.
func (s *shelf) same(root *os.Root, at placed, k *keeping) bool {
	_, marked := k.stamps[readyName]
	return marked && len(k.stamps) == len(at.Files)+1 && unchanged(root, at, k)
}

func unchanged(root *os.Root, at placed, k *keeping) bool {
	for name, was := range k.stamps {
		if now, err := stampOf(root, path.Join(at.Dir, name)); err != nil || now != was {
			return false
		}
	}
	return true
}

func stampOf(root *os.Root, name string) (stamp, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return stamp{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("%s is not a regular file", name)
	}
	return stamp{st.Dev, st.Ino, uint64(st.Size), st.Ctim.Nano(), st.Mtim.Nano()}, nil
}

// verify reads a whole file, and gives its stamp when it has the right bytes.
func verify(root *os.Root, name string, want jobs.PreloadFile) (stamp, error) {
	before, err := stampOf(root, name)
	if err != nil {
		return before, err
	}
	f, err := root.Open(name)
	if err != nil {
		return before, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, int64(want.Bytes)+1))
	if err != nil {
		return before, err
	}
	after, err := stampOf(root, name)
	if err != nil || after != before || uint64(n) != want.Bytes || jobs.Digest(h.Sum(nil)) != want.Digest {
		return before, errors.Join(errors.New("it has other bytes than it must have"), err)
	}
	return after, nil
}

// copy writes a file whole, under another name until it is complete.
func (s *shelf) copy(ctx context.Context, root *os.Root, name string, f jobs.PreloadFile, holders []jobs.NodeID) error {
	from, err := s.source(ctx, f.Digest, holders)
	if err != nil {
		return err
	}
	defer from.Close()
	mode := fs.FileMode(readOnly)
	if f.Exec {
		mode = readAndExec
	}
	if err := root.RemoveAll(name + partEnd); err != nil {
		return err
	}
	to, err := root.OpenFile(name+partEnd, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Chmod(mode), to.Close())
	if err == nil {
		err = root.Rename(name+partEnd, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(name+partEnd))
	}
	return nil
}

// writeMarker says that a preload is complete: it names it, and a digest of all of it.
func writeMarker(root *os.Root, at placed, p *jobs.Preload) error {
	h := sha256.New()
	for _, f := range p.Files {
		h.Write(fmt.Appendf(nil, "%x %d %s\n", f.Digest, f.Bytes, f.Name))
	}
	name := path.Join(at.Dir, readyName)
	if err := root.RemoveAll(name + partEnd); err != nil {
		return err
	}
	if err := root.WriteFile(name+partEnd, fmt.Appendf(nil, "%s %d files %x\n", p.Name, len(p.Files), h.Sum(nil)), readOnly); err != nil {
		return err
	}
	return root.Rename(name+partEnd, name)
}

// makeDirs makes a directory and those above it, for all to read.
func makeDirs(root *os.Root, dir string) error {
	if err := root.MkdirAll(dir, shelfDirMode); err != nil {
		return err
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if err := root.Chmod(dir, shelfDirMode); err != nil {
			return err
		}
	}
	return nil
}

// What stays free beside preloads.
const (
	roomPart = 20        // one part in so many of the file system
	roomMost = 256 << 20 // bytes, and never more than this
)

// headRoom refuses to fill a file system, or the machine's memory where that is
// what the file system is made of.
func headRoom(dir string, need uint64) error {
	if need == 0 {
		return nil
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return err
	}
	free, size := disk.Bavail*uint64(disk.Bsize), disk.Blocks*uint64(disk.Bsize)
	stays := min(size/roomPart, roomMost)
	if free < need+stays {
		return fmt.Errorf("%d bytes are to be copied to %s, which has %d left, of which %d stay free", need, dir, free, stays)
	}
	if disk.Type != unix.TMPFS_MAGIC && disk.Type != unix.RAMFS_MAGIC {
		return nil
	}
	if have, err := memInfo("MemAvailable"); err == nil && have < need+memoryFloor {
		return fmt.Errorf("%d bytes are to be copied to the RAM disk %s, and the machine has %d bytes of memory left, of which %d stay free", need, dir, have, memoryFloor)
	}
	return nil
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
