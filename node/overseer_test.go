package node

import (
	"testing"

	"seedmesh/jobs"
)

// votes describes the nodes of a mesh, one letter each: V a living voter, v a dead
// one, F a living follower that may vote and has caught up, f one that has not, W
// a living worker, N a living node that is not in the log, X an entry of the log
// that the ledger has forgotten.
func votes(text string) []candidate {
	var all []candidate
	for i, kind := range text {
		c := candidate{id: jobs.NodeID{byte(i + 1)}, member: true, inLog: true, mayVote: true, living: true, caughtUp: true}
		switch kind {
		case 'V':
			c.votes = true
		case 'v':
			c.votes, c.living, c.caughtUp = true, false, false
		case 'f':
			c.caughtUp = false
		case 'W':
			c.mayVote = false
		case 'N':
			c.inLog = false
		case 'X':
			c.member, c.living, c.mayVote, c.votes = false, false, false, true
		}
		all = append(all, c)
	}
	return all
}

func TestNextChange(t *testing.T) {
	for _, tt := range []struct {
		why, mesh string
		most      int
		node      byte // 1-based position of the node to change, 0 for none
		promotes  bool
	}{
		{"alone", "V", 5, 0, false},
		{"a new node follows first", "VN", 5, 2, false},
		{"two nodes are both voters", "VF", 5, 2, true},
		{"not before it has caught up", "Vf", 5, 0, false},
		{"the third votes", "VVF", 5, 3, true},
		{"an even spare stays", "VVVF", 5, 0, false},
		{"two more make five", "VVVFF", 5, 4, true},
		{"and then the fifth", "VVVVF", 5, 5, true},
		{"never more than five", "VVVVVFF", 5, 0, false},
		{"never more than asked for", "VVVFF", 3, 0, false},
		{"a worker never votes", "VW", 5, 0, false},
		{"a dead voter is replaced", "VVvF", 5, 4, true},
		{"and only then demoted", "VVvV", 5, 3, false},
		{"without a spare it stays", "VVv", 5, 0, false},
		{"a forgotten node leaves the log", "VVX", 5, 3, false},
	} {
		got := nextChange(votes(tt.mesh), jobs.NodeID{1}, tt.most)
		want := jobs.NodeID{}
		if tt.node > 0 {
			want = jobs.NodeID{tt.node}
		}
		if got.id != want || got.promotes != tt.promotes || (got.change != nil) != (tt.node > 0) {
			t.Errorf("%s: nextChange(%s) = node %d, promotes %v; want node %d, %v", tt.why, tt.mesh, got.id[0], got.promotes, tt.node, tt.promotes)
		}
	}
}
