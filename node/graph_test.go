package node

import (
	"reflect"
	"slices"
	"testing"

	"seedmesh/jobs"
	"seedmesh/scripts"
)

// TestTakeResolves makes commands of what may start and what never will: only of
// what is held back, in ranges, and no more than fit.
func TestTakeResolves(t *testing.T) {
	g := &graphed{ready: []uint64{9, 3, 4, 5, 20, 2}, aside: []cast{{31, "b"}, {30, "a"}, {29, "a"}, {50, "a"}}}
	got := g.take(7, []jobs.Range{{First: 3, Last: 9}, {First: 29, Last: 40}})
	want := []jobs.Command{&jobs.Resolve{
		Job: 7, Ready: []jobs.Range{{First: 3, Last: 5}, {First: 9, Last: 9}},
		Aside: []jobs.Failure{{Range: jobs.Range{First: 29, Last: 30}, Class: needsFailed, Message: "a"}, {Range: jobs.Range{First: 31, Last: 31}, Class: needsFailed, Message: "b"}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("take = %+v, want %+v", got, want)
	}
	for n := range uint64(3 * jobs.MaxResolved) {
		g.ready = append(g.ready, 2*n)
	}
	if got := g.take(7, []jobs.Range{{First: 0, Last: 1 << 40}}); len(got) != 3 {
		t.Errorf("%d commands for %d ranges", len(got), 3*jobs.MaxResolved)
	}
	if got := g.take(7, []jobs.Range{{First: 0, Last: 1 << 40}}); len(got) != 0 {
		t.Errorf("what was taken is taken again: %v", got)
	}
}

// TestKeepNeeds numbers the needs of tasks that are tried again by their new places.
func TestKeepNeeds(t *testing.T) {
	list := []scripts.Task{{ID: "3"}, {ID: "5", Needs: []uint64{1, 3}}, {ID: "9", Needs: []uint64{4}, NeedsAny: []uint64{5, 6}}}
	keepNeeds(list, []uint64{3, 5, 9})
	if !slices.Equal(list[1].Needs, []uint64{0}) || len(list[2].Needs) != 0 || !slices.Equal(list[2].NeedsAny, []uint64{1}) {
		t.Errorf("the needs are %+v", list)
	}
}
