package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"seedmesh/jobs"
)

// addressBook remembers on disk where members were last seen, so that after all
// nodes have stopped they find each other again in any order.
type addressBook struct {
	mu    sync.Mutex // guards entries
	known []address
}

func (b *addressBook) load(d *dataDir) error {
	known, err := d.addresses()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known = known
	return nil
}

// learn notes an address, on disk when it is new.
func (b *addressBook) learn(d *dataDir, a address) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.known, func(o address) bool { return o.Node == a.Node })
	switch {
	case i >= 0 && b.known[i].Addr == a.Addr:
		return nil
	case i >= 0:
		b.known[i].Addr = a.Addr
	case len(b.known) >= jobs.MaxNodes:
		return nil
	default:
		b.known = append(b.known, a)
	}
	return d.writeJSON(addressFile, b.known)
}

func (b *addressBook) find(id string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.known, func(o address) bool { return o.Node == id })
	if i < 0 {
		return "", false
	}
	return b.known[i].Addr, true
}

// others copies the book without one node.
func (b *addressBook) others(self string) []address {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.known), func(a address) bool { return a.Node == self })
}

// resolve finds where a member is reached: where gossip sees it, else where it
// was last seen, else where it said it would listen.
func (n *Node) resolve(id string) (addr string, known bool) {
	if n.gossip != nil {
		if addr, known = n.gossip.addr(id); known {
			return addr, true
		}
	}
	if addr, known = n.book.find(id); known {
		return addr, true
	}
	node, err := jobs.ParseNodeID(id)
	if err != nil {
		return "", false
	}
	n.log.View(func(s *jobs.State) {
		if m := s.Node(node); m != nil && m.Addr != "" {
			addr, known = m.Addr, true
		}
	})
	return addr, known
}

// remove deletes a file of the data directory, if it is there.
func (d *dataDir) remove(name string) error {
	if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(d.path)
}

// pins are blobs that are about to be named in the ledger and must not be swept.
type pins struct {
	mu   sync.Mutex // guards held
	held map[jobs.Digest]int
}

func (p *pins) add(d jobs.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[d]++
}

func (p *pins) remove(d jobs.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[d]--; p.held[d] == 0 {
		delete(p.held, d)
	}
}

func (p *pins) has(d jobs.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[d] > 0
}
