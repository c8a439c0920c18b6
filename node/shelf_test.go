package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"seedmesh/jobs"
)

// testShelf is a shelf whose blobs are in memory. Its source checks that no
// marker lies beside a copy that is being made.
type testShelf struct {
	*shelf
	*testing.T
	dir     string
	blobs   map[jobs.Digest][]byte
	read    func(jobs.Digest) io.Reader // instead of a blob's bytes, where it gives any
	copies  int
	losings int
	saved   map[string]placed
	barred  string // a directory that scripts may not enter, or empty
}

func newTestShelf(t *testing.T, dir string) *testShelf {
	s := &testShelf{T: t, dir: dir, blobs: map[jobs.Digest][]byte{}}
	s.restart()
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// restart is a new process on what the old one left.
func (s *testShelf) restart() {
	if s.shelf != nil {
		if err := s.close(); err != nil {
			s.Fatal(err)
		}
	}
	s.shelf = &shelf{
		closed: func(string) string { return s.barred },
		dirs:   []string{s.dir}, roots: map[string]*lockedRoot{}, kept: map[string]*keeping{}, placed: map[string]placed{},
		save: func(all map[string]placed) error { s.saved = all; return nil },
		source: func(_ context.Context, d jobs.Digest, _ []jobs.NodeID) (io.ReadCloser, error) {
			s.copies++
			if s.ready() {
				s.Error("a marker lies beside a copy that is being made")
			}
			if s.read != nil {
				if r := s.read(d); r != nil {
					return io.NopCloser(r), nil
				}
			}
			return io.NopCloser(bytes.NewReader(s.blobs[d])), nil
		},
	}
	for name, at := range s.saved {
		s.placed[name] = at
	}
}

func (s *testShelf) preload(files map[string]string) *jobs.Preload {
	p := &jobs.Preload{Name: "it", Path: filepath.Join(s.dir, "a", "b"), To: "all", Round: 1}
	for _, name := range []string{"one", "two", "three"} {
		if text, ok := files[name]; ok {
			d := jobs.Digest(sha256.Sum256([]byte(text)))
			s.blobs[d] = []byte(text)
			p.Files = append(p.Files, jobs.PreloadFile{Name: name, Digest: d, Bytes: uint64(len(text)), Exec: name == "two"})
		}
	}
	return p
}

func (s *testShelf) at(name string) string { return filepath.Join(s.dir, "a", "b", name) }

func (s *testShelf) ready() bool {
	_, err := os.Stat(s.at(readyName))
	return err == nil
}

func (s *testShelf) mustKeep(p *jobs.Preload, copies int, note string) {
	s.Helper()
	s.copies, s.losings = 0, 0
	text, err := s.keep(s.Context(), p, func() { s.losings++ })
	if err != nil || text != note || s.copies != copies || !s.ready() {
		s.Errorf("keep = %q, %v after %d copies, marker %t; want %q after %d", text, err, s.copies, s.ready(), note, copies)
	}
	for _, f := range p.Files {
		b, err := os.ReadFile(s.at(f.Name))
		if err != nil || !bytes.Equal(b, s.blobs[f.Digest]) {
			s.Errorf("%s has %d bytes, %v", f.Name, len(b), err)
		}
	}
}

func (s *testShelf) mustFail(p *jobs.Preload, why string) {
	s.Helper()
	s.losings = 0
	if _, err := s.keep(s.Context(), p, func() { s.losings++ }); err == nil || !strings.Contains(err.Error(), why) {
		s.Errorf("keep gives %v, want %q", err, why)
	}
	if s.ready() || s.losings != 1 {
		s.Errorf("after a failure there is a marker: %t; it was told %d times", s.ready(), s.losings)
	}
	if parts, _ := filepath.Glob(s.at("*" + partEnd)); len(parts) > 0 {
		s.Errorf("left lying: %v", parts)
	}
}

func (s *testShelf) write(name, text string) {
	s.Helper()
	if err := errors.Join(os.RemoveAll(s.at(name)), os.WriteFile(s.at(name), []byte(text), 0o600)); err != nil {
		s.Fatal(err)
	}
}

var threeFiles = map[string]string{"one": "first", "two": "second", "three": ""}

// TestShelf copies once, notices every change, and mends it.
func TestShelf(t *testing.T) {
	s := newTestShelf(t, filepath.Join(t.TempDir(), "shelf"))
	p := s.preload(threeFiles)
	s.mustKeep(p, 3, "")
	if info, err := os.Stat(s.at("two")); err != nil || info.Mode() != 0o555 {
		t.Errorf("two is %v, %v", info.Mode(), err)
	}
	s.mustKeep(p, 0, "")
	if s.losings != 0 {
		t.Error("what nothing happened to was held for lost")
	}
	s.write("one", "FIRST")
	s.mustKeep(p, 1, "put back: one")
	old, err := os.Stat(s.at("one"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.at("one"), os.O_WRONLY, 0) // the same length, and its time put back
	if err == nil {
		_, err = f.WriteString("FIRST")
		err = errors.Join(err, f.Close(), os.Chtimes(s.at("one"), old.ModTime(), old.ModTime()))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.mustKeep(p, 1, "put back: one")
	if err := os.Remove(s.at("two")); err != nil {
		t.Fatal(err)
	}
	s.mustKeep(p, 1, "put back: two")
	if err := os.Remove(s.at(readyName)); err != nil {
		t.Fatal(err)
	}
	s.mustKeep(p, 0, "")
	if err := errors.Join(os.Remove(s.at("one")), os.Symlink("/etc/passwd", s.at("one"))); err != nil {
		t.Fatal(err)
	}
	s.mustKeep(p, 1, "put back: one")
	for _, wiped := range []string{s.at(""), filepath.Join(s.dir, "a"), s.dir} {
		if err := os.RemoveAll(wiped); err != nil {
			t.Fatal(err)
		}
		s.mustKeep(p, 3, "put back: one, two, three")
	}
	p.Round++
	s.mustKeep(p, 0, "")
	if s.losings != 1 {
		t.Error("another round verified nothing")
	}
}

// TestShelfAfterAKill finds what a process left that died half-way, or whose copy
// was changed while there was none.
func TestShelfAfterAKill(t *testing.T) {
	s := newTestShelf(t, filepath.Join(t.TempDir(), "shelf"))
	p := s.preload(threeFiles)
	died := errors.New("killed")
	s.read = func(d jobs.Digest) io.Reader {
		if d == p.Files[1].Digest {
			panic(died) // nothing of the process runs after it
		}
		return nil
	}
	func() {
		defer func() {
			if recover() != any(died) {
				t.Fatal("it was not killed half-way")
			}
		}()
		_, _ = s.keep(t.Context(), p, func() {})
	}()
	if _, err := os.Stat(s.at("one")); err != nil || s.ready() {
		t.Fatalf("half-way: %v, marker %t", err, s.ready())
	}
	s.read = nil
	s.write("three"+partEnd, "half a fi")
	s.restart()
	s.mustKeep(p, 2, "put back: two, three")
	s.restart()
	s.mustKeep(p, 0, "")
	if s.losings != 1 {
		t.Error("a new process trusts what an old one left")
	}
	s.write("one", "changed, and a marker beside it")
	s.restart()
	s.mustKeep(p, 1, "put back: one")
}

// TestShelfThatScriptsCannotReach has no copy count that scripts could not read, and says
// which directory is closed to them.
func TestShelfThatScriptsCannotReach(t *testing.T) {
	s := newTestShelf(t, filepath.Join(t.TempDir(), "shelf"))
	p := s.preload(threeFiles)
	s.barred = "/closed"
	s.mustFail(p, "chmod o+x /closed")
	s.barred = ""
	s.mustKeep(p, 3, "")
	s.barred = "/closed" // afterwards
	s.mustFail(p, "chmod o+x /closed")
	s.barred = ""
	s.mustKeep(p, 0, "")
}

// TestShelfFailures never leave a marker.
func TestShelfFailures(t *testing.T) {
	s := newTestShelf(t, filepath.Join(t.TempDir(), "shelf"))
	p := s.preload(threeFiles)
	s.mustKeep(p, 3, "")
	for name, tt := range map[string]struct {
		r   io.Reader
		why string
	}{
		"damaged on the way": {strings.NewReader("FIRST"), "other bytes"},
		"too short":          {strings.NewReader("fir"), "other bytes"},
		"too long":           {strings.NewReader("first and more"), "other bytes"},
		"breaks off":         {io.MultiReader(strings.NewReader("fi"), brokenReader{}), "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			s.write("one", "changed")
			s.read = func(jobs.Digest) io.Reader { return tt.r }
			s.mustFail(p, tt.why)
			s.read = nil
			s.mustKeep(p, 1, "put back: one")
		})
	}
	outside := s.preload(threeFiles)
	outside.Path = "/etc/cron.d"
	if _, err := s.keep(t.Context(), outside, func() {}); err == nil || !strings.Contains(err.Error(), "preload_dirs") {
		t.Errorf("outside of what is allowed: %v", err)
	}
	if err := errors.Join(os.RemoveAll(s.at("")), os.Symlink(t.TempDir(), s.at(""))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.keep(t.Context(), p, func() {}); err == nil {
		t.Error("it wrote through a symbolic link out of its directory")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

// TestShelfFull fills a RAM disk: before the copies by its head-room, and in the
// middle of one, which the check did not see coming.
func TestShelfFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no RAM disk can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := newTestShelf(t, filepath.Join(dir, "shelf"))
	p := s.preload(map[string]string{"one": "small", "two": strings.Repeat("x", 2<<20)})
	fill := func() {
		if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	s.mustFail(p, "stay free")
	if s.copies != 0 {
		t.Errorf("%d copies were begun without room", s.copies)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	s.read = func(d jobs.Digest) io.Reader {
		if d == p.Files[1].Digest {
			fill()
		}
		return nil
	}
	s.mustFail(p, "no space left")
	s.read = nil
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	s.mustKeep(p, 1, "put back: two")
}

// TestShelfClears removes what nobody wants, and nothing else.
func TestShelfClears(t *testing.T) {
	s := newTestShelf(t, filepath.Join(t.TempDir(), "shelf"))
	p := s.preload(threeFiles)
	s.mustKeep(p, 3, "")
	s.write("mine", "a user's own")
	s.restart() // removed while the node was away
	if err := s.clearBut(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(s.at(""))
	if err != nil || len(left) != 1 || left[0].Name() != "mine" || len(s.saved) != 0 {
		t.Errorf("left are %v, %v; noted %v", left, err, s.saved)
	}
	if err := os.Remove(s.at("mine")); err != nil {
		t.Fatal(err)
	}
	s.mustKeep(p, 3, "")
	moved := s.preload(map[string]string{"one": "first"})
	moved.Path = "elsewhere"
	if _, err := s.keep(t.Context(), moved, func() {}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "a")); err == nil {
		t.Error("the directory that it was in is still there")
	}
	if _, err := os.Stat(filepath.Join(s.dir, "elsewhere", readyName)); err != nil {
		t.Error(err)
	}
}

// TestShelfIsOneNodes keeps a second node of the machine out.
func TestShelfIsOneNodes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shelf")
	first, second := newTestShelf(t, dir), newTestShelf(t, dir)
	p := first.preload(threeFiles)
	first.mustKeep(p, 3, "")
	if _, err := second.keep(t.Context(), p, func() {}); err == nil || !strings.Contains(err.Error(), "another node") {
		t.Errorf("the second node: %v", err)
	}
	if !first.ready() {
		t.Error("the second node took the marker of the first away")
	}
}
