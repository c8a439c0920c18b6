package main

import (
	"bytes"
	"strings"
	"testing"

	"seedmesh/node/api/meshv1"
)

func words(head, tail string, total int) *meshv1.WordsInfo {
	return &meshv1.WordsInfo{Head: []byte(head), Tail: []byte(tail), Total: uint64(total)}
}

// TestFollower shows each byte once, whatever part of it was seen while the attempt
// ran, and says what is missing and what begins anew.
func TestFollower(t *testing.T) {
	live := func(started string, from uint64, out string) *meshv1.TaskReply {
		return &meshv1.TaskReply{Task: &meshv1.TaskInfo{Task: "a", State: "running"}, Live: &meshv1.LiveInfo{Started: started, StdoutFrom: from, Stdout: []byte(out), Stderr: nil}}
	}
	kept := func(state string, attempts ...*meshv1.AttemptInfo) *meshv1.TaskReply {
		return &meshv1.TaskReply{Task: &meshv1.TaskInfo{Task: "a", State: state}, Attempts: attempts}
	}
	attempt := func(started string, out *meshv1.WordsInfo) *meshv1.AttemptInfo {
		return &meshv1.AttemptInfo{Started: started, Stdout: out, Stderr: words("", "", 0)}
	}
	for name, tt := range map[string]struct {
		replies     []*meshv1.TaskReply
		out, stderr string
		ended       bool
	}{
		"from beginning to end": {[]*meshv1.TaskReply{
			kept("open"), live("1", 0, "a\nb\n"), live("1", 4, ""), live("1", 4, "c\n"), kept("running"), kept("done", attempt("1", words("a\nb\nc\nd\n", "", 8))),
		}, "a\nb\nc\nd\n", "", true},
		"ended before":                 {[]*meshv1.TaskReply{kept("done", attempt("1", words("old", "", 3)), attempt("2", words("new", "", 3)))}, "new", "", true},
		"the rest is in the tail":      {[]*meshv1.TaskReply{live("1", 0, "abcdef"), kept("done", attempt("1", words("abc", "efgh", 8)))}, "abcdefgh", "", true},
		"the middle is not kept":       {[]*meshv1.TaskReply{live("1", 0, "a"), kept("done", attempt("1", words("abc", "xyz", 10)))}, "abc\n... 4 bytes were not kept ...\nxyz", "", true},
		"too slow for what is written": {[]*meshv1.TaskReply{live("1", 0, "ab"), live("1", 5, "fg")}, "ab\n... 3 bytes were not kept ...\nfg", "", false},
		"tried again":                  {[]*meshv1.TaskReply{live("1", 0, "ab"), kept("waiting", attempt("1", words("abc", "", 3))), live("2", 0, "de")}, "abcde", "task a is tried again\n", false},
		"its node is lost":             {[]*meshv1.TaskReply{live("1", 0, "ab"), kept("open"), live("2", 0, "ab")}, "abab", "task a is tried again\n", false},
		"an earlier attempt is old":    {[]*meshv1.TaskReply{kept("running", attempt("1", words("old", "", 3))), live("2", 0, "new")}, "new", "", false},
		"the end is missing still":     {[]*meshv1.TaskReply{live("1", 0, "ab"), kept("done")}, "ab", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			f := &follower{env: &env{stdout: &out, stderr: &errs, connectTimeout: connectTimeout}, shown: map[string]bool{}}
			for i, r := range tt.replies {
				ended, err := f.show(r)
				if err != nil || ended != (tt.ended && i == len(tt.replies)-1) {
					t.Fatalf("answer %d: ended is %t, %v", i, ended, err)
				}
			}
			if out.String() != tt.out || !strings.HasSuffix(errs.String(), tt.stderr) || (tt.stderr == "") != (errs.Len() == 0) {
				t.Errorf("showed %q and %q, want %q and %q", out.String(), errs.String(), tt.out, tt.stderr)
			}
		})
	}
}
