package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"seedmesh/kernels"
	"seedmesh/node/api"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

const (
	poll     = time.Millisecond
	longest  = 10 * time.Minute // of whatever is waited for
	fastSim  = "[[node.slot]]\ndevice = \"sim\"\nsim_rate = 1e9\n"
	idleTime = 20 * time.Second
	restTime = 12 * time.Second // after which a mesh without work rests
)

// process is one node of a mesh on loopback.
type process struct {
	dir    string
	cmd    *exec.Cmd
	client meshv1connect.MeshClient
}

// mesh is a mesh of real processes.
type mesh struct {
	*testing.B
	binary string
	nodes  []*process
}

// newMesh starts n nodes with the given slots and waits until as many vote as should.
func newMesh(b *testing.B, n int, config string) *mesh {
	b.Helper()
	dir := b.TempDir()
	m := &mesh{B: b, binary: filepath.Join(dir, "seedmesh")}
	command(b, "go", "build", "-o", m.binary, "seedmesh/cmd/seedmesh")
	file := filepath.Join(dir, "cluster.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	join := ""
	for i := range n {
		p := &process{dir: filepath.Join(dir, fmt.Sprint(i+1))}
		common := []string{"--data", p.dir, "--name", fmt.Sprintf("n%d", i+1), "--listen", freeAddr(b)}
		if i == 0 {
			var made struct{ Join string }
			out := command(b, m.binary, append([]string{"init", "--json"}, common...)...)
			if err := json.Unmarshal([]byte(out), &made); err != nil {
				b.Fatal(err)
			}
			join = made.Join
		} else {
			command(b, m.binary, append([]string{"join", join}, common...)...)
		}
		m.up(p, file)
	}
	voters := n
	if n > 2 && n%2 == 0 {
		voters--
	}
	await(b, "voters", func() bool {
		r, err := m.nodes[n-1].client.Status(b.Context(), connect.NewRequest(&meshv1.StatusRequest{}))
		return err == nil && len(r.Msg.Voters) == voters && r.Msg.Slots > 0
	})
	return m
}

func (m *mesh) up(p *process, config string) {
	m.Helper()
	p.cmd = exec.Command(m.binary, "up", "--data", p.dir, "--config", config)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Wait()
	})
	var err error
	if p.client, err = api.DialSocket(p.dir); err != nil {
		m.Fatal(err)
	}
	m.nodes = append(m.nodes, p)
}

// run runs a verb against a node and gives its output.
func (m *mesh) run(node int, args ...string) string {
	m.Helper()
	end := len(args)
	if i := slices.Index(args, "--"); i >= 0 {
		end = i // what comes behind it belongs to the program that is to run
	}
	return command(m.B, m.binary, slices.Insert(args, end, "--data", m.nodes[node].dir)...)
}

// submit asks a node for a search of seeds and gives the job's id.
func (m *mesh) submit(node int, generator string, seeds uint64) string {
	m.Helper()
	spec := kernels.Spec{Generators: []string{generator}, Draws: []kernels.Draw{{Value: 123456789, Known: true}}, Observe: "raw", MinMatches: 1}
	r, err := m.nodes[node].client.Submit(m.Context(), connect.NewRequest(&meshv1.SubmitRequest{Spec: spec.Encode(), Last: seeds - 1}))
	if err != nil {
		m.Fatal(err)
	}
	return r.Msg.Job
}

func (m *mesh) job(node int, id string, wait time.Duration) *meshv1.JobInfo {
	m.Helper()
	r, err := m.nodes[node].client.Job(m.Context(), connect.NewRequest(&meshv1.JobRequest{Job: id, WaitMs: uint64(wait.Milliseconds())}))
	if err != nil {
		m.Fatal(err)
	}
	return r.Msg
}

func await(b *testing.B, what string, holds func() bool) {
	b.Helper()
	for deadline := time.Now().Add(longest); !holds(); time.Sleep(poll) {
		if time.Now().After(deadline) {
			b.Fatalf("no %s within %v", what, longest)
		}
	}
}

// fewestForP99 is how many samples have a p99.
const fewestForP99 = 200

// report gives the median of samples, and the p99 or, of too few, the maximum.
func report(b *testing.B, samples []time.Duration, what string) {
	b.Helper()
	slices.Sort(samples)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(samples[len(samples)/2]), what+"-p50-ms")
	if len(samples) < fewestForP99 {
		b.ReportMetric(ms(samples[len(samples)-1]), what+"-max-ms")
		return
	}
	b.ReportMetric(ms(samples[len(samples)*99/100]), what+"-p99-ms")
}

// BenchmarkSubmit has a caller at a follower submit searches, one after the
// other, on three voters with fsync: until the acknowledgement, and until an
// executor, which is warm, works on it. The command line's time includes its start.
// One operation is as many submits of both kinds as have a p99.
func BenchmarkSubmit(b *testing.B) {
	m := newMesh(b, 3, fastSim)
	follower := 0
	for m.leads(follower) {
		follower++
	}
	m.job(follower, m.submit(follower, "xorshift32", 1<<20), time.Minute) // the executors are warm
	var acknowledged, busy, commands []time.Duration
	command := []string{"sieve", "-g", "xorshift32", "--seeds", "0:1", "--observe", "raw", "-d", m.draws()}
	for b.Loop() {
		for range fewestForP99 {
			began := time.Now()
			id := m.submit(follower, "xorshift32", 1)
			acknowledged = append(acknowledged, time.Since(began))
			await(b, "work", func() bool { return m.job(follower, id, 0).State != "queued" })
			busy = append(busy, time.Since(began))
			m.job(follower, id, time.Minute)
			commands = append(commands, timed(func() { m.run(follower, command...) }))
		}
	}
	report(b, acknowledged, "ack")
	report(b, busy, "busy")
	report(b, commands, "command")
}

func (m *mesh) leads(node int) bool {
	r, err := m.nodes[node].client.Status(m.Context(), connect.NewRequest(&meshv1.StatusRequest{}))
	return err == nil && r.Msg.Leader == r.Msg.Node
}

func (m *mesh) draws() string {
	m.Helper()
	file := filepath.Join(m.nodes[0].dir, "draws.txt")
	if err := os.WriteFile(file, []byte("123456789\n"), 0o600); err != nil {
		m.Fatal(err)
	}
	return file
}

// BenchmarkMeshRate searches 2^32 seeds of mt19937 on as many nodes as there are
// cores, up to three, with the cores divided among them. The mesh's rate is
// compared with the sum of the rates at which its slots were busy, and with the
// same search by one process without a mesh in the same run.
func BenchmarkMeshRate(b *testing.B) {
	const seeds = 1 << 32
	nodes := min(runtime.NumCPU(), 3)
	threads := runtime.NumCPU() / nodes
	m := newMesh(b, nodes, fmt.Sprintf("[[node.slot]]\ndevice = \"cpu\"\nthreads = %d\n", threads))
	m.job(0, m.submit(0, "mt19937", seeds/32), longest) // the rates are known
	var wall, busy, local float64
	for b.Loop() {
		began := time.Now()
		id := m.submit(0, "mt19937", seeds)
		info := m.job(0, id, 0)
		for info.State == "queued" || info.State == "running" {
			info = m.job(0, id, 30*time.Second)
		}
		if info.State != "done" {
			b.Fatalf("the job is %s: %s", info.State, info.LastError)
		}
		wall += time.Since(began).Seconds()
		busy += info.BusySeconds
		local += timed(func() {
			command(b, m.binary, "sieve", "--local", "-q", "-g", "mt19937", "--seeds", "0:2^32", "--observe", "raw", "-d", m.draws(), "--threads", fmt.Sprint(nodes*threads))
		}).Seconds()
	}
	b.ReportMetric(float64(b.N)*seeds/wall, "seeds/s")
	b.ReportMetric(busy/(wall*float64(nodes)), "of-busy-rates")
	b.ReportMetric(local/wall, "of-local-rate")
}

// BenchmarkIdle is what three nodes use while nothing is asked of them: the
// processor time of each as a share of a core, and its memory. Nodes that idle do little
// else than wake up, so the price of a wake-up on this machine belongs to it.
func BenchmarkIdle(b *testing.B) {
	m := newMesh(b, 3, "[[node.slot]]\ndevice = \"cpu\"\n")
	var share, mean, memory float64
	time.Sleep(restTime)
	for b.Loop() {
		before := m.used()
		began := time.Now()
		time.Sleep(idleTime)
		took := time.Since(began).Seconds()
		for i, u := range m.used() {
			share = max(share, (u-before[i])/took)
			mean += (u - before[i]) / took / float64(len(m.nodes))
		}
		for _, p := range m.nodes {
			memory = max(memory, resident(b, p.cmd.Process.Pid))
		}
	}
	b.ReportMetric(100*share, "%-of-a-core")
	b.ReportMetric(100*mean/float64(b.N), "%-mean")
	b.ReportMetric(wakeup(b), "us/bare-wakeup")
	b.ReportMetric(memory/(1<<20), "MB")
}

// wakeup is the processor time, in microseconds, that a thread uses to sleep for a
// moment and wake up again: 2 to 5 on hardware, several times as much in some virtual machines.
func wakeup(b *testing.B) float64 {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const times = 1000
	spent := func() time.Duration {
		const thread = 1 // RUSAGE_THREAD, see getrusage(2)
		var used syscall.Rusage
		if err := syscall.Getrusage(thread, &used); err != nil {
			b.Fatal(err)
		}
		return time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	moment := syscall.NsecToTimespec((2 * time.Millisecond).Nanoseconds())
	before := spent()
	for range times {
		_ = syscall.Nanosleep(&moment, nil) // one cut short by a signal is a wake-up too
	}
	return float64((spent() - before).Microseconds()) / times
}

// used is the processor time of each node's process in seconds.
func (m *mesh) used() (seconds []float64) {
	m.Helper()
	for _, p := range m.nodes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			m.Fatal(err)
		}
		const ticks = 100 // a second, on every Linux that Go runs on
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		seconds = append(seconds, (user+system)/ticks)
	}
	return seconds
}

// resident is the memory of a process in bytes.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize())
}

// BenchmarkMillionTasks submits, lists and cancels a job of a million tasks on
// three voters, and reports the leader's memory meanwhile.
func BenchmarkMillionTasks(b *testing.B) {
	m := newMesh(b, 3, "[[node.slot]]\ndevice = \"cpu\"\n")
	submit, list, cancel, memory := math.Inf(1), math.Inf(1), math.Inf(1), 0.0
	for b.Loop() {
		var id string
		submit = min(submit, timed(func() { id = strings.TrimSpace(m.run(0, "exec", "--array", "1-1000000", "--", "true")) }).Seconds())
		list = min(list, timed(func() { m.run(1, "jobs") }).Seconds())
		for _, p := range m.nodes {
			memory = max(memory, resident(b, p.cmd.Process.Pid))
		}
		cancel = min(cancel, timed(func() { m.run(2, "job", "cancel", id) }).Seconds())
	}
	b.ReportMetric(submit, "submit-s")
	b.ReportMetric(list, "list-s")
	b.ReportMetric(cancel, "cancel-s")
	b.ReportMetric(memory/(1<<20), "MB")
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// command runs a program, which must succeed, and gives its output.
func command(b *testing.B, name string, args ...string) string {
	b.Helper()
	c := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

func freeAddr(b *testing.B) string {
	b.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().String()
}
