package blob

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"seedmesh/kernels"
	"seedmesh/scripts"
)

// segmentOf writes outcomes from task 10 on, each with one output; task 12 has failed.
func segmentOf(t *testing.T, store *Store, outputs ...string) Info {
	t.Helper()
	w := store.NewSegment(3, 10)
	for i, text := range outputs {
		o := scripts.Outcome{Task: uint64(10 + i), Class: scripts.OK, Attempt: 1, Outputs: []scripts.Output{{Path: "out"}}}
		if o.Task == 12 {
			o.Class = scripts.ExitCode
		}
		if err := w.Add(&o, func(int) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	info, err := w.Finish(uint64(9 + len(outputs)))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func openStore(t *testing.T) *Store {
	t.Helper()
	store, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// TestSegment reads back what was written, whether it went through memory or through files.
func TestSegment(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", spillBytes/8)
	for name, outputs := range map[string][]string{
		"small": {"one", "", "failed", "four"},
		"large": {"one", large, "x", large},
	} {
		t.Run(name, func(t *testing.T) {
			store := openStore(t)
			info := segmentOf(t, store, outputs...)
			if again := segmentOf(t, store, outputs...); again != info {
				t.Errorf("the same outcomes gave %+v and %+v", info, again)
			}
			s, err := store.Segment(info.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			n := 0
			for o, err := range s.All() {
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(s.Output(o.Outputs[0]))
				if err != nil || string(b) != outputs[n] || o.Task != uint64(10+n) {
					t.Errorf("task %d has %d bytes, %v; want %d", o.Task, len(b), err, len(outputs[n]))
				}
				n++
			}
			if n != len(outputs) || s.Stage != 3 || s.Range != (kernels.Range{First: 10, Last: uint64(9 + n)}) {
				t.Errorf("%d outcomes, header %+v", n, s.Header)
			}
			if entries, err := os.ReadDir(store.root.Name() + "/" + tempDir); err != nil || len(entries) > 0 {
				t.Errorf("left in the temporary directory: %v, %v", entries, err)
			}
		})
	}
}

// TestVerifySegment finds any damage to any byte.
func TestVerifySegment(t *testing.T) {
	store := openStore(t)
	info := segmentOf(t, store, "one", "two", "failed", "four")
	f, _, err := store.Open(info.Digest)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	piece := kernels.Range{First: 10, Last: 11}
	if err := VerifySegment(bytes.NewReader(whole), info.Digest, 3, piece); err != nil {
		t.Errorf("a good segment: %v", err)
	}
	for name, tt := range map[string]struct {
		stage uint32
		piece kernels.Range
	}{"wrong stage": {2, piece}, "a failed task is not done": {3, kernels.Range{First: 10, Last: 13}}, "not all of the piece": {3, kernels.Range{First: 13, Last: 14}}} {
		if err := VerifySegment(bytes.NewReader(whole), info.Digest, tt.stage, tt.piece); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x40
		if err := VerifySegment(bytes.NewReader(bad), info.Digest, 3, piece); err == nil {
			t.Fatalf("byte %d of %d is damaged, and nothing is found", i, len(whole))
		}
		if err := VerifySegment(bytes.NewReader(whole[:i]), info.Digest, 3, piece); err == nil {
			t.Fatalf("%d of %d bytes are there, and nothing is found", i, len(whole))
		}
	}
}

func TestSegmentRefusals(t *testing.T) {
	store := openStore(t)
	none := func(int) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("other")), nil }
	w := store.NewSegment(0, 10)
	var order *OrderError
	if err := w.Add(&scripts.Outcome{Task: 9}, none); !errors.As(err, &order) {
		t.Errorf("a task below the first: %v", err)
	}
	if _, err := w.Finish(20); err == nil {
		t.Error("a segment with an error was finished")
	}
	w = store.NewSegment(0, 10)
	var corrupt *CorruptError
	o := scripts.Outcome{Task: 10, Outputs: []scripts.Output{{Path: "out", Digest: scripts.Digest{1}, Bytes: 5}}}
	if err := w.Add(&o, none); !errors.As(err, &corrupt) {
		t.Errorf("an output with another digest: %v", err)
	}
	if _, err := store.NewSegment(0, 10).Finish(20); err == nil {
		t.Error("an empty segment was finished")
	}
}
