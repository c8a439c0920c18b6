package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeTo lets write fill the file at path, or the standard output when path is
// empty or -. The file is there whole or not at all: it gets its name when all of
// it is on the disk.
func (e *env) writeTo(path string, write func(io.Writer) error) (err error) {
	if path == "" || path == "-" {
		return write(e.stdout)
	}
	switch info, err := os.Stat(path); {
	case err != nil: // there is none yet, or the attempt says what is wrong
	case info.IsDir():
		return &usageError{what: path + " is a directory", next: "name a file in it: -o " + filepath.Join(path, "found.jsonl")}
	case !info.Mode().IsRegular():
		return writeDevice(path, write)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".seedmesh-*")
	if err != nil {
		return outputError(path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(output{f, path}); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return outputError(path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return outputError(path, err)
	}
	return nil
}

// output is a file that the user named, whatever its name is while it is written.
type output struct {
	file io.Writer
	path string
}

func (o output) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	if err != nil {
		err = outputError(o.path, err)
	}
	return n, err
}

// outputError words a failure to write what the user named.
func outputError(path string, err error) error {
	cause := err
	var on *os.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &on):
		cause = on.Err
	case errors.As(err, &link):
		cause = link.Err
	}
	return &exitError{code: exitFailure, err: fmt.Errorf("the output cannot be written: %s: %w", path, cause)}
}

// writeDevice writes to what cannot be replaced: a pipe or a device.
func writeDevice(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return outputError(path, err)
	}
	return errors.Join(write(output{f, path}), f.Close())
}
