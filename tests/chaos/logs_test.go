package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// talker says a numbered line again and again.
const talker = `#!/bin/sh
i=0
while [ $i -lt 400 ]; do echo line $i; echo word $i >&2; i=$((i+1)); sleep 0.02; done
`

// lines is what a process writes, for one goroutine to look at meanwhile.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestLogsAreFollowedAcrossTheLeadersDeath follows a task from another node than
// the one it runs on, while the leader, which is neither, is killed.
func TestLogsAreFollowedAcrossTheLeadersDeath(t *testing.T) {
	m := newMesh(t, 3, oneThread)
	work := filepath.Join(m.dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "talk.sh"), []byte(talker), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(work)
	id := strings.TrimSpace(m.run("exec", "--data", m.nodes[0].dir, "--array", "0-2", "--chunk-time", "1ms", "--attempts", "9", "--", "./talk.sh"))
	leader, number, from := m.leader(), -1, -1
	m.await(10*time.Second, "task on a node that does not lead", func() bool {
		out, _, _ := m.exec("task", "ls", "--json", "--state", "running", "--data", m.nodes[0].dir, id)
		var tasks []struct {
			Number int
			Node   string
		}
		if json.Unmarshal([]byte(out), &tasks) != nil {
			return false
		}
		for _, task := range tasks {
			for i, p := range m.nodes {
				if p.name == task.Node && i != leader {
					number, from = task.Number, 3-leader-i
				}
			}
		}
		return number >= 0
	})
	var out, errs lines
	follow := exec.Command(binary, "task", "logs", "-f", "--data", m.nodes[from].dir, fmt.Sprintf("%s/#%d", id, number))
	follow.Stdout, follow.Stderr = &out, &errs
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	m.await(10*time.Second, "first lines", func() bool { return strings.Contains(out.String(), "line 20\n") })
	m.kill(leader, "the leader, while a log is followed")
	seen := strings.Count(out.String(), "\n")
	m.await(10*time.Second, "lines without the old leader", func() bool { return strings.Count(out.String(), "\n") > seen+50 })
	m.up(leader)
	if err := follow.Wait(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	var wantOut, wantErrs strings.Builder
	for i := range 400 {
		fmt.Fprintf(&wantOut, "line %d\n", i)
		fmt.Fprintf(&wantErrs, "word %d\n", i)
	}
	if out.String() != wantOut.String() || errs.String() != wantErrs.String() {
		t.Errorf("%d lines killed after %d: the output is %d bytes, want %d; the errors %d, want %d:\n%s", strings.Count(out.String(), "\n"), seen,
			len(out.String()), wantOut.Len(), len(errs.String()), wantErrs.Len(), errs.String())
	}
}
