package blob

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"seedmesh/transport"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

// serve answers one connection, and gives the client's end. The error of Serve
// comes over the channel when the server's end is closed.
func serve(ctx context.Context, s *Store) (net.Conn, <-chan error) {
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Serve(ctx, server, s)
		_ = server.Close()
		done <- err
	}()
	return client, done
}

func TestCopies(t *testing.T) {
	ctx := t.Context()
	for _, size := range []int{0, 1, copyBytes, 3*copyBytes + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, b, c := newStore(t), newStore(t), newStore(t)
			data := randomBytes(size)
			d := put(t, a, data)
			for _, again := range []bool{false, true} {
				conn, done := serve(ctx, b)
				if err := errors.Join(Push(ctx, conn, a, d), <-done); err != nil {
					t.Fatalf("push (again: %v): %v", again, err)
				}
			}
			conn, done := serve(ctx, b)
			if err := errors.Join(Fetch(ctx, conn, c, d), <-done); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(fileBytes(t, c, d), data) {
				t.Error("the bytes differ")
			}
			conn, done = serve(ctx, b)
			err := Get(ctx, conn, d, func(r io.Reader, n int64) error {
				got, err := io.ReadAll(r)
				if n != int64(size) || !bytes.Equal(got, data) {
					t.Errorf("Get gives %d other bytes", n)
				}
				return err
			})
			if err := errors.Join(err, <-done); err != nil {
				t.Fatal(err)
			}
			conn, done = serve(ctx, b)
			have, err := Ask(ctx, conn, []Digest{{1}, d, {2}})
			if err := errors.Join(err, <-done); err != nil || !slices.Equal(have, []bool{false, true, false}) {
				t.Errorf("Ask = %v, %v", have, err)
			}
		})
	}
}

// rot changes the first bytes of a blob on disk.
func rot(t *testing.T, s *Store, d Digest) {
	t.Helper()
	f, err := s.root.OpenFile(fileOf(d), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("rot")); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

func TestDamagedBytesAreNotGivenOut(t *testing.T) {
	a, b := newStore(t), newStore(t)
	d := put(t, a, randomBytes(1000))
	rot(t, a, d)
	conn, done := serve(t.Context(), a)
	var remote *RemoteError
	if err := Fetch(t.Context(), conn, b, d); !errors.As(err, &remote) || !remote.Corrupt() || count(t, b) != 0 {
		t.Errorf("Fetch = %v, want a refusal and no blob", err)
	}
	if err := <-done; !isA[*CorruptError](err) {
		t.Errorf("Serve = %v, want a CorruptError, so that the node learns of it", err)
	}
}

func TestPushHealsADamagedCopy(t *testing.T) {
	a, b := newStore(t), newStore(t)
	data := randomBytes(1000)
	d := put(t, a, data)
	put(t, b, data)
	rot(t, b, d)
	conn, done := serve(t.Context(), b)
	if err := errors.Join(Push(t.Context(), conn, a, d), <-done, b.Verify(d)); err != nil {
		t.Error(err)
	}
}

func TestAskLimits(t *testing.T) {
	s := newStore(t)
	conn, done := serve(t.Context(), s)
	have, err := Ask(t.Context(), conn, make([]Digest, MaxAsk))
	if err := errors.Join(err, <-done); err != nil || len(have) != MaxAsk {
		t.Errorf("%d answers, %v", len(have), err)
	}
	if _, err := Ask(t.Context(), conn, make([]Digest, MaxAsk+1)); err == nil {
		t.Error("one more was accepted")
	}
}

// An ackWatch notes the answers of a server among the steps of its store.
type ackWatch struct {
	net.Conn
	tr *trace
}

func (w ackWatch) Write(b []byte) (int, error) {
	kinds := map[byte]string{kindOK: "ok", kindWant: "want", kindRefused: "refused"}
	if err := w.tr.step("%s", kinds[b[transport.FrameHeaderBytes-1]]); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

func TestSyncBeforeAcknowledge(t *testing.T) {
	a := newStore(t)
	d := put(t, a, []byte("one"))
	b, tr := tracedStore(t)
	push := func() error {
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- Serve(t.Context(), ackWatch{server, tr}, b)
			_ = server.Close()
		}()
		err := Push(t.Context(), client, a, d)
		return errors.Join(err, <-done)
	}
	dir := "sync-dir " + dirOf(d)
	if err := push(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"want", "write", "sync", "rename", dir, "sync-dir blobs", "ok"}; !slices.Equal(tr.steps, want) {
		t.Errorf("steps %v, want %v", tr.steps, want)
	}
	tr.steps = nil
	if err := push(); err != nil {
		t.Fatal(err)
	}
	if want := []string{dir, "ok"}; !slices.Equal(tr.steps, want) {
		t.Errorf("steps with the blob there %v, want %v", tr.steps, want)
	}
	for _, step := range []string{"sync", "rename", "sync-dir"} {
		if err := b.Delete(d); err != nil {
			t.Fatal(err)
		}
		tr.steps, tr.fail = nil, map[string]error{step: errors.New("input/output error")}
		if err := push(); err == nil || slices.Contains(tr.steps, "ok") {
			t.Errorf("%s fails: %v, steps %v", step, err, tr.steps)
		}
	}
}

func TestRefusalsTravel(t *testing.T) {
	ctx := t.Context()
	a, b := newStore(t), newStore(t)
	conn, done := serve(ctx, b)
	var remote *RemoteError
	if err := Fetch(ctx, conn, a, Digest{9}); !errors.Is(err, ErrNotFound) || !errors.As(err, &remote) {
		t.Errorf("Fetch = %v, want the other's ErrNotFound", err)
	}
	if err := <-done; !errors.Is(err, ErrNotFound) {
		t.Errorf("Serve = %v, want ErrNotFound", err)
	}

	d := put(t, a, randomBytes(1<<20))
	full, tr := tracedStore(t)
	tr.fail["write"] = syscall.ENOSPC
	conn, done = serve(ctx, full)
	if err := Push(ctx, conn, a, d); !errors.Is(err, ErrDiskFull) || !errors.As(err, &remote) {
		t.Errorf("Push = %v, want the other's ErrDiskFull", err)
	}
	if err := <-done; !errors.Is(err, ErrDiskFull) || temps(t, full) != 0 {
		t.Errorf("Serve = %v, want ErrDiskFull and nothing left", err)
	}

	f, err := a.root.OpenFile(fileOf(d), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("rot")); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	conn, done = serve(ctx, b)
	if err := Push(ctx, conn, a, d); !errors.As(err, &remote) || !remote.Corrupt() {
		t.Errorf("Push of a damaged blob = %v", err)
	}
	if err := <-done; !isA[*CorruptError](err) || count(t, b) != 0 {
		t.Errorf("Serve = %v, want a CorruptError and no blob", err)
	}
}

func TestServeRefusesNonsense(t *testing.T) {
	frame := func(kind byte, payload []byte) []byte {
		var b bytes.Buffer
		if err := transport.WriteFrame(&b, kind, payload); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var d Digest
	for name, message := range map[string][]byte{
		"unknown":         frame(77, d[:]),
		"short put":       frame(kindPut, d[:]),
		"oversize":        frame(kindPut, binary.BigEndian.AppendUint64(d[:], MaxBlobBytes+1)),
		"negative size":   frame(kindPut, binary.BigEndian.AppendUint64(d[:], 1<<63)),
		"get of nothing":  frame(kindGet, nil),
		"half a question": frame(kindHas, d[:31]),
		"huge frame":      {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, kindHas},
		"changed":         append(frame(kindGet, d[:])[:40], 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			conn, done := serve(t.Context(), s)
			if _, err := conn.Write(message); err != nil {
				t.Fatal(err)
			}
			_, _, err := readAnswer(conn, kindOK, kindWant)
			if !isA[*RemoteError](err) {
				t.Errorf("the answer is %v, want a refusal", err)
			}
			if err := <-done; err == nil {
				t.Error("Serve has no error")
			}
		})
	}
}

// lyingServer reads a request and then does something else.
func lyingServer(t *testing.T, do func(net.Conn)) net.Conn {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		if _, err := readRequest(server); err == nil {
			do(server)
		}
	}()
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestClientsRefuseNonsense(t *testing.T) {
	ctx := t.Context()
	s := newStore(t)
	data := []byte("good bytes")
	d := put(t, newStore(t), data)
	say := func(kind byte, payload []byte, rest ...byte) func(net.Conn) {
		return func(c net.Conn) {
			_ = transport.WriteFrame(c, kind, payload)
			_, _ = c.Write(rest)
		}
	}
	size := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for name, do := range map[string]func(net.Conn){
		"other bytes":    say(kindOK, size(10), []byte("evil bytes")...),
		"too few":        say(kindOK, size(10), []byte("good")...),
		"oversize":       say(kindOK, size(1<<40)),
		"no size":        say(kindOK, nil),
		"wrong kind":     say(kindWant, size(10)),
		"no answer":      func(net.Conn) {},
		"empty refusal":  say(kindRefused, nil),
		"bounded text":   say(kindRefused, append([]byte{0}, strings.Repeat("x", 512)...)),
		"unbounded text": say(kindRefused, make([]byte, 4000)),
	} {
		if err := Fetch(ctx, lyingServer(t, do), s, d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if count(t, s) != 0 || temps(t, s) != 0 {
		t.Error("something remains")
	}
	if _, err := Ask(ctx, lyingServer(t, say(kindOK, []byte{1, 1})), []Digest{d}); err == nil {
		t.Error("too many answers were accepted")
	}
	if err := s.Put(bytes.NewReader(data), d, 10); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(net.Conn){
		"no acknowledgement": say(kindWant, nil),
		"hangs up in the middle": func(c net.Conn) {
			_ = transport.WriteFrame(c, kindWant, nil)
			_, _ = io.CopyN(io.Discard, c, 3)
		},
		"wrong kind": say(kindPut, nil),
	} {
		if err := Push(ctx, lyingServer(t, do), s, d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The tests below wait for deadlines, in fake time.

func TestStallsEnd(t *testing.T) {
	a := newStore(t)
	d := put(t, a, randomBytes(1<<20))
	for name, tt := range map[string]struct {
		call func(ctx context.Context, client, server net.Conn) error
		most time.Duration
	}{
		"a client that says nothing": {func(ctx context.Context, _, server net.Conn) error {
			return Serve(ctx, server, a)
		}, time.Minute + answerLimit},
		"a client that does not read": {func(ctx context.Context, client, server net.Conn) error {
			go func() { _ = transport.WriteFrame(client, kindGet, d[:]) }()
			return Serve(ctx, server, a)
		}, 2 * time.Minute},
		"a server that says nothing": {func(ctx context.Context, client, server net.Conn) error {
			go func() { _, _ = readRequest(server) }()
			return Push(ctx, client, a, d)
		}, time.Minute},
		"a server that stops reading": {func(ctx context.Context, client, server net.Conn) error {
			go func() {
				_, _ = readRequest(server)
				_ = transport.WriteFrame(server, kindWant, nil)
				_, _ = io.CopyN(io.Discard, server, 1000)
			}()
			return Push(ctx, client, a, d)
		}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				began := time.Now()
				if err := tt.call(t.Context(), client, server); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %v, want a deadline", err)
				}
				if took := time.Since(began); took > tt.most {
					t.Errorf("it took %v, want at most %v", took, tt.most)
				}
				_, _ = client.Close(), server.Close()
			})
		})
	}
}

// One byte every ten seconds is never a stall, and would never be an end.
func TestADripEnds(t *testing.T) {
	b := newStore(t)
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		var dripping sync.WaitGroup
		dripping.Go(func() {
			_ = transport.WriteFrame(client, kindPut, binary.BigEndian.AppendUint64(make([]byte, 32), 1<<20))
			_, _, err := readAnswer(client, kindWant)
			for ; err == nil; time.Sleep(10 * time.Second) {
				_, err = client.Write([]byte{0})
			}
		})
		began := time.Now()
		err := Serve(t.Context(), server, b)
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > 5*time.Minute {
			t.Errorf("Serve = %v after %v", err, took)
		}
		_, _ = client.Close(), server.Close()
		dripping.Wait()
	})
}

func TestContextEndsAll(t *testing.T) {
	a := newStore(t)
	d := put(t, a, randomBytes(1<<20))
	why := errors.New("the node stops")
	for name, call := range map[string]func(context.Context, net.Conn) error{
		"serve": func(ctx context.Context, c net.Conn) error { return Serve(ctx, c, a) },
		"push":  func(ctx context.Context, c net.Conn) error { return Push(ctx, c, a, d) },
		"fetch": func(ctx context.Context, c net.Conn) error { return Fetch(ctx, c, a, d) },
		"ask": func(ctx context.Context, c net.Conn) error {
			_, err := Ask(ctx, c, []Digest{d})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				client, server := net.Pipe()
				time.AfterFunc(time.Second, func() { cancel(why) })
				began := time.Now()
				if err := call(ctx, client); !errors.Is(err, why) || time.Since(began) != time.Second {
					t.Errorf("got %v after %v, want %v after 1s", err, time.Since(began), why)
				}
				_, _ = client.Close(), server.Close()
			})
		})
	}
}

func TestContextEndsAPushInTheMiddle(t *testing.T) {
	a := newStore(t)
	d := put(t, a, randomBytes(1<<20))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		client, server := net.Pipe()
		go func() {
			_, _ = readRequest(server)
			_ = transport.WriteFrame(server, kindWant, nil)
		}()
		began := time.Now()
		if err := Push(ctx, client, a, d); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("Push = %v after %v", err, time.Since(began))
		}
		_, _ = client.Close(), server.Close()
	})
}

func FuzzRequest(f *testing.F) {
	var d Digest
	for kind, payload := range map[byte][]byte{
		kindPut: binary.BigEndian.AppendUint64(d[:], 5), kindGet: d[:], kindHas: make([]byte, 64), 9: nil,
	} {
		var b bytes.Buffer
		if err := transport.WriteFrame(&b, kind, payload); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), kind, payload)
	}
	f.Fuzz(func(t *testing.T, raw []byte, kind byte, payload []byte) {
		_, _, _ = readAnswer(bytes.NewReader(raw), kindOK)
		check := func(r io.Reader) {
			req, err := readRequest(r)
			if err != nil {
				return
			}
			if req.size < 0 || req.size > MaxBlobBytes || len(req.digests) > MaxAsk {
				t.Fatalf("%+v was let through", req)
			}
			if req.kind != kindHas && len(req.digests) != 1 {
				t.Fatalf("request %d with %d digests", req.kind, len(req.digests))
			}
		}
		check(bytes.NewReader(raw))
		var b bytes.Buffer
		if err := transport.WriteFrame(&b, kind, payload); err != nil {
			t.Fatal(err)
		}
		check(&b)
	})
}
