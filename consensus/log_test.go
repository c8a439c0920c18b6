package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"seedmesh/jobs"
)

// memNet joins logs in memory: every stream is a pipe, whose bytes take latency
// to arrive.
type memNet struct {
	latency time.Duration
	mu      sync.Mutex
	nodes   map[string]*memNode
}

// pipe gives the two ends of a stream.
func (m *memNet) pipe() (here, there net.Conn) {
	here, there = net.Pipe()
	if m.latency == 0 {
		return here, there
	}
	far, end := net.Pipe()
	go m.carry(there, far)
	go m.carry(far, there)
	return here, end
}

// carry passes bytes on, late, until either side is closed.
func (m *memNet) carry(from, to net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		time.Sleep(m.latency) // fake time
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

type memNode struct {
	net           *memNet
	id            string
	raft, forward *memListener
	cut           bool
	silent        bool // being dialled, it does not even refuse
	conns         []net.Conn
	answer        func(string, []byte) []byte
	asked         int  // questions put to it
	deaf          bool // no question arrives
}

// down ends a node's connections, as the end of its process does. Those who dial
// it get no answer, as is the way of UDP, when it is silent, and else a refusal.
func (n *memNode) down() {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.cut = true
	for _, c := range n.conns {
		_ = c.Close()
	}
}

type memListener struct {
	id     string
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newListener(id string) *memListener {
	return &memListener{id: id, accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *memListener) Addr() net.Addr { return nodeAddr(l.id) }

type memConn struct {
	net.Conn
	peer string
}

func (m *memNet) node(id string) *memNode {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &memNode{net: m, id: id, raft: newListener(id), forward: newListener(id)}
	m.nodes[id] = n
	return n
}

func (n *memNode) Raft() net.Listener       { return n.raft }
func (n *memNode) Forward() net.Listener    { return n.forward }
func (n *memNode) PeerOf(c net.Conn) string { return c.(memConn).peer }

func (n *memNode) DialRaft(ctx context.Context, to string) (net.Conn, error) {
	return n.dial(ctx, to, func(o *memNode) *memListener { return o.raft })
}

func (n *memNode) DialForward(ctx context.Context, to string) (net.Conn, error) {
	return n.dial(ctx, to, func(o *memNode) *memListener { return o.forward })
}

func (n *memNode) AnswerRaft(answer func(string, []byte) []byte) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.answer = answer
}

func (n *memNode) AskRaft(ctx context.Context, to string, question []byte) ([]byte, error) {
	n.net.mu.Lock()
	o := n.net.nodes[to]
	lost := o == nil || o.cut || n.cut || o.deaf || o.answer == nil
	var answer func(string, []byte) []byte
	if !lost {
		o.asked++
		answer = o.answer
	}
	n.net.mu.Unlock()
	if !lost {
		if a := answer(n.id, question); a != nil {
			return a, nil
		}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (n *memNode) dial(ctx context.Context, to string, pick func(*memNode) *memListener) (net.Conn, error) {
	n.net.mu.Lock()
	o := n.net.nodes[to]
	ok := o != nil && !o.cut && !n.cut
	silent := o != nil && o.silent && !n.cut
	n.net.mu.Unlock()
	if !ok && silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !ok {
		return nil, errors.New("unreachable")
	}
	here, there := n.net.pipe()
	n.net.mu.Lock()
	n.conns, o.conns = append(n.conns, here, there), append(o.conns, here, there)
	n.net.mu.Unlock()
	l := pick(o)
	select {
	case l.accept <- memConn{there, n.id}:
		return memConn{here, to}, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type cluster struct {
	*testing.T
	net  *memNet
	dirs []string
	logs []*Log
}

func id(i int) jobs.NodeID { return jobs.NodeID{byte(i + 1)} }

func newCluster(t *testing.T, n int) *cluster { return newSlowCluster(t, n, 0) }

// newSlowCluster makes a cluster between whose nodes bytes take a while.
func newSlowCluster(t *testing.T, n int, latency time.Duration) *cluster {
	c := &cluster{T: t, net: &memNet{latency: latency, nodes: map[string]*memNode{}}}
	dir := t.TempDir()
	for i := range n {
		c.dirs = append(c.dirs, filepath.Join(dir, fmt.Sprint(i)))
		c.logs = append(c.logs, nil)
		c.open(i)
	}
	if err := c.logs[0].Bootstrap(); err != nil {
		t.Fatal(err)
	}
	c.propose(0, &jobs.Admit{Node: id(0), Name: "n0", Role: jobs.Voter})
	for i := 1; i < n; i++ {
		if err := c.leader().AddVoter(id(i)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cluster) open(i int) {
	c.Helper()
	l, err := Open(c.config(i))
	if err != nil {
		c.Fatal(err)
	}
	c.logs[i] = l
}

func (c *cluster) config(i int) Config {
	return Config{
		Node: id(i), Dir: c.dirs[i], Network: c.net.node(id(i).String()), Logger: slog.New(slog.DiscardHandler),
		Fatal: func(err error) { c.Errorf("node %d: %v", i, err) },
	}
}

func (c *cluster) close() {
	for i, l := range c.logs {
		if l != nil {
			c.stop(i)
		}
	}
	time.Sleep(2 * c.net.latency) // of fake time: what is on its way arrives
}

func (c *cluster) stop(i int) {
	c.net.nodes[id(i).String()].down()
	if err := c.logs[i].Close(); err != nil {
		c.Error(err)
	}
	c.logs[i] = nil
}

// leader waits for a node that leads.
func (c *cluster) leader() *Log {
	for {
		for _, l := range c.logs {
			if l != nil {
				if _, ok := l.Leading(); ok {
					return l
				}
			}
		}
		time.Sleep(time.Millisecond) // fake time
	}
}

func (c *cluster) leaderIndex() int {
	l := c.leader()
	for i := range c.logs {
		if c.logs[i] == l {
			return i
		}
	}
	return -1
}

func (c *cluster) propose(i int, cmd jobs.Command) jobs.Outcome {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 15*time.Second)
	defer cancel()
	o, _, err := c.logs[i].Propose(ctx, jobs.Request{Command: cmd})
	if err != nil {
		c.Fatal(err)
	}
	return o
}

// settle waits until every running node has applied all there is.
func (c *cluster) settle() {
	c.Helper()
	index, err := c.leader().ReadIndex(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	for _, l := range c.logs {
		if err := l.WaitApplied(c.Context(), index); err != nil {
			c.Fatal(err)
		}
	}
}

func submit(n int) *jobs.Submit {
	return &jobs.Submit{
		ID: jobs.JobID(n), Key: fmt.Sprint("key", n), Kind: jobs.Seeds,
		Stages: []jobs.StageSpec{{Label: "g", Range: jobs.Range{First: 0, Last: 99}, Grain: 10, Shape: "s"}},
	}
}

func TestCommandsSurviveLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		next := 1
		for round := range 5 {
			for i := range c.logs {
				if o := c.propose(i, submit(next)); o.Err() != nil {
					t.Fatalf("round %d: submit at node %d: %v", round, i, o.Err())
				}
				next++
			}
			victim := c.leaderIndex()
			c.stop(victim)
			survivor := (victim + 1) % 3
			start := time.Now()
			if o := c.propose(survivor, submit(next)); o.Err() != nil {
				t.Fatal(o.Err())
			}
			if took := time.Since(start); took > 1500*time.Millisecond {
				t.Errorf("round %d: writes were refused for %v of fake time", round, took)
			}
			next++
			c.open(victim)
		}
		index, err := c.logs[0].ReadIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range c.logs {
			if err := l.WaitApplied(t.Context(), index); err != nil {
				t.Fatal(err)
			}
			var n int
			l.View(func(s *jobs.State) { n = len(s.Jobs()) })
			if n != next-1 {
				t.Errorf("node %d has %d jobs, %d were acknowledged", i, n, next-1)
			}
			want, _ := c.logs[0].DigestAt(index)
			if got, ok := l.DigestAt(index); !ok || got != want {
				t.Errorf("node %d: digest at %d is %v, want %v", i, index, got, want)
			}
		}
	})
}

// TestWritesFollowTheLeader stops leaders that then hang in silence: a write that
// was on its way to one goes to its successor as soon as that is known.
func TestWritesFollowTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		for round := 1; round <= 8; round++ {
			c.settle()
			victim := c.leaderIndex()
			dead := c.logs[victim]
			c.logs[victim] = nil
			c.net.nodes[id(victim).String()].silent = true
			c.net.nodes[id(victim).String()].down()
			acknowledged := make(chan time.Time)
			go func() {
				_, _, err := c.logs[(victim+1)%3].Propose(t.Context(), jobs.Request{Command: submit(round)})
				if err != nil {
					t.Error(err)
				}
				acknowledged <- time.Now()
			}()
			c.leader()
			led := time.Now()
			if late := (<-acknowledged).Sub(led); late > 100*time.Millisecond {
				t.Errorf("round %d: the write was acknowledged %v after there was a leader again", round, late)
			}
			if err := dead.Close(); err != nil {
				t.Error(err)
			}
			c.open(victim)
		}
	})
}

func TestSnapshotBringsBackTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		for n := 1; n <= 20; n++ {
			c.propose(0, submit(n))
		}
		if err := c.logs[0].raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		applied := c.logs[0].Applied()
		c.stop(0)
		c.open(0)
		if got := c.logs[0].Applied(); got != applied {
			t.Errorf("applied index is %d after the restart, %d before", got, applied)
		}
		c.propose(0, submit(21))
		c.logs[0].View(func(s *jobs.State) {
			if n := len(s.Jobs()); n != 21 {
				t.Errorf("%d jobs after the restart, want 21", n)
			}
		})
	})
}

func TestLeaderRefusesForeignCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		leader := c.leaderIndex()
		from := (leader + 1) % 3
		for name, cmd := range map[string]jobs.Command{
			"another node's hello":      &jobs.Hello{Node: id((leader + 2) % 3), Incarnation: 1},
			"the leader's own judgment": &jobs.Expire{Node: id(leader), Incarnation: 1},
			"admission":                 &jobs.Admit{Node: id(9), Name: "evil"},
		} {
			encoded := jobs.EncodeRequest(jobs.Request{Command: cmd})
			harmless := jobs.EncodeRequest(jobs.Request{Command: &jobs.Control{Job: 7, Action: jobs.Pause}})
			res, err := c.logs[from].ask(t.Context(), id(leader), [][]byte{encoded, harmless})
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(res[0].err, ErrForbidden) {
				t.Errorf("%s: the leader gave %v, want %v", name, res[0].err, ErrForbidden)
			}
			if want := (&jobs.Refusal{Code: jobs.UnknownJob}); res[1].err != nil || !errors.Is(res[1].outcome.Err(), want) {
				t.Errorf("%s: the request behind it gave %v, %v, want %v", name, res[1].outcome.Err(), res[1].err, want)
			}
		}
	})
}

// TestOlderLeader tells who sends a command that only newer programs know what is wrong,
// and does what comes beside it.
func TestOlderLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		leader := c.leaderIndex()
		harmless := jobs.EncodeRequest(jobs.Request{Command: &jobs.Control{Job: 7, Action: jobs.Pause}})
		newer := slices.Clone(harmless)
		newer[18] = 0x7f // the command's number, behind the header and the request's id
		res, err := c.logs[(leader+1)%3].ask(t.Context(), id(leader), [][]byte{newer, harmless})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []jobs.Code{jobs.Outdated, jobs.UnknownJob} {
			if res[i].err != nil || !errors.Is(res[i].outcome.Err(), &jobs.Refusal{Code: want}) {
				t.Errorf("request %d gave %v, %v, want refusal %d", i, res[i].outcome.Err(), res[i].err, want)
			}
		}
	})
}

func TestNoQuorumIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		leader := c.leaderIndex()
		c.stop((leader + 1) % 3)
		c.stop((leader + 2) % 3)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, _, err := c.logs[leader].Propose(ctx, jobs.Request{Command: submit(1)}); !errors.Is(err, ErrNoLeader) {
			t.Errorf("propose without a quorum gave %v, want %v", err, ErrNoLeader)
		}
	})
}

// TestNoPipeline holds on to replication without Raft's pipeline, which a refusal at
// the wrong moment stops for good; the meshes of tests/bubble met it under partitions.
func TestNoPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		if _, err := c.logs[0].trans.AppendEntriesPipeline("", ""); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
			t.Errorf("AppendEntriesPipeline = %v, want %v", err, raft.ErrPipelineReplicationNotSupported)
		}
	})
}

// TestLeaderActsAfterItsBarrier kills leaders in the moment in which they have
// acknowledged a command that no follower knows to be committed. Whoever leads
// next must hold it before it says that it leads (invariant I11).
func TestLeaderActsAfterItsBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlowCluster(t, 3, 5*time.Millisecond)
		defer c.close()
		for round := 1; round <= 5; round++ {
			victim := c.leaderIndex()
			_, acknowledged, err := c.logs[victim].Propose(t.Context(), jobs.Request{Command: submit(round)})
			if err != nil {
				t.Fatal(err)
			}
			c.net.nodes[id(victim).String()].down()
			for i, l := range c.logs {
				if l != nil && i != victim && l.Applied() >= acknowledged {
					t.Fatalf("round %d: node %d has applied entry %d already, so the fault did not happen", round, i, acknowledged)
				}
			}
			c.stop(victim)
			if next := c.leader(); next.Applied() < acknowledged {
				t.Errorf("round %d: the next leader leads at entry %d, and entry %d is acknowledged", round, next.Applied(), acknowledged)
			}
			c.open(victim)
			time.Sleep(time.Second) // of fake time: the victim catches up
		}
	})
}

// TestFollowersHearOfCommitsAtOnce has every follower apply a command as soon as word of it
// can have come, long before Raft's commit time-out.
func TestFollowersHearOfCommitsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const latency = 5 * time.Millisecond
		c := newSlowCluster(t, 3, latency)
		defer c.close()
		time.Sleep(time.Second) // of fake time: the voters that were added last have caught up
		for n := range 5 {
			_, index, err := c.leader().Propose(t.Context(), jobs.Request{Command: submit(n)})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * latency) // of fake time
			for i, l := range c.logs {
				if at := l.Applied(); at < index {
					t.Errorf("command %d: node %d is at entry %d, the command at %d", n, i, at, index)
				}
			}
			time.Sleep(time.Second) // of fake time: so that nothing else is on its way
		}
	})
}

// TestLogTimeIsNotTheWallClock holds log time against the time since the log
// began, through a change of leaders: the wall clock, which says another year in
// a bubble, has no part in it.
func TestLogTimeIsNotTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := newCluster(t, 3)
		defer c.close()
		for round := 1; round <= 3; round++ {
			time.Sleep(10 * time.Second) // fake time
			victim := c.leaderIndex()
			c.propose(victim, submit(round))
			c.stop(victim)
			next := c.leaderIndex()
			c.propose(next, submit(100+round))
			var now jobs.Instant
			c.logs[next].View(func(s *jobs.State) { now = s.Now() })
			if age := jobs.Instant(time.Since(began).Milliseconds()); now > age || now < age-jobs.Instant(round)*2_000 {
				t.Errorf("round %d: log time is %d ms after %d ms", round, now, age)
			}
			c.open(victim)
		}
	})
}
