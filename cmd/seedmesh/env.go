package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"seedmesh/node"
	"seedmesh/node/api"
	"seedmesh/node/api/meshv1/meshv1connect"
)

// env is everything that a verb touches outside of its arguments, so that a
// test can run a whole command line inside its own process.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	dial           dialer

	// Flags of every verb.
	data           string
	node           string
	connectTimeout time.Duration

	client meshv1connect.MeshClient // nil when there is no connection
	hangUp func() error             // closes it
}

// A dialer reaches a node: the one of a data directory, or the one at hostport
// with the identity in that directory.
type dialer func(dataDir, hostport string) (c meshv1connect.MeshClient, hangUp func() error, err error)

func newEnv() *env {
	return &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, dial: dialNode}
}

// dialNode reaches the node at HOST:PORT, else the one of the data directory; a
// client, which has no node of its own, any one that it knows.
func dialNode(dataDir, hostport string) (meshv1connect.MeshClient, func() error, error) {
	if known := node.ClientAddresses(dataDir); hostport == "" && len(known) > 0 {
		hostport = known[rand.IntN(len(known))]
	}
	if hostport != "" {
		c, hangUp, err := api.DialRemote(dataDir, hostport)
		if errors.Is(err, fs.ErrNotExist) {
			err = &exitError{
				code: exitUnauthorised, err: fmt.Errorf("an identity of the mesh is needed to ask %s, and %s has none", hostport, dataDir),
				next: "name the directory of a member with --data, or join: seedmesh join TOKEN@HOST:PORT --listen HOST:PORT",
			}
		}
		return c, hangUp, err
	}
	c, err := api.DialSocket(dataDir)
	return c, func() error { return nil }, err
}

// dataDir is the data directory that the flags or the environment name.
func (e *env) dataDir() string {
	switch {
	case e.data != "":
		return e.data
	case e.getenv("SEEDMESH_DATA") != "":
		return e.getenv("SEEDMESH_DATA")
	case e.getenv("XDG_STATE_HOME") != "":
		return filepath.Join(e.getenv("XDG_STATE_HOME"), "seedmesh")
	}
	return filepath.Join(e.getenv("HOME"), ".local", "state", "seedmesh")
}

// width is the number of columns of the terminal behind w, or 0 when there is
// none.
func width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 {
		return 80
	}
	return columns
}
