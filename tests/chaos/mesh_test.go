// Package chaos tests whole meshes of real processes: it kills them and holds
// what they answer against a search on one machine that nothing disturbed.
package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/node/api"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

const (
	startWait = 30 * time.Second // for a mesh to have its voters
	jobWait   = 4 * time.Minute  // for a job to end, whatever happens to it
	poll      = 20 * time.Millisecond
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if flag.Parse(); testing.Short() {
		return m.Run() // which skips
	}
	dir, err := os.MkdirTemp("", "seedmesh-chaos-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "seedmesh")
	build := exec.Command("go", "build", "-o", binary, "seedmesh/cmd/seedmesh")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build: %v\n%s", err, out))
	}
	return m.Run()
}

// proc is one node of a mesh under test.
type proc struct {
	name, dir, addr string
	cmd             *exec.Cmd
	client          meshv1connect.MeshClient
}

func (p *proc) running() bool { return p.cmd != nil && p.cmd.ProcessState == nil }

// mesh is a mesh of real processes on loopback.
type mesh struct {
	*testing.T
	dir    string
	config string
	slots  int    // of each node
	checks string // invariants that are checked after its kills and standstills
	nodes  []*proc
	as     *syscall.Credential // who its nodes are; nil for who tests
}

// slots of a node: one thread of the processor, or a device that works at a
// stated rate and leaves the processor free.
const oneThread = "[[node.slot]]\ndevice = \"cpu\"\nthreads = 1\n"

func simulated(seedsPerSecond int) string {
	return fmt.Sprintf("[[node.slot]]\ndevice = \"sim\"\nsim_rate = %d\n", seedsPerSecond)
}

// needsProgram skips a test in short runs, which build no program.
func needsProgram(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("meshes of real processes take minutes")
	}
}

// newMesh starts n nodes and waits until they vote.
func newMesh(t *testing.T, n int, config string) *mesh {
	t.Helper()
	needsProgram(t)
	m := &mesh{T: t, dir: t.TempDir(), slots: max(strings.Count(config, "slot]]"), 1), checks: holds}
	if config != "" {
		m.config = filepath.Join(m.dir, "cluster.toml")
		if err := os.WriteFile(m.config, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(m.stop)
	join := ""
	for i := range n {
		p := &proc{name: fmt.Sprintf("n%d", i+1), dir: filepath.Join(m.dir, fmt.Sprint(i+1)), addr: freeAddr(t)}
		m.nodes = append(m.nodes, p)
		common := []string{"--data", p.dir, "--name", p.name, "--listen", p.addr}
		if i == 0 {
			var made struct{ Join string }
			m.json(&made, append([]string{"init", "--json"}, common...)...)
			join = made.Join
		} else {
			m.run(append([]string{"join", join}, common...)...)
		}
		m.up(i)
	}
	m.whole()
	return m
}

func freeAddr(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

// exec runs the program and gives its output and exit code.
func (m *mesh) exec(args ...string) (stdout, stderr string, code int) {
	c := exec.Command(binary, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// run runs the program, which must succeed.
func (m *mesh) run(args ...string) string {
	m.Helper()
	out, stderr, code := m.exec(args...)
	if code != 0 {
		m.Fatalf("seedmesh %s: exit %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return out
}

func (m *mesh) json(into any, args ...string) {
	m.Helper()
	if err := json.Unmarshal([]byte(m.run(args...)), into); err != nil {
		m.Fatal(err)
	}
}

func (m *mesh) up(i int) {
	m.Helper()
	p := m.nodes[i]
	log, err := os.OpenFile(p.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.Fatal(err)
	}
	defer log.Close()
	args := []string{"up", "--data", p.dir, "--log-level", "debug"}
	if m.config != "" {
		args = append(args, "--config", m.config)
	}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: m.as}
	if err := p.cmd.Start(); err != nil {
		m.Fatal(err)
	}
	if p.client, err = api.DialSocket(p.dir); err != nil {
		m.Fatal(err)
	}
}

func (m *mesh) stop() {
	for _, p := range m.nodes {
		if p.running() {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
		}
	}
	for i, p := range m.nodes {
		if p.running() {
			_ = p.cmd.Wait()
		}
		if m.Failed() {
			m.logTail(i)
		}
	}
}

func (m *mesh) logTail(i int) {
	b, err := os.ReadFile(m.nodes[i].dir + ".log")
	if err != nil {
		return
	}
	const most = 6000
	m.Logf("end of the log of %s:\n%s", m.nodes[i].name, b[max(0, len(b)-most):])
}

// status asks a node how the mesh stands; nil when it does not answer.
func (p *proc) status() *meshv1.StatusReply {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := p.client.Status(ctx, connect.NewRequest(&meshv1.StatusRequest{}))
	if err != nil {
		return nil
	}
	return r.Msg
}

// status is that of the first running node that answers, or nil.
func (m *mesh) status() *meshv1.StatusReply {
	for _, p := range m.nodes {
		if p.running() {
			if s := p.status(); s != nil {
				return s
			}
		}
	}
	return nil
}

// leader waits for a running leader and gives its number.
func (m *mesh) leader() int {
	m.Helper()
	found := -1
	m.await(startWait, "a leader", func() bool {
		s := m.status()
		if s == nil {
			return false
		}
		found = slices.IndexFunc(m.nodes, func(p *proc) bool { return p.name == s.Leader && p.running() })
		return found >= 0
	})
	return found
}

// whole waits until every node sees all of them, a leader, and as many voters as
// there should be.
func (m *mesh) whole() {
	m.Helper()
	n := len(m.nodes)
	voters := n
	if n > 2 && n%2 == 0 {
		voters--
	}
	m.await(startWait, "whole mesh", func() bool {
		for _, p := range m.nodes {
			s := p.status()
			if s == nil || int(s.Nodes) != n || int(s.Slots) != n*m.slots || len(s.Voters) != voters || s.Leader == "" {
				return false
			}
		}
		return true
	})
}

func (m *mesh) await(limit time.Duration, what string, holds func() bool) {
	m.Helper()
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			m.Fatalf("no %s within %s", what, limit)
		}
		time.Sleep(poll)
	}
}

// job asks any running node about a job; nil when none answers.
func (m *mesh) job(id string) *meshv1.JobInfo {
	for _, p := range m.nodes {
		if !p.running() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		r, err := p.client.Job(ctx, connect.NewRequest(&meshv1.JobRequest{Job: id}))
		cancel()
		if err == nil {
			return r.Msg
		}
	}
	return nil
}
