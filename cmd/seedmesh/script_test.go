package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/scripts"
)

// scriptServer takes script jobs, and gives outputs.
type scriptServer struct {
	meshv1connect.UnimplementedMeshHandler
	blobs   map[string][]byte
	asked   []*meshv1.SubmitScriptsRequest
	chunks  []*meshv1.OutputChunk
	broken  int // chunks after which the stream breaks, once; 0 for never
	streams int
}

func (s *scriptServer) MissingBlobs(_ context.Context, r *connect.Request[meshv1.MissingBlobsRequest]) (*connect.Response[meshv1.MissingBlobsReply], error) {
	reply := &meshv1.MissingBlobsReply{}
	for _, d := range r.Msg.Digests {
		if s.blobs[d] == nil {
			reply.Digests = append(reply.Digests, d)
		}
	}
	return connect.NewResponse(reply), nil
}

func (s *scriptServer) PutBlob(_ context.Context, in *connect.ClientStream[meshv1.PutBlobRequest]) (*connect.Response[meshv1.PutBlobReply], error) {
	digest, data := "", []byte{}
	for in.Receive() {
		digest += in.Msg().Digest
		data = append(data, in.Msg().Data...)
	}
	if h := sha256.Sum256(data); hex.EncodeToString(h[:]) != digest {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("damaged"))
	}
	s.blobs[digest] = data
	return connect.NewResponse(&meshv1.PutBlobReply{}), nil
}

func (s *scriptServer) SubmitScripts(_ context.Context, r *connect.Request[meshv1.SubmitScriptsRequest]) (*connect.Response[meshv1.SubmitReply], error) {
	s.asked = append(s.asked, r.Msg)
	return connect.NewResponse(&meshv1.SubmitReply{Job: "0123"}), nil
}

func (s *scriptServer) Job(context.Context, *connect.Request[meshv1.JobRequest]) (*connect.Response[meshv1.JobInfo], error) {
	return connect.NewResponse(&meshv1.JobInfo{Id: "0123", Kind: "tasks", State: "done"}), nil
}

func (s *scriptServer) Outputs(_ context.Context, r *connect.Request[meshv1.OutputsRequest], out *connect.ServerStream[meshv1.OutputChunk]) error {
	s.streams++
	for i, c := range s.chunks {
		if s.streams == 1 && s.broken > 0 && i == s.broken {
			return connect.NewError(connect.CodeUnavailable, errors.New("gone"))
		}
		if c.Number >= r.Msg.First {
			if err := out.Send(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// submitted runs a command line in a directory and gives the job that it asked for.
func submitted(t *testing.T, args ...string) (*scriptServer, *scripts.Spec, result) {
	t.Helper()
	s := &scriptServer{blobs: map[string][]byte{}}
	r := runWith(t.Context(), t, serveFake(t, s), "", args...)
	if r.code != 0 {
		return s, nil, r
	}
	spec, err := scripts.Decode(s.asked[0].Spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range spec.Inputs {
		if s.blobs[in.Digest.String()] == nil {
			t.Errorf("the input %s was not sent", in.Path)
		}
	}
	return s, spec, r
}

func files(t *testing.T, names ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, name := range names {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("of "+name), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExec checks what command lines become, with the files that they name.
func TestExec(t *testing.T) {
	for name, tt := range map[string]struct {
		args   []string
		want   scripts.Spec
		inputs string
	}{
		"a command":     {[]string{"--", "hostname", "-f"}, scripts.Spec{Template: &scripts.Task{Argv: []string{"hostname", "-f"}}}, ""},
		"a script here": {[]string{"--", "./sub/run.sh", "x"}, scripts.Spec{Template: &scripts.Task{Argv: []string{"./sub/run.sh", "x"}}}, "sub/run.sh"},
		"an interpreter's script": {
			[]string{"--array", "3-5", "--", "python3", "-u", "train.py", "{}", "other"},
			scripts.Spec{Template: &scripts.Task{Argv: []string{"python3", "-u", "train.py", "{}", "other"}}, Axes: []scripts.Axis{{From: 3, To: 5}}}, "train.py",
		},
		"a worker": {
			[]string{"--mode", "worker", "--array", "3-5", "--", "python3", "train.py", "--fast", "::", "{}", "other"},
			scripts.Spec{Template: &scripts.Task{Argv: []string{"python3", "train.py", "--fast", "{}", "other"}}, Axes: []scripts.Axis{{From: 3, To: 5}}, Worker: 3}, "train.py",
		},
		"a worker without words for its tasks": {
			[]string{"--mode", "worker", "--", "python3", "train.py"},
			scripts.Spec{Template: &scripts.Task{Argv: []string{"python3", "train.py"}}, Worker: 2}, "train.py",
		},
		"files, outputs and parameters": {
			[]string{"--input", "data", "--output", "o-{lr}", "--output", "*.log", "--output", "stdout:json", "--matrix", "lr=1,2", "--env", "A=b", "--timeout", "3s", "--ok", "0,4", "--", "true"},
			scripts.Spec{
				Template: &scripts.Task{Argv: []string{"true"}, Outputs: []string{"o-{lr}"}}, Axes: []scripts.Axis{{Name: "lr", Values: []string{"1", "2"}}},
				Outputs: []string{"*.log"}, Capture: "json", Env: []string{"A=b"}, TimeoutMS: 3000, OK: []int{0, 4},
			}, "data/a data/b/c",
		},
		"a list of numbers": {[]string{"--array", "1,5,9-11", "--", "true"}, scripts.Spec{Template: &scripts.Task{Argv: []string{"true"}}, Axes: []scripts.Axis{{Values: []string{"1", "5", "9", "10", "11"}}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			files(t, "sub/run.sh", "train.py", "data/a", "data/b/c")
			_, got, r := submitted(t, append([]string{"exec"}, tt.args...)...)
			if r.code != 0 || r.stdout != "0123\n" {
				t.Fatalf("got %+v", r)
			}
			var paths []string
			for _, in := range got.Inputs {
				paths = append(paths, in.Path)
			}
			if strings.Join(paths, " ") != tt.inputs {
				t.Errorf("the inputs are %q, want %q", paths, tt.inputs)
			}
			got.Inputs, got.Version = nil, 0
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got %+v, want %+v", *got, tt.want)
			}
		})
	}
	for name, args := range map[string][]string{
		"no command":      {"exec"},
		"array backwards": {"exec", "--array", "5-1", "--", "true"},
		"no array":        {"exec", "--array", "x", "--", "true"},
		"long list":       {"exec", "--array", "1,2-99999999", "--", "true"},
		"no values":       {"exec", "--matrix", "a=", "--", "true"},
		"output above":    {"exec", "--output", "../x", "--", "true"},
		"no variable":     {"exec", "--env", "A", "--", "true"},
		"no mode":         {"exec", "--mode", "daemon", "--", "true"},
		"no worker":       {"exec", "--mode", "worker", "--", "::", "true"},
		"no ::":           {"exec", "--mode", "worker", "--array", "1-5", "--", "python3", "worker.py", "{}"},
	} {
		if _, _, r := submitted(t, args...); r.code != exitUsage {
			t.Errorf("%s: got %+v", name, r)
		}
	}
}

// TestJobsFileOfWorkers starts a worker with the script of each entry.
func TestJobsFileOfWorkers(t *testing.T) {
	files(t, "work.py")
	for text, want := range map[string]int{
		`[{"job_id":1,"script":"work.py","args":[1]},{"job_id":2,"script":"work.py","args":[]}]`:      3,
		`[{"job_id":1,"script":"work.py","args":[1]},{"job_id":2,"script":"/bin/true","args":["a"]}]`: 0,
	} {
		if err := os.WriteFile("jobs.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, spec, r := submitted(t, "script", "jobs.json", "--mode", "worker")
		if (r.code == exitUsage) != (want == 0) || want > 0 && spec.Worker != want {
			t.Errorf("%s: got %+v, %+v", text, r, spec)
		}
	}
}

// TestJobsFiles reads both of the original's formats.
func TestJobsFiles(t *testing.T) {
	gpu := 2
	for name, tt := range map[string]struct {
		file    string
		want    scripts.Task
		warning string
	}{
		"object with jobs": {
			`{"jobs":[{"job_id":"j1","script":"work.py","args":["--n",7,"--rate",0.5],"gpu_id":2}]}`,
			scripts.Task{ID: "j1", Argv: []string{"python3", "-u", "work.py", "--n", "7", "--rate", "0.5"}, GPU: &gpu}, "gpu_id is ignored",
		},
		"bare list": {
			`[{"job_id":17,"script":"work.py","args":["--output-file","res/o.json","--in=chunks/c1.json"],"expected_output":"res/o.json","chunk_file":"chunks/c1.json","seed_count":5,"timeout":90,"job_type":"x"}]`,
			scripts.Task{
				ID: "17", Argv: []string{"python3", "-u", "work.py", "--output-file", "res/o.json", "--in=chunks/c1.json"},
				Outputs: []string{"res/o.json"}, As: []string{"res/o.json"}, TimeoutMS: 90_000,
			}, "keys without a meaning here: job_type",
		},
		"absolute paths": {
			`[{"job_id":"a","script":"/opt/tool","args":["--out=/srv/r/o.json"],"expected_output":"/srv/r/o.json"}]`,
			scripts.Task{ID: "a", Argv: []string{"/opt/tool", "--out=srv/r/o.json"}, Outputs: []string{"srv/r/o.json"}, As: []string{"/srv/r/o.json"}}, "",
		},
		"output named by its argument": {
			`[{"job_id":"a","script":"work.py","args":["--output-file","o.json"]}]`,
			scripts.Task{ID: "a", Argv: []string{"python3", "-u", "work.py", "--output-file", "o.json"}, Outputs: []string{"o.json"}, As: []string{"o.json"}}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			files(t, "work.py", "chunks/c1.json")
			if err := os.WriteFile("jobs.json", []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			s, spec, r := submitted(t, "script", "jobs.json")
			if r.code != 0 || !strings.Contains(r.stderr, tt.warning) || (tt.warning == "") != (r.stderr == "") {
				t.Fatalf("got %+v, want the warning %q", r, tt.warning)
			}
			l, err := scripts.OpenList(strings.NewReader(string(s.blobs[spec.List.Digest.String()])))
			if err != nil || l.Count() != 1 || spec.Valid != "auto" || spec.TimeoutMS != 7200_000 {
				t.Fatal(spec, err)
			}
			if got, err := l.Task(0); err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	for name, text := range map[string]string{
		"not JSON": `x`, "empty": `[]`, "no jobs": `{}`, "no id": `[{"script":"work.py"}]`, "the same id": `[{"job_id":1,"script":"work.py"},{"job_id":1,"script":"work.py"}]`,
		"something behind": `[{"job_id":1,"script":"work.py"}]]`, "a key and something behind": `[{"job_id":1,"script":"work.py","x":1}] 2`,
		"no script here": `[{"job_id":1,"script":"nowhere.py"}]`, "leaves the directory": `[{"job_id":1,"script":"work.py","expected_output":"../x"}]`,
	} {
		files(t, "work.py")
		if err := os.WriteFile("jobs.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, r := submitted(t, "script", "jobs.json"); r.code != exitUsage {
			t.Errorf("%s: got %+v", name, r)
		}
	}
}

func chunk(number uint64, task, path, data string, edit ...func(*meshv1.OutputChunk)) *meshv1.OutputChunk {
	h := sha256.Sum256([]byte(data))
	c := &meshv1.OutputChunk{Number: number, Task: task, Path: path, Data: []byte(data), End: true, Digest: hex.EncodeToString(h[:])}
	for _, e := range edit {
		e(c)
	}
	return c
}

// TestDelivery writes outputs where they belong, also when the node goes away
// in the middle, and nothing outside of the directory.
func TestDelivery(t *testing.T) {
	own := func(c *meshv1.OutputChunk) { c.Own = true }
	outside := filepath.Join(t.TempDir(), "r", "o.json")
	absolute := func(c *meshv1.OutputChunk) { c.Own, c.As = true, outside }
	for name, tt := range map[string]struct {
		chunks []*meshv1.OutputChunk
		broken int
		args   []string
		want   map[string]string
		code   int
	}{
		"each task's directory":        {[]*meshv1.OutputChunk{chunk(0, "a", "o/x", "1"), chunk(1, "b", "o/x", "2")}, 0, nil, map[string]string{"a/o/x": "1", "b/o/x": "2"}, 0},
		"paths of their own":           {[]*meshv1.OutputChunk{chunk(0, "a", "o/x", "1", own), chunk(1, "b", "o/y", "2", own)}, 0, nil, map[string]string{"o/x": "1", "o/y": "2"}, 0},
		"broken in the middle":         {[]*meshv1.OutputChunk{chunk(0, "a", "x", "1"), chunk(1, "b", "x", "2"), chunk(1, "b", "y", "3"), chunk(2, "c", "x", "4")}, 2, nil, map[string]string{"a/x": "1", "b/x": "2", "b/y": "3", "c/x": "4"}, 0},
		"the same path twice":          {[]*meshv1.OutputChunk{chunk(0, "a", "x", "1", own), chunk(1, "b", "x", "2", own)}, 0, nil, nil, exitFailure},
		"out of the directory":         {[]*meshv1.OutputChunk{chunk(0, "..", "x", "1")}, 0, nil, nil, exitFailure},
		"damaged on the way":           {[]*meshv1.OutputChunk{chunk(0, "a", "x", "1", func(c *meshv1.OutputChunk) { c.Data = []byte("2") })}, 0, nil, nil, exitFailure},
		"absolute, into the directory": {[]*meshv1.OutputChunk{chunk(0, "a", "srv/r/o.json", "1", absolute)}, 0, nil, map[string]string{"o.json": "1"}, 0},
		"absolute, preserved":          {[]*meshv1.OutputChunk{chunk(0, "a", "srv/r/o.json", "1", absolute)}, 0, []string{"--preserve-paths"}, map[string]string{strings.TrimPrefix(outside, "/"): "1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scriptServer{chunks: tt.chunks, broken: tt.broken}
			dir := filepath.Join(t.TempDir(), "out")
			r := runWith(t.Context(), t, serveFake(t, s), "", append([]string{"results", "last", "-o", dir}, tt.args...)...)
			if r.code != tt.code {
				t.Fatalf("got %+v, want exit code %d", r, tt.code)
			}
			for name, want := range tt.want {
				if got := readFile(t, filepath.Join(dir, name)); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if _, err := os.Stat(outside); err == nil {
				t.Error("a path that somebody else's job names was written to")
			}
			parts, err := filepath.Glob(filepath.Join(dir, "*", "*"+partSuffix))
			if err != nil || len(parts) > 0 || tt.broken > 0 && s.streams != 2 {
				t.Errorf("left are %v, %v, after %d streams", parts, err, s.streams)
			}
		})
	}
}
