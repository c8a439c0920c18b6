package scripts

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of what tasks need.
const (
	MaxNeeds = 4096    // other tasks that one needs
	maxEdges = 8 << 20 // needs of all tasks of a list together
	maxCycle = 16      // tasks of a cycle that are named
)

// anyEnd ends the name of a task of which any end will do.
const anyEnd = ":any"

// Arrange puts tasks, whose ids are all different, into an order in which none
// stands in front of one that it needs: first those that need none, in the order in
// which they were, then those that need only these, and so on. needs has, for each
// task, the ids of those that must have succeeded before, or with ":any" behind,
// ended. A cycle is refused by name.
func Arrange(tasks []Task, needs [][]string) ([]Task, error) {
	number := make(map[string]int, len(tasks))
	for i, t := range tasks {
		number[t.ID] = i
	}
	edges, all := make([][]edge, len(tasks)), 0
	for i, names := range needs {
		if len(names) > MaxNeeds {
			return nil, wrong("have some of them needed by a task between", "the task %.60q needs %d others, the limit is %d", tasks[i].ID, len(names), MaxNeeds)
		}
		if all += len(names); all > maxEdges {
			return nil, wrong("have groups of them needed by a task between, or make several jobs with --after", "the tasks have more than %d needs together, which is the limit", maxEdges)
		}
		for _, name := range names {
			k, known := number[name]
			bare, any := strings.CutSuffix(name, anyEnd)
			if !known && any {
				k, known = number[bare]
			} else {
				any = false
			}
			if !known {
				return nil, wrong("name it by its id", "the task %.60q needs %.60q, which is not there", tasks[i].ID, name)
			}
			edges[i] = append(edges[i], edge{k, any})
		}
	}
	levels, cycle := levelsOf(edges)
	if cycle != nil {
		var names []string
		for i, k := range cycle {
			if i < maxCycle || i == len(cycle)-1 {
				names = append(names, clip(tasks[k].ID))
			} else if i == maxCycle {
				names = append(names, fmt.Sprintf("(%d more)", len(cycle)-maxCycle-1))
			}
		}
		return nil, wrong("take one of these needs out", "tasks need each other: %s", strings.Join(names, " needs "))
	}
	return reorder(tasks, edges, levels), nil
}

// edge is the need for a task.
type edge struct {
	task int
	any  bool
}

// levelsOf says how many tasks must run one after the other before each, or gives
// tasks that need each other, from one to itself.
func levelsOf(edges [][]edge) (levels []int, cycle []int) {
	const unseen, under, done = 0, 1, 2
	levels = make([]int, len(edges))
	state := make([]uint8, len(edges))
	at := make([]int, len(edges)) // the next edge to follow
	for root := range edges {
		for path := []int{root}; len(path) > 0; {
			i := path[len(path)-1]
			switch {
			case state[i] == done:
				path = path[:len(path)-1]
			case at[i] == len(edges[i]):
				for _, e := range edges[i] {
					levels[i] = max(levels[i], levels[e.task]+1)
				}
				state[i] = done
				path = path[:len(path)-1]
			default:
				state[i] = under
				next := edges[i][at[i]].task
				if state[next] == under {
					from := slices.Index(path, next)
					return nil, append(path[from:], next)
				}
				at[i]++
				if state[next] == unseen {
					path = append(path, next)
				}
			}
		}
	}
	return levels, nil
}

func reorder(tasks []Task, edges [][]edge, levels []int) []Task {
	order := make([]int, len(tasks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return levels[a] - levels[b] })
	place := make([]uint64, len(tasks))
	for to, from := range order {
		place[from] = uint64(to)
	}
	sorted := make([]Task, len(tasks))
	for to, from := range order {
		t := tasks[from]
		for _, e := range edges[from] {
			if e.any {
				t.NeedsAny = append(t.NeedsAny, place[e.task])
			} else {
				t.Needs = append(t.Needs, place[e.task])
			}
		}
		sorted[to] = t
	}
	return sorted
}

// checkNeeds refuses a task number n that needs itself or one behind it.
func (t *Task) checkNeeds(n uint64) error {
	if len(t.Needs)+len(t.NeedsAny) > MaxNeeds {
		return wrong("", "task %d needs %d others, the limit is %d", n, len(t.Needs)+len(t.NeedsAny), MaxNeeds)
	}
	for _, list := range [][]uint64{t.Needs, t.NeedsAny} {
		for _, k := range list {
			if k >= n {
				return wrong("", "task %d needs task %d, which is not in front of it", n, k)
			}
		}
	}
	return nil
}

// Ready is how many tasks of a list, from the first, need no other; 0 when none
// needs any.
func Ready(tasks []Task) uint64 {
	i := slices.IndexFunc(tasks, func(t Task) bool { return len(t.Needs)+len(t.NeedsAny) > 0 })
	return uint64(max(i, 0))
}

// A Graph knows which tasks of a list may start, and which never will, from what
// has become of the others. It is used by one goroutine.
type Graph struct {
	waits []uint32 // by task: needs that have not ended
	ended []bool
	from  []uint32 // by task: where its dependents begin in to; one more at the end
	to    []uint32
	any   []bool // by edge: any end will do
}

// NewGraph reads what the tasks of a list need.
func NewGraph(l *List) (*Graph, error) {
	n := l.Count()
	g := &Graph{waits: make([]uint32, n), ended: make([]bool, n), from: make([]uint32, n+1)}
	type need struct {
		of, by uint32
		any    bool
	}
	var all []need
	for i := range n {
		t, err := l.Task(i)
		if err != nil {
			return nil, err
		}
		for _, k := range t.Needs {
			all = append(all, need{uint32(k), uint32(i), false})
		}
		for _, k := range t.NeedsAny {
			all = append(all, need{uint32(k), uint32(i), true})
		}
		if g.waits[i] = uint32(len(t.Needs) + len(t.NeedsAny)); len(all) > maxEdges {
			return nil, fmt.Errorf("scripts: the tasks of the list have more than %d needs", maxEdges)
		}
	}
	for _, e := range all {
		g.from[e.of+1]++
	}
	for i := range n {
		g.from[i+1] += g.from[i]
	}
	g.to, g.any = make([]uint32, len(all)), make([]bool, len(all))
	next := slices.Clone(g.from)
	for _, e := range all {
		k := next[e.of]
		next[e.of]++
		g.to[k], g.any[k] = e.by, e.any
	}
	return g, nil
}

// Free lists the tasks that need no other.
func (g *Graph) Free() (tasks []uint64) {
	for n, waits := range g.waits {
		if waits == 0 {
			tasks = append(tasks, uint64(n))
		}
	}
	return tasks
}

// Succeeded notes that a task is done, and gives those that may start now.
func (g *Graph) Succeeded(n uint64) (ready []uint64) {
	if g.ended[n] {
		return nil
	}
	g.ended[n] = true
	for k := g.from[n]; k < g.from[n+1]; k++ {
		ready = g.met(g.to[k], ready)
	}
	return ready
}

// Failed notes that a task has failed for good, and gives those that may start now
// and those that never will: what needs it, what needs that, and so on.
func (g *Graph) Failed(n uint64) (ready, aside []uint64) {
	if g.ended[n] {
		return nil, nil
	}
	g.ended[n] = true
	for lost := []uint64{n}; len(lost) > 0; lost = lost[1:] {
		of := lost[0]
		for k := g.from[of]; k < g.from[of+1]; k++ {
			by := g.to[k]
			switch {
			case g.any[k]:
				ready = g.met(by, ready)
			case !g.ended[by]:
				g.ended[by] = true
				lost, aside = append(lost, uint64(by)), append(aside, uint64(by))
			}
		}
	}
	return ready, aside
}

// met counts one need of a task as met.
func (g *Graph) met(by uint32, ready []uint64) []uint64 {
	if g.waits[by]--; g.waits[by] == 0 && !g.ended[by] {
		ready = append(ready, uint64(by))
	}
	return ready
}
