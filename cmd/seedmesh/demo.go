package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"seedmesh/examples"
	"seedmesh/kernels"
	"seedmesh/node/api"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

const (
	demoNodes     = 3
	demoGenerator = "php_mt_rand_0_999"
	demoEighth    = "3221225472:3758096384" // what a machine searches for which all 2^32 seeds are too many
	demoObserved  = 7                       // draws that are searched with; the others are predicted
	demoStartWait = 30 * time.Second        // for the mesh to have three voters
	demoKillAt    = 0.5                     // share of the job after which the leader is killed
	demoWait      = 15 * time.Minute        // for the job
	demoLongest   = 2 * time.Minute         // that a search of all seeds may take
	demoShortest  = 10 * time.Second        // that it should take, so that there is something to see
	demoTrial     = 1 << 22                 // seeds that are searched to see how fast this machine is
	demoPoll      = 100 * time.Millisecond
)

// demo is one run of the demonstration: a mesh of real processes on this
// machine, a search of real outputs, and a leader killed half-way.
type demo struct {
	*env
	binary  string
	dir     string
	seeds   kernels.Range
	threads int // of each node
	draws   []kernels.Draw
	nodes   []*demoNode
}

// demoNode is one of the mesh's processes.
type demoNode struct {
	name, dir, addr string
	cmd             *exec.Cmd
	client          meshv1connect.MeshClient
}

func newDemo(e *env) *cobra.Command {
	seeds := ""
	keep := false
	c := &cobra.Command{
		Use:   "demo",
		Short: "Crack real PHP outputs on a mesh of three processes here, and kill its leader half-way",
		Long: `demo starts three nodes on this machine, searches the seed behind real outputs of PHP's mt_rand(0, 999)
with them, kills the leader with SIGKILL half-way, and shows that the result is complete: the ledger is
verified, and the generator's next outputs are predicted and compared with those that PHP gave.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return runDemo(c.Context(), e, seeds, keep)
		},
	}
	c.Flags().StringVar(&seeds, "seeds", "", "seeds A:B to search (default all 2^32, or an eighth of them on a slow machine)")
	c.Flags().BoolVar(&keep, "keep", false, "keep the nodes' directories")
	return c
}

func runDemo(ctx context.Context, e *env, seeds string, keep bool) (err error) {
	d := &demo{env: e}
	if d.binary, err = os.Executable(); err != nil {
		return err
	}
	if d.draws, err = kernels.ParseDraws(bytes.NewReader(examples.PHP)); err != nil {
		return err
	}
	if err := d.size(ctx, seeds); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "seedmesh-demo-"); err != nil {
		return err
	}
	defer func() {
		d.stop()
		if keep || err != nil {
			d.say("the nodes' directories and logs are in %s", d.dir)
			return
		}
		err = os.RemoveAll(d.dir)
	}()
	return d.run(ctx)
}

// size chooses the threads of each node and, where the user has not, the seeds:
// as many as this machine searches within demoLongest.
func (d *demo) size(ctx context.Context, seeds string) (err error) {
	rate, err := d.trial(ctx)
	if err != nil {
		return err
	}
	const all = "0:2^32"
	share := max(runtime.NumCPU()/demoNodes, 1)
	worth := max(int((1<<32)/rate/demoNodes/demoShortest.Seconds()), 1) // more would end before there is something to see
	d.threads = min(share, worth)
	if seeds == "" {
		seeds = all
		if cores := min(d.threads*demoNodes, runtime.NumCPU()); (1<<32)/(rate*float64(cores)) > demoLongest.Seconds() {
			seeds = demoEighth
		}
	}
	d.seeds, err = parseSeeds(seeds)
	return err
}

// trial is how many seeds one thread of this machine searches in a second.
func (d *demo) trial(ctx context.Context) (float64, error) {
	search, err := d.spec().Compile(demoGenerator)
	if err != nil {
		return 0, err
	}
	device := kernels.NewCPU(1)
	defer device.Close()
	searcher, err := device.Prepare(ctx, search)
	if err != nil {
		return 0, err
	}
	defer searcher.Close()
	r := kernels.Range{Last: demoTrial - 1}
	began := time.Now()
	_, _, _, err = searcher.Search(ctx, r, func(uint64) uint64 { return r.Last }, func(kernels.Survivor) error { return nil })
	return demoTrial / time.Since(began).Seconds(), err
}

func (d *demo) spec() *kernels.Spec {
	return &kernels.Spec{
		Generators: []string{demoGenerator}, Draws: d.draws[:demoObserved], Observe: defaultObserve, MinMatches: demoObserved,
		Mode: kernels.ModeFixed, Direction: kernels.Forward,
	}
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.stdout, format+"\n", args...) }

func (d *demo) run(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	share := d.seeds.Size() / (1 << 32)
	d.say("search     %d outputs of PHP's mt_rand(0, 999) over seeds %s: %.0f seeds, %.4g of all 2^32", demoObserved, d.seeds, d.seeds.Size(), share)
	began := time.Now()
	job, err := d.submit(ctx)
	if err != nil {
		return err
	}
	d.say("submitted  job %s through %s, acknowledged after %s", job, d.nodes[1].name, since(began))
	if err := d.killLeader(ctx, job); err != nil {
		return err
	}
	survivor, err := d.finish(ctx, job, began)
	if err != nil {
		return err
	}
	if err := d.verify(ctx, job); err != nil {
		return err
	}
	return d.predict(survivor)
}

func since(t time.Time) string { return time.Since(t).Round(time.Millisecond).String() }

// config is the file with the slot of each node.
func (d *demo) config() string { return filepath.Join(d.dir, "cluster.toml") }

// start makes a mesh of three processes with the commands that a user types.
func (d *demo) start(ctx context.Context) error {
	slot := fmt.Sprintf("[[node.slot]]\ndevice = \"cpu\"\nthreads = %d\n", d.threads)
	if err := os.WriteFile(d.config(), []byte(slot), 0o600); err != nil {
		return err
	}
	join := ""
	for i := range demoNodes {
		addr, err := freeAddr()
		if err != nil {
			return err
		}
		n := &demoNode{name: fmt.Sprintf("node%d", i+1), dir: filepath.Join(d.dir, strconv.Itoa(i+1)), addr: addr}
		common := []string{"--data", n.dir, "--name", n.name, "--listen", n.addr}
		if i == 0 {
			out, err := d.command(ctx, append([]string{"init", "--json"}, common...)...)
			if err != nil {
				return err
			}
			var made struct{ Join string }
			if err := json.Unmarshal(out, &made); err != nil {
				return err
			}
			join = made.Join
		} else if _, err := d.command(ctx, append([]string{"join", join}, common...)...); err != nil {
			return err
		}
		if err := d.up(n); err != nil {
			return err
		}
		d.nodes = append(d.nodes, n)
	}
	status, err := d.await(ctx, demoStartWait, "three voters and a leader", func(s *meshv1.StatusReply) bool {
		return len(s.Voters) == demoNodes && s.Leader != "" && s.Slots == demoNodes
	})
	if err != nil {
		return err
	}
	for _, n := range d.nodes {
		d.say("node       %s  pid %-7d  %s", n.name, n.cmd.Process.Pid, n.addr)
	}
	d.say("mesh       %d voters, leader %s; it survives the loss of %s", len(status.Voters), status.Leader, status.Survives)
	return nil
}

// freeAddr finds a UDP port that nobody uses at the moment.
func freeAddr() (string, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return conn.LocalAddr().String(), conn.Close()
}

// command runs this binary with arguments and gives its standard output.
func (d *demo) command(ctx context.Context, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, d.binary, args...)
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("seedmesh %s: %w\n%s", strings.Join(args[:1], " "), err, stderr.String())
	}
	return out.Bytes(), nil
}

// up starts a node's process. Its slot has its share of this machine's cores.
func (d *demo) up(n *demoNode) error {
	log, err := os.Create(n.dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = exec.Command(d.binary, "up", "--data", n.dir, "--config", d.config())
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.client, err = api.DialSocket(n.dir)
	return err
}

func (d *demo) stop() {
	for _, n := range d.nodes {
		if n.cmd.ProcessState == nil {
			_ = n.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	for _, n := range d.nodes {
		if n.cmd.ProcessState == nil {
			_ = n.cmd.Wait()
		}
	}
}

// await asks the living nodes until one shows what is waited for.
func (d *demo) await(ctx context.Context, limit time.Duration, what string, shown func(*meshv1.StatusReply) bool) (*meshv1.StatusReply, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		for _, n := range d.living() {
			r, err := n.client.Status(ctx, connect.NewRequest(&meshv1.StatusRequest{}))
			if err == nil && shown(r.Msg) {
				return r.Msg, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no node showed %s within %s; see the logs in %s", what, limit, d.dir)
		case <-time.After(demoPoll):
		}
	}
}

func (d *demo) living() []*demoNode {
	return slices.DeleteFunc(slices.Clone(d.nodes), func(n *demoNode) bool { return n.cmd.ProcessState != nil })
}

func (d *demo) submit(ctx context.Context) (string, error) {
	r, err := d.nodes[1].client.Submit(ctx, connect.NewRequest(&meshv1.SubmitRequest{
		Spec: d.spec().Encode(), First: d.seeds.First, Last: d.seeds.Last, Name: "demo", ChunkTimeMs: 1000,
	}))
	if err != nil {
		return "", err
	}
	return r.Msg.Job, nil
}

// killLeader kills the leader when half of the job is done, and measures for how
// long nobody can write.
func (d *demo) killLeader(ctx context.Context, job string) error {
	if _, err := d.follow(ctx, job, func(share float64, ended bool) bool { return ended || share >= demoKillAt }); err != nil {
		return err
	}
	status, err := d.await(ctx, demoStartWait, "a leader", func(s *meshv1.StatusReply) bool { return s.Leader != "" })
	if err != nil {
		return err
	}
	i := slices.IndexFunc(d.nodes, func(n *demoNode) bool { return n.name == status.Leader })
	if i < 0 {
		return fmt.Errorf("the leader %q is none of the demo's nodes", status.Leader)
	}
	victim := d.nodes[i]
	began := time.Now()
	if err := victim.cmd.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := victim.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		return fmt.Errorf("the leader did not die of SIGKILL: %w", err)
	}
	d.say("kill       %s (pid %d), the leader, with SIGKILL half-way", victim.name, victim.cmd.Process.Pid)
	other := d.living()[0]
	if _, err := other.client.Control(ctx, connect.NewRequest(&meshv1.ControlRequest{Job: job, Action: "priority", Priority: 1})); err != nil {
		return fmt.Errorf("no write after the kill: %w", err)
	}
	refused := since(began)
	status, err = d.await(ctx, demoStartWait, "a new leader", func(s *meshv1.StatusReply) bool { return s.Leader != "" && s.Leader != victim.name })
	if err != nil {
		return err
	}
	d.say("failover   %s leads now; writes were refused for %s", status.Leader, refused)
	return nil
}

// follow watches the job on any living node until the condition holds.
func (d *demo) follow(ctx context.Context, job string, until func(share float64, ended bool) bool) (*meshv1.JobInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	for {
		for _, n := range d.living() {
			r, err := n.client.Job(ctx, connect.NewRequest(&meshv1.JobRequest{Job: job}))
			if err != nil {
				continue
			}
			done, _ := strconv.ParseFloat(r.Msg.Done, 64)
			ended := slices.Contains([]string{"done", "failed", "cancelled"}, r.Msg.State)
			if until(done/d.seeds.Size(), ended) {
				return r.Msg, nil
			}
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("job %s has not come to its end: %w", job, context.Cause(ctx))
		case <-time.After(demoPoll):
		}
	}
}

// finish waits for the end of the job and reads its one survivor.
func (d *demo) finish(ctx context.Context, job string, began time.Time) (demoSurvivor, error) {
	var s demoSurvivor
	info, err := d.follow(ctx, job, func(_ float64, ended bool) bool { return ended })
	if err != nil {
		return s, err
	}
	if info.State != "done" {
		return s, fmt.Errorf("job %s is %s: %s", job, info.State, info.LastError)
	}
	took := time.Since(began)
	d.say("done       after %s, %.3g seeds/s; %d claims of the dead node were given out again", took.Round(time.Second), d.seeds.Size()/took.Seconds(), info.Reclaimed)
	lines, err := d.results(ctx, job)
	if err != nil {
		return s, err
	}
	if len(lines) != 1 {
		return s, fmt.Errorf("%d seeds explain the outputs in %s, one was expected; use a range that contains the seed, such as 0:2^32", len(lines), d.seeds)
	}
	if err := json.Unmarshal(lines[0], &s); err != nil {
		return s, err
	}
	seed, err := strconv.ParseUint(s.Seed, 10, 64)
	if err != nil {
		return s, err
	}
	at := float64(seed-d.seeds.First) / d.seeds.Size()
	d.say("seed       %s explains all %d outputs; it lay at %.1f %% of the range; %.2g by chance", s.Seed, s.Matches, 100*at, info.ExpectedByChance)
	return s, nil
}

// demoSurvivor is a line of the results.
type demoSurvivor struct {
	Seed       string `json:"seed"`
	Matches    int    `json:"matches"`
	BestSkip   uint32 `json:"best_skip"`
	BestOffset uint32 `json:"best_offset"`
}

func (d *demo) results(ctx context.Context, job string) ([][]byte, error) {
	stream, err := d.living()[0].client.Results(ctx, connect.NewRequest(&meshv1.ResultsRequest{Job: job}))
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	var all []byte
	for stream.Receive() {
		all = append(all, stream.Msg().Data...)
	}
	if err := stream.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return bytes.Split(bytes.TrimSpace(all), []byte("\n")), nil
}

// verify has every piece read from every holder that is left.
func (d *demo) verify(ctx context.Context, job string) error {
	r, err := d.living()[0].client.Ledger(ctx, connect.NewRequest(&meshv1.LedgerRequest{Job: job, Verify: true}))
	if err != nil {
		return err
	}
	l := r.Msg
	if !l.Complete {
		return fmt.Errorf("the ledger is not complete: gaps %v, overlaps %v, problems %v", l.Gaps, l.Overlaps, l.Problems)
	}
	d.say("ledger     verified: %s seeds, each visited once, in %d pieces; %d copies read", l.Seeds, l.Pieces, l.Verified)
	return nil
}

// predict compares the outputs that follow with those that PHP gave.
func (d *demo) predict(s demoSurvivor) error {
	seed, err := strconv.ParseUint(s.Seed, 10, 64)
	if err != nil {
		return err
	}
	rest := d.draws[demoObserved:]
	next, err := kernels.Predict(demoGenerator, seed, s.BestSkip, s.BestOffset, demoObserved, uint32(len(rest)), defaultObserve)
	if err != nil {
		return err
	}
	for i, draw := range rest {
		if next[i] != draw.Value {
			return fmt.Errorf("prediction %d is %d, PHP gave %d", i+1, next[i], draw.Value)
		}
	}
	d.say("predicted  the next outputs are %v: PHP gave the same", next)
	return nil
}
