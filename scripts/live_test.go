package scripts

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// patterned gives bytes that say where they belong.
func patterned(from uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		p := from + uint64(i)
		b[i] = byte(p ^ p>>8 ^ p>>16)
	}
	return b
}

func newLive(t *testing.T) (*liveFile, *os.Root) {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Mkdir("0", 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := root.Create("0/stdout")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = f.Close(), root.Close() })
	return &liveFile{f: f}, root
}

// TestLiveWords reads on from where the reader was, from the beginning of another
// attempt, and from the oldest byte that is kept.
func TestLiveWords(t *testing.T) {
	l, root := newLive(t)
	read := func(at time.Time, from uint64) LiveWords {
		w, err := ReadLive(root, "0", 0, at, from)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if w := read(time.Time{}, 0); !w.Started.IsZero() {
		t.Errorf("before anything ran: %+v", w)
	}
	first, second := time.Unix(100, 7), time.Unix(200, 9)
	l.begin(first, 3)
	l.write([]byte("one two"))
	for from, want := range map[uint64]string{0: "one two", 4: "two", 7: "", 99: ""} {
		if w := read(first, from); string(w.Data) != want || !w.Started.Equal(first) || w.Task != 3 || w.From != min(from, 7) {
			t.Errorf("from %d: %+v, want %q", from, w, want)
		}
	}
	l.begin(second, 3)
	l.write([]byte("again"))
	if w := read(first, 4); string(w.Data) != "again" || w.From != 0 || !w.Started.Equal(second) {
		t.Errorf("of another attempt: %+v", w)
	}
	l.begin(second, 4)
	l.write(patterned(0, 3*liveBytes/2))
	w := read(second, 10)
	if w.From <= 10 || w.From > liveBytes || len(w.Data) != liveOnce || !bytes.Equal(w.Data, patterned(w.From, liveOnce)) {
		t.Errorf("behind the ring: %d bytes from %d", len(w.Data), w.From)
	}
	if info, err := l.f.Stat(); err != nil || info.Size() > liveHeadSize+liveBytes {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
}

// TestLiveWordsWhileWritten reads while an attempt writes faster than anyone can
// read: what is given is never something else than what was written there.
func TestLiveWordsWhileWritten(t *testing.T) {
	l, root := newLive(t)
	at := time.Unix(100, 0)
	l.begin(at, 0)
	const total = 64 * liveBytes
	var writer sync.WaitGroup
	writer.Go(func() {
		for pos := uint64(0); pos < total; pos += streamChunk {
			l.write(patterned(pos, streamChunk))
		}
	})
	reads := 0
	for from := uint64(0); from < total; {
		w, err := ReadLive(root, "0", 0, at, from)
		if err != nil {
			continue // torn too often
		}
		if w.From < from || !bytes.Equal(w.Data, patterned(w.From, len(w.Data))) {
			t.Fatalf("from %d on: %d wrong bytes from %d on", from, len(w.Data), w.From)
		}
		if len(w.Data) > 0 {
			reads++
		}
		from = w.From + uint64(len(w.Data))
	}
	writer.Wait()
	if reads < 4 {
		t.Errorf("only %d readings gave something", reads)
	}
}

// TestRunnerShowsLiveWords reads both streams of an attempt that runs.
func TestRunnerShowsLiveWords(t *testing.T) {
	r := newPlace(t)
	done := make(chan Outcome)
	go func() {
		o, _ := r.Run(t.Context(), shell("echo out; echo err >&2; while [ ! -e stop ]; do sleep 0.01; done; echo end"))
		done <- o
	}()
	var words [2]LiveWords
	for begun := time.Now(); len(words[0].Data) == 0 || len(words[1].Data) == 0; {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("nothing is shown")
		}
		for i := range words {
			var err error
			if words[i], err = ReadLive(r.root, r.place.Name, i, time.Time{}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if string(words[0].Data) != "out\n" || string(words[1].Data) != "err\n" || words[0].Task != 7 {
		t.Errorf("shown are %+v", words)
	}
	if err := r.root.WriteFile(r.path("work", "stop"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o := <-done
	if !words[0].Started.Equal(o.Started) || !strings.HasPrefix(string(o.Stdout.Head), "out\nend") {
		t.Errorf("the outcome is %+v", o)
	}
}
