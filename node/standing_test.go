package node

import (
	"testing"
	"time"
)

// TestSurvives holds what status says of a mesh against what can be known of it: what
// to do is said only where it is certain.
func TestSurvives(t *testing.T) {
	const led, soon, long = -1, time.Second, time.Minute
	for _, tt := range []struct {
		mesh  string // of its voters: P answers, S is silent, D is down, G was removed
		alone time.Duration
		want  string
	}{
		{"P", led, "nothing: one voter holds the log; join two more nodes"},
		{"PP", led, "no node: with two voters nothing acknowledged is lost, but both must be up; join a third node"},
		{"PPP", led, "any one node"},
		{"PPS", led, "no further node: c does not answer"},
		{"PPD", led, "no further node: start c"},
		{"PSS", led, "nothing: there is no quorum; b and c do not answer"},
		{"PPG", led, "no node: with two voters nothing acknowledged is lost, but both must be up; join a third node"},
		{"PPPPG", led, "any one node"},
		{"PPPPP", led, "any 2 nodes"},
		{"PPPSD", led, "no further node: start e; d does not answer"},
		{"PPPPD", led, "any one node; start e"},
		{"PPP", soon, "nothing just now: no leader, an election is under way"},
		{"PPS", soon, "nothing just now: no leader, an election is under way; c does not answer"},
		{"PDS", soon, "nothing just now: no leader, an election is under way; b and c do not answer"},
		{"PDD", soon, "nothing just now: no leader, an election is under way; b and c do not answer"},
		{"PDD", long, "nothing: there is no quorum; start b and c"},
		{"PDS", long, "nothing: there is no quorum; start b; c does not answer"},
		{"PSS", long, "nothing: there is no quorum; b and c do not answer"},
		{"PPD", long, "nothing just now: no leader for 60 s; c does not answer"},
	} {
		s := standing{voters: len(tt.mesh), led: tt.alone == led, alone: tt.alone}
		for i, kind := range tt.mesh {
			if kind == 'G' {
				s.gone++
				continue
			}
			s.add(string(rune('a'+i)), map[rune]answer{'P': present, 'S': silent, 'D': down}[kind])
		}
		if got := s.survives(); got != tt.want {
			t.Errorf("%s, alone for %v: %q, want %q", tt.mesh, tt.alone, got, tt.want)
		}
	}
}
