// Package consensus puts commands into the replicated log and shows the ledger
// that results from them.
//
// It wraps hashicorp/raft over raft-boltdb: many commands travel in one log
// entry, followers forward theirs to the leader, a leader acts only after it has
// applied a barrier, and an I/O error on the log stops the node. Types of the
// Raft library do not leave this package.
//
// Read log.go for what callers see, leader.go for how entries are made,
// forward.go for how followers send theirs, fsm.go for how they are applied, beat.go
// for heartbeats.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"seedmesh/jobs"
)

// A Network carries the log's streams between nodes, which it knows by id.
type Network interface {
	// Raft and Forward accept streams of the two kinds. A connection accepted
	// from Forward tells its authenticated sender through [Peer].
	Raft() net.Listener
	Forward() net.Listener
	DialRaft(ctx context.Context, node string) (net.Conn, error)
	DialForward(ctx context.Context, node string) (net.Conn, error)
	// AskRaft asks a node what is worth nothing when it is late, beside the streams of
	// DialRaft: one datagram there and one back, either of which may be lost. AnswerRaft
	// says who answers here; a nil answer is not sent, and a nil func ends it.
	AskRaft(ctx context.Context, node string, question []byte) (answer []byte, err error)
	AnswerRaft(func(node string, question []byte) (answer []byte))
	// PeerOf is the authenticated id of the other end of an accepted connection.
	PeerOf(net.Conn) string
}

// Timings of Raft. The zero value is the default.
type Timings struct {
	Heartbeat time.Duration // default 150 ms: a leader silent for this long is suspected
	Election  time.Duration // default 150 ms
	Lease     time.Duration // default 150 ms: a leader that hears no quorum for this long steps down
	Commit    time.Duration // default 1 s: how soon followers learn of what Raft itself committed; they hear of commands at once
}

// Config is what a log needs.
type Config struct {
	Node    jobs.NodeID
	Dir     string // directory of the log and its snapshots
	Existed bool   // the node has run before: that its log is gone is an error
	Network Network
	Timings Timings
	Logger  *slog.Logger
	// Fatal is called once, with what the operator should read, when the node
	// must stop: its log or snapshots cannot be written or read, or its ledger
	// differs from the others'.
	Fatal func(error)
	// Observe, if set, sees the ledger after every entry applied and every snapshot
	// restored here, one call at a time. It must keep nothing of it; what it changes
	// makes this replica differ from the others. For tests.
	Observe func(index uint64, s *jobs.State)
	// SnapshotEvery is the number of entries between snapshots, default 8192.
	SnapshotEvery uint64
}

// Errors that callers tell apart.
var (
	// ErrNoLeader means that no leader could be reached in time. Whether the
	// command happened is unknown; sending it again is safe.
	ErrNoLeader = errors.New("consensus: no leader with a quorum could be reached in time")
	// ErrForbidden means that the leader does not take the command from this node.
	ErrForbidden = errors.New("consensus: the leader does not take this command from this node")
	// ErrClosed means that this log is shut down.
	ErrClosed = errors.New("consensus: the log is closed")
)

const (
	maxSnapshots  = 2               // that are kept
	snapshotCheck = 5 * time.Second // how often it is seen whether one is due
)

// noPipeline has Raft send a follower the next entries when it has answered for the
// last ones. The library's pipeline can stop for good when a follower refuses entries,
// as after a partition: its sender then waits for a reader that has gone, the follower
// gets heartbeats but no entry any more, and Shutdown never returns (hashicorp/raft
// issue 612). Many commands travel in one entry here, so that it gained little.
const noPipeline = 1

// Log is one node's replica of the log, and the ledger that it gives.
type Log struct {
	cfg   Config
	raft  *raft.Raft
	store *store
	trans *beat
	votes *voteOrder // trans, as Raft sees it
	fsm   *fsm

	leader    *leader
	announcer *announcer
	forwards  *batcher // of what this node asks of another that leads

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	once  sync.Once
	cause atomic.Pointer[error] // why the node must stop, once it must
}

// Open starts the node's replica from what its directory holds.
func Open(cfg Config) (*Log, error) {
	cfg.Timings = cfg.Timings.withDefaults()
	if cfg.SnapshotEvery == 0 {
		cfg.SnapshotEvery = 8192
	}
	l := &Log{cfg: cfg}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.fsm = newFSM(l.fatal, cfg.Observe)
	l.leader, l.announcer, l.forwards = newLeader(l), newAnnouncer(l), newBatcher(l.forward)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		l.stop()
		return nil, fmt.Errorf("consensus: %w", err)
	}
	store, entries, err := openStore(filepath.Join(cfg.Dir, "log.db"), cfg.Existed, l.fatal)
	if err != nil {
		l.stop()
		return nil, err
	}
	l.store = store
	snapshots, err := openSnapshots(cfg, entries)
	if err != nil {
		l.stop()
		return nil, errors.Join(err, store.Close())
	}
	l.trans = &beat{log: l, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: streamLayer{Listener: cfg.Network.Raft(), log: l}, MaxPool: 3, Timeout: 2 * time.Second,
		MaxRPCsInFlight: noPipeline, Logger: hclogger(cfg.Logger),
	})}
	l.votes = newVoteOrder(l.trans)
	notify := make(chan bool, 16)
	err = guarded(cfg.Dir, func() (err error) {
		l.raft, err = raft.NewRaft(l.raftConfig(notify), l.fsm, store, store, fatalSnapshots{snapshots, cfg.Dir, l.fatal}, l.votes)
		return err
	})
	if cause := l.cause.Load(); cause != nil { // the library has words of its own for it, or an older snapshot
		if err = *cause; l.raft != nil {
			err = errors.Join(err, l.raft.Shutdown().Error())
		}
	}
	if err != nil {
		l.stop()
		return nil, errors.Join(openError(cfg.Dir, err), l.trans.Close(), store.Close())
	}
	store.began.Store(true)
	cfg.Network.AnswerRaft(l.trans.answer)
	l.wg.Go(func() { l.leader.run(notify) })
	l.wg.Go(func() { l.leader.entries.run(l.ctx) })
	l.wg.Go(func() { l.forwards.run(l.ctx) })
	l.wg.Go(l.serveForward)
	l.wg.Go(l.pace)
	return l, nil
}

func (t Timings) withDefaults() Timings {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Heartbeat, 150*time.Millisecond)
	set(&t.Election, 150*time.Millisecond)
	set(&t.Lease, 150*time.Millisecond)
	set(&t.Commit, time.Second)
	return t
}

func (l *Log) raftConfig(notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(l.cfg.Node.String())
	c.HeartbeatTimeout, c.ElectionTimeout = l.cfg.Timings.Heartbeat, l.cfg.Timings.Election
	c.LeaderLeaseTimeout, c.CommitTimeout = l.cfg.Timings.Lease, l.cfg.Timings.Commit
	c.MaxAppendEntries = 512
	c.BatchApplyCh = false // what its buffer holds when Raft stops is never answered
	c.SnapshotThreshold = l.cfg.SnapshotEvery
	c.TrailingLogs = l.cfg.SnapshotEvery
	c.SnapshotInterval = snapshotCheck
	c.NotifyCh = notify
	c.ShutdownOnRemove = false
	c.Logger = hclogger(l.cfg.Logger)
	return c
}

// snapshotsDir is where the Raft library keeps snapshots, below the log's directory.
const snapshotsDir = "snapshots"

// openSnapshots opens the snapshots, and checks that none is damaged and that no
// entry is missing behind the newest.
func openSnapshots(cfg Config, entries []uint64) (raft.SnapshotStore, error) {
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, maxSnapshots, hclogger(cfg.Logger))
	if err != nil {
		return nil, &DiskError{"opening the snapshots in", cfg.Dir, err}
	}
	newest, err := checkSnapshots(filepath.Join(cfg.Dir, snapshotsDir), snapshots)
	if err != nil {
		return nil, err
	}
	next := newest + 1
	for _, i := range entries {
		switch {
		case i > next:
			return nil, &DamagedError{cfg.Dir, fmt.Sprintf("the entries %d to %d are in no snapshot and not in the log", next, i-1)}
		case i == next:
			next++
		}
	}
	return snapshots, nil
}

// fatal reports what makes the node stop, once.
func (l *Log) fatal(err error) {
	l.once.Do(func() {
		l.cause.Store(&err)
		l.cfg.Logger.Error("the node stops", "err", err)
		if l.cfg.Fatal != nil {
			go l.cfg.Fatal(err) // the caller may be a goroutine that Close waits for
		}
	})
}

// Bootstrap makes this node the first voter of a new log. It fails when the
// directory holds a log already.
func (l *Log) Bootstrap() error {
	self := raft.Server{ID: raft.ServerID(l.cfg.Node.String()), Address: raft.ServerAddress(l.cfg.Node.String())}
	if err := l.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{self}}).Error(); err != nil {
		return fmt.Errorf("consensus: bootstrap: %w", err)
	}
	return nil
}

// View lets look read the ledger of this node, which may lag behind the
// leader's, and gives the log index that it shows. look must not keep what it
// sees by pointer, nor take a lock that somebody holds who calls View: where a
// change of the ledger waits between the two, none of the three goes on.
func (l *Log) View(look func(*jobs.State)) (index uint64) { return l.fsm.view(look) }

// Watch gives a channel that is closed when the ledger has changed since the
// given index. It is level-triggered: a caller that looks again misses nothing.
func (l *Log) Watch(index uint64) <-chan struct{} { return l.fsm.watch(index) }

// Applied is the index of the last entry that this node has applied.
func (l *Log) Applied() uint64 { return l.fsm.applied() }

// DigestAt gives the ledger's digest at an index that this node applied a short
// while ago; ok is false for older ones.
func (l *Log) DigestAt(index uint64) (d jobs.Digest, ok bool) { return l.fsm.digestAt(index) }

// Leading tells whether this node leads and has applied a barrier as leader,
// and in which term.
func (l *Log) Leading() (term uint64, ok bool) { return l.leader.ready() }

// LeadershipChanged gives a channel that is closed when Leading changes.
func (l *Log) LeadershipChanged() <-chan struct{} { return l.leader.changed() }

// restAfter is how long the ledger must have stood still before the mesh rests.
const restAfter = 5 * time.Second

// Resting tells whether the mesh has nothing to do: no job has work to give or under way,
// and this node has applied nothing for a while. It ends with an entry of the log.
func (l *Log) Resting() bool { return l.fsm.still() > restAfter }

// LogTime estimates the log time now: exact on the leader, elsewhere the last
// command's plus the time since it came.
func (l *Log) LogTime() jobs.Instant { return l.leader.logTime() }

// Leader is the id of the leader that this node knows of; ok is false without one.
func (l *Log) Leader() (id jobs.NodeID, ok bool) {
	_, server := l.raft.LeaderWithID()
	id, err := jobs.ParseNodeID(string(server))
	return id, err == nil
}

// Term is the Raft term that this node is in.
func (l *Log) Term() uint64 { return l.raft.CurrentTerm() }

// StepDown hands the leadership to another voter, for a planned stop. It does
// nothing on a follower or where there is no other voter.
func (l *Log) StepDown() error {
	if l.raft.State() != raft.Leader {
		return nil
	}
	voters := 0
	members, err := l.Members()
	for _, m := range members {
		if m.Voter {
			voters++
		}
	}
	if err != nil || voters < 2 {
		return err
	}
	return l.raft.LeadershipTransfer().Error()
}

// Close stops the replica and returns after its last goroutine.
func (l *Log) Close() error {
	l.stop()
	l.cfg.Network.AnswerRaft(nil)
	err := l.raft.Shutdown().Error()
	l.wg.Wait()
	return errors.Join(err, l.trans.Close(), l.store.Close())
}

// A Member is a node in the committed Raft configuration.
type Member struct {
	Node  jobs.NodeID
	Voter bool
}

// Members gives the committed Raft configuration.
func (l *Log) Members() ([]Member, error) {
	f := l.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("consensus: configuration: %w", err)
	}
	var all []Member
	for _, s := range f.Configuration().Servers {
		id, err := jobs.ParseNodeID(string(s.ID))
		if err != nil {
			return nil, err
		}
		all = append(all, Member{id, s.Suffrage == raft.Voter})
	}
	return all, nil
}

// changeTimeout bounds one change of the configuration.
const changeTimeout = 5 * time.Second

// AddVoter, AddFollower, Demote and RemoveMember change the Raft configuration.
// Only the leader can.
func (l *Log) AddVoter(id jobs.NodeID) error {
	l.votes.promoting(raft.ServerID(id.String()))
	err := l.reconfigure(l.raft.AddVoter(raft.ServerID(id.String()), raft.ServerAddress(id.String()), 0, changeTimeout))
	if err == nil { // otherwise the entry may be sent yet, in a later term
		l.votes.promoting("")
	}
	return err
}

// AddFollower adds a node that receives the log without a vote.
func (l *Log) AddFollower(id jobs.NodeID) error {
	return l.reconfigure(l.raft.AddNonvoter(raft.ServerID(id.String()), raft.ServerAddress(id.String()), 0, changeTimeout))
}

// Demote takes a node's vote away.
func (l *Log) Demote(id jobs.NodeID) error {
	return l.reconfigure(l.raft.DemoteVoter(raft.ServerID(id.String()), 0, changeTimeout))
}

// RemoveMember takes a node out of the configuration.
func (l *Log) RemoveMember(id jobs.NodeID) error {
	return l.reconfigure(l.raft.RemoveServer(raft.ServerID(id.String()), 0, changeTimeout))
}

func (l *Log) reconfigure(f raft.IndexFuture) error {
	if err := f.Error(); err != nil {
		return fmt.Errorf("consensus: change of members: %w", err)
	}
	return nil
}

// streamLayer lets Raft's transport speak over the node's network.
type streamLayer struct {
	net.Listener
	log *Log
}

func (s streamLayer) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.log.ctx, timeout)
	defer cancel()
	return s.log.cfg.Network.DialRaft(ctx, string(node))
}

func (s streamLayer) Addr() net.Addr { return nodeAddr(s.log.cfg.Node.String()) }

// nodeAddr is a node's id where Raft wants an address: connections are made to
// identities, wherever they live at the moment.
type nodeAddr string

func (nodeAddr) Network() string  { return "seedmesh" }
func (a nodeAddr) String() string { return string(a) }
