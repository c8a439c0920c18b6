package jobs

import (
	"fmt"
	"testing"
)

func weights(edit ...func(*PutPreload)) *PutPreload {
	c := &PutPreload{Name: "weights", Path: "/dev/shm/seedmesh/w", To: "all", Files: []PreloadFile{{"a", Digest{1}, 7, false}}, Holders: []NodeID{node(1)}}
	for _, e := range edit {
		e(c)
	}
	return c
}

// TestRequiredPreload gives a job's tasks to nodes only on which its preload is ready,
// and takes them from there again when it is not.
func TestRequiredPreload(t *testing.T) {
	l := newLedger(t, 1, 1)
	requiring := &SubmitRequiring{
		SubmitTasks: SubmitTasks{Submit: Submit{ID: 5, Key: "k", Kind: Tasks, Stages: []StageSpec{{Range: Range{0, 99}, Grain: 1}}}}, Preloads: []string{"weights"},
	}
	if o := l.do(requiring); o.Refusal == nil || o.Refusal.Code != UnknownPreload {
		t.Fatalf("a preload that nobody knows: %+v", o)
	}
	l.must(weights(func(c *PutPreload) { c.To = "n1" }))
	l.must(requiring)
	l.must(requiring) // under its key
	offered := func(want ...bool) {
		t.Helper()
		for i, w := range want {
			if got := l.Offer(slot(i+1, 0), 1, l.at); got != w {
				t.Errorf("node %d is offered tasks: %t, want %t", i+1, got, w)
			}
		}
	}
	said := func(n int, incarnation, round uint64, ready bool) Command {
		return &Report{"weights", Load{Node: node(n), Incarnation: incarnation, Round: round, Ready: ready}}
	}
	offered(false, false)
	l.must(said(1, 1, 1, true))
	l.must(said(2, 1, 1, true)) // it was not chosen
	name := l.Node(node(1)).Name
	offered(name == "n1", l.Node(node(2)).Name == "n1")
	l.must(&DropPreload{"weights"})
	offered(false, false)
	l.must(weights())
	offered(false, false)
	l.must(said(1, 1, 1, true))
	offered(true, false)
	l.must(said(1, 1, 1, false))
	offered(false, false)
	l.must(said(1, 1, 1, true))
	l.must(&Hello{Node: node(1), Incarnation: 2, Slots: make([]SlotSpec, 1)}) // started again: its RAM disk may be empty
	offered(false, false)
	if o := l.do(said(1, 1, 1, true)); o.Refusal == nil || o.Refusal.Code != StaleIncarnation {
		t.Errorf("an earlier life says %+v", o)
	}
	l.must(said(1, 2, 1, true))
	offered(true, false)
	l.must(&Control{Job: 5, Action: Cancel})
	l.must(&Control{Job: 5, Action: Remove})
	if len(l.required) > 0 {
		t.Error("the requirements of a job outlive it")
	}
	if err := l.sound(); err != nil {
		t.Error(err)
	}
}

// TestPreloadsAreWhole refuses what no node could keep, or what is somebody else's.
func TestPreloadsAreWhole(t *testing.T) {
	l := newLedger(t, 1)
	l.must(weights())
	l.must(weights(func(c *PutPreload) { c.Holders = nil })) // the same
	for name, tt := range map[string]struct {
		edit func(*PutPreload)
		code Code
	}{
		"another under its name":   {func(c *PutPreload) { c.Files[0].Digest = Digest{9} }, NameTaken},
		"another directory":        {func(c *PutPreload) { c.Path = "/x" }, NameTaken},
		"its directory":            {func(c *PutPreload) { c.Name = "other" }, NameTaken},
		"no name":                  {func(c *PutPreload) { c.Name = "" }, Invalid},
		"a name with a slash":      {func(c *PutPreload) { c.Name = "a/b" }, Invalid},
		"a path upwards":           {func(c *PutPreload) { c.Path = "../x" }, Invalid},
		"a path that is not clean": {func(c *PutPreload) { c.Path = "/dev/shm/../../etc" }, Invalid},
		"no files":                 {func(c *PutPreload) { c.Files = nil }, Limit},
		"the marker":               {func(c *PutPreload) { c.Name, c.Files[0].Name = "z", ".ready" }, Invalid},
		"a file elsewhere":         {func(c *PutPreload) { c.Name, c.Files[0].Name = "z", "a/b" }, Invalid},
		"a file twice":             {func(c *PutPreload) { c.Name, c.Files = "z", append(c.Files, c.Files[0]) }, Invalid},
		"for nobody":               {func(c *PutPreload) { c.Name, c.To = "z", "" }, Invalid},
	} {
		if o := l.do(weights(tt.edit)); o.Refusal == nil || o.Refusal.Code != tt.code {
			t.Errorf("%s: %+v, want refusal %d", name, o, tt.code)
		}
	}
	for i := 1; i <= MaxPreloads; i++ {
		o := l.do(weights(func(c *PutPreload) { c.Name, c.Path = fmt.Sprint(i), fmt.Sprintf("/x/%d", i) }))
		if (o.Refusal != nil) != (i == MaxPreloads) {
			t.Fatalf("preload %d: %+v", i+1, o)
		}
	}
	if o := l.do(&Report{"weights", Load{Node: node(1), Incarnation: 1, Round: 2}}); o.Refusal == nil || o.Refusal.Code != Invalid {
		t.Errorf("a round that was not asked for: %+v", o)
	}
	l.must(&CheckPreload{"weights"})
	l.must(&Report{"weights", Load{Node: node(1), Incarnation: 1, Round: 2}})
	for _, c := range []Command{&CheckPreload{"nobody"}, &DropPreload{"nobody"}, &Report{Name: "nobody", Load: Load{Node: node(1), Incarnation: 1}}} {
		if o := l.do(c); o.Refusal == nil || o.Refusal.Code != UnknownPreload {
			t.Errorf("%T of nothing: %+v", c, o)
		}
	}
}

func TestNodeIs(t *testing.T) {
	n := &Node{Name: "rig", Slots: []*Slot{{Label: "vendor:amd,label:rack=2"}, {Label: ""}}}
	for to, want := range map[string]bool{
		"all": true, "rig": true, "other": false, "other,rig": true, "vendor:amd": true, "vendor:nvidia": false, "label:rack=2": true, "label:rack": false, "": false, ",": false,
	} {
		if n.Is(to) != want {
			t.Errorf("Is(%q) = %t", to, !want)
		}
	}
}
