package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"seedmesh/kernels"
)

func digestOf(b []byte) Digest { return sha256.Sum256(b) }

func put(t testing.TB, s *Store, b []byte) Digest {
	t.Helper()
	d := digestOf(b)
	if err := s.Put(bytes.NewReader(b), d, int64(len(b))); err != nil {
		t.Fatal(err)
	}
	return d
}

func count(t testing.TB, s *Store) (n int) {
	t.Helper()
	for _, err := range s.List() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestStore(t *testing.T) {
	s := newStore(t)
	var want []Stat
	for i := range 300 {
		b := bytes.Repeat([]byte{byte(i)}, i*100)
		b = fmt.Append(b, i)
		want = append(want, Stat{put(t, s, b), int64(len(b))})
	}
	slices.SortFunc(want, func(a, b Stat) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	var got []Stat
	var sum int64
	for stat, err := range s.List() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, stat)
		sum += stat.Bytes
	}
	if !slices.Equal(got, want) {
		t.Errorf("List gives %d blobs, want %d", len(got), len(want))
	}
	if u, err := s.Usage(); err != nil || u.Blobs != 300 || u.Bytes != sum || u.Free <= 0 {
		t.Errorf("Usage = %+v, %v", u, err)
	}
	d := want[0].Digest
	if have, err := s.Has(d); !have || err != nil {
		t.Errorf("Has = %v, %v", have, err)
	}
	for range 2 { // the second time it is not there any more
		if err := s.Delete(d); err != nil {
			t.Error(err)
		}
	}
	if have, err := s.Has(d); have || err != nil {
		t.Errorf("Has after Delete = %v, %v", have, err)
	}
	if _, _, err := s.Open(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open = %v, want ErrNotFound", err)
	}
	if err := s.Verify(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("Verify = %v, want ErrNotFound", err)
	}
}

func TestParseDigest(t *testing.T) {
	d := digestOf([]byte("x"))
	if got, err := ParseDigest(d.String()); err != nil || got != d {
		t.Errorf("ParseDigest = %v, %v", got, err)
	}
	for _, text := range []string{"", "../../etc/passwd", strings.ToUpper(d.String()), d.String()[1:], d.String() + "00"} {
		if _, err := ParseDigest(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	b := []byte("some bytes")
	d := digestOf(b)
	for name, tt := range map[string]struct {
		from io.Reader
		want Digest
		size int64
		is   func(error) bool
	}{
		"other bytes": {bytes.NewReader([]byte("some bytez")), d, 10, isA[*CorruptError]},
		"too few":     {bytes.NewReader(b), d, 11, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"too many":    {bytes.NewReader(b), d, 9, isA[*CorruptError]},
		"oversize":    {bytes.NewReader(b), d, MaxBlobBytes + 1, isA[*TooLargeError]},
		"negative":    {bytes.NewReader(b), d, -1, isA[*TooLargeError]},
		"bad source":  {failingReader{fs.ErrPermission}, d, 10, func(err error) bool { return errors.Is(err, fs.ErrPermission) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if err := s.Put(tt.from, tt.want, tt.size); !tt.is(err) {
				t.Errorf("Put = %v", err)
			}
			if count(t, s) != 0 || temps(t, s) != 0 {
				t.Error("something remains")
			}
		})
	}
}

func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func TestSpoolRefusesTooMuch(t *testing.T) {
	s := newStore(t)
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	w.size = MaxBlobBytes - 1 // as if they were written
	if _, err := w.Write([]byte("ab")); !isA[*TooLargeError](err) {
		t.Errorf("Write = %v", err)
	}
	if _, _, err := w.Commit(); !isA[*TooLargeError](err) {
		t.Errorf("Commit = %v", err)
	}
	if count(t, s) != 0 || temps(t, s) != 0 {
		t.Error("something remains")
	}
}

func TestOpenRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := put(t, s, []byte("kept"))
	w, err := s.Create() // and never ended: the process died here
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if temps(t, s) != 1 {
		t.Fatal("no temporary file")
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if temps(t, again) != 0 {
		t.Error("the temporary file is still there")
	}
	if err := again.Verify(d); err != nil {
		t.Error(err)
	}
}

func TestVerifyFindsRot(t *testing.T) {
	s := newStore(t)
	b := []byte("these bytes will rot")
	d := put(t, s, b)
	path := filepath.Join(s.root.Name(), fileOf(d))
	for what, rotten := range map[string][]byte{"changed": []byte("these bytes will rat"), "shorter": b[:5], "empty": nil} {
		if err := os.WriteFile(path, rotten, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(d); !isA[*CorruptError](err) {
			t.Errorf("%s: Verify = %v", what, err)
		}
	}
	put(t, s, b) // heals it
	if err := s.Verify(d); err != nil {
		t.Error(err)
	}
}

func TestTwoWritersOfTheSameDigest(t *testing.T) {
	s := newStore(t)
	b := bytes.Repeat([]byte("same "), 50_000)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				if err := s.Put(bytes.NewReader(b), digestOf(b), int64(len(b))); err != nil {
					t.Error(err)
				}
				if err := s.Verify(digestOf(b)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if count(t, s) != 1 || temps(t, s) != 0 {
		t.Error("more than the one blob remains")
	}
}

// A trace notes what the store asks of the operating system.
type trace struct {
	mu    sync.Mutex
	steps []string
	fail  map[string]error // by step
}

func (tr *trace) step(format string, args ...any) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	tr.steps = append(tr.steps, text)
	return tr.fail[strings.Fields(text)[0]]
}

func (tr *trace) ops() fileOps {
	return fileOps{
		write: func(f *os.File, b []byte) (int, error) {
			if err := tr.step("write"); err != nil {
				n, _ := f.Write(b[:len(b)/2]) // a disk that fills up takes a part
				return n, err
			}
			return f.Write(b)
		},
		sync: func(f *os.File) error {
			if err := tr.step("sync"); err != nil {
				return err
			}
			return f.Sync()
		},
		rename: func(root *os.Root, from, to string) error {
			if err := tr.step("rename"); err != nil {
				return err
			}
			return root.Rename(from, to)
		},
		syncDir: func(root *os.Root, dir string) error {
			if err := tr.step("sync-dir %s", dir); err != nil {
				return err
			}
			return syncDir(root, dir)
		},
	}
}

func tracedStore(t *testing.T) (*Store, *trace) {
	t.Helper()
	tr := &trace{fail: make(map[string]error)}
	s, err := open(t.TempDir(), tr.ops())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	tr.steps = nil
	return s, tr
}

func TestOrderOfDurability(t *testing.T) {
	s, tr := tracedStore(t)
	d := put(t, s, []byte("one"))
	dir := "sync-dir " + dirOf(d)
	if want := []string{"write", "sync", "rename", dir, "sync-dir blobs"}; !slices.Equal(tr.steps, want) {
		t.Errorf("first time: %v, want %v", tr.steps, want)
	}
	tr.steps = nil
	put(t, s, []byte("one"))
	if want := []string{"write", "sync", "rename", dir}; !slices.Equal(tr.steps, want) {
		t.Errorf("second time: %v, want %v", tr.steps, want)
	}
}

func TestDiskErrors(t *testing.T) {
	broken := errors.New("input/output error")
	full := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	for _, step := range []string{"write", "sync", "rename", "sync-dir"} {
		for _, cause := range []error{full, broken} {
			t.Run(fmt.Sprint(step, " ", cause), func(t *testing.T) {
				s, tr := tracedStore(t)
				tr.fail[step] = cause
				b := []byte("some bytes")
				errs := map[string]error{"Put": s.Put(bytes.NewReader(b), digestOf(b), int64(len(b)))}
				w := s.NewWriter(0, 0)
				_ = w.Append(someSurvivors(0, 5000)...) // Finish repeats its error
				_, errs["Finish"] = w.Finish(1 << 40)
				for call, err := range errs {
					if !errors.Is(err, cause) || errors.Is(err, ErrDiskFull) != errors.Is(cause, full) {
						t.Errorf("%s = %v", call, err)
					}
				}
				var remedy *DiskFullError
				if errors.Is(cause, full) && (!errors.As(errs["Put"], &remedy) || remedy.Remedy() == "") {
					t.Error("no remedy")
				}
				if n := temps(t, s); n != 0 {
					t.Errorf("%d temporary files are left", n)
				}
				for stat, err := range s.List() { // after a failed sync of the directory it may be there, but whole
					if err != nil || step != "sync-dir" || s.Verify(stat.Digest) != nil {
						t.Errorf("%v remains: %v", stat, err)
					}
				}
				delete(tr.fail, step)
				put(t, s, b)
				if err := s.Verify(digestOf(b)); err != nil {
					t.Errorf("after there was room again: %v", err)
				}
			})
		}
	}
}

func TestClosedStore(t *testing.T) {
	s := newStore(t)
	d := put(t, s, []byte("x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(); err == nil {
		t.Error("Create on a closed store")
	}
	if _, _, err := s.Open(d); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Open on a closed store = %v", err)
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	s := newStore(t)
	d := put(t, s, []byte("x"))
	path := filepath.Join(s.root.Name(), fileOf(d))
	if err := errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Open(d); err == nil {
		t.Error("a link out of the store was followed")
	}
}

func BenchmarkFinish(b *testing.B) {
	s := newStore(b)
	for name, n := range map[string]int{"none": 0, "100": 100, "100k": 100_000} {
		list := someSurvivors(0, n)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				finish(b, s, 0, kernels.Range{First: 0, Last: 1 << 40}, list, 4096)
			}
		})
	}
}
