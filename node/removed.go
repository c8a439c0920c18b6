package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"seedmesh/transport"
)

// A RemovedError says that the members of the mesh take this node for one of theirs no more.
type RemovedError struct{ Node, Cluster string }

func (e *RemovedError) Error() string {
	return fmt.Sprintf("node %s was removed from its mesh, %s; the members that answer refuse it", e.Node, e.Cluster)
}

// Remedy says what to do about it.
func (e *RemovedError) Remedy() string {
	return "to take this machine in again, make a token on a member with seedmesh token create, and join with another data directory: seedmesh join TOKEN@HOST:PORT --data DIR; the mesh holds all that was acknowledged"
}

const (
	askedAtOnce = 16              // members that are asked whether they take this node
	askTimeout  = 2 * time.Second // for all their answers
)

// judgeRefusals stops the node when no leader has answered it, and every member that
// answers has refused it, in two rounds that follow each other. It gives what to say of this round
// in the next one. A member refuses a node that its ledger does not have, and only while
// a leader answers it.
func (n *Node) judgeRefusals(ctx context.Context, before bool) (refused bool) {
	if n.session.alone() < rejoinEvery || !n.refusedByAll(ctx) {
		return false
	}
	if before {
		n.fatal(&RemovedError{n.dir.Name, n.dir.Cluster})
	}
	return true
}

// refusedByAll asks some members, and tells whether any answers and all that do refuse this node.
func (n *Node) refusedByAll(ctx context.Context) bool {
	book := n.book.others(n.id.String())
	rand.Shuffle(len(book), func(i, k int) { book[i], book[k] = book[k], book[i] })
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var (
		dials             sync.WaitGroup
		mu                sync.Mutex // guards what follows
		refused, accepted bool
	)
	for _, a := range book[:min(len(book), askedAtOnce)] {
		dials.Go(func() {
			err := n.ep.Ping(ctx, transport.Peer{ID: a.Node, Addr: a.Addr})
			mu.Lock()
			defer mu.Unlock()
			refused, accepted = refused || errors.Is(err, transport.ErrRefused), accepted || err == nil
		})
	}
	dials.Wait()
	return refused && !accepted
}
