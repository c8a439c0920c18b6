package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"seedmesh/node"
)

// upFlags are the flags of up.
type upFlags struct {
	config   string
	name     string
	listen   string
	logLevel string
	logJSON  bool
}

func newUp(e *env) *cobra.Command {
	f := new(upFlags)
	c := &cobra.Command{
		Use:   "up",
		Short: "Run this machine's node in the foreground",
		Long:  "up runs the node that init or join made in the data directory, until it is interrupted or terminated.\nThat is a planned stop: it hands over what it holds and exits 0.",
		Args:  exactArgs(),
		RunE:  func(c *cobra.Command, _ []string) error { return f.run(c.Context(), e) },
	}
	flags := c.Flags()
	flags.StringVar(&f.config, "config", "", "cluster.toml (default: every setting at its default)")
	flags.StringVar(&f.name, "name", "", "read the table [node.NAME] of the configuration (default the node's name)")
	flags.StringVar(&f.listen, "listen", "", "HOST:PORT instead of the one of init or join")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.BoolVar(&f.logJSON, "log-json", false, "log JSON")
	return c
}

func (f *upFlags) run(ctx context.Context, e *env) error {
	log, err := f.logger(e)
	if err != nil {
		return err
	}
	c, err := loadConfig(f.config, f.name, e.dataDir())
	if err != nil {
		return err
	}
	c.Dir, c.Logger, c.Rest = e.dataDir(), log, saver(log)
	if f.listen != "" {
		c.Node.Listen = f.listen
	}
	n, err := node.Open(c)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		log.Info("stopping")
		return n.Close()
	case <-n.Failed():
		if err := n.Close(); err != nil {
			log.Warn("the node did not stop in good order", "err", err)
		}
		return fmt.Errorf("the node stopped: %w", n.Err())
	}
}

func (f *upFlags) logger(e *env) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, &usageError{what: fmt.Sprintf("the log level %q is unknown", clip(f.logLevel)), next: "use --log-level debug, info, warn or error"}
	}
	options := &slog.HandlerOptions{Level: level}
	if f.logJSON {
		return slog.New(slog.NewJSONHandler(e.stderr, options)), nil
	}
	return slog.New(slog.NewTextHandler(e.stderr, options)), nil
}

// loadConfig reads cluster.toml for a node, by default for the one of the data
// directory. Without a file every setting is at its default.
func loadConfig(path, name, dir string) (node.Config, error) {
	if path == "" {
		return node.DefaultConfig(), nil
	}
	if name == "" {
		name = nodeName(dir)
	}
	c, err := node.LoadConfig(path, name)
	var exit *exitError
	if err != nil && !errors.As(err, &exit) {
		err = &exitError{code: exitUsage, err: err, next: remedy(err)}
	}
	return c, err
}

func remedy(err error) string {
	var r interface{ Remedy() string }
	if errors.As(err, &r) {
		return r.Remedy()
	}
	return ""
}

// nodeName is the name that init or join gave the node of a data directory, or
// empty.
func nodeName(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil {
		return ""
	}
	var identity struct{ Name string }
	if json.Unmarshal(b, &identity) != nil {
		return ""
	}
	return identity.Name
}
