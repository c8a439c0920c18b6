package scripts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// collect moves the declared outputs out of the working directory, where nobody
// changes them any more, and checks them. On a fault it alters the outcome.
func (r *Runner) collect(ctx context.Context, o *Outcome, a Attempt) {
	if a.Spec.Capture == "json" && o.Captured == nil {
		if o.Captured = lastObject(o.Stdout.End(keepHead + keepTail)); o.Captured == nil {
			o.Class, o.Message = MissingOutput, "its standard output has no JSON object"
			return
		}
	}
	patterns := append(slices.Clone(a.Spec.Outputs), a.Task.Outputs...)
	if len(patterns) == 0 {
		return
	}
	work, err := r.root.OpenRoot(r.path("work"))
	if err != nil {
		o.Class, o.Message = MissingOutput, clip(err.Error())
		return
	}
	defer func() { _ = work.Close() }() // it was only used to look
	c := collector{runner: r, work: work, attempt: a, dir: r.path("out", strconv.FormatUint(a.Number, 10)), seen: map[string]bool{}}
	if err := r.root.Mkdir(c.dir, privateMode); err != nil {
		o.Class, o.Message = InvalidOutput, clip(err.Error())
		return
	}
	for _, p := range patterns {
		if err := c.match(p); err != nil {
			o.Class, o.Message = err.class, clip(err.text)
			return
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, validTime, fmt.Errorf("it took longer than %v", validTime))
	defer cancel()
	for i := range c.files {
		if err := r.check(ctx, validator(a.Spec.Valid, c.files[i].Path), OutputPath(r.place.Name, a.Number, i), c.files[i].Bytes); err != nil {
			o.Class, o.Message = InvalidOutput, clip(fmt.Sprintf("%s is not valid %s: %v", c.files[i].Path, validator(a.Spec.Valid, c.files[i].Path), err))
			return
		}
	}
	o.Outputs = c.files
}

// globSigns make a pattern of a path.
const globSigns = `*?[\`

type outputError struct {
	class Class
	text  string
}

// A collector takes the outputs of one attempt.
type collector struct {
	runner  *Runner
	work    *os.Root
	attempt Attempt
	seen    map[string]bool
	dir     string // where they go
	files   []Output
	bytes   int64
	names   int // bytes of the paths
}

func (c *collector) match(pattern string) *outputError {
	names := []string{pattern}
	glob := strings.ContainsAny(pattern, globSigns)
	if glob {
		var err error
		if names, err = fs.Glob(c.work.FS(), pattern); err != nil {
			return &outputError{InvalidOutput, err.Error()}
		}
	}
	found := false
	for _, name := range names {
		taken, err := c.take(name, glob)
		if err != nil {
			return err
		}
		found = found || taken
	}
	if !found {
		return &outputError{MissingOutput, pattern + " is not there"}
	}
	return nil
}

// take moves one file; of what a glob names, directories and inputs are left.
func (c *collector) take(name string, glob bool) (bool, *outputError) {
	if c.seen[name] {
		return true, nil
	}
	info, err := c.work.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, &outputError{InvalidOutput, err.Error()}
	case info.IsDir() && glob, c.isInput(name, info):
		return false, nil
	case !info.Mode().IsRegular():
		return false, &outputError{InvalidOutput, name + " is not a regular file"}
	case !c.runner.owns(info):
		return false, &outputError{InvalidOutput, name + " belongs to another user"}
	case info.Size() > MaxOutput-c.bytes:
		return false, &outputError{InvalidOutput, fmt.Sprintf("the outputs have more than the %d bytes that they may", int64(MaxOutput))}
	case len(c.files) == MaxFiles || c.names+len(name) > maxNames:
		return false, &outputError{InvalidOutput, fmt.Sprintf("more than %d files are outputs, or their paths have more than %d bytes", MaxFiles, maxNames)}
	}
	to := filepath.Join(c.dir, strconv.Itoa(len(c.files)))
	size, err := c.move(name, to, info)
	if err != nil {
		return false, &outputError{InvalidOutput, err.Error()}
	}
	c.seen[name] = true
	c.bytes += size
	c.names += len(name)
	c.files = append(c.files, Output{Path: name, Bytes: size, Exec: info.Mode()&0o100 != 0})
	return true, nil
}

// move takes a file out of the script's reach, and gives its size. A worker that
// goes on may have it open, so that is left a copy.
func (c *collector) move(name, to string, info fs.FileInfo) (int64, error) {
	if c.attempt.Spec.Worker == 0 {
		return info.Size(), c.runner.root.Rename(c.runner.path("work", name), to)
	}
	from, err := c.work.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	if opened, err := from.Stat(); err != nil || !os.SameFile(opened, info) {
		return 0, errors.Join(fmt.Errorf("%s was changed after its task", name), err)
	}
	file, err := c.runner.root.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(file, io.LimitReader(from, info.Size()))
	return size, errors.Join(err, file.Close())
}

// isInput tells whether a file is an input as it was put there.
func (c *collector) isInput(name string, info fs.FileInfo) bool {
	if c.attempt.Part != nil && name == c.attempt.Part.Split.Name {
		return true
	}
	for _, l := range c.attempt.Links {
		if l.Path == name {
			was, err := c.runner.root.Stat(filepath.Join("inputs", l.Source))
			return err == nil && os.SameFile(was, info)
		}
	}
	return false
}

// owns tells whether a file was made by the place's user, and is not a link to
// somebody else's.
func (r *Runner) owns(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (r.place.UID < 0 || int(st.Uid) == r.place.UID)
}

// maxNames bounds the paths of one attempt's outputs together, in bytes.
const maxNames = 256 << 10
