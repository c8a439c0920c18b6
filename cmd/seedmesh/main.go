// Command seedmesh searches the seeds of pseudo-random generators, on this
// machine or on a mesh of them, and runs the mesh's nodes.
//
// It holds no search and no ledger of its own: a verb parses its flags, makes
// one call to package kernels or to a node's API, and prints the answer. Data
// goes to the standard output, everything else to the standard error.
//
// Read main.go for how a verb is run, search.go for what a search is made of,
// mesh.go for how a node is reached. Every other file is one verb.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"seedmesh/kernels"
)

func main() { os.Exit(start()) }

// start runs the command line of this process until it ends or is interrupted.
func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], newEnv())
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, e *env) int {
	root := newRoot(e)
	root.SetArgs(args)
	root.SetContext(ctx)
	err := checkVerb(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	code := e.report(ctx, err)
	_ = e.disconnect() // the answer is there
	return code
}

// connectTimeout is how long a verb waits for a node or a leader to be reachable.
const connectTimeout = 15 * time.Second

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "seedmesh",
		Short:         "Search the seeds of pseudo-random generators on a mesh of machines",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          needVerb,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.StringVar(&e.data, "data", "", "data directory (default $SEEDMESH_DATA, or seedmesh in the XDG state directory)")
	flags.StringVar(&e.node, "node", "", "HOST:PORT of the node to ask, instead of the one on this machine")
	flags.DurationVar(&e.connectTimeout, "connect-timeout", connectTimeout, "how long to wait for a reachable node")
	root.AddGroup(
		&cobra.Group{ID: groupSearch, Title: "Searching:"},
		&cobra.Group{ID: groupScripts, Title: "Running programs:"},
		&cobra.Group{ID: groupJobs, Title: "Jobs:"},
		&cobra.Group{ID: groupMesh, Title: "The mesh:"},
		&cobra.Group{ID: groupOld, Title: "The original's programs:"},
	)
	addGroup(root, groupSearch, newSieve(e), newReverseSieve(e), newAnalysis(e), newCorrelation(e), newPlan(e), newPredict(e), newGenerators(e), newBench(e), newDemo(e))
	addGroup(root, groupScripts, newExec(e), newScript(e), newTask(e))
	addGroup(root, groupJobs, newJobs(e), newJob(e), newResults(e), newLedger(e))
	addGroup(root, groupMesh, newInit(e), newToken(e), newJoin(e), newUp(e), newNodes(e), newNode(e), newGpus(e), newGpu(e), newPreload(e), newStatus(e), newDevices(e), newConfig(e))
	addGroup(root, groupOld, newCoordinator(e), newScriptsCoordinator(e), newDistributedWorker(e))
	root.AddCommand(newCompletion(e), newVersion(e), newExecutor(e), newProbe(e), newMeasure(e))
	return root
}

const rootHelp = `seedmesh finds the seeds that explain observed outputs of a pseudo-random generator.

On this machine alone:
  seedmesh sieve --local --generator mt19937 --draws FILE --seeds 0:2^32 --skip 0:16
On a mesh of machines (see also: seedmesh init --help):
  seedmesh sieve --wait --generator mt19937 --draws FILE --seeds 0:2^32 --skip 0:16

Exit codes: 0 ok, 1 error, 2 usage or an unusable input, 3 the job failed or was cancelled, 4 not authorised, 5 not found,
6 no quorum or no node reachable (a retry is safe), 7 refused by limits, 124 timed out, 130 interrupted.`

const (
	groupSearch  = "search"
	groupScripts = "scripts"
	groupJobs    = "jobs"
	groupMesh    = "mesh"
	groupOld     = "old"
)

func addGroup(root *cobra.Command, group string, verbs ...*cobra.Command) {
	for _, v := range verbs {
		v.GroupID = group
		root.AddCommand(v)
	}
}

// parent makes a verb that only has verbs below it.
func parent(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: needVerb}
	c.AddCommand(verbs...)
	return c
}

// needVerb answers a command that is not complete.
func needVerb(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownVerb(c, args[0])
	}
	if c.HasParent() {
		return &usageError{what: c.CommandPath() + " needs a verb", next: "one of: " + strings.Join(verbs(c), ", ")}
	}
	return c.Help()
}

// checkVerb refuses an unknown verb before its flags are looked at, which would
// be unknown too.
func checkVerb(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	root.InitDefaultHelpCmd()
	c, rest, err := root.Find(args)
	if err == nil && c.Name() == "help" {
		about, words, _ := root.Find(rest) // an error is the word that stays
		if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
			return unknownVerb(about, words[0])
		}
		return nil
	}
	if err != nil || !c.HasSubCommands() || len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return nil // complete, or for cobra to refuse
	}
	return unknownVerb(c, rest[0])
}

func unknownVerb(c *cobra.Command, verb string) error {
	e := &usageError{what: "unknown verb: " + c.CommandPath() + " " + clip(verb), next: "see: " + c.CommandPath() + " --help"}
	if near := kernels.Nearest(verb, verbs(c)); near != "" {
		e.next = "did you mean: " + c.CommandPath() + " " + near
	}
	return e
}

func verbs(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return names
}

// flagError words an error of the flag library, with the nearest flag.
func flagError(c *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	e := &usageError{what: err.Error(), next: "see: " + c.CommandPath() + " --help"}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return valueError(invalid)
	}
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) {
		return e
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	e.what = "unknown flag of " + c.CommandPath() + ": --" + clip(missing.GetSpecifiedName())
	if missing.GetSpecifiedShortnames() != "" {
		e.what = "unknown flag of " + c.CommandPath() + ": -" + clip(missing.GetSpecifiedName())
		return e
	}
	if near := kernels.Nearest(missing.GetSpecifiedName(), names); near != "" {
		e.next = "did you mean: --" + near
	}
	return e
}

// valueError says what a flag's value looks like.
func valueError(err *pflag.InvalidValueError) error {
	flag := "--" + err.GetFlag().Name
	var stated *usageError
	if errors.As(err, &stated) { // by one of our own kinds of value
		return within(flag, stated)
	}
	form, ok := map[string][2]string{
		"duration": {"a length of time", "15s, 10m or 1h30m"},
		"float64":  {"a number", "0.75"},
		"int":      {"a whole number", "4"},
		"int32":    {"a whole number", "4"},
		"uint32":   {"a whole number from 0 on", "4"},
		"uint64":   {"a whole number from 0 on", "4"},
		"bool":     {"true or false", "true"},
		"intSlice": {"a list of whole numbers", "1,2,7"},
	}[err.GetFlag().Value.Type()]
	if !ok { // texts, of which only a list may be wrong
		form = [2]string{"a list with commas between, and quotation marks in pairs", "A,B"}
	}
	return &usageError{what: fmt.Sprintf("%s %q is not %s", flag, clip(err.GetValue()), form[0]), next: "such as " + flag + " " + form[1]}
}

// exactArgs refuses another number of arguments than the named ones.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		e := &usageError{next: "usage: " + c.UseLine()}
		if len(args) < len(names) {
			e.what = c.CommandPath() + " needs " + strings.Join(names[len(args):], " and ")
			return e
		}
		e.what = "unexpected argument of " + c.CommandPath() + ": " + clip(args[len(names)])
		return e
	}
}

// atMost refuses more arguments than the named ones.
func atMost(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) <= len(names) {
			return nil
		}
		return exactArgs(names...)(c, args)
	}
}

// clip shortens what a person typed so that a message stays one line.
func clip(s string) string {
	const most = 60 // bytes
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
