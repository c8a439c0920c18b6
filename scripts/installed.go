package scripts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// systemPath is where commands are looked for when the environment does not say.
const systemPath = "/usr/local/bin:/usr/bin:/bin"

// interpreters are programs whose first argument that is no option is a script.
var interpreters = []string{"python", "bash", "sh", "dash", "perl", "ruby", "node", "php", "Rscript", "julia", "lua"}

// Installed says which commands that are files of this machine, and were not sent
// along, tasks may name by their path.
type Installed struct {
	Path        string   // the node's own PATH: whatever programs its directories have
	Directories []string // of scripts that were installed for tasks; absolute
}

// InstalledAt is what a node has whose process's PATH counts, and those that its own
// configuration sets for tasks.
func InstalledAt(directories []string, env ...string) *Installed {
	i := &Installed{Path: os.Getenv("PATH"), Directories: directories}
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			i.Path += string(filepath.ListSeparator) + path
		}
	}
	return i
}

// notInstalledError says that a task names a script that it may not.
type notInstalledError struct{ what string }

func (e *notInstalledError) Error() string { return e.what }

// Names lists what of a command must be allowed: the paths of its program and of the
// script that an interpreter is given, as far as they are not in the working directory.
func Names(argv []string) (paths []string) {
	if strings.Contains(argv[0], "/") && CheckPath(filepath.Clean(argv[0])) != nil {
		paths = append(paths, argv[0])
	}
	if script := scriptOf(argv); script != "" && CheckPath(filepath.Clean(script)) != nil {
		paths = append(paths, script)
	}
	return paths
}

// scriptOf is the script that an interpreter is given, or empty: one that is told to
// read its program elsewhere has none.
func scriptOf(argv []string) string {
	name := strings.TrimRight(filepath.Base(argv[0]), "0123456789.")
	if !slices.Contains(interpreters, name) {
		return ""
	}
	programs := "cme" // letters of options that give a program or a module
	if strings.HasSuffix(name, "sh") {
		programs = "c"
	}
	for _, word := range argv[1:] {
		switch {
		case word == "-":
			return ""
		case !strings.HasPrefix(word, "-"):
			return word
		case !strings.HasPrefix(word, "--") && strings.ContainsAny(word, programs):
			return ""
		}
	}
	return ""
}

// Allows tells whether a path that [Names] gave may be run, by its name alone: it is
// one of the programs in the node's PATH, or below a directory of scripts.
func (i Installed) Allows(path string) bool {
	_, _, below := i.below(path)
	return below || i.inPath(path)
}

func (i Installed) inPath(path string) bool {
	dir := filepath.Dir(filepath.Clean(path))
	return slices.Contains(filepath.SplitList(i.Path+":"+systemPath), dir)
}

// below divides a path into the directory of scripts and the rest.
func (i Installed) below(path string) (dir, rest string, ok bool) {
	path = filepath.Clean(path)
	for _, dir := range i.Directories {
		if rest, err := filepath.Rel(dir, path); err == nil && filepath.IsAbs(path) && filepath.IsLocal(rest) {
			return dir, rest, true
		}
	}
	return "", "", false
}

// check refuses a path that may not be run on this machine. What is below a directory of
// scripts must be a file there: a symbolic link that leads out of it is none.
func (i Installed) check(path string) error {
	dir, rest, ok := i.below(path)
	switch {
	case !ok && i.inPath(path):
		return nil
	case !ok:
		return &notInstalledError{fmt.Sprintf("%s was not sent along, and is not below a directory that [scripts] directories of cluster.toml allows", clip(path))}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return &notInstalledError{fmt.Sprintf("the directory of scripts %s is not on this node", dir)}
	}
	defer func() { _ = root.Close() }() // it was only used to look
	if info, err := root.Stat(rest); err != nil {
		return &notInstalledError{fmt.Sprintf("%s is no script of this node: %v", clip(path), err)}
	} else if !info.Mode().IsRegular() {
		return &notInstalledError{clip(path) + " is no file"}
	}
	return nil
}

// checkCommand refuses a command that names a script which it may not; program is
// where the command was found.
func (i Installed) checkCommand(argv []string, program string) error {
	paths := Names(argv)
	if !strings.Contains(argv[0], "/") { // the job's own PATH may lead anywhere
		paths = append(paths, program)
	}
	for _, path := range paths {
		if err := i.check(path); err != nil {
			return err
		}
	}
	return nil
}
