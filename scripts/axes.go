package scripts

import (
	"fmt"
	"strconv"
	"strings"
)

// An Axis is what one placeholder of a template runs through: the numbers From
// to To, both included, or Values.
type Axis struct {
	Name   string   `json:"name"` // written {Name} in the template; {} where it is empty
	From   int64    `json:"from,omitempty"`
	To     int64    `json:"to,omitempty"`
	Values []string `json:"values,omitempty"`
}

func (a Axis) size() uint64 {
	if len(a.Values) > 0 {
		return uint64(len(a.Values))
	}
	return uint64(a.To) - uint64(a.From) + 1
}

func (a Axis) value(i uint64) string {
	if len(a.Values) > 0 {
		return a.Values[i]
	}
	return strconv.FormatInt(a.From+int64(i), 10)
}

func (s *Spec) checkAxes() error {
	if len(s.Axes) > MaxAxes {
		return wrong("use fewer parameters", "%d parameters, the limit is %d", len(s.Axes), MaxAxes)
	}
	total, seen := uint64(1), map[string]bool{}
	for _, a := range s.Axes {
		switch {
		case seen[a.Name]:
			return wrong("give every parameter its own name", "the parameter %q is there twice", a.Name)
		case strings.ContainsAny(a.Name, "{}=\x00"):
			return wrong("use letters, digits and _", "%q is not a name of a parameter", a.Name)
		case len(a.Values) == 0 && a.To < a.From:
			return wrong("write the smaller number first", "the range from %d to %d is empty", a.From, a.To)
		}
		seen[a.Name] = true
		if size := a.size(); size == 0 || size > MaxTasks || total*size > MaxTasks {
			return wrong("submit several jobs", "a job has at most %d tasks", uint64(MaxTasks))
		} else {
			total *= size
		}
	}
	return nil
}

// Task is task number n, from 0, of a specification with a template. The last
// axis runs fastest.
func (s *Spec) Task(n uint64) (Task, error) {
	if n >= s.Count() || s.Template == nil {
		return Task{}, fmt.Errorf("scripts: there is no task %d", n)
	}
	t := *s.Template
	if s.Split != nil {
		t.ID = (&Part{Split: s.Split, First: n, Last: n}).Name()
		return t, nil
	}
	if len(s.Axes) == 0 {
		return t, nil
	}
	pairs, names := make([]string, 0, 2*len(s.Axes)), make([]string, len(s.Axes))
	for i := len(s.Axes) - 1; i >= 0; i-- {
		a := s.Axes[i]
		value := a.value(n % a.size())
		n /= a.size()
		pairs = append(pairs, "{"+a.Name+"}", value)
		names[i] = value
	}
	fill := strings.NewReplacer(pairs...)
	t.Argv = replaceAll(fill, t.Argv)
	t.Outputs = replaceAll(fill, t.Outputs)
	if t.ID = fill.Replace(t.ID); t.ID == "" {
		t.ID = strings.ReplaceAll(strings.Join(names, ","), "/", "_")
	}
	return t, t.Validate()
}

func replaceAll(r *strings.Replacer, list []string) []string {
	if list == nil {
		return nil
	}
	filled := make([]string, len(list))
	for i, v := range list {
		filled[i] = r.Replace(v)
	}
	return filled
}

// Number is the inverse of a template's names: the number of the task of that id.
func (s *Spec) Number(id string) (uint64, bool) {
	if s.Split != nil {
		var from, to uint64
		if k, err := fmt.Sscanf(id, "%d-%d", &from, &to); k < 1 || err != nil && k == 2 || from >= s.Split.Items {
			return 0, false
		}
		return from / max(s.Split.Size, 1), true
	}
	if s.Template == nil || s.Template.ID != "" {
		return 0, s.Template != nil && len(s.Axes) == 0 && id == s.Template.ID
	}
	if len(s.Axes) == 0 {
		return 0, id == "0"
	}
	n := uint64(0)
	rest := id
	for i, a := range s.Axes {
		k, length, ok := a.find(rest, i == len(s.Axes)-1)
		if !ok {
			return 0, false
		}
		n = n*a.size() + k
		rest = rest[length:]
	}
	return n, true
}

// find is the position of the value that text begins with, up to a comma, or that
// it is as a whole.
func (a Axis) find(text string, whole bool) (k uint64, length int, ok bool) {
	if len(a.Values) == 0 {
		word, _, more := strings.Cut(text, ",")
		v, err := strconv.ParseInt(word, 10, 64)
		if err != nil || v < a.From || v > a.To || more == whole || word != strconv.FormatInt(v, 10) {
			return 0, 0, false
		}
		return uint64(v - a.From), min(len(word)+1, len(text)), true
	}
	for i, v := range a.Values {
		v = strings.ReplaceAll(v, "/", "_")
		if whole && text == v {
			return uint64(i), len(v), true
		}
		if !whole && strings.HasPrefix(text, v+",") {
			return uint64(i), len(v) + 1, true
		}
	}
	return 0, 0, false
}
