package jobs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const vocabularyChanged = `The vocabulary of the log has changed. A committed entry is read by every node, again at
each of its starts, and one that does not know a command of it halts: it must not skip what others
apply. So a new command takes the next free number; it is proposed only once all members run a
version that knows it (Node.Version says what they run); OldestReader rises when an old reader could
misread what it can still decode; the golden files get the new command (go test ./jobs -update);
docs/PROTOCOL.md lists it. A number that was ever in a log is never used for anything else, and the
layout of an existing command never changes: add a command instead.`

func TestVocabularyIsPinned(t *testing.T) {
	want := []string{
		1: "Submit", 2: "Control", 3: "Hello", 4: "Expire", 5: "Take", 6: "Finish", 7: "Fail", 8: "Release", 9: "Trim",
		10: "Fold", 11: "Hold", 12: "Drop", 13: "Admit", 14: "Mint", 15: "Revoke", 16: "Forget", 17: "Settle", 18: "SubmitTasks", 19: "Quarantine",
		20: "Resolve", 21: "PutPreload", 22: "DropPreload", 23: "CheckPreload", 24: "Report", 25: "SubmitRequiring",
		26: "Confine", 27: "Readmit",
	}
	if len(vocabulary) != len(want) || FormatVersion != 1 || OldestReader != 1 {
		t.Fatalf("%d numbers, format %d, oldest reader %d, want %d, 1, 1\n%s", len(vocabulary), FormatVersion, OldestReader, len(want), vocabularyChanged)
	}
	for number, make := range vocabulary[1:] {
		if make == nil && want[number+1] == "" { // left free for another command
			continue
		}
		c := make()
		if got := reflect.TypeOf(c).Elem().Name(); got != want[number+1] || int(c.number()) != number+1 {
			t.Errorf("command %d is %s under number %d, want %s\n%s", number+1, got, c.number(), want[number+1], vocabularyChanged)
		}
	}
}

// Codes, states and the like travel as numbers too.
func TestNumbersArePinned(t *testing.T) {
	for name, tt := range map[string]struct{ got, want []int }{
		"kinds":   {[]int{int(Seeds), int(Tasks)}, []int{1, 2}},
		"states":  {[]int{int(Queued), int(Running), int(Paused), int(Done), int(Failed), int(Cancelled)}, []int{1, 2, 3, 4, 5, 6}},
		"roles":   {[]int{int(Voter), int(Worker), int(Client)}, []int{1, 2, 3}},
		"actions": {[]int{int(Cancel), int(Pause), int(Resume), int(SetPriority), int(Remove)}, []int{1, 2, 3, 4, 5}},
		"codes": {
			[]int{
				int(StaleClaim), int(StaleIncarnation), int(UnknownJob), int(UnknownNode), int(UnknownToken), int(JobEnded), int(JobNotEnded), int(KeyConflict),
				int(IDTaken), int(WrongAccount), int(UnderHeld), int(BadRange), int(NameTaken), int(TokenExpired), int(TokenSpent), int(WrongRole),
				int(NothingToDo), int(Limit), int(Invalid), int(NotFoldable), int(AlreadyKnown), int(NoSuchHolding), int(UnknownPreload), int(Outdated),
			},
			[]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !reflect.DeepEqual(tt.got, tt.want) {
				t.Errorf("%s = %v, want %v: other versions read these numbers", name, tt.got, tt.want)
			}
		})
	}
}

// samples has one command of each kind, with a different value in each field.
func samples() []Command {
	two := []NodeID{node(1), node(2)}
	return []Command{
		&Submit{
			ID: 0x1122334455667788, Key: "key", RequestDigest: Digest{1, 2, 3}, Name: "name", Kind: Tasks, Spec: []byte("spec"),
			Stages: []StageSpec{
				{Label: "mt19937", Range: Range{5, 1<<32 + 4}, Grain: 1000, Shape: "shape", Barrier: false},
				{Label: "xorshift", Range: Range{0, end}, Grain: 1, Shape: "", Barrier: true},
			},
			Priority: -7, ChunkTimeMS: 5000, Attempts: 4, TimeoutMS: 600_000, Expected: 0.125, Submitter: "who",
		},
		&Control{Job: 7, Action: SetPriority, Priority: -3},
		&Hello{Node: node(1), Incarnation: 300, Addr: "127.0.0.1:1", Version: "v1", Slots: []SlotSpec{{"cuda:0", "H200"}, {"cpu", ""}}},
		&Expire{node(2), 301},
		&Take{slot(3, 4), 302, 2},
		&Finish{
			Fence: 9, Node: node(1), Incarnation: 300, Last: end, Account: Account{1, 2, 3}, Survivors: 4, Blob: Digest{5}, Bytes: 64, Holders: two, BusyMS: 1234,
		},
		&Fail{9, node(1), 300, Range{10, 19}, "exit", "status 1"},
		&Release{9, node(1), 300},
		&Trim{9, node(1), 300, 17},
		&Fold{Job: 7, Stage: 1, Range: Range{0, 99}, Survivors: 2, Blob: Digest{6}, Bytes: 32, Node: node(1), Holders: two},
		&Hold{7, 1, 50, Digest{6}, node(3)},
		&Drop{7, 1, 51, Digest{7}, node(3)},
		&Admit{Node: node(4), Name: "four", Role: Worker, Token: Digest{8}, WallMS: 1_700_000_000_000},
		&Mint{Token{Hash: Digest{8}, Role: Client, ExpiresMS: -5, Uses: 4, Spent: two[:1], CreatedFor: "who"}},
		&Revoke{Digest{8}},
		&Forget{node(4)},
		&Settle{
			Fence: 9, Node: node(1), Incarnation: 300, Last: end, More: true, Account: Account{1, 2, 3},
			Failed: []Failure{{Range{4, 5}, true, "oom", "killed"}}, Blob: Digest{5}, Bytes: 64, Holders: two, BusyMS: 1234,
		},
		&SubmitTasks{
			Submit: Submit{ID: 8, Key: "k", Kind: Tasks, Spec: []byte("s"), Stages: []StageSpec{{Label: "l", Range: Range{0, 9}, Grain: 1}}, Attempts: 2},
			Terms:  Terms{MaxParallel: 4, After: []Dependency{{7, true}, {6, false}}},
		},
		&Quarantine{Node: node(1), Incarnation: 300, Slot: slot(3, 4), Life: 302, Job: 7, Reason: "why"},
		&Resolve{Job: 8, Stage: 1, Ready: []Range{{3, 4}, {9, 9}}, Aside: []Failure{{Range: Range{10, end}, Class: "needs another", Message: "m"}}},
		&PutPreload{
			Name: "weights", Path: "/dev/shm/seedmesh/weights", To: "vendor:amd,n1", Files: []PreloadFile{{"a.npz", Digest{1}, 7, false}, {"b", Digest{2}, 1 << 40, true}}, Holders: two,
		},
		&DropPreload{"weights"},
		&CheckPreload{"weights"},
		&Report{"weights", Load{Node: node(1), Incarnation: 300, Round: 2, Ready: true, Text: "mended"}},
		&SubmitRequiring{
			SubmitTasks: SubmitTasks{Submit: Submit{ID: 9, Key: "k", Kind: Tasks, Spec: []byte("s"), Stages: []StageSpec{{Label: "l", Range: Range{0, 9}, Grain: 1}}}},
			Preloads:    []string{"data", "weights"},
		},
		&Confine{Slot: slot(3, 4), Lift: true, Reason: "why"},
		&Readmit{Slot: slot(3, 4), Incarnation: 302, Since: 1234, Label: "vendor:amd"},
	}
}

func sampleEntry(c Command) Entry { return Entry{1234567, []Request{{requestID(1), c}}} }

// sampleState has every kind of record in it.
func sampleState(t testing.TB) *State {
	l := newLedger(t, 2, 1, 0)
	l.at = 1000
	l.request(Request{requestID(1), keyed(100, "gone", 1)})
	l.request(Request{requestID(2), &Control{Job: 100, Action: Cancel}})
	l.request(Request{requestID(3), &Control{Job: 101, Action: Cancel}})
	l.must(&Control{Job: 100, Action: Remove})
	l.must(keyed(102, "kept", 2))
	l.must(&Control{Job: 102, Action: Pause})
	l.rate(slot(1, 0), 1<<40)
	l.rate(slot(1, 1), 1<<40)
	l.submit(Range{0, 99}, func(c *Submit) { c.Attempts, c.Name, c.Priority = 2, "sample", 5 })
	l.must(finished(l.take(slot(1, 0), 1), 49, 3, node(1), node(2)))
	l.must(failed(l.take(slot(1, 0), 1), Range{60, 69}))
	l.must(finished(l.take(slot(1, 0), 1), 54, 0))
	l.at += 1000
	l.take(slot(1, 0), 1)                                // 55:60
	l.must(failed(l.take(slot(1, 1), 1), Range{60, 62})) // for good
	l.rate(slot(1, 0), 1)
	l.rate(slot(1, 1), 0)
	l.take(slot(1, 0), 2) // 63:70, reserved
	l.rate(slot(2, 0), 1<<40)
	l.must(failed(l.take(slot(2, 0), 1), Range{90, 99})) // waits
	l.must(finished(l.take(slot(2, 0), 1), 89, 1, node(2), node(1)))
	l.take(slot(2, 0), 1) // a second claim on 63:70
	l.must(&Expire{node(3), 1})
	return l.State
}

func TestGoldenBytes(t *testing.T) {
	files := map[string][]byte{}
	for _, c := range samples() {
		e := sampleEntry(c)
		name := fmt.Sprintf("%02d-%s", c.number(), strings.ToLower(reflect.TypeOf(c).Elem().Name()))
		files[name] = e.Encode()
		if got, err := DecodeEntry(e.Encode()); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("DecodeEntry(%s) = %+v, %v, want %+v", name, got, err, e)
		}
	}
	s := sampleState(t)
	digest := s.Digest()
	files["snapshot"], files["digest"] = s.Snapshot(), digest[:]
	known := 0
	for _, make := range vocabulary {
		if make != nil {
			known++
		}
	}
	if len(samples()) != known {
		t.Errorf("%d commands have samples, there are %d", len(samples()), known)
	}
	for name, got := range files {
		path := filepath.Join("testdata", "golden", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(lines(got)), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lines(got) != string(want) {
			t.Errorf("%s is encoded as\n%swant\n%s%s", name, lines(got), want, vocabularyChanged)
		}
	}
	if have, _ := filepath.Glob("testdata/golden/*.hex"); len(have) != len(samples())+2 {
		t.Errorf("%d golden files, want one for each command, one snapshot and its digest\n%s", len(have), vocabularyChanged)
	}
}

// lines is b in hexadecimal digits, 32 bytes to a line.
func lines(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String()
}

func TestGoldenSnapshotHasEveryRecord(t *testing.T) {
	s := sampleState(t)
	if got, want := where(s.queue[0]), "open [90:100 after 1 failures] done [0:50 50:55 70:90] claims [4 6 9] running"; got != want {
		t.Errorf("the sample job: %s, want %s", got, want)
	}
	reserved, twin := s.claims[6], s.claims[9]
	if reserved.StartedAt != notStarted || !twin.Speculative || twin.Twin != 6 || len(s.queue[0].Stages[0].Failed) != 1 {
		t.Errorf("claims %+v and %+v, want a reserved one and a second one on it", reserved, twin)
	}
	if len(s.keys) != 2 || len(s.dying) != 1 || len(s.tokens) != 1 || len(s.asked) != 3 || s.answers[requestID(3)].Outcome.Refusal == nil {
		t.Errorf("keys %v, dying %v, %d tokens, answers %v, want all kinds", s.keys, s.dying, len(s.tokens), s.answers)
	}
}

// entryOf builds an entry's bytes by hand: after the header, time 0 and one request.
func entryOf(number byte, body ...byte) []byte {
	b := append([]byte{1, 1, 0, 1}, make([]byte, 16)...)
	return append(append(b, number, byte(len(body))), body...)
}

func TestDecodeEntryIsStrict(t *testing.T) {
	id := func(b ...byte) []byte { return append(make([]byte, 16), b...) }
	tooLong := sampleEntry(&Admit{Name: strings.Repeat("n", MaxNameBytes+1)})
	mint := func(b ...byte) []byte { return append(make([]byte, 32), b...) }
	for name, tt := range map[string]struct {
		in   []byte
		want string // part of the error; empty: it is read
	}{
		"a smallest entry":              {[]byte{1, 1, 0, 0}, ""},
		"a smallest command":            {entryOf(16, id()...), ""},
		"written by a newer format":     {[]byte{9, 1, 0, 0}, ""},
		"nothing":                       {nil, "truncated"},
		"needs a newer reader":          {[]byte{9, 2, 0, 0}, "this log entry, which needs a program that reads format 2 and not just 1, was made by a newer seedmesh"},
		"trailing byte":                 {[]byte{1, 1, 0, 0, 0}, "canonical"},
		"trailing byte of a body":       {entryOf(16, id(0)...), "canonical form in command 16"},
		"body too short":                {entryOf(4, id()...), "truncated in command 4"},
		"non-minimal varint":            {[]byte{1, 1, 0x80, 0, 0}, "canonical"},
		"non-minimal varint, longer":    {[]byte{1, 1, 0x81, 0x80, 0, 0}, "canonical"},
		"varint beyond 64 bits":         {append([]byte{1, 1}, bytes.Repeat([]byte{0xff}, 10)...), "truncated"},
		"command 0":                     {entryOf(0), "canonical"},
		"first unknown command":         {entryOf(byte(len(vocabulary))), fmt.Sprintf("command %d was made by a newer seedmesh than this one", len(vocabulary))},
		"unknown command far off":       {entryOf(127, 1, 2, 3), "command 127 was made by a newer seedmesh than this one"},
		"more requests than bytes":      {[]byte{1, 1, 0, 5}, "truncated"},
		"more requests than a batch":    {append([]byte{1, 1, 0, 0x81, 0x20}, make([]byte, 5000)...), "truncated"},
		"body longer than the entry":    {append(entryOf(16, id()...)[:21], 17), "truncated"},
		"number too large for its type": {entryOf(2, 1, 0x80, 2, 0), "canonical"},
		"text beyond its limit":         {tooLong.Encode(), "truncated in command 13"},
		"list beyond its limit":         {entryOf(14, mint(1, 0, 1, 0x81, 0x20)...), "truncated"},
		"flag that is neither":          {entryOf(1, append(append([]byte{1, 0}, make([]byte, 32)...), 0, 1, 0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0)...), "canonical"},
		"range beyond 2^64":             {entryOf(7, append(append([]byte{1}, id()...), 1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0)...), "canonical"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeEntry(tt.in)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("DecodeEntry(%x) = %v, want %q", tt.in, err, tt.want)
			}
		})
	}
}

// TestNewerIsSaid has what only a newer program writes told as that, with what to do, and
// never as damage.
func TestNewerIsSaid(t *testing.T) {
	terms := (&Entry{Requests: []Request{{Command: &SubmitTasks{Terms: Terms{MaxParallel: 1<<32 - 1, MemoryMiB: 5}}}}}).Encode()
	known := binary.AppendUvarint(nil, 1<<32-1|memoryTerm)
	newer := binary.AppendUvarint(nil, 1<<32-1|memoryTerm|termsBeyond)
	if bytes.Count(terms, known) != 1 || len(newer) != len(known) {
		t.Fatalf("the terms are not where they should be in % x", terms)
	}
	for name, b := range map[string][]byte{
		"format":  {9, 2, 0, 0},
		"command": entryOf(byte(len(vocabulary)), 1, 2, 3),
		"term":    bytes.Replace(terms, known, newer, 1),
	} {
		_, err := DecodeEntry(b)
		var told *NewerError
		if !errors.As(err, &told) || !strings.Contains(told.Remedy(), "upgrade this node") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoPrefixIsRead(t *testing.T) {
	s := sampleState(t).Snapshot()
	for n := range s {
		if _, err := Restore(s[:n]); err == nil {
			t.Errorf("Restore(first %d bytes of %d) = nil, want an error", n, len(s))
		}
	}
	for _, c := range samples() {
		e := sampleEntry(c)
		b := e.Encode()
		for n := range b {
			if _, err := DecodeEntry(b[:n]); err == nil {
				t.Errorf("DecodeEntry(first %d bytes of %T) = nil, want an error", n, c)
			}
		}
	}
}

func TestRestoreIsStrict(t *testing.T) {
	for name, edit := range map[string]func(*State, []byte) []byte{
		"trailing byte":        func(_ *State, b []byte) []byte { return append(b, 0) },
		"needs a newer reader": func(_ *State, b []byte) []byte { b[0], b[1] = 2, 2; return b },
		"claim of an ended job": func(s *State, _ []byte) []byte {
			s.queue[0].State = Failed
			return s.Snapshot()
		},
		"claim that no slot lists": func(s *State, _ []byte) []byte {
			sl := s.nodes[node(1)].Slots[0]
			sl.Claims = sl.Claims[:0]
			return s.Snapshot()
		},
		"slot that lists no claim": func(s *State, _ []byte) []byte {
			delete(s.claims, s.nodes[node(1)].Slots[0].Claims[0])
			return s.Snapshot()
		},
		"running claim that never started": func(s *State, _ []byte) []byte {
			s.claims[s.nodes[node(1)].Slots[0].Claims[0]].StartedAt = notStarted
			return s.Snapshot()
		},
		"twin that is not one": func(s *State, _ []byte) []byte {
			for _, c := range s.claims {
				if c.Speculative {
					c.Range.Last++
				}
			}
			return s.Snapshot()
		},
		"fence from the future": func(s *State, _ []byte) []byte { s.fence = 1; return s.Snapshot() },
		"key of nobody dying":   func(s *State, _ []byte) []byte { s.dying = append(s.dying, "nobody"); return s.Snapshot() },
		"key dying twice":       func(s *State, _ []byte) []byte { s.dying = append(s.dying, s.dying[0]); return s.Snapshot() },
		"key of a job dying":    func(s *State, _ []byte) []byte { s.dying = append(s.dying, "kept"); return s.Snapshot() },
		"answer twice":          func(s *State, _ []byte) []byte { s.asked = append(s.asked, s.asked[0]); return s.Snapshot() },
		"node twice, or out of order": func(s *State, _ []byte) []byte {
			s.nodes[NodeID{0xff}] = s.nodes[node(3)]
			return s.Snapshot()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sampleState(t)
			if _, err := Restore(edit(s, s.Snapshot())); err == nil {
				t.Errorf("Restore = nil, want an error")
			}
		})
	}
	b := sampleState(t).Snapshot()
	b[0] = 2 // a newer format that this program can read
	if _, err := Restore(b); err != nil {
		t.Errorf("Restore(format 2, oldest reader 1) = %v, want it read", err)
	}
}

func TestRequestAndOutcomeRoundTrip(t *testing.T) {
	for _, c := range samples() {
		r := Request{requestID(7), c}
		if got, err := DecodeRequest(EncodeRequest(r)); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("DecodeRequest(%T) = %+v, %v, want %+v", c, got, err, r)
		}
	}
	claim := &Claim{1, 2, 3, Range{4, 5}, slot(6, 7), 8, 9, true, 10, 11, notStarted}
	for name, o := range map[string]Outcome{
		"nothing":  {},
		"refusal":  refuse(KeyConflict, "the key %q", "k"),
		"claim":    {Job: 5, Claim: claim},
		"admitted": {Name: "n1", Role: Client},
		"all":      {&Refusal{StaleClaim, "x"}, 1 << 63, claim, strings.Repeat("n", maxMemberNameBytes), Worker},
	} {
		if got, err := DecodeOutcome(EncodeOutcome(o)); err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("%s: DecodeOutcome(EncodeOutcome(%+v)) = %+v, %v", name, o, got, err)
		}
	}
	if err := refuse(KeyConflict, "x").Err(); !errors.Is(err, &Refusal{Code: KeyConflict}) || errors.Is(err, &Refusal{Code: Limit}) {
		t.Errorf("errors.Is compares %v by something other than its code", err)
	}
}

func TestActors(t *testing.T) {
	for _, c := range samples() {
		want := NodeID{}
		switch c.(type) {
		case *Hello, *Finish, *Fail, *Release, *Trim, *Fold, *Settle, *Quarantine, *Report:
			want = node(1)
		case *Take, *Hold, *Drop, *Readmit:
			want = node(3)
		}
		if got := c.Actor(); got != want {
			t.Errorf("%T.Actor() = %s, want %s", c, got, want)
		}
		if got, want := LeaderOnly(c), c.number() == 4 || c.number() == 13; got != want {
			t.Errorf("LeaderOnly(%T) = %t, want %t", c, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for in, valid := range map[string]bool{node(7).String(): true, "": false, "07": false, node(7).String() + "00": false, strings.Repeat("g", 32): false} {
		if id, err := ParseNodeID(in); (err == nil) != valid || valid && id != node(7) {
			t.Errorf("ParseNodeID(%q) = %s, %v, want valid: %t", in, id, err, valid)
		}
	}
	for in, valid := range map[string]bool{JobID(7).String(): true, "": false, "7": false, "+000000000000007": false, "00000000000000007": false} {
		if id, err := ParseJobID(in); (err == nil) != valid || valid && id != 7 {
			t.Errorf("ParseJobID(%q) = %s, %v, want valid: %t", in, id, err, valid)
		}
	}
	for _, r := range []Role{Voter, Worker, Client} {
		if got, err := ParseRole(r.String()); err != nil || got != r {
			t.Errorf("ParseRole(%q) = %v, %v, want it back", r, got, err)
		}
	}
	if _, err := ParseRole(""); err == nil {
		t.Errorf("ParseRole of nothing is valid")
	}
	if got := fmt.Sprint(Seeds, Tasks, Queued, Cancelled, JobState(99), Role(99)); got != "seeds tasks queued cancelled unknown unknown" {
		t.Errorf("names are %s", got)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, c := range samples() {
		e := sampleEntry(c)
		f.Add(e.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil || b[0] != FormatVersion || b[1] != OldestReader {
			return
		}
		if again := e.Encode(); !bytes.Equal(again, b) {
			t.Errorf("DecodeEntry(%x) encodes to %x", b, again)
		}
		s := NewState()
		s.Apply(e)
		if _, err := Restore(s.Snapshot()); err != nil {
			t.Errorf("Apply(%x) gives a state that cannot be restored: %v", b, err)
		}
	})
}

func FuzzDecodeOutcome(f *testing.F) {
	f.Add(EncodeOutcome(refuse(Limit, "too much")))
	f.Add(EncodeOutcome(Outcome{Job: 1, Claim: &Claim{Fence: 1}, Name: "n", Role: Voter}))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := DecodeOutcome(b)
		if err != nil || b[0] != FormatVersion || b[1] != OldestReader {
			return
		}
		if again := EncodeOutcome(o); !bytes.Equal(again, b) {
			t.Errorf("DecodeOutcome(%x) encodes to %x", b, again)
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(NewState().Snapshot())
	f.Add(newLedger(f, 1, 2).Snapshot())
	f.Add(sampleState(f).Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Restore(b)
		if err != nil {
			return
		}
		if b[0] == FormatVersion && b[1] == OldestReader && !bytes.Equal(s.Snapshot(), b) {
			t.Errorf("Restore(%x) gives the snapshot %x", b, s.Snapshot())
		}
		shake(s)
		s.Snapshot()
	})
}

// shake lets every kind of thing happen to a state.
func shake(s *State) {
	apply := func(c Command) Outcome { return s.Apply(Entry{s.now, []Request{{Command: c}}})[0] }
	for _, n := range s.Nodes() {
		for i := range n.Slots {
			id := SlotID{n.ID, uint32(i)}
			s.Offer(id, 2, s.now+1<<20)
			apply(&Take{id, n.Incarnation, 2})
			for k, c := range s.Claims(id) {
				switch k {
				case 0:
					apply(finished(&c, c.Range.First, 0))
				default:
					apply(failed(&c, c.Range))
				}
			}
			apply(&Take{id, n.Incarnation, 1})
		}
		s.TrimPlan(s.now)
		s.RepairPlan(n.ID, s.now, 10)
		if f, ok := s.FoldPlan(n.ID); ok {
			apply(&Fold{f.Job, f.Stage, f.Range, f.Survivors, Digest{1}, 1, n.ID, []NodeID{n.ID}})
		}
		apply(&Expire{n.ID, n.Incarnation})
		apply(&Hello{Node: n.ID, Incarnation: n.Incarnation + 1})
	}
	for _, j := range s.Jobs() {
		s.Progress(j)
		j.Coverage()
		apply(&Control{Job: j.ID, Action: Cancel})
	}
	for _, n := range s.Nodes() {
		apply(&Forget{n.ID})
	}
	for _, j := range s.Jobs() {
		apply(&Control{Job: j.ID, Action: Remove})
	}
	for range 2 {
		s.now += keyLifeMS
		apply(&Forget{})
	}
}
