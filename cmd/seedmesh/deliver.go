package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/scripts"
)

// A delivery writes the outputs of a script job to files. Each is there whole or
// not at all.
type delivery struct {
	dir      string // what is below it is written through an os.Root
	preserve bool   // a task's own outputs go to the paths that they were asked for under
	below    bool   // whoever asked for the paths may be somebody else: absolute ones begin at dir
	own      bool   // only they are written
	flat     bool   // they go straight into dir, under the last elements of their paths
	next     uint64 // first task that is not complete
	files    int
	seen     map[string]uint64 // which task has a path

	joined map[string]*joined // by path
	order  []string           // of the paths of joined

	root *os.Root
	file *os.File // that is being written
	name string   // it will have
	hash hash.Hash
}

// deliver writes a job's outputs. When the node goes away it goes on with the
// task it was at.
func (e *env) deliver(ctx context.Context, job string, partial bool, d *delivery) (err error) {
	if d.dir == "" {
		d.dir = "."
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return writeError("the outputs", err)
	}
	if d.root, err = os.OpenRoot(d.dir); err != nil {
		return writeError("the outputs", err)
	}
	defer func() { err = errors.Join(err, d.drop(), d.dropJoined(), d.root.Close()) }()
	d.seen, d.joined = map[string]uint64{}, map[string]*joined{}
	for {
		before := d.files
		err := e.persist(ctx, func(client meshv1connect.MeshClient) error {
			return d.receive(ctx, client, &meshv1.OutputsRequest{Job: job, Partial: partial, First: d.next})
		})
		if err == nil {
			return d.finish()
		}
		if d.files == before || !unavailable(err) {
			return err
		}
	}
}

func (d *delivery) receive(ctx context.Context, client meshv1connect.MeshClient, q *meshv1.OutputsRequest) error {
	stream, err := client.Outputs(ctx, connect.NewRequest(q))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }() // nothing is left to read
	if err := d.drop(); err != nil {
		return err
	}
	for stream.Receive() {
		if err := d.chunk(stream.Msg()); err != nil {
			return &exitError{code: exitFailure, err: fmt.Errorf("writing the outputs: %w", err)}
		}
	}
	return stream.Err()
}

// chunk writes a piece of a file, which gets its name with the last.
func (d *delivery) chunk(c *meshv1.OutputChunk) error {
	if d.own && !c.GetOwn() {
		return nil
	}
	if d.file == nil {
		if err := d.begin(c); err != nil {
			return err
		}
	}
	d.hash.Write(c.GetData())
	if _, err := d.file.Write(c.GetData()); err != nil {
		return err
	}
	if !c.GetEnd() {
		return nil
	}
	if got := hex.EncodeToString(d.hash.Sum(nil)); got != c.GetDigest() {
		return fmt.Errorf("the output %s of task %s arrived damaged", c.GetPath(), c.GetTask())
	}
	if c.GetJoined() {
		d.next = c.GetNumber()
		d.files++
		return d.join(c)
	}
	mode := os.FileMode(0o644)
	if c.GetExecutable() {
		mode = 0o755
	}
	f, name := d.file, d.name
	d.file = nil
	err := errors.Join(f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = d.rename(name)
	}
	d.next = c.GetNumber()
	d.files++
	return err
}

// begin opens a temporary file beside where the output will be.
func (d *delivery) begin(c *meshv1.OutputChunk) (err error) {
	name := path.Join(c.GetTask(), c.GetPath())
	absolute := filepath.IsAbs(c.GetAs())
	outside := d.preserve && absolute && !d.below
	switch {
	case c.GetJoined():
		name = c.GetPath() + "." + c.GetTask()
	case outside:
		name = filepath.Clean(c.GetAs())
	case d.preserve && absolute:
		name = strings.TrimPrefix(filepath.Clean(c.GetAs()), "/")
	case absolute, c.GetOwn() && d.flat:
		name = path.Base(c.GetPath())
	case c.GetOwn():
		name = c.GetPath()
	}
	if err := scripts.CheckPath(name); err != nil && !outside { // what is outside was asked for by whoever runs this
		return err
	}
	if by, taken := d.seen[name]; taken && by != c.GetNumber() {
		return fmt.Errorf("two tasks have the output %s", name)
	}
	d.seen[name] = c.GetNumber()
	d.name, d.hash = name, sha256.New()
	if outside {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		d.file, err = os.OpenFile(name+partSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		return err
	}
	if err := d.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	d.file, err = d.root.OpenFile(name+partSuffix, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	return err
}

// partSuffix ends the name of a file that is not complete.
const partSuffix = ".seedmesh-part"

func (d *delivery) rename(name string) error {
	if filepath.IsAbs(name) {
		return os.Rename(name+partSuffix, name)
	}
	return d.root.Rename(name+partSuffix, name)
}

// drop removes what is not complete.
func (d *delivery) drop() error {
	if d.file == nil {
		return nil
	}
	f := d.file
	d.file = nil
	if filepath.IsAbs(d.name) {
		return errors.Join(f.Close(), os.Remove(d.name+partSuffix))
	}
	return errors.Join(f.Close(), d.root.Remove(d.name+partSuffix))
}
