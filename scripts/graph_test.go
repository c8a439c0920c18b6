package scripts

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// arranged gives tasks of these ids, in order, each behind those that it needs.
func arranged(t *testing.T, lines ...string) ([]Task, error) {
	t.Helper()
	tasks, needs := make([]Task, len(lines)), make([][]string, len(lines))
	for i, line := range lines {
		id, list, _ := strings.Cut(line, " ")
		tasks[i] = Task{ID: id, Argv: []string{"true"}}
		needs[i] = strings.Fields(list)
	}
	return Arrange(tasks, needs)
}

func TestArrange(t *testing.T) {
	for name, tt := range map[string]struct {
		tasks []string
		want  string // in their order, with what they need
		err   string
	}{
		"none":               {[]string{"a", "b"}, "a b", ""},
		"already in order":   {[]string{"a", "b a"}, "a b:0", ""},
		"out of order":       {[]string{"c b", "b a:any", "a"}, "a b:0? c:1", ""},
		"a name with :any":   {[]string{"x:any", "x", "b x:any"}, "x:any x b:0", ""},
		"by levels":          {[]string{"a", "b a", "c", "d c b"}, "a c b:0 d:1,2", ""},
		"a cycle":            {[]string{"z", "a c z", "b a", "c b"}, "", "a needs c needs b needs a"},
		"needs itself":       {[]string{"a a:any"}, "", "a needs a"},
		"needs nobody known": {[]string{"a b"}, "", `"a" needs "b", which is not there`},
	} {
		t.Run(name, func(t *testing.T) {
			tasks, err := arranged(t, tt.tasks...)
			var words []string
			for _, task := range tasks {
				var needs []string
				for _, k := range task.Needs {
					needs = append(needs, fmt.Sprint(k))
				}
				for _, k := range task.NeedsAny {
					needs = append(needs, fmt.Sprint(k, "?"))
				}
				slices.Sort(needs)
				words = append(words, strings.TrimSuffix(task.ID+":"+strings.ReplaceAll(strings.Join(needs, ","), " ", ""), ":"))
			}
			if got := strings.Join(words, " "); got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Arrange(%q) = %q, %v, want %q, %q", tt.tasks, got, err, tt.want, tt.err)
			}
		})
	}
}

// TestGraphsHaveLimits refuses what the leader could not follow, and names no more than
// the beginning of a long cycle.
func TestGraphsHaveLimits(t *testing.T) {
	long := make([]string, 1000)
	for i := range long {
		long[i] = fmt.Sprintf("t%d t%d", i, (i+1)%len(long))
	}
	if _, err := arranged(t, long...); err == nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), "t15 needs (984 more) needs t0") {
		t.Errorf("a cycle of 1000 tasks: %.400v", err)
	}
	tasks, names := make([]Task, maxEdges/MaxNeeds+MaxNeeds+1), make([]string, MaxNeeds)
	needs := make([][]string, len(tasks))
	for i := range tasks {
		tasks[i].ID = fmt.Sprint(i)
		if i < MaxNeeds {
			names[i] = tasks[i].ID
		} else {
			needs[i] = names
		}
	}
	if _, err := Arrange(tasks, needs); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxEdges)) {
		t.Errorf("tasks with %d needs: %v", (maxEdges/MaxNeeds+1)*MaxNeeds, err)
	}
	if _, err := Arrange(tasks[:len(tasks)-1], needs[:len(tasks)-1]); err != nil {
		t.Errorf("tasks with %d needs: %v", maxEdges, err)
	}
	if _, err := Arrange(tasks[:2], [][]string{nil, make([]string, MaxNeeds+1)}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(MaxNeeds)) {
		t.Errorf("a task with %d needs: %v", MaxNeeds+1, err)
	}
}

func TestForwardNeedsAreRefused(t *testing.T) {
	tasks := []Task{{Argv: []string{"true"}, Needs: []uint64{1}}, {Argv: []string{"true"}}}
	if err := WriteList(new(bytes.Buffer), tasks); err == nil {
		t.Error("a task may need one behind it")
	}
}

// TestGraph ends the tasks of random graphs in any order that they allow, some by
// failure, and holds what may start against the definition.
func TestGraph(t *testing.T) {
	for round := range uint64(200) {
		r := rand.New(rand.NewPCG(round, 1))
		n := 1 + r.IntN(40)
		tasks := make([]Task, n)
		for i := range tasks {
			tasks[i] = Task{ID: fmt.Sprint(i), Argv: []string{"true"}}
			for k := range i {
				switch r.IntN(12) {
				case 0:
					tasks[i].Needs = append(tasks[i].Needs, uint64(k))
				case 1:
					tasks[i].NeedsAny = append(tasks[i].NeedsAny, uint64(k))
				}
			}
		}
		var b bytes.Buffer
		if err := WriteList(&b, tasks); err != nil {
			t.Fatal(err)
		}
		list, err := OpenList(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		g, err := NewGraph(list)
		if err != nil {
			t.Fatal(err)
		}
		walkGraph(t, r, tasks, g)
	}
}

func walkGraph(t *testing.T, r *rand.Rand, tasks []Task, g *Graph) {
	state := make([]string, len(tasks)) // "", ready, done, failed
	var open []uint64
	for _, i := range g.Free() {
		state[i], open = "ready", append(open, i)
	}
	for len(open) > 0 {
		k := r.IntN(len(open))
		n := open[k]
		open = slices.Delete(open, k, k+1)
		var ready, aside []uint64
		if state[n] = "done"; r.IntN(4) == 0 {
			state[n] = "failed"
			ready, aside = g.Failed(n)
		} else {
			ready = g.Succeeded(n)
		}
		for _, i := range aside {
			state[i] = "failed"
		}
		for _, i := range ready {
			state[i] = "ready"
		}
		open = append(open, ready...)
		if again := g.Succeeded(n); len(again) > 0 {
			t.Fatalf("the end of task %d counts twice: %v", n, again)
		}
		for i, task := range tasks {
			lost := slices.ContainsFunc(task.Needs, func(k uint64) bool { return state[k] == "failed" })
			met := !slices.ContainsFunc(task.Needs, func(k uint64) bool { return state[k] != "done" }) &&
				!slices.ContainsFunc(task.NeedsAny, func(k uint64) bool { return state[k] != "done" && state[k] != "failed" })
			if lost && state[i] != "failed" || met && state[i] == "" || !met && !lost && state[i] != "" {
				t.Fatalf("task %d, which needs %v and %v, is %q: %q", i, task.Needs, task.NeedsAny, state[i], state)
			}
		}
	}
	if i := slices.Index(state, ""); i >= 0 {
		t.Fatalf("task %d never starts: %q", i, state)
	}
}
