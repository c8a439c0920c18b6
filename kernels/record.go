package kernels

import "strconv"

// AppendJSON appends the record of a survivor as one line of JSON, with its
// newline, in the field order of docs/SIEVE.md.
func (s *Search) AppendJSON(dst []byte, v Survivor) []byte {
	total := len(s.points)
	dst = append(dst, `{"seed":"`...)
	dst = strconv.AppendUint(dst, v.Seed, 10)
	dst = append(dst, `","family":"`...)
	dst = append(dst, s.Family()...) // registered names need no escapes
	dst = append(dst, `","matches":`...)
	dst = strconv.AppendUint(dst, uint64(v.Matches), 10)
	dst = append(dst, `,"total":`...)
	dst = strconv.AppendInt(dst, int64(total), 10)
	dst = append(dst, `,"match_rate":`...)
	dst = strconv.AppendFloat(dst, float64(v.Matches)/float64(total), 'f', -1, 64)
	dst = append(dst, `,"best_skip":`...)
	dst = strconv.AppendUint(dst, uint64(v.Skip), 10)
	dst = append(dst, `,"best_offset":`...)
	dst = strconv.AppendUint(dst, uint64(v.Offset), 10)
	if s.direction == ReverseWindow {
		dst = append(dst, `,"direction":"reverse-window"`...)
	}
	return append(dst, "}\n"...)
}
