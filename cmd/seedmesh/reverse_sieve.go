package main

import (
	"github.com/spf13/cobra"

	"seedmesh/kernels"
)

func newReverseSieve(e *env) *cobra.Command {
	f := new(sieveFlags)
	c := &cobra.Command{
		Use:   "reverse-sieve --candidates FILE --draws FILE",
		Short: "Test found seeds, each at its own skip, against another window",
		Long: `reverse-sieve tests a list of candidates against observed draws. A candidate is a seed with a skip, and is tested
at exactly that skip. The survivors that sieve prints are such a list, and say under which generator each is tested.`,
		Example: `  seedmesh sieve --local -g mt19937 -d old.json -s 0:2^32 --skip 0:16 -o found.jsonl
  seedmesh reverse-sieve --local --candidates found.jsonl -d new.json --offset 0:1000`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if f.search.candidates == "" {
				return &usageError{what: "--candidates is missing", next: "name the file with the seeds to test, or - for standard input"}
			}
			return f.run(c, e)
		},
	}
	f.search.registerCandidates(c)
	f.register(c)
	return c
}

// checkSize refuses a search that is too large for the mesh's log.
func (s *search) checkSize() error {
	if len(s.spec.Encode()) <= kernels.MaxSpecBytes {
		return nil
	}
	return &usageError{
		what: "the candidates are too many for a job of the mesh",
		why:  "a job's question is a part of the replicated log",
		next: "test them on this machine with --local, or in parts",
	}
}
