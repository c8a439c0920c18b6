package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"seedmesh/node/api/meshv1"
)

// joined is an output of which each task has made a part. The parts are written in
// the order of the tasks, as one text of the kind that the name's end says.
type joined struct {
	file   *os.File
	parts  int
	next   uint64 // first task whose part is not written
	header []byte // of the first part of a CSV file
}

// join adds a part that is complete in d.file, and takes that away.
func (d *delivery) join(c *meshv1.OutputChunk) error {
	part, name := d.file, d.name
	d.file = nil
	j := d.joined[c.GetPath()]
	if j == nil {
		file, err := d.root.OpenFile(c.GetPath()+partSuffix, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
		if err != nil {
			return errors.Join(err, part.Close(), d.root.Remove(name+partSuffix))
		}
		j = &joined{file: file}
		d.joined[c.GetPath()] = j
		d.order = append(d.order, c.GetPath())
	}
	var err error
	if c.GetNumber() >= j.next { // else it came before the node went away
		_, err = part.Seek(0, io.SeekStart)
		if err == nil {
			err = j.add(part, path.Ext(c.GetPath()))
		}
		j.next = c.GetNumber() + 1
	}
	return errors.Join(err, part.Close(), d.root.Remove(name+partSuffix))
}

func (j *joined) add(part *os.File, kind string) error {
	defer func() { j.parts++ }()
	switch kind {
	case ".json":
		return j.addJSON(part)
	case ".csv":
		return j.addCSV(part)
	}
	info, err := part.Stat()
	if err != nil {
		return err
	}
	if _, err = io.Copy(j.file, part); err == nil && kind == ".jsonl" {
		err = j.endLine(part, info.Size())
	}
	return err
}

// endLine ends the last line of a part that has no end of its own.
func (j *joined) endLine(part io.ReaderAt, size int64) error {
	var last [1]byte
	if size == 0 {
		return nil
	}
	if _, err := part.ReadAt(last[:], size-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err := j.file.WriteString("\n")
	return err
}

// addCSV leaves the header of every part but the first out.
func (j *joined) addCSV(part *os.File) error {
	r := bufio.NewReader(part)
	header, err := r.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if j.parts == 0 {
		j.header = bytes.TrimRight(header, "\r\n")
	}
	if j.parts == 0 || !bytes.Equal(bytes.TrimRight(header, "\r\n"), j.header) {
		if _, err := j.file.Write(header); err != nil {
			return err
		}
	}
	if _, err := io.Copy(j.file, r); err != nil {
		return err
	}
	size, err := part.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	return j.endLine(part, size)
}

// addJSON makes one array of the elements of all; a part that is no array is one.
func (j *joined) addJSON(part *os.File) error {
	size, err := part.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	from, first, err := visible(part, 0, size, 1)
	if err != nil {
		return err
	}
	to, last, err := visible(part, size-1, -1, -1)
	if err != nil {
		return err
	}
	if first == '[' && last == ']' {
		if from, _, err = visible(part, from+1, to, 1); errors.Is(err, errNothing) {
			return nil
		} else if err != nil {
			return err
		}
		to--
	}
	before := ",\n"
	if j.header == nil {
		before, j.header = "[\n", []byte("[")
	}
	if _, err := j.file.WriteString(before); err != nil {
		return err
	}
	_, err = io.Copy(j.file, io.NewSectionReader(part, from, to-from+1))
	return err
}

var errNothing = errors.New("there is nothing but space")

// visible finds the first byte that is no space, from one place towards another.
func visible(r io.ReaderAt, from, to, step int64) (at int64, c byte, err error) {
	var b [1]byte
	for at = from; at != to; at += step {
		if _, err := r.ReadAt(b[:], at); err != nil {
			return at, 0, err
		}
		if !bytes.ContainsAny(b[:], " \t\r\n") {
			return at, b[0], nil
		}
	}
	return at, 0, errNothing
}

// finish gives the joined outputs their names.
func (d *delivery) finish() error {
	for _, name := range d.order {
		j := d.joined[name]
		end := ""
		switch {
		case path.Ext(name) != ".json":
		case j.header == nil:
			end = "[]\n"
		default:
			end = "\n]\n"
		}
		_, err := j.file.WriteString(end)
		if err = errors.Join(err, j.file.Sync(), j.file.Close()); err == nil {
			err = d.root.Rename(name+partSuffix, name)
		}
		if err != nil {
			return &exitError{code: exitFailure, err: fmt.Errorf("writing the outputs: %w", err)}
		}
		delete(d.joined, name)
	}
	return nil
}

// dropJoined removes what was not finished.
func (d *delivery) dropJoined() (err error) {
	for name, j := range d.joined {
		err = errors.Join(err, j.file.Close(), d.root.Remove(name+partSuffix))
	}
	d.joined = nil
	return err
}
