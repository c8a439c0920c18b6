package scripts

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSlotsAreApart has a script of one slot signal, trace and read that of another.
func TestSlotsAreApart(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run scripts as other users")
	}
	victim := newPlace(t)
	base := victim.place.Base
	a := shell("umask 0; echo secret > file; echo made > $TMPDIR/x; exec sleep 1000", func(a *Attempt) { a.Spec.Env = []string{"TOKEN=secret"} })
	p, err := victim.start(a.argv(), victim.environment(a))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(base, "0", "tmp", "x")
	for _, err := os.Stat(file); err != nil; _, err = os.Stat(file) {
		if unix.Kill(p.pid, 0) != nil {
			t.Fatal("the victim has ended")
		}
		time.Sleep(time.Millisecond)
	}
	other := Place{Base: base, Name: "1", UID: ownUser() + 1, GID: ownUser() + 1}
	script := fmt.Sprintf("kill -9 %[1]d; kill -9 -%[1]d; cat /proc/%[1]d/environ /proc/%[1]d/cwd/file ../../0/work/file; head -c 1 /proc/%[1]d/mem; "+
		"echo > ../../0/work/mine; id -u", p.pid)
	c := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	c.Dir = filepath.Join(base, "inputs")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: other.credential()}
	out, _ := c.CombinedOutput() // it fails as it should
	if strings.Contains(string(out), "secret") || !strings.HasSuffix(string(out), strconv.Itoa(other.UID)+"\n") {
		t.Errorf("a script of another slot got %s", out)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || info.Signo != 0 {
		t.Errorf("the script was ended by one of another slot: %v", err)
	}
	p.signal(unix.SIGKILL)
	p.wait(t.Context(), time.Minute, time.Minute)
	victim.out.finish()
	victim.err.finish()
}

// TestEviction ends, at a runner's start, whatever runs as its user, whoever started it.
func TestEviction(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run scripts as other users")
	}
	uid := ownUser() + 2
	c := exec.CommandContext(t.Context(), "/bin/sh", "-c", "(exec sleep 1000) & echo begun; wait")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, Setsid: true}
	out, err := c.StdoutPipe()
	if err := errors.Join(err, c.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil || !runsAs(uid) {
		t.Fatalf("nothing runs as user %d: %v", uid, err)
	}
	go func() { _ = c.Wait() }() // so that it is no zombie; it is killed
	newPlace(t, func(p *Place) { p.UID, p.GID = uid, uid })
	if runsAs(uid) {
		t.Error("a process of the user outlived the start of its runner")
	}
	if !runsAs(os.Getuid()) {
		t.Error("this process runs as nobody")
	}
}

// TestStuck freezes a process that a script leaves behind, as a driver may: the
// outcome says so, the place runs nothing until the process is gone, and then it does.
func TestStuck(t *testing.T) {
	freezer := filepath.Join("/sys/fs/cgroup/freezer", "seedmesh-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(freezer, 0o755); err != nil {
		t.Skip("no process can be frozen here: ", err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(freezer, name), []byte(text), 0); err != nil {
			t.Error(err)
		}
	}
	r := newPlace(t)
	t.Cleanup(func() { write("freezer.state", "THAWED"); _ = os.Remove(freezer) })
	marker := filepath.Join(r.place.Base, "0", "work", "pid")
	go func() { // until it has frozen the process
		for {
			if b, err := os.ReadFile(marker); err == nil && strings.HasSuffix(string(b), "\n") {
				write("cgroup.procs", strings.TrimSpace(string(b)))
				write("freezer.state", "FROZEN")
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	o, err := r.Run(t.Context(), shell("setsid sleep 1000 & echo $! > pid; while ! grep -q seedmesh-test /proc/$!/cgroup; do sleep 0.01; done; sleep 0.2"))
	if err != nil || o.Class != Stuck {
		t.Fatalf("got %+v, %v, want %s", o, err, Stuck)
	}
	if o, err := r.Run(t.Context(), shell("true")); !errors.Is(err, ErrStuck) {
		t.Errorf("the next task: %+v, %v, want %v", o, err, ErrStuck)
	}
	write("freezer.state", "THAWED")
	if o, err := r.Run(t.Context(), shell("true")); err != nil || o.Class != OK {
		t.Errorf("when it is gone: %+v, %v", o, err)
	}
}

// TestLandlock hides a directory from scripts of the runner's own user, and nothing else.
func TestLandlock(t *testing.T) {
	if LandlockVersion() == 0 {
		t.Skip("this kernel has no Landlock")
	}
	data := filepath.Join(t.TempDir(), "data")
	beside := filepath.Join(filepath.Dir(data), "beside")
	for _, dir := range []string{data, beside} {
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "key"), []byte("secret"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(data, filepath.Join(beside, "link")); err != nil {
		t.Fatal(err)
	}
	r := newPlace(t, func(p *Place) { p.UID, p.GID, p.Hide = -1, -1, data })
	o, err := r.Run(t.Context(), shell(fmt.Sprintf("cat %[1]s/key %[2]s/link/key /proc/%[3]d/root%[1]s/key; echo > %[1]s/new; mv %[1]s/key .; head -c 1 /proc/%[3]d/mem; "+
		"cp %[2]s/key out && cat /etc/passwd > /dev/null && mkdir -p d && mv out d/out && echo more >> d/out && ls / > $TMPDIR/x && python3 -c 'print(6*7)'", data, beside, os.Getpid()),
		outputs("d/out")))
	if err != nil || o.Class != OK || string(o.Stdout.Head) != "42\n" {
		t.Errorf("got %+v, %v: %s %s", o, err, o.Stdout.Head, o.Stderr.Head)
	}
	if _, err := os.Stat(filepath.Join(data, "new")); err == nil {
		t.Error("the script made a file in the hidden directory")
	}
	if b, err := os.ReadFile(filepath.Join(data, "key")); err != nil || string(b) != "secret" {
		t.Errorf("the hidden file is %q, %v", b, err)
	}
}

// TestSweep has a place as a node leaves it that is killed at its tasks: with a process and files.
func TestSweep(t *testing.T) {
	p := Place{Base: t.TempDir(), Name: "3", UID: -1, GID: -1}
	left := filepath.Join(p.Base, "3", "work", "made", "half.bin")
	if err := os.MkdirAll(filepath.Dir(left), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sleep", "300")
	c.Env = []string{p.mark()}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(p); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process ended with %v", err)
	}
	if found, err := os.ReadDir(filepath.Join(p.Base, "3", "work")); err != nil || len(found) > 0 {
		t.Errorf("the place still has %v, %v", found, err)
	}
}
