package scripts

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// A list is a blob of tasks with an index in front, so that any task is found
// with two reads:
//
//	magic "SMTL1\n\0\0", count, count+1 offsets (8 bytes each, little-endian)
//	the tasks, each a JSON object, where the offsets say
const (
	listMagic    = "SMTL1\n\x00\x00"
	listHead     = 16               // bytes of magic and count
	MaxListBytes = 250 << 20        // of a list
	maxListTasks = 8 << 20          // tasks of a list; a template has no such limit
	maxRowBytes  = 2 * MaxTaskBytes // JSON of one task
)

// WriteList writes tasks as a list.
func WriteList(w io.Writer, tasks []Task) error {
	if len(tasks) == 0 || len(tasks) > maxListTasks {
		return wrong("use a template with --array for more", "a list has 1 to %d tasks, not %d", maxListTasks, len(tasks))
	}
	var rows bytes.Buffer
	index := make([]byte, listHead, listHead+8*(len(tasks)+1))
	copy(index, listMagic)
	binary.LittleEndian.PutUint64(index[8:], uint64(len(tasks)))
	base := uint64(listHead + 8*(len(tasks)+1))
	index = binary.LittleEndian.AppendUint64(index, base)
	for i, t := range tasks {
		if err := t.validate(); err != nil {
			return err
		}
		if err := t.checkNeeds(uint64(i)); err != nil {
			return err
		}
		b, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("scripts: %w", err)
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

// A List reads tasks from a blob.
type List struct {
	r     io.ReaderAt
	count uint64
}

// OpenList reads the head of a list.
func OpenList(r io.ReaderAt) (*List, error) {
	var head [listHead]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("scripts: the list of tasks: %w", err)
	}
	count := binary.LittleEndian.Uint64(head[8:])
	if string(head[:8]) != listMagic || count == 0 || count > maxListTasks {
		return nil, fmt.Errorf("scripts: this is not a list of tasks")
	}
	return &List{r, count}, nil
}

// Count is the number of tasks.
func (l *List) Count() uint64 { return l.count }

// Task is task number n, from 0.
func (l *List) Task(n uint64) (t Task, err error) {
	if n >= l.count {
		return t, fmt.Errorf("scripts: there is no task %d in a list of %d", n, l.count)
	}
	var at [16]byte
	if _, err := l.r.ReadAt(at[:], int64(listHead+8*n)); err != nil {
		return t, fmt.Errorf("scripts: the list of tasks: %w", err)
	}
	from, to := binary.LittleEndian.Uint64(at[:]), binary.LittleEndian.Uint64(at[8:])
	if from > to || to > MaxListBytes || to-from > maxRowBytes {
		return t, fmt.Errorf("scripts: task %d of the list lies from %d to %d", n, from, to)
	}
	row := make([]byte, to-from)
	if _, err := l.r.ReadAt(row, int64(from)); err != nil {
		return t, fmt.Errorf("scripts: the list of tasks: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(row))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return t, fmt.Errorf("scripts: task %d of the list: %w", n, err)
	}
	if err := t.checkNeeds(n); err != nil {
		return t, err
	}
	return t, t.validate()
}
