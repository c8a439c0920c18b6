package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"seedmesh/jobs"
	"seedmesh/node/api"
	v1 "seedmesh/node/api/meshv1"
	"seedmesh/node/blob"
	"seedmesh/scripts"
)

// How often a node looks at its preloads, and waits after a failure.
const (
	shelfEvery = time.Second
	shelfAgain = 5 * time.Second
)

// shelfFile notes in the data directory what may lie in directories outside of it.
const shelfFile = "preloads.json"

// openShelf makes ready what keeps preloads.
func (n *Node) openShelf() error {
	n.shelf = &shelf{
		dirs: n.cfg.Node.PreloadDirs, source: n.blobOf, roots: map[string]*lockedRoot{}, kept: map[string]*keeping{}, placed: map[string]placed{},
		closed: n.closedToScripts, save: func(all map[string]placed) error { return n.dir.writeJSON(shelfFile, all) },
	}
	n.later(n.shelf.close)
	if err := n.dir.readJSON(shelfFile, &n.shelf.placed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// closedToScripts is the directory, the given one or one above it, that this node's scripts
// may not enter, or empty.
func (n *Node) closedToScripts(dir string) string {
	if n.site.root == nil { // it runs none
		return ""
	}
	return n.site.place(0).Closed(dir)
}

// blobOf opens a blob, which is fetched if need be.
func (n *Node) blobOf(ctx context.Context, d jobs.Digest, holders []jobs.NodeID) (io.ReadCloser, error) {
	spec := &scripts.Spec{}
	for _, h := range holders {
		spec.Holders = append(spec.Holders, h.String())
	}
	if err := n.fetch(ctx, d, n.site.sources(spec)); err != nil {
		return nil, err
	}
	r, _, err := n.store.Open(d)
	return r, err
}

// keepPreloads has the preloads that the ledger wants here complete, and says so.
func (n *Node) keepPreloads(ctx context.Context) {
	again := map[string]time.Time{} // when one that failed is tried again
	for n.tick(ctx, shelfEvery) {
		wanted, me := n.wantedPreloads()
		if me == nil {
			continue
		}
		if err := n.shelf.clearBut(func(name string) bool {
			return slices.ContainsFunc(wanted, func(p *jobs.Preload) bool { return p.Name == name })
		}); err != nil {
			n.cfg.Logger.Warn("a preload that nobody wants stays", "err", err)
		}
		for _, p := range wanted {
			if time.Now().After(again[p.Name]) && !n.keepPreload(ctx, p, me) {
				again[p.Name] = time.Now().Add(shelfAgain)
			}
		}
	}
}

// wantedPreloads copies what the ledger wants of this node, and what it knows of it;
// nil before it knows anything.
func (n *Node) wantedPreloads() (wanted []*jobs.Preload, me *jobs.Node) {
	n.log.View(func(s *jobs.State) {
		m := s.Node(n.id)
		if m == nil {
			return
		}
		known := *m
		me = &known
		for _, p := range s.Preloads() {
			if p.Keeps(m) {
				own := *p
				own.Files, own.Holders, own.Loads = slices.Clone(p.Files), slices.Clone(p.Holders), []jobs.Load{p.Load(m)}
				wanted = append(wanted, &own)
			}
		}
	})
	return wanted, me
}

// keepPreload sees to one preload; ok is false when it is not complete.
func (n *Node) keepPreload(ctx context.Context, p *jobs.Preload, me *jobs.Node) (ok bool) {
	was := p.Loads[0]
	say := func(round uint64, ready bool, text string) {
		l := jobs.Load{Node: n.id, Incarnation: me.Incarnation, Round: round, Ready: ready, Text: bounded(text, jobs.MaxTextBytes)}
		if l != was && me.Alive {
			n.proposeSoon(ctx, &jobs.Report{Name: p.Name, Load: l})
			was = l
		}
	}
	text, err := n.shelf.keep(ctx, p, func() {
		if was.Ready {
			say(was.Round, false, "it is being verified")
		}
	})
	if err != nil {
		if ctx.Err() == nil {
			n.cfg.Logger.Warn("a preload is not complete", "preload", p.Name, "err", err)
			say(p.Round, false, err.Error())
		}
		return false
	}
	say(p.Round, true, text)
	return true
}

// PutPreload adds a preload, whose files this node has.
func (s *service) PutPreload(ctx context.Context, r *connect.Request[v1.PutPreloadRequest]) (*connect.Response[v1.PreloadInfo], error) {
	m := r.Msg
	put := &jobs.PutPreload{Name: m.Name, Path: m.Path, To: m.To}
	holders := map[jobs.NodeID]bool{s.n.id: true}
	for _, f := range m.Files {
		d, err := blob.ParseDigest(f.Digest)
		if err != nil {
			return nil, apiError(invalid("%v", err))
		}
		s.n.pinned.add(d)
		defer s.n.pinned.remove(d)
		if has, err := s.n.store.Has(d); err != nil || !has {
			return nil, apiError(errors.Join(&api.Error{Code: connect.CodeFailedPrecondition, What: "the file " + f.Name + " was not sent to this node", Remedy: "put it again"}, err))
		}
		for _, h := range s.n.replicate(ctx, d, []jobs.NodeID{s.n.id}) {
			holders[h] = true
		}
		put.Files = append(put.Files, jobs.PreloadFile{Name: f.Name, Digest: d, Bytes: f.Bytes, Exec: f.Executable})
	}
	for h := range holders {
		put.Holders = append(put.Holders, h)
	}
	if err := s.giveUpFailed(ctx, put); err != nil {
		return nil, apiError(err)
	}
	slices.SortFunc(put.Holders, func(a, b jobs.NodeID) int { return slices.Compare(a[:], b[:]) })
	put.Holders = put.Holders[:min(len(put.Holders), jobs.MaxHolders)]
	return s.preloadWrite(ctx, m.Name, m.Request, put)
}

// giveUpFailed drops a preload of the same name and other contents that could not be made
// ready anywhere: a put that failed does not keep its name.
func (s *service) giveUpFailed(ctx context.Context, put *jobs.PutPreload) error {
	failed := false
	s.n.log.View(func(st *jobs.State) {
		for _, p := range st.Preloads() {
			if p.Name == put.Name && !(p.Path == put.Path && p.To == put.To && slices.Equal(p.Files, put.Files)) {
				failed = len(p.Loads) > 0 && !slices.ContainsFunc(p.Loads, func(l jobs.Load) bool { return l.Ready || l.Text == "" })
			}
		}
	})
	if !failed {
		return nil
	}
	_, err := s.write(ctx, jobs.Request{Command: &jobs.DropPreload{Name: put.Name}})
	return err
}

// ControlPreload removes a preload, or has every copy of it verified.
func (s *service) ControlPreload(ctx context.Context, r *connect.Request[v1.ControlPreloadRequest]) (*connect.Response[v1.PreloadInfo], error) {
	switch r.Msg.Action {
	case "remove":
		return s.preloadWrite(ctx, r.Msg.Name, r.Msg.Request, &jobs.DropPreload{Name: r.Msg.Name})
	case "verify":
		return s.preloadWrite(ctx, r.Msg.Name, r.Msg.Request, &jobs.CheckPreload{Name: r.Msg.Name})
	}
	return nil, apiError(invalid("%q is nothing to do to a preload", r.Msg.Action))
}

// preloadWrite makes a user's command happen, and answers how the preload stands then.
func (s *service) preloadWrite(ctx context.Context, name string, request []byte, c jobs.Command) (*connect.Response[v1.PreloadInfo], error) {
	id, err := requestOf(request)
	if err != nil {
		return nil, apiError(err)
	}
	index, err := s.control(ctx, jobs.Request{ID: id, Command: c})
	if errors.Is(err, &jobs.Refusal{Code: jobs.NameTaken}) {
		err = &api.Error{Code: connect.CodeAlreadyExists, What: strings.TrimPrefix(err.Error(), "jobs: "), Remedy: "use another name and path, or remove that one: seedmesh preload rm NAME"}
	}
	if err != nil {
		return nil, apiError(err)
	}
	info := &v1.PreloadInfo{Name: name}
	s.n.log.View(func(st *jobs.State) {
		for _, p := range st.Preloads() {
			if p.Name == name {
				info = preloadInfo(st, p)
			}
		}
	})
	info.Index = index
	return connect.NewResponse(info), nil
}

// Preloads lists the preloads, or the one of a name.
func (s *service) Preloads(_ context.Context, r *connect.Request[v1.PreloadsRequest]) (*connect.Response[v1.PreloadsReply], error) {
	reply := &v1.PreloadsReply{}
	s.n.log.View(func(st *jobs.State) {
		for _, p := range st.Preloads() {
			if r.Msg.Name == "" || r.Msg.Name == p.Name {
				reply.Preloads = append(reply.Preloads, preloadInfo(st, p))
			}
		}
	})
	if r.Msg.Name != "" && len(reply.Preloads) == 0 {
		return nil, apiError(&api.Error{Code: connect.CodeNotFound, What: fmt.Sprintf("there is no preload %q", r.Msg.Name), Remedy: "seedmesh preload ls lists them"})
	}
	return connect.NewResponse(reply), nil
}

func preloadInfo(st *jobs.State, p *jobs.Preload) *v1.PreloadInfo {
	info := &v1.PreloadInfo{Name: p.Name, Path: p.Path, To: p.To, Round: p.Round}
	for _, f := range p.Files {
		info.Files = append(info.Files, &v1.PreloadFile{Name: f.Name, Digest: hex.EncodeToString(f.Digest[:]), Bytes: f.Bytes, Executable: f.Exec})
		info.Bytes += f.Bytes
	}
	for _, m := range st.Nodes() {
		if !p.Keeps(m) {
			continue
		}
		l := p.Load(m)
		info.Nodes = append(info.Nodes, &v1.PreloadNode{Node: m.Name, Alive: m.Alive, Ready: l.Ready, Round: l.Round, Text: l.Text})
	}
	slices.SortFunc(info.Nodes, func(a, b *v1.PreloadNode) int { return strings.Compare(a.Node, b.Node) })
	return info
}

// checkPreloadDirs refuses directories that no node may fill.
func (n NodeConfig) checkPreloadDirs() error {
	for _, dir := range n.PreloadDirs {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			return invalidConfig(fmt.Sprintf("node.preload_dirs has %q", dir), `write the clean absolute path of a directory, such as "/dev/shm/seedmesh"`)
		}
	}
	return nil
}
