package dl

import (
	"errors"
	"strings"
	"testing"
)

// TestMissing names every library that was looked for, in one line.
func TestMissing(t *testing.T) {
	_, err := Open("/nowhere", "libno-such.so.2", "libno-such.so.1")
	if !errors.Is(err, ErrNone) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("Open = %v, want one line about what is missing", err)
	}
	for _, name := range []string{"/nowhere/libno-such.so.2", "/nowhere/libno-such.so.1", "libno-such.so.1"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("Open = %v, without %s", err, name)
		}
	}
}
