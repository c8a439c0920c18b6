package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/scripts"
)

// A shipment is the files that go to the mesh with a job.
type shipment struct {
	inputs []scripts.Input
	local  map[scripts.Digest]string // where the bytes of a blob are, by path
	paths  map[string]string         // local path of each input
	temps  []string                  // files that were written for it
	parted string                    // the input that is split: tasks have parts of it
	own    bool                      // what is added now is for one task

	added    map[string]string   // by name: the path in a task's working directory of what all may have
	commands map[string][]string // by script: the words that run it
}

// remove deletes the files that were written for the shipment.
func (s *shipment) remove() (err error) {
	for _, name := range s.temps {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func newShipment() *shipment {
	return &shipment{local: map[scripts.Digest]string{}, paths: map[string]string{}, added: map[string]string{}, commands: map[string][]string{}}
}

// add takes a file or everything below a directory, and gives the path that it
// has in the working directory of a task: that which was given where it lies
// below the present directory, else its last element. Each name is looked at once: a
// million tasks may have the same.
func (s *shipment) add(name string) (string, error) {
	if to, known := s.added[name]; known && !s.own {
		return to, nil
	}
	to, err := s.addNow(name)
	if err == nil && !s.own {
		s.added[name] = to
	}
	return to, err
}

func (s *shipment) addNow(name string) (string, error) {
	to := filepath.ToSlash(filepath.Clean(name))
	if scripts.CheckPath(to) != nil {
		to = path.Base(to)
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", inputError("the input", err)
	}
	if !info.IsDir() {
		return to, s.addFile(name, to, info)
	}
	err = filepath.WalkDir(name, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(name, at)
		if err != nil {
			return err
		}
		return s.addFile(at, path.Join(to, filepath.ToSlash(below)), info)
	})
	if err != nil {
		err = inputError("the input", err)
	}
	return to, err
}

func (s *shipment) addFile(local, to string, info fs.FileInfo) error {
	if was, there := s.paths[to]; there {
		if was == local {
			if i := slices.IndexFunc(s.inputs, func(in scripts.Input) bool { return in.Path == to }); !s.own && i >= 0 {
				s.inputs[i].Own = false
			}
			return nil
		}
		return &usageError{what: fmt.Sprintf("two inputs have the path %s: %s and %s", to, was, local), next: "rename one of them, or name both by paths below this directory"}
	}
	if !info.Mode().IsRegular() {
		return &usageError{what: fmt.Sprintf("the input %s is not a file", local), next: "name files and directories"}
	}
	f, err := os.Open(local)
	if err != nil {
		return inputError("the input", err)
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return inputError("the input", err)
	}
	d := scripts.Digest(h.Sum(nil))
	s.paths[to], s.local[d] = local, local
	s.inputs = append(s.inputs, scripts.Input{Path: to, Digest: d, Bytes: n, Exec: info.Mode()&0o111 != 0, Own: s.own})
	return nil
}

// addOwn takes files and directories that one task has for itself, and gives their paths.
func (s *shipment) addOwn(names []string) (paths []string, err error) {
	s.own = true
	defer func() { s.own = false }()
	for _, name := range names {
		to, err := s.add(name)
		if err != nil {
			return nil, err
		}
		for _, in := range s.inputs {
			if in.Path == to || strings.HasPrefix(in.Path, to+"/") {
				paths = append(paths, in.Path)
			}
		}
	}
	return paths, nil
}

// blobMessage is how many bytes of a blob travel in one message.
const blobMessage = 256 << 10

// missingAtOnce is how many digests one question holds.
const missingAtOnce = 1000

// upload gives the node the files that it does not have.
func (e *env) upload(ctx context.Context, s *shipment) error {
	var all []string
	at := map[string]string{}
	for d, local := range s.local {
		all = append(all, d.String())
		at[d.String()] = local
	}
	for len(all) > 0 {
		part := all[:min(len(all), missingAtOnce)]
		all = all[len(part):]
		missing, err := call(ctx, e, meshv1connect.MeshClient.MissingBlobs, &meshv1.MissingBlobsRequest{Digests: part})
		if err != nil {
			return err
		}
		for _, d := range missing.GetDigests() {
			err := e.persist(ctx, func(client meshv1connect.MeshClient) error { return putBlob(ctx, client, d, at[d]) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func putBlob(ctx context.Context, client meshv1connect.MeshClient, digest, local string) error {
	f, err := os.Open(local)
	if err != nil {
		return inputError("the input", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return inputError("the input", err)
	}
	stream := client.PutBlob(ctx)
	m := &meshv1.PutBlobRequest{Digest: digest, Bytes: uint64(info.Size())}
	buf := make([]byte, blobMessage)
	for {
		n, err := io.ReadFull(f, buf)
		m.Data = buf[:n]
		if n > 0 || m.Digest != "" {
			if sent := stream.Send(m); sent != nil && !errors.Is(sent, io.EOF) { // EOF: the answer says why
				return sent
			} else if sent != nil {
				break
			}
		}
		m = &meshv1.PutBlobRequest{}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return inputError("the input", err)
		}
	}
	_, err = stream.CloseAndReceive()
	var remote *connect.Error
	if errors.As(err, &remote) && strings.Contains(remote.Message(), "damaged") {
		return &exitError{code: exitFailure, err: fmt.Errorf("the input %s changed while it was sent", local), next: "submit again when nothing writes to it"}
	}
	return err
}
