package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestClusterTOMLIsTheDefaults holds the commented file against the code.
func TestClusterTOMLIsTheDefaults(t *testing.T) {
	got, err := LoadConfig("../cluster.toml", "any")
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	got.Logger, want.Logger = nil, nil
	got.Node.Slots, got.Node.ScriptEnv, got.Node.Labels = nil, nil, nil // an empty list is no list
	if !reflect.DeepEqual(got, want) {
		t.Errorf("cluster.toml says\n%+v\nthe code has\n%+v", got, want)
	}
	b, err := os.ReadFile("../cluster.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range configKeys() {
		last := key[strings.LastIndexByte(key, '.')+1:]
		if !strings.Contains(string(b), last+" =") {
			t.Errorf("cluster.toml does not show %s", key)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cluster.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnknownKeyNamesTheNearest(t *testing.T) {
	for text, near := range map[string]string{
		"[raft]\nhartbeat = \"1s\"\n":                     "raft.heartbeat",
		"[nodes]\nlisten = \"x\"\n":                       "node",
		"[node.big]\nadvertize = \"a:1\"\n":               "node.advertise",
		"[[node.slot]]\ndevise = \"cpu\"\n":               "node.slot.device",
		"[[node.big.slot]]\nthread = 3\ndevice=\"cpu\"\n": "node.slot.threads",
	} {
		_, err := LoadConfig(write(t, text), "small")
		var unknown *UnknownKeyError
		if !errors.As(err, &unknown) || unknown.Nearest != near {
			t.Errorf("LoadConfig(%q) = %v, want an unknown key near %s", text, err, near)
		}
	}
}

func TestNodeTableOverrides(t *testing.T) {
	path := write(t, `
[node]
listen = "10.0.0.1:7946"
[[node.slot]]
device = "cpu"
threads = 2
[node.big]
listen = "10.0.0.5:7946"
[[node.big.slot]]
device = "cpu"
threads = 4
[[node.big.slot]]
device = "sim"
sim_rate = 1e6
[[node.big.slot]]
device = "opencl"
number = 1
shared = true
[[node.big.slot]]
device = "opencl"
number = 1
shared = true
[[node.big.slot]]
device = "hip"
gfx = "10.3.0"
libraries = "/opt/rocm/lib"
[session]
silence = "3s"
`)
	big, err := LoadConfig(path, "big")
	if err != nil {
		t.Fatal(err)
	}
	if big.Node.Listen != "10.0.0.5:7946" || len(big.Node.Slots) != 5 || big.Node.Slots[2].Number != 1 || !big.Node.Slots[3].Shared || big.Node.Slots[4].GFX != "10.3.0" || big.Node.Slots[1].SimRate != 1e6 {
		t.Errorf("big: %+v", big.Node)
	}
	small, err := LoadConfig(path, "small")
	if err != nil {
		t.Fatal(err)
	}
	if small.Node.Listen != "10.0.0.1:7946" || len(small.Node.Slots) != 1 || small.Node.Slots[0].Threads != 2 {
		t.Errorf("small: %+v", small.Node)
	}
	if time.Duration(small.Session.Silence) != 3*time.Second {
		t.Errorf("silence is %v", small.Session.Silence)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"lease above heartbeat": "[raft]\nlease = \"1s\"\n",
		"even voters":           "[raft]\nvoters = 4\n",
		"no unit":               "[raft]\nheartbeat = 150\n",
		"negative duration":     "[session]\nping = \"-1s\"\n",
		"unknown device":        "[[node.slot]]\ndevice = \"tpu\"\n",
		"opencl of number -1":   "[[node.slot]]\ndevice = \"opencl\"\nnumber = -1\n",
		"cuda 0 twice":          "[[node.slot]]\ndevice = \"cuda\"\n[[node.slot]]\ndevice = \"cuda\"\nshared = true\n",
		"a gfx that is a name":  "[[node.slot]]\ndevice = \"hip\"\ngfx = \"gfx1030\"\n",
		"libraries from here":   "[[node.slot]]\ndevice = \"hip\"\nlibraries = \"lib\"\n",
		"more than all memory":  "[node]\nmemory_fraction = 1.1\n",
		"slots and none":        "[node]\nno_slots = true\n[[node.slot]]\ndevice = \"cpu\"\n",
		"sim without a rate":    "[[node.slot]]\ndevice = \"sim\"\n",
		"not TOML":              "[raft\n",
		"unknown GPU vendor":    "[node]\ngpu_vendor = \"3dfx\"\n",
		"GPU without a vendor":  "[[node.slot]]\ndevice = \"cpu\"\ngpu = \"0\"\n",
		"two GPUs of a slot":    "[node]\ngpu_vendor = \"amd\"\n[[node.slot]]\ndevice = \"cpu\"\ngpu = \"0,1\"\n",
		"a GPU of two slots":    "[node]\ngpu_vendor = \"amd\"\n[[node.slot]]\ndevice = \"cpu\"\ngpu = \"1\"\n[[node.slot]]\ndevice = \"cpu\"\ngpu = \"1\"\n",
		"a mask by hand":        "[node]\nscript_env = [\"HIP_VISIBLE_DEVICES=0\"]\n",
		"a label of two words":  "[node]\nlabels = [\"a b\"]\n",
		"a label with a comma":  "[node]\nlabels = [\"a,b\"]\n",
		"root's scripts as 1":   "[scripts]\nfirst_user = 1\n",
		"scripts from here":     "[scripts]\ndirectories = [\"jobs\"]\n",
		"scripts from all over": "[scripts]\ndirectories = [\"/\"]\n",
		"no variable":           "[node]\nscript_env = [\"HSA\"]\n",
	} {
		if _, err := LoadConfig(write(t, text), "n"); err == nil {
			t.Errorf("%s: LoadConfig(%q) accepted it", name, text)
		}
	}
}

// FuzzLoadConfig: what is accepted can be shown and read again, and is the same.
func FuzzLoadConfig(f *testing.F) {
	f.Add("[raft]\nheartbeat = \"1s\"\n")
	f.Add("[[node.big.slot]]\ndevice = \"cpu\"\nthreads = 3\n[node.small]\nno_slots = true\n")
	f.Add("[node]\nlabels = [\"a\"]\npreload_dirs = []\n[[node.slot]]\ndevice = \"sim\"\nsim_rate = 1e6\n[storage]\nscrub_every = \"1h\"\n[scripts]\ndirectories = [\"/srv\"]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := DefaultConfig()
		if c.decode([]byte(text), "big") != nil || c.Validate() != nil {
			return
		}
		shown, err := c.TOML()
		if err != nil {
			t.Fatal(err)
		}
		again := DefaultConfig()
		if err := errors.Join(again.decode(shown, "big"), again.Validate()); err != nil {
			t.Fatalf("%q is accepted, and what is shown of it is not: %v\n%s", text, err, shown)
		}
		if reshown, err := again.TOML(); err != nil || !bytes.Equal(shown, reshown) {
			t.Errorf("%q is shown as\n%s\nand that as\n%s\n%v", text, shown, reshown, err)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add(newToken([32]byte{1}).String())
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parseToken(text)
		if err != nil {
			return
		}
		if again, err := parseToken(token.String()); err != nil || again != token {
			t.Errorf("parseToken(%q) does not survive its own text", text)
		}
	})
}
