package jobs

import "testing"

func TestAdmit(t *testing.T) {
	worker := Token{Hash: Digest{1}, Role: Worker, ExpiresMS: 1000, Uses: 1}
	admit := func(n int, name string, wall int64) *Admit {
		return &Admit{Node: node(n), Name: name, Role: Voter, Token: worker.Hash, WallMS: wall}
	}
	for name, tt := range map[string]struct {
		before []Command
		admit  *Admit
		want   Code // 0: admitted
		role   Role
	}{
		"the token gives the role":      {nil, admit(9, "new", 999), 0, Worker},
		"unknown token":                 {nil, &Admit{Node: node(9), Name: "new", Token: Digest{7}}, UnknownToken, 0},
		"no token":                      {nil, &Admit{Node: node(9), Name: "new", Role: Voter}, UnknownToken, 0},
		"revoked token":                 {[]Command{&Revoke{worker.Hash}}, admit(9, "new", 0), UnknownToken, 0},
		"expired on the instant":        {nil, admit(9, "new", 1000), TokenExpired, 0},
		"spent by another":              {[]Command{admit(8, "other", 0)}, admit(9, "new", 0), TokenSpent, 0},
		"asked twice spends once":       {[]Command{admit(9, "new", 0)}, admit(9, "new", 0), 0, Worker},
		"asked again after expiry":      {[]Command{admit(9, "new", 0)}, admit(9, "new", 5000), 0, Worker},
		"asked again by another name":   {[]Command{admit(9, "new", 0)}, admit(9, "newer", 0), AlreadyKnown, 0},
		"a member's id, another token":  {[]Command{&Mint{Token{Hash: Digest{2}, Role: Worker, ExpiresMS: 1000, Uses: 9}}, admit(9, "new", 0)}, &Admit{Node: node(9), Name: "new", Token: Digest{2}}, UnknownToken, 0},
		"a member's id, no known token": {[]Command{admit(9, "new", 0)}, &Admit{Node: node(9), Name: "new", Token: Digest{7}}, UnknownToken, 0},
		"a member's id, token revoked":  {[]Command{admit(9, "new", 0), &Revoke{worker.Hash}}, admit(9, "new", 0), UnknownToken, 0},
		"no name":                       {nil, admit(9, "", 0), Invalid, 0},
		"name of the living":            {nil, admit(9, "n1", 0), NameTaken, 0},
		"name of the dead":              {[]Command{&Expire{node(1), 1}}, admit(9, "n1", 0), 0, Worker},
		"name of the forgotten":         {[]Command{&Forget{node(1)}}, admit(9, "n1", 0), 0, Worker},
		"name of one who never started": {[]Command{admit(9, "n1", 0)}, admit(9, "n1", 0), NameTaken, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1)
			l.must(&Mint{worker})
			for _, c := range tt.before {
				l.do(c)
			}
			if tt.want != 0 {
				l.refused(tt.admit, tt.want)
				return
			}
			o := l.must(tt.admit)
			if o.Role != tt.role || o.Name != tt.admit.Name || l.Node(tt.admit.Node).Role != tt.role {
				t.Errorf("Admit(%+v) = %+v, want role %s and its name", tt.admit, o, tt.role)
			}
			if got := l.tokens[worker.Hash].Spent; len(got) != 1 {
				t.Errorf("token spent by %v, want once", got)
			}
		})
	}
}

func TestRefusedAdmitSpendsNothing(t *testing.T) {
	l := newLedger(t, 1)
	l.must(&Mint{Token{Hash: Digest{1}, Role: Client, ExpiresMS: 10, Uses: 1}})
	l.refused(&Admit{Node: node(9), Name: "n1", Token: Digest{1}}, NameTaken)
	l.must(&Admit{Node: node(9), Name: "mine", Token: Digest{1}})
	l.refused(&Hello{Node: node(9), Incarnation: 1}, WrongRole)
}

// A dead node that loses its name gets one that stays within the limits of the
// codec, wherever it is shown.
func TestNameTakenFromTheDead(t *testing.T) {
	l := newLedger(t, 1, 1)
	long := string(make([]byte, MaxNameBytes))
	l.must(&Admit{Node: node(8), Name: long, Token: testToken.Hash})
	l.must(&Admit{Node: node(9), Name: long, Token: testToken.Hash})
	old, owner := l.Node(node(8)).Name, l.Node(node(9)).Name
	if owner != long || old == long {
		t.Errorf("names are %q and %q, want the newcomer to have it", old, owner)
	}
	o := l.request(Request{ID: [16]byte{1}, Command: &Forget{node(8)}})
	if got, err := DecodeOutcome(EncodeOutcome(o)); err != nil || got.Name != old {
		t.Errorf("DecodeOutcome(Forget) = %+v, %v, want name %q", got, err, old)
	}
}

func TestMint(t *testing.T) {
	for name, tt := range map[string]struct {
		token Token
		want  Code
	}{
		"no uses":          {Token{Hash: Digest{1}, Role: Worker}, Limit},
		"more than nodes":  {Token{Hash: Digest{1}, Role: Worker, Uses: MaxNodes + 1}, Limit},
		"no role":          {Token{Hash: Digest{1}, Uses: 1}, Invalid},
		"exists":           {testToken, Invalid},
		"spent from birth": {Token{Hash: Digest{1}, Role: Worker, Uses: 1, Spent: []NodeID{node(1)}}, Invalid},
	} {
		t.Run(name, func(t *testing.T) { newLedger(t, 1).refused(&Mint{tt.token}, tt.want) })
	}
	l := newLedger(t, 1)
	l.refused(&Revoke{Digest{1}}, UnknownToken)
	l.must(&Mint{Token{Hash: Digest{1}, Role: Voter, Uses: 1}})
	if got := l.Tokens(); len(got) != 2 || got[0].Hash != (Digest{1}) {
		t.Errorf("Tokens() = %v, want two by hash", got)
	}
}

func TestHelloIncarnations(t *testing.T) {
	hello := func(inc uint64) *Hello { return &Hello{Node: node(1), Incarnation: inc, Slots: make([]SlotSpec, 1)} }
	for name, tt := range map[string]struct {
		before      []Command
		incarnation uint64
		want        Code
		keepsClaim  bool
		inc         uint64 // afterwards
	}{
		"a new start ends the old claims":       {nil, 6, 0, false, 6},
		"the same again changes nothing":        {nil, 5, 0, true, 5},
		"an older one is stale":                 {nil, 4, StaleIncarnation, true, 5},
		"expired: the same is over":             {[]Command{&Expire{node(1), 5}}, 5, StaleIncarnation, false, 5},
		"expired: a higher one returns":         {[]Command{&Expire{node(1), 5}}, 6, 0, false, 6},
		"an expiry of an older life is ignored": {[]Command{&Expire{node(1), 4}}, 5, 0, true, 5},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1)
			l.must(hello(5))
			j, c := l.whole(slot(1, 0), Range{0, 99})
			for _, b := range tt.before {
				l.do(b)
			}
			if tt.want != 0 {
				l.refused(hello(tt.incarnation), tt.want)
			} else {
				l.must(hello(tt.incarnation))
			}
			if _, kept := l.Claim(c.Fence); kept != tt.keepsClaim || l.Node(node(1)).Incarnation != tt.inc {
				t.Errorf("after Hello(%d): claim kept %t, incarnation %d, want %t, %d", tt.incarnation, kept, l.Node(node(1)).Incarnation, tt.keepsClaim, tt.inc)
			}
			if tt.keepsClaim {
				l.must(finished(c, 99, 0))
				return
			}
			l.refused(finished(c, 99, 0), StaleClaim)
			if j.Reclaimed != 1 || len(j.Stages[0].Open) != 1 || j.Stages[0].Open[0].Attempts != 0 {
				t.Errorf("reclaimed %d, open %+v, want one claim opened again without an attempt", j.Reclaimed, j.Stages[0].Open)
			}
		})
	}
	l := newLedger(t, 1)
	l.refused(&Hello{Node: node(9), Incarnation: 1}, UnknownNode)
	l.refused(&Hello{Node: node(1), Incarnation: 2, Slots: make([]SlotSpec, MaxSlots+1)}, Limit)
	l.refused(&Expire{node(9), 1}, StaleIncarnation)
	l.refused(&Take{slot(1, 0), 2, 1}, StaleIncarnation)
	l.refused(&Take{slot(9, 0), 1, 1}, UnknownNode)
}

func TestHelloKeepsTheRatesOfTheSameDevice(t *testing.T) {
	l := newLedger(t)
	l.must(&Admit{Node: node(1), Name: "n1", Role: Voter})
	l.must(&Hello{Node: node(1), Incarnation: 1, Slots: []SlotSpec{{"a", ""}, {"b", ""}}})
	l.rate(slot(1, 0), 100)
	l.rate(slot(1, 1), 10)
	l.must(&Hello{Node: node(1), Incarnation: 2, Slots: []SlotSpec{{"a", ""}, {"c", ""}, {"d", ""}}})
	for i, want := range []uint64{100_000, 0, 0} {
		if got := l.slot(slot(1, i)).rate("s"); got != want {
			t.Errorf("rate of slot %d = %d, want %d", i, got, want)
		}
	}
	if l.fleet.slots != 3 || l.fleet.rates["s"] != 100_000 {
		t.Errorf("fleet = %+v, want 3 slots and the rate of the one that stayed", l.fleet)
	}
	l.must(&Expire{node(1), 2})
	if l.fleet.slots != 0 || len(l.fleet.rates) != 0 {
		t.Errorf("fleet of the dead = %+v, want nothing", l.fleet)
	}
}

func TestForget(t *testing.T) {
	l := newLedger(t, 1, 1, 1)
	j, first := l.whole(slot(1, 0), Range{0, 9})
	l.must(finished(first, 4, 3, node(1), node(2)))
	c := l.take(slot(1, 0), 1)
	l.must(&Forget{node(1)})
	if l.Node(node(1)) != nil {
		t.Errorf("node 1 is still a member")
	}
	l.refused(finished(c, 9, 0), StaleClaim)
	l.refused(&Hello{Node: node(1), Incarnation: 2}, UnknownNode)
	l.refused(&Forget{node(1)}, UnknownNode)
	if got := j.Stages[0].Done[0].Holders; len(got) != 1 || got[0] != node(2) {
		t.Errorf("holders = %v, want the other one", got)
	}
	l.must(&Forget{node(2)})
	if st := j.Stages[0]; len(st.Done) != 0 || len(st.Open) != 1 || st.Open[0].Range != (Range{0, 9}) || j.Survivors != 0 {
		t.Errorf("without holders: done %v, open %v, %d survivors, want all open again", st.Done, st.Open, j.Survivors)
	}
}
