package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsInstalled runs scripts of the nodes where cluster.toml allows their directory,
// and refuses others before the job is taken, as it does tasks that fit nowhere.
func TestWhatIsInstalled(t *testing.T) {
	m := newMesh(t, 0, "")
	allowed, other, closed := m.openDir("jobs"), m.openDir("other"), filepath.Join(m.dir, "closed")
	for _, dir := range []string{allowed, other} {
		put(t, filepath.Join(dir, "run.sh"), "#!/bin/sh\necho ran $1\n")
	}
	if err := os.Symlink(filepath.Join(other, "run.sh"), filepath.Join(allowed, "out.sh")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	m = newMesh(t, 1, fmt.Sprintf("[node]\npreload_dirs = [%q, %q]\n[scripts]\nmemory_mib = 512\ndirectories = [%q]\n%s", filepath.Join(other, "shelf"), filepath.Join(closed, "shelf"), allowed, oneThread))
	data := m.nodes[0].dir
	exec := func(want int, words string, args ...string) {
		t.Helper()
		stdout, stderr, code := m.exec(append([]string{"exec", "--data", data, "--attempts", "1", "--wait", "-q"}, args...)...)
		if code != want || !strings.Contains(stdout+stderr, words) {
			t.Errorf("%q: exit %d, want %d, and %q in\n%s%s", args, code, want, words, stdout, stderr)
		}
	}
	exec(0, "", "--", allowed+"/run.sh", "x")
	exec(0, "", "--", "sh", allowed+"/run.sh", "x")
	exec(0, "", "--", "/bin/echo", "x")
	exec(1, "[scripts] directories", "--", other+"/run.sh")
	exec(1, "[scripts] directories", "--", "sh", other+"/run.sh")
	exec(3, "", "--", allowed+"/out.sh") // only the node sees where it leads
	if tasks := m.run("task", "ls", "last", "--data", data); !strings.Contains(tasks, "input missing") {
		t.Errorf("a link that leads out of an allowed directory:\n%s", tasks)
	}
	exec(7, "512 MiB", "--mem", "900T", "--", "true")

	file := filepath.Join(other, "a.txt")
	put(t, file, "a")
	out, _, code := m.exec("preload", "put", "words", "--data", data, "--to", "all", "--path", filepath.Join(closed, "shelf", "w"), file)
	if os.Getuid() == 0 && (code == 0 || !strings.Contains(out, "chmod o+x "+closed)) {
		t.Errorf("a preload that no script can read: exit %d\n%s", code, out)
	}
	m.run("preload", "put", "words", "--data", data, "--to", "all", "--path", "w", file) // elsewhere, under its name
	exec(0, "", "--require-preload", "words", "--", "cat", filepath.Join(other, "shelf", "w", "a.txt"))
}

// TestWaits has a job say what it waits for.
func TestWaits(t *testing.T) {
	m := newMesh(t, 1, oneThread)
	data := m.nodes[0].dir
	waits := func(id, want string) {
		t.Helper()
		if text := m.run("job", "show", id, "--data", data); !strings.Contains(text, want) {
			t.Errorf("job show says\n%s\nwant %q", text, want)
		}
	}
	submit := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(m.run(append([]string{"exec", "--data", data}, args...)...))
	}
	long := submit("--", "sleep", "300")
	waits(submit("--after", long, "--", "true"), "follows: "+long)
	file := filepath.Join(m.dir, "a.txt")
	put(t, file, "a")
	m.run("preload", "put", "words", "--data", data, "--to", "nobody", "--path", "w", "--timeout", "0", file)
	waits(submit("--require-preload", "words", "--", "true"), "words, which is not kept on n1")
	m.run("job", "cancel", long, "--data", data)
}

// TestJobFile runs files of our own form on a mesh of processes: tasks with needs and
// files of their own, and a matrix.
func TestJobFile(t *testing.T) {
	m := newMesh(t, 2, oneThread)
	work := m.openDir("work")
	t.Chdir(work)
	data := m.nodes[1].dir
	for name, text := range map[string]string{
		"all.txt": "all\n", "one.txt": "one\n",
		"tasks.toml": `name = "chain"
input = ["all.txt"]
output = ["*.out"]
[[task]]
id = "last"
command = ["sh", "-c", "cat all.txt > last.out; [ ! -e one.txt ]"]
needs = ["first", "broken:any"]
[[task]]
id = "first"
input = ["one.txt"]
command = ["sh", "-c", "cat all.txt one.txt > first.out"]
[[task]]
id = "broken"
command = ["false"]
[[task]]
id = "never"
command = ["sh", "-c", "echo > never.out"]
needs = ["broken"]
`,
		"matrix.json": `{"command": ["sh", "-c", "echo {a}-{b} > {a}-{b}.out"], "matrix": {"a": [1, 2], "b": ["x", "y"]}, "output": ["{a}-{b}.out"]}`,
	} {
		put(t, name, text)
	}
	m.exec("script", "tasks.toml", "--data", data, "--attempts", "1", "--wait", "-q")
	var tasks []struct{ Task, State, Class string }
	m.json(&tasks, "task", "ls", "chain", "--json", "--data", data)
	got := map[string]string{}
	for _, v := range tasks {
		got[v.Task] = v.State
	}
	if want := (map[string]string{"first": "done", "last": "done", "broken": "failed", "never": "failed"}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the tasks are %v, want %v", got, want)
	}
	m.run("script", "matrix.json", "--data", data, "--wait", "-q", "--output-dir", "made")
	m.run("results", "chain", "--partial", "--data", data, "-o", "made")
	for name, want := range map[string]string{"1-x": "1-x\n", "1-y": "1-y\n", "2-x": "2-x\n", "2-y": "2-y\n", "first": "all\none\n", "last": "all\n"} {
		found := ""
		_ = filepath.WalkDir("made", func(at string, _ os.DirEntry, _ error) error {
			if filepath.Base(at) == name+".out" {
				b, _ := os.ReadFile(at)
				found = string(b)
			}
			return nil
		})
		if found != want {
			t.Errorf("%s.out is %q, want %q", name, found, want)
		}
	}
}
