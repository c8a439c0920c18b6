package node

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"seedmesh/jobs"
	"seedmesh/transport"
)

// Files of the data directory. All are written to a temporary name, synced and
// renamed.
const (
	identityFile    = "identity.json"
	nodeCertFile    = "node.pem"
	nodeKeyFile     = "node.key"
	caCertFile      = "ca.pem"
	caKeyFile       = "ca.key" // voters only
	incarnationFile = "incarnation"
	addressFile     = "addresses.json"
	genesisFile     = "genesis.json" // of the first node, until its log has begun
	lockFile        = "lock"
	socketFile      = "api.sock"
)

// identity is what Init or Join leaves for Open.
type identity struct {
	Cluster string
	Node    string // 32 hexadecimal digits
	Name    string
	Role    string
	Listen  string
	Gossip  []byte // key of the gossip, 32 bytes
	Secret  []byte // of this node alone, 32 bytes
}

// dataDir is an open data directory. Its lock is held until close.
type dataDir struct {
	path string
	lock *os.File
	identity
}

// LockedError says that another process uses a data directory.
type LockedError struct{ Dir string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("the data directory %s is in use by another seedmesh process", e.Dir)
}

// Remedy says what to do about it.
func (e *LockedError) Remedy() string {
	return "stop that process, or give this node a directory of its own with --data"
}

// openDataDir locks a directory that Init or Join has filled.
func openDataDir(path string) (*dataDir, error) {
	d := &dataDir{path: path}
	if err := d.readJSON(identityFile, &d.identity); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &NotInitialisedError{path}
		}
		return nil, &DirError{path, err}
	}
	if d.Role == jobs.Client.String() {
		return nil, &ClientError{path}
	}
	return d, d.acquire()
}

// DirError says that a data directory cannot be made, read or written.
type DirError struct {
	Dir string
	Err error
}

func (e *DirError) Error() string {
	var path *fs.PathError
	if errors.As(e.Err, &path) {
		return fmt.Sprintf("the data directory %s cannot be used: %s: %v", e.Dir, path.Path, path.Err)
	}
	return fmt.Sprintf("the data directory %s cannot be used: %v", e.Dir, e.Err)
}

// Unwrap gives the cause.
func (e *DirError) Unwrap() error { return e.Err }

// Remedy says what to do about it.
func (e *DirError) Remedy() string {
	switch {
	case errors.Is(e.Err, unix.ENOSPC), errors.Is(e.Err, unix.EDQUOT):
		return "make room on its disk, then try again"
	case errors.Is(e.Err, fs.ErrPermission):
		return "run it as the owner of the directory, or give it to this user with chown"
	case errors.Is(e.Err, unix.EROFS), errors.Is(e.Err, unix.EIO):
		return "make it writable, or mend its disk, then try again"
	}
	return "mend it, or name another directory with --data"
}

// NotInitialisedError says that a directory belongs to no cluster yet.
type NotInitialisedError struct{ Dir string }

func (e *NotInitialisedError) Error() string {
	return fmt.Sprintf("the data directory %s belongs to no cluster yet", e.Dir)
}

// Remedy says what to do about it.
func (e *NotInitialisedError) Remedy() string {
	return "make a cluster with: seedmesh init --listen HOST:PORT, or join one with: seedmesh join TOKEN@HOST:PORT"
}

// TakenError says that a directory belongs to a cluster already.
type TakenError struct{ Dir, Cluster, Name string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("the data directory %s belongs to node %s of the cluster %s already", e.Dir, e.Name, e.Cluster)
}

// Remedy says what to do about it.
func (e *TakenError) Remedy() string {
	return "start that node with: seedmesh up --data " + e.Dir + ", or use another directory with --data"
}

// newDataDir makes and locks a directory for a new node.
func newDataDir(path string) (*dataDir, error) {
	if err := errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, 0o700)); err != nil {
		return nil, &DirError{path, err}
	}
	d := &dataDir{path: path}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	var have identity
	err := d.readJSON(identityFile, &have)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = &TakenError{path, have.Cluster, have.Name}
	}
	return nil, errors.Join(err, d.close())
}

func (d *dataDir) acquire() error {
	f, err := os.OpenFile(filepath.Join(d.path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return &DirError{d.path, err}
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return &LockedError{d.path}
	}
	d.lock = f
	return nil
}

func (d *dataDir) close() error { return d.lock.Close() }

// write replaces a file: temporary name, sync, rename, sync of the directory.
func (d *dataDir) write(name string, b []byte) error {
	f, err := os.CreateTemp(d.path, ".tmp-"+name+"-*")
	if err != nil {
		return &DirError{d.path, err}
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.path, name))
	}
	if err != nil {
		return errors.Join(&DirError{d.path, err}, os.Remove(f.Name()))
	}
	return syncDir(d.path)
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *dataDir) read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(d.path, name))
}

// has tells whether a file is there.
func (d *dataDir) has(name string) (bool, error) {
	_, err := os.Stat(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d *dataDir) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return d.write(name, append(b, '\n'))
}

func (d *dataDir) readJSON(name string, v any) error {
	b, err := d.read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return d.damaged(name, err)
	}
	return nil
}

// A DamagedError says that a file of the data directory makes no sense or is gone.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return e.Path + " is gone"
	}
	return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// Remedy says what to do about it.
func (e *DamagedError) Remedy() string {
	switch filepath.Base(e.Path) {
	case addressFile:
		return "remove that file: the node finds the others from its ledger"
	case caKeyFile:
		return "put a copy of that file back: every voter of the mesh has the same"
	}
	return "put a copy of that file back, or take this node out with seedmesh node rm NAME on another node, and join again with another data directory"
}

func (d *dataDir) damaged(name string, err error) error {
	return &DamagedError{filepath.Join(d.path, name), err}
}

// nextIncarnation counts up the node's starts; the number is on disk before it is used.
func (d *dataDir) nextIncarnation() (uint64, error) {
	b, err := d.read(incarnationFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	var last uint64
	if err == nil {
		if last, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err != nil {
			return 0, d.damaged(incarnationFile, err)
		}
	}
	return last + 1, d.write(incarnationFile, fmt.Appendf(nil, "%d\n", last+1))
}

// credentials loads the certificate, key and CA.
func (d *dataDir) credentials() (*transport.Identity, error) {
	var parts [3][]byte
	for i, name := range []string{nodeCertFile, nodeKeyFile, caCertFile} {
		b, err := d.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, d.damaged(name, err)
		}
		if err != nil {
			return nil, &DirError{d.path, err}
		}
		parts[i] = b
	}
	id, err := transport.NewIdentity(parts[0], parts[1], parts[2])
	if err != nil {
		return nil, d.damaged(nodeCertFile+", or the "+nodeKeyFile+" or "+caCertFile+" beside it,", err)
	}
	if id.ID() != d.Node {
		return nil, fmt.Errorf("the certificate in %s is that of node %s, not of %s", d.path, id.ID(), d.Node)
	}
	return id, nil
}

// authority loads the CA where this node has its key.
func (d *dataDir) authority() (*transport.Authority, error) {
	key, err := d.read(caKeyFile)
	if err != nil {
		return nil, err
	}
	cert, err := d.read(caCertFile)
	if err != nil {
		return nil, err
	}
	ca, err := transport.LoadAuthority(cert, key)
	if err != nil {
		return nil, d.damaged(caKeyFile, err)
	}
	return ca, nil
}

// address is an entry of the address book.
type address struct{ Node, Name, Addr string }

func (d *dataDir) addresses() ([]address, error) {
	var book []address
	err := d.readJSON(addressFile, &book)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return book, err
}

// ClientAddresses lists where a client whose identity a directory holds can reach
// the mesh; none for a node's directory.
func ClientAddresses(dir string) []string {
	d := &dataDir{path: dir}
	if err := d.readJSON(identityFile, &d.identity); err != nil || d.Role != jobs.Client.String() {
		return nil
	}
	book, err := d.addresses()
	if err != nil {
		return nil
	}
	var all []string
	for _, a := range book {
		all = append(all, a.Addr)
	}
	return all
}

// ClientError says that a directory holds a client's identity, which runs no node.
type ClientError struct{ Dir string }

func (e *ClientError) Error() string {
	return fmt.Sprintf("the data directory %s belongs to a client, and a client runs no node", e.Dir)
}

// Remedy says what to do about it.
func (e *ClientError) Remedy() string {
	return "ask the mesh with seedmesh nodes, or join with a worker's or voter's token and another --data"
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

func newNodeID() (id jobs.NodeID) {
	copy(id[:], randomBytes(len(id)))
	return id
}
