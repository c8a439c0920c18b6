package node

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"seedmesh/jobs"
	"seedmesh/transport"
)

// Setup is what a new node is told.
type Setup struct {
	Dir     string
	Name    string // default: the host's name
	Listen  string // HOST:PORT; a client needs none
	Cluster string // of Init; default: seedmesh

	// Socket makes the socket that a join request is sent from, for tests; nil is
	// a UDP socket.
	Socket func() (net.PacketConn, error)
}

func (s *Setup) fill() error {
	if s.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		s.Name = host
	}
	if s.Cluster == "" {
		s.Cluster = "seedmesh"
	}
	if err := checkName("node", s.Name); err != nil {
		return err
	}
	if err := checkName("cluster", s.Cluster); err != nil {
		return err
	}
	return nil
}

func checkListen(addr string) error {
	const form = "name an address of this machine that the others reach, such as --listen 10.0.0.5:7946"
	if err := checkAddress(addr); err != nil {
		return &InputError{fmt.Sprintf("--listen %q %v", addr, err), form}
	}
	if at, err := netip.ParseAddrPort(addr); err == nil && at.Addr().IsUnspecified() {
		return &InputError{fmt.Sprintf("--listen %s is every address of this machine, and no other machine can reach that", addr), form}
	}
	return nil
}

const maxNameBytes = 63

func checkName(what, name string) error {
	ok := name != "" && len(name) <= maxNameBytes
	for _, r := range name {
		ok = ok && (r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}
	if !ok {
		return &InputError{
			fmt.Sprintf("%.80q is not a name for a %s", name, what),
			fmt.Sprintf("use 1 to %d letters, digits, '-', '_' or '.': --name", maxNameBytes),
		}
	}
	return nil
}

// InitResult is what Init made.
type InitResult struct {
	Cluster string
	Node    string // name
	Join    string // TOKEN@HOST:PORT
}

// genesis is the beginning of a log: the first member and its join token, put
// in when the first node starts.
type genesis struct {
	TokenHash jobs.Digest
	ExpiresMS int64
	Uses      uint32
}

// The token that init prints.
const (
	initTokenLife = time.Hour
	initTokenUses = 4
)

// certificateLife is how long a node's certificate is valid.
const certificateLife = 10 * 365 * 24 * time.Hour

// Init makes a new cluster whose first node lives in a data directory, and a
// token with which others join.
func Init(s Setup) (InitResult, error) {
	if err := errors.Join(s.fill(), checkListen(s.Listen)); err != nil {
		return InitResult{}, err
	}
	d, err := newDataDir(s.Dir)
	if err != nil {
		return InitResult{}, err
	}
	defer d.close()
	ca, err := transport.NewAuthority(s.Cluster)
	if err != nil {
		return InitResult{}, err
	}
	id := newNodeID()
	key, err := transport.NewKey()
	if err != nil {
		return InitResult{}, err
	}
	csr, err := transport.CertificateRequest(key, id.String())
	if err != nil {
		return InitResult{}, err
	}
	cert, err := ca.Sign(csr, id.String(), jobs.Voter.String(), certificateLife)
	if err != nil {
		return InitResult{}, err
	}
	token := newToken(ca.Digest())
	first := genesis{token.hash(), time.Now().Add(initTokenLife).UnixMilli(), initTokenUses}
	files := map[string][]byte{nodeCertFile: cert, nodeKeyFile: key, caCertFile: ca.CertPEM(), caKeyFile: ca.KeyPEM()}
	who := identity{s.Cluster, id.String(), s.Name, jobs.Voter.String(), s.Listen, randomBytes(32), randomBytes(32)}
	if err := errors.Join(d.writeJSON(genesisFile, first), d.fill(files, who)); err != nil {
		return InitResult{}, &DirError{s.Dir, err}
	}
	return InitResult{s.Cluster, s.Name, token.String() + "@" + s.Listen}, nil
}

// fill writes a new node's files, the identity last: it makes the directory valid.
func (d *dataDir) fill(files map[string][]byte, who identity) error {
	for name, b := range files {
		if err := d.write(name, b); err != nil {
			return err
		}
	}
	return d.writeJSON(identityFile, who)
}

// A joinToken pins the CA and carries a secret: mesh1-CADIGEST-SECRET, both in
// lower-case base32, so that a leaked one can be searched for.
type joinToken struct {
	ca     [32]byte
	secret [32]byte
}

const tokenPrefix = "mesh1"

var tokenEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func newToken(ca [32]byte) joinToken {
	t := joinToken{ca: ca}
	copy(t.secret[:], randomBytes(len(t.secret)))
	return t
}

func (t joinToken) hash() jobs.Digest { return sha256.Sum256(t.secret[:]) }

func (t joinToken) String() string {
	return tokenPrefix + "-" + strings.ToLower(tokenEncoding.EncodeToString(t.ca[:])+"-"+tokenEncoding.EncodeToString(t.secret[:]))
}

// maxTokenBytes bounds a token's text.
const maxTokenBytes = 256

func parseToken(s string) (joinToken, error) {
	var t joinToken
	bad := &InputError{"the join token is damaged", joinForm}
	parts := strings.Split(strings.ToUpper(s), "-")
	if len(s) > maxTokenBytes || len(parts) != 3 || parts[0] != strings.ToUpper(tokenPrefix) {
		return t, bad
	}
	for i, into := range [][]byte{t.ca[:], t.secret[:]} {
		b, err := tokenEncoding.DecodeString(parts[i+1])
		if err != nil || len(b) != len(into) {
			return t, bad
		}
		copy(into, b)
	}
	return t, nil
}

// joinForm is what the argument of join looks like.
const joinForm = "copy the whole line that init or token create printed: mesh1-XXXX-XXXX@HOST:PORT"

// parseJoin reads TOKEN@HOST:PORT.
func parseJoin(s string) (token joinToken, addr string, err error) {
	text, addr, found := strings.Cut(s, "@")
	if !found {
		return token, "", &InputError{"there is no @HOST:PORT behind the token", joinForm}
	}
	if token, err = parseToken(text); err != nil {
		return token, "", err
	}
	if err := checkAddress(addr); err != nil {
		return token, "", &InputError{fmt.Sprintf("the address %.80q behind the token %v", addr, err), joinForm}
	}
	return token, addr, nil
}

// joinRequest is what a joiner sends, once it has seen that the other side is
// the cluster of its token.
type joinRequest struct {
	Secret []byte
	Node   string
	Name   string
	Addr   string
	CSR    []byte
}

// joinReply makes the joiner a member.
type joinReply struct {
	Error   string `json:",omitempty"`
	Code    jobs.Code
	Cluster string
	Role    string
	Cert    []byte
	CA      []byte
	Gossip  []byte
	Book    []address
}

const (
	joinTimeout = 15 * time.Second // of the whole exchange
	joinPause   = 200 * time.Millisecond
)

// Join makes a data directory that belongs to a member of an existing cluster.
// tokenAtAddr is TOKEN@HOST:PORT. The node counts as a member at once and takes
// part when it is first started; a client is never started. It gives its role.
func Join(ctx context.Context, s Setup, tokenAtAddr string) (jobs.Role, error) {
	if err := s.fill(); err != nil {
		return 0, err
	}
	if s.Listen != "" {
		if err := checkListen(s.Listen); err != nil {
			return 0, err
		}
	}
	token, addr, err := parseJoin(tokenAtAddr)
	if err != nil {
		return 0, err
	}
	d, err := newDataDir(s.Dir)
	if err != nil {
		return 0, err
	}
	defer d.close()
	key, err := transport.NewKey()
	if err != nil {
		return 0, err
	}
	id := newNodeID()
	csr, err := transport.CertificateRequest(key, id.String())
	if err != nil {
		return 0, err
	}
	socket := s.Socket
	if socket == nil {
		socket = func() (net.PacketConn, error) { return net.ListenPacket("udp", ":0") }
	}
	reply, err := requestJoin(ctx, socket, token, addr, joinRequest{token.secret[:], id.String(), s.Name, s.Listen, csr})
	if err != nil {
		return 0, err
	}
	files := map[string][]byte{nodeCertFile: reply.Cert, nodeKeyFile: key, caCertFile: reply.CA}
	who := identity{reply.Cluster, id.String(), s.Name, reply.Role, s.Listen, reply.Gossip, randomBytes(32)}
	if err := errors.Join(d.writeJSON(addressFile, reply.Book), d.fill(files, who)); err != nil {
		return 0, &DirError{s.Dir, err}
	}
	return jobs.ParseRole(reply.Role)
}

func requestJoin(ctx context.Context, socket func() (net.PacketConn, error), token joinToken, addr string, request joinRequest) (joinReply, error) {
	var reply joinReply
	b, err := json.Marshal(request)
	if err != nil {
		return reply, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	answer, err := askToJoin(ctx, socket, addr, token, b)
	if err != nil {
		return reply, &JoinError{addr, err}
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return reply, fmt.Errorf("joining at %s failed: the answer is damaged: %w", addr, err)
	}
	if reply.Error != "" {
		return reply, &JoinError{addr, &jobs.Refusal{Code: reply.Code, Text: reply.Error}}
	}
	return reply, nil
}

// JoinError says why the member at an address did not let this machine in. Err
// is a [*jobs.Refusal] or one of package transport's errors.
type JoinError struct {
	Addr string
	Err  error
}

func (e *JoinError) Error() string {
	switch {
	case errors.Is(e.Err, transport.ErrUntrusted):
		return fmt.Sprintf("the node at %s belongs to another mesh than the token", e.Addr)
	case e.Unreachable():
		return fmt.Sprintf("no node answers at %s", e.Addr)
	}
	why := e.Err.Error()
	var refused *jobs.Refusal
	var answer *transport.JoinError
	switch {
	case errors.As(e.Err, &refused):
		why = refused.Text
	case errors.As(e.Err, &answer):
		why = answer.Reason
	}
	return fmt.Sprintf("the mesh at %s did not let this machine in: %s", e.Addr, why)
}

// Unwrap gives the cause.
func (e *JoinError) Unwrap() error { return e.Err }

// Unreachable tells whether nothing was answered, so that a retry is safe.
func (e *JoinError) Unreachable() bool {
	return errors.Is(e.Err, transport.ErrUnreachable) || errors.Is(e.Err, transport.ErrLost) || errors.Is(e.Err, transport.ErrKind) ||
		errors.Is(e.Err, context.DeadlineExceeded)
}

// Foreign tells whether the token is one of another mesh.
func (e *JoinError) Foreign() bool { return errors.Is(e.Err, transport.ErrUntrusted) }

// Remedy says what to do about it.
func (e *JoinError) Remedy() string {
	var refused *jobs.Refusal
	switch {
	case errors.As(e.Err, &refused) && refused.Code == jobs.NameTaken:
		return "choose another name with --name, or free it with: seedmesh node rm NODE"
	case e.Unreachable():
		return "is it up (seedmesh up), and does its UDP port pass the firewalls? Then join again"
	case e.Foreign(), errors.As(e.Err, &refused):
		return "make a new token on a member of that mesh with: seedmesh token create"
	}
	return "try again in a minute"
}

// askToJoin sends the request, again while the member at the address does not
// answer or is still starting: the same request is granted once.
func askToJoin(ctx context.Context, socket func() (net.PacketConn, error), addr string, token joinToken, request []byte) ([]byte, error) {
	for {
		conn, err := socket()
		if err != nil {
			return nil, err
		}
		answer, err := transport.Join(ctx, conn, addr, token.ca, request)
		err = errors.Join(err, conn.Close())
		again := errors.Is(err, transport.ErrKind) || errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrLost)
		if err == nil || !again || !pause(ctx, joinPause) {
			return answer, err
		}
	}
}
