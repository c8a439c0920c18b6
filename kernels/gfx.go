package kernels

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// AMD's libraries have code for gfx1030 and not for the smaller GPUs of its kind,
// such as the RX 6600, which is gfx1032 and runs the same instructions. They take a
// GPU for what this variable says.
const gfxOverride = "HSA_OVERRIDE_GFX_VERSION"

// topologyDir is where the kernel says which GPUs of AMD's there are.
const topologyDir = "/sys/class/kfd/kfd/topology/nodes"

var gfxForm = regexp.MustCompile(`^[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}$`)

// IsGFX tells that AMD's runtime can take a GPU for it, such as 10.3.0.
func IsGFX(version string) bool { return gfxForm.MatchString(version) }

// AcceleratorEnv is what a process that opens accelerators of a kind has in its
// environment beside environ, so that AMD's runtime knows them. gfx is what it takes
// them for; empty for what they need. It must be there when the process starts.
func AcceleratorEnv(kind, gfx string, environ []string) []string {
	return acceleratorEnv(kind, gfx, environ, os.DirFS(topologyDir))
}

func acceleratorEnv(kind, gfx string, environ []string, topology fs.FS) []string {
	given := slices.ContainsFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, gfxOverride+"=") })
	switch {
	case kind != HIP && kind != OpenCL:
		return nil
	case gfx != "":
		return []string{gfxOverride + "=" + gfx}
	case given || !smallRDNA2(topology):
		return nil
	}
	return []string{gfxOverride + "=10.3.0"}
}

// smallRDNA2 tells that all GPUs are of the kind of gfx1030, and some not itself.
func smallRDNA2(topology fs.FS) bool {
	files, err := fs.Glob(topology, "*/properties")
	if err != nil {
		return false
	}
	small := false
	for _, file := range files {
		text, err := fs.ReadFile(topology, file)
		if err != nil {
			return false
		}
		switch v := gfxVersion(string(text)); {
		case v == 0: // a processor
		case v/100 != 1003:
			return false
		case v != 100300:
			small = true
		}
	}
	return small
}

// gfxVersion reads 100302 for gfx1032.
func gfxVersion(properties string) uint64 {
	for line := range strings.Lines(properties) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == "gfx_target_version" {
			v, _ := strconv.ParseUint(value, 10, 64) // what is no number is no GPU that is known here
			return v
		}
	}
	return 0
}
