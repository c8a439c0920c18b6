package bubble

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"seedmesh/jobs"
	"seedmesh/tests/faults"
	"seedmesh/transport/memnet"
)

// TestOldLeaderStillApplies runs the schedule of hashicorp/raft issue 695, in which
// logs diverged: a leader is parted from the others while clients write to it, and is
// healed while it still applies, before or after the others have a leader of their own.
// The record compares all ledgers at every index.
func TestOldLeaderStillApplies(t *testing.T) {
	rounds, each := 40, 5 // and how many of each kind of heal, at least
	if testing.Short() {
		rounds, each = 3, 1
	}
	const most = 80 // rounds; a search has seeds for 85
	inBubble(t, func(t *testing.T) {
		m := newMesh(t, 3, 3, options{})
		defer m.stop()
		r := rand.New(rand.NewPCG(rand.Uint64(), 0))
		landed := map[bool]int{}
		for round := 0; round < rounds || min(landed[false], landed[true]) < each; round++ {
			if round == most {
				t.Fatalf("in %d rounds, writes were under way on the old leader as it was healed before another was elected in %d, and after that in %d", round, landed[false], landed[true])
			}
			if applying, succeeded := m.healWhileApplying(r, round); applying {
				landed[succeeded]++
			}
		}
		m.sameLedgers()
		for succeeded, when := range map[bool]string{false: "before", true: "after"} {
			faults.Landed(t, faults.Bubble, "leader parted and healed while it still applies, "+when+" another was elected (raft issue 695)", "I2 I12", landed[succeeded])
		}
	})
}

// writePause is a client's pause between two writes.
const writePause = 10 * time.Millisecond

// healWhileApplying parts the leader for about as long as an election takes, on all
// planes or the log's alone, with four clients that write to it all the time. It tells
// whether the old leader was parted and had unacknowledged writes as it was healed, and
// whether the others had a leader of their own by then.
func (m *mesh) healWhileApplying(r *rand.Rand, round int) (applying, succeeded bool) {
	m.Helper()
	leader := m.leader()
	p := plane{}
	if r.IntN(2) == 0 {
		p = planeNamed("raft")
	}
	healed := make(chan struct{})
	var clients sync.WaitGroup
	var mu sync.Mutex // guards what follows
	var writes []*search
	inFlight := 0
	for c := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-healed:
					return
				default:
				}
				s := newSearch(round*12+c*3+n%3, 1) // the same again is the same write
				mu.Lock()
				inFlight++
				writes = append(writes, s)
				mu.Unlock()
				err := m.submit(leader, s, 30*time.Second)
				mu.Lock()
				inFlight--
				mu.Unlock()
				if err != nil {
					m.Error(err)
				}
				time.Sleep(writePause)
			}
		})
	}
	time.Sleep(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
	cut := m.net.Inject(memnet.Fault{Loss: 1}, m.paths(leader, p, true, true)...)
	time.Sleep(time.Duration(r.Int64N(int64(700 * time.Millisecond))))
	mu.Lock()
	waiting := inFlight
	mu.Unlock()
	successor := m.leads()
	cut.Lift()
	time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
	close(healed)
	clients.Wait()
	m.await("whole mesh", time.Minute, func() bool { return m.whole(len(m.lives), len(m.lives)) })
	m.once(writes...)
	m.sameLedgers()
	return cut.Effect().Lost > 0 && waiting > 0, successor >= 0 && successor != leader
}

// TestDivergenceIsSeen alters one node's ledger behind the log's back: the digests must
// give it away, in an alarm that every node's status shows.
func TestDivergenceIsSeen(t *testing.T) {
	for title, altersLeader := range map[string]bool{"a follower's ledger": false, "the leader's ledger": true} {
		t.Run(title, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				planted, victim := &sync.Once{}, make(chan int, 1)
				altered := make(chan struct{})
				bogus := jobs.Entry{Requests: []jobs.Request{{Command: &jobs.Submit{
					ID: 1, Kind: jobs.Seeds, Name: "bogus", Stages: []jobs.StageSpec{{Label: "x", Range: jobs.Range{Last: 9}, Grain: 1}},
				}}}}
				m := newMesh(t, 3, 3, options{diverges: true, observe: func(node int, _ uint64, s *jobs.State) {
					select {
					case i := <-victim:
						if i == node {
							planted.Do(func() { s.Apply(bogus); close(altered) })
							return
						}
						victim <- i
					default:
					}
				}})
				defer m.stop()
				leader := m.leader()
				i := (leader + 1) % 3
				if altersLeader {
					i = leader
				}
				victim <- i
				s := newSearch(0, 200_000)
				m.mustSubmit(leader, s) // what follows is applied on equal terms
				<-altered
				for k := range m.lives {
					m.await("alarm on "+name(k), 10*time.Second, func() bool {
						alarms := strings.Join(m.status(k).Alarms, "\n")
						return strings.Contains(alarms, "differs from the leader's")
					})
				}
				faults.Landed(t, faults.Bubble, "ledger altered behind the log's back", "I12", 1)
			})
		})
	}
}
