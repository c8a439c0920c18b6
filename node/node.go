// Package node is one running member of the mesh: it composes the transport,
// the gossip, the replicated log, the slots, the results and the API, and owns
// every goroutine of theirs.
//
// Read node.go for how a node is put together, worker.go for how a slot works,
// results.go for how results are kept, session.go and overseer.go for how the
// leader knows who is there, join.go and admit.go for how members come.
package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"seedmesh/consensus"
	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/blob"
	"seedmesh/node/host"
	"seedmesh/node/slot"
	"seedmesh/transport"
)

// The kinds of stream between nodes.
const (
	kindGossip  transport.Kind = "seedmesh-gossip/1"
	kindRaft    transport.Kind = "seedmesh-raft/1"
	kindForward transport.Kind = "seedmesh-forward/1"
	kindSession transport.Kind = "seedmesh-session/1"
	kindBlob    transport.Kind = "seedmesh-blob/1"
	kindWords   transport.Kind = "seedmesh-words/1"
	kindCheck   transport.Kind = "seedmesh-check/1"
	kindAdmit   transport.Kind = "seedmesh-admit/1"
	kindFacts   transport.Kind = "seedmesh-facts/1"
)

// Version is the program's version, set when it is built.
var Version = "dev"

// Seams replace what tests cannot have for real.
type Seams struct {
	PacketConn net.PacketConn                                   // instead of a UDP socket
	Executor   func(i int, c SlotConfig) (slot.Executor, error) // instead of processes
	NoSocket   bool                                             // no unix socket
	DialFrom   func(transport.Kind) net.PacketConn              // sockets to dial from, by kind, instead of PacketConn
	Clock      func() time.Time                                 // wall clock, instead of time.Now
	Observe    func(index uint64, s *jobs.State)                // sees the ledger after every entry applied here
	Machine    *host.Watch                                      // instead of this machine

}

// Node is a running member.
type Node struct {
	cfg       Config
	dir       *dataDir
	id        jobs.NodeID
	advertise string
	ep        *transport.Endpoint
	log       *consensus.Log
	gossip    *gossip
	store     *blob.Store
	session   *session
	overseer  *overseer
	workers   []*worker
	pinned    pins
	site      *site
	machine   *machine
	lists     lists
	shelf     *shelf // of keepPreloads, once the node is open

	gate        sync.Mutex // passed by every start of an attempt and every reading of what is applied for a ping
	incarnation uint64     // guarded by gate

	full  atomic.Int64 // until when the disk is held for full, in Unix nanoseconds
	book  addressBook
	begun chan struct{} // closed when the log has the cluster's first entries

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	failed chan struct{}
	err    error // valid once failed is closed
	close  []func() error
}

// Open starts a node from its data directory. It returns when the node listens;
// it may still be catching up.
func Open(c Config) (_ *Node, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	d, err := openDataDir(c.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: c, dir: d, failed: make(chan struct{}), begun: make(chan struct{}), pinned: pins{held: map[jobs.Digest]int{}}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.later(d.close)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.id, err = jobs.ParseNodeID(d.Node); err != nil {
		return nil, err
	}
	n.cfg.Logger = c.Logger.With("node", d.Name)
	for _, start := range []func() error{n.openStore, n.openEndpoint, n.openLog, n.openGossip, n.openMachine, n.openSite, n.openShelf, n.openSlots, n.begin, n.openAPI} {
		if err := start(); err != nil {
			return nil, err
		}
	}
	n.cfg.Logger.Info("node is up", "id", n.id, "listen", n.advertise, "slots", len(n.workers))
	return n, nil
}

// wallClock tells the time of day, which decides tokens and certificates and
// nothing else.
func (n *Node) wallClock() time.Time {
	if n.cfg.Seams.Clock != nil {
		return n.cfg.Seams.Clock()
	}
	return time.Now()
}

func (n *Node) later(f func() error) { n.close = append(n.close, f) }

// goDo runs f in a goroutine that Close waits for.
func (n *Node) goDo(f func()) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		f()
	}()
}

func (n *Node) openStore() (err error) {
	n.store, err = blob.Open(filepath.Join(n.dir.path, "blobs"))
	return err
}

func (n *Node) openEndpoint() error {
	creds, err := n.dir.credentials()
	if err != nil {
		return err
	}
	listen := n.dir.Listen
	if n.cfg.Node.Listen != "" {
		listen = n.cfg.Node.Listen
	}
	n.advertise = listen
	if n.cfg.Node.Advertise != "" {
		n.advertise = n.cfg.Node.Advertise
	}
	conn := n.cfg.Seams.PacketConn
	if conn == nil {
		addr, err := net.ResolveUDPAddr("udp", listen)
		if err != nil {
			return &ListenError{listen, err}
		}
		udp, err := net.ListenUDP("udp", addr)
		if err != nil {
			return &ListenError{listen, err}
		}
		conn = udp
	}
	n.ep, err = transport.Open(transport.Config{
		Conn: conn, Identity: creds, ResetKey: sha256.Sum256(append([]byte("reset"), n.dir.Secret...)), Logger: n.cfg.Logger,
		Kinds:  []transport.Kind{kindGossip, kindRaft, kindForward, kindSession, kindBlob, kindWords, kindCheck, kindAdmit, kindFacts, transport.KindHTTP3},
		Roles:  streamRoles,
		Refuse: n.refuses, DialFrom: n.cfg.Seams.DialFrom, Time: n.cfg.Seams.Clock,
	})
	if err != nil {
		return err
	}
	n.later(n.ep.Close)
	return nil
}

// streamRoles says who may open streams of which kind: members the mesh's own,
// voters those of the log. Clients have HTTP/3 alone.
var streamRoles = map[transport.Kind][]string{
	kindRaft:    {transport.RoleVoter},
	kindGossip:  {transport.RoleVoter, transport.RoleWorker},
	kindForward: {transport.RoleVoter, transport.RoleWorker},
	kindSession: {transport.RoleVoter, transport.RoleWorker},
	kindBlob:    {transport.RoleVoter, transport.RoleWorker},
	kindWords:   {transport.RoleVoter, transport.RoleWorker},
	kindCheck:   {transport.RoleVoter, transport.RoleWorker},
	kindAdmit:   {transport.RoleVoter, transport.RoleWorker},
	kindFacts:   {transport.RoleVoter, transport.RoleWorker},
}

// ListenError says that the node's port cannot be had.
type ListenError struct {
	Addr string
	Err  error
}

func (e *ListenError) Error() string {
	var system *os.SyscallError
	if errors.As(e.Err, &system) {
		return fmt.Sprintf("cannot listen on %s: %v", e.Addr, system.Err)
	}
	return fmt.Sprintf("cannot listen on %s: %v", e.Addr, e.Err)
}

// Unwrap gives the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// Remedy says what to do about it.
func (e *ListenError) Remedy() string {
	return "is another seedmesh running there (ss -ulpn)? choose another port with --listen HOST:PORT"
}

// refuses tells whether a peer, whatever its certificate says, is a member no more.
func (n *Node) refuses(id string) bool {
	if n.log == nil {
		return false
	}
	known, members := true, 0
	n.log.View(func(s *jobs.State) {
		node, err := jobs.ParseNodeID(id)
		members = len(s.Nodes())
		known = err == nil && s.Node(node) != nil
	})
	return members > 0 && !known && n.session != nil && n.session.fresh()
}

// logNetwork is the log's view of the transport.
type logNetwork struct{ n *Node }

func (l logNetwork) Raft() net.Listener    { return l.n.ep.Listen(kindRaft) }
func (l logNetwork) Forward() net.Listener { return l.n.ep.Listen(kindForward) }
func (l logNetwork) PeerOf(c net.Conn) string {
	if conn, ok := c.(*transport.Conn); ok {
		return conn.Peer().ID
	}
	return ""
}

func (l logNetwork) DialRaft(ctx context.Context, id string) (net.Conn, error) {
	return l.n.dial(ctx, kindRaft, id)
}

func (l logNetwork) DialForward(ctx context.Context, id string) (net.Conn, error) {
	return l.n.dial(ctx, kindForward, id)
}

func (l logNetwork) AskRaft(ctx context.Context, id string, question []byte) ([]byte, error) {
	addr, known := l.n.resolve(id)
	if !known {
		return nil, fmt.Errorf("the address of node %s is not known", id)
	}
	return l.n.ep.Ask(ctx, kindRaft, transport.Peer{ID: id, Addr: addr}, question)
}

func (l logNetwork) AnswerRaft(answer func(string, []byte) []byte) {
	l.n.ep.Answer(kindRaft, answer)
}

// dial opens a stream to a member, wherever it lives now.
func (n *Node) dial(ctx context.Context, kind transport.Kind, id string) (net.Conn, error) {
	addr, known := n.resolve(id)
	if !known {
		return nil, fmt.Errorf("the address of node %s is not known", id)
	}
	return n.ep.Dial(ctx, kind, transport.Peer{ID: id, Addr: addr})
}

func (n *Node) openLog() (err error) {
	t := n.cfg.Raft
	existed, err := n.dir.has(incarnationFile)
	if err != nil {
		return err
	}
	n.log, err = consensus.Open(consensus.Config{
		Node: n.id, Dir: filepath.Join(n.dir.path, "raft"), Existed: existed, Network: logNetwork{n}, Logger: n.cfg.Logger, Fatal: n.fatal,
		Observe: n.cfg.Seams.Observe,
		Timings: consensus.Timings{
			Heartbeat: time.Duration(t.Heartbeat), Election: time.Duration(t.Election),
			Lease: time.Duration(t.Lease), Commit: time.Duration(t.Commit),
		},
		SnapshotEvery: uint64(t.SnapshotEvery),
	})
	if err != nil {
		return err
	}
	n.later(n.log.Close)
	return n.checkAuthority()
}

// checkAuthority demands the CA's key of a voter, which was given it before the vote: a
// leader without it could admit nobody, and give no votes.
func (n *Node) checkAuthority() error {
	_, err := n.dir.authority()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begins, err := n.dir.has(genesisFile)
	if err != nil {
		return err
	}
	members, err := n.log.Members()
	if err != nil {
		return err
	}
	if begins || slices.Contains(members, consensus.Member{Node: n.id, Voter: true}) {
		return n.dir.damaged(caKeyFile, fs.ErrNotExist)
	}
	return nil
}

func (n *Node) openGossip() (err error) {
	if err := n.book.load(n.dir); err != nil {
		return err
	}
	n.gossip, err = startGossip(n.ep, &n.dir.identity, n.cfg, n.advertise, n.gossipNews)
	if err != nil {
		return err
	}
	n.later(n.gossip.close)
	return nil
}

// gossipNews keeps the address book and closes connections to the dead.
func (n *Node) gossipNews(id, addr string, alive bool) {
	if !alive {
		n.ep.Forget(id)
		return
	}
	if err := n.book.learn(n.dir, address{Node: id, Addr: addr}); err != nil {
		n.fatal(fmt.Errorf("the address book cannot be written: %w", err))
	}
}

func (n *Node) openSlots() error {
	newExecutor := n.cfg.Seams.Executor
	if newExecutor == nil {
		newExecutor = n.processExecutor()
	}
	for i, c := range n.cfg.slots() {
		exec, err := newExecutor(i, c)
		if err != nil {
			return fmt.Errorf("slot %d: %w", i, err)
		}
		n.later(exec.Close)
		if err := n.site.clear(uint32(i)); err != nil {
			n.cfg.Logger.Warn("what an earlier life of this node ran is not cleared away", "slot", i, "err", err)
		}
		n.workers = append(n.workers, &worker{
			n: n, id: jobs.SlotID{Node: n.id, Index: uint32(i)}, exec: exec, settled: map[uint64]time.Time{}, checks: make(chan *recheck),
			proof: newProof(c.Device),
		})
	}
	return nil
}

// startsAtOnce is how many executors of a node start at the same time.
const startsAtOnce = 2

func (n *Node) processExecutor() func(int, SlotConfig) (slot.Executor, error) {
	tokens := make(chan struct{}, startsAtOnce)
	return func(i int, c SlotConfig) (slot.Executor, error) {
		dir := filepath.Join(n.dir.path, "slots", fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		return slot.NewProcess(slot.Config{
			Index: i, Device: c.Device, Threads: c.Threads, Sim: kernels.SimConfig{Rate: c.SimRate},
			Accelerator: kernels.AcceleratorConfig{
				Number: c.Number, Libraries: c.Libraries, Programs: filepath.Join(n.dir.path, "programs"), MemoryFraction: n.cfg.Node.MemoryFraction,
			},
			GFX: c.GFX, Shared: c.Shared,
			StartToken: tokens, Logger: n.cfg.Logger, Dir: dir,
		})
	}
}

// begin starts the node's own goroutines.
func (n *Node) begin() error {
	n.session, n.overseer = &session{n: n, began: time.Now()}, newOverseer(n)
	incarnation, err := n.dir.nextIncarnation()
	if err != nil {
		return err
	}
	n.incarnation = incarnation
	if err := n.bootstrap(); err != nil {
		return err
	}
	n.ep.ServeJoin(n.serveJoin)
	for _, loop := range []func(context.Context){
		n.session.run, n.overseer.run, n.serveSessions, n.serveBlobs, n.serveWords, n.serveChecks, n.serveAdmit, n.serveFacts, n.machine.run, n.announce, n.upkeep, n.findMembers, n.runGraphs, n.keepPreloads, n.tellRest,
	} {
		n.goDo(func() { loop(n.ctx) })
	}
	for _, w := range n.workers {
		n.goDo(func() { w.run(n.ctx) })
	}
	return nil
}

// bootstrap begins the log of a new cluster: its first voter, the first member
// and the join token. It is done again, without harm, until it is done.
func (n *Node) bootstrap() error {
	var g genesis
	if err := n.dir.readJSON(genesisFile, &g); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			close(n.begun)
			return nil
		}
		return err
	}
	if members, err := n.log.Members(); err != nil {
		return err
	} else if len(members) == 0 {
		if err := n.log.Bootstrap(); err != nil {
			return err
		}
	}
	first := &jobs.Admit{Node: n.id, Name: n.dir.Name, Role: jobs.Voter}
	token := &jobs.Mint{Token: jobs.Token{Hash: g.TokenHash, Role: jobs.Voter, ExpiresMS: g.ExpiresMS, Uses: g.Uses, CreatedFor: "init"}}
	n.goDo(func() {
		if _, err := n.propose(n.ctx, first); err != nil {
			return
		}
		if _, err := n.propose(n.ctx, token); err != nil {
			return
		}
		if err := n.dir.remove(genesisFile); err != nil {
			n.cfg.Logger.Warn("genesis stays", "err", err)
		}
		close(n.begun)
	})
	return nil
}

// announce says hello with every start, and again whenever the ledger holds this
// incarnation for over.
func (n *Node) announce(ctx context.Context) {
	for ctx.Err() == nil {
		index := n.log.Applied()
		var known, greeted, over bool
		incarnation := n.incarnationNow()
		n.log.View(func(s *jobs.State) {
			if me := s.Node(n.id); me != nil {
				known = true
				greeted = me.Alive && me.Incarnation == incarnation
				over = me.Incarnation > incarnation || me.Incarnation == incarnation && !me.Alive
			}
		})
		switch {
		case over:
			if err := n.renew(); err != nil {
				n.fatal(err)
				return
			}
			continue
		case known && !greeted:
			hello := &jobs.Hello{Node: n.id, Incarnation: incarnation, Addr: n.advertise, Version: Version}
			for i, c := range n.cfg.slots() {
				hello.Slots = append(hello.Slots, jobs.SlotSpec{Device: c.Device, Label: n.site.label(i)})
			}
			n.tell(ctx, hello)
		}
		select {
		case <-ctx.Done():
		case <-n.log.Watch(index):
		case <-time.After(n.pace(time.Second)):
		}
	}
}

// awaitGreeting waits until this node's ledger shows its present life, and with that all
// that it held before; false when ctx ends first.
func (n *Node) awaitGreeting(ctx context.Context) bool {
	for {
		index, greeted, incarnation := n.log.Applied(), false, n.incarnationNow()
		n.log.View(func(s *jobs.State) {
			m := s.Node(n.id)
			greeted = m != nil && m.Incarnation >= incarnation
		})
		if greeted {
			return true
		}
		select {
		case <-n.log.Watch(index):
		case <-ctx.Done():
			return false
		}
	}
}

// renew begins a new incarnation of a node that was expired while it ran.
func (n *Node) renew() error {
	incarnation, err := n.dir.nextIncarnation()
	if err != nil {
		return fmt.Errorf("the incarnation cannot be written: %w", err)
	}
	n.gate.Lock()
	n.incarnation = incarnation
	n.gate.Unlock()
	return nil
}

func (n *Node) incarnationNow() uint64 {
	n.gate.Lock()
	defer n.gate.Unlock()
	return n.incarnation
}

// findMembers looks for members that gossip does not see, from the address book, and
// whether they still take this node for one.
func (n *Node) findMembers(ctx context.Context) {
	for refused := false; ; {
		n.gossip.find(n.book.others(n.id.String()))
		refused = n.judgeRefusals(ctx, refused)
		if !pause(ctx, rejoinEvery) {
			return
		}
	}
}

// serve hands every stream of a kind to a goroutine until ctx ends.
func (n *Node) serve(ctx context.Context, kind transport.Kind, handle func(context.Context, *transport.Conn)) {
	lis := n.ep.Listen(kind)
	stop := context.AfterFunc(ctx, func() { _ = lis.Close() })
	defer stop()
	for {
		c, err := lis.Accept()
		if err != nil {
			return
		}
		conn := c.(*transport.Conn)
		n.goDo(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			handle(ctx, conn)
		})
	}
}

// tell makes a node's own command happen, however long it takes. What the ledger
// makes of it is seen in the ledger.
func (n *Node) tell(ctx context.Context, c jobs.Command) {
	o, err := n.propose(ctx, c)
	if err = errors.Join(err, o.Err()); err != nil {
		n.cfg.Logger.Debug("told in vain", "command", fmt.Sprintf("%T", c), "err", err)
	}
}

// propose makes a node's own command happen, however long it takes.
func (n *Node) propose(ctx context.Context, c jobs.Command) (jobs.Outcome, error) {
	o, _, err := n.log.Propose(ctx, jobs.Request{Command: c})
	return o, err
}

// proposeSoon is for commands whose need is seen again in the ledger if they
// fail. When it returns, this node's ledger shows what it did.
func (n *Node) proposeSoon(ctx context.Context, c jobs.Command) {
	ctx, cancel := context.WithTimeout(ctx, proposeWithin)
	defer cancel()
	_, index, err := n.log.Propose(ctx, jobs.Request{Command: c})
	if err == nil {
		err = n.log.WaitApplied(ctx, index)
	}
	if err != nil {
		n.cfg.Logger.Debug("not proposed", "command", fmt.Sprintf("%T", c), "err", err)
	}
}

// trim passes the leader's request to trim on to the slot that holds the claim.
func (n *Node) trim(fence uint64) {
	for _, w := range n.workers {
		n.goDo(func() { w.trim(n.ctx, fence) })
	}
}

// fatal stops the node because of an error that it cannot work with.
func (n *Node) fatal(err error) {
	n.once.Do(func() {
		n.err = err
		close(n.failed)
	})
}

// Failed gives a channel that is closed when the node cannot go on; Err says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

func (n *Node) hasFailed() bool {
	select {
	case <-n.failed:
		return true
	default:
		return false
	}
}

// Err is why the node failed. It is valid once Failed is closed.
func (n *Node) Err() error { return n.err }

// Close stops the node: it hands over the leadership, unless it failed, ends its
// slots, and returns after the last goroutine.
func (n *Node) Close() error {
	if n.log != nil && !n.hasFailed() {
		if err := n.log.StepDown(); err != nil {
			n.cfg.Logger.Debug("leadership not handed over", "err", err)
		}
	}
	n.cancel()
	var errs []error
	for i := len(n.close) - 1; i > 0; i-- {
		errs = append(errs, n.close[i]())
	}
	n.wg.Wait()
	return errors.Join(append(errs, n.close[0]())...) // the directory's lock goes last
}
