package jobs

import (
	"slices"
	"testing"
)

func TestFinishIsChecked(t *testing.T) {
	two := []NodeID{node(1), node(2)}
	for name, tt := range map[string]struct {
		edit func(*Finish)
		want Code
	}{
		"another node's claim":         {func(f *Finish) { f.Node = node(2) }, StaleClaim},
		"another life's claim":         {func(f *Finish) { f.Incarnation++ }, StaleClaim},
		"no such fence":                {func(f *Finish) { f.Fence++ }, StaleClaim},
		"the zero fence":               {func(f *Finish) { f.Fence = 0 }, StaleClaim},
		"beyond the claim":             {func(f *Finish) { f.Last, f.Account = 110, AccountOf(Range{10, 110}) }, BadRange},
		"before the claim":             {func(f *Finish) { f.Last = 9 }, BadRange},
		"a unit was skipped":           {func(f *Finish) { f.Account.Count-- }, WrongAccount},
		"a unit was mistaken":          {func(f *Finish) { f.Account.Sum++ }, WrongAccount},
		"two mistakes that add up":     {func(f *Finish) { f.Account.SumSq += 2 }, WrongAccount},
		"blob without survivors":       {func(f *Finish) { f.Survivors = 0 }, Invalid},
		"survivors without a blob":     {func(f *Finish) { f.Blob = Digest{} }, UnderHeld},
		"no holder":                    {func(f *Finish) { f.Holders = nil }, UnderHeld},
		"one holder of two that could": {func(f *Finish) { f.Holders = two[:1] }, UnderHeld},
		"the same holder twice":        {func(f *Finish) { f.Holders = []NodeID{node(1), node(1)} }, UnderHeld},
		"a stranger holds it":          {func(f *Finish) { f.Holders = []NodeID{node(1), node(9)} }, UnknownNode},
		"a client holds it":            {func(f *Finish) { f.Holders = []NodeID{node(1), node(8)} }, UnknownNode},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1)
			l.must(&Mint{Token{Hash: Digest{1}, Role: Client, ExpiresMS: 1, Uses: 1}})
			l.must(&Admit{Node: node(8), Name: "client", Token: Digest{1}})
			_, c := l.whole(slot(1, 0), Range{10, 109})
			f := finished(c, 109, 3, two...)
			tt.edit(f)
			l.refused(f, tt.want)
			l.must(finished(c, 109, 3, two...))
			l.refused(finished(c, 109, 3, two...), StaleClaim)
		})
	}
}

func TestCopiesRequired(t *testing.T) {
	l := newLedger(t, 1, 1, 1)
	for dead, want := range []int{2, 2, 1, 0} {
		if dead > 0 {
			l.must(&Expire{node(dead), 1})
		}
		if got := l.CopiesRequired(); got != want {
			t.Errorf("CopiesRequired with %d of 3 alive = %d, want %d", 3-dead, got, want)
		}
	}
	alone := newLedger(t, 1)
	_, c := alone.whole(slot(1, 0), Range{0, 9})
	alone.must(finished(c, 9, 1, node(1)))
}

func TestFinishOfAPart(t *testing.T) {
	l := newLedger(t, 1)
	j, c := l.whole(slot(1, 0), Range{0, 99})
	f := finished(c, 39, 4, node(1))
	l.must(f)
	if got, want := where(j), "open [40:100] done [0:40] claims [] running"; got != want {
		t.Errorf("part finished: %s, want %s", got, want)
	}
	l.must(finished(l.take(slot(1, 0), 1), 99, 0))
	if cover := j.Coverage(); j.State != Done || j.Survivors != 4 || j.Pieces != 2 || j.Busy != 200 || cover.Account != cover.Expected || len(cover.Gaps) > 0 {
		t.Errorf("job %+v with coverage %+v, want it done and covered", j, cover)
	}
}

func TestCoverage(t *testing.T) {
	stage := func(done ...Range) *Stage {
		st := &Stage{StageSpec: StageSpec{Range: Range{10, 29}}}
		for _, r := range done {
			st.Done = append(st.Done, Piece{Range: r})
		}
		return st
	}
	for name, tt := range map[string]struct {
		stage          *Stage
		gaps, overlaps []Range
	}{
		"nothing done":           {stage(), []Range{{10, 29}}, nil},
		"complete":               {stage(Range{10, 19}, Range{20, 29}), nil, nil},
		"gaps everywhere":        {stage(Range{12, 13}, Range{16, 27}), []Range{{10, 11}, {14, 15}, {28, 29}}, nil},
		"two overlap":            {stage(Range{10, 19}, Range{15, 29}), nil, []Range{{15, 19}}},
		"one inside of another":  {stage(Range{10, 25}, Range{15, 16}), []Range{{26, 29}}, []Range{{15, 16}}},
		"one behind the end":     {stage(Range{10, 14}, Range{15, 29}, Range{27, 28}), nil, []Range{{27, 28}}},
		"the whole again behind": {stage(Range{10, 29}, Range{10, 29}), nil, []Range{{10, 29}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := (&Job{Stages: []*Stage{tt.stage}}).Coverage()
			if !slices.Equal(got.Gaps, tt.gaps) || !slices.Equal(got.Overlaps, tt.overlaps) {
				t.Errorf("Coverage() has gaps %v, overlaps %v, want %v and %v", got.Gaps, got.Overlaps, tt.gaps, tt.overlaps)
			}
		})
	}
}

// pieces finishes the first done of all pieces of a job, ten units with a survivor each.
func pieces(l *ledger, done, all int, holders ...NodeID) *Job {
	l.t.Helper()
	l.rate(slot(1, 0), 1<<40)
	j := l.submit(Range{0, uint64(all)*10 - 1})
	for range done {
		c := l.take(slot(1, 0), 1)
		l.must(finished(c, c.Range.First+9, 1, holders...))
		l.rate(slot(1, 0), 1<<40)
	}
	return j
}

func TestFold(t *testing.T) {
	two := []NodeID{node(1), node(2)}
	fold := func(edit func(*Fold)) *Fold {
		f := &Fold{Job: 1, Range: Range{10, 49}, Survivors: 4, Blob: Digest{9}, Bytes: 60, Node: node(1), Holders: two}
		edit(f)
		return f
	}
	for name, tt := range map[string]struct {
		fold *Fold
		want Code
	}{
		"some of the pieces":           {fold(func(f *Fold) {}), 0},
		"up to the end":                {fold(func(f *Fold) { f.Range, f.Survivors = Range{30, 59}, 3 }), 0},
		"other survivors":              {fold(func(f *Fold) { f.Survivors = 5 }), NotFoldable},
		"begins inside of a piece":     {fold(func(f *Fold) { f.Range.First = 11 }), NotFoldable},
		"ends inside of a piece":       {fold(func(f *Fold) { f.Range.Last = 48 }), NotFoldable},
		"ends behind all pieces":       {fold(func(f *Fold) { f.Range.Last = 89 }), NotFoldable},
		"a single piece":               {fold(func(f *Fold) { f.Range.Last, f.Survivors = 19, 1 }), NotFoldable},
		"reaches over an open gap":     {fold(func(f *Fold) { f.Stage, f.Range, f.Survivors = 0, Range{50, 79}, 3 }), NotFoldable},
		"one holder":                   {fold(func(f *Fold) { f.Holders = two[:1] }), UnderHeld},
		"no such job":                  {fold(func(f *Fold) { f.Job = 77 }), UnknownJob},
		"no such stage":                {fold(func(f *Fold) { f.Stage = 1 }), UnknownJob},
		"the folder is presumed dead":  {fold(func(f *Fold) { f.Node = node(3) }), StaleIncarnation},
		"the folder is nobody we know": {fold(func(f *Fold) { f.Node = node(9) }), StaleIncarnation},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1, 1)
			pieces(l, 6, 8, two...)
			c := l.take(slot(1, 0), 1)
			l.must(failed(c, Range{60, 69})) // which is open, with a done piece behind it
			l.must(finished(l.take(slot(1, 0), 1), 79, 1, two...))
			l.must(&Expire{node(3), 1})
			if tt.want != 0 {
				l.refused(tt.fold, tt.want)
				return
			}
			l.must(tt.fold)
			st := l.Job(1).Stages[0]
			i, found := st.pieceAt(tt.fold.Range.First)
			if got := st.Done[i]; !found || got.Range != tt.fold.Range || got.Blob != tt.fold.Blob || !slices.Equal(got.Holders, two) {
				t.Errorf("folded piece = %+v, want that of %+v", got, tt.fold)
			}
			l.refused(tt.fold, NotFoldable) // it came twice
		})
	}
}

func TestFoldPlanAndPiecesThatChangeMeanwhile(t *testing.T) {
	two := []NodeID{node(1), node(2)}
	l := newLedger(t, 1, 1)
	j := pieces(l, foldLeast, foldLeast+1, two...)
	task, ok := l.FoldPlan(node(1))
	if want := (Range{0, 10*foldLeast - 1}); !ok || task.Range != want || task.Survivors != foldLeast || len(task.Pieces) != foldLeast {
		t.Fatalf("FoldPlan = %+v, %t, want all of %s", task, ok, want)
	}
	if _, ok := l.FoldPlan(node(2)); ok {
		t.Errorf("FoldPlan(node 2) has something, want it for node 1 alone")
	}
	fold := &Fold{task.Job, task.Stage, task.Range, task.Survivors, Digest{5}, 1, node(1), two}
	for _, holder := range two { // one piece is lost
		l.must(&Drop{j.ID, 0, 50, task.Pieces[5].Blob, holder})
	}
	l.refused(fold, NotFoldable)
	l.must(finished(l.take(slot(1, 0), 1), 59, 2, two...)) // and comes out differently
	l.refused(fold, NotFoldable)
	fold.Survivors++
	l.must(fold)
	if got := len(j.Stages[0].Done); got != 1 || j.Survivors != foldLeast+1 {
		t.Errorf("%d pieces with %d survivors left, want one with all", got, j.Survivors)
	}
	if _, ok := l.FoldPlan(node(1)); ok {
		t.Errorf("FoldPlan offers more, want nothing left")
	}
}

func TestFoldPlanLeavesLargeAndLostPieces(t *testing.T) {
	const large = foldMaxBytes/4 + 1
	for name, tt := range map[string]struct {
		edit func(*Piece)
		want Range
		ok   bool
	}{
		"all small":                  {func(p *Piece) {}, Range{0, 10*(foldLeast+3) - 1}, true},
		"a large one at the start":   {func(p *Piece) { p.Bytes = large }, Range{10, 10*(foldLeast+3) - 1}, true},
		"a lost one at the start":    {func(p *Piece) { p.Holders = nil }, Range{10, 10*(foldLeast+3) - 1}, true},
		"a quarter of a blob joins":  {func(p *Piece) { p.Bytes = foldMaxBytes / 4 }, Range{0, 10*(foldLeast+3) - 1}, true},
		"too few beside a large one": {nil, Range{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1)
			j := pieces(l, foldLeast+3, foldLeast+3, node(1), node(2))
			if tt.edit != nil {
				tt.edit(&j.Stages[0].Done[0])
			} else {
				j.Stages[0].Done[10].Bytes = large
			}
			got, ok := l.FoldPlan(node(1))
			if ok != tt.ok || got.Range != tt.want {
				t.Errorf("FoldPlan = %v, %t, want %v, %t", got.Range, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestHoldAndDrop(t *testing.T) {
	type change struct {
		drop bool
		node int
		want Code
	}
	for name, tt := range map[string]struct {
		ended   bool
		changes []change
		holders []NodeID
		open    bool // the piece is worked again
	}{
		"a third holder, in order":          {false, []change{{false, 3, 0}}, []NodeID{node(1), node(2), node(3)}, false},
		"the same holder again":             {false, []change{{false, 2, 0}}, []NodeID{node(1), node(2)}, false},
		"one of two is left":                {false, []change{{true, 1, 0}}, []NodeID{node(2)}, false},
		"dropped by one who never had it":   {false, []change{{true, 3, 0}}, []NodeID{node(1), node(2)}, false},
		"a stranger":                        {false, []change{{false, 9, UnknownNode}}, []NodeID{node(1), node(2)}, false},
		"no holder left: worked again":      {false, []change{{true, 1, 0}, {true, 2, 0}}, nil, true},
		"repaired in between":               {false, []change{{true, 1, 0}, {false, 3, 0}, {true, 2, 0}}, []NodeID{node(3)}, false},
		"too late to hold: it is open":      {false, []change{{true, 1, 0}, {true, 2, 0}, {false, 3, NoSuchHolding}}, nil, true},
		"no holder left of an ended job":    {true, []change{{true, 1, 0}, {true, 2, 0}}, nil, false},
		"a lost piece of it is found again": {true, []change{{true, 1, 0}, {true, 2, 0}, {false, 2, 0}}, []NodeID{node(2)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1, 1)
			j, c := l.whole(slot(1, 0), Range{0, 99})
			l.must(finished(c, 49, 7, node(2), node(1)))
			blob := j.Stages[0].Done[0].Blob
			if tt.ended {
				l.must(finished(l.take(slot(1, 0), 1), 99, 0))
			}
			for _, ch := range tt.changes {
				hold := &Hold{j.ID, 0, 0, blob, node(ch.node)}
				var cmd Command = hold
				if ch.drop {
					cmd = (*Drop)(hold)
				}
				if ch.want != 0 {
					l.refused(cmd, ch.want)
				} else {
					l.must(cmd)
				}
			}
			if tt.open {
				if got, want := where(j), "open [0:100] done [] claims [] running"; got != want || j.Survivors != 0 || j.Stages[0].Account != (Account{}) {
					t.Errorf("afterwards: %s, %d survivors, want %s and none", got, j.Survivors, want)
				}
				return
			}
			p := l.Progress(j)
			if got := j.Stages[0].Done[0].Holders; !slices.Equal(got, tt.holders) || p.Lost != uint64(b2i(len(tt.holders) == 0)) || p.UnderReplicated != uint64(b2i(len(tt.holders) < 2)) || j.Survivors != 7 {
				t.Errorf("holders %v, %d lost, %d under-replicated, want %v", got, p.Lost, p.UnderReplicated, tt.holders)
			}
		})
	}
	l := newLedger(t, 1)
	j, c := l.whole(slot(1, 0), Range{0, 9})
	l.must(finished(c, 4, 0))
	l.refused(&Hold{j.ID, 0, 0, Digest{}, node(1)}, NoSuchHolding) // it has no survivors
	l.refused(&Hold{j.ID, 0, 3, Digest{1}, node(1)}, NoSuchHolding)
	l.refused(&Hold{j.ID, 1, 0, Digest{1}, node(1)}, UnknownJob)
	l.refused(&Drop{77, 0, 0, Digest{1}, node(1)}, UnknownJob)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestRepairPlan(t *testing.T) {
	for name, tt := range map[string]struct {
		holders []NodeID
		dead    []int
		after   Instant
		want    int // the node that should fetch a copy, 0 for none
	}{
		"nobody is away":                       {[]NodeID{node(1), node(2)}, nil, 10_000, 0},
		"a holder is away for a moment":        {[]NodeID{node(1), node(2)}, []int{2}, repairDelayMS - 1, 0},
		"a holder stays away":                  {[]NodeID{node(1), node(2)}, []int{2}, repairDelayMS, 3},
		"the next in order, round the end":     {[]NodeID{node(3), node(4)}, []int{3}, repairDelayMS, 1},
		"the next in order is away too":        {[]NodeID{node(1), node(2)}, []int{2, 3}, repairDelayMS, 4},
		"nobody is left to fetch from":         {[]NodeID{node(1), node(2)}, []int{1, 2}, repairDelayMS, 0},
		"the only node left needs one copy":    {[]NodeID{node(1), node(2)}, []int{2, 3, 4}, repairDelayMS, 0},
		"three holders, one away":              {[]NodeID{node(1), node(2), node(3)}, []int{2}, repairDelayMS, 0},
		"three holders, two away: one to copy": {[]NodeID{node(1), node(2), node(3)}, []int{2, 3}, repairDelayMS, 4},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, 1, 1, 1, 1)
			_, c := l.whole(slot(1, 0), Range{0, 9})
			l.must(finished(c, 9, 1, tt.holders...)) // of a job that is done: its results still matter
			for _, n := range tt.dead {
				l.must(&Expire{node(n), 1})
			}
			for n := 1; n <= 4; n++ {
				plan := l.RepairPlan(node(n), l.at+tt.after, 10)
				if (len(plan) == 1) != (n == tt.want) || len(plan) > 1 {
					t.Errorf("RepairPlan(node %d) = %+v, want it for node %d alone", n, plan, tt.want)
				}
				for _, r := range plan {
					l.must(&Hold{r.Job, r.Stage, r.Piece.First, r.Piece.Blob, node(n)})
				}
			}
			if tt.want != 0 && len(l.RepairPlan(node(tt.want), l.at+tt.after, 10)) != 0 {
				t.Errorf("RepairPlan after the repair is not empty")
			}
		})
	}
	l := newLedger(t, 1, 1, 1)
	pieces(l, 5, 5, node(1), node(2))
	l.must(&Expire{node(2), 1})
	if got := l.RepairPlan(node(3), l.at+repairDelayMS, 2); len(got) != 2 || got[0].Piece.First != 0 || got[1].Piece.First != 10 {
		t.Errorf("RepairPlan(limit 2) = %+v, want the first two pieces", got)
	}
}

func TestBlobs(t *testing.T) {
	l := newLedger(t, 1, 1)
	pieces(l, 2, 2, node(1), node(2))
	pieces(l, 1, 1, node(2), node(1))
	var got []Digest
	l.Blobs(func(d Digest, holders []NodeID) {
		if got = append(got, d); len(holders) != 2 {
			t.Errorf("blob %s has holders %v, want two", d, holders)
		}
	})
	if want := []Digest{{0, 9, 1}, {10, 19, 1}, {0, 9, 1}}; !slices.Equal(got, want) {
		t.Errorf("Blobs visits %v, want %v", got, want)
	}
}
