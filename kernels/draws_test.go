package kernels

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestParseDraws(t *testing.T) {
	plain := drawsFrom(1, 22, 999)
	gap := []Draw{{Value: 1, Known: true}, {}, {Value: 999, Known: true}}
	whole := []Draw{{Value: 4294967296, Known: true, Whole: true}, {Value: 7, Known: true}}
	for name, tt := range map[string]struct {
		text string
		want []Draw
	}{
		"JSON numbers":          {"[1, 22, 999]", plain},
		"JSON null":             {"[1, null, 999]\n", gap},
		"JSON star and strings": {`["1", "*", "999"]`, gap},
		"JSON objects":          {`[{"session":"midday","draw":1},{"draw":22,"date":"2024-01-01"},{"draw":999}]`, plain},
		"JSON whole outputs":    {`[{"draw":1,"full_state":4294967296},{"draw":7,"full_state":null}]`, whole},
		"JSON object of draws":  {`{"draws":[1,22,999],"generator":"x"}`, plain},
		"JSON Lines":            {"{\"draw\":1}\n{\"draw\":null}\n{\"draw\":999}\n", gap},
		"CSV":                   {"date,draw,session\n2024-01-01,1,midday\n2024-01-02,,evening\n2024-01-03,999,midday\n", gap},
		"CSV of one column":     {"Draw\r\n1\r\n22\r\n999\r\n", plain},
		"CSV with another name": {"value\n1\n22\n999\n", plain},
		"CSV with semicolons":   {"n;\"draw\"\n1;1\n2;*\n3;999\n", gap},
		"CSV whole outputs":     {"draw,full_state\n1,4294967296\n7,\n", whole},
		"text lines":            {"1\n22\n999\n", plain},
		"text with gaps":        {"# seen today\n1\r\n*\r\n\r\n999", gap},
		"text on one line":      {"1, 22 999", plain},
		"text intervals":        {"1:1\nrange:20:25\n999\n", []Draw{plain[0], {Value: 20, Width: 5, Known: true}, plain[2]}},
		"interval first":        {"range:20:25\n1\n", []Draw{{Value: 20, Width: 5, Known: true}, plain[0]}},
		"JSON intervals":        {`["20:25", [3, 4], {"draw": [0, 18446744073709551615]}]`, []Draw{{Value: 20, Width: 5, Known: true}, {Value: 3, Width: 1, Known: true}, {Width: math.MaxUint64, Known: true}}},
		"CSV intervals":         {"draw\n20:25\n1\n", []Draw{{Value: 20, Width: 5, Known: true}, plain[0]}},
		"byte order mark":       {"\ufeff1\n22\n999", plain},
		"the largest":           {"18446744073709551615", drawsFrom(math.MaxUint64)},
		"the largest in JSON":   {"[18446744073709551615]", drawsFrom(math.MaxUint64)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseDraws(strings.NewReader(tt.text))
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("ParseDraws = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestParseDrawsRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":            {" \n", "there are none"},
		"only an array":      {"[]", "there are none"},
		"negative":           {"1\n-5\n", `line 2: "-5"`},
		"fraction":           {"[1, 2.5]", `element 2: "2.5"`},
		"too large":          {"18446744073709551616", "18446744073709551616"},
		"word":               {"1\n2\nthree\n", `line 3: "three"`},
		"object, no draw":    {`[{"value":1}]`, "element 1"},
		"interval backwards": {"5:4", `"5:4"`},
		"interval of three":  {"[[1,2,3]]", "element 1"},
		"truth value":        {`[true]`, `element 1: "true"`},
		"broken JSON":        {"[1,\n2,\n", "line "},
		"after the array":    {"[1] [2]", "follows"},
		"nested":             {"[[1]]", "element 1"},
		"ragged CSV":         {"date,draw\nx\n", "CSV"},
		"too many":           {strings.Repeat("1 ", MaxDraws+1), "at most 4096"},
		"larger than 16 M":   {strings.Repeat(" ", MaxDrawBytes+1), "16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseDraws(strings.NewReader(tt.text))
			var refused *DrawError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want) || refused.Remedy() == "" {
				t.Errorf("ParseDraws = %v, want %q with a remedy", err, tt.want)
			}
		})
	}
}

// endless is a file of any size.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '1'
	}
	e.read += len(b)
	return len(b), nil
}

func TestParseDrawsStopsReading(t *testing.T) {
	var file endless
	if _, err := ParseDraws(&file); err == nil || file.read > 2*MaxDrawBytes {
		t.Errorf("ParseDraws of an endless file = %v after %d bytes", err, file.read)
	}
}

func TestWindow(t *testing.T) {
	records, err := ParseDrawRecords(strings.NewReader(
		`[{"draw":1,"session":"midday"},{"draw":2,"session":"evening"},{"draw":3,"session":"midday"},{"draw":4,"session":"midday"}]`))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		sessions     []string
		size, offset int
		want         []Draw // nil for an error
	}{
		"everything":          {nil, 0, 0, drawsFrom(1, 2, 3, 4)},
		"all after the first": {nil, 0, 1, drawsFrom(2, 3, 4)},
		"one session":         {[]string{"midday"}, 2, 1, drawsFrom(3, 4)},
		"offset clamped":      {[]string{"midday"}, 2, 99, drawsFrom(3, 4)},
		"too long":            {[]string{"evening"}, 2, 0, nil},
		"unknown session":     {[]string{"night"}, 0, 0, nil},
		"negative offset":     {nil, 1, -1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Window(records, tt.sessions, tt.size, tt.offset)
			if !slices.Equal(got, tt.want) || (err != nil) != (tt.want == nil) {
				t.Errorf("Window(%v, %d, %d) = %v, %v, want %v", tt.sessions, tt.size, tt.offset, got, err, tt.want)
			}
		})
	}
}

func FuzzParseDraws(f *testing.F) {
	for _, text := range []string{"[1,null]", `{"draws":["*"]}`, `{"draw":1}`, "a,draw\n1,2\n", "1\n*\n", "3:4\n*\n", "draw\n\"1\"", `[{"draw":1,"full_state":2,"session":"x"}]`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		draws, err := ParseDraws(strings.NewReader(text))
		if err == nil && (len(draws) == 0 || len(draws) > MaxDraws) {
			t.Fatalf("ParseDraws gave %d draws and no error", len(draws))
		}
		for _, d := range draws {
			if back, err := parseWireDraw(d.String()); err != nil || back != d {
				t.Fatalf("draw %v is encoded as %q, which reads as %v, %v", d, d, back, err)
			}
		}
	})
}
