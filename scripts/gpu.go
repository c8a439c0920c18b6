package scripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// masks are the variables that say which GPUs a process sees, for the vendors'
// libraries and the layers above them. Two of them at once number the devices
// twice, so a task never has more than one.
var masks = []string{"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}

// vendorMasks is the one that a vendor's lowest library obeys.
var vendorMasks = map[string]string{"nvidia": masks[0], "amd": masks[1]}

// Vendors of GPUs that tasks can be given one of.
func Vendors() []string { return []string{"nvidia", "amd"} }

// Mask is the variable of the environment that shows tasks one GPU of a vendor, by
// its number or its UUID, or none of them when gpu is empty.
func Mask(vendor, gpu string) string { return vendorMasks[vendor] + "=" + gpu }

// IsMask tells a variable, NAME=VALUE, that says which GPUs a process sees.
func IsMask(kv string) bool {
	name, _, _ := strings.Cut(kv, "=")
	return slices.Contains(masks, name)
}

// masked has the mask of a place, if that has one, as the only one of env; a hint
// that is not nil names another GPU.
func masked(env, place []string, hint *int) []string {
	k := slices.IndexFunc(place, IsMask)
	if k < 0 {
		return env
	}
	mask := place[k]
	if hint != nil {
		name, _, _ := strings.Cut(mask, "=")
		mask = name + "=" + strconv.Itoa(*hint)
	}
	return append(slices.DeleteFunc(env, IsMask), mask)
}

// hint is the GPU that the task asks for, as far as its job wants that to count.
func (a *Attempt) hint() *int {
	if !a.Spec.GPUHint {
		return nil
	}
	return a.Task.GPU
}

// argv is the command, with the GPU that is asked for, unless it has that already.
func (a *Attempt) argv() []string {
	hint, argv := a.hint(), a.Task.Argv
	if hint == nil || slices.ContainsFunc(argv, func(word string) bool { return word == gpuFlag || strings.HasPrefix(word, gpuFlag+"=") }) {
		return argv
	}
	return append(slices.Clone(argv), gpuFlag, strconv.Itoa(*hint))
}

// gpuFlag is how the original's scripts are told their GPU.
const gpuFlag = "--gpu-id"

// faults are what the runtimes of GPUs, and the libraries above them, write when a
// device or its driver fails them.
var faults = [][]byte{
	[]byte("HIP error"), []byte("hipError"), []byte("CUDA error"), []byte("CUDA_ERROR_"), []byte("cudaError"), []byte("CUDA out of memory"), []byte("HIP out of memory"),
	[]byte("HSA_STATUS_ERROR"), []byte("Memory access fault by GPU"), []byte("No HIP GPUs are available"), []byte("No CUDA GPUs are available"), []byte("CL_OUT_OF_RESOURCES"),
}

// blameGPU makes a fault of the GPU of a failure that has the words of one at the end
// of what it wrote to stderr: another slot may do better.
func (o *Outcome) blameGPU() {
	if o.Class != ExitCode && o.Class != Signalled {
		return
	}
	words := o.Stderr.End(keepTail)
	for line := range bytes.Lines(words) {
		if slices.ContainsFunc(faults, func(f []byte) bool { return bytes.Contains(line, f) }) {
			o.Class, o.Message = GPUFault, clip(fmt.Sprintf("%s, after: %s", o.Message, bytes.TrimSpace(line)))
			return
		}
	}
}

// Turns at starting what will initialise a GPU: the runtimes of several at once have
// frozen whole machines.
const (
	turnTime = 2 * time.Second // that a process has for it, unless it ends before or says that it is ready
	turnPoll = 20 * time.Millisecond
	turnName = "gpu-start" // file below the base that has the lock of all slots
)

// gpuTurn waits until no other slot of the node is starting a process that sees a GPU.
// What it gives ends the turn at once; begun has it end after some time.
func (r *Runner) gpuTurn(ctx context.Context) (t *turn, err error) {
	k := slices.IndexFunc(r.place.Env, IsMask)
	if k < 0 || strings.HasSuffix(r.place.Env[k], "=") {
		return nil, nil //nolint:nilnil // a nil turn needs no waiting
	}
	f, err := os.OpenFile(filepath.Join(r.place.Base, turnName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("scripts: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &turn{lock: f}, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(turnPoll):
		}
	}
}

// A turn is the right to start a process that sees a GPU; nil where it sees none.
type turn struct {
	lock *os.File
	over *time.Timer
}

// begun has the turn end after its time.
func (t *turn) begun() {
	if t != nil {
		t.over = time.AfterFunc(turnTime, func() { _ = t.lock.Close() }) // nothing was written
	}
}

// end ends the turn.
func (t *turn) end() {
	if t == nil {
		return
	}
	if t.over == nil || t.over.Stop() {
		_ = t.lock.Close() // nothing was written
	}
}
