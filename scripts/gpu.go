package scripts

import (
	"slices"
	"strconv"
	"strings"
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
