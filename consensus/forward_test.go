package consensus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"testing"
	"time"

	"seedmesh/jobs"
)

// wire is a connection whose other end has said all it will.
type wire struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (w *wire) Read(b []byte) (int, error)  { return w.in.Read(b) }
func (w *wire) Write(b []byte) (int, error) { return w.out.Write(b) }
func (w *wire) SetDeadline(time.Time) error { return nil }

// FuzzForward reads whatever a peer may send: as the leader's answers, which are
// written again as they were read, and as a batch of requests, each of which a
// node that does not lead refuses.
func FuzzForward(f *testing.F) {
	request := jobs.EncodeRequest(jobs.Request{Command: submit(1)})
	batch := append([]byte{byte(len(request)), 1}, request...)
	f.Add(append([]byte{byte(len(batch)), 1}, batch...))
	f.Add([]byte{2, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(encodeAnswer(result{index: 7, outcome: jobs.Outcome{Job: 5}}, true))
	f.Add(encodeAnswer(result{err: ErrForbidden}, false))
	l := &Log{cfg: Config{Network: peerless{new(memNode)}, Logger: slog.New(slog.DiscardHandler)}, ctx: f.Context()}
	l.leader = newLeader(l)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, outcome := range []bool{false, true} {
			res, err := readAnswer(bufio.NewReader(bytes.NewReader(b)), outcome)
			if err != nil || res.err != nil {
				continue
			}
			again, err := readAnswer(bufio.NewReader(bytes.NewReader(encodeAnswer(res, outcome))), outcome)
			if err != nil || again.index != res.index || !bytes.Equal(jobs.EncodeOutcome(again.outcome), jobs.EncodeOutcome(res.outcome)) {
				t.Fatalf("answer %+v reads as %+v, %v", res, again, err)
			}
		}
		conn := &wire{in: bytes.NewReader(b)}
		if err := l.answer(conn); err != nil {
			return
		}
		for out := conn.out.Bytes(); len(out) > 0; out = out[9:] {
			if len(out) < 9 || out[0] != notLeader {
				t.Fatalf("a node that does not lead answers % x", out)
			}
		}
	})
}

// TestMalformedBatches refuses batches that are not what a follower sends.
func TestMalformedBatches(t *testing.T) {
	l := &Log{cfg: Config{Network: peerless{new(memNode)}, Logger: slog.New(slog.DiscardHandler)}, ctx: t.Context()}
	l.leader = newLeader(l)
	for name, tt := range map[string]struct {
		body []byte
		ok   bool
	}{
		"two requests":                      {[]byte{0, 1, 9}, true},
		"the last without its bytes":        {[]byte{0, 1}, false},
		"the last without all its bytes":    {[]byte{0, 2, 9}, false},
		"the last without all its length":   {[]byte{0, 0x80}, false},
		"as many as a follower sends":       {make([]byte, batchRequests), true},
		"one more than a follower may send": {make([]byte, batchRequests+1), false},
	} {
		t.Run(name, func(t *testing.T) {
			b := append(binary.AppendUvarint(nil, uint64(len(tt.body))), tt.body...)
			if err := l.answer(&wire{in: bytes.NewReader(b)}); (err == nil) != tt.ok {
				t.Errorf("answer: %v", err)
			}
		})
	}
}

// peerless is a network that knows nobody.
type peerless struct{ *memNode }

func (peerless) PeerOf(net.Conn) string { return "" }
