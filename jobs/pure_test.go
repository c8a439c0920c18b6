package jobs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestEqualLogsGiveEqualStates replays the log of a simulation into states that
// have the same records by different ways: one applied everything, the others
// were restored from snapshots on the way, so that their maps, slices and sums
// have other histories.
func TestEqualLogsGiveEqualStates(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		m := newSim(seed)
		m.keepLog = true
		if err := m.run(1000); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		direct := NewState()
		restored := map[int]*State{1: NewState(), 7: NewState(), 100: NewState()} // by how often they are
		for i, b := range m.log {
			want, plans := applied(t, direct, b), planned(direct)
			for every, s := range restored {
				if i%every == 0 {
					again, err := Restore(s.Snapshot())
					if err != nil {
						t.Fatalf("seed %d, entry %d: %v", seed, i, err)
					}
					restored[every], s = again, again
				}
				if got := applied(t, s, b); !bytes.Equal(got, want) {
					t.Fatalf("seed %d, entry %d: outcome %x, of the state restored every %d entries %x", seed, i, want, every, got)
				}
				if got := planned(s); got != plans {
					t.Fatalf("seed %d, entry %d: plans\n%s\nof the state restored every %d entries\n%s", seed, i, plans, every, got)
				}
				if s.Digest() != direct.Digest() {
					t.Fatalf("seed %d, entry %d: digest %s, of the state restored every %d entries %s", seed, i, direct.Digest(), every, s.Digest())
				}
			}
		}
		if got, want := direct.Snapshot(), m.leader.Snapshot(); !bytes.Equal(got, want) {
			t.Errorf("seed %d: the log gives another state than the simulation had", seed)
		}
	}
}

func applied(t *testing.T, s *State, entry []byte) []byte {
	t.Helper()
	e, err := DecodeEntry(entry)
	if err != nil {
		t.Fatal(err)
	}
	return EncodeOutcome(s.Apply(e)[0])
}

// planned is what a state would give out, cut, fold and copy.
func planned(s *State) string {
	var b strings.Builder
	for _, n := range s.Nodes() {
		for i := range n.Slots {
			c, ok := s.pick(SlotID{n.ID, uint32(i)}, 2, s.now+5000)
			twin := uint64(0)
			if c.twin != nil {
				twin = c.twin.Fence
			}
			fmt.Fprint(&b, ok, c.job, c.stage, c.open, c.rng, c.attempts, twin, ";")
		}
		fold, _ := s.FoldPlan(n.ID)
		fmt.Fprint(&b, fold.Job, fold.Stage, fold.Range, s.RepairPlan(n.ID, s.now+5000, 5))
	}
	for _, c := range s.TrimPlan(s.now) {
		fmt.Fprint(&b, " trim ", c.Fence)
	}
	return b.String()
}

// Looking at a state writes nothing, so that many may look at once: the race
// detector sees it if not.
func TestLookingIsSafeForMany(t *testing.T) {
	s := sampleState(t)
	before := s.Snapshot()
	fleet := fmt.Sprint(s.fleet)
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for range 20 {
				planned(s)
				s.Offer(slot(1, 0), 2, s.now+1<<20)
				s.Blobs(func(Digest, []NodeID) {})
				for _, j := range s.Jobs() {
					s.Progress(j)
					j.Coverage()
				}
				s.Tokens()
				if !bytes.Equal(s.Snapshot(), before) || fmt.Sprint(s.fleet) != fleet {
					t.Error("looking at the state changed it")
				}
			}
		})
	}
}

// What is handed out belongs to the caller: changing it leaves the state alone.
func TestCopiesAreCopies(t *testing.T) {
	s := sampleState(t)
	before := s.Snapshot()
	for _, c := range s.Claims(slot(1, 0)) {
		c.Range = Range{}
	}
	for _, p := range s.queue[0].Stages[0].Pieces() {
		if len(p.Holders) > 0 {
			p.Holders[0] = NodeID{}
		}
	}
	for _, c := range s.queue[0].Stages[0].Held() {
		c.Fence = 0
	}
	for _, token := range s.Tokens() {
		for i := range token.Spent {
			token.Spent[i] = NodeID{}
		}
	}
	if c, ok := s.Claim(4); ok {
		c.Fence = 0
	}
	if !bytes.Equal(s.Snapshot(), before) {
		t.Error("changing what was handed out changed the state")
	}
}

// TestPurity keeps clocks, files, sockets, randomness and goroutines out: the
// package may import no more than this.
func TestPurity(t *testing.T) {
	allowed := []string{
		"bytes", "cmp", "crypto/sha256", "encoding/binary", "encoding/hex", "errors", "fmt", "maps", "math", "math/bits", "slices", "strconv", "strings",
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if path, _ := strconv.Unquote(spec.Path.Value); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s: jobs is pure, time arrives in commands and effects leave as outcomes", name, path)
			}
		}
		for _, statement := range forbidden(file) {
			t.Errorf("%s has a %s: jobs starts no goroutine and waits for none", name, statement)
		}
	}
	if files < 10 {
		t.Errorf("%d files looked at, want all of the package", files)
	}
}

func forbidden(file *ast.File) (found []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			found = append(found, strings.TrimPrefix(fmt.Sprintf("%T", n), "*ast."))
		}
		return true
	})
	return found
}
