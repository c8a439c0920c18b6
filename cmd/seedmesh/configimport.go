package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"seedmesh/jobs"
)

func newConfigImport(e *env) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "import distributed_config.json",
		Short: "Print a cluster.toml that says what the original's configuration says",
		Long: `import prints a cluster.toml with a table for each node of a distributed_config.json: as many slots as it has GPUs,
each showing its tasks one of them; a node of the type cpu gets as many CPU slots. What has no meaning on a mesh, such as
users and passwords, is left out and named in one warning. A node's name is its hostname: give it with --name to init and join.`,
		Args: exactArgs("distributed_config.json"),
		RunE: func(_ *cobra.Command, args []string) error {
			cluster, err := readOldCluster(args[0])
			if err != nil {
				return err
			}
			if len(cluster.unused) > 0 {
				_, _ = fmt.Fprintln(e.stderr, "warning: without a meaning on a mesh: "+strings.Join(cluster.unused, ", "))
			}
			return e.writeTo(output, func(w io.Writer) error {
				_, err := io.WriteString(w, cluster.toml())
				return err
			})
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write to this file, which is there whole or not at all")
	return c
}

// oldCluster is the original's configuration, as far as a mesh has a use for it.
type oldCluster struct {
	nodes  []oldMachine
	unused []string // keys, and GPU types that say no vendor
}

// oldMachine is a node of the original.
type oldMachine struct {
	Host    string `json:"hostname"`
	GPUs    int    `json:"gpu_count"`
	GPUType string `json:"gpu_type"`
	Python  string `json:"python_env"` // an interpreter, or the script that activates it
	Limit   int    `json:"max_concurrent_script_jobs"`
}

func readOldCluster(name string) (*oldCluster, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, inputError("the configuration", err)
	}
	var top struct {
		Nodes []json.RawMessage `json:"nodes"`
	}
	var keys map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(b, &top), json.Unmarshal(b, &keys)); err != nil || len(top.Nodes) == 0 {
		return nil, &usageError{what: name + " is not a configuration of the original: it has no list of nodes", next: `it must be {"nodes": [{"hostname", "gpu_count", "gpu_type"}]}`}
	}
	c := new(oldCluster)
	c.note("", keys, "nodes")
	for i, raw := range top.Nodes {
		var m oldMachine
		var own map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(raw, &m), json.Unmarshal(raw, &own)); err != nil {
			return nil, &usageError{what: fmt.Sprintf("node %d of %s cannot be read: %v", i, name, wrongType(err)), next: "give each node hostname, gpu_count and gpu_type"}
		}
		if err := c.check(m); err != nil {
			return nil, err
		}
		c.note("nodes.", own, "hostname", "gpu_count", "gpu_type", "python_env", "max_concurrent_script_jobs")
		if m.GPUType != cpuType && m.vendor() == "" {
			c.unused = append(c.unused, fmt.Sprintf("the gpu_type %q of %s, whose slots are CPU slots then", m.GPUType, m.Host))
		}
		c.nodes = append(c.nodes, m)
	}
	slices.Sort(c.unused)
	c.unused = slices.Compact(c.unused)
	return c, nil
}

// note keeps the keys that are not known.
func (c *oldCluster) note(prefix string, keys map[string]json.RawMessage, known ...string) {
	for key := range keys {
		if !slices.Contains(known, key) {
			c.unused = append(c.unused, prefix+key)
		}
	}
}

func (c *oldCluster) check(m oldMachine) error {
	switch {
	case m.Host == "":
		return &usageError{what: "a node has no hostname", next: "give each node its own"}
	case slices.ContainsFunc(c.nodes, func(o oldMachine) bool { return o.Host == m.Host }):
		return &usageError{what: fmt.Sprintf("two nodes have the hostname %s", clip(m.Host)), next: "give each node its own"}
	case m.GPUs < 1 || m.GPUs > jobs.MaxSlots:
		return &usageError{what: fmt.Sprintf("the gpu_count of %s is %d", clip(m.Host), m.GPUs), next: fmt.Sprintf("use 1 to %d", jobs.MaxSlots)}
	case m.Limit < 0 || m.Limit > jobs.MaxSlots:
		return &usageError{what: fmt.Sprintf("the max_concurrent_script_jobs of %s is %d", clip(m.Host), m.Limit), next: fmt.Sprintf("use 1 to %d, or leave it out", jobs.MaxSlots)}
	}
	return nil
}

// cpuType is the gpu_type of a node without GPUs.
const cpuType = "cpu"

// vendor of the node's GPUs, or empty.
func (m oldMachine) vendor() string {
	text := strings.ToLower(m.GPUType + " " + m.Python)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch {
	case m.GPUType == cpuType:
		return ""
	case has("rx ", "amd", "rocm", "radeon"):
		return "amd"
	case has("rtx", "gtx", "nvidia", "cuda", "geforce", "quadro", "tesla"):
		return "nvidia"
	}
	return ""
}

// env is what the node's scripts need before they start.
func (m oldMachine) env() (env []string) {
	if dir := path.Dir(m.Python); m.Python != "" && dir != "." {
		env = append(env, "PATH="+dir+":/usr/local/bin:/usr/bin:/bin")
	}
	if m.vendor() != "amd" {
		return env
	}
	if strings.Contains(m.GPUType, "6600") { // gfx1032, which runs the code of gfx1030
		env = append(env, "HSA_OVERRIDE_GFX_VERSION=10.3.0")
	}
	return append(env, "HSA_ENABLE_SDMA=0", "ROCM_PATH=/opt/rocm", "HIP_PATH=/opt/rocm",
		"PYTORCH_HIP_ALLOC_CONF=garbage_collection_threshold:0.8,max_split_size_mb:128")
}

func (c *oldCluster) toml() string {
	var b strings.Builder
	b.WriteString("# One file for all nodes: seedmesh up --config FILE. What it does not say is as by default: seedmesh config show\n")
	for _, m := range c.nodes {
		table, vendor := "node."+quoted(m.Host), m.vendor()
		fmt.Fprintf(&b, "\n# %s, %d x %s\n[%s]\n", oneLine(m.Host), m.GPUs, oneLine(m.GPUType), table)
		if m.Limit > 0 {
			fmt.Fprintf(&b, "max_concurrent_script_jobs = %d\n", m.Limit)
		}
		if vendor != "" {
			fmt.Fprintf(&b, "gpu_vendor = %s\n", quoted(vendor))
		}
		if env := m.env(); len(env) > 0 {
			b.WriteString("script_env = [\n")
			for _, kv := range env {
				fmt.Fprintf(&b, "  %s,\n", quoted(kv))
			}
			b.WriteString("]\n")
		}
		for i := range m.GPUs {
			fmt.Fprintf(&b, "\n[[%s.slot]]\ndevice = \"cpu\"\nthreads = 1\n", table)
			if vendor != "" {
				fmt.Fprintf(&b, "gpu = \"%d\"\n", i)
			}
		}
	}
	return b.String()
}

// quoted is text as TOML quotes it, which is as JSON does.
func quoted(text string) string { return string(must(json.Marshal(text))) }

// oneLine is text for a comment.
func oneLine(text string) string { return strings.Trim(quoted(text), `"`) }
