package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"seedmesh/consensus"
	"seedmesh/jobs"
	"seedmesh/transport"
)

const (
	kindRaft    transport.Kind = "seedmesh-raft/1"
	kindForward transport.Kind = "seedmesh-forward/1"
)

// replica is one voter: its log on its own disk directory, over a real socket.
type replica struct {
	id   jobs.NodeID
	ep   *transport.Endpoint
	log  *consensus.Log
	mesh *voters
}

// voters are three replicas in this process that speak QUIC over loopback.
type voters struct {
	tb  testing.TB
	all [3]*replica
}

func newVoters(tb testing.TB) *voters {
	tb.Helper()
	ca, err := transport.NewAuthority("bench")
	if err != nil {
		tb.Fatal(err)
	}
	v := &voters{tb: tb}
	for i := range v.all {
		v.all[i] = v.open(ca, i)
	}
	if err := v.all[0].log.Bootstrap(); err != nil {
		tb.Fatal(err)
	}
	for i, r := range v.all {
		v.propose(&jobs.Admit{Node: r.id, Name: fmt.Sprint("n", i), Role: jobs.Voter, Token: v.token(i)})
		v.propose(&jobs.Hello{Node: r.id, Incarnation: 1, Slots: make([]jobs.SlotSpec, jobs.MaxSlots)})
		for i > 0 && v.leader().log.AddVoter(r.id) != nil && tb.Context().Err() == nil {
			continue // a busy machine may change its leader
		}
	}
	return v
}

// leader waits for the replica that leads.
func (v *voters) leader() *replica {
	for v.tb.Context().Err() == nil {
		for _, r := range v.all {
			if _, leads := r.log.Leading(); leads {
				return r
			}
		}
		time.Sleep(time.Millisecond)
	}
	return v.all[0]
}

// token mints what a member beyond the first spends.
func (v *voters) token(i int) jobs.Digest {
	if i == 0 {
		return jobs.Digest{}
	}
	hash := jobs.Digest{byte(i)}
	v.propose(&jobs.Mint{Token: jobs.Token{Hash: hash, Role: jobs.Voter, ExpiresMS: 1 << 60, Uses: 1}})
	return hash
}

func (v *voters) open(ca *transport.Authority, i int) *replica {
	id := transport.NewID()
	node, err := jobs.ParseNodeID(id)
	if err != nil {
		v.tb.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		v.tb.Fatal(err)
	}
	ep, err := transport.Open(transport.Config{Conn: conn, Identity: identity(v.tb, ca, id), Kinds: []transport.Kind{kindRaft, kindForward}})
	if err != nil {
		v.tb.Fatal(err)
	}
	r := &replica{id: node, ep: ep, mesh: v}
	r.log, err = consensus.Open(consensus.Config{
		Node: node, Dir: filepath.Join(v.tb.TempDir(), fmt.Sprint(i)), Network: r, Logger: slog.New(slog.DiscardHandler),
		Fatal: func(err error) { v.tb.Error(err) },
	})
	if err != nil {
		v.tb.Fatal(err)
	}
	v.tb.Cleanup(func() {
		if err := r.log.Close(); err != nil {
			v.tb.Error(err)
		}
		if err := ep.Close(); err != nil {
			v.tb.Error(err)
		}
	})
	return r
}

func identity(tb testing.TB, ca *transport.Authority, id string) *transport.Identity {
	tb.Helper()
	key, err := transport.NewKey()
	if err != nil {
		tb.Fatal(err)
	}
	csr, err := transport.CertificateRequest(key, id)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := ca.Sign(csr, id, "voter", time.Hour)
	if err != nil {
		tb.Fatal(err)
	}
	identity, err := transport.NewIdentity(cert, key, ca.CertPEM())
	if err != nil {
		tb.Fatal(err)
	}
	return identity
}

// A replica is its log's network.

func (r *replica) Raft() net.Listener       { return r.ep.Listen(kindRaft) }
func (r *replica) Forward() net.Listener    { return r.ep.Listen(kindForward) }
func (r *replica) PeerOf(c net.Conn) string { return c.(*transport.Conn).Peer().ID }
func (r *replica) DialRaft(ctx context.Context, to string) (net.Conn, error) {
	return r.dial(ctx, kindRaft, to)
}

func (r *replica) DialForward(ctx context.Context, to string) (net.Conn, error) {
	return r.dial(ctx, kindForward, to)
}

func (r *replica) AskRaft(ctx context.Context, to string, question []byte) ([]byte, error) {
	for _, o := range r.mesh.all {
		if o != nil && o.id.String() == to {
			return r.ep.Ask(ctx, kindRaft, transport.Peer{ID: to, Addr: o.ep.Addr().String()}, question)
		}
	}
	return nil, fmt.Errorf("no replica %s", to)
}

func (r *replica) AnswerRaft(answer func(string, []byte) []byte) { r.ep.Answer(kindRaft, answer) }

func (r *replica) dial(ctx context.Context, kind transport.Kind, to string) (net.Conn, error) {
	for _, o := range r.mesh.all {
		if o != nil && o.id.String() == to {
			return r.ep.Dial(ctx, kind, transport.Peer{ID: to, Addr: o.ep.Addr().String()})
		}
	}
	return nil, fmt.Errorf("no replica %s", to)
}

func (v *voters) propose(c jobs.Command) jobs.Outcome { return proposeAt(v.tb, v.all[0], c) }

func proposeAt(tb testing.TB, r *replica, c jobs.Command) jobs.Outcome {
	o, index, err := r.log.Propose(tb.Context(), jobs.Request{Command: c})
	if err == nil {
		err = r.log.WaitApplied(tb.Context(), index)
	}
	if err != nil {
		tb.Error(err)
		runtime.Goexit()
	}
	return o
}

// submit adds a job over the whole 64-bit space.
func (v *voters) submit(id jobs.JobID) {
	v.tb.Helper()
	o := v.propose(&jobs.Submit{
		ID: id, Kind: jobs.Seeds, ChunkTimeMS: 1000,
		Stages: []jobs.StageSpec{{Label: "g", Range: jobs.Range{Last: 1<<64 - 1}, Grain: 1000, Shape: "s"}},
	})
	if o.Err() != nil {
		v.tb.Fatal(o.Err())
	}
}

// piece has a slot take the next piece of a job and finish it: the two
// commands that a chunk costs the mesh. As in a worker, the ledger tells what
// became of them, since an answer may be late and the command come twice.
func piece(tb testing.TB, r *replica, slot jobs.SlotID) {
	var held []jobs.Claim
	for len(held) == 0 && tb.Context().Err() == nil {
		proposeAt(tb, r, &jobs.Take{Slot: slot, Incarnation: 1, Want: 1})
		held = r.claims(slot)
	}
	for len(held) > 0 && tb.Context().Err() == nil {
		c := held[0]
		proposeAt(tb, r, &jobs.Finish{
			Fence: c.Fence, Node: slot.Node, Incarnation: 1, Last: c.Range.Last, Account: jobs.AccountOf(c.Range), BusyMS: 1000,
		})
		held = r.claims(slot)
	}
}

func (r *replica) claims(slot jobs.SlotID) (held []jobs.Claim) {
	r.log.View(func(s *jobs.State) { held = s.Claims(slot) })
	return held
}

// BenchmarkPieces is the control cost of a piece on three voters with fsync, under
// load, so that many commands share an entry: its claim and its finish. Slots of
// the leader propose in place, those of a follower through the leader.
func BenchmarkPieces(b *testing.B) {
	for _, from := range []string{"leader", "follower"} {
		b.Run(from, func(b *testing.B) {
			v := newVoters(b)
			v.submit(1)
			r := v.leader()
			if from == "follower" {
				r = v.all[(slices.Index(v.all[:], r)+1)%len(v.all)]
			}
			const atOnce = jobs.MaxSlots
			var next atomic.Uint32
			b.SetParallelism(atOnce / runtime.GOMAXPROCS(0))
			b.ResetTimer()
			cpu := cpuTime(b)
			b.RunParallel(func(pb *testing.PB) {
				slot := jobs.SlotID{Node: r.id, Index: next.Add(1) - 1}
				for pb.Next() {
					piece(b, r, slot)
				}
			})
			b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/piece")
			b.ReportMetric((cpuTime(b)-cpu).Seconds()*1000/float64(b.N), "cpu-ms/piece")
		})
	}
}

// BenchmarkCommit is one command at a time on three voters with fsync.
func BenchmarkCommit(b *testing.B) {
	v := newVoters(b)
	v.submit(1)
	for i := 0; b.Loop(); i++ {
		v.propose(&jobs.Control{Job: 1, Action: jobs.SetPriority, Priority: int32(i)})
	}
}

// cpuTime is what this process has used of the cores, which other work on the
// machine does not change much.
func cpuTime(tb testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
