package jobs

import (
	"bytes"
	"fmt"
	"slices"
)

func (c *Admit) apply(s *State) Outcome {
	if n := s.nodes[c.Node]; n != nil {
		return c.again(s, n)
	}
	role, t := c.Role, s.tokens[c.Token]
	switch {
	case c.Name == "" || len(c.Name) > MaxNameBytes:
		return refuse(Invalid, "a node needs a name of 1 to %d bytes", MaxNameBytes)
	case len(s.nodes) == 0: // the first member is admitted by whoever made the cluster
	case t == nil:
		return refuse(UnknownToken, "this mesh does not know the token")
	case c.WallMS >= t.ExpiresMS:
		return refuse(TokenExpired, "the token has expired")
	case len(t.Spent) >= int(t.Uses):
		return refuse(TokenSpent, "all %d uses of the token are spent", t.Uses)
	case len(s.nodes) >= MaxNodes:
		return refuse(Limit, "a mesh has at most %d nodes", MaxNodes)
	default:
		role = t.Role
	}
	if same := s.named(c.Name); same != nil {
		if same.Alive {
			return refuse(NameTaken, "the name %q belongs to a living node, %s", c.Name, same.ID)
		}
		s.change(same, func() { same.Name = fmt.Sprintf("%.100s~%s", same.Name, same.ID.String()[:8]) })
	}
	n := &Node{ID: c.Node, Name: c.Name, Role: role, Since: s.now}
	s.nodes[n.ID] = n
	s.in(n)
	if t != nil {
		s.change(t, func() { t.Spent = append(t.Spent, c.Node) })
	}
	return Outcome{Name: n.Name, Role: n.Role}
}

// again answers a request that came twice. Ids and names are no secrets: only
// the token that made the node a member, while it is known, proves that it is
// the same request. The first member came without one, and so does its second
// request; no joiner's token has the hash zero.
func (c *Admit) again(s *State, n *Node) Outcome {
	t := s.tokens[c.Token]
	first := c.Token == (Digest{})
	switch {
	case !first && (t == nil || !slices.Contains(t.Spent, n.ID)):
		return refuse(UnknownToken, "this mesh does not know the token")
	case n.Name != c.Name:
		return refuse(AlreadyKnown, "node %s is a member already, under the name %q", c.Node, n.Name)
	}
	return Outcome{Name: n.Name, Role: n.Role}
}

func (s *State) named(name string) *Node {
	for _, id := range sortedKeys(s.nodes, compareNodes) {
		if s.nodes[id].Name == name {
			return s.nodes[id]
		}
	}
	return nil
}

func (c *Mint) apply(s *State) Outcome {
	t := c.Token
	switch {
	case t.Uses == 0 || t.Uses > MaxNodes:
		return refuse(Limit, "a token has 1 to %d uses, not %d", MaxNodes, t.Uses)
	case t.Role != Voter && t.Role != Worker && t.Role != Client:
		return refuse(Invalid, "%d is not a role", t.Role)
	case len(s.tokens) >= MaxTokens:
		return refuse(Limit, "%d tokens exist already: revoke some", MaxTokens)
	case s.tokens[t.Hash] != nil || len(t.Spent) > 0:
		return refuse(Invalid, "the token exists already")
	}
	s.tokens[t.Hash] = &t
	s.in(&t)
	return Outcome{}
}

func (c *Revoke) apply(s *State) Outcome {
	t := s.tokens[c.Hash]
	if t == nil {
		return refuse(UnknownToken, "this mesh does not know the token")
	}
	s.out(t)
	delete(s.tokens, c.Hash)
	return Outcome{}
}

func (c *Forget) apply(s *State) Outcome {
	n := s.nodes[c.Node]
	if n == nil {
		return refuse(UnknownNode, "there is no node %s", c.Node)
	}
	if len(s.nodes) == 1 {
		return refuse(Limit, "node %s is the last member of its mesh", n.Name)
	}
	s.endClaims(n)
	s.fleet.leave(n)
	for _, j := range s.jobsBySeq() {
		for stage := range j.Stages {
			for i := len(j.Stages[stage].Done) - 1; i >= 0; i-- { // from behind: pieces may go
				s.unhold(j, uint32(stage), i, c.Node)
			}
		}
	}
	s.forgetLoads(n.ID)
	for i, sl := range n.Slots {
		s.out(&slotRecord{SlotID{n.ID, uint32(i)}, sl})
	}
	s.out(n)
	delete(s.nodes, n.ID)
	return Outcome{Name: n.Name}
}

// Tokens lists the tokens by hash.
func (s *State) Tokens() []Token {
	var all []Token
	for _, h := range sortedKeys(s.tokens, func(a, b Digest) int { return bytes.Compare(a[:], b[:]) }) {
		t := *s.tokens[h]
		t.Spent = slices.Clone(t.Spent)
		all = append(all, t)
	}
	return all
}
