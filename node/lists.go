package node

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"seedmesh/jobs"
	"seedmesh/scripts"
)

// openLists bounds the lists of tasks that a node keeps open between requests.
const openLists = 8

// lists are the lists of tasks that were read here last. Each was verified once,
// when it was opened.
type lists struct {
	mu   sync.Mutex // guards what follows
	open []*openList
}

// openList is one of them. It is closed when it is neither kept nor used.
type openList struct {
	*scripts.List
	digest jobs.Digest
	file   io.Closer
	users  int // that read it now
	kept   bool
}

// use gives a job's list of tasks, and what is called when it is not read any more.
func (l *lists) use(ctx context.Context, n *Node, spec *scripts.Spec) (*scripts.List, func() error, error) {
	d := jobs.Digest(spec.List.Digest)
	if o := l.find(d); o != nil {
		return o.List, func() error { return l.leave(o) }, nil
	}
	if err := n.fetch(ctx, d, n.site.sources(spec)); err != nil {
		return nil, nil, err
	}
	f, _, err := n.store.Open(d)
	if err != nil {
		return nil, nil, err
	}
	list, err := scripts.OpenList(f.(io.ReaderAt))
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	o := &openList{List: list, digest: d, file: f, users: 1, kept: true}
	return list, func() error { return l.leave(o) }, l.keep(o)
}

func (l *lists) find(d jobs.Digest) *openList {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.open, func(o *openList) bool { return o.digest == d })
	if i < 0 {
		return nil
	}
	o := l.open[i]
	o.users++
	l.open = append(slices.Delete(l.open, i, i+1), o) // the last used is the last
	return o
}

// keep adds a list, and gives up the one that was not used for longest.
func (l *lists) keep(o *openList) error {
	l.mu.Lock()
	l.open = append(l.open, o)
	var old *openList
	if len(l.open) > openLists {
		old = l.open[0]
		l.open = slices.Delete(l.open, 0, 1)
		old.kept = false
		old.users++ // this one
	}
	l.mu.Unlock()
	if old == nil {
		return nil
	}
	return l.leave(old)
}

func (l *lists) leave(o *openList) error {
	l.mu.Lock()
	o.users--
	last := o.users == 0 && !o.kept
	l.mu.Unlock()
	if last {
		return o.file.Close()
	}
	return nil
}

// close gives all up.
func (l *lists) close() (err error) {
	l.mu.Lock()
	all := l.open
	l.open = nil
	for _, o := range all {
		o.kept = false
		o.users++
	}
	l.mu.Unlock()
	for _, o := range all {
		err = errors.Join(err, l.leave(o))
	}
	return err
}
