package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func template(argv ...string) *Spec { return &Spec{Template: &Task{Argv: argv}} }

func TestSpecRoundTrip(t *testing.T) {
	gpu := 3
	s := &Spec{
		Template: &Task{ID: "t{n}", Argv: []string{"./run", "{n}", "{}"}, Outputs: []string{"o-{}"}, As: []string{"/x/o-{}"}, TimeoutMS: 5, GPU: &gpu},
		Axes:     []Axis{{From: -2, To: 2}, {Name: "n", Values: []string{"a", "b"}}},
		Env:      []string{"A=1"}, Inputs: []Input{{Path: "d/x", Digest: Digest{1}, Bytes: 7, Exec: true}}, Outputs: []string{"*.txt"},
		Capture: "json", Valid: "auto", OK: []int{0, 3}, Holders: []string{"n"}, TimeoutMS: 1000, Memory: 1 << 30, GPUHint: true,
	}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("Decode(Encode(%+v)) = %+v, %v", s, got, err)
	}
	if !got.HeldBy("n") || got.HeldBy("m") || got.Count() != 10 {
		t.Errorf("holders %v, %d tasks", got.Holders, got.Count())
	}
}

// FuzzDecode: what is accepted is written and read again as the same, and a template gives
// its first and its last task.
func FuzzDecode(f *testing.F) {
	for _, s := range []*Spec{
		{Template: &Task{Argv: []string{"./run", "{n}"}}, Axes: []Axis{{From: -2, To: 2}, {Name: "n", Values: []string{"a"}}}, OK: []int{0, 3}},
		{List: &Listing{Digest: Digest{1}, Tasks: 2, Bytes: 30}, Env: []string{"A=1"}, Outputs: []string{"*.txt"}, Valid: "auto"},
	} {
		b, err := s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		if s.Template != nil {
			for _, n := range []uint64{0, s.Count() - 1} {
				if _, err := s.Task(n); err != nil {
					t.Errorf("task %d of %d: %v", n, s.Count(), err)
				}
			}
		}
		once, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		same, err := Decode(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := same.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s is read and written as %s, %v", once, twice, err)
		}
	})
}

// FuzzOpenList: whatever a list says of itself, its ends are tasks that can run, or errors.
func FuzzOpenList(f *testing.F) {
	var b bytes.Buffer
	if err := WriteList(&b, []Task{{ID: "a", Argv: []string{"x"}}, {ID: "b", Argv: []string{"y"}, Needs: []uint64{0}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := OpenList(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, n := range []uint64{0, l.Count() - 1, l.Count()} {
			task, err := l.Task(n)
			if err == nil && (n == l.Count() || task.Validate() != nil) {
				t.Errorf("task %d of %d is %+v", n, l.Count(), task)
			}
		}
	})
}

// TestTasksOfATemplate expands the corners of a template, and finds each by its name.
func TestTasksOfATemplate(t *testing.T) {
	for name, tt := range map[string]struct {
		spec *Spec
		want map[uint64][]string // argv by number
		ids  map[uint64]string
	}{
		"one": {template("true", "{}"), map[uint64][]string{0: {"true", "{}"}}, map[uint64]string{0: ""}},
		"array": {
			func() *Spec { s := template("x", "v={}"); s.Axes = []Axis{{From: 5, To: 1_000_004}}; return s }(),
			map[uint64][]string{0: {"x", "v=5"}, 999_999: {"x", "v=1000004"}}, map[uint64]string{0: "5", 999_999: "1000004"},
		},
		"matrix, the last fastest": {
			func() *Spec {
				s := template("x", "{a}", "{b}", "{}")
				s.Axes = []Axis{{Name: "a", Values: []string{"p", "q/r"}}, {From: 1, To: 3}, {Name: "b", Values: []string{"u", "v"}}}
				return s
			}(),
			map[uint64][]string{0: {"x", "p", "u", "1"}, 1: {"x", "p", "v", "1"}, 11: {"x", "q/r", "v", "3"}},
			map[uint64]string{0: "p,1,u", 11: "q_r,3,v"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.spec.Validate(); err != nil {
				t.Fatal(err)
			}
			for n, argv := range tt.want {
				if got, err := tt.spec.Task(n); err != nil || !reflect.DeepEqual(got.Argv, argv) {
					t.Errorf("Task(%d) = %q, %v, want %q", n, got.Argv, err, argv)
				}
			}
			for n, id := range tt.ids {
				got, err := tt.spec.Task(n)
				if err != nil || got.ID != id {
					t.Errorf("task %d is called %q, %v, want %q", n, got.ID, err, id)
				}
				if id == "" {
					id = "0"
				}
				if k, ok := tt.spec.Number(id); !ok || k != n {
					t.Errorf("Number(%q) = %d, %v, want %d", id, k, ok, n)
				}
			}
			if _, err := tt.spec.Task(tt.spec.Count()); err == nil {
				t.Error("there is a task behind the last")
			}
			for _, id := range []string{"nobody", "4", "05", "p", "p,1,u,", "p,4,u", "1000005", ""} {
				if n, ok := tt.spec.Number(id); ok {
					t.Errorf("Number(%q) = %d", id, n)
				}
			}
		})
	}
}

// TestLabel says what a job runs as exec takes it.
func TestLabel(t *testing.T) {
	for want, spec := range map[string]*Spec{
		"echo {}":                       {Template: &Task{Argv: []string{"echo", "{}"}}},
		"python3 w.py :: -n {}":         {Template: &Task{Argv: []string{"python3", "w.py", "-n", "{}"}}, Worker: 2},
		"python3 w.py":                  {Template: &Task{Argv: []string{"python3", "w.py"}}, Worker: 2},
		"list of 3":                     {List: &Listing{Tasks: 3}, Worker: 2},
		strings.Repeat("x", 80) + "...": {Template: &Task{Argv: []string{strings.Repeat("x", 90)}}},
	} {
		if got := spec.Label(); got != want {
			t.Errorf("the label is %q, want %q", got, want)
		}
	}
}

func TestSpecRefusals(t *testing.T) {
	for name, s := range map[string]*Spec{
		"nothing to run":         {},
		"two things to run":      {Template: &Task{Argv: []string{"x"}}, List: &Listing{Tasks: 1}},
		"no command":             template(),
		"empty command":          template(""),
		"zero byte":              template("x", "a\x00b"),
		"empty list":             {List: &Listing{}},
		"axes twice":             {Template: &Task{Argv: []string{"x"}}, Axes: []Axis{{Name: "a"}, {Name: "a"}}},
		"empty axis":             {Template: &Task{Argv: []string{"x"}}, Axes: []Axis{{From: 2, To: 1}}},
		"too many tasks":         {Template: &Task{Argv: []string{"x"}}, Axes: []Axis{{From: 0, To: MaxTasks}}},
		"too many, multiplied":   {Template: &Task{Argv: []string{"x"}}, Axes: []Axis{{From: 1, To: 1 << 20}, {Name: "b", From: 1, To: 1 << 20}}},
		"output above":           {Template: &Task{Argv: []string{"x"}}, Outputs: []string{"../x"}},
		"output in the middle":   {Template: &Task{Argv: []string{"x"}}, Outputs: []string{"a/../../x"}},
		"absolute output":        {Template: &Task{Argv: []string{"x"}}, Outputs: []string{"/etc/passwd"}},
		"task's output above":    {Template: &Task{Argv: []string{"x"}, Outputs: []string{"../x"}}},
		"bad glob":               {Template: &Task{Argv: []string{"x"}}, Outputs: []string{"a[b"}},
		"input above":            {Template: &Task{Argv: []string{"x"}}, Inputs: []Input{{Path: "../x"}}},
		"input twice":            {Template: &Task{Argv: []string{"x"}}, Inputs: []Input{{Path: "x"}, {Path: "x"}}},
		"no variable":            {Template: &Task{Argv: []string{"x"}}, Env: []string{"A"}},
		"unknown check":          {Template: &Task{Argv: []string{"x"}}, Valid: "xml"},
		"unknown capture":        {Template: &Task{Argv: []string{"x"}}, Capture: "xml"},
		"a name that is a path":  {Template: &Task{ID: "../x", Argv: []string{"x"}}},
		"a name above":           {Template: &Task{ID: "..", Argv: []string{"x"}}},
		"too long a time":        {Template: &Task{Argv: []string{"x"}}, TimeoutMS: 1 << 40},
		"arguments without end":  template("x", strings.Repeat("y", MaxTaskBytes)),
		"a spec that is too big": {Template: &Task{Argv: []string{"x"}}, Env: []string{"A=" + strings.Repeat("y", MaxSpecBytes)}},
	} {
		t.Run(name, func(t *testing.T) {
			var refused *SpecError
			if _, err := s.Encode(); !errors.As(err, &refused) {
				t.Errorf("Encode(%+v) = %v", s, err)
			}
		})
	}
	for name, tt := range map[string]struct {
		text  string
		newer bool // it is said that it was made by a newer program
	}{
		"a field that is not known":          {`{"version":1,"template":{"argv":["x"]},"colour":1}`, true},
		"one of a task":                      {`{"version":1,"template":{"argv":["x"],"colour":1}}`, true},
		"a newer version":                    {`{"version":2,"template":{"argv":["x"]}}`, true},
		"a newer version of another form":    {`{"version":2,"template":["x"],"colour":1}`, true},
		"a version that there has not been":  {`{"version":0,"template":{"argv":["x"]}}`, false},
		"a field of another form":            {`{"version":1,"template":["x"]}`, false},
		"both, of which one cannot be newer": {`{"version":1,"template":["x"],"colour":1}`, false},
		"no JSON":                            {`x`, false},
	} {
		var refused *SpecError
		s, err := Decode([]byte(tt.text))
		if !errors.As(err, &refused) || strings.Contains(err.Error(), "newer seedmesh") != tt.newer || strings.Contains(refused.Remedy(), "upgrade") != tt.newer {
			t.Errorf("%s: Decode = %+v, %v", name, s, err)
		}
	}
}

func TestList(t *testing.T) {
	var tasks []Task
	for i := range 1000 {
		tasks = append(tasks, Task{ID: fmt.Sprint("j", i), Argv: []string{"x", strings.Repeat("y", i)}})
	}
	var b bytes.Buffer
	if err := WriteList(&b, tasks); err != nil {
		t.Fatal(err)
	}
	l, err := OpenList(bytes.NewReader(b.Bytes()))
	if err != nil || l.Count() != 1000 {
		t.Fatal(l, err)
	}
	for i, want := range tasks {
		if got, err := l.Task(uint64(i)); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("Task(%d) = %+v, %v, want %+v", i, got, err, want)
		}
	}
	if _, err := l.Task(1000); err == nil {
		t.Error("there is a task behind the last")
	}
	for i := range 24 { // any damage to the head or the index is found, or harmless
		bad := bytes.Clone(b.Bytes())
		bad[i] ^= 0x55
		if l, err := OpenList(bytes.NewReader(bad)); err == nil {
			if got, err := l.Task(0); err == nil && !reflect.DeepEqual(got, tasks[0]) {
				t.Errorf("with byte %d damaged task 0 is %+v", i, got)
			}
		}
	}
	if err := WriteList(&b, []Task{{}}); err == nil {
		t.Error("a task without a command was written")
	}
}

// TestRecorder compares what is kept with the whole, for texts around the bounds.
func TestRecorder(t *testing.T) {
	whole := make([]byte, 3*(keepHead+keepTail))
	for i := range whole {
		whole[i] = byte(i * 7 / 5)
	}
	for _, size := range []int{0, 1, keepHead, keepHead + 1, keepHead + keepTail, keepHead + keepTail + 1, len(whole)} {
		for _, step := range []int{1 << 20, 1000, 7777} {
			var r recorder
			for at := 0; at < size; at += step {
				_, _ = r.Write(whole[at:min(at+step, size)])
			}
			w := r.words()
			if int(w.Total) != size || !bytes.Equal(w.Head, whole[:min(size, keepHead)]) {
				t.Fatalf("%d bytes in steps of %d: %d counted, head of %d", size, step, w.Total, len(w.Head))
			}
			if tail := whole[max(min(size, keepHead), size-keepTail):size]; !bytes.Equal(w.Tail, tail) {
				t.Errorf("%d bytes in steps of %d: the tail of %d bytes is not the last %d", size, step, len(w.Tail), len(tail))
			}
			if end := w.End(100); !bytes.Equal(end, whole[max(0, size-100):size]) {
				t.Errorf("%d bytes in steps of %d: End(100) is %d other bytes", size, step, len(end))
			}
			if again := r.words(); !again.IsZero() {
				t.Errorf("a recorder that was read has %d bytes", again.Total)
			}
		}
	}
}
