package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An analysisJob is one of the original's statistics of streams. Its results said
// nothing about the stream of a generator, so that it is not run under its old name: the person who
// has such a file is told the command that answers its question.
type analysisJob struct {
	Family  string        `json:"prng_type"`
	Mapping string        `json:"mapping_type"` // mod or scale
	Seeds   []json.Number `json:"seeds"`        // means the range from the first to the last
	Seed    json.Number   `json:"seed"`
	Samples int           `json:"samples"`
	Range   uint64        `json:"range"`
	Target  uint64        `json:"target_range"` // another name of it
	Lmax    int           `json:"lmax"`
}

// analysisKinds are the types of such jobs, with the verbs that answer them.
var analysisKinds = map[string]string{"correlation": "correlation", "analysis": "analysis", "statistical": "analysis"}

// analysisFamilies are the generators that the original's names mean.
var analysisFamilies = map[string]string{"mt": "mt19937", "lcg": "lcg32", "xorshift": "xorshift32"}

// analysisCommand is the command that answers a job of a kind, with the original's
// defaults; empty for another kind, or a job that cannot be read.
func analysisCommand(kind string, raw json.RawMessage) string {
	verb := analysisKinds[kind]
	j := analysisJob{Family: "xorshift", Mapping: "mod", Seed: "12345", Samples: 10000, Lmax: 20}
	if verb == "correlation" {
		j.Family = "mt"
	}
	if verb == "" || json.Unmarshal(raw, &j) != nil {
		return ""
	}
	seeds := append(slices.Clone(j.Seeds), j.Seed)
	if len(j.Seeds) > 0 {
		seeds = j.Seeds
	}
	last, err := strconv.ParseUint(seeds[len(seeds)-1].String(), 10, 64)
	if err != nil || strings.ContainsAny(j.Family+j.Mapping, " \n\t") {
		return ""
	}
	line := fmt.Sprintf("seedmesh %s -g %s --seeds %s:%d --samples %d", verb, cmp.Or(analysisFamilies[j.Family], j.Family), seeds[0], last+1, j.Samples)
	if verb == "correlation" {
		return line + fmt.Sprintf(" --observe raw --lmax %d", j.Lmax)
	}
	return line + fmt.Sprintf(" --observe %s:%d", j.Mapping, cmp.Or(j.Range, j.Target, 1000))
}
