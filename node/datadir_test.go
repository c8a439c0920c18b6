package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDamagedFilesAreNamed damages each file of a data directory: the node does
// not start, and says which file it is and what to do.
func TestDamagedFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(Setup{Dir: dir, Name: "n", Listen: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identityFile, nodeCertFile, nodeKeyFile, caCertFile, caKeyFile} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c := DefaultConfig()
		c.Dir = dir
		var damaged *DamagedError
		if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(c); !errors.As(err, &damaged) || !strings.Contains(damaged.Error(), name) || damaged.Remedy() == "" {
			t.Errorf("open with a damaged %s = %v, want an error that names it", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(c); name != identityFile && (!errors.As(err, &damaged) || damaged.Error() != path+" is gone") {
			t.Errorf("open without %s = %v, want an error that names it", name, err)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNotWritableSaysWhatToDo(t *testing.T) {
	for cause, want := range map[error]string{
		syscall.ENOSPC: "make room", syscall.EROFS: "make it writable", syscall.EACCES: "chown", syscall.EIO: "mend its disk",
	} {
		err := &DirError{"/d", fmt.Errorf("open: %w", cause)}
		if !strings.Contains(err.Remedy(), want) || !strings.Contains(err.Error(), "/d") {
			t.Errorf("%v: %s, want %q", err, err.Remedy(), want)
		}
	}
}
