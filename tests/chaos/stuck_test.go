package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"seedmesh/tests/faults"
)

// stuckWait is how long a slot may take to work again when what stuck in it is gone.
const stuckWait = 30 * time.Second

// TestStuckSlot freezes a process that a task has left behind, so that no signal ends it,
// as a driver may: the slot's claim is done by the other slot, the slot starts nothing as
// long as the process is there, and works again when it is gone.
func TestStuckSlot(t *testing.T) {
	freezer := fmt.Sprintf("/sys/fs/cgroup/freezer/seedmesh-chaos-%d", os.Getpid())
	if err := os.Mkdir(freezer, 0o755); err != nil {
		t.Skip("no process can be frozen here: ", err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(freezer, name), []byte(text), 0); err != nil {
			t.Error(err)
		}
	}
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			write("freezer.state", "THAWED")
		}
	}
	m := newMesh(t, 1, strings.Repeat(oneThread, 2))
	t.Cleanup(func() { _ = os.Remove(freezer) })
	t.Cleanup(thaw) // before the mesh is stopped
	data, marks := m.nodes[0].dir, m.openDir("marks")
	id := strings.TrimSpace(m.run("exec", "--data", data, "--array", "1-20", "--chunk-time", "5s", "--attempts", "3", "--", "sh", "-c",
		"[ $SEEDMESH_TASK = 3 ] && mkdir "+marks+"/once 2> /dev/null || exit 0; setsid sleep 1000 & echo $! > "+marks+"/pid; while ! grep -q seedmesh-chaos /proc/$!/cgroup; do sleep 0.01; done; sleep 0.2"))
	pid := ""
	m.await(jobWait, "process to freeze", func() bool {
		b, err := os.ReadFile(filepath.Join(marks, "pid"))
		pid = strings.TrimSpace(string(b))
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	write("cgroup.procs", pid)
	write("freezer.state", "FROZEN")
	m.await(jobWait, "end of the job", func() bool { j := m.job(id); return j != nil && j.State == "done" && j.Done == "20" })
	alive := func() bool {
		b, err := os.ReadFile("/proc/" + pid + "/status")
		return err == nil && !strings.Contains(string(b), "State:\tZ")
	}
	if !alive() || m.job(id).Failures != 1 {
		t.Fatalf("the process is there: %t, and %d attempts failed, want one that was stuck", alive(), m.job(id).Failures)
	}
	faults.Landed(t, faults.Process, "process that no signal ends", "I1 I3 I6", 1)
	slotsOf := func() []string { // that a job's tasks run on
		used := filepath.Join(marks, "slot-")
		job := strings.TrimSpace(m.run("exec", "--data", data, "--array", "1-8", "--chunk-time", "100ms", "--", "sh", "-c", "sleep 0.2; : > "+used+"$SEEDMESH_SLOT"))
		m.await(jobWait, "end of a job", func() bool { j := m.job(job); return j != nil && j.State == "done" })
		if failed := m.job(job).Failures; failed > 0 {
			t.Errorf("%d attempts were charged to tasks that only wait for the stuck slot", failed)
		}
		found, _ := filepath.Glob(used + "*")
		for _, name := range found {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		return found
	}
	if used := slotsOf(); len(used) != 1 || !alive() {
		t.Errorf("while the process is there, tasks ran on the slots %v", used)
	}
	thaw()
	m.await(stuckWait, "slot that works again", func() bool { return len(slotsOf()) == 2 })
	if alive() {
		t.Error("the process outlived its slot's return")
	}
}
