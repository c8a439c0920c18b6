package transport

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"github.com/quic-go/quic-go"
)

const (
	// askMark is the first byte of every question and answer on the wire; see packetMark.
	askMark = 0x02
	// MaxAskBytes is the longest question, and the longest answer.
	MaxAskBytes = 512

	askQueue    = 256 // questions that wait to be answered; more are dropped
	laneIDBytes = 8
	askOverhead = laneIDBytes + 8 // before the sealed bytes: a lane's id and a number
	laneKeys    = "EXPORTER-seedmesh-ask"
	laneKeySize = 32 // bytes, for AES-256-GCM
)

// A lane carries questions beside the streams of a connection, from the side that dialed,
// and answers back. Its ids and keys come out of the connection's TLS session (RFC 8446,
// section 7.5): whoever could open a stream can ask, and nobody else can. It ends with the
// connection.
//
// A question takes two packets in all. On a stream, QUIC needs about four times the wake-ups
// for the same, as it acknowledges and guards against loss what is worth nothing when late.
type lane struct {
	kind   Kind
	peer   string // id of the other node
	dialed bool
	in     [laneIDBytes]byte // the id of what arrives here
	out    [laneIDBytes]byte
	open   cipher.AEAD
	seal   cipher.AEAD

	mu      sync.Mutex
	number  uint64                 // of the last question asked, or answered: none is answered twice
	waiting map[uint64]chan []byte // where answers are awaited, by their question's number
}

// newLane derives the lane of a connection.
func newLane(conn *quic.Conn, kind Kind, peer string, dialed bool) (*lane, error) {
	state := conn.ConnectionState().TLS
	secret, err := state.ExportKeyingMaterial(laneKeys, nil, 2*(laneIDBytes+laneKeySize))
	if err != nil {
		return nil, fmt.Errorf("transport: keys of a lane: %w", err)
	}
	questions, answers := secret[:len(secret)/2], secret[len(secret)/2:]
	in, out := questions, answers
	if dialed {
		in, out = answers, questions
	}
	l := &lane{kind: kind, peer: peer, dialed: dialed, waiting: map[uint64]chan []byte{}}
	copy(l.in[:], in)
	copy(l.out[:], out)
	if l.open, err = laneCipher(in[laneIDBytes:]); err != nil {
		return nil, err
	}
	l.seal, err = laneCipher(out[laneIDBytes:])
	return l, err
}

func laneCipher(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// packet seals a message. A number is sealed once for each direction, so that no nonce is
// used twice.
func (l *lane) packet(number uint64, message []byte) []byte {
	b := make([]byte, 0, 1+askOverhead+len(message)+l.seal.Overhead())
	b = append(append(b, askMark), l.out[:]...)
	b = binary.BigEndian.AppendUint64(b, number)
	return l.seal.Seal(b, nonce(number), message, nil)
}

func nonce(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), number)
}

// ask takes the next number, and gives where its answer will be.
func (l *lane) ask() (number uint64, answer <-chan []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	c := make(chan []byte, 1)
	l.waiting[l.number] = c
	return l.number, c
}

func (l *lane) forget(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, number)
}

// answered hands an answer to whoever waits for it still.
func (l *lane) answered(number uint64, answer []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.waiting[number]; c != nil {
		delete(l.waiting, number)
		c <- answer
	}
}

// fresh tells whether a question is newer than all that came before; a late one is not.
func (l *lane) fresh(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number <= l.number {
		return false
	}
	l.number = number
	return true
}

// A question has come and is to be answered.
type question struct {
	lane   *lane
	number uint64
	text   []byte
	from   net.Addr
}

// lanes are those of an endpoint's connections, and who answers on them.
type lanes struct {
	mu        sync.Mutex
	byID      map[[laneIDBytes]byte]*lane
	answerers map[Kind]func(from string, question []byte) []byte
	questions chan question
}

func newLanes() *lanes {
	return &lanes{
		byID:      map[[laneIDBytes]byte]*lane{},
		answerers: map[Kind]func(string, []byte) []byte{},
		questions: make(chan question, askQueue),
	}
}

func (ls *lanes) add(l *lane) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.byID[l.in] = l
}

func (ls *lanes) remove(l *lane) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.byID, l.in)
}

func (ls *lanes) find(id [laneIDBytes]byte) *lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.byID[id]
}

func (ls *lanes) answerer(kind Kind) func(string, []byte) []byte {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.answerers[kind]
}

// Answer has f answer the questions of a kind from now on, one after the other; nil ends
// that. It is told who asks, by id. A nil answer is not sent. f must be quick: questions that wait long are dropped.
func (e *Endpoint) Answer(kind Kind, f func(from string, question []byte) []byte) {
	e.lanes.mu.Lock()
	defer e.lanes.mu.Unlock()
	e.lanes.answerers[kind] = f
}

// Ask asks a peer something that is worth nothing when it is late, with one datagram there
// and one back, either of which may be lost: then ctx's end is the error. It goes beside
// the streams of a connection that a Dial of the kind has made, sealed for it; without one
// the error is [ErrLost]. At most [MaxAskBytes] are carried.
func (e *Endpoint) Ask(ctx context.Context, kind Kind, to Peer, question []byte) (answer []byte, err error) {
	if len(question) > MaxAskBytes {
		return nil, &PacketTooLargeError{len(question)}
	}
	s := e.connected(sessionKey{to.ID, to.Addr, kind})
	if s == nil {
		return nil, &DialError{to, kind, ErrLost}
	}
	defer e.release(s)
	number, answers := s.lane.ask()
	defer s.lane.forget(number)
	if _, err := e.dialer(kind).WriteTo(s.lane.packet(number, question), s.conn.RemoteAddr()); err != nil {
		return nil, &DialError{to, kind, plain(err)}
	}
	e.stats.asked.Add(1)
	select {
	case answer = <-answers:
		return answer, nil
	case <-ctx.Done():
		return nil, &DialError{to, kind, ctx.Err()}
	case <-s.conn.Context().Done():
		return nil, &DialError{to, kind, ErrLost}
	}
}

// connected gives the session of a key if it is up, for the caller to release.
func (e *Endpoint) connected(key sessionKey) *session {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sessions[key]
	if s == nil || s.conn == nil || s.lane == nil || s.conn.Context().Err() != nil {
		return nil
	}
	s.users++
	return s
}

// takeAsk takes a question or an answer from the socket: data is what follows the mark.
func (e *Endpoint) takeAsk(data []byte, from net.Addr) {
	if len(data) < askOverhead {
		return
	}
	l := e.lanes.find([laneIDBytes]byte(data))
	if l == nil {
		return
	}
	number := binary.BigEndian.Uint64(data[laneIDBytes:])
	text, err := l.open.Open(nil, nonce(number), data[askOverhead:], nil)
	if err != nil || len(text) > MaxAskBytes {
		return
	}
	if l.dialed {
		l.answered(number, text)
		return
	}
	if !l.fresh(number) {
		return
	}
	select {
	case e.lanes.questions <- question{l, number, text, from}:
	default:
	}
}

// answerQuestions answers those that arrive until the endpoint closes.
func (e *Endpoint) answerQuestions() {
	for {
		select {
		case q := <-e.lanes.questions:
			f := e.lanes.answerer(q.lane.kind)
			if f == nil {
				continue
			}
			if answer := f(q.lane.peer, q.text); answer != nil && len(answer) <= MaxAskBytes {
				e.stats.answered.Add(1)
				_, _ = e.quic.WriteTo(q.lane.packet(q.number, answer), q.from) // lost, as it may be
			}
		case <-e.ctx.Done():
			return
		}
	}
}
