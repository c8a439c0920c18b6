package scripts

import (
	"errors"
	"fmt"
	"io"
)

// maxDepth is how deep the values of a JSON text may lie within each other.
const maxDepth = 10_000

// scanJSON reads one JSON value (RFC 8259), or with lines one for each line that is
// not empty. It holds a byte for each level of depth, whatever the values' sizes.
func scanJSON(r io.Reader, lines bool) error {
	s := &jsonScanner{lines: lines, step: stepValue}
	buf := make([]byte, validChunk)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if wrong := s.next(c); wrong != nil {
				return s.located(wrong)
			}
			s.at++
		}
		switch {
		case errors.Is(err, io.EOF):
			return s.end()
		case err != nil:
			return err
		}
	}
}

// A jsonScanner takes a text byte by byte.
type jsonScanner struct {
	lines bool
	line  int // from 0
	at    int64
	some  bool   // a value has begun, in this line where lines count
	open  []byte // the brackets around
	step  jsonStep
	word  string // what must follow of true, false or null
	hex   int    // digits of a \u that must follow
}

// A jsonStep is what may come next.
type jsonStep uint8

// The steps.
const (
	stepValue     jsonStep = iota // a value
	stepFirst                     // a value, or the end of an empty array
	stepKey                       // a key
	stepFirstKey                  // a key, or the end of an empty object
	stepColon                     // what follows a key
	stepAfter                     // what follows a value
	stepString                    // in a string
	stepKeyString                 // in a key
	stepEscape                    // behind a backslash in a string
	stepKeyEscape                 // behind a backslash in a key
	stepWord                      // in true, false or null
	stepMinus                     // behind a minus
	stepZero                      // behind a leading zero
	stepDigits                    // in the whole part of a number
	stepPoint                     // behind its point
	stepFraction                  // in its fraction
	stepE                         // behind its e
	stepSign                      // behind the sign of its exponent
	stepExponent                  // in its exponent
)

func (s *jsonScanner) located(err error) error {
	if s.lines {
		return fmt.Errorf("line %d is not JSON: %w", s.line+1, err)
	}
	return fmt.Errorf("byte %d: %w", s.at, err)
}

var errEnds = errors.New("it ends in the middle of a value")

func (s *jsonScanner) end() error {
	if err := s.endLine(); err != nil {
		return s.located(err)
	}
	if !s.lines && !s.some {
		return errors.New("it has no value")
	}
	return nil
}

// endLine is for the end of the text, and of each line where lines count.
func (s *jsonScanner) endLine() error {
	if s.inNumber() {
		s.step = stepAfter
	}
	if s.some && (s.step != stepAfter || len(s.open) > 0) {
		return errEnds
	}
	return nil
}

// inNumber tells whether a number may end here.
func (s *jsonScanner) inNumber() bool {
	switch s.step {
	case stepZero, stepDigits, stepFraction, stepExponent:
		return true
	default:
		return false
	}
}

func (s *jsonScanner) next(c byte) error {
	switch s.step {
	case stepString, stepKeyString, stepEscape, stepKeyEscape:
		return s.inString(c)
	case stepWord:
		if c != s.word[0] {
			return unexpected(c)
		}
		if s.word = s.word[1:]; s.word == "" {
			s.step = stepAfter
		}
		return nil
	case stepMinus, stepZero, stepDigits, stepPoint, stepFraction, stepE, stepSign, stepExponent:
		if s.number(c) {
			return nil
		}
		if !s.inNumber() {
			return unexpected(c)
		}
		s.step = stepAfter
	default:
	}
	if c == '\n' && s.lines {
		if err := s.endLine(); err != nil {
			return err
		}
		s.line, s.some, s.step = s.line+1, false, stepValue
		return nil
	}
	if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
		return nil
	}
	return s.structure(c)
}

func unexpected(c byte) error { return fmt.Errorf("%q does not belong there", c) }

// structure takes what is neither part of a string, a word or a number, nor space.
func (s *jsonScanner) structure(c byte) error {
	switch s.step {
	case stepAfter:
		return s.after(c)
	case stepColon:
		if c != ':' {
			return unexpected(c)
		}
		s.step = stepValue
		return nil
	case stepKey, stepFirstKey:
		if c == '}' && s.step == stepFirstKey {
			return s.close('{')
		}
		if c != '"' {
			return unexpected(c)
		}
		s.step = stepKeyString
		return nil
	default:
		if c == ']' && s.step == stepFirst {
			return s.close('[')
		}
		return s.value(c)
	}
}

// value begins one.
func (s *jsonScanner) value(c byte) error {
	s.some = true
	switch {
	case c == '{' || c == '[':
		if len(s.open) == maxDepth {
			return fmt.Errorf("its values lie more than %d deep", maxDepth)
		}
		s.open = append(s.open, c)
		if s.step = stepFirst; c == '{' {
			s.step = stepFirstKey
		}
	case c == '"':
		s.step = stepString
	case c == 't':
		s.step, s.word = stepWord, "true"[1:]
	case c == 'f':
		s.step, s.word = stepWord, "false"[1:]
	case c == 'n':
		s.step, s.word = stepWord, "null"[1:]
	case c == '-':
		s.step = stepMinus
	case c == '0':
		s.step = stepZero
	case c >= '1' && c <= '9':
		s.step = stepDigits
	default:
		return unexpected(c)
	}
	return nil
}

// after takes what follows a value.
func (s *jsonScanner) after(c byte) error {
	if len(s.open) == 0 {
		return errors.New("something follows its value")
	}
	in := s.open[len(s.open)-1]
	switch {
	case c == ',' && in == '[':
		s.step = stepValue
	case c == ',':
		s.step = stepKey
	case c == ']':
		return s.close('[')
	case c == '}':
		return s.close('{')
	default:
		return unexpected(c)
	}
	return nil
}

func (s *jsonScanner) close(bracket byte) error {
	k := len(s.open) - 1
	if s.open[k] != bracket {
		return errors.New("its brackets do not match")
	}
	s.open, s.step = s.open[:k], stepAfter
	return nil
}

func (s *jsonScanner) inString(c byte) error {
	key := s.step == stepKeyString || s.step == stepKeyEscape
	escaped := s.step == stepEscape || s.step == stepKeyEscape
	in, behind := stepString, stepEscape
	if key {
		in, behind = stepKeyString, stepKeyEscape
	}
	switch {
	case s.hex > 0:
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return unexpected(c)
		}
		s.hex--
	case escaped && c == 'u':
		s.hex, s.step = 4, in
	case escaped:
		switch c {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			s.step = in
		default:
			return unexpected(c)
		}
	case c == '\\':
		s.step = behind
	case c == '"' && key:
		s.step = stepColon
	case c == '"':
		s.step = stepAfter
	case c < ' ':
		return unexpected(c)
	}
	return nil
}

// number goes on with a number, or says that the byte is no part of it.
func (s *jsonScanner) number(c byte) bool {
	digit := c >= '0' && c <= '9'
	switch {
	case digit && s.step == stepMinus:
		if s.step = stepDigits; c == '0' {
			s.step = stepZero
		}
	case digit && (s.step == stepPoint || s.step == stepFraction):
		s.step = stepFraction
	case digit && (s.step == stepE || s.step == stepSign || s.step == stepExponent):
		s.step = stepExponent
	case digit:
		return s.step == stepDigits // nothing follows a leading zero
	case c == '.' && (s.step == stepZero || s.step == stepDigits):
		s.step = stepPoint
	case (c == 'e' || c == 'E') && (s.step == stepZero || s.step == stepDigits || s.step == stepFraction):
		s.step = stepE
	case (c == '+' || c == '-') && s.step == stepE:
		s.step = stepSign
	default:
		return false
	}
	return true
}
