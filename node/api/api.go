// Package api is how programs speak with a node: the generated protocol, the
// local unix socket with its check of who connects, and clients for both the
// socket and the mesh port. What the verbs do is in package node.
package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"seedmesh/node/api/meshv1/meshv1connect"
	"seedmesh/transport"
)

const (
	socketName     = "api.sock"
	maxSocketPath  = 100     // bytes; the kernel allows 107
	MaxRequest     = 1 << 20 // bytes of one request
	headerTimeout  = 5 * time.Second
	dialTimeout    = 2 * time.Second
	privateDirMode = 0o700
)

// SocketPath is where the node of a data directory listens: in the directory, or
// where that path is too long for a socket, under a hashed name in a directory
// of the user's own.
func SocketPath(dataDir string) (string, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return "", err
	}
	if path := filepath.Join(abs, socketName); len(path) <= maxSocketPath {
		return path, nil
	}
	h := sha256.Sum256([]byte(abs))
	return filepath.Join(os.TempDir(), fmt.Sprintf("seedmesh-%d", os.Getuid()), hex.EncodeToString(h[:12])+".sock"), nil
}

// A Server answers on the unix socket.
type Server struct {
	http *http.Server
	path string
	done chan error
}

// Listen serves the handler on the data directory's socket, to the node's own
// user and root alone; strict, not to what the node has started either.
func Listen(dataDir string, h http.Handler, strict bool) (*Server, error) {
	path, err := SocketPath(dataDir)
	if err != nil {
		return nil, err
	}
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, lis.Close())
	}
	s := &Server{http: &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout}, path: path, done: make(chan error, 1)}
	go func() { s.done <- s.http.Serve(ownUserOnly{lis, strict}) }()
	return s, nil
}

// privateDir makes a directory that no other user can enter, and refuses one
// that belongs to somebody else.
func privateDir(path string) error {
	if err := os.MkdirAll(path, privateDirMode); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of this user", path)
	}
	return os.Chmod(path, privateDirMode)
}

// Close stops the server and removes the socket.
func (s *Server) Close() error {
	err := s.http.Close()
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if e := os.Remove(s.path); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// ownUserOnly drops connections of other users.
type ownUserOnly struct {
	net.Listener
	strict bool // nor of descendants of this process
}

func (l ownUserOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if peer, err := peerOf(conn); err == nil && (peer.Uid == 0 || int(peer.Uid) == os.Getuid()) && (!l.strict || !descends(int(peer.Pid))) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// maxAncestors bounds the way from a process to the first one.
const maxAncestors = 4096

// descends tells whether a process was started by this one, or by what it has
// started: executors keep what their scripts leave behind as their children. One
// that is gone, or cannot be seen, may have been.
func descends(pid int) bool {
	for range maxAncestors {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return true
		}
		text := string(b)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 {
			return true
		}
		parent, err := strconv.Atoi(fields[1])
		switch {
		case err != nil || parent == os.Getpid():
			return true
		case parent <= 1:
			return false
		}
		pid = parent
	}
	return true
}

func peerOf(conn net.Conn) (*unix.Ucred, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(err, credErr)
}

// DialSocket gives a client of the node whose data directory this is. Nothing is
// sent before the first call.
func DialSocket(dataDir string) (meshv1connect.MeshClient, error) {
	path, err := SocketPath(dataDir)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) },
	}}
	return meshv1connect.NewMeshClient(client, "http://seedmesh"), nil
}

// DialRemote gives a client of any node at HOST:PORT, with the identity that the
// data directory holds. closeAll ends its connections.
func DialRemote(dataDir, addr string) (c meshv1connect.MeshClient, closeAll func() error, err error) {
	var files [3][]byte
	for i, name := range []string{"node.pem", "node.key", "ca.pem"} {
		if files[i], err = os.ReadFile(filepath.Join(dataDir, name)); err != nil {
			return nil, nil, fmt.Errorf("an identity of the cluster is needed to speak with %s: %w", addr, err)
		}
	}
	id, err := transport.NewIdentity(files[0], files[1], files[2])
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return nil, nil, err
	}
	ep, err := transport.Open(transport.Config{Conn: conn, Identity: id})
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return meshv1connect.NewMeshClient(ep.HTTPClient(transport.Peer{Addr: addr}), "https://"+addr), ep.Close, nil
}

// Handler serves an implementation of the API.
func Handler(impl meshv1connect.MeshHandler) http.Handler {
	mux := http.NewServeMux()
	path, h := meshv1connect.NewMeshHandler(impl, connect.WithReadMaxBytes(MaxRequest))
	mux.Handle(path, h)
	return mux
}

// An Error is a refusal with what to do about it. Over the wire the remedy
// follows the message after a newline.
type Error struct {
	Code   connect.Code
	What   string
	Remedy string
}

func (e *Error) Error() string { return e.What }

// Connect is the error as the protocol carries it.
func (e *Error) Connect() error {
	text := e.What
	if e.Remedy != "" {
		text += "\n" + e.Remedy
	}
	return connect.NewError(e.Code, errors.New(text))
}

// Explain splits an error of a call into its code, what happened, and a remedy.
func Explain(err error) (code connect.Code, what, remedy string) {
	var c *connect.Error
	if errors.As(err, &c) {
		what, remedy, _ = strings.Cut(c.Message(), "\n")
		return c.Code(), what, remedy
	}
	return connect.CodeUnknown, err.Error(), ""
}
