package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// whoami answers with the peer's identity and the request's body.
func whoami(w http.ResponseWriter, r *http.Request) {
	peer, ok := PeerFrom(r.Context())
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %v %s %v", r.Method, peer.ID, peer.Role, ok, body, err)
}

func get(t *testing.T, c *http.Client) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, 10*time.Second), http.MethodGet, "https://mesh/who", nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(c, req)
}

func do(c *http.Client, req *http.Request) (string, error) {
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func serveWho(t *testing.T, e *Endpoint) {
	t.Helper()
	if err := e.ServeHTTP3(http.HandlerFunc(whoami)); err != nil {
		t.Fatal(err)
	}
}

func TestHTTP3(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		go func() { // requests that come before the handler wait for it
			time.Sleep(time.Second)
			serveWho(t, b)
		}()
		client := a.HTTPClient(peer(2))
		want := "GET " + nodeID(1) + " voter true  <nil>"
		for range 3 {
			if got, err := get(t, client); got != want || err != nil {
				t.Fatalf("GET = %q, %v; want %q", got, err, want)
			}
		}
		req, _ := http.NewRequestWithContext(within(t, time.Second), http.MethodPost, "https://mesh/", strings.NewReader("apples"))
		want = "POST " + nodeID(1) + " voter true apples <nil>"
		if got, err := do(client, req); got != want || err != nil {
			t.Errorf("POST = %q, %v; want %q", got, err, want)
		}
		if s := a.Stats(); s.Dials != 1 || s.Connections != 1 {
			t.Errorf("Stats = %+v, want one shared connection", s)
		}
		if err := b.ServeHTTP3(http.NotFoundHandler()); err == nil {
			t.Error("a second ServeHTTP3 = nil, want an error")
		}
		if err := m.open(3, func(c *Config) { c.Kinds = nil }).ServeHTTP3(http.NotFoundHandler()); err == nil {
			t.Error("ServeHTTP3 without the kind = nil, want an error")
		}
		if _, ok := PeerFrom(context.Background()); ok {
			t.Error("PeerFrom of any context finds a peer")
		}
	})
}

func TestHTTP3Errors(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		serveWho(t, b)
		m.open(3, func(c *Config) { c.Kinds = nil })
		for name, tt := range map[string]struct {
			to   Peer
			want error
		}{
			"wrong id":     {Peer{ID: nodeID(7), Addr: addr(2)}, ErrWrongPeer},
			"nobody":       {peer(9), ErrUnreachable},
			"no h3 there":  {peer(3), ErrKind},
			"as it should": {peer(2), nil},
		} {
			if _, err := get(t, a.HTTPClient(tt.to)); !errors.Is(err, tt.want) {
				t.Errorf("%s: GET = %v, want %v", name, err, tt.want)
			}
		}
	})
}

func TestHTTP3Forget(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		var ended atomic.Int32
		err := b.ServeHTTP3(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("first "))
			w.(http.Flusher).Flush()
			<-r.Context().Done() // a handler must end with its connection
			ended.Add(1)
		}))
		if err != nil {
			t.Fatal(err)
		}
		client := a.HTTPClient(peer(2))
		resp, err := client.Get("https://mesh/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		time.AfterFunc(3*DefaultUnusedTimeout, func() { a.Forget(nodeID(2)) }) // a stream in use is not "unused"
		start := time.Now()
		got, err := io.ReadAll(resp.Body)
		if string(got) != "first " || !(errors.Is(err, ErrLost) || errors.Is(err, ErrReset)) {
			t.Errorf("body = %q, %v; want the first part and a lost connection", got, err)
		}
		if took := time.Since(start); took != 3*DefaultUnusedTimeout {
			t.Errorf("the body ended after %v, want %v, with Forget", took, 3*DefaultUnusedTimeout)
		}
		time.Sleep(time.Second)
		if ended.Load() != 1 {
			t.Error("the handler still runs")
		}
	})
}

func TestHTTP3AfterRestart(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.open(1)
		id := identity(t, m.ca, nodeID(2), time.Hour)
		as := func(c *Config) { c.Identity = id }
		b := m.open(2, as)
		serveWho(t, b)
		client := a.HTTPClient(peer(2))
		if _, err := get(t, client); err != nil {
			t.Fatal(err)
		}
		m.crash(2, b)
		b = m.open(2, as)
		serveWho(t, b)
		if _, err := get(t, client); err != nil {
			t.Errorf("GET after a restart = %v, want a second attempt", err)
		}
		m.crash(2, b)
		serveWho(t, m.open(2, as))
		post := func() error {
			req, _ := http.NewRequestWithContext(within(t, 10*time.Second), http.MethodPost, "https://mesh/", strings.NewReader("once"))
			_, err := do(client, req)
			return err
		}
		wantErr(t, "POST after a restart, which may have had its effect", post(), ErrLost)
		wantErr(t, "the next POST", post(), nil)
	})
}

func TestHTTP3UnusedConnectionIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a, b := m.open(1), m.open(2)
		serveWho(t, b)
		if _, err := get(t, a.HTTPClient(peer(2))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * DefaultUnusedTimeout)
		if a.Stats().Connections != 0 || b.Stats().Accepted != 0 {
			t.Errorf("connections = %d, %d; want none", a.Stats().Connections, b.Stats().Accepted)
		}
	})
}
