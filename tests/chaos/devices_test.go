package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"seedmesh/kernels"
	"seedmesh/kernels/shim"
	"seedmesh/tests/faults"
)

// TestBadDrivers gives a node slots on drivers that are missing or wrong, in every
// way, beside one on a driver that works and one on the CPU. Those do the work; the
// others are quarantined, each for its reason, and the node stays up.
func TestBadDrivers(t *testing.T) {
	needsProgram(t)
	t.Parallel() // with the standstills: a driver that hangs is waited for
	type bad struct {
		kind   string
		fault  *shim.Fault // nil for the machine's own driver, if there is one
		reason string
	}
	bads := []bad{
		{kernels.CUDA, &shim.Fault{Kind: shim.Bare}, "cannot be opened"},
		{kernels.CUDA, &shim.Fault{Kind: shim.Missing}, "cuLaunchKernel"},
		{kernels.HIP, &shim.Fault{Call: "Init", Kind: shim.Fails}, "hipInit gave error 719"},
		{kernels.CUDA, &shim.Fault{Call: "Launch", Kind: shim.Aborts}, "SIGABRT"},
		{kernels.CUDA, &shim.Fault{Kind: shim.NewPTX}, "UNSUPPORTED_PTX_VERSION"},
		{kernels.HIP, &shim.Fault{Kind: shim.Loses}, "is not used"},
		{kernels.HIP, &shim.Fault{Call: "Launch", Kind: shim.Hangs}, "it hangs"},
		{kernels.OpenCL, nil, "cannot be opened"},
	}
	config := oneThread + slotOn(kernels.HIP, shim.Libraries(t, true, nil), 0)
	for _, b := range bads {
		libraries, number := "/nowhere", 63 // which no machine has
		if b.fault != nil {
			libraries, number = shim.Libraries(t, b.kind == kernels.HIP, b.fault), 0
		}
		config += slotOn(b.kind, libraries, number)
	}
	m := newMesh(t, 1, config)
	s := m.undisturbed(rand.New(rand.NewPCG(5, 5)), 1<<22, 1)
	m.await(startWait*10, "the quarantines", func() bool {
		st := m.status()
		return st != nil && len(st.Quarantined) == len(bads)
	})
	for i, b := range bads {
		at := fmt.Sprintf("slot %d of n1 ", i+2)
		found := false
		for _, text := range m.status().Quarantined {
			found = found || strings.HasPrefix(text, at) && strings.Contains(text, b.reason)
		}
		if !found {
			t.Errorf("%q with %q is not among %q", at, b.reason, m.status().Quarantined)
		}
	}
	if _, stderr, code := m.exec("status", "--data", m.nodes[0].dir); code != 0 || strings.Count(stderr, "is quarantined") != len(bads) {
		t.Errorf("status: exit %d\n%s", code, stderr)
	}
	m.check(m.submit(m.nodes[0], s), s)
	faults.Landed(t, faults.Process, "bad driver of a device", "I1 I3 I6", len(bads))
}

// slotOn is a slot on the libraries of a directory. All shims have the same devices,
// so that their slots have to say that they share them.
func slotOn(kind, libraries string, number int) string {
	return fmt.Sprintf("[[node.slot]]\ndevice = %q\nlibraries = %q\nnumber = %d\nshared = true\n", kind, libraries, number)
}
