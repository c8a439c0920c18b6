package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/kernels"
)

// generatorInfo is what generators --json prints for each.
type generatorInfo struct {
	kernels.Generator
	Devices        []string `json:"devices"`
	NotAccelerated string   `json:"not_accelerated,omitempty"` // why only the CPU can
}

func newGenerators(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "generators [NAME]",
		Short: "List the generators that can be searched, and on which devices",
		Long: "generators lists every generator with the kinds of device that can search for it, as cluster.toml names them.\n" +
			"With a NAME it says more, also why only the CPU can where that is so.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) <= 1 {
				return nil
			}
			return exactArgs("NAME")(c, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			list := kernels.Generators()
			if len(args) == 1 {
				one, err := kernels.Lookup(args[0])
				if err != nil {
					return err
				}
				list = []kernels.Generator{one}
			}
			if asJSON {
				return printGeneratorsJSON(e, list)
			}
			if len(args) == 1 {
				return printGenerator(e, list[0])
			}
			t := newTable(e.stdout, "NAME", "SEED_BITS", "STATE_BITS", "WIDTH_BITS", "DEVICES", "MET")
			for _, g := range list {
				t.row(g.Name, strconv.Itoa(g.SeedBits), strconv.Itoa(g.StateBits), strconv.Itoa(g.WidthBits), strings.Join(g.Devices(), ","), g.Met)
			}
			return t.flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printGeneratorsJSON(e *env, list []kernels.Generator) error {
	infos := make([]generatorInfo, len(list))
	for i, g := range list {
		infos[i] = generatorInfo{g, g.Devices(), g.NotAccelerated()}
	}
	return writeValue(e.stdout, infos)
}

func printGenerator(e *env, g kernels.Generator) error {
	t := newTable(e.stdout)
	t.row("name", g.Name)
	t.row("met", g.Met)
	t.row("seed_bits", strconv.Itoa(g.SeedBits))
	t.row("state_bits", strconv.Itoa(g.StateBits))
	t.row("width_bits", strconv.Itoa(g.WidthBits))
	t.row("devices", strings.Join(g.Devices(), ","))
	if why := g.NotAccelerated(); why != "" {
		t.row("not_accelerated", why)
	}
	t.row("source", g.Source)
	t.row("definition", g.Definition)
	return t.flush()
}
