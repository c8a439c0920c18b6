package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBadInput types at a running mesh what it must refuse: each with one error
// of up to three lines, which names what to do, and the right exit code.
func TestBadInput(t *testing.T) {
	m := newMesh(t, 1, oneThread)
	foreign := newMesh(t, 1, oneThread)
	here, there := m.nodes[0], foreign.nodes[0]
	token := func(m *mesh, args ...string) string {
		var made struct{ Token string }
		m.json(&made, append([]string{"token", "create", "--json", "--data", m.nodes[0].dir}, args...)...)
		return made.Token
	}
	revoked := token(m)
	m.revokeAll()
	good, used, expired := token(m, "--uses", "2"), token(m), token(m, "--ttl", "1s")
	minted := time.Now()
	m.run("join", used+"@"+here.addr, "--data", filepath.Join(m.dir, "used"), "--name", "used", "--listen", freeAddr(t))
	draws := filepath.Join(m.dir, "draws.txt")
	if err := os.WriteFile(draws, []byte("206\n87\n595\n819\n331\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sieve := func(seeds string, more ...string) []string {
		return append([]string{"sieve", "--generator", "splitmix64", "--draws", draws, "--seeds", seeds, "--data", here.dir}, more...)
	}
	m.run(sieve("0:2^32", "--skip", "0:60", "--name", "long")...)
	m.run(sieve("0:1000", "--key", "mine", "--name", "short")...)
	m.run(sieve("0:2^32", "--skip", "0:60", "--name", "twin")...)
	m.run(sieve("0:2^32", "--skip", "0:60", "--name", "twin")...)
	new := filepath.Join(m.dir, "new")
	join := func(tokenAtAddr, name string) []string {
		return []string{"join", tokenAtAddr, "--data", new, "--name", name, "--listen", freeAddr(t)}
	}
	other := filepath.Join(m.dir, "other")
	m.run("init", "--data", other, "--listen", here.addr)
	m.await(startWait, "end of the token's life", func() bool { return time.Since(minted) > 1100*time.Millisecond })
	results := filepath.Join(m.dir, "results.jsonl")
	for name, tt := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"wrong token":         {join(good[:len(good)-8]+"aaaaaaaa"+"@"+here.addr, "a"), 4, []string{"does not know the token", "seedmesh token create"}},
		"used token":          {join(used+"@"+here.addr, "a"), 4, []string{"all 1 uses of the token are spent", "seedmesh token create"}},
		"expired token":       {join(expired+"@"+here.addr, "a"), 4, []string{"the token has expired", "seedmesh token create"}},
		"revoked token":       {join(revoked+"@"+here.addr, "a"), 4, []string{"does not know the token"}},
		"foreign token":       {join(token(foreign)+"@"+here.addr, "a"), 4, []string{"another mesh than the token"}},
		"nobody there":        {join(good+"@"+freeAddr(t), "a"), 6, []string{"no node answers", "firewalls"}},
		"taken name":          {join(good+"@"+here.addr, here.name), 2, []string{"belongs to a living node", "--name"}},
		"taken directory":     {[]string{"join", good + "@" + here.addr, "--data", other, "--listen", freeAddr(t)}, 1, []string{"belongs to node", "another directory"}},
		"locked directory":    {[]string{"up", "--data", here.dir}, 1, []string{"in use by another", "directory of its own"}},
		"init over a node":    {[]string{"init", "--data", here.dir, "--listen", freeAddr(t)}, 1, []string{"in use by another"}},
		"port in use":         {[]string{"up", "--data", other}, 1, []string{"cannot listen on " + here.addr + ": address already in use", "--listen"}},
		"foreign identity":    {[]string{"status", "--data", there.dir, "--node", here.addr}, 4, []string{"does not accept the identity", "--data"}},
		"unknown job":         {[]string{"job", "show", "nothing", "--data", here.dir}, 5, []string{`there is no job "nothing"`, "seedmesh jobs -a"}},
		"results too early":   {[]string{"results", "long", "-o", results, "--data", here.dir}, 1, []string{"is running", "seedmesh job wait"}},
		"output is a folder":  {[]string{"results", "short", "-o", m.dir, "--data", here.dir}, 2, []string{"is a directory", "name a file in it"}},
		"name of two":         {[]string{"job", "cancel", "twin", "--data", here.dir}, 2, []string{`2 jobs have the name "twin"`, "name one by its id"}},
		"removed too early":   {[]string{"job", "rm", "long", "--data", here.dir}, 1, []string{"is running", "seedmesh job cancel"}},
		"key for another":     {sieve("0:1001", "--key", "mine"), 2, []string{"belongs to another request", "another --key"}},
		"name too long":       {sieve("0:10", "--name", strings.Repeat("x", 300)), 7, []string{"--name has 300 bytes", "the limit is"}},
		"too many attempts":   {sieve("0:10", "--attempts", "1000"), 7, []string{"100 times at most"}},
		"a living node":       {[]string{"node", "rm", here.name, "--data", here.dir}, 1, []string{"is alive", "stop it first"}},
		"unknown node":        {[]string{"node", "rm", "nobody", "--data", here.dir}, 5, []string{"there is no node", "seedmesh nodes"}},
		"unknown token":       {[]string{"token", "revoke", "ffff", "--data", here.dir}, 5, []string{"no token has a hash", "seedmesh token ls"}},
		"token for ever":      {[]string{"token", "create", "--ttl", "9999h", "--data", here.dir}, 2, []string{"--ttl 720h"}},
		"too many uses":       {[]string{"token", "create", "--uses", "100000", "--data", here.dir}, 7, []string{"uses"}},
		"waits only so long":  {[]string{"job", "wait", "long", "--timeout", "50ms", "--data", here.dir}, 124, []string{"has not ended", "seedmesh job wait"}},
		"priority is no word": {[]string{"job", "priority", "long", "high", "--data", here.dir}, 2, []string{"is not a priority"}},
	} {
		stdout, stderr, code := m.exec(tt.args...)
		if stdout != "" || strings.Count("\n"+stderr, "\nseedmesh: ") != 1 {
			t.Errorf("%s: it prints %q, and not one error:\n%s", name, stdout, stderr)
		}
		stderr = lastError(stderr)
		if code != tt.code || strings.Count(stderr, "\n") > 3 {
			t.Errorf("%s: exit code %d, want %d and up to three lines:\n%s", name, code, tt.code, stderr)
		}
		for _, want := range tt.says {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: it does not say %q:\n%s", name, want, stderr)
			}
		}
	}
	m.run("job", "cancel", "last", "--data", here.dir)
	m.run("job", "cancel", "twin", "--data", here.dir) // only one is left that can be
	for _, path := range []string{results, filepath.Join(new, "identity.json")} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	m.run(append(join(good+"@"+here.addr, "a"), "--connect-timeout", "5s")...) // what was refused spent no use, and is in nobody's way
}

// revokeAll makes every token worthless.
func (m *mesh) revokeAll() {
	m.Helper()
	var list []struct{ Hash string }
	m.json(&list, "token", "ls", "--json", "--data", m.nodes[0].dir)
	for _, k := range list {
		m.run("token", "revoke", k.Hash, "--data", m.nodes[0].dir)
	}
}

// lastError is the error behind what a command told before.
func lastError(stderr string) string {
	if i := strings.LastIndex(stderr, "seedmesh: "); i >= 0 {
		return stderr[i:]
	}
	return stderr
}

// TestNoRoomForANode makes a node, and writes results, on a full disk, which leaves
// nothing that passes for them.
func TestNoRoomForANode(t *testing.T) {
	needsProgram(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8k"); err != nil {
		t.Skipf("no small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	m := &mesh{T: t, dir: dir}
	m.noRoomForResults()
	data := filepath.Join(dir, "data")
	_, stderr, code := m.exec("init", "--data", data, "--listen", "127.0.0.1:7946")
	if code != 1 || !strings.Contains(stderr, "no space left") || !strings.Contains(stderr, "make room") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(data, "identity.json")); !os.IsNotExist(err) {
		t.Errorf("a node was left: %v", err)
	}
}

// noRoomForResults writes more than its small disk takes over what is there, which stays.
func (m *mesh) noRoomForResults() {
	m.Helper()
	draws := filepath.Join(m.T.TempDir(), "draws.txt")
	found := filepath.Join(m.dir, "found.jsonl")
	for path, text := range map[string]string{draws: "206\n87\n", found: "of yesterday\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			m.Fatal(err)
		}
	}
	_, stderr, code := m.exec("sieve", "--local", "-q", "-g", "xorshift32", "-d", draws, "-s", "0:1000", "--threshold", "0", "--keep-all", "-o", found)
	if code != 1 || !strings.Contains(stderr, "no space left") || !strings.Contains(stderr, "make room") {
		m.Errorf("results without room: exit code %d: %s", code, stderr)
	}
	files, err := os.ReadDir(m.dir)
	if b, _ := os.ReadFile(found); err != nil || string(b) != "of yesterday\n" || len(files) != 1 {
		m.Errorf("without room %d files are left, and the old results are %q: %v", len(files), b, err)
	}
	if err := os.Remove(found); err != nil {
		m.Fatal(err)
	}
}
