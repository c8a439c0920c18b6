package main

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// unusedFlag marks the flags of an original program that have no meaning on a mesh.
const unusedFlag = "unused"

// unusedFlags adds flags that are accepted, and named in a warning: NAME, or NAME,LETTER;
// some take a value, and some do not.
func unusedFlags(c *cobra.Command, values, switches []string) {
	const usage = "has no meaning on a mesh"
	for _, v := range values {
		name, short, _ := strings.Cut(v, ",")
		c.Flags().StringP(name, short, "", usage)
		markUnused(c, name)
	}
	for _, v := range switches {
		name, short, _ := strings.Cut(v, ",")
		c.Flags().BoolP(name, short, false, usage)
		markUnused(c, name)
	}
}

func markUnused(c *cobra.Command, names ...string) {
	for _, name := range names {
		c.Flags().Lookup(name).Annotations = map[string][]string{unusedFlag: nil}
	}
}

// warnUnused names, in one warning, the flags that have no effect.
func (e *env) warnUnused(c *cobra.Command) {
	var names []string
	c.Flags().Visit(func(f *pflag.Flag) {
		if _, unused := f.Annotations[unusedFlag]; unused {
			names = append(names, "--"+f.Name)
		}
	})
	if len(names) == 0 {
		return
	}
	text := "warning: without a meaning on a mesh: " + strings.Join(names, ", ")
	if c.Flags().Changed("config") {
		text += "; seedmesh config import makes a cluster.toml of a distributed_config.json"
	}
	_, _ = fmt.Fprintln(e.stderr, text)
}

// identityBytes is how much of the digest of a question is in the name of the
// job that answers it, by which --resume finds it.
const identityBytes = 8

// attach gives the newest job of a name for --resume, unless that failed or was
// cancelled. Empty means that there is none.
func (e *env) attach(ctx context.Context, name string, resume bool) (string, error) {
	if !resume {
		return "", nil
	}
	info, err := call(ctx, e, meshv1connect.MeshClient.Job, &meshv1.JobRequest{Job: name})
	if connect.CodeOf(err) == connect.CodeNotFound {
		return "", nil
	}
	if err != nil || info.GetState() == "failed" || info.GetState() == "cancelled" {
		return "", err
	}
	return info.GetId(), nil
}

// oldTime is how the original wrote a time into names of files.
const oldTime = "20060102_150405"
