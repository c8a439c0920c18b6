package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"seedmesh/scripts"
)

// TestJobFileOfACommand asks for the same with a file as exec does with flags.
func TestJobFileOfACommand(t *testing.T) {
	const text = `name = "n"
priority = 3
attempts = 7
timeout = "3s"
mem = "1G"
ok = [0, 4]
input = ["data"]
output = ["o-{lr}", "*.log", "stdout:json"]
node = "label:big"
command = ["python3", "train.py", "{lr}", "{depth}"]
env = {A = "b"}
[matrix]
lr = [0.1, 0.01]
depth = ["3", "5"]
`
	const object = `{"name":"n","priority":3,"attempts":7,"timeout":"3s","mem":"1G","ok":[0,4],"input":["data"],"output":["o-{lr}","*.log","stdout:json"],
		"node":["label:big"],"command":["python3","train.py","{lr}","{depth}"],"env":["A=b"],"matrix":["depth=3,5","lr=0.1,0.01"]}`
	files(t, "train.py", "data/a")
	args := strings.Fields("--key k --name n --priority 3 --attempts 7 --timeout 3s --mem 1G --ok 0,4 --input data --output o-{lr} --output *.log --output stdout:json " +
		"--node label:big --env A=b --matrix depth=3,5 --matrix lr=0.1,0.01 -- python3 train.py {lr} {depth}")
	s, want, r := submitted(t, append([]string{"exec"}, args...)...)
	if r.code != 0 {
		t.Fatal(r)
	}
	for name, text := range map[string]string{"job.toml": text, "job.json": object} {
		write(t, name, text)
		got, spec, r := submitted(t, "script", name, "--key", "k")
		if r.code != 0 || !reflect.DeepEqual(spec, want) || got.asked[0].String() != s.asked[0].String() {
			t.Errorf("%s: %+v\ngot  %+v\nwant %+v", name, r, spec, want)
		}
	}
	got, spec, r := submitted(t, "script", "job.toml", "--attempts", "1", "--output", "x", "--matrix", "lr=1")
	if r.code != 0 || got.asked[0].Attempts != 1 || got.asked[0].Priority != 3 || !reflect.DeepEqual(spec.Outputs, []string{"x"}) || spec.Count() != 1 {
		t.Errorf("with flags: %+v, %+v", r, spec)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestJobFileOfTasks puts what a task needs in front of it.
func TestJobFileOfTasks(t *testing.T) {
	files(t, "work.py", "run.sh", "mine.csv")
	write(t, "job.toml", `[[task]]
id = "b"
input = ["mine.csv", "work.py"]
command = ["./run.sh", "x"]
needs = ["a", "a:any"]
timeout = "5s"
gpu_id = 0
[[task]]
id = "a"
script = "work.py"
args = ["--n", 7, 0.5]
output = ["o.json"]
`)
	s, spec, r := submitted(t, "script", "job.toml")
	if r.code != 0 || !strings.Contains(r.stderr, "gpu_id is ignored") || spec.Valid != "" || spec.TimeoutMS != 0 {
		t.Fatal(r, spec)
	}
	l, err := scripts.OpenList(strings.NewReader(string(s.blobs[spec.List.Digest.String()])))
	if err != nil || l.Count() != 2 {
		t.Fatal(err)
	}
	for i, want := range []scripts.Task{
		{ID: "a", Argv: []string{"python3", "-u", "work.py", "--n", "7", "0.5"}, Outputs: []string{"o.json"}},
		{ID: "b", Argv: []string{"./run.sh", "x"}, Inputs: []string{"mine.csv", "work.py"}, TimeoutMS: 5000, GPU: new(int), Needs: []uint64{0}, NeedsAny: []uint64{0}},
	} {
		if got, err := l.Task(uint64(i)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

// TestOwnInputs gives a file to the tasks that name it, and to all when one runs it.
func TestOwnInputs(t *testing.T) {
	files(t, "work.py", "run.sh", "mine.csv")
	write(t, "job.toml", "input = [\"run.sh\"]\n[[task]]\nid = \"b\"\ncommand = [\"cat\", \"x\"]\ninput = [\"mine.csv\", \"work.py\", \"run.sh\"]\n[[task]]\nid = \"a\"\nscript = \"work.py\"\n")
	_, spec, r := submitted(t, "script", "job.toml")
	if r.code != 0 || len(spec.Inputs) != 3 {
		t.Fatal(r, spec)
	}
	links := make([]scripts.Link, len(spec.Inputs))
	for i, in := range spec.Inputs {
		links[i].Path = in.Path
		if own := in.Path == "mine.csv"; in.Own != own {
			t.Errorf("%s is for some tasks: %t", in.Path, in.Own)
		}
	}
	for _, tt := range []struct {
		task scripts.Task
		want int
	}{{scripts.Task{}, 2}, {scripts.Task{Inputs: []string{"mine.csv"}}, 3}} {
		if got := spec.LinksFor(tt.task, links); len(got) != tt.want {
			t.Errorf("a task with %q has the inputs %v, want %d", tt.task.Inputs, got, tt.want)
		}
	}
}

// TestExampleJob reads the file that the README names, and has its tasks wait.
func TestExampleJob(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	_, spec, r := submitted(t, "script", "examples/job.toml")
	if r.code != 0 || spec.Worker != 2 || spec.List.Tasks != 3 || spec.List.Ready != 2 || spec.Capture != "json" {
		t.Errorf("got %+v, %+v", r, spec)
	}
}

// TestWrongJobFiles wants one error that says where and what.
func TestWrongJobFiles(t *testing.T) {
	for text, want := range map[string]string{
		"name = ":                                        "line 1: ",
		"{\n\"name\": x}":                                "line 2: ",
		"atempts = 3\ncommand = [\"true\"]":              "no key \"atempts\"\n  did you mean \"attempts\"?",
		"attempts = -1\ncommand = [\"true\"]":            "the value of attempts must be a whole number from 0 on",
		"timeout = 90\ncommand = [\"true\"]":             "the value of timeout must be a duration",
		"wait = \"si\"\ncommand = [\"true\"]":            "the value of wait must be true or false",
		"ok = [\"x\"]\ncommand = [\"true\"]":             "the value of ok must be a list of whole numbers",
		"command = \"python3 x.py\"":                     "the value of command must be a list of words",
		"command = [\"true\"]\nmatrix = {a = [\"1,2\"]}": "the value of matrix must be",
		"command = [\"true\"]\noutput = {a = \"b\"}":     "the value of output must be a list",
		"name = \"n\"":                                   "either a command or tasks",
		"command = [\"true\"]\n[[task]]\nid = \"a\"":     "either a command or tasks",
		"task = 3":                           "task must be a list of tables",
		"mode = \"x\"\ncommand = [\"true\"]": "neither task nor worker",
		"array = \"1-3\"\n[[task]]\nid=\"a\"\nscript=\"w.py\"":                     "for one command",
		"[[task]]\nscript=\"w.py\"":                                                "task number 1 has no id",
		"[[task]]\nid=\"a\"\nneed=[]":                                              "task number 1 (a): there is no key \"need\"\n  did you mean \"needs\"?",
		"[[task]]\nid=\"a\"":                                                       "task number 1 (a) must have either a command or a script",
		"[[task]]\nid=\"a\"\nscript=\"no.py\"":                                     "task number 1 (a): there is no script no.py",
		"[[task]]\nid=\"a\"\nscript=\"w.py\"\noutput=\"../x\"":                     "task number 1 (a): the path",
		"[[task]]\nid=\"a\"\nscript=\"w.py\"\nneeds=[\"b\"]":                       "needs \"b\", which is not there",
		"[[task]]\nid=\"a\"\nscript=\"w.py\"\nneeds=[\"a\"]":                       "a needs a",
		"[[task]]\nid=\"a\"\nscript=\"w.py\"\n[[task]]\nid=\"a\"\nscript=\"w.py\"": "two tasks have the id",
	} {
		files(t, "w.py")
		name := "job.toml"
		if text[0] == '{' {
			name = "job.json"
		}
		write(t, name, text)
		if s, _, r := submitted(t, "script", name); r.code != exitUsage || !strings.Contains(r.stderr, want) || len(s.asked) > 0 {
			t.Errorf("%s\ngot %d: %s, want %s", text, r.code, r.stderr, want)
		}
	}
}
