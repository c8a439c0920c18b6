package main

import (
	"slices"
	"strings"
	"testing"

	"seedmesh/node"
)

// TestClusterTOML holds the commented file against the code: the same keys, and
// each at its default.
func TestClusterTOML(t *testing.T) {
	const path = "../../cluster.toml"
	c, err := node.LoadConfig(path, "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.TOML()
	if err != nil {
		t.Fatal(err)
	}
	want, err := node.DefaultConfig().TOML()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("cluster.toml says\n%s\nand the defaults are\n%s", got, want)
	}
	if has, needs := settings(readFile(t, path)), settings(string(want)); !slices.Equal(has, needs) {
		t.Errorf("cluster.toml has the keys\n%q, and the code\n%q", has, needs)
	}
}

// settings lists the keys of a TOML text with their tables, in order.
func settings(text string) []string {
	var keys []string
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, _, isKey := strings.Cut(line, " = ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			table = line
		case isKey:
			keys = append(keys, table+" "+key)
		}
	}
	return keys
}
