package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A table is written in columns without borders, for eyes and for awk: no cell
// is ever empty.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	_, _ = fmt.Fprintln(t.w, strings.Join(cells, "\t")) // Flush reports
}

func (t *table) flush() error { return t.w.Flush() }
