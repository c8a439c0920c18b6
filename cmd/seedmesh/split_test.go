package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"seedmesh/node/api/meshv1"
)

func TestReadItems(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"a.json":  {`[1, {"a": [2]}, "x"]`, `|1|{"a": [2]}|"x"`},
		"a.jsonl": {"1\n\n {\"a\": 2} \n3", `|1|{"a": 2}|3`},
		"a.csv":   {"n,m\r\n1,\"two\nlines\"\n\n3,4", "n,m|1,\"two\nlines\"|3,4"},
		"b.json":  {`{"a": 1}`, "not a JSON array"},
		"b.jsonl": {"1\n{", "not JSON"},
		"b.csv":   {"a,b\n1,\"2", "extraneous"},
	} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		header, items, err := readItems(file, strings.TrimPrefix(filepath.Ext(name), "."))
		got := string(header)
		for _, item := range items {
			got += "|" + string(item)
		}
		if name[0] == 'b' && (err == nil || !strings.Contains(err.Error(), tt.want)) && !strings.Contains(name, "csv") || name[0] == 'a' && (err != nil || got != tt.want) || name == "b.csv" && err == nil {
			t.Errorf("%s is %q, %v, want %q", name, got, err, tt.want)
		}
	}
}

// TestJoined joins parts in the order of their tasks, also when the node goes away
// in between and begins with the last task again.
func TestJoined(t *testing.T) {
	for name, tt := range map[string]struct {
		parts []string
		want  string
	}{
		"o.jsonl":   {[]string{"1\n2\n", "3", "4\n"}, "1\n2\n3\n4\n"},
		"o.csv":     {[]string{"a,b\n1,2\n", "a,b\r\n3,4", "a,b\n"}, "a,b\n1,2\n3,4\n"},
		"o.json":    {[]string{"[]", " [1, [2]]\n", "[ ]", "[3]"}, "[\n1, [2],\n3\n]\n"},
		"none.json": {[]string{"[]", "[\n]"}, "[]\n"},
		"one.json":  {[]string{`{"a":1}`, `{"a":2}`}, "[\n{\"a\":1},\n{\"a\":2}\n]\n"},
		"o.bin":     {[]string{"a", "b"}, "ab"},
	} {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		d := &delivery{dir: dir, root: root, seen: map[string]uint64{}, joined: map[string]*joined{}}
		for i, part := range tt.parts {
			h := sha256.Sum256([]byte(part))
			for range 1 + i%2 { // each second one comes twice
				c := &meshv1.OutputChunk{Number: uint64(10 * i), Task: fmt.Sprint(i), Path: name, Data: []byte(part), End: true, Digest: hex.EncodeToString(h[:]), Joined: true}
				if err := d.chunk(c); err != nil {
					t.Fatal(name, err)
				}
			}
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there before it is whole", name)
		}
		if err := d.finish(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		left, _ := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || string(got) != tt.want || len(left) != 1 {
			t.Errorf("%s is %q, %v, want %q; the files are %q", name, got, err, tt.want, left)
		}
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	}
}
