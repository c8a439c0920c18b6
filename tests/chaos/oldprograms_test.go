package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// originals are files as the original's users had them.
var originals = map[string]string{
	"distributed_config.json": `{"nodes":[{"hostname":"n1","username":"u","gpu_count":3,"gpu_type":"cpu","script_path":"/home/u/x",
		"python_env":"","password":"p","max_concurrent_script_jobs":2,"use_ramdisk":true,"ramdisk_path":"/dev/shm"}],
		"sieve_defaults":{"min_match_threshold":0.01,"window_size":512},"reverse_sieve_defaults":{"reverse_batch_size":1000},"search_bounds":{},"evaluation_thresholds":{}}`,
	"object.json": `{"jobs":[{"job_id":"one","script":"trial.py","args":["--output-file","trials/one.json","--n",3],"gpu_id":0},
		{"job_id":"two","script":"trial.py","args":["--output-file","trials/two.json","--n",4],"gpu_id":7}]}`,
	"array.json": `[{"job_id":"a","script":"trial.py","args":["--output-file","res/a.json","--n",5,"--chunk","chunks/a.json"],"expected_output":"res/a.json",
		"chunk_file":"chunks/a.json","seed_count":10,"timeout":60,"job_type":"script"},
		{"job_id":"b","script":"trial.py","args":["--output-file","res/b.json","--fail"],"expected_output":"res/b.json"}]`,
	"chunks/a.json": "[1,2,3]",
	"worker.json":   `{"job_id":"w","analysis_type":"script","script":"trial.py","args":["--n","6"]}`,
	"trial.py": `import json, sys
args = sys.argv[1:]
value = lambda flag, other=None: args[args.index(flag) + 1] if flag in args else other
if "--chunk" in args: assert json.load(open(value("--chunk"))) == [1, 2, 3]
if "--fail" not in args:
    result = {"status": "success", "n": int(value("--n")), "accuracy": 0.5}
    if "--output-file" in args: json.dump(result, open(value("--output-file"), "w"))
    print("some words")
    print(json.dumps(result))
`,
}

// fieldsOf parses a JSON object and lists its keys.
func fieldsOf(t *testing.T, text string) (map[string]any, string) {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return object, strings.Join(slices.Sorted(maps.Keys(object)), " ")
}

// TestOriginalsFiles runs the original's configuration and job files through its own
// command lines on a real node, and holds what comes out against its fields.
func TestOriginalsFiles(t *testing.T) {
	needsPython(t)
	work := t.TempDir()
	for name, text := range originals {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	imported := (&mesh{T: t}).run("config", "import", filepath.Join(work, "distributed_config.json"))
	m := newMesh(t, 1, imported)
	t.Chdir(work)
	t.Setenv("SEEDMESH_DATA", m.nodes[0].dir)
	if s := m.status(); s == nil || s.Slots != 3 {
		t.Fatalf("the configuration gives %+v", s)
	}

	const summaryFields = "failed jobs nodes output_dir preserve_paths run_id runtime_seconds status successful timestamp total_jobs"
	summary, fields := fieldsOf(t, m.run("scripts-coordinator", "--jobs-file", "object.json", "--config", "distributed_config.json"))
	if fields != summaryFields || summary["status"] != "complete" || summary["successful"] != 2.0 {
		t.Errorf("object.json gives %v", summary)
	}
	for _, name := range []string{"one.json", "two.json", "scripts_run_manifest.json"} {
		found, err := filepath.Glob("full_scoring_results/full_scoring_results_*/" + name)
		if err != nil || len(found) != 1 {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}

	out, stderr, code := m.exec("scripts-coordinator", "--jobs-file", "array.json", "--preserve-paths", "--max-retries", "1")
	summary, fields = fieldsOf(t, out)
	jobs := fmt.Sprint(summary["jobs"])
	if code != 3 || fields != summaryFields || summary["status"] != "partial" || summary["failed"] != 1.0 || !strings.Contains(jobs, "failure_mode:FILE_MISSING") || !strings.Contains(stderr, "job_type") {
		t.Errorf("array.json gives exit %d, %v\n%s", code, summary, stderr)
	}
	if b, err := os.ReadFile("res/a.json"); err != nil || !strings.Contains(string(b), `"n": 5`) {
		t.Errorf("res/a.json is %q, %v", b, err)
	}
	if _, err := os.Stat("res/b.json"); err == nil {
		t.Error("the job that failed has an output")
	}

	result, fields := fieldsOf(t, m.run("distributed-worker", "worker.json", "--gpu-id", "0"))
	if fields != "accuracy execution_info n status worker_runtime" || result["n"] != 6.0 {
		t.Errorf("worker.json gives %v", result)
	}

	draws := m.run("predict", "--generator", "compat:java_lcg", "--seed", "4242", "--skip", "2", "--offset", "0", "--count", "12")
	if err := os.WriteFile("draws.json", []byte("["+strings.Join(strings.Fields(draws), ",")+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	search := []string{"coordinator", "draws.json", "--seed-end", "10000", "--prng-type", "java_lcg", "--window-size", "12", "--skip-max", "4", "--threshold", "1", "-o", "r.json", "--resume"}
	for range 2 { // the second attaches to the first
		m.run(search...)
		b, err := os.ReadFile("r.json")
		if err != nil {
			t.Fatal(err)
		}
		result, fields = fieldsOf(t, string(b))
		if fields != "expected_by_chance job_id k min_match_threshold per_family prng_families seed_range seeds_analyzed skip_range stats success survivors" {
			t.Errorf("the result has the fields %s", fields)
		}
		survivors, _ := result["survivors"].([]any)
		if len(survivors) != 1 || survivors[0].(map[string]any)["seed"] != 4242.0 || survivors[0].(map[string]any)["family"] != "java_lcg" {
			t.Errorf("it found %v", survivors)
		}
	}
	var all []struct{ Kind string }
	m.json(&all, "jobs", "-a", "--json")
	if len(all) != 4 {
		t.Errorf("%d jobs, want one for each file, and one for the search and its resumption", len(all))
	}
}
