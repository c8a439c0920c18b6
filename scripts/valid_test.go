package scripts

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// FuzzJSON holds the scanner against the library, which has the text in memory.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{
		``, ` `, `{}`, `[]`, `[[],{}]`, `{"a":1,"b":[1,2,{"c":null}]}`, `-0.1e+10`, `01`, `1.`, `-`, `.5`, `1e`, `1E-`, `"a\u00e9\n\\"`, `"\x"`, `"\u12g4"`, "\"\n\"",
		`nul`, `true false`, `[1,]`, `{"a"}`, `{"a":}`, `{,}`, `[1 2]`, `NaN`, `{"a":NaN}`, `]`, `[}`, `{"a":1]`, "\ufeff{}", `"` + "\xff" + `"`, ` 12 `, `1 1`, `-01`, `0e0`, `{"":""}`, `[`, `"`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := scanJSON(iotest.OneByteReader(bytes.NewReader(text)), false); (err == nil) != json.Valid(text) {
			t.Errorf("scanJSON(%q) = %v, the library says %t", text, err, json.Valid(text))
		}
		valid := true
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			valid = valid && (len(bytes.Trim(line, " \t\r")) == 0 || json.Valid(line))
		}
		if err := scanJSON(bytes.NewReader(text), true); (err == nil) != valid {
			t.Errorf("scanJSON(%q) by lines = %v, the library says %t", text, err, valid)
		}
	})
}

func TestJSONDepth(t *testing.T) {
	text := func(n int) *strings.Reader { return strings.NewReader(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if err := scanJSON(text(maxDepth), false); err != nil {
		t.Error(err)
	}
	if err := scanJSON(text(maxDepth+1), false); err == nil {
		t.Error("a value deeper than the limit is valid")
	}
}

// TestCheckIsCutOff ends a check whose time is over.
func TestCheckIsCutOff(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, context.DeadlineExceeded)
	defer cancel()
	<-ctx.Done()
	for how, valid := range validators {
		if err := valid(&meter{ctx, bytes.NewReader([]byte("[]")), 100}, 2); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// endless is an array that goes on for ever.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, "\x93NUMPY"), nil }

// TestArrayLimit stops reading an array that was packed into little.
func TestArrayLimit(t *testing.T) {
	if n, err := readArray(t.Context(), endless{}, 1<<20); err == nil || n > 1<<20+validChunk {
		t.Errorf("%d bytes of an endless array were read: %v", n, err)
	}
}

// BenchmarkJSON is bytes a second of a check.
func BenchmarkJSON(b *testing.B) {
	text := []byte("[" + strings.Repeat(`{"seed":12345,"rate":0.25,"name":"mt19937"},`, 20000) + "1]")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := scanJSON(bytes.NewReader(text), false); err != nil {
			b.Fatal(err)
		}
	}
}
