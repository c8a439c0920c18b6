package scripts

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Rows are a blob of texts with an index in front, so that any is found with two
// reads:
//
//	magic (8 bytes), count, count+1 offsets (8 bytes each, little-endian)
//	the rows, where the offsets say
const (
	rowsHead     = 16               // bytes of magic and count
	MaxListBytes = 250 << 20        // of all rows with their index
	maxRows      = 8 << 20          // a template has no such limit
	maxRowBytes  = 2 * MaxTaskBytes // JSON of one task
)

// The kinds of rows: tasks as JSON objects, and items of an input that is split.
const (
	listMagic  = "SMTL1\n\x00\x00"
	itemsMagic = "SMIT1\n\x00\x00"
)

// writeRows writes rows, which each gives in their order.
func writeRows(w io.Writer, magic string, count int, each func(i int) ([]byte, error)) error {
	if count == 0 || count > maxRows {
		return wrong("use a template with --array, or several jobs, for more", "a list has 1 to %d entries, not %d", maxRows, count)
	}
	var rows bytes.Buffer
	index := make([]byte, rowsHead, rowsHead+8*(count+1))
	copy(index, magic)
	binary.LittleEndian.PutUint64(index[8:], uint64(count))
	base := uint64(rowsHead + 8*(count+1))
	index = binary.LittleEndian.AppendUint64(index, base)
	for i := range count {
		b, err := each(i)
		if err != nil {
			return err
		}
		rows.Write(b)
		index = binary.LittleEndian.AppendUint64(index, base+uint64(rows.Len()))
	}
	if size := len(index) + rows.Len(); size > MaxListBytes {
		return wrong("split it into several jobs", "the list has %d bytes, the limit is %d", size, MaxListBytes)
	}
	out := bufio.NewWriter(w)
	_, err := out.Write(index)
	if err == nil {
		_, err = rows.WriteTo(out)
	}
	if err == nil {
		err = out.Flush()
	}
	return err
}

// rows reads what writeRows wrote.
type rows struct {
	r     io.ReaderAt
	count uint64
}

func openRows(r io.ReaderAt, magic string) (*rows, error) {
	var head [rowsHead]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("scripts: the list: %w", err)
	}
	count := binary.LittleEndian.Uint64(head[8:])
	if string(head[:8]) != magic || count == 0 || count > maxRows {
		return nil, fmt.Errorf("scripts: this is not a list of that kind")
	}
	return &rows{r, count}, nil
}

// where says where the rows from first to last lie.
func (l *rows) where(first, last uint64, most uint64) (from, to uint64, err error) {
	if first > last || last >= l.count {
		return 0, 0, fmt.Errorf("scripts: there is no entry %d in a list of %d", last, l.count)
	}
	var at [2][8]byte
	for i, n := range []uint64{first, last + 1} {
		if _, err := l.r.ReadAt(at[i][:], int64(rowsHead+8*n)); err != nil {
			return 0, 0, fmt.Errorf("scripts: the list: %w", err)
		}
	}
	from, to = binary.LittleEndian.Uint64(at[0][:]), binary.LittleEndian.Uint64(at[1][:])
	if from > to || to > MaxListBytes || to-from > most {
		return 0, 0, fmt.Errorf("scripts: the entries %d to %d of the list lie from %d to %d", first, last, from, to)
	}
	return from, to, nil
}

func (l *rows) row(n uint64, most uint64) ([]byte, error) {
	from, to, err := l.where(n, n, most)
	if err != nil {
		return nil, err
	}
	b := make([]byte, to-from)
	if _, err := l.r.ReadAt(b, int64(from)); err != nil {
		return nil, fmt.Errorf("scripts: the list: %w", err)
	}
	return b, nil
}

// WriteList writes tasks as a list.
func WriteList(w io.Writer, tasks []Task) error {
	return writeRows(w, listMagic, len(tasks), func(i int) ([]byte, error) {
		t := tasks[i]
		if err := t.Validate(); err != nil {
			return nil, err
		}
		if err := t.checkNeeds(uint64(i)); err != nil {
			return nil, err
		}
		b, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("scripts: %w", err)
		}
		return b, nil
	})
}

// A List reads tasks from a blob.
type List struct{ rows *rows }

// OpenList reads the head of a list.
func OpenList(r io.ReaderAt) (*List, error) {
	rows, err := openRows(r, listMagic)
	if err != nil {
		return nil, err
	}
	return &List{rows}, nil
}

// Count is the number of tasks.
func (l *List) Count() uint64 { return l.rows.count }

// Task is task number n, from 0.
func (l *List) Task(n uint64) (t Task, err error) {
	row, err := l.rows.row(n, maxRowBytes)
	if err != nil {
		return t, err
	}
	d := json.NewDecoder(bytes.NewReader(row))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return t, fmt.Errorf("scripts: task %d of the list: %w", n, err)
	}
	if err := t.checkNeeds(n); err != nil {
		return t, err
	}
	return t, t.Validate()
}
