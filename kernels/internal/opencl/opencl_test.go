package opencl

import (
	"errors"
	"strings"
	"testing"
)

func openFirst(t *testing.T) *Device {
	t.Helper()
	d, err := Open("", 0)
	if errors.Is(err, ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

const double = `__kernel void search(__global const ulong *seeds, __global ulong *visited, __global uint *found) {
	size_t i = get_global_id(0);
	if (i >= seeds[1])
		return;
	visited[2 * i] = seeds[0] + i;
	visited[2 * i + 1] += i;
	found[1 + atomic_inc(&found[0])] = i;
}`

// TestLaunch looks at every number that a launch gives, twice, since the second
// one must not see what the first one left.
func TestLaunch(t *testing.T) {
	d := openFirst(t)
	code, err := d.Compile(double)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Load(code, 1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	visited, found := make([]uint64, 2000), make([]uint32, 1000)
	for _, items := range []int{1000, 1000, 3, 255, 256} {
		n, err := p.Launch([2]uint64{1 << 40, uint64(items)}, items, visited, found)
		if err != nil || n != items {
			t.Fatalf("Launch of %d items found %d, %v", items, n, err)
		}
		seen := make([]bool, items)
		for i := range items {
			seen[found[i]] = true
		}
		for i := range items {
			if visited[2*i] != 1<<40+uint64(i) || visited[2*i+1] != uint64(i) || !seen[i] {
				t.Fatalf("item %d of %d: visited %d, %d; found %t", i, items, visited[2*i], visited[2*i+1], seen[i])
			}
		}
	}
	if n, err := p.Launch([2]uint64{0, 700}, 700, visited, found[:300]); n != 700 || err != nil {
		t.Errorf("Launch with room for fewer = %d, %v, want 700", n, err)
	}
}

func TestCompilerSpeaks(t *testing.T) {
	_, err := openFirst(t).Compile("__kernel void search(__global uint *x) { x[0] = nonsense; }")
	var refused *Error
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("Compile = %v, want the compiler's message", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	d := openFirst(t)
	for name, code := range map[string][]byte{"nothing": nil, "text": []byte("text")} {
		if _, err := d.Load(code, 1, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	openFirst(t)
	for _, index := range []int{-1, 1000} {
		if _, err := Open("", index); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("Open(%d) = %v, want that there is no such device", index, err)
		}
	}
}

// TestOtherLibraries loads what is not there, and what is not OpenCL.
func TestOtherLibraries(t *testing.T) {
	if _, err := load("", "libnowhere.so.1"); !errors.Is(err, ErrNone) {
		t.Errorf("a missing library gave %v", err)
	}
	_, err := load("", "libm.so.6")
	if errors.Is(err, ErrNone) {
		t.Skip(err) // a static binary, or another libc
	}
	if err == nil || !strings.Contains(err.Error(), "clBuildProgram") {
		t.Errorf("a library without the functions gave %v", err)
	}
}
