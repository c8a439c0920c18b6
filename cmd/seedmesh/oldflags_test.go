package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"seedmesh/kernels"
	"seedmesh/node/api/meshv1"
	"seedmesh/scripts"
)

// oldServer does what the original's programs ask for.
type oldServer struct {
	scriptServer
	searches []*meshv1.SubmitRequest
	known    string // name of a job that is there from an earlier run
	state    string // of every job; empty for done
	tasks    []*meshv1.TaskInfo
	lines    string // of results
}

func (s *oldServer) Submit(_ context.Context, r *connect.Request[meshv1.SubmitRequest]) (*connect.Response[meshv1.SubmitReply], error) {
	s.searches = append(s.searches, r.Msg)
	return connect.NewResponse(&meshv1.SubmitReply{Job: "0123"}), nil
}

func (s *oldServer) Job(_ context.Context, r *connect.Request[meshv1.JobRequest]) (*connect.Response[meshv1.JobInfo], error) {
	var id string
	switch r.Msg.Job {
	case s.known:
		id = "0456"
	case "0123", "0456":
		id = r.Msg.Job
	default:
		return nil, refusal(connect.CodeNotFound, "there is no job "+r.Msg.Job)
	}
	state := s.state
	if state == "" {
		state = "done"
	}
	return connect.NewResponse(&meshv1.JobInfo{Id: id, State: state, Total: "1000", Done: "1000", Survivors: "1", ElapsedSeconds: 2}), nil
}

func (s *oldServer) Results(_ context.Context, _ *connect.Request[meshv1.ResultsRequest], out *connect.ServerStream[meshv1.ResultsChunk]) error {
	return out.Send(&meshv1.ResultsChunk{Data: []byte(s.lines)})
}

func (s *oldServer) Tasks(context.Context, *connect.Request[meshv1.TasksRequest]) (*connect.Response[meshv1.TasksReply], error) {
	return connect.NewResponse(&meshv1.TasksReply{Tasks: s.tasks}), nil
}

func (s *oldServer) Nodes(context.Context, *connect.Request[meshv1.NodesRequest]) (*connect.Response[meshv1.NodesReply], error) {
	return connect.NewResponse(&meshv1.NodesReply{Nodes: []*meshv1.NodeInfo{{Name: "rig", Slots: 12}}}), nil
}

// asked is the first search that was submitted.
func (s *oldServer) asked(t *testing.T) *kernels.Spec {
	t.Helper()
	if len(s.searches) == 0 {
		t.Fatal("nothing was submitted")
	}
	spec, err := kernels.DecodeSpec(s.searches[0].Spec)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// oldFiles are what the old command lines of these tests name.
func oldFiles(t *testing.T) {
	t.Helper()
	files(t, "work.py")
	draws := `[{"session":"midday","draw":7},{"session":"evening","draw":8},{"session":"midday","draw":9},{"session":"evening","draw":1}]`
	for name, text := range map[string]string{
		"draws.json":   draws,
		"scripts.json": `{"jobs":[{"job_id":"a","script":"work.py","args":["--output-file","res/a.json"],"expected_output":"res/a.json","gpu_id":3}]}`,
		"sieves.json": `[{"job_id":"one","analysis_type":"sieve","dataset_path":"draws.json","window_size":4,"seed_start":10,"seed_end":1010,"skip_range":[1,2],
			"prng_families":["java_lcg",{"type":"lcg32_reverse"}],"sessions":["midday","evening"]}]`,
		"sieve.json":   `{"job_id":"one","type":"sieve","target_file":"draws.json","window_size":2,"sessions":["evening"],"seeds":[5,7,1004],"prng_families":["java_lcg_hybrid"],"hybrid":true,"strategies":[{"max_consecutive_misses":3,"skip_tolerance":5}]}`,
		"reverse.json": `{"job_id":"r","analysis_type":"reverse_sieve","dataset_path":"draws.json","window_size":3,"candidate_seeds":[5,{"seed":9,"skip":2}],"prng_families":["java_lcg"]}`,
		"script.json":  `{"job_id":"s","script":"work.py","args":[]}`,
		"other.json":   `{"job_id":"x","analysis_type":"correlation"}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const oldLine = `{"seed":"80","family":"compat:java_lcg","matches":3,"total":4,"match_rate":0.75,"best_skip":2,"best_offset":0}` + "\n"

func newOldServer() *oldServer {
	return &oldServer{
		scriptServer: scriptServer{blobs: map[string][]byte{}, chunks: []*meshv1.OutputChunk{chunk(0, "a", "res/a.json", "{}", func(c *meshv1.OutputChunk) { c.Own, c.As = true, "res/a.json" })}},
		tasks:        []*meshv1.TaskInfo{{Task: "a", State: "done", Node: "rig", Slot: 2, Seconds: 1.5}},
		lines:        oldLine,
	}
}

const (
	coordinatorLine = "coordinator --window-size 4 --seed-end 1000 "
	scriptsLine     = "scripts-coordinator --jobs-file scripts.json "
)

// chapterFlags are all flags that the original's guide lists, with a command line
// that gives each, and what it must have done.
var chapterFlags = map[string]map[string]struct {
	line  string
	check func(t *testing.T, s *oldServer, r result)
}{
	"coordinator": {
		"seed-start": {coordinatorLine + "--seed-start 10 draws.json", func(t *testing.T, s *oldServer, _ result) {
			if q := s.searches[0]; q.First != 10 || q.Last != 999 {
				t.Errorf("the seeds are %d to %d", q.First, q.Last)
			}
		}},
		"seed-end": {"coordinator --window-size 4 --seed-end 2^20 draws.json", func(t *testing.T, s *oldServer, _ result) {
			if q := s.searches[0]; q.First != 0 || q.Last != 1<<20-1 {
				t.Errorf("the seeds are %d to %d", q.First, q.Last)
			}
		}},
		"jobs-file": {"coordinator --jobs-file sieves.json", func(t *testing.T, s *oldServer, r result) {
			spec := s.asked(t)
			if want := []string{"compat:java_lcg", "compat:lcg32_reverse"}; !slices.Equal(spec.Generators, want) || spec.Skip != (kernels.Bounds{Min: 1, Max: 2}) || s.searches[0].First != 10 {
				t.Errorf("asked for %+v", spec)
			}
			if readFile(t, "results/one.json") == "" || r.stdout != "results/one.json\n" {
				t.Errorf("got %+v", r)
			}
		}},
		"config":     {coordinatorLine + "--config distributed_config.json draws.json", warned("--config")},
		"resume":     {coordinatorLine + "--resume draws.json", submittedOnce},
		"output-dir": {coordinatorLine + "--output-dir out draws.json", func(t *testing.T, _ *oldServer, r result) { wantFile(t, r, "out/draws_analysis_*.json") }},
	},
	"scripts-coordinator": {
		"jobs-file":  {scriptsLine, scriptsSubmitted},
		"output-dir": {scriptsLine + "--output-dir out", func(t *testing.T, _ *oldServer, r result) { wantFile(t, r, "out/out_*/a.json") }},
		"preserve-paths": {scriptsLine + "--preserve-paths", func(t *testing.T, _ *oldServer, r result) {
			wantFile(t, r, "res/a.json")
			if _, err := os.Stat("full_scoring_results"); err == nil {
				t.Error("something is in the output directory")
			}
		}},
		"resume": {scriptsLine + "--resume", scriptsSubmitted},
	},
	"distributed-worker": {
		"job-file": {"distributed-worker --job-file sieve.json", func(t *testing.T, s *oldServer, _ result) {
			spec := s.asked(t)
			if q := s.searches[0]; q.First != 5 || q.Last != 1004 || spec.Generators[0] != "compat:java_lcg_hybrid" || spec.MinMatches != 1 || len(spec.Strategies) != 1 || len(spec.Draws) != 2 {
				t.Errorf("asked for %v, %+v", q, spec)
			}
		}},
		"gpu-id":      {"distributed-worker --job-file sieve.json --gpu-id 3", worked(`"gpu_id":3,"hardware_type":"slot","mining_mode":false`, "--gpu-id")},
		"mining-mode": {"distributed-worker --job-file sieve.json --mining-mode", worked(`"gpu_id":0,"hardware_type":"slot","mining_mode":true`, "--mining-mode")},
	},
}

func warned(flag string) func(*testing.T, *oldServer, result) {
	return func(t *testing.T, _ *oldServer, r result) {
		if strings.Count(r.stderr, "warning: without a meaning on a mesh: "+flag) != 1 {
			t.Errorf("it says %q", r.stderr)
		}
	}
}

func worked(part, flag string) func(*testing.T, *oldServer, result) {
	return func(t *testing.T, s *oldServer, r result) {
		warned(flag)(t, s, r)
		if !strings.Contains(r.stdout, part) {
			t.Errorf("printed %s", r.stdout)
		}
	}
}

func submittedOnce(t *testing.T, s *oldServer, _ result) {
	if len(s.searches) != 1 {
		t.Errorf("%d searches were submitted", len(s.searches))
	}
}

func scriptsSubmitted(t *testing.T, s *oldServer, _ result) {
	if len(s.scriptServer.asked) != 1 {
		t.Fatalf("%d jobs were submitted", len(s.scriptServer.asked))
	}
	q := s.scriptServer.asked[0]
	if spec, err := scripts.Decode(q.Spec); err != nil || spec.TimeoutMS != 7200_000 || q.Attempts != 3 {
		t.Errorf("asked for %+v, %v", spec, err)
	}
}

func wantFile(t *testing.T, r result, pattern string) {
	t.Helper()
	if found, err := filepath.Glob(pattern); err != nil || len(found) != 1 {
		t.Errorf("%s: %v, %v; got %+v", pattern, found, err, r)
	}
}

// TestChapterFlags gives each flag of the original's guide, and checks its effect.
func TestChapterFlags(t *testing.T) {
	listed := map[string]string{
		"coordinator":         "config jobs-file output-dir resume seed-end seed-start",
		"scripts-coordinator": "jobs-file output-dir preserve-paths resume",
		"distributed-worker":  "gpu-id job-file mining-mode",
	}
	for program, flags := range chapterFlags {
		if got := strings.Join(slices.Sorted(maps.Keys(flags)), " "); got != listed[program] {
			t.Errorf("%s: the flags are %s, want %s", program, got, listed[program])
		}
		for flag, tt := range flags {
			t.Run(program+" "+flag, func(t *testing.T) {
				oldFiles(t)
				if !strings.Contains(tt.line+" ", "--"+flag+" ") {
					t.Fatalf("%q does not give --%s", tt.line, flag)
				}
				s := newOldServer()
				r := runWith(t.Context(), t, serveFake(t, s), "", strings.Fields(tt.line)...)
				if r.code != 0 {
					t.Fatalf("%s: got %+v", tt.line, r)
				}
				tt.check(t, s, r)
			})
		}
	}
}

// TestOldSearches checks what the coordinator's flags ask the mesh for.
func TestOldSearches(t *testing.T) {
	for line, want := range map[string]kernels.Spec{
		"": {Generators: []string{"compat:lcg32"}, Mode: "fixed", Skip: kernels.Bounds{Max: 20}, MinMatches: 1},
		"--prng-type java_lcg,glibc_rand --threshold 0.6": {Generators: []string{"compat:java_lcg", "glibc_rand"}, Mode: "fixed", Skip: kernels.Bounds{Max: 20}, MinMatches: 3},
		"--skip-min 2 --skip-max 3 --threshold 1":         {Generators: []string{"compat:lcg32"}, Mode: "fixed", Skip: kernels.Bounds{Min: 2, Max: 3}, MinMatches: 4},
		"--hybrid": {Generators: []string{"compat:lcg32"}, Mode: "two-phase", Skip: kernels.Bounds{Max: 20}, MinMatches: 1, ConfirmMatches: 3},
		"--hybrid --phase1-threshold 0.5 --phase2-threshold 1": {Generators: []string{"compat:lcg32"}, Mode: "two-phase", Skip: kernels.Bounds{Max: 20}, MinMatches: 2, ConfirmMatches: 4},
		"--prng-type lcg32_hybrid --hybrid":                    {Generators: []string{"compat:lcg32_hybrid"}, Mode: "fixed", MinMatches: 2},
	} {
		oldFiles(t)
		s := newOldServer()
		r := runWith(t.Context(), t, serveFake(t, s), "", strings.Fields(coordinatorLine+line+" draws.json")...)
		if r.code != 0 {
			t.Errorf("%q: got %+v", line, r)
			continue
		}
		got := s.asked(t)
		if !slices.Equal(got.Generators, want.Generators) || got.Mode != want.Mode || got.Skip != want.Skip || got.MinMatches != want.MinMatches || got.ConfirmMatches != want.ConfirmMatches {
			t.Errorf("%q asks for %+v, want %+v", line, got, want)
		}
		if q := s.searches[0]; q.TimeoutMs != 1200_000 {
			t.Errorf("the timeout is %d ms", q.TimeoutMs)
		}
	}
	for _, line := range []string{
		"coordinator", "coordinator --method standard draws.json", "coordinator --jobs-file sieves.json draws.json", "coordinator --jobs-file other.json",
		"coordinator --session-filter noon draws.json", "coordinator --phase1-threshold x draws.json", "coordinator --window-size 5 draws.json",
		"distributed-worker", "distributed-worker --job-file other.json", "distributed-worker a b", "scripts-coordinator", "scripts-coordinator --jobs-file draws.json",
	} {
		oldFiles(t)
		if r := runWith(t.Context(), t, serveFake(t, newOldServer()), "", strings.Fields(line)...); r.code != exitUsage {
			t.Errorf("%s: got %+v", line, r)
		}
	}
}

// keys lists the keys of a JSON object, those of objects in it behind a dot.
func keys(t *testing.T, text string) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var all []string
	for key, value := range object {
		all = append(all, key)
		if below, ok := value.(map[string]any); ok {
			for inner := range below {
				all = append(all, key+"."+inner)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestOldResults checks the fields of what the original's programs write.
func TestOldResults(t *testing.T) {
	const search = "expected_by_chance job_id k min_match_threshold per_family per_family.java_lcg prng_families seed_range seed_range.end seed_range.start seeds_analyzed " +
		"skip_range stats stats.avg_seeds_per_sec stats.duration_ms stats.total_seeds_tested stats.total_survivors success survivors"
	const by = "execution_info execution_info.analysis_type execution_info.execution_method execution_info.gpu_id execution_info.hardware_type execution_info.mining_mode execution_info.worker_hostname "
	for line, tt := range map[string]struct {
		keys  string
		parts []string
	}{
		coordinatorLine + "--prng-type java_lcg -o r.json draws.json": {search, []string{
			`"survivors":[` + "\n" + `{"seed":80,"family":"java_lcg","matches":3,"total":4,"match_rate":0.75,"best_skip":2,"best_offset":0}` + "\n]",
			`"per_family":{"java_lcg":{"tested":1000,"found":1}}`, `"seed_range":{"start":0,"end":1000}`, `"k":4`, `"avg_seeds_per_sec":500`, `"duration_ms":2000`,
		}},
		"distributed-worker --job-file reverse.json": {
			"candidates_tested " + by + "expected_by_chance job_id min_match_threshold mode prng_families skip_range stats stats.duration_ms stats.total_candidates stats.total_survivors success survivors window_size worker_runtime",
			[]string{`"candidates_tested":2`, `"mode":"reverse_sieve"`, `"skip_range":[0,0]`},
		},
		scriptsLine: {
			"failed jobs nodes nodes.rig output_dir preserve_paths run_id runtime_seconds status successful timestamp total_jobs",
			[]string{`"status":"complete"`, `"rig":{"jobs":1,"successful":1,"failed":0,"gpu_count":12,"gpu_type":"slot"}`, `"job_id":"a","success":true,"node":"rig","gpu_id":2,"runtime":1.5,"output_file":"full_scoring_results/full_scoring_results_`},
		},
		scriptsLine + "--dry-run": {"failed jobs nodes output_dir preserve_paths run_id runtime_seconds status successful timestamp total_jobs", []string{`"status":"dry_run"`, `"total_jobs":1`}},
	} {
		oldFiles(t)
		s := newOldServer()
		r := runWith(t.Context(), t, serveFake(t, s), "", strings.Fields(line)...)
		if r.code != 0 {
			t.Errorf("%s: got %+v", line, r)
			continue
		}
		if r.stdout == "r.json\n" {
			r.stdout = readFile(t, "r.json")
		}
		if got := keys(t, r.stdout); got != tt.keys {
			t.Errorf("%s: the fields are\n%s, want\n%s", line, got, tt.keys)
		}
		for _, part := range tt.parts {
			if !strings.Contains(r.stdout, part) {
				t.Errorf("%s: %s is not in %s", line, part, r.stdout)
			}
		}
	}
}

// TestOldManifest checks what lies beside the outputs, and what failures are called.
func TestOldManifest(t *testing.T) {
	oldFiles(t)
	s := newOldServer()
	s.state = "failed"
	s.tasks[0] = &meshv1.TaskInfo{Task: "a", State: "failed", Class: "missing output", Message: "no res/a.json"}
	s.chunks = nil
	r := runWith(t.Context(), t, serveFake(t, s), "", strings.Fields(scriptsLine+"--config c.json")...)
	if r.code != exitJobFailed || !strings.Contains(r.stdout, `"status":"partial"`) || !strings.Contains(r.stdout, `"failure_mode":"FILE_MISSING"`) {
		t.Errorf("got %+v", r)
	}
	found, err := filepath.Glob("full_scoring_results/*/scripts_run_manifest.json")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	const want = "config_file failures jobs_completed jobs_expected jobs_failed jobs_file manifest_version nodes output_dir outputs run_id runtime_seconds script_job_spec_version timestamp"
	text := readFile(t, found[0])
	if got := keys(t, text); got != want || !strings.Contains(text, `"failures":[{"job_id":"a","failure_mode":"FILE_MISSING","error":"no res/a.json"}]`) || !strings.Contains(text, `"config_file":"c.json"`) {
		t.Errorf("the manifest is %s", text)
	}
}

// TestOldFailedSearch checks that a search that failed says so in its file and by its code.
func TestOldFailedSearch(t *testing.T) {
	oldFiles(t)
	s := newOldServer()
	s.state = "failed"
	r := runWith(t.Context(), t, serveFake(t, s), "", strings.Fields(coordinatorLine+"-o r.json draws.json")...)
	if got := keys(t, readFile(t, "r.json")); r.code != exitJobFailed || got != "error job_id seeds_analyzed success traceback" {
		t.Errorf("got %+v, the fields %s", r, got)
	}
}

// TestOldResume attaches to the job of an earlier run that asked the same, and to
// no other one.
func TestOldResume(t *testing.T) {
	for _, line := range []string{coordinatorLine + "draws.json", scriptsLine} {
		oldFiles(t)
		first := newOldServer()
		if r := runWith(t.Context(), t, serveFake(t, first), "", strings.Fields(line)...); r.code != 0 {
			t.Fatalf("%s: got %+v", line, r)
		}
		name := ""
		for _, q := range first.searches {
			name = q.Name
		}
		for _, q := range first.scriptServer.asked {
			name = q.Name
		}
		for _, tt := range []struct {
			args, known, state string
			submits            int
		}{
			{"--resume", name, "", 0},
			{"--resume", "another", "", 1},
			{"--resume --max-retries 1", name, "", 0}, // the same question
			{"", name, "", 1},
			{"--resume", name, "cancelled", 1},
		} {
			if strings.Contains(tt.args, "max-retries") && line != scriptsLine {
				continue
			}
			s := newOldServer()
			s.known, s.state = tt.known, tt.state
			r := runWith(t.Context(), t, serveFake(t, s), "", strings.Fields(line+" "+tt.args)...)
			if got := len(s.searches) + len(s.scriptServer.asked); got != tt.submits || tt.submits == 0 && !strings.Contains(r.stderr, "job 0456") {
				t.Errorf("%s %s, known %q, %s: %d submits, %+v", line, tt.args, tt.known, tt.state, got, r)
			}
		}
	}
}

// TestOldWorkerScript prints the JSON object that the script printed last.
func TestOldWorkerScript(t *testing.T) {
	oldFiles(t)
	s := newOldServer()
	s.lines = `{"task":"s","number":0,"status":0,"stdout":{"status":"success","accuracy":0.75,"big":12345678901234567890}}` + "\n"
	s.chunks = []*meshv1.OutputChunk{chunk(0, "s", "stdout.json", "{}")}
	r := runWith(t.Context(), t, serveFake(t, s), "", "distributed-worker", "script.json", "--gpu-id", "1")
	if r.code != 0 || !strings.Contains(r.stdout, `"accuracy":0.75,"big":12345678901234567890,"execution_info":{"worker_hostname":`) {
		t.Errorf("got %+v", r)
	}
	spec, err := scripts.Decode(s.scriptServer.asked[0].Spec)
	if err != nil || spec.Capture != "json" || spec.TimeoutMS != 3600_000 {
		t.Errorf("asked for %+v, %v", spec, err)
	}
	if _, err := os.Stat("s"); err == nil {
		t.Error("a file was left that nobody asked for")
	}
}
