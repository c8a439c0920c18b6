package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"seedmesh/jobs"
	"seedmesh/node/api/meshv1"
	"seedmesh/node/api/meshv1/meshv1connect"
)

func newToken(e *env) *cobra.Command {
	return parent("token", "Let more machines join", newTokenCreate(e), newTokenList(e), newTokenRevoke(e))
}

func newTokenCreate(e *env) *cobra.Command {
	var (
		role   string
		ttl    time.Duration
		uses   uint32
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token with which machines join",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := jobs.ParseRole(role); err != nil {
				return &usageError{what: fmt.Sprintf("%q is not a role", clip(role)), next: "use --role voter, worker or client"}
			}
			if ttl < time.Second {
				return &usageError{what: fmt.Sprintf("--ttl %s is less than a second", ttl), next: "such as --ttl 1h"}
			}
			if uses == 0 {
				return &usageError{what: "--uses 0 lets nobody join", next: "such as --uses 1"}
			}
			r, err := call(c.Context(), e, meshv1connect.MeshClient.CreateToken, &meshv1.CreateTokenRequest{
				Role: role, TtlSeconds: uint64(ttl.Seconds()), Uses: uses, Request: requestID(),
			})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.stdout, r)
			}
			if _, err := fmt.Fprintln(e.stdout, r.GetJoin()); err != nil {
				return err
			}
			listen := " --listen HOST:PORT"
			if role == jobs.Client.String() {
				listen = ""
			}
			_, err = fmt.Fprintf(e.stderr, "%s, %d %s, until %s. On the other machine:\n  seedmesh join %s%s\n",
				r.GetRole(), r.GetUses(), plural(uint64(r.GetUses()), "use"), r.GetExpires(), r.GetJoin(), listen)
			return err
		},
	}
	c.Flags().StringVar(&role, "role", "voter", "what the machines may do: voter (all), worker (no vote), client (submit and read)")
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is good for")
	c.Flags().Uint32Var(&uses, "uses", 1, "how many machines may join with it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newTokenList(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the tokens; they are known by their hashes",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := call(c.Context(), e, meshv1connect.MeshClient.ListTokens, &meshv1.ListTokensRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSONList(e.stdout, r.GetTokens())
			}
			t := newTable(e.stdout, "HASH", "ROLE", "EXPIRES", "USES", "SPENT")
			for _, k := range r.GetTokens() {
				t.row(k.GetHash(), k.GetRole(), k.GetExpires(), fmt.Sprint(k.GetUses()), fmt.Sprint(k.GetSpent()))
			}
			return t.flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newTokenRevoke(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke HASH",
		Short: "Make a token worthless",
		Args:  exactArgs("HASH"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := call(c.Context(), e, meshv1connect.MeshClient.RevokeToken, &meshv1.RevokeTokenRequest{Hash: args[0]}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, "%s revoked\n", args[0])
			return err
		},
	}
}
