package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newPreload(e *env) *cobra.Command {
	return parent("preload", "Keep files on the RAM disks of chosen nodes", newPreloadPut(e), newPreloadList(e), newPreloadVerify(e), newPreloadRemove(e))
}

// preloadWait is how long a copy to all nodes, or its verification, is waited for.
const preloadWait = 10 * time.Minute

func newPreloadPut(e *env) *cobra.Command {
	var (
		to, dir string
		asJSON  bool
		timeout time.Duration
	)
	c := &cobra.Command{
		Use:   "put NAME FILES... --to SELECTOR --path DIR",
		Short: "Have chosen nodes keep copies of files in a directory",
		Long: `put sends files to chosen nodes, which keep verified copies of them in a directory. Beside them lies .ready as long as
all of them are there and right; it is written last, and goes first. A node puts back what is missing or changed: after it was
started again, and on a node that joins later. put waits until all nodes that are there have them; exit 1 when one cannot.

The directory is below one that the nodes' preload_dirs allow (by default /dev/shm/seedmesh); a relative one is below the first.
A script job waits for a preload with --require-preload NAME.`,
		Example: `  seedmesh preload put history train_history.json holdout_history.json --to all --path /dev/shm/seedmesh/step3
  seedmesh preload put weights model.npz --to rig1,rig2 --path weights`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exactArgs("NAME", "FILES")(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if to == "" || dir == "" {
				return &usageError{what: "--to and --path are missing", next: "such as --to all --path /dev/shm/seedmesh/" + clip(args[0])}
			}
			q, err := e.sendFiles(c.Context(), args[1:])
			if err != nil {
				return err
			}
			q.Name, q.Path, q.To = args[0], path.Clean(dir), to
			p, err := call(c.Context(), e, meshv1connect.MeshClient.PutPreload, q)
			if err != nil {
				return err
			}
			return e.awaitPreload(c.Context(), p, timeout, asJSON)
		},
	}
	c.Flags().StringVar(&to, "to", "", "all, or names of nodes, label:WORD (of labels in cluster.toml) and vendor:NAME with commas between: every node that one of them names")
	c.Flags().StringVar(&dir, "path", "", "directory of the copies on each node")
	c.Flags().DurationVar(&timeout, "timeout", preloadWait, "longest wait for the copies; 0 for no wait")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// sendFiles gives the node the files of a preload, and names them.
func (e *env) sendFiles(ctx context.Context, names []string) (*meshv1.PutPreloadRequest, error) {
	s := newShipment()
	for _, name := range names {
		if _, err := s.add(name); err != nil {
			return nil, err
		}
	}
	q := &meshv1.PutPreloadRequest{Request: requestID()}
	for _, in := range s.inputs {
		q.Files = append(q.Files, &meshv1.PreloadFile{Name: path.Base(in.Path), Digest: in.Digest.String(), Bytes: uint64(in.Bytes), Executable: in.Exec})
	}
	slices.SortFunc(q.Files, func(a, b *meshv1.PreloadFile) int { return strings.Compare(a.GetName(), b.GetName()) })
	for i := 1; i < len(q.Files); i++ {
		if q.Files[i-1].GetName() == q.Files[i].GetName() {
			return nil, &usageError{what: "two files are called " + clip(q.Files[i].GetName()), next: "a preload is one directory: rename one, or make two preloads"}
		}
	}
	return q, e.upload(ctx, s)
}

func newPreloadList(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls [NAME]",
		Short: "List preloads, and how they stand on each node",
		Args:  atMost("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := call(c.Context(), e, meshv1connect.MeshClient.Preloads, &meshv1.PreloadsRequest{Name: strings.Join(args, "")})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSONList(e.stdout, r.GetPreloads())
			}
			return printPreloads(e.stdout, r.GetPreloads())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printPreloads(w io.Writer, list []*meshv1.PreloadInfo) error {
	t := newTable(w, "NAME", "PATH", "FILES", "BYTES", "NODE", "STATE", "NOTE")
	for _, p := range list {
		if len(p.GetNodes()) == 0 {
			t.row(p.GetName(), p.GetPath(), fmt.Sprint(len(p.GetFiles())), fmt.Sprint(p.GetBytes()), "-", "-", "no node is "+p.GetTo())
		}
		for _, n := range p.GetNodes() {
			t.row(p.GetName(), p.GetPath(), fmt.Sprint(len(p.GetFiles())), fmt.Sprint(p.GetBytes()), n.GetNode(), stateOf(n), firstLine(n.GetText()))
		}
	}
	return t.flush()
}

func stateOf(n *meshv1.PreloadNode) string {
	switch {
	case !n.GetAlive():
		return "away"
	case n.GetReady():
		return "ready"
	case n.GetText() != "":
		return "not ready"
	}
	return "waiting"
}

func newPreloadVerify(e *env) *cobra.Command {
	var (
		asJSON  bool
		timeout time.Duration
	)
	c := &cobra.Command{
		Use:   "verify NAME",
		Short: "Have every byte of every copy compared, and what is wrong put back",
		Args:  exactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := call(c.Context(), e, meshv1connect.MeshClient.ControlPreload, &meshv1.ControlPreloadRequest{Name: args[0], Action: "verify", Request: requestID()})
			if err != nil {
				return err
			}
			return e.awaitPreload(c.Context(), p, timeout, asJSON)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", preloadWait, "longest wait for the nodes; 0 for no wait")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newPreloadRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a preload and its copies",
		Args:  exactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := call(c.Context(), e, meshv1connect.MeshClient.ControlPreload, &meshv1.ControlPreloadRequest{Name: args[0], Action: "remove", Request: requestID()}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, "%s removed\n", args[0])
			return err
		},
	}
}

// awaitPreload waits until every living node has said how its copy stands since a
// round was asked for, and shows it. Copies that are not ready are an error.
func (e *env) awaitPreload(ctx context.Context, p *meshv1.PreloadInfo, timeout time.Duration, asJSON bool) error {
	round := p.GetRound()
	for until := time.Now().Add(timeout); !settled(p, round) && time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll / 4):
		}
		r, err := call(ctx, e, meshv1connect.MeshClient.Preloads, &meshv1.PreloadsRequest{Name: p.GetName()})
		if err != nil {
			return err
		}
		p = r.GetPreloads()[0]
	}
	var err error
	if asJSON {
		err = writeJSON(e.stdout, p)
	} else {
		err = printPreloads(e.stdout, []*meshv1.PreloadInfo{p})
	}
	if err != nil || timeout == 0 {
		return err
	}
	var not []string
	for _, n := range p.GetNodes() {
		if n.GetAlive() && !n.GetReady() {
			not = append(not, n.GetNode())
		}
	}
	switch {
	case !settled(p, round):
		return &exitError{code: exitTimeout, err: fmt.Errorf("not every node has the preload within %s", timeout), next: "it goes on: seedmesh preload ls " + p.GetName()}
	case len(not) > 0:
		return &exitError{code: exitFailure, err: fmt.Errorf("the preload is not ready on %s", strings.Join(not, ", ")), next: "the nodes try again by themselves when what they say is mended"}
	case len(p.GetNodes()) == 0:
		return &exitError{code: exitNotFound, err: errors.New("no node is " + p.GetTo()), next: "seedmesh nodes lists their names; nodes that join later get it"}
	}
	return nil
}

// settled tells whether every living node has said how its copy stands.
func settled(p *meshv1.PreloadInfo, round uint64) bool {
	return !slices.ContainsFunc(p.GetNodes(), func(n *meshv1.PreloadNode) bool { return n.GetAlive() && n.GetRound() < round })
}
