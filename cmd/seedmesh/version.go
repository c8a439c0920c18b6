package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"seedmesh/node"
)

func newVersion(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if asJSON {
				return writeValue(e.stdout, struct {
					Version  string `json:"version"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
				}{node.Version, runtime.Version(), platform})
			}
			_, err := fmt.Fprintf(e.stdout, "seedmesh %s %s %s\n", node.Version, platform, runtime.Version())
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
