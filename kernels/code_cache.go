package kernels

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxCodes is how many programs a code cache keeps.
const maxCodes = 512

// A codeCache is a directory of compiled programs, named by the digest of their
// source and of the device and driver that they are for. The empty one keeps
// nothing.
type codeCache string

// load readies a program, and compiles it when it is not there or does not load.
func (c codeCache) load(d driver, source string) (program, error) {
	path := c.path(d.Identity(), "program", source)
	if path != "" {
		if code, ok := c.read(path); ok {
			if p, err := d.Load(code, maxLaunchItems, maxLaunchFound); err == nil {
				return p, nil
			}
		}
	}
	code, err := d.Compile(source)
	if err != nil {
		return nil, err
	}
	if err := c.write(path, code); err != nil {
		return nil, err
	}
	return d.Load(code, maxLaunchItems, maxLaunchFound)
}

// path is where something for a device, as its driver names itself and it, is kept.
func (c codeCache) path(identity, kind, source string) string {
	if c == "" {
		return ""
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", kind, identity, source))
	return filepath.Join(string(c), hex.EncodeToString(digest[:])+"."+kind)
}

// read gives what was written, if it is whole: a driver may crash over less.
func (c codeCache) read(path string) (data []byte, ok bool) {
	file, err := os.ReadFile(path)
	if err != nil || len(file) < sha256.Size {
		return nil, false
	}
	data = file[sha256.Size:]
	return data, sha256.Sum256(data) == [sha256.Size]byte(file)
}

// write puts a file in place behind its digest, and drops the oldest ones of too many.
func (c codeCache) write(path string, data []byte) error {
	if path == "" {
		return nil
	}
	digest := sha256.Sum256(data)
	err := os.MkdirAll(string(c), 0o700)
	if err == nil {
		err = replace(path, append(digest[:], data...))
	}
	if err != nil {
		return fmt.Errorf("keep a compiled program: %w", err)
	}
	return c.prune()
}

// replace puts a file in place, which several processes may do at once.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func (c codeCache) prune() error {
	entries, err := os.ReadDir(string(c))
	if err != nil || len(entries) <= maxCodes {
		return err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files[:max(0, len(files)-maxCodes)] {
		if err := os.Remove(filepath.Join(string(c), f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
