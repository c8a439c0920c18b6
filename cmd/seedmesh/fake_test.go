package main

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"seedmesh/node/api/meshv1/meshv1connect"
)

// serveFake serves an implementation of the API on a unix socket.
func serveFake(t *testing.T, impl meshv1connect.MeshHandler) dialer {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	lis, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(meshv1connect.NewMeshHandler(impl))
	server := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis) // ends when the test does
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return func(string, string) (meshv1connect.MeshClient, func() error, error) {
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}
		hangUp := func() error {
			transport.CloseIdleConnections()
			return nil
		}
		return meshv1connect.NewMeshClient(&http.Client{Transport: transport}, "http://seedmesh"), hangUp, nil
	}
}
