// Package faults keeps account of the faults that tests inject, so that a run
// can show that each of them happened and what was checked afterwards.
//
// Tests call [Landed] and [Measure]. With SEEDMESH_FAULTS in the environment
// the records are appended to the file of that name; the program in report
// prints them as tables.
package faults

import (
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"
)

// File is the name of the environment variable with the path of the records.
const File = "SEEDMESH_FAULTS"

// A Tier says how real a test is.
type Tier string

// The tiers.
const (
	Sim     Tier = "simulation" // the pure ledger
	Bubble  Tier = "bubble"     // whole meshes in fake time
	Process Tier = "process"    // real processes
)

// A Record is one line of the file: a number of faults, or a measured value.
type Record struct {
	Test    string  `json:"test"`
	Tier    Tier    `json:"tier"`
	Kind    string  `json:"kind"`              // of fault, or what was measured
	Checks  string  `json:"checks,omitempty"`  // invariants that the test checks after it, such as "I1 I3 I9"
	Count   int     `json:"count,omitempty"`   // faults that were injected and seen to land
	Seconds float64 `json:"seconds,omitempty"` // measured
	Failed  bool    `json:"failed,omitempty"`  // the test failed: an invariant did not hold
}

var write sync.Mutex

// Landed records that count faults of a kind were injected and proven to have
// happened; one that was not makes the test fail, which shows nothing then. Whether
// the invariants held is recorded when the test ends.
func Landed(t *testing.T, tier Tier, kind, checks string, count int) {
	t.Helper()
	if count < 1 {
		t.Errorf("the fault %q was not seen to happen", kind)
		return
	}
	t.Cleanup(func() {
		put(t, Record{Test: t.Name(), Tier: tier, Kind: kind, Checks: checks, Count: count, Failed: t.Failed()})
	})
}

// Measure records how long something took.
func Measure(t *testing.T, tier Tier, what string, took time.Duration) {
	t.Helper()
	put(t, Record{Test: t.Name(), Tier: tier, Kind: what, Seconds: took.Seconds()})
}

func put(t *testing.T, r Record) {
	t.Helper()
	path := os.Getenv(File)
	if path == "" {
		return
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Error(err)
		return
	}
	write.Lock()
	defer write.Unlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if _, err := f.Write(append(b, '\n')); err != nil {
		t.Error(err)
	}
}
