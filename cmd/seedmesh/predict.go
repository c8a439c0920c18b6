package main

import (
	"bufio"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
)

func newPredict(e *env) *cobra.Command {
	var (
		generator, observe string
		asJSON             bool
		seed               = count{limit: math.MaxUint64}
		skip, offset, from = count{limit: math.MaxUint32}, count{limit: math.MaxUint32}, count{limit: math.MaxUint32}
		number             = count{value: 10, limit: math.MaxUint32}
	)
	c := &cobra.Command{
		Use:     "predict --generator NAME --seed S",
		Short:   "Print the draws of a found seed",
		Long:    "predict prints the draws that a seed gives, one a line, from draw number --from of the window on.\nFor the draws that come after a window of 30, use --from 30.",
		Example: "  seedmesh predict -g mt19937 --seed 123456 --skip 2 --offset 5 --from 30 --count 5",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			for _, flag := range []string{"generator", "seed"} {
				if !c.Flags().Changed(flag) {
					return &usageError{what: "--" + flag + " is missing", next: "usage: " + c.UseLine()}
				}
			}
			draws, err := kernels.Predict(generator, seed.value, uint32(skip.value), uint32(offset.value), uint32(from.value), uint32(number.value), observe)
			if err != nil {
				return err
			}
			if asJSON {
				return writeValue(e.stdout, prediction{generator, seed.value, observe, uint32(from.value), draws})
			}
			return printDraws(e, draws)
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVarP(&generator, "generator", "g", "", "generator of the seed")
	flags.Var(&seed, "seed", "the seed")
	flags.Var(&skip, "skip", "outputs thrown away between two draws: best_skip of the survivor")
	flags.Var(&offset, "offset", "outputs thrown away before the first draw: best_offset of the survivor")
	flags.Var(&from, "from", "number of the first draw to print, counted from the window's first, which is 0")
	flags.Var(&number, "count", "how many draws to print")
	flags.StringVar(&observe, "observe", defaultObserve, "how an output becomes a draw, as for sieve: mod:M, raw, top:B, ...")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// prediction is what predict --json prints.
type prediction struct {
	Generator string   `json:"generator"`
	Seed      uint64   `json:"seed,string"`
	Observe   string   `json:"observe"`
	From      uint32   `json:"from"`
	Draws     []uint64 `json:"draws"`
}

func printDraws(e *env, draws []uint64) error {
	w := bufio.NewWriter(e.stdout)
	for _, d := range draws {
		_, _ = w.WriteString(strconv.FormatUint(d, 10) + "\n") // Flush reports
	}
	return w.Flush()
}
