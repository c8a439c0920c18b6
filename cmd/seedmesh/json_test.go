package main

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"seedmesh/node/api/meshv1"
)

// TestWriteJSON holds the fields that scripts rely on, by name, order and type.
func TestWriteJSON(t *testing.T) {
	for name, tt := range map[string]struct {
		in   proto.Message
		want string
	}{
		"submit": {&meshv1.SubmitReply{Job: "0a"}, `{"job":"0a"}`},
		"job": {
			&meshv1.JobInfo{Id: "0a", Kind: "seeds", State: "running", Done: "5", Total: "18446744073709551616", Rate: 1.5, EtaSeconds: -1, Survivors: "2", Failures: math.MaxUint64, Priority: -3},
			`{"id":"0a","name":"","kind":"seeds","state":"running","done":"5","total":"18446744073709551616","rate":1.5,"eta_seconds":-1,"survivors":"2","expected_by_chance":0,"failures":18446744073709551615,"retries":0,"steps_rate":0,"slots":0,"priority":-3,"generator":"","pieces":0,"reclaimed":0,"under_replicated":0,"lost":0,"failed":"","last_error":"","warning":"","elapsed_seconds":0,"records":0,"index":0,"busy_seconds":0,"type":"","waits":""}`,
		},
		"node": {
			&meshv1.NodeInfo{Name: "a", Address: "h:1", State: "alive", Role: "voter", Leader: true, Version: "v", Slots: 2, Busy: 1},
			`{"name":"a","address":"h:1","state":"alive","role":"voter","leader":true,"version":"v","slots":2,"busy":1,"id":"","script_slots":0,"labels":[]}`,
		},
		"status": {
			&meshv1.StatusReply{Cluster: "c", Node: "a", Voters: []string{"a", `b"`}},
			`{"cluster":"c","node":"a","leader":"","term":0,"applied":0,"ledger_digest":"","voters":["a","b\""],"nodes":0,"slots":0,"busy":0,"version":"","survives":"","alarms":[],"scripts":"","quarantined":[],"devices":[]}`,
		},
		"ledger": {
			&meshv1.LedgerReply{Job: "0a", Complete: true, Seeds: "10", Sum: "45", SumSq: "285", Held: []*meshv1.Held{{Seeds: "3:5", Node: "n", Fence: "7"}}},
			`{"job":"0a","complete":true,"gaps":[],"overlaps":[],"seeds":"10","sum":"45","sum_sq":"285","pieces":0,"reclaimed":0,"under_replicated":0,"digest":"","problems":[],"verified":0,"unreachable":0,"held":[{"seeds":"3:5","node":"n","slot":0,"fence":"7"}]}`,
		},
		"plan": {
			&meshv1.PlanReply{Generator: "g", Chunks: 2, Steps: 1e12, Slots: []*meshv1.PlanSlot{{Node: "n", Device: "cpu"}}},
			`{"generator":"g","chunks":2,"expected_by_chance":0,"steps":1000000000000,"eta_seconds":0,"method":"","seeds":"","warning":"","slots":[{"node":"n","slot":0,"device":"cpu","rate":0,"measured":false,"note":""}]}`,
		},
		"token": {
			&meshv1.CreateTokenReply{Token: "t", Join: "t@h:1", Role: "voter", Expires: "x", Uses: 4},
			`{"token":"t","join":"t@h:1","role":"voter","expires":"x","uses":4}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeJSON(&b, tt.in); err != nil {
				t.Fatal(err)
			}
			if got := b.String(); got != tt.want+"\n" {
				t.Errorf("writeJSON(%v) =\n%s, want\n%s", tt.in, got, tt.want)
			}
			if !json.Valid(b.Bytes()) {
				t.Error("that is not JSON")
			}
		})
	}
}

func TestWriteJSONList(t *testing.T) {
	var b bytes.Buffer
	for _, list := range [][]*meshv1.SubmitReply{nil, {{Job: "a"}, {Job: "b"}}} {
		if err := writeJSONList(&b, list); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.String(), "[]\n"+`[{"job":"a"},{"job":"b"}]`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
