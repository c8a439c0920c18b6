package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// environment of one attempt.
func (r *Runner) environment(a Attempt) []string {
	env := make([]string, 0, len(r.env)+len(a.Spec.Env)+4)
	env = append(env, r.env...)
	env = append(env, "SEEDMESH_TASK="+strconv.FormatUint(a.Number, 10), "SEEDMESH_TASK_ID="+a.Task.ID, "SEEDMESH_ATTEMPT="+strconv.FormatUint(uint64(a.Count), 10))
	if a.Part != nil {
		env = append(env, "SEEDMESH_PART="+a.Part.Split.Name)
	}
	return masked(append(env, a.Spec.Env...), r.place.Env, a.hint())
}

// start runs a command in a session of its own, with more descriptors than the
// standard ones where there are any.
func (r *Runner) start(argv, env []string, more ...uintptr) (*process, error) {
	command, err := r.find(argv[0], env)
	if err != nil {
		return nil, err
	}
	if r.place.Installed != nil {
		if err := r.place.Installed.checkCommand(argv, command); err != nil {
			return nil, err
		}
	}
	out, err := r.out.open()
	if err != nil {
		return nil, err
	}
	errs, err := r.err.open()
	if err != nil {
		r.out.drop(out)
		return nil, err
	}
	attr := &syscall.ProcAttr{
		Dir: filepath.Join(r.place.Base, r.place.Name, "work"), Env: env, Files: append([]uintptr{devNull(), uintptr(out), uintptr(errs)}, more...),
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if r.place.UID >= 0 {
		attr.Sys.Credential = r.place.credential()
	}
	r.place.Group.join(attr.Sys)
	pid := 0
	done := make(chan struct{})
	r.launch <- func() {
		pid, err = syscall.ForkExec(command, argv, attr)
		if errors.Is(err, syscall.ENOEXEC) { // a script that names no interpreter is one for the shell, as everywhere
			pid, err = syscall.ForkExec(shellPath, append([]string{shellPath, command}, argv[1:]...), attr)
		}
		close(done)
	}
	<-done
	if err != nil {
		r.out.drop(out)
		r.err.drop(errs)
		r.last = [3]string{}
		return nil, fmt.Errorf("%s: %w", clip(argv[0]), err)
	}
	r.out.begin(out)
	r.err.begin(errs)
	return &process{pid: pid}, nil
}

const shellPath = "/bin/sh"

var devNull = sync.OnceValue(func() uintptr {
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err) // no system is without it
	}
	return uintptr(fd)
})

// find looks a command up as a shell does: in PATH, or where its path says.
func (r *Runner) find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	search := systemPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	if r.last[0] == name && r.last[1] == search {
		return r.last[2], nil
	}
	for _, dir := range filepath.SplitList(search) {
		if !filepath.IsAbs(dir) {
			continue
		}
		at := filepath.Join(dir, name)
		if r.mayRun(at) {
			r.last = [3]string{name, search, at}
			return at, nil
		}
	}
	if r.place.UID < 0 {
		return "", fmt.Errorf("there is no command %s on this node", clip(name))
	}
	return "", fmt.Errorf("there is no command %s on this node that user %d may run", clip(name), r.place.UID)
}

// mayRun tells whether the place's user can reach a file and execute it: PATH may
// have directories that are closed to that user.
func (r *Runner) mayRun(at string) bool {
	at, err := filepath.EvalSymlinks(at)
	if err != nil {
		return false
	}
	info, err := os.Stat(at)
	return err == nil && info.Mode().IsRegular() && r.place.Closed(at) == ""
}

// Closed is the first path, from the given one without symbolic links up to the root,
// that the place's user may not execute or enter, by its mode; empty when there is none.
func (p Place) Closed(at string) string {
	for {
		var st unix.Stat_t
		if unix.Stat(at, &st) != nil {
			return at
		}
		bit := uint32(0o001)
		switch {
		case p.UID < 0:
			bit = 0o111
		case int(st.Uid) == p.UID:
			bit = 0o100
		case int(st.Gid) == p.GID, slices.Contains(p.Groups, st.Gid):
			bit = 0o010
		}
		if st.Mode&bit == 0 {
			return at
		}
		if at == "/" {
			return ""
		}
		at = filepath.Dir(at)
	}
}

// launcher gives the thread that starts a place's tasks. What a task must not be
// able to undo is done to the thread, and inherited. The kernel sends PDEATHSIG
// when the thread that started a process ends, so it ends with the runner only.
func launcher(p Place) (chan<- func(), error) {
	starts, ready := make(chan func()), make(chan error)
	go func() { // ends when the runner closes starts
		runtime.LockOSThread() // for good: the thread is not fit for anything else
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = p.Group.enter()
		}
		if err == nil && p.Hide != "" {
			err = hideBeside(p.Hide, p.Base)
		}
		ready <- err
		if err != nil {
			return
		}
		for start := range starts {
			start()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("scripts: prepare the launching thread: %w", err)
	}
	return starts, nil
}
