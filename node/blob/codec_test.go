package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"seedmesh/kernels"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// someSurvivors are n of them from a seed on, with gaps.
func someSurvivors(first uint64, n int) []kernels.Survivor {
	r := rand.New(rand.NewPCG(first, uint64(n)))
	list := make([]kernels.Survivor, n)
	seed := first
	for i := range list {
		seed += r.Uint64N(1000) + 1
		list[i] = kernels.Survivor{Seed: seed, Matches: uint16(r.Uint32()), Skip: uint16(r.Uint32()), Offset: r.Uint32()}
	}
	return list
}

// finish writes a blob in batches of a size.
func finish(t testing.TB, s *Store, stage uint32, r kernels.Range, list []kernels.Survivor, size int) Info {
	t.Helper()
	w := s.NewWriter(stage, r.First)
	for batch := range slices.Chunk(list, size) {
		if err := w.Append(batch...); err != nil {
			t.Fatal(err)
		}
	}
	info, err := w.Finish(r.Last)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func contents(t testing.TB, s *Store, d Digest) (Header, []kernels.Survivor) {
	t.Helper()
	r, err := s.Survivors(d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var list []kernels.Survivor
	for v, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return r.Header, list
}

func fileBytes(t testing.TB, s *Store, d Digest) []byte {
	t.Helper()
	f, size, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != size {
		t.Fatalf("read %d of %d bytes: %v", len(b), size, err)
	}
	return b
}

// readAll reads a whole blob the way that every consumer does.
func readAll(b []byte, want Digest) ([]kernels.Survivor, error) {
	r, err := NewReader(bytes.NewReader(b), want)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var list []kernels.Survivor
	for v, err := range r.All() {
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func temps(t testing.TB, s *Store) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root.Name(), tempDir))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRoundTrip(t *testing.T) {
	all := kernels.Range{First: 0, Last: math.MaxUint64}
	for name, tt := range map[string]struct {
		seeds kernels.Range
		list  []kernels.Survivor
	}{
		"none":           {all, nil},
		"ends of space":  {all, []kernels.Survivor{{Seed: 0, Matches: 1}, {Seed: math.MaxUint64, Skip: 65535, Offset: math.MaxUint32}}},
		"one seed":       {kernels.Range{First: 7, Last: 7}, []kernels.Survivor{{Seed: 7}}},
		"in memory":      {all, someSurvivors(1, 4096)},
		"just spilled":   {all, someSurvivors(1, 4097)},
		"spilled thrice": {all, someSurvivors(1<<40, 3*4096+17)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			info := finish(t, s, 3, tt.seeds, tt.list, 1000)
			header, got := contents(t, s, info.Digest)
			if want := (Header{Stage: 3, Range: tt.seeds, Count: uint64(len(tt.list))}); header != want || info.Header != want {
				t.Errorf("headers %+v and %+v, want %+v", header, info.Header, want)
			}
			if !slices.Equal(got, tt.list) {
				t.Errorf("got %d survivors that differ from the %d written", len(got), len(tt.list))
			}
			if err := s.Verify(info.Digest); err != nil {
				t.Error(err)
			}
			if n := temps(t, s); n != 0 {
				t.Errorf("%d temporary files are left", n)
			}
		})
	}
}

func TestSameRecordsGiveTheSameBytes(t *testing.T) {
	s := newStore(t)
	list := someSurvivors(5, 20_000)
	r := kernels.Range{First: 0, Last: 1 << 40}
	want := finish(t, s, 0, r, list, len(list)).Digest
	for _, size := range []int{1, 7, 4095, 4096, 9999} {
		if got := finish(t, newStore(t), 0, r, list, size).Digest; got != want {
			t.Errorf("in batches of %d the digest is %v, want %v", size, got, want)
		}
	}
	if got := finish(t, s, 1, r, list, 100).Digest; got == want {
		t.Error("another stage has the same digest")
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		list []kernels.Survivor
		last uint64
	}{
		"equal seeds":       {[]kernels.Survivor{{Seed: 12}, {Seed: 12}}, 100},
		"falling seeds":     {[]kernels.Survivor{{Seed: 12}, {Seed: 11}}, 100},
		"below the range":   {[]kernels.Survivor{{Seed: 9}}, 100},
		"above the range":   {[]kernels.Survivor{{Seed: 101}}, 100},
		"after the last":    {[]kernels.Survivor{{Seed: math.MaxUint64}, {Seed: 10}}, math.MaxUint64},
		"twice the highest": {[]kernels.Survivor{{Seed: math.MaxUint64}, {Seed: math.MaxUint64}}, math.MaxUint64},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			w := s.NewWriter(0, 10)
			_ = w.Append(tt.list...) // Finish repeats it
			_, err := w.Finish(tt.last)
			var order *OrderError
			if !errors.As(err, &order) {
				t.Errorf("Finish = %v, want an OrderError", err)
			}
			for stat, err := range s.List() {
				t.Errorf("the store has %v, %v", stat, err)
			}
		})
	}
	w := newStore(t).NewWriter(0, 10)
	if _, err := w.Finish(9); err == nil {
		t.Error("an empty range was accepted")
	}
}

func TestCut(t *testing.T) {
	list := someSurvivors(0, 10_000)
	for _, keep := range []int{0, 1, 4095, 4096, 4097, 8192, 9999, 10_000} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			s := newStore(t)
			last := uint64(0)
			if keep > 0 {
				last = list[keep-1].Seed
			}
			w := s.NewWriter(0, 0)
			if err := errors.Join(w.Append(list...), w.Cut(last)); err != nil {
				t.Fatal(err)
			}
			if w.Count() != uint64(keep) {
				t.Errorf("%d survivors are left, want %d", w.Count(), keep)
			}
			if err := w.Append(kernels.Survivor{Seed: last + 1}); err != nil {
				t.Fatal(err)
			}
			info, err := w.Finish(last + 1)
			if err != nil {
				t.Fatal(err)
			}
			_, got := contents(t, s, info.Digest)
			if want := append(slices.Clone(list[:keep]), kernels.Survivor{Seed: last + 1}); !slices.Equal(got, want) {
				t.Errorf("got %d survivors that differ from the %d wanted", len(got), len(want))
			}
		})
	}
}

func TestTooManySurvivors(t *testing.T) {
	s := newStore(t)
	w := s.NewWriter(0, 0)
	w.spilled = MaxRecords // as if they were on disk
	w.prev = 1
	var tooLarge *TooLargeError
	if err := w.Append(kernels.Survivor{Seed: 2}); !errors.As(err, &tooLarge) {
		t.Errorf("Append = %v, want a TooLargeError", err)
	}
}

func TestMerge(t *testing.T) {
	s := newStore(t)
	var parts []Digest
	var all []kernels.Survivor
	for i := range uint64(6) {
		r := kernels.Range{First: i << 24, Last: (i+1)<<24 - 1}
		list := someSurvivors(r.First, int(i)*1500)
		all = append(all, list...)
		parts = append(parts, finish(t, s, 2, r, list, 999).Digest)
	}
	whole := kernels.Range{First: 0, Last: 6<<24 - 1}
	want := finish(t, s, 2, whole, all, 1234)

	w := s.NewWriter(2, 0)
	if err := s.Merge(w, parts...); err != nil {
		t.Fatal(err)
	}
	got, err := w.Finish(whole.Last)
	if err != nil || got != want {
		t.Errorf("merged: %+v, %v; want %+v", got, err, want)
	}

	for name, tt := range map[string]struct {
		stage uint32
		first uint64
		from  []Digest
	}{
		"wrong stage":      {1, 0, parts},
		"falling":          {2, 0, []Digest{parts[1], parts[0]}},
		"twice":            {2, 0, []Digest{parts[1], parts[1]}},
		"empty and twice":  {2, 0, []Digest{parts[0], parts[0]}},
		"before the first": {2, 1 << 24, parts},
		"not there":        {2, 0, []Digest{{1}}},
	} {
		w := s.NewWriter(tt.stage, tt.first)
		if err := s.Merge(w, tt.from...); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	}
	if n := temps(t, s); n != 0 {
		t.Errorf("%d temporary files are left", n)
	}
}

func TestEveryDamageIsFound(t *testing.T) {
	s := newStore(t)
	info := finish(t, s, 0, kernels.Range{First: 0, Last: 1 << 30}, someSurvivors(0, 60), 10)
	whole := fileBytes(t, s, info.Digest)
	if _, err := readAll(whole, info.Digest); err != nil {
		t.Fatal(err)
	}
	try := func(what string, b []byte) {
		t.Helper()
		var corrupt *CorruptError
		if _, err := readAll(b, info.Digest); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v, want a CorruptError", what, err)
		}
	}
	for i := range whole {
		for _, bit := range []byte{0x01, 0x80} {
			b := slices.Clone(whole)
			b[i] ^= bit
			try(fmt.Sprintf("byte %d flipped by %#x", i, bit), b)
		}
		try(fmt.Sprintf("cut to %d bytes", i), whole[:i])
	}
	try("a byte more", append(slices.Clone(whole), 0))
	try("an empty frame more", append(slices.Clone(whole), 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0))
	try("twice", append(slices.Clone(whole), whole...))
}

// pack compresses what a hostile peer may have put together.
func pack(t testing.TB, b []byte) ([]byte, Digest) {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(windowBytes))
	if err != nil {
		t.Fatal(err)
	}
	b = enc.EncodeAll(b, nil)
	return b, sha256.Sum256(b)
}

func appendUvarints(b []byte, fields ...uint64) []byte {
	for _, v := range fields {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func TestWrongContentsAreRefused(t *testing.T) {
	seeds := kernels.Range{First: 10, Last: 20}
	blob := func(h Header, list ...kernels.Survivor) []byte {
		b := h.append(nil)
		for _, v := range list {
			b = appendRecord(b, v)
		}
		return b
	}
	at := func(seed uint64) kernels.Survivor { return kernels.Survivor{Seed: seed} }
	good := blob(Header{Stage: 0, Range: seeds, Count: 2}, at(10), at(20))
	for name, b := range map[string][]byte{
		"falling":         blob(Header{Stage: 0, Range: seeds, Count: 2}, at(12), at(11)),
		"equal":           blob(Header{Stage: 0, Range: seeds, Count: 2}, at(12), at(12)),
		"below":           blob(Header{Stage: 0, Range: seeds, Count: 1}, at(9)),
		"above":           blob(Header{Stage: 0, Range: seeds, Count: 1}, at(21)),
		"one too few":     blob(Header{Stage: 0, Range: seeds, Count: 2}, at(12)),
		"one too many":    blob(Header{Stage: 0, Range: seeds, Count: 1}, at(12), at(13)),
		"half a record":   good[:len(good)-8],
		"count too large": blob(Header{Stage: 0, Range: kernels.Range{First: 0, Last: math.MaxUint64}, Count: MaxRecords + 1}),
		"more than seeds": blob(Header{Stage: 0, Range: seeds, Count: 12}),
		"empty range":     blob(Header{Stage: 0, Range: kernels.Range{First: 2, Last: 1}, Count: 0}),
		"huge stage":      appendUvarints(append([]byte(magic), version), 1<<32, 0, 1, 0),
		"long number":     append(append([]byte(magic), version), bytes.Repeat([]byte{0xff}, 11)...),
		"version":         append([]byte(magic), 2, 0, 0, 0, 0),
		"magic":           append([]byte("SMSX"), version, 0, 0, 0, 0),
		"nothing":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			b, d := pack(t, b)
			var corrupt *CorruptError
			if list, err := readAll(b, d); !errors.As(err, &corrupt) {
				t.Errorf("got %v, %v, want a CorruptError", list, err)
			}
		})
	}
	b, d := pack(t, good)
	if list, err := readAll(b, d); err != nil || len(list) != 2 {
		t.Errorf("the good one: %v, %v", list, err)
	}
}

func TestReaderPassesSourceErrorsOn(t *testing.T) {
	s := newStore(t)
	info := finish(t, s, 0, kernels.Range{First: 0, Last: 1 << 40}, someSurvivors(0, 20_000), 10)
	whole := fileBytes(t, s, info.Digest)
	broken := errors.New("the disk is on fire")
	for _, at := range []int{0, 3, len(whole) / 2, len(whole) - 1, len(whole)} {
		r, err := NewReader(io.MultiReader(bytes.NewReader(whole[:at]), failingReader{broken}), info.Digest)
		for err == nil {
			_, err = r.Read(make([]kernels.Survivor, 100))
		}
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v, want %v", at, err, broken)
		}
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func FuzzReader(f *testing.F) {
	s := newStore(f)
	for _, n := range []int{0, 1, 50} {
		info := finish(f, s, 0, kernels.Range{First: 0, Last: 1 << 30}, someSurvivors(0, n), 10)
		f.Add(fileBytes(f, s, info.Digest), false)
		f.Add(Header{Stage: 0, Range: kernels.Range{First: 0, Last: 9}, Count: 0}.append(nil), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, packed bool) {
		d := Digest(sha256.Sum256(b))
		if packed { // lets the fuzzer reach behind the compression
			b, d = pack(t, b)
		}
		r, err := NewReader(bytes.NewReader(b), d)
		if err != nil {
			return
		}
		defer r.Close()
		n, prev := uint64(0), uint64(0)
		for v, err := range r.All() {
			if err != nil {
				return
			}
			if !(v.Seed >= r.Range.First && v.Seed <= r.Range.Last) || n > 0 && v.Seed <= prev {
				t.Fatalf("survivor %d after %d in %s was let through", v.Seed, prev, r.Range)
			}
			n, prev = n+1, v.Seed
		}
		if n != r.Count {
			t.Fatalf("%d survivors, and the header says %d", n, r.Count)
		}
	})
}
