package jobs

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Limits of preloads.
const (
	MaxPreloads      = 128  // preloads that exist at once
	MaxPreloadFiles  = 1024 // files of one
	MaxFileNameBytes = 255  // bytes of a file's name
	MaxPathBytes     = 512  // bytes of a preload's directory
	MaxRequired      = 16   // preloads that one job requires
)

// A Preload is files that chosen nodes keep in a directory, on a RAM disk most of
// all: each node copies, verifies and restores its own, and says here how it stands.
type Preload struct {
	Name    string
	Path    string // of the directory: absolute, or below the first that a node allows
	To      string // who keeps it: see [Node.Is]
	Files   []PreloadFile
	Holders []NodeID // nodes that had the files when it was put, in rising order
	Round   uint64   // how often all nodes were asked to verify theirs, from 1
	Loads   []Load   // by node
}

// A PreloadFile is one file of a preload. Its bytes are a blob.
type PreloadFile struct {
	Name   string
	Digest Digest
	Bytes  uint64
	Exec   bool
}

// A Load is how a preload stands on a node. It counts as long as the node's
// incarnation is the present one: what is in a RAM disk ends with the machine.
type Load struct {
	Node        NodeID
	Incarnation uint64
	Round       uint64 // of the last full verification
	Ready       bool   // every file is there with its digest, and the marker beside them
	Text        string // why it is not, or what had to be mended
}

// Is tells whether a node is one of those that a word names: "all", the node's
// name, or a word of the label of one of its slots, such as vendor:amd. Words with
// commas between name all nodes that any of them names.
func (n *Node) Is(to string) bool {
	for word := range strings.SplitSeq(to, ",") {
		if word == "all" || word == n.Name {
			return true
		}
		for _, sl := range n.Slots {
			for label := range strings.SplitSeq(sl.Label, ",") {
				if word != "" && word == label {
					return true
				}
			}
		}
	}
	return false
}

// Keeps tells whether a node is to have the preload.
func (p *Preload) Keeps(n *Node) bool { return n.Role != Client && n.Is(p.To) }

// Load is how the preload stands on a living node in its present incarnation; the
// zero Load before the node has said it.
func (p *Preload) Load(n *Node) Load {
	i, found := p.at(n.ID)
	if !found || !n.Alive || p.Loads[i].Incarnation != n.Incarnation {
		return Load{}
	}
	return p.Loads[i]
}

func (p *Preload) at(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(p.Loads, id, func(l Load, id NodeID) int { return compareNodes(l.Node, id) })
}

// PutPreload adds a preload. An equal one that is there already stays as it is.
type PutPreload struct {
	Name    string
	Path    string
	To      string
	Files   []PreloadFile
	Holders []NodeID
}

// DropPreload forgets a preload; the nodes remove its files.
type DropPreload struct{ Name string }

// CheckPreload asks all nodes to verify every byte of their copies.
type CheckPreload struct{ Name string }

// Report says how a preload stands on a node.
type Report struct {
	Name string
	Load Load
}

// SubmitRequiring adds a script job whose tasks run only on nodes on which all of
// its preloads are ready.
type SubmitRequiring struct {
	SubmitTasks
	Preloads []string
}

func (*PutPreload) number() uint8      { return 21 }
func (*DropPreload) number() uint8     { return 22 }
func (*CheckPreload) number() uint8    { return 23 }
func (*Report) number() uint8          { return 24 }
func (*SubmitRequiring) number() uint8 { return 25 }

// Actor of all but [Report] is nobody: users send them through any node.
func (*PutPreload) Actor() NodeID   { return NodeID{} }
func (*DropPreload) Actor() NodeID  { return NodeID{} }
func (*CheckPreload) Actor() NodeID { return NodeID{} }
func (c *Report) Actor() NodeID     { return c.Load.Node }

func (c *PutPreload) fields(x *coder) {
	x.str(&c.Name, MaxNameBytes)
	x.str(&c.Path, MaxPathBytes)
	x.str(&c.To, MaxTextBytes)
	preloadFiles(x, &c.Files)
	list(x, &c.Holders, MaxHolders, x.node)
}

func preloadFiles(x *coder, files *[]PreloadFile) {
	list(x, files, MaxPreloadFiles, func(f *PreloadFile) {
		x.str(&f.Name, MaxFileNameBytes)
		x.fixed(f.Digest[:])
		x.u64(&f.Bytes)
		x.flag(&f.Exec)
	})
}

func (c *DropPreload) fields(x *coder)  { x.str(&c.Name, MaxNameBytes) }
func (c *CheckPreload) fields(x *coder) { x.str(&c.Name, MaxNameBytes) }

func (c *Report) fields(x *coder) {
	x.str(&c.Name, MaxNameBytes)
	c.Load.fields(x)
}

func (l *Load) fields(x *coder) {
	x.node(&l.Node)
	x.u64(&l.Incarnation)
	x.u64(&l.Round)
	x.flag(&l.Ready)
	x.str(&l.Text, MaxTextBytes)
}

func (c *SubmitRequiring) fields(x *coder) {
	c.SubmitTasks.fields(x)
	list(x, &c.Preloads, MaxRequired, func(name *string) { x.str(name, MaxNameBytes) })
}

// The records of preloads: what was put, how it stands on a node, and which ones a
// job requires.
type (
	preloadRecord struct{ *Preload }
	loadRecord    struct {
		name string
		Load
	}
	requireRecord struct {
		job   JobID
		names []string
	}
)

func (r *preloadRecord) fields(x *coder) {
	p := r.Preload
	put := PutPreload{p.Name, p.Path, p.To, p.Files, p.Holders}
	put.fields(x)
	p.Name, p.Path, p.To, p.Files, p.Holders = put.Name, put.Path, put.To, put.Files, put.Holders
	x.u64(&p.Round)
}

func (r *loadRecord) fields(x *coder) {
	x.str(&r.name, MaxNameBytes)
	r.Load.fields(x)
}

func (r *requireRecord) fields(x *coder) {
	x.job(&r.job)
	list(x, &r.names, MaxRequired, func(name *string) { x.str(name, MaxNameBytes) })
}

func (c *PutPreload) apply(s *State) Outcome {
	if refused := c.check(); refused.Refusal != nil {
		return refused
	}
	if p := s.preloads[c.Name]; p != nil {
		if p.Path != c.Path || p.To != c.To || !slices.Equal(p.Files, c.Files) {
			return refuse(NameTaken, "there is another preload %q", c.Name)
		}
		return Outcome{Name: c.Name}
	}
	if len(s.preloads) >= MaxPreloads {
		return refuse(Limit, "%d preloads exist already", MaxPreloads)
	}
	for _, name := range slices.Sorted(maps.Keys(s.preloads)) {
		if s.preloads[name].Path == c.Path {
			return refuse(NameTaken, "the directory %s belongs to the preload %q", c.Path, name)
		}
	}
	p := &Preload{Name: c.Name, Path: c.Path, To: c.To, Files: slices.Clone(c.Files), Holders: slices.Clone(c.Holders), Round: 1}
	s.preloads[p.Name] = p
	s.in(&preloadRecord{p})
	return Outcome{Name: c.Name}
}

// check refuses what no node could keep.
func (c *PutPreload) check() Outcome {
	switch {
	case c.Name == "" || len(c.Name) > MaxNameBytes || strings.ContainsAny(c.Name, "/,: \n\x00"):
		return refuse(Invalid, "%.60q is no name for a preload", c.Name)
	case len(c.Path) > MaxPathBytes || !cleanPath(c.Path):
		return refuse(Invalid, "%.80q is no clean path of a directory", c.Path)
	case c.To == "" || len(c.To) > MaxTextBytes:
		return refuse(Invalid, "a preload is for some nodes, or for all")
	case len(c.Files) == 0 || len(c.Files) > MaxPreloadFiles:
		return refuse(Limit, "a preload has 1 to %d files, not %d", MaxPreloadFiles, len(c.Files))
	case !slices.IsSortedFunc(c.Holders, compareNodes) || len(c.Holders) > MaxHolders:
		return refuse(Invalid, "the holders are out of order, or more than %d", MaxHolders)
	}
	for i, f := range c.Files {
		if f.Name == "" || len(f.Name) > MaxFileNameBytes || strings.HasPrefix(f.Name, ".") || strings.ContainsAny(f.Name, "/\n\x00") {
			return refuse(Invalid, "%.60q is no name for a file of a preload", f.Name)
		}
		if i > 0 && c.Files[i-1].Name >= f.Name {
			return refuse(Invalid, "the files are out of order, or one is there twice")
		}
	}
	return Outcome{}
}

// cleanPath tells whether a path of a directory has no empty elements, and none
// that are dots.
func cleanPath(p string) bool {
	for element := range strings.SplitSeq(strings.TrimPrefix(p, "/"), "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	return !strings.ContainsAny(p, "\n\x00")
}

func (c *DropPreload) apply(s *State) Outcome {
	p := s.preloads[c.Name]
	if p == nil {
		return refuse(UnknownPreload, "there is no preload %q", c.Name)
	}
	for _, l := range p.Loads {
		s.out(&loadRecord{p.Name, l})
	}
	s.out(&preloadRecord{p})
	delete(s.preloads, c.Name)
	return Outcome{Name: c.Name}
}

func (c *CheckPreload) apply(s *State) Outcome {
	p := s.preloads[c.Name]
	if p == nil {
		return refuse(UnknownPreload, "there is no preload %q", c.Name)
	}
	s.change(&preloadRecord{p}, func() { p.Round++ })
	return Outcome{Name: c.Name}
}

func (c *Report) apply(s *State) Outcome {
	p, n := s.preloads[c.Name], s.nodes[c.Load.Node]
	switch {
	case p == nil:
		return refuse(UnknownPreload, "there is no preload %q", c.Name)
	case n == nil:
		return refuse(UnknownNode, "there is no node %s", c.Load.Node)
	case !n.Alive || n.Incarnation != c.Load.Incarnation:
		return refuse(StaleIncarnation, "incarnation %d of node %s is not current", c.Load.Incarnation, n.Name)
	case c.Load.Round > p.Round || len(c.Load.Text) > MaxTextBytes:
		return refuse(Invalid, "round %d of the preload %q has not been asked for, or the text is too long", c.Load.Round, c.Name)
	}
	i, known := p.at(n.ID)
	if !known {
		p.Loads = slices.Insert(p.Loads, i, c.Load)
	} else {
		s.out(&loadRecord{p.Name, p.Loads[i]})
		p.Loads[i] = c.Load
	}
	s.in(&loadRecord{p.Name, p.Loads[i]})
	return Outcome{Name: c.Name}
}

// forgetLoads drops what a member that is gone has said.
func (s *State) forgetLoads(id NodeID) {
	for _, name := range slices.Sorted(maps.Keys(s.preloads)) {
		p := s.preloads[name]
		if i, found := p.at(id); found {
			s.out(&loadRecord{name, p.Loads[i]})
			p.Loads = slices.Delete(p.Loads, i, i+1)
		}
	}
}

func (c *SubmitRequiring) apply(s *State) Outcome {
	if len(c.Preloads) == 0 || len(c.Preloads) > MaxRequired || !slices.IsSorted(c.Preloads) {
		return refuse(Invalid, "a job requires 1 to %d preloads, in order", MaxRequired)
	}
	if known := s.keys[c.Key]; known == nil || c.Key == "" {
		for _, name := range c.Preloads {
			if s.preloads[name] == nil {
				return refuse(UnknownPreload, "there is no preload %q", name)
			}
		}
	}
	o := c.SubmitTasks.apply(s)
	if o.Refusal == nil && o.Job == c.ID && s.required[c.ID] == nil {
		s.required[c.ID] = slices.Clone(c.Preloads)
		s.in(&requireRecord{c.ID, s.required[c.ID]})
	}
	return o
}

// forgetRequired drops what a job that is removed has required.
func (s *State) forgetRequired(id JobID) {
	if names := s.required[id]; names != nil {
		s.out(&requireRecord{id, names})
		delete(s.required, id)
	}
}

// Supplied tells whether everything that a job requires is ready on a node.
func (s *State) Supplied(j *Job, n *Node) bool {
	for _, name := range s.required[j.ID] {
		p := s.preloads[name]
		if p == nil || !p.Keeps(n) || !p.Load(n).Ready {
			return false
		}
	}
	return true
}

// Required lists the preloads that a job requires.
func (s *State) Required(id JobID) []string { return slices.Clone(s.required[id]) }

// Preloads lists the preloads by name.
func (s *State) Preloads() []*Preload {
	all := make([]*Preload, 0, len(s.preloads))
	for _, name := range slices.Sorted(maps.Keys(s.preloads)) {
		all = append(all, s.preloads[name])
	}
	return all
}

// preloadFields are the end of a snapshot, which is left out when there is nothing
// to say: so it is that of programs which know no preloads.
func (s *State) preloadFields(x *coder) {
	if x.decoding && (x.err != nil || len(x.buf) == 0) || !x.decoding && len(s.preloads)+len(s.required) == 0 {
		return
	}
	eachOf(x, s.Preloads(), func(p *Preload) {
		p = orNew(p)
		(&preloadRecord{p}).fields(x)
		list(x, &p.Loads, MaxNodes, func(l *Load) { l.fields(x) })
		if !x.decoding || x.err != nil {
			return
		}
		s.preloads[p.Name] = p
		s.in(&preloadRecord{p})
		for _, l := range p.Loads {
			s.in(&loadRecord{p.Name, l})
		}
	})
	eachOf(x, sortedKeys(s.required, cmp.Compare[JobID]), func(id JobID) {
		r := requireRecord{id, s.required[id]}
		r.fields(x)
		if !x.decoding || x.err != nil {
			return
		}
		if s.jobs[r.job] == nil || len(r.names) == 0 {
			x.fail(errCorrupt)
			return
		}
		s.required[r.job] = r.names
		s.in(&r)
	})
	if x.decoding && x.err == nil && !s.sortedLoads() {
		x.fail(errCorrupt)
	}
}

// sortedLoads tells whether what nodes have said is in order, and of members.
func (s *State) sortedLoads() bool {
	for _, p := range s.preloads {
		for i, l := range p.Loads {
			if s.nodes[l.Node] == nil || i > 0 && bytes.Compare(p.Loads[i-1].Node[:], l.Node[:]) >= 0 {
				return false
			}
		}
	}
	return true
}
