package scripts

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// itemsOf makes an input of seven items.
func itemsOf(t *testing.T, format string, size uint64) *Part {
	t.Helper()
	var items [][]byte
	for i := range 7 {
		items = append(items, fmt.Appendf(nil, "%d", 10+i))
	}
	var header []byte
	if format == "csv" {
		header = []byte("value")
	}
	var b bytes.Buffer
	if err := WriteItems(&b, header, items); err != nil {
		t.Fatal(err)
	}
	read, err := OpenItems(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return &Part{Split: &Split{Name: "in/items." + format, Format: format, Items: 7, Size: size}, Items: read}
}

func TestParts(t *testing.T) {
	for _, tt := range []struct {
		format            string
		size, first, last uint64
		name, want        string
	}{
		{"json", 0, 2, 4, "2-4", "[\n12,\n13,\n14\n]\n"},
		{"jsonl", 0, 0, 0, "0-0", "10\n"},
		{"csv", 0, 5, 6, "5-6", "value\n15\n16\n"},
		{"jsonl", 3, 1, 1, "3-5", "13\n14\n15\n"},
		{"jsonl", 3, 2, 2, "6-6", "16\n"},
	} {
		p := itemsOf(t, tt.format, tt.size)
		p.First, p.Last = tt.first, tt.last
		var b bytes.Buffer
		if err := p.write(&b); err != nil || b.String() != tt.want || p.Name() != tt.name {
			t.Errorf("part %s of %s = %q, %v, want %s, %q", p.Name(), tt.format, b.String(), err, tt.name, tt.want)
		}
		switch tt.format {
		case "json":
			if !json.Valid(b.Bytes()) {
				t.Errorf("%s is not JSON", b.String())
			}
		case "csv":
			if rows, err := csv.NewReader(&b).ReadAll(); err != nil || len(rows) != 3 {
				t.Errorf("the rows are %v, %v", rows, err)
			}
		}
		spec := &Spec{Template: &Task{Argv: []string{"true"}}, Split: p.Split}
		if n, ok := spec.Number(tt.name); !ok || n != tt.first {
			t.Errorf("the task %s has number %d, want %d", tt.name, n, tt.first)
		}
	}
	if s := (&Spec{Split: &Split{Items: 7, Size: 3}}); s.Count() != 3 || !s.Whole() {
		t.Errorf("7 items, 3 for each task, are %d tasks", s.Count())
	}
	if s := (&Spec{Split: &Split{Items: 7}}); s.Count() != 7 || s.Whole() {
		t.Errorf("7 items are %d units", s.Count())
	}
}

// TestPartIsRun gives a task its part, which is none of its outputs.
func TestPartIsRun(t *testing.T) {
	r := newPlace(t)
	part := itemsOf(t, "jsonl", 0)
	part.First, part.Last = 3, 5
	a := shell("cp in/items.jsonl in/out.jsonl; echo more >> in/items.jsonl; echo $SEEDMESH_PART", outputs("in/*.jsonl"))
	a.Part, a.Number = part, 3
	o, err := r.Run(t.Context(), a)
	if err != nil || o.Class != OK || len(o.Outputs) != 1 || o.Task != 3 || o.Last != 5 || o.Units() != 3 || strings.TrimSpace(string(o.Stdout.Head)) != "in/items.jsonl" {
		t.Fatalf("got %+v, %v", o, err)
	}
	if b, err := os.ReadFile(filepath.Join(r.place.Base, OutputPath("0", 3, 0))); err != nil || string(b) != "13\n14\n15\n" {
		t.Errorf("the output is %q, %v", b, err)
	}
}
