package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Split makes the tasks of a job parts of one input. Each finds its part under the
// input's own name, in its own format. With a Size a task is so many items; without
// one the job's range is of items, and a task is as many of a claim as time and
// memory allow.
type Split struct {
	Name   string `json:"name"`   // of the part, in the working directory
	Format string `json:"format"` // json (an array), jsonl or csv (with a header)
	Digest Digest `json:"digest"` // of the items, as [WriteItems] writes them
	Bytes  int64  `json:"bytes"`
	Items  uint64 `json:"items"`
	Size   uint64 `json:"size,omitempty"` // items of a task; 0 for as many as will do
}

// formats are how a part is written: what comes first, between two items, behind
// each, and last.
var formats = map[string]struct{ begin, between, behind, end string }{
	"json":  {"[\n", ",\n", "", "\n]\n"},
	"jsonl": {"", "", "\n", ""},
	"csv":   {"", "", "\n", ""},
}

// Formats lists what can be split.
func Formats() []string { return []string{"json", "jsonl", "csv"} }

func (s *Split) validate() error {
	switch {
	case !slices.Contains(Formats(), s.Format):
		return wrong("use json, jsonl or csv", "an input in the format %.20q cannot be split", s.Format)
	case s.Items == 0 || s.Items >= maxRows:
		return wrong("split it into several jobs", "an input has 1 to %d items, not %d", maxRows-1, s.Items)
	}
	return CheckPath(s.Name)
}

// count is the number of units of the job's range.
func (s *Split) count() uint64 {
	if s.Size == 0 {
		return s.Items
	}
	return (s.Items-1)/s.Size + 1
}

// Whole tells whether a task is always one unit of the range.
func (s *Spec) Whole() bool { return s.Split == nil || s.Split.Size > 0 }

// ItemsOf are the items of the units from first to last, all included.
func (s *Split) ItemsOf(first, last uint64) (from, to uint64) {
	size := max(s.Size, 1)
	return first * size, min((last+1)*size, s.Items) - 1
}

// WriteItems writes the items of an input and its header, which may be empty.
func WriteItems(w io.Writer, header []byte, items [][]byte) error {
	return writeRows(w, itemsMagic, len(items)+1, func(i int) ([]byte, error) {
		if i == 0 {
			return header, nil
		}
		return items[i-1], nil
	})
}

// Items reads the items of an input that is split.
type Items struct{ rows *rows }

// OpenItems reads the head of a blob of items.
func OpenItems(r io.ReaderAt) (*Items, error) {
	rows, err := openRows(r, itemsMagic)
	if err != nil {
		return nil, err
	}
	if rows.count < 2 {
		return nil, errors.New("scripts: the input that is split has no items")
	}
	return &Items{rows}, nil
}

// Read gives the header, and the items from first to last.
func (i *Items) Read(first, last uint64) (header []byte, items [][]byte, err error) {
	if header, err = i.rows.row(0, MaxListBytes); err != nil {
		return nil, nil, err
	}
	for n := first; n <= last; n++ {
		item, err := i.rows.row(n+1, MaxListBytes)
		if err != nil {
			return nil, nil, err
		}
		items = append(items, item)
	}
	return header, items, nil
}

// A Part is what one task gets of an input.
type Part struct {
	Split *Split
	Items *Items
	First uint64 // units of the job's range
	Last  uint64
}

// Name of the task: its items, from 0, the last included.
func (p *Part) Name() string {
	from, to := p.Split.ItemsOf(p.First, p.Last)
	return fmt.Sprintf("%d-%d", from, to)
}

// write writes the part in the input's format.
func (p *Part) write(w io.Writer) error {
	form := formats[p.Split.Format]
	var b bytes.Buffer
	flush := func(least int) error {
		if b.Len() < least {
			return nil
		}
		_, err := b.WriteTo(w)
		return err
	}
	header, err := p.Items.rows.row(0, MaxListBytes)
	if err != nil {
		return err
	}
	if len(header) > 0 {
		b.Write(header)
		b.WriteString(form.behind)
	}
	b.WriteString(form.begin)
	from, to := p.Split.ItemsOf(p.First, p.Last)
	for n := from; n <= to; n++ {
		item, err := p.Items.rows.row(n+1, MaxListBytes)
		if err != nil {
			return err
		}
		if n > from {
			b.WriteString(form.between)
		}
		b.Write(item)
		b.WriteString(form.behind)
		if err := flush(validChunk); err != nil {
			return err
		}
	}
	b.WriteString(form.end)
	return flush(0)
}
