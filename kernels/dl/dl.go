// Package dl opens the libraries of drivers at run time, so that the binary needs
// no C compiler and runs where there is none of them.
package dl

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNone says that a library is not on this machine.
var ErrNone = errors.New("the library is missing")

// A Library is one that is open; it stays so until the process ends.
type Library struct {
	Name   string
	handle uintptr
}

// Open opens the first of the names that there is: in the directory, unless that
// is "", then where the system's linker looks.
func Open(directory string, names ...string) (*Library, error) {
	var paths []string
	for _, name := range names {
		if directory != "" && !filepath.IsAbs(name) {
			paths = append(paths, filepath.Join(directory, name))
		}
	}
	var missing []string
	for _, path := range append(paths, names...) {
		handle, err := open(path)
		if err == nil {
			return &Library{path, handle}, nil
		}
		text := err.Error()
		if !strings.Contains(text, path) { // the linker does not always say which
			text = path + ": " + text
		}
		missing = append(missing, text)
	}
	return nil, fmt.Errorf("%w: %s", ErrNone, strings.Join(missing, "; "))
}

// Bind points each variable of a function type at the symbol of its key. It
// fails with the first symbol that is missing.
func (l *Library) Bind(functions map[string]any) error {
	for _, symbol := range slices.Sorted(maps.Keys(functions)) {
		if err := bind(l.handle, symbol, functions[symbol]); err != nil {
			return fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	return nil
}
