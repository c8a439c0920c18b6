package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"seedmesh/node"
)

// setupFlags are those of init and join.
func setupFlags(c *cobra.Command, s *node.Setup) {
	c.Flags().StringVar(&s.Listen, "listen", "", "HOST:PORT that the other machines reach this one at; the port is one UDP port")
	c.Flags().StringVar(&s.Name, "name", "", "name of this node (default the host's name)")
}

func newInit(e *env) *cobra.Command {
	var (
		s      node.Setup
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "init --listen HOST:PORT",
		Short: "Begin a mesh with this machine as its first member",
		Long: `init makes the identity of a new mesh in the data directory and prints TOKEN@HOST:PORT,
with which four other machines can join within an hour. Then start the node with: seedmesh up`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			if s.Listen == "" {
				return listenMissing("seedmesh init")
			}
			s.Dir = e.dataDir()
			r, err := node.Init(s)
			if err != nil {
				return err
			}
			if asJSON {
				return writeValue(e.stdout, struct {
					Cluster string `json:"cluster"`
					Node    string `json:"node"`
					Join    string `json:"join"`
				}{r.Cluster, r.Node, r.Join})
			}
			if _, err := fmt.Fprintln(e.stdout, r.Join); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stderr, "node %s begins the mesh %s. Start it here:\n  seedmesh up%s\nand add another machine within an hour:\n  seedmesh join %s --listen HOST:PORT\n",
				r.Node, r.Cluster, e.dataFlag(), r.Join)
			return err
		},
	}
	setupFlags(c, &s)
	c.Flags().StringVar(&s.Cluster, "cluster", "", "name of the mesh (default seedmesh)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func listenMissing(command string) error {
	return &usageError{
		what: "--listen is missing",
		why:  "the other machines need an address of this one",
		next: "such as: " + command + " --listen 10.0.0.5:7946",
	}
}

// dataFlag is the --data flag of a command that is to be typed next.
func (e *env) dataFlag() string {
	if e.data == "" {
		return ""
	}
	return " --data " + e.data
}
