package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"seedmesh/jobs"
	"seedmesh/node/blob"
	"seedmesh/scripts"
)

// newSite gives the place of scripts of a node that is not in a mesh.
func newSite(t *testing.T) *site {
	t.Helper()
	n := &Node{cfg: DefaultConfig(), dir: &dataDir{path: t.TempDir()}}
	store, err := blob.Open(n.dir.path)
	if err != nil {
		t.Fatal(err)
	}
	n.store = store
	n.cfg.Logger, n.cfg.Scripts.Trusted, n.cfg.Scripts.Dir = slog.New(slog.DiscardHandler), true, filepath.Join(t.TempDir(), "scripts")
	if err := n.openSite(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range n.close {
			if err := c(); err != nil {
				t.Error(err)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return n.site
}

// put stores a blob.
func put(t *testing.T, s *site, text string) jobs.Digest {
	t.Helper()
	d := jobs.Digest(sha256.Sum256([]byte(text)))
	if err := s.n.store.Put(strings.NewReader(text), d, int64(len(text))); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSiteMakesFilesOnce has inputs for many slots at once, executable and not,
// and sweeps those that no job names.
func TestSiteMakesFilesOnce(t *testing.T) {
	s := newSite(t)
	d, other := put(t, s, "input"), put(t, s, "other")
	var slots sync.WaitGroup
	for i := range 16 {
		slots.Go(func() {
			name, err := s.file(t.Context(), &scripts.Spec{}, d, i%2 == 0)
			if err != nil {
				t.Error(err)
				return
			}
			b, err := os.ReadFile(filepath.Join(s.base, inputsDir, name))
			info, statErr := os.Stat(filepath.Join(s.base, inputsDir, name))
			if err = errors.Join(err, statErr); err != nil || !bytes.Equal(b, []byte("input")) || (info.Mode()&0o111 != 0) != (i%2 == 0) || info.Mode()&0o222 != 0 {
				t.Errorf("%s is %q, %v, %v", name, b, info, err)
			}
		})
	}
	slots.Wait()
	if _, err := s.file(t.Context(), &scripts.Spec{}, other, false); err != nil {
		t.Fatal(err)
	}
	files, err := s.files()
	if err != nil || len(files) != 3 {
		t.Fatalf("there are %v, %v", files, err)
	}
	late := put(t, s, "late")
	if _, err := s.file(t.Context(), &scripts.Spec{}, late, false); err != nil { // after the list: not for this sweep
		t.Fatal(err)
	}
	if err := s.sweep(files, map[jobs.Digest]bool{d: true}); err != nil {
		t.Fatal(err)
	}
	left, err := s.files()
	if err != nil || len(left) != 3 || !has(left, d.String()) || !has(left, d.String()+"-x") || !has(left, late.String()) {
		t.Errorf("left are %v, %v", left, err)
	}
}

func has(files []fs.DirEntry, name string) bool {
	for _, f := range files {
		if f.Name() == name {
			return true
		}
	}
	return false
}

// TestSiteVerifies gives no script a file with other bytes than those of its digest.
func TestSiteVerifies(t *testing.T) {
	s := newSite(t)
	d := put(t, s, "input")
	paths, err := filepath.Glob(filepath.Join(s.n.dir.path, "blobs", "*", d.String()))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	if err := os.WriteFile(paths[0], []byte("otter"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fetch = func(context.Context, jobs.Digest, *scripts.Spec) error { return errors.New("nobody has it") }
	if name, err := s.file(t.Context(), &scripts.Spec{}, d, false); err == nil {
		t.Errorf("a damaged blob became the file %s", name)
	}
	if files, err := s.files(); err != nil || len(files) != 0 {
		t.Errorf("left are %v, %v", files, err)
	}
	asked := 0
	s.fetch = func(_ context.Context, of jobs.Digest, _ *scripts.Spec) error { // another node has it
		asked++
		return errors.Join(s.n.store.Delete(of), s.n.store.Put(strings.NewReader("input"), of, 5))
	}
	name, err := s.file(t.Context(), &scripts.Spec{}, d, false)
	if err != nil || asked != 1 {
		t.Fatalf("with a whole copy elsewhere: %v, asked %d times", err, asked)
	}
	if b, err := os.ReadFile(filepath.Join(s.base, inputsDir, name)); err != nil || string(b) != "input" {
		t.Errorf("the file is %q, %v", b, err)
	}
	at := filepath.Join(s.base, inputsDir, name)
	if err := errors.Join(os.Chmod(at, 0o600), os.WriteFile(at, []byte("other bytes"), 0o600)); err != nil { // as a disk, or a trusted script, may
		t.Fatal(err)
	}
	if _, err := s.file(t.Context(), &scripts.Spec{}, d, false); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(at); err != nil || string(b) != "input" {
		t.Errorf("a file that was damaged behind the first use is %q, %v", b, err)
	}
}

// TestEachSlotHasAUser gives every slot of a node a number of its own, and two
// nodes of one machine no number in common.
func TestEachSlotHasAUser(t *testing.T) {
	seen := map[int]string{}
	for _, dir := range []string{"/var/lib/a", "/var/lib/b", "/home/me/.local/state/seedmesh"} {
		u, err := findUsers(ScriptsConfig{User: "nobody-has-this-name"}, dir)
		if err != nil || u.first == 0 {
			t.Fatal(u, err)
		}
		for slot := range uint32(jobs.MaxSlots) {
			var p scripts.Place
			u.apply(&p, slot)
			if by, taken := seen[p.UID]; taken || p.UID < nestedUsers || p.GID != p.UID {
				t.Errorf("slot %d of %s has the user %d and the group %d, as %s has", slot, dir, p.UID, p.GID, by)
			}
			seen[p.UID] = dir
		}
	}
	if u, err := findUsers(ScriptsConfig{FirstUser: 5000}, "/a"); err != nil || u.first != 5000 {
		t.Errorf("configured to begin at 5000: %+v, %v", u, err)
	}
	if _, err := findUsers(ScriptsConfig{User: "root"}, "/a"); err == nil {
		t.Error("scripts would have root's groups")
	}
	var p scripts.Place
	if (scriptUsers{}).apply(&p, 3); p.UID != -1 || p.GID != -1 {
		t.Errorf("without users of its own a slot has %d", p.UID)
	}
}

// TestSiteBeginsAnew trusts no file that was there before the node: a crash may have cut it off.
func TestSiteBeginsAnew(t *testing.T) {
	s := newSite(t)
	d := put(t, s, "input")
	if err := os.WriteFile(filepath.Join(s.base, inputsDir, d.String()), nil, readOnly); err != nil {
		t.Fatal(err)
	}
	s.n.cfg.Scripts.Dir = s.base
	if err := s.n.openSite(); err != nil {
		t.Fatal(err)
	}
	name, err := s.n.site.file(t.Context(), &scripts.Spec{}, d, false)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(s.base, inputsDir, name)); err != nil || string(b) != "input" {
		t.Errorf("a script finds %q, %v", b, err)
	}
}

// TestSiteIsCleanedByNobody locks the directory against what removes old temporary files, and
// has inputs again when their directory was removed all the same.
func TestSiteIsCleanedByNobody(t *testing.T) {
	s := newSite(t)
	f, err := os.Open(s.base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("a cleaner locks the directory: %v", err)
	}
	d := put(t, s, "input")
	for range 2 {
		name, err := s.file(t.Context(), &scripts.Spec{}, d, false)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(s.base, inputsDir, name)); err != nil || string(b) != "input" {
			t.Errorf("a script finds %q, %v", b, err)
		}
		if err := os.RemoveAll(filepath.Join(s.base, inputsDir)); err != nil {
			t.Fatal(err)
		}
		if list, err := s.files(); err != nil || len(list) > 0 {
			t.Errorf("without it there are %d inputs: %v", len(list), err)
		}
	}
}

// TestSiteRefuses takes no directory that somebody else could have put there.
func TestSiteRefuses(t *testing.T) {
	target, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: DefaultConfig(), dir: &dataDir{path: t.TempDir()}}
	n.cfg.Scripts.Trusted, n.cfg.Scripts.Dir = true, link
	if err := n.openSite(); err == nil {
		t.Error("a symbolic link was taken for the directory of scripts")
	}
}

// TestSlotsThatTakeTasks labels the first slots of a node, and none where scripts are refused.
func TestSlotsThatTakeTasks(t *testing.T) {
	s := newSite(t)
	s.n.cfg.Node.MaxScripts, s.memory.limit = 2, 600<<20
	if s.label(1) != "mib:600" || s.label(2) != jobs.SeedsOnly+",mib:600" {
		t.Errorf("the labels are %q and %q", s.label(1), s.label(2))
	}
	if s.n.cfg.Node.MaxScripts = 0; s.label(200) != "mib:600" {
		t.Errorf("without a limit the label is %q", s.label(200))
	}
	s.n.cfg.Node.Labels, s.n.cfg.Node.GPUVendor = []string{"fast", "big"}, "amd"
	if got := s.label(0); got != "label:fast,label:big,vendor:amd,mib:600" {
		t.Errorf("the label is %q", got)
	}
	s.n.cfg.Node.Labels, s.n.cfg.Node.GPUVendor = nil, ""
	s.memory = nil
	if s.root = nil; s.label(0) != jobs.SeedsOnly {
		t.Errorf("where scripts are refused the label is %q", s.label(0))
	}
}

// TestSlotsShowTheirGPU checks what the tasks of each slot find in their environment.
func TestSlotsShowTheirGPU(t *testing.T) {
	s := newSite(t)
	s.n.cfg.Node.ScriptEnv = []string{"ROCM_PATH=/opt/rocm"}
	if got := s.place(0).Env; !slices.Equal(got, []string{"ROCM_PATH=/opt/rocm"}) {
		t.Errorf("without division slot 0 has %q", got)
	}
	s.n.cfg.Node.GPUVendor = "amd"
	s.n.cfg.Node.Slots = []SlotConfig{{GPU: "4"}, {GPU: "GPU-8932"}, {}}
	for i, want := range []string{"4", "GPU-8932", "", ""} {
		if got := s.place(uint32(i)).Env; !slices.Equal(got, []string{"ROCM_PATH=/opt/rocm", "ROCR_VISIBLE_DEVICES=" + want}) {
			t.Errorf("slot %d has %q", i, got)
		}
	}
}
