package node

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/kernels"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/slot"
)

// doubtful is an executor whose device passes, and fails at work, as a test says.
type doubtful struct {
	slot.Executor
	ready func(again bool) error
	fails *atomic.Int64 // tasks that fail from now on
	runs  *atomic.Int64
}

func (d doubtful) Ready(_ context.Context, again bool) error { return d.ready(again) }

func (d doubtful) Run(ctx context.Context, t slot.Task) (slot.Result, error) {
	d.runs.Add(1)
	if d.fails.Add(-1) >= 0 {
		return slot.Result{}, &slot.Error{Class: slot.Died, Message: "the process ended"}
	}
	return d.Executor.Run(ctx, t)
}

// TestProof has an accelerator's slot work only when its device passed, be tested
// again after each failure at work, and be quarantined when that does not help.
func TestProof(t *testing.T) {
	for name, tt := range map[string]struct {
		unfit func(again bool) error // nil for none
		fails int64
		again int64  // tests after failures
		why   string // of the quarantine; empty for none
	}{
		"passes":                       {nil, 0, 0, ""},
		"no device":                    {func(bool) error { return &slot.Error{Class: slot.NotStarted, Message: "no driver"} }, 0, 0, "no driver"},
		"fails once":                   {nil, 1, 1, ""},
		"fails at work and then tests": {func(again bool) error { return failIf(again) }, 1, 1, "does not pass"},
		"keeps failing":                {nil, 100, maxRelapses - 1, "the process ended"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var again, fails, runs atomic.Int64
				fails.Store(tt.fails)
				ready := func(now bool) error {
					if now {
						again.Add(1)
					}
					if tt.unfit == nil {
						return nil
					}
					return tt.unfit(now)
				}
				n := aloneOn(t, SlotConfig{Device: kernels.CUDA, SimRate: 20_000}, func(e slot.Executor) slot.Executor {
					return doubtful{e, ready, &fails, &runs}
				})
				submitLong(t, n)
				if tt.why == "" {
					until(t, "search", func() bool { return runs.Load() > tt.fails })
				} else {
					until(t, "quarantine", func() bool { return strings.Contains(quarantineOf(n), tt.why) })
					before := runs.Load()
					time.Sleep(time.Minute) // of fake time
					if runs.Load() != before {
						t.Error("a quarantined slot works")
					}
				}
				if q := quarantineOf(n); tt.why == "" && q != "" || again.Load() != tt.again {
					t.Errorf("quarantined for %q after %d more tests, want %q after %d", q, again.Load(), tt.why, tt.again)
				}
				if tt.fails == 0 && tt.why != "" && runs.Load() > 0 {
					t.Error("a slot without a device was given work")
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
			})
		})
	}
}

// TestRelease has slots quarantined by the mesh and by a person, on an accelerator and on
// a CPU: each works after a release once its device has passed again, and not before.
func TestRelease(t *testing.T) {
	for name, tt := range map[string]struct {
		device string
		person bool
	}{
		"by the mesh":          {kernels.CUDA, false},
		"by a person":          {kernels.CUDA, true},
		"a CPU's, by a person": {"cpu", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var broken atomic.Bool
				var again, fails, runs atomic.Int64
				broken.Store(!tt.person)
				ready := func(now bool) error {
					if now {
						again.Add(1)
					}
					return failIf(broken.Load())
				}
				n := aloneOn(t, SlotConfig{Device: tt.device, SimRate: 20_000}, func(e slot.Executor) slot.Executor {
					return doubtful{e, ready, &fails, &runs}
				})
				control := func(release bool) {
					t.Helper()
					_, err := n.API().ControlGpu(t.Context(), connect.NewRequest(&v1.ControlGpuRequest{Node: "n1", Gpu: "0", Release: release, Reason: "loud"}))
					if err != nil {
						t.Fatal(err)
					}
				}
				until(t, "slot", func() bool {
					return tt.person && quarantineOf(n) == "" || strings.Contains(quarantineOf(n), "does not pass")
				})
				if tt.person {
					until(t, "announcement", func() bool { return n.greeted() })
					control(false)
				}
				submitLong(t, n)
				broken.Store(true)
				control(true)
				until(t, "quarantine of what does not pass", func() bool { return again.Load() == 1 && strings.Contains(quarantineOf(n), "does not pass") })
				if runs.Load() != 0 {
					t.Errorf("%d searches before it has passed, want none", runs.Load())
				}
				broken.Store(false)
				control(true)
				until(t, "search", func() bool { return runs.Load() > 0 })
				if q := quarantineOf(n); q != "" || again.Load() != 2 {
					t.Errorf("it works in quarantine %q, after %d tests", q, again.Load())
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute) // of fake time, as above
			})
		})
	}
}

// TestQuarantineOverAStart has the mesh quarantine a slot whose node is then started anew: it
// works again when its device has passed once more, and not when it doesn't.
func TestQuarantineOverAStart(t *testing.T) {
	for name, sound := range map[string]bool{"a sound device": true, "one that does not pass": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var broken atomic.Bool
				var again, fails, runs atomic.Int64
				cpu := SlotConfig{Device: "cpu", SimRate: 20_000}
				wrap := func(e slot.Executor) slot.Executor {
					return doubtful{e, func(now bool) error {
						if now {
							again.Add(1)
						}
						return failIf(now && broken.Load())
					}, &fails, &runs}
				}
				n := aloneOn(t, cpu, wrap)
				until(t, "announcement", func() bool { return n.greeted() })
				id := jobs.SlotID{Node: n.id}
				o, err := n.propose(t.Context(), &jobs.Quarantine{Node: n.id, Incarnation: n.incarnationNow(), Slot: id, Life: n.incarnationNow(), Reason: "it lies"})
				if err != nil || o.Err() != nil {
					t.Fatal(err, o.Err())
				}
				if err := n.renew(); err != nil { // as a node that was expired
					t.Fatal(err)
				}
				submitLong(t, n)
				time.Sleep(time.Minute) // of fake time
				if quarantineOf(n) != "it lies" || again.Load()+runs.Load() != 0 {
					t.Errorf("after its return it is quarantined for %q, was tested %d times and ran %d", quarantineOf(n), again.Load(), runs.Load())
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
				broken.Store(!sound)
				n = openAlone(t, n.dir.path, cpu, wrap)
				if sound {
					until(t, "search", func() bool { return runs.Load() > 0 })
				} else {
					until(t, "test", func() bool { return again.Load() > 0 })
					time.Sleep(time.Minute) // of fake time
				}
				if again.Load() != 1 || (quarantineOf(n) == "") != sound || (runs.Load() > 0) != sound {
					t.Errorf("after %d tests it is quarantined for %q, and ran %d pieces", again.Load(), quarantineOf(n), runs.Load())
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute) // of fake time, as above
			})
		})
	}
}

// greeted tells whether the ledger has the node's slots.
func (n *Node) greeted() (yes bool) {
	n.log.View(func(s *jobs.State) {
		m := s.Node(n.id)
		yes = m != nil && len(m.Slots) > 0
	})
	return yes
}

// A named executor is on an accelerator that says what reaches it.
type named struct{ slot.Executor }

func (named) About() slot.About { return slot.About{Driver: "shim 0; embedded PTX, NVRTC missing"} }

// TestAcceleratorIsShown has a node say what reaches its slot's device, and a plan
// say which searches that leaves to the CPU.
func TestAcceleratorIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := aloneOn(t, SlotConfig{Device: kernels.CUDA, SimRate: 20_000}, func(e slot.Executor) slot.Executor { return named{e} })
		until(t, "slot in the ledger", func() bool {
			r, err := n.API().Node(t.Context(), connect.NewRequest(&v1.NodeRequest{}))
			return err == nil && len(r.Msg.Slots) == 1 && r.Msg.Slots[0].Driver == named{}.About().Driver
		})
		spec := kernels.Spec{Generators: []string{"xorshift32", "glibc_rand"}, Draws: []kernels.Draw{{Value: 7, Known: true}}, Observe: "mod:1000", MinMatches: 1}
		r, err := n.API().Plan(t.Context(), connect.NewRequest(&v1.SubmitRequest{Spec: spec.Encode(), Last: 1000}))
		if err != nil || len(r.Msg.Slots) != 1 || !strings.HasPrefix(r.Msg.Slots[0].Note, "glibc_rand on one thread of the CPU: no kernel") || strings.Contains(r.Msg.Slots[0].Note, "xorshift32 on") {
			t.Errorf("Plan = %v, %v", r, err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // of fake time: what memberlist began before its shutdown ends by time-outs
	})
}

func failIf(again bool) error {
	if again {
		return &slot.Error{Class: slot.NotStarted, Message: "it does not pass"}
	}
	return nil
}

// quarantineOf is why the node's slot is quarantined, or "".
func quarantineOf(n *Node) (reason string) {
	n.log.View(func(s *jobs.State) {
		if m := s.Node(n.id); m != nil && len(m.Slots) == 1 {
			if why, yes := m.Slots[0].Quarantined(); yes {
				reason = why
			}
		}
	})
	return reason
}
