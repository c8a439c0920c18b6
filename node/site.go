package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"seedmesh/jobs"
	"seedmesh/node/blob"
	"seedmesh/scripts"
)

// site is where this node runs scripts, and as whom.
type site struct {
	n       *Node
	base    string   // of the working directories and the inputs
	root    *os.Root // of base; nil where script jobs are refused
	refused string   // why they are
	users   scriptUsers
	hides   bool   // scripts of the node's own user do not see its data directory, and its socket refuses them
	bounds  string // how the memory of scripts is bounded
	memory  *memory
	fetch   func(context.Context, jobs.Digest, *scripts.Spec) error // has a blob on this disk

	mu      sync.Mutex // guards what follows
	making  map[string]chan struct{}
	checked map[string]checkedFile       // files of inputs that had their bytes
	digests map[jobs.JobID][]jobs.Digest // blobs that jobs name in their specifications
}

const (
	siteParent  = "/var/tmp" // survives a restart, and is no RAM disk
	siteMode    = 0o711      // scripts pass through to their own directories, and see nothing
	inputsDir   = "inputs"
	readOnly    = 0o444
	readAndExec = 0o555
)

// openSite decides whether this node runs scripts.
func (n *Node) openSite() error {
	s := &site{n: n, making: map[string]chan struct{}{}, checked: map[string]checkedFile{}, digests: map[jobs.JobID][]jobs.Digest{}}
	n.site = s
	s.fetch = func(ctx context.Context, d jobs.Digest, spec *scripts.Spec) error {
		return n.fetch(ctx, d, s.sources(spec))
	}
	n.later(n.lists.close)
	switch {
	case n.cfg.Seams.Executor != nil:
		s.refused = "its executors are part of its process"
		return nil
	case os.Getuid() == 0:
		var err error
		if s.users, err = findUsers(n.cfg.Scripts, n.dir.path); err != nil {
			return err
		}
		if s.users.first == 0 {
			s.refused = "this machine, a container perhaps, has too few numbers of users: set [scripts] first_user in cluster.toml to the first of 256 that nobody has"
			return nil
		}
	case n.cfg.Scripts.Trusted:
	case scripts.LandlockVersion() == 0:
		s.refused = "it does not run as root, this kernel has no Landlock, and cluster.toml does not say [scripts] trusted = true"
		return nil
	default:
		s.hides = true
	}
	s.base = n.cfg.Scripts.Dir
	if s.base == "" {
		h := sha256.Sum256([]byte(n.dir.path))
		s.base = filepath.Join(siteParent, "seedmesh-"+hex.EncodeToString(h[:6]))
	}
	if err := ownDir(s.base); err != nil {
		return fmt.Errorf("the directory of the scripts: %w", err)
	}
	if err := ownDir(filepath.Join(s.base, inputsDir)); err != nil {
		return fmt.Errorf("the directory of the scripts' inputs: %w", err)
	}
	root, err := os.OpenRoot(s.base)
	if err != nil {
		return fmt.Errorf("the directory of the scripts: %w", err)
	}
	s.root = root
	n.later(root.Close)
	if err := n.keepFromCleaners(root); err != nil {
		return fmt.Errorf("the directory of the scripts: %w", err)
	}
	files, err := s.files()
	if err == nil { // they are not synced: a crash of the machine may have cut them off
		err = s.sweep(files, nil)
	}
	if err != nil {
		return fmt.Errorf("the directory of the scripts' inputs: %w", err)
	}
	probe := scripts.OpenGroup(filepath.Base(s.base) + "-probe")
	s.bounds = probe.Describe()
	if s.memory, err = newMemory(n.cfg.Scripts.Memory); err != nil {
		return errors.Join(fmt.Errorf("the memory of scripts: %w", err), probe.Close())
	}
	return probe.Close()
}

// keepFromCleaners locks the directory of scripts as long as this node runs. What removes
// old files from directories for temporary ones, such as systemd-tmpfiles, leaves a locked one alone.
func (n *Node) keepFromCleaners(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	n.later(f.Close)
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH)
}

// ownDir makes a directory that only this user can change, and refuses one that
// belongs to somebody else.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, siteMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of this user: set [scripts] dir in cluster.toml", dir)
	}
	return os.Chmod(dir, siteMode)
}

// isolation says in a few words how scripts are kept apart from the node.
func (s *site) isolation() string {
	switch {
	case s.root == nil:
		return "refused: " + s.refused
	case s.users.first > 0:
		return fmt.Sprintf("as user %d and those that follow, one for each slot, sessions of their own, %s", s.users.first, s.bounds)
	}
	if s.hides {
		return fmt.Sprintf("as the node's own user, its data directory hidden by Landlock %d, sessions of their own, %s", scripts.LandlockVersion(), s.bounds)
	}
	return "trusted: as the node's own user, sessions of their own, " + s.bounds
}

// slots is how many of the node's slots take tasks.
func (s *site) slots() int {
	n := len(s.n.cfg.slots())
	if most := s.n.cfg.Node.MaxScripts; most > 0 {
		n = min(n, most)
	}
	return n
}

// label is what a slot announces: whether it takes tasks, and by what jobs select it.
func (s *site) label(slot int) string {
	c := s.n.cfg.Node
	var words []string
	if s.root == nil || c.MaxScripts > 0 && slot >= c.MaxScripts {
		words = append(words, jobs.SeedsOnly)
	}
	for _, l := range c.Labels {
		words = append(words, jobs.LabelPrefix+l)
	}
	if c.GPUVendor != "" {
		words = append(words, jobs.VendorBegin+c.GPUVendor)
	}
	if s.memory != nil {
		words = append(words, fmt.Sprintf("%s%d", jobs.MemoryBegin, s.memory.limit>>20))
	}
	return strings.Join(words, ",")
}

// group names the control group of a slot's scripts, on this machine.
func (s *site) group(slot uint32) string {
	return fmt.Sprintf("%s-%d", filepath.Base(s.base), slot)
}

func (s *site) place(slot uint32) scripts.Place {
	p := scripts.Place{Base: s.base, Name: strconv.FormatUint(uint64(slot), 10), Env: s.n.cfg.Node.scriptEnv(slot), Installed: s.installed()}
	s.users.apply(&p, slot)
	if s.hides {
		p.Hide = s.n.dir.path
	}
	return p
}

// installed is what tasks may name of what this node has by itself.
func (s *site) installed() *scripts.Installed {
	var env []string
	for slot := range s.n.cfg.slots() {
		env = append(env, s.n.cfg.Node.scriptEnv(uint32(slot))...)
	}
	return scripts.InstalledAt(s.n.cfg.Scripts.Directories, env...)
}

// clear ends and removes what scripts of an earlier life of the node have left.
func (s *site) clear(slot uint32) error {
	if s.root == nil {
		return nil
	}
	return scripts.Sweep(s.place(slot))
}

// supply has the inputs of a job and its list of tasks on this node, verified.
func (s *site) supply(ctx context.Context, spec *scripts.Spec) (links []scripts.Link, list string, err error) {
	if d, ok := rowsOf(spec); ok {
		if list, err = s.file(ctx, spec, d, false); err != nil {
			return nil, "", err
		}
		list = filepath.Join(s.base, inputsDir, list)
	}
	for _, in := range spec.Inputs {
		source, err := s.file(ctx, spec, jobs.Digest(in.Digest), in.Exec)
		if err != nil {
			return nil, "", fmt.Errorf("the input %s: %w", in.Path, err)
		}
		links = append(links, scripts.Link{Source: source, Path: in.Path})
	}
	return links, list, nil
}

// file has a blob as a file that scripts can read, and gives its name below the
// directory of inputs. Each is fetched and copied once, whoever asks for it.
func (s *site) file(ctx context.Context, spec *scripts.Spec, d jobs.Digest, exec bool) (string, error) {
	name := d.String()
	if exec {
		name += "-x"
	}
	for {
		s.mu.Lock()
		wait, busy := s.making[name]
		if !busy {
			done := make(chan struct{})
			s.making[name] = done
			s.mu.Unlock()
			err := s.makeFile(ctx, spec, d, name, exec)
			s.mu.Lock()
			delete(s.making, name)
			s.mu.Unlock()
			close(done)
			return name, err
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-wait:
		}
	}
}

// makeFile copies a blob to where scripts read it. A copy of it on this disk that
// is missing or damaged is fetched, from whoever has it.
func (s *site) makeFile(ctx context.Context, spec *scripts.Spec, d jobs.Digest, name string, exec bool) error {
	at := path.Join(inputsDir, name)
	if s.whole(d, at) {
		return nil
	}
	if s.root.Mkdir(inputsDir, siteMode) == nil { // somebody has removed it
		if err := s.root.Chmod(inputsDir, siteMode); err != nil {
			return err
		}
	}
	mode := fs.FileMode(readOnly)
	if exec {
		mode = readAndExec
	}
	err := s.copyBlob(d, at, mode)
	if errors.Is(err, blob.ErrNotFound) || isDamaged(err) {
		if err = s.fetch(ctx, d, spec); err == nil {
			err = s.copyBlob(d, at, mode)
		}
	}
	return err
}

// checkedFile is a file that had its bytes at some moment.
type checkedFile struct {
	info fs.FileInfo
	when time.Time
}

// checkedFor is how long a file of inputs that seems unchanged is not read again: a disk
// loses bytes without a word.
const checkedFor = 10 * time.Minute

// whole tells whether a file of inputs is there with its bytes. One that is damaged is
// removed.
func (s *site) whole(d jobs.Digest, at string) bool {
	info, err := s.root.Lstat(at)
	if err != nil {
		return false
	}
	s.mu.Lock()
	was := s.checked[at]
	s.mu.Unlock()
	if was.info != nil && os.SameFile(was.info, info) && was.info.Size() == info.Size() && was.info.ModTime().Equal(info.ModTime()) && time.Since(was.when) < checkedFor {
		return true
	}
	if s.hasBytes(d, at) {
		s.mu.Lock()
		s.checked[at] = checkedFile{info, time.Now()}
		s.mu.Unlock()
		return true
	}
	s.n.cfg.Logger.Error("an input is damaged on this disk: it is made again", "file", filepath.Join(s.base, at))
	if err := s.root.Remove(at); err != nil {
		s.n.cfg.Logger.Error("a damaged input stays", "err", err)
	}
	return false
}

func (s *site) hasBytes(d jobs.Digest, at string) bool {
	f, err := s.root.Open(at)
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return err == nil && jobs.Digest(h.Sum(nil)) == d
}

// copyBlob makes a file of a blob that has its digest.
func (s *site) copyBlob(d jobs.Digest, at string, mode fs.FileMode) error {
	from, _, err := s.n.store.Open(d)
	if err != nil {
		return err
	}
	defer from.Close()
	temp := at + ".part"
	to, err := s.root.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(to, h), from)
	if got := h.Sum(nil); err == nil && jobs.Digest(got) != d {
		err = &blob.CorruptError{Digest: d, What: fmt.Sprintf("its bytes have the digest %x", got)}
	}
	err = errors.Join(err, to.Chmod(mode), to.Close())
	if err == nil {
		err = s.root.Rename(temp, at)
	}
	if err != nil {
		return errors.Join(err, s.root.Remove(temp))
	}
	return nil
}

// sources lists who may have a job's inputs: first those who had them when it was
// submitted, then every other node that lives.
func (s *site) sources(spec *scripts.Spec) []jobs.NodeID {
	var first, rest []jobs.NodeID
	s.n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			switch {
			case !m.Alive || m.ID == s.n.id:
			case spec.HeldBy(m.ID.String()):
				first = append(first, m.ID)
			default:
				rest = append(rest, m.ID)
			}
		}
	})
	return append(first, rest...)
}

// wanted visits the blobs that jobs of the ledger name in their specifications,
// and forgets those of jobs that are gone.
func (s *site) wanted(st *jobs.State, visit func(jobs.Digest)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.digests {
		if st.Job(id) == nil {
			delete(s.digests, id)
		}
	}
	if s.memory != nil {
		s.memory.keep(func(id jobs.JobID) bool { return st.Job(id) != nil })
	}
	for _, j := range st.Jobs() {
		if d, named := specBlob(j.Spec); named {
			visit(d)
		}
		if j.Kind != jobs.Tasks {
			continue
		}
		list, known := s.digests[j.ID]
		if !known {
			if spec, err := scripts.Decode(j.Spec); err == nil {
				list = blobsOf(spec)
			}
			s.digests[j.ID] = list
		}
		for _, d := range list {
			visit(d)
		}
	}
}

// rowsOf is the blob of a job's tasks, or of the items of its input.
func rowsOf(spec *scripts.Spec) (d jobs.Digest, ok bool) {
	switch {
	case spec.List != nil:
		return jobs.Digest(spec.List.Digest), true
	case spec.Split != nil:
		return jobs.Digest(spec.Split.Digest), true
	}
	return d, false
}

func blobsOf(spec *scripts.Spec) []jobs.Digest {
	list := []jobs.Digest{}
	if d, ok := rowsOf(spec); ok {
		list = append(list, d)
	}
	for _, in := range spec.Inputs {
		list = append(list, jobs.Digest(in.Digest))
	}
	return list
}

// files lists the files of inputs.
func (s *site) files() ([]fs.DirEntry, error) {
	if s.root == nil {
		return nil, nil
	}
	list, err := fs.ReadDir(s.root.FS(), inputsDir)
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed it
		return nil, nil
	}
	return list, err
}

// sweep removes those files of inputs, listed before it was asked what is wanted,
// that no job names.
func (s *site) sweep(files []fs.DirEntry, wanted map[jobs.Digest]bool) error {
	for _, e := range files {
		digits := e.Name()[:min(len(e.Name()), 2*len(jobs.Digest{}))]
		if b, err := hex.DecodeString(digits); err == nil && len(b) == len(jobs.Digest{}) && wanted[jobs.Digest(b)] {
			continue
		}
		s.mu.Lock()
		delete(s.checked, path.Join(inputsDir, e.Name()))
		s.mu.Unlock()
		if err := s.root.Remove(path.Join(inputsDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
