// Package transport is the one UDP socket of a node: authenticated QUIC streams by kind,
// HTTP/3, gossip packets, and the join exchange.
//
// Everybody on it has a certificate of this cluster's CA, told by node id and never by
// address; only a joiner has none, and may do nothing but join. The package knows no
// jobs, no Raft and no membership: it does not decide who is dead (it is told, by Forget),
// retries no request that may have had an effect, and opens no socket itself, so that a
// whole mesh runs on transport/memnet inside a testing/synctest bubble.
//
// Shut down what uses an Endpoint first (Raft, then gossip), then Close it: ending a
// connection throws away what was not yet sent.
//
// Read transport.go for the endpoint, dial.go for outgoing and conn.go for single streams,
// packets.go for gossip, ask.go for questions that fit into a datagram, http3.go for the API, join.go and identity.go for who may talk.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A Kind is what a stream is for, as an ALPN name: "seedmesh-raft/1". Each kind has its
// own connection, so that bulk bytes never hold up heartbeats.
type Kind string

// KindHTTP3 carries HTTP/3; see [Endpoint.ServeHTTP3] and [Endpoint.HTTPClient].
const KindHTTP3 Kind = http3.NextProtoH3

const (
	kindJoin Kind = "seedmesh-join/1" // no client certificate; see join.go
	kindPing Kind = "seedmesh-ping/1" // every endpoint answers it; see Ping
)

// A Peer is another node: its id (32 hex digits) and role from its certificate, and its
// address, HOST:PORT. When dialing, Role is not looked at, and an empty ID means any node
// of this cluster.
type Peer struct {
	ID   string
	Role string
	Addr string
}

func (p Peer) String() string {
	if p.ID == "" {
		return p.Addr
	}
	return p.ID + "@" + p.Addr
}

// Defaults of a [Config], and bounds that nobody needs to set.
const (
	DefaultMaxIdleTimeout   = 5 * time.Second
	DefaultKeepAlive        = 1500 * time.Millisecond
	DefaultHandshakeTimeout = 2 * time.Second
	DefaultMaxStreams       = 10_000
	DefaultUnusedTimeout    = time.Minute

	maxUniStreams = 8      // per connection: the hello and HTTP/3's own
	maxAccepted   = 20_000 // accepted connections at once, about 41 KiB each
	acceptBacklog = 256    // streams per kind that no Accept has taken yet
	unprovenDials = 200    // handshakes per second before callers must first prove their address
	pingLinger    = 5 * time.Second
	helloTimeout  = 2 * time.Second       // for a peer to take our hello
	dialTimeouts  = 2                     // a dial that gets answers may take this many handshake timeouts
	busyWait      = 20 * time.Millisecond // before a refused dial is tried again; doubles each time
)

// A Config is what an Endpoint is made of. Conn and Identity are required; zero durations
// and limits become the defaults above.
type Config struct {
	Conn     net.PacketConn // the one UDP socket, or one of memnet's; Close closes it
	Identity *Identity
	Kinds    []Kind // accepted; others can still be dialed
	// Roles are the roles of those that may open streams of a kind; a kind without an
	// entry is open to every node.
	Roles map[Kind][]string

	// DialFrom gives a kind a socket of its own that its connections are dialed from, so that
	// tests can tell the kinds' packets apart; Close closes it. A nil func, or a nil socket,
	// means Conn.
	DialFrom func(Kind) net.PacketConn

	// ResetKey lets peers notice at once that this node restarted. It must stay the same
	// from start to start; zero derives it from the identity's private key.
	ResetKey [32]byte
	Logger   *slog.Logger // nil: no log

	MaxIdleTimeout   time.Duration // silence after which a connection is lost
	KeepAlive        time.Duration
	HandshakeTimeout time.Duration // silence after which a dial fails; in all it may take twice that
	UnusedTimeout    time.Duration // after which a dialed connection without streams is closed
	MaxStreams       int64         // open at once that a peer may have per connection

	// Time is the clock that certificates are judged by; nil is time.Now.
	Time func() time.Time
	// Refuse says that a node's certificate counts no more, though it is still valid; nil
	// refuses nobody. It is asked in every handshake, from any goroutine, and must not
	// block. Connections that are already up end with [Endpoint.Forget].
	Refuse func(id string) bool
}

func (c Config) withDefaults() (Config, error) {
	if c.Conn == nil || c.Identity == nil {
		return c, errors.New("transport: a Config needs Conn and Identity")
	}
	seen := map[Kind]bool{}
	for _, kind := range c.Kinds {
		if kind == "" || kind == kindJoin || kind == kindPing || seen[kind] {
			return c, fmt.Errorf("transport: kind %q is empty, reserved or given twice", kind)
		}
		seen[kind] = true
	}
	setDefault(&c.MaxIdleTimeout, DefaultMaxIdleTimeout)
	setDefault(&c.KeepAlive, DefaultKeepAlive)
	setDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&c.UnusedTimeout, DefaultUnusedTimeout)
	setDefault(&c.MaxStreams, DefaultMaxStreams)
	setDefault(&c.ResetKey, c.Identity.resetKey)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Time == nil {
		c.Time = time.Now
	}
	if c.DialFrom == nil {
		c.DialFrom = func(Kind) net.PacketConn { return nil }
	}
	if c.Refuse == nil {
		c.Refuse = func(string) bool { return false }
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// An Endpoint is a node on the mesh's one UDP port. Its methods are safe for concurrent use.
type Endpoint struct {
	cfg    Config
	log    *slog.Logger
	socket *socket
	quic   *quic.Transport
	from   map[Kind]*quic.Transport // those of DialFrom; fixed in Open
	accept *quic.Listener
	dialed *quic.Config // of outgoing connections

	inboxes map[Kind]*inbox // fixed in Open
	web     *http3.Server
	webSet  atomic.Bool
	webUp   chan struct{} // closed when web is set
	join    atomic.Pointer[joinServer]
	packets chan Packet
	lanes   *lanes
	stats   counters

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of ours
	done   chan struct{}  // closed when Close has finished

	mu       sync.Mutex // guards the fields below
	closed   bool
	sessions map[sessionKey]*session
	accepted map[*quic.Conn]Peer
}

// Open starts an endpoint on cfg.Conn, which it then owns, also when it returns an error.
func Open(cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		if cfg.Conn != nil {
			cfg.Conn.Close()
		}
		return nil, err
	}
	e := &Endpoint{
		cfg:      cfg,
		log:      cfg.Logger.With("node", cfg.Identity.ID()),
		inboxes:  map[Kind]*inbox{},
		from:     map[Kind]*quic.Transport{},
		webUp:    make(chan struct{}),
		packets:  make(chan Packet, PacketQueue),
		lanes:    newLanes(),
		done:     make(chan struct{}),
		sessions: map[sessionKey]*session{},
		accepted: map[*quic.Conn]Peer{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	for _, kind := range cfg.Kinds {
		e.inboxes[kind] = newInbox(kind)
	}
	e.socket = &socket{cfg.Conn, map[byte]func([]byte, net.Addr){packetMark: e.takePacket, askMark: e.takeAsk}}
	flood := &bucket{}
	e.quic = &quic.Transport{
		Conn:                e.socket.forQUIC(),
		StatelessResetKey:   (*quic.StatelessResetKey)(&cfg.ResetKey),
		VerifySourceAddress: func(net.Addr) bool { return !flood.take(time.Now(), unprovenDials, unprovenDials) },
	}
	served, dialed := e.quicConfigs()
	e.dialed = dialed
	e.accept, err = e.quic.Listen(e.serverTLS(), served)
	if err != nil {
		e.quic.Close()
		cfg.Conn.Close()
		return nil, fmt.Errorf("transport: open: %w", err)
	}
	for _, kind := range cfg.Kinds {
		if conn := cfg.DialFrom(kind); conn != nil {
			own := &socket{conn, map[byte]func([]byte, net.Addr){askMark: e.takeAsk}}
			e.from[kind] = &quic.Transport{Conn: own.forQUIC()}
		}
	}
	e.start(e.acceptConnections)
	e.start(e.answerQuestions)
	return e, nil
}

// dialer is what connections of a kind are dialed from.
func (e *Endpoint) dialer(kind Kind) *quic.Transport {
	if own := e.from[kind]; own != nil {
		return own
	}
	return e.quic
}

func (e *Endpoint) quicConfigs() (served, dialed *quic.Config) {
	served = &quic.Config{
		HandshakeIdleTimeout:  e.cfg.HandshakeTimeout,
		MaxIdleTimeout:        e.cfg.MaxIdleTimeout,
		KeepAlivePeriod:       e.cfg.KeepAlive,
		MaxIncomingStreams:    e.cfg.MaxStreams,
		MaxIncomingUniStreams: maxUniStreams,
	}
	dialed = served.Clone()
	dialed.MaxIncomingStreams = -1 // streams are opened by the side that dialed
	return served, dialed
}

// serverTLS asks everybody for a certificate of this cluster, except who offers to join
// and nothing else.
func (e *Endpoint) serverTLS() *tls.Config {
	member := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Time:                   e.cfg.Time,
		Certificates:           []tls.Certificate{e.cfg.Identity.certificate(false)},
		NextProtos:             []string{string(kindPing)},
		ClientAuth:             tls.RequireAnyClientCert, // and judge verifies it
		ClientCAs:              e.cfg.Identity.roots,
		VerifyConnection:       e.judge(x509.ExtKeyUsageClientAuth, ""),
		SessionTicketsDisabled: true, // a resumed session would not be judged again
	}
	for _, kind := range e.cfg.Kinds {
		member.NextProtos = append(member.NextProtos, string(kind))
	}
	joiner := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Time:                   e.cfg.Time,
		Certificates:           []tls.Certificate{e.cfg.Identity.certificate(true)},
		NextProtos:             []string{string(kindJoin)},
		SessionTicketsDisabled: true,
	}
	choose := member.Clone()
	choose.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offers := hello.SupportedProtos
		if len(offers) == 1 && offers[0] == string(kindJoin) && e.join.Load() != nil {
			return joiner, nil
		}
		return member, nil
	}
	return choose
}

func (e *Endpoint) clientTLS(kind Kind, id string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Time:               e.cfg.Time,
		Certificates:       []tls.Certificate{e.cfg.Identity.certificate(false)},
		NextProtos:         []string{string(kind)},
		ServerName:         "seedmesh", // says nothing; names are checked by id
		InsecureSkipVerify: true,       // judge verifies: by id, against our CA only
		VerifyConnection:   e.judge(x509.ExtKeyUsageServerAuth, id),
	}
}

// judge verifies a peer's certificate in a handshake; id is the wanted node, "" any.
func (e *Endpoint) judge(usage x509.ExtKeyUsage, id string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) (err error) {
		defer func() {
			if err != nil {
				e.stats.refused.Add(1)
			}
		}()
		if len(state.PeerCertificates) == 0 {
			return &peerError{ErrUntrusted, "it shows none"}
		}
		peer, err := verify(state.PeerCertificates[0], e.cfg.Identity.roots, usage, e.cfg.Time())
		if err != nil {
			return err
		}
		if id != "" && peer.ID != id {
			return &peerError{ErrWrongPeer, fmt.Sprintf("wanted %s, found %s", id, peer.ID)}
		}
		if e.cfg.Refuse(peer.ID) {
			return &peerError{ErrUntrusted, peer.ID + " was revoked"}
		}
		if roles, limited := e.cfg.Roles[Kind(state.NegotiatedProtocol)]; limited && usage == x509.ExtKeyUsageClientAuth && !slices.Contains(roles, peer.Role) {
			return &peerError{ErrUntrusted, fmt.Sprintf("%s is a %s and may not open %s", peer.ID, peer.Role, state.NegotiatedProtocol)}
		}
		return nil
	}
}

// start runs f as a goroutine that Close waits for; false means that it is too late.
func (e *Endpoint) start(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.startLocked(f)
}

func (e *Endpoint) startLocked(f func()) bool {
	if e.closed {
		return false
	}
	e.wg.Go(f)
	return true
}

func (e *Endpoint) acceptConnections() {
	for {
		conn, err := e.accept.Accept(e.ctx)
		if err != nil {
			return
		}
		if !e.start(func() { e.serve(conn) }) {
			conn.CloseWithError(endCode, reasonClosing)
			return
		}
	}
}

// serve owns one accepted connection until it ends.
func (e *Endpoint) serve(conn *quic.Conn) {
	state := conn.ConnectionState().TLS
	kind := Kind(state.NegotiatedProtocol)
	peer := Peer{Addr: conn.RemoteAddr().String()}
	if kind != kindJoin {
		node, err := nodeOf(state.PeerCertificates[0])
		if err != nil {
			conn.CloseWithError(endCode, err.Error())
			return
		}
		peer.ID, peer.Role = node.ID, node.Role
	}
	if err := e.admit(conn, peer); err != nil {
		conn.CloseWithError(endCode, err.Error())
		return
	}
	defer e.dismiss(conn)
	if kind == kindJoin {
		e.serveJoin(conn)
		return
	}
	if err := sendHello(conn); err != nil {
		conn.CloseWithError(endCode, "the hello was not taken")
		return
	}
	switch kind {
	case kindPing:
		awaitEnd(conn, pingLinger)
	case KindHTTP3:
		e.serveHTTP3(conn)
	default:
		e.serveStreams(conn, e.inboxes[kind], peer)
	}
}

// admit counts an accepted connection in. A node may have been revoked and forgotten since
// its handshake, so it is asked again, now that Forget can see the connection.
func (e *Endpoint) admit(conn *quic.Conn, peer Peer) error {
	e.mu.Lock()
	full := len(e.accepted) >= maxAccepted
	if !e.closed && !full {
		e.accepted[conn] = peer
	}
	closed := e.closed
	e.mu.Unlock()
	switch {
	case closed:
		return errors.New(reasonClosing)
	case full:
		return errors.New("too many connections")
	case peer.ID != "" && e.cfg.Refuse(peer.ID):
		e.dismiss(conn)
		return errors.New("revoked")
	}
	return nil
}

func (e *Endpoint) dismiss(conn *quic.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.accepted, conn)
}

// serveStreams hands a connection's streams to the listener of their kind. The loop stands
// still while nobody accepts: then the peer's stream limit holds it back.
func (e *Endpoint) serveStreams(conn *quic.Conn, in *inbox, peer Peer) {
	l, err := newLane(conn, in.kind, peer.ID, false)
	if err != nil {
		conn.CloseWithError(endCode, err.Error())
		return
	}
	e.lanes.add(l)
	defer e.lanes.remove(l)
	for {
		stream, err := conn.AcceptStream(conn.Context())
		if err != nil {
			return
		}
		e.stats.streamsIn.Add(1)
		c := &Conn{e: e, stream: stream, quic: conn, peer: peer}
		if !in.put(c, conn.Context().Done()) {
			c.abort()
		}
	}
}

// Forget ends every connection with a node, dialed or accepted: gossip holds it dead, an
// answer did not come in time, or it was revoked. Streams on them fail with [ErrLost]; the
// next Dial starts afresh.
func (e *Endpoint) Forget(id string) {
	if id == "" {
		return
	}
	var gone []*quic.Conn
	e.mu.Lock()
	for key, s := range e.sessions {
		if s.conn != nil && s.peer.ID == id {
			delete(e.sessions, key)
			gone = append(gone, s.conn)
		}
	}
	for conn, peer := range e.accepted {
		if peer.ID == id {
			gone = append(gone, conn)
		}
	}
	e.mu.Unlock()
	for _, conn := range gone {
		conn.CloseWithError(endCode, reasonForgotten)
	}
	e.log.Debug("peer forgotten", "peer", id, "connections", len(gone))
}

// Addr is the local address of the socket.
func (e *Endpoint) Addr() net.Addr { return e.socket.LocalAddr() }

// Identity is what this endpoint shows.
func (e *Endpoint) Identity() *Identity { return e.cfg.Identity }

// Close ends all connections and the socket, and returns after the last goroutine has
// ended; HTTP handlers must heed their contexts. What was not yet sent is lost. It may be
// called again, and then waits as well.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		<-e.done
		return nil
	}
	e.closed = true
	var open []*quic.Conn
	for _, s := range e.sessions {
		if s.conn != nil {
			open = append(open, s.conn)
		}
	}
	for conn := range e.accepted {
		open = append(open, conn)
	}
	e.mu.Unlock()

	defer close(e.done)
	e.cancel()
	for _, conn := range open {
		conn.CloseWithError(endCode, reasonClosing)
	}
	_ = e.accept.Close()
	e.wg.Wait()
	for _, own := range e.from {
		own.Close()
		own.Conn.Close()
	}
	e.quic.Close()
	err := e.cfg.Conn.Close()
	close(e.packets) // its only sender was the socket's reader, which quic.Close waited for
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("transport: close: %w", err)
	}
	return nil
}

// Stats counts since Open, except Connections and Accepted, which are of this moment.
type Stats struct {
	Dials, DialFailures        uint64 // handshakes, not streams
	Connections, Accepted      int
	StreamsOut, StreamsIn      uint64
	PeersRefused               uint64 // handshakes that failed at the peer's certificate
	PacketsOut, PacketsIn      uint64
	PacketsDropped             uint64 // because Packets was not read fast enough
	Asked, Answered            uint64 // questions sent, and those of others that were answered
	Joins, JoinsRefused, Pings uint64 // JoinsRefused: by rate or form, not by the handler
}

type counters struct {
	dials, dialFailures, streamsOut, streamsIn, refused atomic.Uint64
	packetsOut, packetsIn, packetsDropped               atomic.Uint64
	joins, joinsRefused, pings                          atomic.Uint64
	asked, answered                                     atomic.Uint64
}

// Stats returns a snapshot; its fields are read one after the other.
func (e *Endpoint) Stats() Stats {
	s := Stats{
		Dials: e.stats.dials.Load(), DialFailures: e.stats.dialFailures.Load(),
		StreamsOut: e.stats.streamsOut.Load(), StreamsIn: e.stats.streamsIn.Load(),
		PeersRefused: e.stats.refused.Load(),
		PacketsOut:   e.stats.packetsOut.Load(), PacketsIn: e.stats.packetsIn.Load(),
		PacketsDropped: e.stats.packetsDropped.Load(),
		Joins:          e.stats.joins.Load(), JoinsRefused: e.stats.joinsRefused.Load(),
		Pings: e.stats.pings.Load(), Asked: e.stats.asked.Load(), Answered: e.stats.answered.Load(),
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, sess := range e.sessions {
		if sess.conn != nil {
			s.Connections++
		}
	}
	s.Accepted = len(e.accepted)
	return s
}

// Listen takes the streams of a configured kind; Accept returns them as [*Conn]. Streams
// wait from Open on, up to a bound; after Close of the listener they are refused until the
// next Listen. Accept returns [net.ErrClosed] after either Close. It panics for a kind that
// was not configured and while another listener of that kind is open.
func (e *Endpoint) Listen(kind Kind) net.Listener {
	in := e.inboxes[kind]
	if in == nil || kind == KindHTTP3 {
		panic(fmt.Sprintf("transport: Listen(%q): not a stream kind in Config.Kinds", kind))
	}
	return &listener{e: e, in: in, stop: in.open(kind)}
}
