package scripts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// checkTime is the longest run of a command that checks outputs.
const checkTime = 10 * time.Minute

// checkByCommand runs the job's own check where the task ran, with the paths of the
// outputs as further arguments. What it writes follows the task's own words.
func (r *Runner) checkByCommand(ctx context.Context, o *Outcome, a Attempt) {
	paths, err := r.declared(a)
	if err != nil || len(paths) == 0 { // what is missing is said by whoever collects
		return
	}
	spec := *a.Spec
	spec.GPUHint = false
	check := a
	check.Spec, check.Task.Argv = &spec, append(slices.Clone(a.Spec.Check), paths...)
	p, err := r.start(check.argv(), r.environment(check))
	if err != nil {
		o.Class, o.Message = InvalidOutput, clip(fmt.Sprintf("its check cannot be started: %v", err))
		return
	}
	stop := p.watch(func() (Class, string) { return r.excess(p, a.Memory) })
	end := p.wait(ctx, checkTime, r.place.Grace)
	stop()
	r.stuck = r.endDescendants() != nil
	r.out.finish()
	r.err.finish()
	killed := r.place.Group.killed()
	switch {
	case end.doomed != "":
		o.Class, o.Message = end.doomed, "its check: "+end.why
	case killed:
		o.Class, o.Message = OutOfMemory, "its check used more memory than the task may"
	case end.timedOut:
		o.Class, o.Message = InvalidOutput, fmt.Sprintf("its check ran longer than %v", checkTime)
	case !end.status.Exited():
		o.Class, o.Message = InvalidOutput, fmt.Sprintf("its check was ended by signal %d", end.status.Signal())
	case end.status.ExitStatus() != 0:
		o.Class, o.Message = InvalidOutput, clip(fmt.Sprintf("%s says exit status %d", strings.Join(a.Spec.Check, " "), end.status.ExitStatus()))
	}
}

// declared lists the outputs that a task has left, as far as they are files.
func (r *Runner) declared(a Attempt) (paths []string, err error) {
	work, err := r.root.OpenRoot(r.path("work"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = work.Close() }() // it was only used to look
	c := collector{runner: r, work: work, attempt: a}
	for _, pattern := range append(slices.Clone(a.Spec.Outputs), a.Task.Outputs...) {
		names := []string{pattern}
		if strings.ContainsAny(pattern, globSigns) {
			if names, err = fs.Glob(work.FS(), pattern); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			info, err := work.Lstat(name)
			switch {
			case errors.Is(err, os.ErrNotExist):
			case err != nil:
				return nil, err
			case info.Mode().IsRegular() && !c.isInput(name, info) && !slices.Contains(paths, name) && len(paths) < MaxFiles:
				paths = append(paths, name)
			}
		}
	}
	return paths, nil
}
