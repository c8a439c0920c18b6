package node

import (
	"strings"
	"testing"

	"seedmesh/jobs"
)

// TestWaitsForSlots names what no living node has that a job asks for.
func TestWaitsForSlots(t *testing.T) {
	s := jobs.NewState()
	do := func(c jobs.Command) jobs.Outcome {
		t.Helper()
		o := s.Apply(jobs.Entry{Requests: []jobs.Request{{Command: c}}})[0]
		if o.Refusal != nil {
			t.Fatalf("%+v: %s", c, o.Refusal.Text)
		}
		return o
	}
	label := map[string]string{"big": "label:fast,mib:4000", "small": "mib:600", "idle": jobs.SeedsOnly}
	ids := map[string]jobs.NodeID{"big": {1}, "small": {2}, "idle": {3}}
	token := jobs.Token{Hash: jobs.Digest{1}, Role: jobs.Voter, Uses: 9, ExpiresMS: 1}
	do(&jobs.Admit{Node: jobs.NodeID{9}, Name: "first", Role: jobs.Voter})
	do(&jobs.Mint{Token: token})
	for name, id := range ids {
		do(&jobs.Admit{Node: id, Name: name, Token: token.Hash})
		do(&jobs.Hello{Node: id, Incarnation: 1, Slots: []jobs.SlotSpec{{Device: "cpu", Label: label[name]}}})
	}
	submitted := func(n jobs.JobID, terms jobs.Terms) *jobs.Job {
		t.Helper()
		return s.Job(do(&jobs.SubmitTasks{
			Submit: jobs.Submit{ID: n, Kind: jobs.Tasks, Stages: []jobs.StageSpec{{Range: jobs.Range{Last: 9}, Grain: 1, Shape: "s"}}}, Terms: terms,
		}).Job)
	}
	var all []*jobs.Job
	for i, terms := range []jobs.Terms{{}, {Nodes: []string{"label:fast", "big"}}, {MemoryMiB: 1000}, {Nodes: []string{"big"}, MemoryMiB: 1000}} {
		all = append(all, submitted(jobs.JobID(i+1), terms))
	}
	hold := func(when string, want ...string) {
		t.Helper()
		for i, j := range all {
			if got := waits(s, j); got != want[i] {
				t.Errorf("%s, job %d waits %q, want %q", when, i+1, got, want[i])
			}
		}
	}
	hold("with all nodes", "", "", "", "")
	do(&jobs.Expire{Node: ids["big"], Incarnation: 1})
	const none = ": no node that is here now has one"
	hold("without the big one", "", "for a slot that suits --node label:fast or --node big"+none,
		"for a node that runs script jobs, with 1000 MiB of memory for a task"+none,
		"for a slot that suits --node big, with 1000 MiB of memory for a task"+none)
	do(&jobs.Expire{Node: ids["small"], Incarnation: 1})
	if got := waits(s, all[0]); !strings.HasPrefix(got, "for a node that runs script jobs"+none) {
		t.Errorf("where no node runs scripts, a job waits %q", got)
	}
	search := s.Job(do(&jobs.Submit{ID: 9, Kind: jobs.Seeds, Stages: []jobs.StageSpec{{Range: jobs.Range{Last: 9}, Grain: 1, Shape: "s"}}}).Job)
	if got := waits(s, search); got != "" {
		t.Errorf("a search waits %q for the slot that takes no tasks", got)
	}
	do(&jobs.Expire{Node: ids["idle"], Incarnation: 1})
	if got := waits(s, search); got != "for a slot"+none {
		t.Errorf("where there are no slots, a search waits %q", got)
	}
	do(&jobs.Control{Job: all[0].ID, Action: jobs.Pause})
	if got := waits(s, all[0]); got != "" {
		t.Errorf("a paused job waits %q", got)
	}
}
