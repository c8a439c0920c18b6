package main

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"seedmesh/node/api/meshv1"
	"seedmesh/scripts"
)

// preloadServer has one preload, whose copies come to be as a test says.
type preloadServer struct {
	scriptServer
	put   *meshv1.PutPreloadRequest
	asked []*meshv1.ControlPreloadRequest
	looks int
	nodes func(look int) []*meshv1.PreloadNode
}

func (s *preloadServer) info() *meshv1.PreloadInfo {
	return &meshv1.PreloadInfo{Name: "w", Path: "p", To: "all", Round: 2, Nodes: s.nodes(s.looks)}
}

func (s *preloadServer) PutPreload(_ context.Context, r *connect.Request[meshv1.PutPreloadRequest]) (*connect.Response[meshv1.PreloadInfo], error) {
	s.put = r.Msg
	return connect.NewResponse(s.info()), nil
}

func (s *preloadServer) ControlPreload(_ context.Context, r *connect.Request[meshv1.ControlPreloadRequest]) (*connect.Response[meshv1.PreloadInfo], error) {
	s.asked = append(s.asked, r.Msg)
	return connect.NewResponse(s.info()), nil
}

func (s *preloadServer) Preloads(context.Context, *connect.Request[meshv1.PreloadsRequest]) (*connect.Response[meshv1.PreloadsReply], error) {
	s.looks++
	return connect.NewResponse(&meshv1.PreloadsReply{Preloads: []*meshv1.PreloadInfo{s.info()}}), nil
}

func TestPreloadVerbs(t *testing.T) {
	said := func(node string, alive, ready bool, round uint64, text string) *meshv1.PreloadNode {
		return &meshv1.PreloadNode{Node: node, Alive: alive, Ready: ready, Round: round, Text: text}
	}
	for name, tt := range map[string]struct {
		args  string
		nodes func(look int) []*meshv1.PreloadNode
		code  int
		out   string
		looks int
	}{
		"ready at last": {"put w b a --to all --path p/", func(look int) []*meshv1.PreloadNode {
			return []*meshv1.PreloadNode{said("n1", true, look == 2, 2*min(uint64(look)/2, 1), ""), said("n2", false, false, 0, "")}
		}, 0, "n1    ready", 2},
		"one cannot": {"put w b a --to all --path p", func(int) []*meshv1.PreloadNode {
			return []*meshv1.PreloadNode{said("n1", true, false, 2, "no room")}
		}, exitFailure, "no room", 0},
		"ready, but not verified": {"verify w --timeout 1ms", func(int) []*meshv1.PreloadNode {
			return []*meshv1.PreloadNode{said("n1", true, true, 1, "")}
		}, exitTimeout, "ready", 1},
		"not waited for": {"verify w --timeout 0", func(int) []*meshv1.PreloadNode { return []*meshv1.PreloadNode{said("n1", true, true, 1, "")} }, 0, "ready", 0},
		"for nobody":     {"put w a --to n9 --path p", func(int) []*meshv1.PreloadNode { return nil }, exitNotFound, "no node is all", 0},
		"list":           {"ls --json", func(int) []*meshv1.PreloadNode { return nil }, 0, `"name":"w"`, 1},
		"gone":           {"rm w", func(int) []*meshv1.PreloadNode { return nil }, 0, "w removed\n", 0},
		"no path":        {"put w a --to all", nil, exitUsage, "", 0},
		"no files":       {"put w --to all --path p", nil, exitUsage, "", 0},
		"no such file":   {"put w nothing --to all --path p", nil, exitUsage, "", 0},
		"a name twice":   {"put w a sub/a --to all --path p", nil, exitUsage, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			files(t, "a", "b", "sub/a")
			s := &preloadServer{scriptServer: scriptServer{blobs: map[string][]byte{}}, nodes: tt.nodes}
			r := runWith(t.Context(), t, serveFake(t, s), "", append([]string{"preload"}, strings.Fields(tt.args)...)...)
			if r.code != tt.code || !strings.Contains(r.stdout, tt.out) || s.looks != tt.looks {
				t.Errorf("got %+v after %d looks", r, s.looks)
			}
			if strings.HasPrefix(tt.args, "put w b a") && (s.put.Path != "p" || len(s.put.Files) != 2 || s.put.Files[0].Name != "a" || len(s.blobs) == 0) {
				t.Errorf("put %v, sent %d blobs", s.put, len(s.blobs))
			}
			for _, q := range s.asked {
				if q.Action != map[byte]string{'v': "verify", 'r': "remove"}[tt.args[0]] || len(q.Request) != 16 {
					t.Errorf("asked for %v", q)
				}
			}
		})
	}
}

// TestRequirePreload names each preload once, in order.
func TestRequirePreload(t *testing.T) {
	files(t)
	_, spec, r := submitted(t, "exec", "--require-preload", "b", "--require-preload", "a", "--require-preload", "b", "--", "true")
	if r.code != 0 || strings.Join(spec.Preloads, " ") != "a b" {
		t.Errorf("got %+v, %+v", r, spec)
	}
	if err := (&scripts.Spec{Template: &scripts.Task{Argv: []string{"x"}}, Preloads: []string{"b", "a"}}).Validate(); err == nil {
		t.Error("preloads out of order are taken")
	}
}
