package main

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
	"seedmesh/scripts"
)

// A flagLine gives a flag of an original program, and checks what it must have done.
type flagLine struct {
	args  string
	check func(t *testing.T, s *oldServer, r result)
}

// searched checks what the mesh was asked for.
func searched(right func(spec *kernels.Spec, first, last uint64) bool) func(*testing.T, *oldServer, result) {
	return func(t *testing.T, s *oldServer, r result) {
		t.Helper()
		spec := s.asked(t)
		if q := s.searches[0]; r.code != 0 || !right(spec, q.First, q.Last) {
			t.Errorf("asked for %+v over %d to %d; %+v", spec, q.First, q.Last, r)
		}
		if strings.Contains(r.stderr, "without a meaning") {
			t.Errorf("it says %q", r.stderr)
		}
	}
}

// ignored checks that a flag is named in the one warning, and changes nothing.
func ignored(t *testing.T, s *oldServer, r result) {
	t.Helper()
	spec := s.asked(t)
	if r.code != 0 || strings.Count(r.stderr, "warning: without a meaning on a mesh: --") != 1 || len(spec.Draws) != 4 || spec.Skip != (kernels.Bounds{Max: 20}) || spec.MinMatches != 1 {
		t.Errorf("asked for %+v; %+v", spec, r)
	}
}

// allLines has a command line for each flag of the original's programs as they were
// in the end. Those of the coordinator are given beside a window of four draws.
var allLines = map[string]map[string]flagLine{
	"coordinator": {
		"config": {"--config c.json draws.json", ignored}, "c": {"-c c.json draws.json", ignored},
		"samples": {"--samples 7 draws.json", ignored}, "n": {"-n 7 draws.json", ignored},
		"lmax": {"--lmax 3 draws.json", ignored}, "grid-size": {"--grid-size 8 draws.json", ignored}, "analysis-type": {"--analysis-type correlation draws.json", ignored},
		"seed-cap-nvidia": {"--seed-cap-nvidia 5 draws.json", ignored}, "seed-cap-amd": {"--seed-cap-amd 5 draws.json", ignored},
		"seed-cap-default": {"--seed-cap-default 5 draws.json", ignored}, "max-concurrent": {"--max-concurrent 2 draws.json", ignored},
		"max-per-node": {"--max-per-node 2 draws.json", ignored}, "max-local-concurrent": {"--max-local-concurrent 2 draws.json", ignored},
		"resume-policy": {"--resume-policy auto draws.json", ignored}, "k-sigma": {"--k-sigma 4 draws.json", ignored}, "skip": {"--skip 3 draws.json", ignored},
		"opt-iterations": {"--opt-iterations 9 draws.json", ignored}, "opt-seed-count": {"--opt-seed-count 9 draws.json", ignored}, "draw-match": {"--draw-match draws.json", ignored},

		"seeds":      {"--seeds 50 draws.json", searched(func(_ *kernels.Spec, first, last uint64) bool { return first == 0 && last == 49 })},
		"s":          {"--seed-start 5 -s 50 draws.json", searched(func(_ *kernels.Spec, first, last uint64) bool { return first == 5 && last == 54 })},
		"seed-start": {"--seed-start 7 draws.json", searched(func(_ *kernels.Spec, first, last uint64) bool { return first == 7 && last == 999 })},
		"offset": {"--window-size 3 --offset 1 draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool {
			return s.Offset == kernels.Bounds{Min: 1, Max: 1} && s.Draws[0].Value == 8
		})},
		"output": {"--output r.json draws.json", func(t *testing.T, _ *oldServer, r result) { wantFile(t, r, "r.json") }},
		"o":      {"-o r.json draws.json", func(t *testing.T, _ *oldServer, r result) { wantFile(t, r, "r.json") }},
		"test-only": {"--test-only", func(t *testing.T, s *oldServer, r result) {
			if len(s.searches) > 0 || !strings.Contains(r.stdout, "rig") {
				t.Errorf("got %+v", r)
			}
		}},
		"job-timeout": {"--job-timeout 60 draws.json", func(t *testing.T, s *oldServer, _ result) {
			if s.searches[0].TimeoutMs != 60_000 {
				t.Errorf("asked for %v", s.searches[0])
			}
		}},
		"method": {"--method residue_sieve draws.json", searched(func(*kernels.Spec, uint64, uint64) bool { return true })},
		"prng-type": {"--prng-type java_lcg draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool {
			return slices.Equal(s.Generators, []string{"compat:java_lcg"})
		})},
		"window-size":      {"--window-size 2 draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool { return len(s.Draws) == 2 })},
		"skip-min":         {"--skip-min 3 draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool { return s.Skip == kernels.Bounds{Min: 3, Max: 20} })},
		"skip-max":         {"--skip-max 3 draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool { return s.Skip == kernels.Bounds{Max: 3} })},
		"threshold":        {"--threshold 0.75 draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool { return s.MinMatches == 3 })},
		"hybrid":           {"--hybrid draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool { return s.Mode == kernels.ModeTwoPhase })},
		"phase1-threshold": {"--hybrid --phase1-threshold 0.75 draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool { return s.MinMatches == 3 })},
		"phase2-threshold": {"--hybrid --phase2-threshold 1 draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool { return s.ConfirmMatches == 4 })},
		"session-filter": {"--window-size 2 --session-filter evening draws.json", searched(func(s *kernels.Spec, _, _ uint64) bool {
			return s.Draws[0].Value == 8 && s.Draws[1].Value == 1
		})},
		"jobs-file": {"--jobs-file sieves.json", searched(func(_ *kernels.Spec, first, _ uint64) bool { return first == 10 })},
	},
	"scripts-coordinator": {
		"jobs-file": {"--jobs-file scripts.json", scriptsSubmitted},
		"config": {"--jobs-file scripts.json --config c.json", func(t *testing.T, s *oldServer, r result) {
			scriptsSubmitted(t, s, r)
			warned("--config")(t, s, r)
		}},
		"output-dir":     {"--jobs-file scripts.json --output-dir out", func(t *testing.T, _ *oldServer, r result) { wantFile(t, r, "out/out_*/a.json") }},
		"preserve-paths": {"--jobs-file scripts.json --preserve-paths", func(t *testing.T, _ *oldServer, r result) { wantFile(t, r, "res/a.json") }},
		"max-retries": {"--jobs-file scripts.json --max-retries 7", func(t *testing.T, s *oldServer, _ result) {
			if q := s.scriptServer.asked[0]; q.Attempts != 7 {
				t.Errorf("asked for %v", q)
			}
		}},
		"dry-run": {"--jobs-file scripts.json --dry-run", func(t *testing.T, s *oldServer, r result) {
			if len(s.scriptServer.asked) > 0 || !strings.Contains(r.stdout, `"status":"dry_run"`) {
				t.Errorf("got %+v", r)
			}
		}},
		"verbose": {"--jobs-file scripts.json --verbose", warned("--verbose")},
		"v":       {"--jobs-file scripts.json -v", warned("--verbose")},
	},
	"distributed-worker": {
		"":            {"sieve.json", func(t *testing.T, s *oldServer, _ result) { submittedOnce(t, s, result{}) }},
		"gpu-id":      {"sieve.json --gpu-id 2", worked(`"gpu_id":2`, "--gpu-id")},
		"mining-mode": {"sieve.json --mining-mode", worked(`"mining_mode":true`, "--mining-mode")},
	},
}

// TestEveryOldFlag gives each flag of the original's programs, and checks its effect,
// or that it is said to have none. What the commands have beyond is the guide's.
func TestEveryOldFlag(t *testing.T) {
	listed := map[string]string{
		"coordinator": `c config seeds s seed-start offset n samples lmax grid-size analysis-type o output test-only seed-cap-nvidia seed-cap-amd
			seed-cap-default max-concurrent max-per-node max-local-concurrent job-timeout resume-policy method prng-type window-size k-sigma skip
			skip-min skip-max threshold hybrid phase1-threshold phase2-threshold session-filter draw-match jobs-file opt-iterations opt-seed-count`,
		"scripts-coordinator": "jobs-file config output-dir preserve-paths max-retries dry-run verbose v",
		"distributed-worker":  "gpu-id mining-mode",
	}
	commands := map[string]*cobra.Command{
		"coordinator": newCoordinator(&env{}), "scripts-coordinator": newScriptsCoordinator(&env{}), "distributed-worker": newDistributedWorker(&env{}),
	}
	for program, lines := range allLines {
		want := slices.Sorted(slices.Values(strings.Fields(listed[program])))
		if got := slices.DeleteFunc(slices.Sorted(maps.Keys(lines)), func(flag string) bool { return flag == "" }); !slices.Equal(got, want) {
			t.Errorf("%s: the flags are %v, want %v", program, got, want)
		}
		for flag, tt := range lines {
			t.Run(program+" "+flag, func(t *testing.T) {
				if !strings.Contains(" "+tt.args+" ", " --"+flag+" ") && !strings.HasPrefix(tt.args, "-"+flag+" ") && !strings.Contains(tt.args, " -"+flag) && flag != "" {
					t.Fatalf("%q does not give the flag", tt.args)
				}
				if f := commands[program].Flags(); len(flag) > 1 && f.Lookup(flag) == nil || len(flag) == 1 && f.ShorthandLookup(flag) == nil {
					t.Fatal("there is no such flag")
				}
				oldFiles(t)
				args := program + " "
				if program == "coordinator" && flag != "jobs-file" && flag != "test-only" {
					args += "--window-size 4 "
				}
				if strings.Contains(args, "--window-size") && flag != "seeds" && flag != "s" {
					args += "--seed-end 1000 "
				}
				s := newOldServer()
				r := runWith(t.Context(), t, serveFake(t, s), "", strings.Fields(args+tt.args)...)
				if r.code != 0 {
					t.Fatalf("%s: got %+v", args+tt.args, r)
				}
				tt.check(t, s, r)
			})
		}
	}
}

// TestOldJobsFile runs a jobs file with every key that the original read, and one
// that it dropped.
func TestOldJobsFile(t *testing.T) {
	oldFiles(t)
	for name, text := range map[string]string{
		"chunk.json": "[]",
		"jobs.json": `[{"job_id":"scorer_trial_0","script":"work.py","args":["--seeds-file","chunk.json","--output-file","out/t0.json","--trial",0],
			"expected_output":"out/t0.json","chunk_file":"chunk.json","seed_count":1000,"timeout":90,"job_type":"script"},
			{"job_id":"scorer_trial_1","script":"work.py","args":["--output-file","out/t1.json"],"expected_output":"out/t1.json"}]`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newOldServer()
	s.chunks, s.tasks = nil, nil
	r := runWith(t.Context(), t, serveFake(t, s), "", "scripts-coordinator", "--jobs-file", "jobs.json")
	if r.code != 0 || !strings.Contains(r.stderr, "job_type") {
		t.Fatalf("got %+v", r)
	}
	q := s.scriptServer.asked[0]
	spec, err := scripts.Decode(q.Spec)
	if err != nil {
		t.Fatal(err)
	}
	list, err := scripts.OpenList(strings.NewReader(string(s.blobs[spec.List.Digest.String()])))
	if err != nil {
		t.Fatal(err)
	}
	first, err := list.Task(0)
	if err != nil || first.ID != "scorer_trial_0" || first.TimeoutMS != 90_000 || !slices.Equal(first.Outputs, []string{"out/t0.json"}) ||
		strings.Join(first.Argv, " ") != "python3 -u work.py --seeds-file chunk.json --output-file out/t0.json --trial 0" {
		t.Errorf("the first task is %+v, %v", first, err)
	}
	second, err := list.Task(1)
	if err != nil || spec.Timeout(second).Hours() != 2 || spec.Valid != "auto" || q.Attempts != 3 || len(spec.Inputs) != 2 {
		t.Errorf("the second task is %+v of %+v, %v", second, spec, err)
	}
}
