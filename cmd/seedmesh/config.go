package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfig(e *env) *cobra.Command {
	return parent("config", "Check a cluster.toml, show the settings in effect, or take over those of the original", newConfigCheck(e), newConfigShow(e), newConfigImport(e))
}

func newConfigCheck(e *env) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a cluster.toml; exit 2 when it has a mistake",
		Args:  exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := loadConfig(args[0], name, e.dataDir()); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, "%s is valid\n", args[0])
			return err
		},
	}
	c.Flags().StringVar(&name, "name", "", "read the table [node.NAME] too (default the node of the data directory)")
	return c
}

func newConfigShow(e *env) *cobra.Command {
	var path, name string
	c := &cobra.Command{
		Use:   "show",
		Short: "Print every setting in effect, as a cluster.toml",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			c, err := loadConfig(path, name, e.dataDir())
			if err != nil {
				return err
			}
			text, err := c.TOML()
			if err != nil {
				return err
			}
			_, err = e.stdout.Write(text)
			return err
		},
	}
	c.Flags().StringVar(&path, "config", "", "cluster.toml (default: every setting at its default)")
	c.Flags().StringVar(&name, "name", "", "read the table [node.NAME] too (default the node of the data directory)")
	return c
}
