package kernels

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// MaxDrawBytes is the largest draw file that is read.
const MaxDrawBytes = 16 << 20

// drawForms is what a draw file may look like, for error messages.
const drawForms = `use a JSON array of numbers or of objects with "draw", JSON Lines, CSV with a draw column, or text with one value a line (A:B is an interval, * is unknown)`

// A DrawError says which part of a draw file cannot be used.
type DrawError struct {
	Where string // such as "line 3"; empty for the whole file
	What  string
	Do    string
}

func (e *DrawError) Error() string {
	if e.Where == "" {
		return "kernels: draws: " + e.What
	}
	return "kernels: draws: " + e.Where + ": " + e.What
}

// Remedy says what to change.
func (e *DrawError) Remedy() string { return e.Do }

// A DrawRecord is a draw as a file gives it.
type DrawRecord struct {
	Draw
	Session string // such as "midday"; empty when the file does not say
}

// ParseDraws reads a draw file whose draws are one window.
func ParseDraws(r io.Reader) ([]Draw, error) {
	records, err := ParseDrawRecords(r)
	if err != nil {
		return nil, err
	}
	if len(records) > MaxDraws {
		return nil, tooManyDraws(len(records))
	}
	return drawsOf(records), nil
}

func tooManyDraws(n int) error {
	return &DrawError{
		What: fmt.Sprintf("there are %d, and a search takes at most %d", n, MaxDraws),
		Do:   fmt.Sprintf("search a part of them: --window %d", MaxDraws),
	}
}

// Window takes size draws from number offset on, among those of the sessions
// (all, when none is named). As in the original system an offset beyond the
// last full window means that window. Size 0 means all draws from offset on.
func Window(records []DrawRecord, sessions []string, size, offset int) ([]Draw, error) {
	if len(sessions) > 0 {
		records = slices.DeleteFunc(slices.Clone(records), func(d DrawRecord) bool {
			return !slices.Contains(sessions, d.Session)
		})
	}
	switch {
	case len(sessions) > 0 && len(records) == 0:
		return nil, &DrawError{What: "there are none of the session " + clip(strings.Join(sessions, " or ")), Do: "name another --session; only draws in JSON or CSV have one"}
	case size < 0 || offset < 0:
		return nil, &DrawError{What: fmt.Sprintf("a window of %d from number %d on was asked for", size, offset), Do: "use --window and --window-offset from 0 on"}
	case size == 0 && offset >= len(records):
		return nil, &DrawError{What: fmt.Sprintf("a window from number %d on was asked for, and there are %d draws", offset, len(records)), Do: "use a smaller --window-offset"}
	case size == 0:
		size = len(records) - offset
	case size > len(records):
		return nil, &DrawError{
			What: fmt.Sprintf("a window of %d from number %d on was asked for, and there are %d draws", size, offset, len(records)),
			Do:   "use a smaller --window or --window-offset, or other sessions",
		}
	}
	if size > MaxDraws {
		return nil, tooManyDraws(size)
	}
	offset = min(offset, len(records)-size)
	return drawsOf(records[offset : offset+size]), nil
}

func drawsOf(records []DrawRecord) []Draw {
	draws := make([]Draw, len(records))
	for i, d := range records {
		draws[i] = d.Draw
	}
	return draws
}

// ParseDrawRecords reads a draw file of any supported form. It fails after
// [MaxDrawBytes], however much more the file has.
func ParseDrawRecords(r io.Reader) ([]DrawRecord, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxDrawBytes+1))
	if err != nil {
		return nil, fmt.Errorf("kernels: read draws: %w", err)
	}
	if len(text) > MaxDrawBytes {
		return nil, &DrawError{
			What: fmt.Sprintf("the file is larger than the limit of %d MiB", MaxDrawBytes>>20),
			Do:   "give only the draws, and at most the window that is to be searched",
		}
	}
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
	var records []DrawRecord
	switch {
	case len(text) == 0:
	case text[0] == '[' || text[0] == '{':
		records, err = parseJSONDraws(text)
	case hasHeader(text):
		records, err = parseCSVDraws(text)
	default:
		records, err = parseTextDraws(text)
	}
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, &DrawError{What: "there are none", Do: drawForms}
	}
	return records, nil
}

// parseJSONDraws reads an array, an object with a "draws" array, or JSON Lines.
func parseJSONDraws(text []byte) ([]DrawRecord, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var records []DrawRecord
	for n := 1; ; n++ {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			line := 1 + bytes.Count(text[:min(int(dec.InputOffset()), len(text))], []byte("\n"))
			return nil, &DrawError{fmt.Sprintf("line %d", line), "this is not JSON: " + err.Error(), drawForms}
		}
		if n == 1 {
			if list, ok := jsonList(raw); ok {
				if dec.More() {
					return nil, &DrawError{What: "something follows the JSON array", Do: drawForms}
				}
				return parseJSONList(list)
			}
		}
		d, err := parseJSONDraw(raw, n)
		if err != nil {
			return nil, err
		}
		records = append(records, d)
	}
}

// jsonList is the array that raw is, or that its "draws" is.
func jsonList(raw json.RawMessage) (list []json.RawMessage, ok bool) {
	if raw[0] == '{' {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return nil, false
		}
		raw = object["draws"]
	}
	if len(raw) == 0 || raw[0] != '[' {
		return nil, false
	}
	return list, json.Unmarshal(raw, &list) == nil
}

func parseJSONList(list []json.RawMessage) ([]DrawRecord, error) {
	records := make([]DrawRecord, len(list))
	for i, raw := range list {
		var err error
		if records[i], err = parseJSONDraw(raw, i+1); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// parseJSONDraw reads a number, a decimal string, null, or an object with such
// a value under "draw" or, as the original's synthetic data have it, the whole
// output under "full_state".
func parseJSONDraw(raw json.RawMessage, n int) (DrawRecord, error) {
	where := fmt.Sprintf("element %d", n)
	if raw[0] != '{' {
		d, err := parseDraw(jsonText(raw), where)
		return DrawRecord{Draw: d}, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return DrawRecord{}, &DrawError{where, "this is not a JSON object: " + err.Error(), drawForms}
	}
	whole, isWhole := object["full_state"]
	value, isDraw := object["draw"]
	if !isDraw && !isWhole {
		return DrawRecord{}, &DrawError{where, `the object has no "draw"`, drawForms}
	}
	isWhole = isWhole && string(whole) != "null"
	if isWhole {
		value = whole
	}
	d, err := parseDraw(jsonText(value), where)
	d.Whole = isWhole && d.Known
	var session string
	if raw, ok := object["session"]; ok && json.Unmarshal(raw, &session) != nil {
		return DrawRecord{}, &DrawError{where, "the session is not a string", drawForms}
	}
	return DrawRecord{d, session}, err
}

// jsonText is what stands in a JSON string, the interval that an array of two
// numbers is, or the value as it is written.
func jsonText(raw json.RawMessage) string {
	var s string
	if raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	var ends []uint64
	if raw[0] == '[' && json.Unmarshal(raw, &ends) == nil && len(ends) == 2 {
		return fmt.Sprintf("%d:%d", ends[0], ends[1])
	}
	return string(raw)
}

// hasHeader reports whether the first line names columns: one is called draw,
// or there is only one and its name starts with a letter.
func hasHeader(text []byte) bool {
	line, _, _ := strings.Cut(string(text), "\n")
	cells := strings.FieldsFunc(line, isSeparator)
	if len(cells) == 1 && cells[0] != "null" && !strings.HasPrefix(cells[0], intervalMark) {
		name := columnName(cells[0])
		return name != "" && 'a' <= name[0] && name[0] <= 'z'
	}
	return namesColumn(line, "draw")
}

// namesColumn reports whether a line, the first one, has a cell of that name.
func namesColumn(line, name string) bool {
	return !strings.HasPrefix(line, "#") && slices.ContainsFunc(strings.FieldsFunc(line, isSeparator), func(cell string) bool {
		return columnName(cell) == name
	})
}

func columnName(cell string) string { return strings.ToLower(strings.Trim(cell, "\" \r")) }

func isSeparator(r rune) bool {
	return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\r' || r == '\n'
}

// A csvTable is CSV whose first row names the columns.
type csvTable struct {
	header []string
	rows   [][]string // as long as the header
}

// readCSV takes semicolons or tabs for commas where the first row has none of those.
func readCSV(text []byte) (csvTable, error) {
	r := csv.NewReader(bytes.NewReader(text))
	first, _, _ := bytes.Cut(text, []byte("\n"))
	for _, mark := range ";\t" {
		if bytes.ContainsRune(first, mark) && !bytes.ContainsRune(first, ',') {
			r.Comma = mark
		}
	}
	r.TrimLeadingSpace, r.Comment = true, '#'
	rows, err := r.ReadAll()
	if err != nil {
		return csvTable{}, err
	}
	return csvTable{rows[0], rows[1:]}, nil
}

// column is the number of the first column of that name, or -1.
func (t csvTable) column(name string) int {
	return slices.IndexFunc(t.header, func(cell string) bool { return columnName(cell) == name })
}

// parseCSVDraws reads the columns draw, full_state and session; an empty cell
// is unknown.
func parseCSVDraws(text []byte) ([]DrawRecord, error) {
	table, err := readCSV(text)
	if err != nil {
		return nil, &DrawError{What: "this is not CSV: " + err.Error(), Do: drawForms}
	}
	draw, whole, session := table.column("draw"), table.column("full_state"), table.column("session")
	if len(table.header) == 1 {
		draw = 0
	}
	if draw < 0 {
		return nil, &DrawError{"line 1", "the header has no column draw", drawForms}
	}
	var records []DrawRecord
	for i, row := range table.rows {
		var d DrawRecord
		cell := strings.TrimSpace(row[draw])
		if whole >= 0 && strings.TrimSpace(row[whole]) != "" {
			cell, d.Whole = strings.TrimSpace(row[whole]), true
		}
		isWhole := d.Whole
		if cell != "" {
			if d.Draw, err = parseDraw(cell, fmt.Sprintf("row %d below the header", i+1)); err != nil {
				return nil, err
			}
			d.Whole = isWhole && d.Known
		}
		if session >= 0 {
			d.Session = strings.TrimSpace(row[session])
		}
		records = append(records, d)
	}
	return records, nil
}

// parseTextDraws reads values between blanks, commas and line ends; a line that
// starts with # is a comment.
func parseTextDraws(text []byte) ([]DrawRecord, error) {
	var records []DrawRecord
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, word := range strings.FieldsFunc(line, isSeparator) {
			d, err := parseDraw(word, fmt.Sprintf("line %d", n))
			if err != nil {
				return nil, err
			}
			records = append(records, DrawRecord{Draw: d})
		}
	}
	return records, nil
}

// intervalMark may stand before an interval.
const intervalMark = "range:"

// parseDraw reads one value: a whole number below 2^64, an interval A:B with
// both ends, or * or null for a draw that is unknown.
func parseDraw(text, where string) (Draw, error) {
	if text == "*" || text == "null" {
		return Draw{}, nil
	}
	d, err := parseInterval(strings.TrimPrefix(text, intervalMark))
	if err == nil {
		return d, nil
	}
	e := &DrawError{Where: where, What: fmt.Sprintf("%q is not a whole number from 0 to 2^64-1, nor an interval A:B of them", clip(text)), Do: drawForms}
	if errors.Is(err, strconv.ErrSyntax) && strings.HasPrefix(text, "-") {
		e.Do = "write a signed output as unsigned: add 2^32 (or 2^64) to a negative number"
	}
	return Draw{}, e
}
