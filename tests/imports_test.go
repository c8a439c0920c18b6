// Package tests holds the tests of the whole: the shape of the code here, whole
// meshes in the folders below.
package tests

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "seedmesh"

// layers is the import order: a package imports only packages of lower layers.
// What lies below a folder is of its layer, except for the folders named here.
var layers = map[string]int{
	"jobs":      0,
	"kernels":   0,
	"scripts":   0,
	"transport": 0,
	"examples":  0,
	"consensus": 1,
	"node/api":  2,
	"node/blob": 2,
	"node/host": 2,
	"node/slot": 2,
	"node":      3,
	"cmd":       4,
	"tests":     5,
}

// families are packages of one layer that import each other: a folder and what
// lies below it.
var families = []string{"jobs", "kernels", "scripts", "transport", "consensus", "node/api", "node/blob", "node/host", "node/slot", "node", "tests"}

// purePackages may be imported by the ledger outside of its tests: nothing that
// reads a clock, a file, a socket or a random number.
var purePackages = []string{
	"bytes", "cmp", "crypto/sha256", "encoding/binary", "encoding/hex", "errors", "fmt", "maps", "math", "math/bits", "slices", "sort", "strconv", "strings",
}

// owners says which packages may name a third-party library.
var owners = map[string][]string{
	"github.com/hashicorp/raft":        {"consensus"},
	"github.com/hashicorp/raft-boltdb": {"consensus"},
	"github.com/hashicorp/go-hclog":    {"consensus"},
	"go.etcd.io/bbolt":                 {"consensus"},
	"github.com/quic-go/quic-go":       {"transport"},
	"github.com/hashicorp/memberlist":  {"node"},
	"github.com/pelletier/go-toml":     {"node", "cmd/seedmesh"},
	"github.com/klauspost/compress":    {"node/blob"},
	"github.com/spf13/cobra":           {"cmd/seedmesh"},
	"github.com/spf13/pflag":           {"cmd/seedmesh"},
	"github.com/rogpeppe/go-internal":  {"cmd/seedmesh"},
	"golang.org/x/term":                {"cmd/seedmesh"},
	// Generated code carries these through its signatures to whoever serves or
	// calls the API.
	"connectrpc.com/connect":     {"node/api", "node/api/meshv1/meshv1connect", "node", "cmd/seedmesh"},
	"google.golang.org/protobuf": {"node/api/meshv1", "node/slot", "node/slot/slotpb", "cmd/seedmesh"},
	// Opens drivers' libraries at run time without cgo; Apache-2.0, alive, used by game engines.
	"github.com/ebitengine/purego": {"kernels/dl"},
	// An assembler, in a module of its own that only writes kernels/simd_amd64.s.
	"github.com/mmcloughlin/avo":        {"kernels/internal/asmgen"},
	"github.com/anishathalye/porcupine": {"tests/bubble"}, // checks histories of clients; MIT, alive
	// Statistics that ours are held against; BSD, alive.
	"gonum.org/v1/gonum": {"tests/bubble"},
	// Plain system calls and protocol numbers.
	"golang.org/x/sys": {"consensus", "scripts", "transport", "node", "node/api", "node/blob", "node/host", "node/slot", "cmd/seedmesh", "tests", "kernels"},
	"golang.org/x/net": {"transport", "node/api"},
}

// A source is one Go file: its package's folder, and what it imports.
type source struct {
	file    string
	pkg     string
	test    bool
	imports []string
}

func TestImports(t *testing.T) {
	sources := readSources(t, "..")
	if len(sources) < 10 {
		t.Fatalf("only %d Go files found", len(sources))
	}
	for _, complaint := range complaints(sources) {
		t.Error(complaint)
	}
}

// TestImportsBites plants one wrong import of every kind.
func TestImportsBites(t *testing.T) {
	for name, tt := range map[string]struct {
		planted source
		bad     bool
	}{
		"upwards":                        {source{file: "jobs/x.go", pkg: "jobs", imports: []string{"seedmesh/consensus"}}, true},
		"sideways":                       {source{file: "jobs/x.go", pkg: "jobs", imports: []string{"seedmesh/kernels"}}, true},
		"sideways below node":            {source{file: "node/blob/x.go", pkg: "node/blob", imports: []string{"seedmesh/node/slot"}}, true},
		"a part imports the whole":       {source{file: "node/slot/x.go", pkg: "node/slot", imports: []string{"seedmesh/node"}}, true},
		"a command is imported":          {source{file: "node/x.go", pkg: "node", imports: []string{"seedmesh/cmd/seedmesh"}}, true},
		"upwards in a test":              {source{file: "kernels/x_test.go", pkg: "kernels", test: true, imports: []string{"seedmesh/node"}}, true},
		"a clock in the ledger":          {source{file: "jobs/x.go", pkg: "jobs", imports: []string{"time"}}, true},
		"chance in the ledger":           {source{file: "jobs/x.go", pkg: "jobs", imports: []string{"math/rand/v2"}}, true},
		"a library in the wrong place":   {source{file: "node/x.go", pkg: "node", imports: []string{"github.com/hashicorp/raft"}}, true},
		"a library that nobody owns":     {source{file: "node/x.go", pkg: "node", imports: []string{"example.com/x"}}, true},
		"a folder that has no layer":     {source{file: "util/x.go", pkg: "util", imports: nil}, true},
		"downwards":                      {source{file: "consensus/x.go", pkg: "consensus", imports: []string{"seedmesh/jobs", "net"}}, false},
		"generated code below its owner": {source{file: "node/api/x.go", pkg: "node/api", imports: []string{"seedmesh/node/api/meshv1"}}, false},
		"chance in a test of the ledger": {source{file: "jobs/x_test.go", pkg: "jobs", test: true, imports: []string{"math/rand/v2"}}, false},
		"a newer major version":          {source{file: "consensus/x.go", pkg: "consensus", imports: []string{"github.com/hashicorp/raft-boltdb/v2"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := complaints([]source{tt.planted}); (len(got) > 0) != tt.bad {
				t.Errorf("complaints(%v) = %q, want some: %v", tt.planted, got, tt.bad)
			}
		})
	}
}

// readSources parses the import clauses of every Go file below root.
func readSources(t *testing.T, root string) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "shared") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, b, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s := source{file: filepath.ToSlash(rel), pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(name, "_test.go")}
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		list = append(list, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func complaints(sources []source) []string {
	var list []string
	for _, s := range sources {
		if s.pkg == "." {
			continue
		}
		if _, ok := layerOf(s.pkg); !ok {
			list = append(list, fmt.Sprintf("%s: the folder %s has no layer", s.file, s.pkg))
			continue
		}
		for _, imported := range s.imports {
			if what := complaint(s, imported); what != "" {
				list = append(list, s.file+": "+what)
			}
		}
	}
	return list
}

// complaint says what is wrong with an import, or nothing.
func complaint(s source, imported string) string {
	switch inner, ours := strings.CutPrefix(imported, module+"/"); {
	case ours:
		return orderComplaint(s.pkg, inner)
	case !strings.Contains(strings.Split(imported, "/")[0], "."):
		if s.pkg == "jobs" && !s.test && !slices.Contains(purePackages, imported) {
			return "the ledger is pure and may not import " + imported
		}
		return ""
	}
	for _, library := range slices.Sorted(maps.Keys(owners)) {
		if imported != library && !strings.HasPrefix(imported, library+"/") {
			continue
		}
		if !slices.Contains(owners[library], s.pkg) && !strings.HasPrefix(s.pkg, "tests") {
			return fmt.Sprintf("%s is named by %s only", library, strings.Join(owners[library], " and "))
		}
		return ""
	}
	return imported + " belongs to no package: add it to owners, with one package that names it"
}

func orderComplaint(pkg, imported string) string {
	from, _ := layerOf(pkg)
	to, ok := layerOf(imported)
	switch {
	case !ok:
		return fmt.Sprintf("the folder %s has no layer", imported)
	case family(pkg) == family(imported):
		return ""
	case to >= from:
		return fmt.Sprintf("%s may not import %s", pkg, imported)
	}
	return ""
}

// layerOf is the layer of the longest folder that is named.
func layerOf(pkg string) (int, bool) {
	for p := pkg; ; {
		if layer, ok := layers[p]; ok {
			return layer, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return 0, false
		}
		p = p[:i]
	}
}

// family is the longest family that a package belongs to, or the package itself.
func family(pkg string) string {
	best := ""
	for _, f := range families {
		if (pkg == f || strings.HasPrefix(pkg, f+"/")) && len(f) > len(best) {
			best = f
		}
	}
	if best == "" {
		return pkg
	}
	return best
}
