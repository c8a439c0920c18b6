package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newCompletion(e *env) *cobra.Command {
	shells := map[string]func(*cobra.Command, io.Writer) error{
		"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print a script that completes seedmesh's commands in a shell",
		Example:   "  source <(seedmesh completion bash)",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      exactArgs("SHELL"),
		RunE: func(c *cobra.Command, args []string) error {
			generate, ok := shells[args[0]]
			if !ok {
				return &usageError{what: fmt.Sprintf("there is no completion for the shell %q", clip(args[0])), next: "use bash, zsh or fish"}
			}
			return generate(c.Root(), e.stdout)
		},
	}
}
