package scripts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOneMask has tasks see exactly one mask, however many the node and the job set.
func TestOneMask(t *testing.T) {
	for _, name := range masks {
		t.Setenv(name, "7")
	}
	for name, tt := range map[string]struct {
		place []string
		job   []string
		hint  bool
		want  string
		args  string
	}{
		"amd":              {[]string{"HSA_ENABLE_SDMA=0", Mask("amd", "3")}, nil, false, "ROCR_VISIBLE_DEVICES=3", ""},
		"nvidia, a UUID":   {[]string{Mask("nvidia", "GPU-8932")}, nil, false, "CUDA_VISIBLE_DEVICES=GPU-8932", ""},
		"none":             {[]string{Mask("nvidia", "")}, nil, false, "CUDA_VISIBLE_DEVICES=", ""},
		"the job's own":    {[]string{Mask("amd", "3")}, []string{"CUDA_VISIBLE_DEVICES=0,1", "HIP_VISIBLE_DEVICES=1"}, false, "ROCR_VISIBLE_DEVICES=3", ""},
		"honoured hint":    {[]string{Mask("amd", "3")}, nil, true, "ROCR_VISIBLE_DEVICES=5", "--gpu-id 5"},
		"without division": {nil, nil, false, "CUDA_VISIBLE_DEVICES=7 ROCR_VISIBLE_DEVICES=7 HIP_VISIBLE_DEVICES=7 GPU_DEVICE_ORDINAL=7", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPlace(t, func(p *Place) { p.Env = tt.place })
			gpu := 5
			o, err := r.Run(t.Context(), shell(`env; echo "args=$*"`, func(a *Attempt) {
				a.Spec.Env, a.Spec.GPUHint, a.Task.GPU = tt.job, tt.hint, &gpu
				a.Task.Argv = append(a.Task.Argv, "sh")
			}))
			if err != nil || o.Class != OK {
				t.Fatal(o, err)
			}
			lines := strings.Split(string(o.Stdout.Head), "\n")
			var got []string
			for _, m := range masks {
				for _, line := range lines {
					if strings.HasPrefix(line, m+"=") {
						got = append(got, line)
					}
				}
			}
			if strings.Join(got, " ") != tt.want || !slices.Contains(lines, "args="+tt.args) {
				t.Errorf("the masks are %q, want %q; %q", got, tt.want, lines[len(lines)-2])
			}
			if len(tt.place) > 1 && !slices.Contains(lines, tt.place[0]) {
				t.Errorf("%s is not there", tt.place[0])
			}
		})
	}
}

// TestGPUFlagOnce adds --gpu-id only where it is not there.
func TestGPUFlagOnce(t *testing.T) {
	gpu := 2
	for argv, want := range map[string]string{
		"x --n 1":         "x --n 1 --gpu-id 2",
		"x --gpu-id 4":    "x --gpu-id 4",
		"x --gpu-id=4 -v": "x --gpu-id=4 -v",
	} {
		a := Attempt{Spec: &Spec{GPUHint: true}, Task: Task{Argv: strings.Fields(argv), GPU: &gpu}}
		if got := strings.Join(a.argv(), " "); got != want {
			t.Errorf("%s becomes %s, want %s", argv, got, want)
		}
	}
}

// TestGPUFault tells a script that its GPU failed from one that failed by itself.
func TestGPUFault(t *testing.T) {
	r := newPlace(t)
	for command, want := range map[string]Class{
		"echo 'RuntimeError: HIP error: invalid device function' >&2; exit 1":     GPUFault,
		"echo 'torch.cuda.OutOfMemoryError: CUDA out of memory.' >&2; exit 1":     GPUFault,
		"echo 'Memory access fault by GPU node-1 (Agent handle)' >&2; kill -6 $$": GPUFault,
		"echo 'HIP error: it was mended' >&2":                                     OK,
		"echo 'HIP error' ; exit 1":                                               ExitCode,
		"echo 'ValueError: no such column' >&2; exit 1":                           ExitCode,
	} {
		if o := run(t, r, shell(command)); o.Class != want {
			t.Errorf("%s: %q, %s; want %q", command, o.Class, o.Message, want)
		}
	}
}

// TestGPUTurns starts the tasks of two slots that see GPUs one after the other, and
// those of slots that see none at once.
func TestGPUTurns(t *testing.T) {
	for mask, apart := range map[string]bool{"ROCR_VISIBLE_DEVICES=0": true, "ROCR_VISIBLE_DEVICES=": false, "X=0": false} {
		r := newPlace(t, func(p *Place) { p.Env = []string{mask} })
		held, err := r.gpuTurn(t.Context())
		if err != nil || (held != nil) != apart {
			t.Fatalf("%s: %v, %v", mask, held, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err = r.Run(ctx, shell("true"))
		cancel()
		if waits := errors.Is(err, context.DeadlineExceeded); waits != apart {
			t.Errorf("%s: while another slot starts a task: %v", mask, err)
		}
		held.end()
		if o := run(t, r, shell("true")); o.Class != OK {
			t.Errorf("%s: behind it: %q", mask, o.Class)
		}
		held, err = r.gpuTurn(t.Context()) // the task's turn has ended with it
		if err != nil {
			t.Fatal(err)
		}
		held.begun() // as if its process went on
		if o := run(t, r, shell("true")); o.Class != OK {
			t.Errorf("%s: beside a process that has had its time: %q", mask, o.Class)
		}
	}
}
