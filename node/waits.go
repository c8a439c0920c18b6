package node

import (
	"fmt"
	"strings"

	"seedmesh/jobs"
)

// waits says in words what keeps a job from being given to any slot: jobs that it follows,
// slots that suit it, or preloads that it requires. It is empty when nothing does.
func waits(st *jobs.State, j *jobs.Job) string {
	if j.State.Terminal() || j.State == jobs.Paused {
		return ""
	}
	if text := waitsForJobs(st, j); text != "" {
		return text
	}
	suits, supplied := suiting(st, j)
	switch {
	case len(suits) == 0:
		return "for " + waitsForSlots(j)
	case !supplied:
		return waitsForPreloads(st, j, suits)
	}
	return ""
}

// waitsForSlots says what a node would have to have.
func waitsForSlots(j *jobs.Job) string {
	what := "a node that runs script jobs"
	if j.Kind != jobs.Tasks {
		what = "a slot"
	}
	if len(j.Nodes) > 0 {
		what = "a slot that suits --node " + strings.Join(j.Nodes, " or --node ")
	}
	if j.MemoryMiB > 0 {
		what += fmt.Sprintf(", with %d MiB of memory for a task", j.MemoryMiB)
	}
	return what + ": no node that is here now has one"
}

func waitsForJobs(st *jobs.State, j *jobs.Job) string {
	var others []string
	for _, d := range j.After {
		if other := st.Job(d.Job); other != nil && !other.State.Terminal() {
			others = append(others, fmt.Sprintf("%s (%s)", d.Job, other.State))
		}
	}
	if len(others) == 0 {
		return ""
	}
	return "for the end of jobs that it follows: " + strings.Join(others, ", ")
}

// suiting lists the living nodes with a slot that the job's terms suit, and tells
// whether one of them has all preloads that it requires.
func suiting(st *jobs.State, j *jobs.Job) (nodes []*jobs.Node, supplied bool) {
	for _, n := range st.Nodes() {
		for _, sl := range n.Slots {
			if _, quarantined := sl.Quarantined(); n.Alive && !quarantined && (j.Kind != jobs.Tasks || sl.TakesTasks() && j.Suits(n, sl)) {
				nodes = append(nodes, n)
				supplied = supplied || st.Supplied(j, n)
				break
			}
		}
	}
	return nodes, supplied
}

// waitsForPreloads names what is ready on none of the nodes together, and how it stands.
func waitsForPreloads(st *jobs.State, j *jobs.Job, nodes []*jobs.Node) string {
	known := map[string]*jobs.Preload{}
	for _, p := range st.Preloads() {
		known[p.Name] = p
	}
	var lacks []string
	for _, name := range st.Required(j.ID) {
		p := known[name]
		if p == nil {
			lacks = append(lacks, fmt.Sprintf("%s, which nobody has put: seedmesh preload put %s", name, name))
			continue
		}
		for _, n := range nodes {
			switch l := p.Load(n); {
			case !p.Keeps(n):
				lacks = append(lacks, fmt.Sprintf("%s, which is not kept on %s (it is for %s)", name, n.Name, p.To))
			case !l.Ready && l.Text == "":
				lacks = append(lacks, fmt.Sprintf("%s on %s", name, n.Name))
			case !l.Ready:
				lacks = append(lacks, fmt.Sprintf("%s on %s: %s", name, n.Name, l.Text))
			}
		}
	}
	const most = 4 // that are named
	if more := len(lacks) - most; more > 0 {
		lacks = append(lacks[:most], fmt.Sprintf("and %d more", more))
	}
	return "for preloads that it requires: " + strings.Join(lacks, "; ")
}
