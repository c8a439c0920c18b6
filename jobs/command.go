package jobs

import "fmt"

// A Command is one change of the ledger. Commands are decided by the state
// alone: each either happens whole or is refused and changes nothing.
type Command interface {
	number() uint8
	fields(x *coder)
	apply(s *State) Outcome
	// Actor is the node that alone may send the command, or the zero NodeID
	// when any node may pass it on for a user.
	Actor() NodeID
}

// vocabulary maps the numbers in the log to commands. A number is never reused;
// a test pins them.
var vocabulary = [...]func() Command{
	1:  func() Command { return new(Submit) },
	2:  func() Command { return new(Control) },
	3:  func() Command { return new(Hello) },
	4:  func() Command { return new(Expire) },
	5:  func() Command { return new(Take) },
	6:  func() Command { return new(Finish) },
	7:  func() Command { return new(Fail) },
	8:  func() Command { return new(Release) },
	9:  func() Command { return new(Trim) },
	10: func() Command { return new(Fold) },
	11: func() Command { return new(Hold) },
	12: func() Command { return new(Drop) },
	13: func() Command { return new(Admit) },
	14: func() Command { return new(Mint) },
	15: func() Command { return new(Revoke) },
	16: func() Command { return new(Forget) },
	17: func() Command { return new(Settle) },
	18: func() Command { return new(SubmitTasks) },
	19: func() Command { return new(Quarantine) },
	20: func() Command { return new(Resolve) },
	21: func() Command { return new(PutPreload) },
	22: func() Command { return new(DropPreload) },
	23: func() Command { return new(CheckPreload) },
	24: func() Command { return new(Report) },
	25: func() Command { return new(SubmitRequiring) },
	26: func() Command { return new(Confine) },
	27: func() Command { return new(Readmit) },
}

// Submit adds a job. The same Key with an equal RequestDigest gives the job that
// already exists; with another one it is refused with [KeyConflict].
type Submit struct {
	ID            JobID // drawn by the submitter; refused with [IDTaken] when in use
	Key           string
	RequestDigest Digest
	Name          string
	Kind          Kind
	Spec          []byte
	Stages        []StageSpec
	Priority      int32
	ChunkTimeMS   uint64 // 0 for the default
	Attempts      uint32 // 0 for the default
	TimeoutMS     uint64
	Expected      float64 // survivors that chance alone would give
	Submitter     string
}

// Action is what [Control] does to a job.
type Action uint8

// The actions.
const (
	Cancel Action = iota + 1
	Pause
	Resume
	SetPriority
	Remove // forgets a job that has ended, with its results
)

// Control changes the course of a job.
type Control struct {
	Job      JobID
	Action   Action
	Priority int32 // of SetPriority
}

// SlotSpec is a slot as its node announces it.
type SlotSpec struct{ Device, Label string }

// Hello announces a start of a node's process, or its return after it was
// expired, under a higher incarnation than any before. All claims of earlier
// incarnations end.
type Hello struct {
	Node        NodeID
	Incarnation uint64
	Addr        string
	Version     string
	Slots       []SlotSpec
}

// Expire says that a node's incarnation is gone: its claims end.
type Expire struct {
	Node        NodeID
	Incarnation uint64
}

// Take asks for work for a slot that holds fewer than Want claims, 1 or 2. So a
// request that arrives twice gives one claim, or the reserved one a little early.
type Take struct {
	Slot        SlotID
	Incarnation uint64
	Want        uint32
}

// Finish commits the results of a claim, from its first unit up to Last; what
// lies behind Last is open again.
type Finish struct {
	Fence       uint64
	Node        NodeID
	Incarnation uint64
	Last        uint64
	Account     Account
	Survivors   uint64
	Blob        Digest // zero without survivors
	Bytes       uint64
	Holders     []NodeID // nodes that acknowledged the blob
	BusyMS      uint64   // time the slot worked on it
}

// Fail reports a failed attempt. The units of Charged count the failure; the
// rest of the claim is open again as it was.
type Fail struct {
	Fence       uint64
	Node        NodeID
	Incarnation uint64
	Charged     Range
	Class       string
	Message     string
}

// Release gives a claim back unworked.
type Release struct {
	Fence       uint64
	Node        NodeID
	Incarnation uint64
}

// Trim shortens a claim to Last. Its worker sends it, once it has made sure to
// stop there.
type Trim struct {
	Fence       uint64
	Node        NodeID
	Incarnation uint64
	Last        uint64
}

// Fold replaces the pieces that make up Range by one whose blob joins theirs.
type Fold struct {
	Job       JobID
	Stage     uint32
	Range     Range
	Survivors uint64
	Blob      Digest
	Bytes     uint64
	Node      NodeID // who folded
	Holders   []NodeID
}

// Hold adds a holder of a blob.
type Hold struct {
	Job   JobID
	Stage uint32
	First uint64 // of the piece
	Blob  Digest
	Node  NodeID
}

// Drop says that a node has lost a blob. A piece that no node holds any more is
// open again, unless its job has ended.
type Drop struct {
	Job   JobID
	Stage uint32
	First uint64
	Blob  Digest
	Node  NodeID
}

// Admit makes a node a member and spends one use of a token. Only the first
// member needs none. Repeated for the same node, it changes nothing.
type Admit struct {
	Node   NodeID
	Name   string
	Role   Role
	Token  Digest // hash of the token; zero for the first member
	WallMS int64  // the leader's wall clock, Unix milliseconds
}

// Mint makes a token.
type Mint struct{ Token Token }

// Revoke ends a token.
type Revoke struct{ Hash Digest }

// Forget removes a member for good: its claims end, it holds nothing any more,
// and its name is free.
type Forget struct{ Node NodeID }

func (*Submit) number() uint8  { return 1 }
func (*Control) number() uint8 { return 2 }
func (*Hello) number() uint8   { return 3 }
func (*Expire) number() uint8  { return 4 }
func (*Take) number() uint8    { return 5 }
func (*Finish) number() uint8  { return 6 }
func (*Fail) number() uint8    { return 7 }
func (*Release) number() uint8 { return 8 }
func (*Trim) number() uint8    { return 9 }
func (*Fold) number() uint8    { return 10 }
func (*Hold) number() uint8    { return 11 }
func (*Drop) number() uint8    { return 12 }
func (*Admit) number() uint8   { return 13 }
func (*Mint) number() uint8    { return 14 }
func (*Revoke) number() uint8  { return 15 }
func (*Forget) number() uint8  { return 16 }

// Actor of the commands that users send through any node is nobody; [Expire],
// [Admit] and the tokens' commands are proposed by the leader itself or for a user.
func (*Submit) Actor() NodeID    { return NodeID{} }
func (*Control) Actor() NodeID   { return NodeID{} }
func (c *Hello) Actor() NodeID   { return c.Node }
func (*Expire) Actor() NodeID    { return NodeID{} }
func (c *Take) Actor() NodeID    { return c.Slot.Node }
func (c *Finish) Actor() NodeID  { return c.Node }
func (c *Fail) Actor() NodeID    { return c.Node }
func (c *Release) Actor() NodeID { return c.Node }
func (c *Trim) Actor() NodeID    { return c.Node }
func (c *Fold) Actor() NodeID    { return c.Node }
func (c *Hold) Actor() NodeID    { return c.Node }
func (c *Drop) Actor() NodeID    { return c.Node }
func (*Admit) Actor() NodeID     { return NodeID{} }
func (*Mint) Actor() NodeID      { return NodeID{} }
func (*Revoke) Actor() NodeID    { return NodeID{} }
func (*Forget) Actor() NodeID    { return NodeID{} }

// LeaderOnly tells whether a command comes from the leader's own judgement and
// is never accepted from another node.
func LeaderOnly(c Command) bool {
	switch c.(type) {
	case *Expire, *Admit:
		return true
	}
	return false
}

// VotersOnly tells whether a command changes who belongs to the mesh: it is
// accepted only from a node that may vote.
func VotersOnly(c Command) bool {
	switch c.(type) {
	case *Mint, *Revoke, *Forget:
		return true
	}
	return false
}

func (c *Submit) fields(x *coder) {
	x.job(&c.ID)
	x.str(&c.Key, MaxKeyBytes)
	x.fixed(c.RequestDigest[:])
	x.str(&c.Name, MaxNameBytes)
	num(x, &c.Kind)
	x.bytes(&c.Spec, MaxSpecBytes)
	list(x, &c.Stages, MaxStages, func(s *StageSpec) { s.fields(x) })
	num(x, &c.Priority)
	x.u64(&c.ChunkTimeMS)
	num(x, &c.Attempts)
	x.u64(&c.TimeoutMS)
	x.float(&c.Expected)
	x.str(&c.Submitter, MaxTextBytes)
}

func (s *StageSpec) fields(x *coder) {
	x.str(&s.Label, MaxTextBytes)
	x.rng(&s.Range)
	x.u64(&s.Grain)
	x.str(&s.Shape, MaxTextBytes)
	x.flag(&s.Barrier)
}

func (c *Control) fields(x *coder) {
	x.job(&c.Job)
	num(x, &c.Action)
	num(x, &c.Priority)
}

func (c *Hello) fields(x *coder) {
	x.node(&c.Node)
	x.u64(&c.Incarnation)
	x.str(&c.Addr, MaxTextBytes)
	x.str(&c.Version, MaxTextBytes)
	list(x, &c.Slots, MaxSlots, func(s *SlotSpec) {
		x.str(&s.Device, MaxTextBytes)
		x.str(&s.Label, MaxTextBytes)
	})
}

func (c *Expire) fields(x *coder) {
	x.node(&c.Node)
	x.u64(&c.Incarnation)
}

func (c *Take) fields(x *coder) {
	x.slot(&c.Slot)
	x.u64(&c.Incarnation)
	num(x, &c.Want)
}

func (c *Finish) fields(x *coder) {
	x.u64(&c.Fence)
	x.node(&c.Node)
	x.u64(&c.Incarnation)
	x.u64(&c.Last)
	x.account(&c.Account)
	x.u64(&c.Survivors)
	x.fixed(c.Blob[:])
	x.u64(&c.Bytes)
	list(x, &c.Holders, MaxHolders, x.node)
	x.u64(&c.BusyMS)
}

func (c *Fail) fields(x *coder) {
	x.u64(&c.Fence)
	x.node(&c.Node)
	x.u64(&c.Incarnation)
	x.rng(&c.Charged)
	x.str(&c.Class, MaxTextBytes)
	x.str(&c.Message, MaxTextBytes)
}

func (c *Release) fields(x *coder) {
	x.u64(&c.Fence)
	x.node(&c.Node)
	x.u64(&c.Incarnation)
}

func (c *Trim) fields(x *coder) {
	x.u64(&c.Fence)
	x.node(&c.Node)
	x.u64(&c.Incarnation)
	x.u64(&c.Last)
}

func (c *Fold) fields(x *coder) {
	x.job(&c.Job)
	num(x, &c.Stage)
	x.rng(&c.Range)
	x.u64(&c.Survivors)
	x.fixed(c.Blob[:])
	x.u64(&c.Bytes)
	x.node(&c.Node)
	list(x, &c.Holders, MaxHolders, x.node)
}

func (c *Hold) fields(x *coder) {
	x.job(&c.Job)
	num(x, &c.Stage)
	x.u64(&c.First)
	x.fixed(c.Blob[:])
	x.node(&c.Node)
}

func (c *Drop) fields(x *coder) { (*Hold)(c).fields(x) }

func (c *Admit) fields(x *coder) {
	x.node(&c.Node)
	x.str(&c.Name, MaxNameBytes)
	num(x, &c.Role)
	x.fixed(c.Token[:])
	num(x, &c.WallMS)
}

func (c *Mint) fields(x *coder)   { c.Token.fields(x) }
func (c *Revoke) fields(x *coder) { x.fixed(c.Hash[:]) }
func (c *Forget) fields(x *coder) { x.node(&c.Node) }

func (t *Token) fields(x *coder) {
	x.fixed(t.Hash[:])
	num(x, &t.Role)
	num(x, &t.ExpiresMS)
	num(x, &t.Uses)
	list(x, &t.Spent, MaxNodes, x.node)
	x.str(&t.CreatedFor, MaxTextBytes)
}

// Code says why a command was refused.
type Code uint8

// The reasons for a refusal. Numbers are part of the forwarding protocol.
const (
	StaleClaim       Code = iota + 1 // the fence is not current
	StaleIncarnation                 // a newer Hello, or an Expire, came first
	UnknownJob
	UnknownNode
	UnknownToken
	JobEnded      // the job's state is final
	JobNotEnded   // only a job that has ended can be removed
	KeyConflict   // the idempotency key belongs to another request
	IDTaken       // the drawn job id is in use: draw another
	WrongAccount  // the executor's account is not that of the range
	UnderHeld     // the result has too few holders
	BadRange      // a range lies outside of what it must lie in
	NameTaken     // a living node has the name
	TokenExpired  //
	TokenSpent    // no uses are left
	WrongRole     // the member may not do this
	NothingToDo   // there is no work for the slot now
	Limit         // a limit of the ledger is reached
	Invalid       // the command makes no sense
	NotFoldable   // the pieces have changed in the meantime
	AlreadyKnown  // a different member has this id
	NoSuchHolding // the piece or its blob is no longer what it was
	UnknownPreload
	Outdated // the leader runs an older program, which does not know the command
)

// Refusal is why a command changed nothing.
type Refusal struct {
	Code Code
	Text string
}

func (r *Refusal) Error() string { return "jobs: " + r.Text }

// Is makes errors.Is(err, &Refusal{Code: c}) compare codes.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Code == r.Code
}

func refuse(code Code, format string, args ...any) Outcome {
	text := fmt.Sprintf(format, args...)
	return Outcome{Refusal: &Refusal{code, text[:min(len(text), maxRefusalBytes)]}}
}

// Outcome is what a command did.
type Outcome struct {
	Refusal *Refusal // nil when it happened
	Job     JobID    // of Submit
	Claim   *Claim   // of Take
	Name    string   // of Admit: the member's name
	Role    Role     // of Admit
}

// Err is the refusal as an error, or nil.
func (o Outcome) Err() error {
	if o.Refusal == nil {
		return nil
	}
	return o.Refusal
}

func (o *Outcome) fields(x *coder) {
	refused, granted := o.Refusal != nil, o.Claim != nil
	x.flag(&refused)
	if refused {
		if o.Refusal == nil {
			o.Refusal = new(Refusal)
		}
		num(x, &o.Refusal.Code)
		x.str(&o.Refusal.Text, maxRefusalBytes)
	}
	x.job(&o.Job)
	x.flag(&granted)
	if granted {
		if o.Claim == nil {
			o.Claim = new(Claim)
		}
		o.Claim.fields(x)
	}
	x.str(&o.Name, maxMemberNameBytes)
	num(x, &o.Role)
}
