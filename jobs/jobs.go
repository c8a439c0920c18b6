// Package jobs is the replicated job ledger: who holds which part of a job's
// range, what is done, what is open, and who the members of the mesh are.
//
// It is a pure state machine. Time arrives inside commands, effects leave as
// [Outcome] values, and equal commands in equal order give equal states, equal
// digests and equal snapshots on every node. It reads no clock, file or socket,
// draws no random number and starts no goroutine.
//
// Read jobs.go for the nouns, command.go and apply.go for the verbs,
// schedule.go for who gets what next, codec.go for the bytes.
package jobs

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Limits of the ledger. What exceeds one is refused with [Limit].
const (
	MaxSpecBytes    = 64 << 10 // bytes of a job's specification
	MaxStages       = 256      // stages of one job
	MaxKeyBytes     = 128      // bytes of an idempotency key
	MaxNameBytes    = 128      // bytes of a job's or node's name
	MaxTextBytes    = 512      // bytes of an address, version, label or failure message
	MaxSlots        = 256      // slots of one node
	MaxNodes        = 4096     // nodes of one mesh
	MaxTokens       = 1024     // tokens that exist at once
	MaxJobs         = 100_000  // jobs that exist at once
	MaxHolders      = 16       // holders of one piece
	MaxAttempts     = 100      // attempts that a job may allow for a piece
	MaxClaimSeeds   = 1 << 48  // seeds of one claim
	MaxKeys         = 1 << 20  // idempotency keys that are remembered at once
	MaxRequests     = 8192     // remembered request ids of users' commands
	MaxShapesAtSlot = 16       // search shapes whose rate a slot remembers

	DefaultAttempts    = 3
	DefaultChunkTimeMS = 10_000
	probeTimeMS        = 250              // a piece is not cut shorter than this, in ms of a slot's measured rate
	backoffBaseMS      = 1_000            // wait after the first failure of a piece, but for those that waits names; doubles with each further one
	backoffMaxMS       = 300_000          // longest such wait
	keyLifeMS          = 7 * 24 * 3600e3  // a key outlives its removed job by this much
	copies             = 2                // holders that a result needs, where there are as many living nodes
	avoidMS            = 60_000           // how long a failed piece is kept from the slot that failed it, where there are others
	maxMemberNameBytes = 2 * MaxNameBytes // a node that lost its name to another gets a longer one
	maxRefusalBytes    = 4 * MaxTextBytes // text of a refusal; what is longer is cut
)

// Instant is a moment in log time: milliseconds that the ledger has lived
// through under its leaders. It never goes back and knows nothing of wall time.
type Instant int64

// NodeID is a member's 128-bit identity, made once when it joined and named in
// its certificate. The zero NodeID is nobody.
type NodeID [16]byte

func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// ParseNodeID reads the 32 hexadecimal digits of a node's identity.
func ParseNodeID(s string) (NodeID, error) {
	var id NodeID
	if b, err := hex.DecodeString(s); err != nil || copy(id[:], b) != len(id) || len(b) != len(id) {
		return NodeID{}, fmt.Errorf("jobs: %q is not a node id of 32 hexadecimal digits", s)
	}
	return id, nil
}

func compareNodes(a, b NodeID) int {
	for i := range a {
		if a[i] != b[i] {
			return cmp.Compare(a[i], b[i])
		}
	}
	return 0
}

// JobID names a job; it is drawn at random by whoever submits. Zero is no job.
type JobID uint64

func (id JobID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// ParseJobID reads the 16 hexadecimal digits of a job's id.
func ParseJobID(s string) (JobID, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("jobs: %q is not a job id of 16 hexadecimal digits", s)
	}
	return JobID(v), nil
}

// Digest is a SHA-256. The zero Digest means that there is no blob.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// SlotID names a slot: a node and the slot's number there.
type SlotID struct {
	Node  NodeID
	Index uint32
}

// Kind tells what the units of a job's range are.
type Kind uint8

// The kinds of job.
const (
	Seeds Kind = 1 // the range is seeds of a generator
	Tasks Kind = 2 // the range is numbers of script tasks
)

func (k Kind) String() string {
	if k == Tasks {
		return "tasks"
	}
	return "seeds"
}

// JobState is where a job stands. Done, Failed and Cancelled are final.
type JobState uint8

// The states of a job.
const (
	Queued JobState = iota + 1
	Running
	Paused
	Done
	Failed
	Cancelled
)

// String is the state's name on the command line.
func (s JobState) String() string {
	names := [...]string{"", "queued", "running", "paused", "done", "failed", "cancelled"}
	if int(s) >= len(names) {
		return "unknown"
	}
	return names[s]
}

// Terminal tells whether the state is final.
func (s JobState) Terminal() bool { return s >= Done }

// A StageSpec is one range of a job: the seeds of one generator, or task numbers.
type StageSpec struct {
	Label   string // generator, or what the tasks run
	Range   Range
	Grain   uint64 // units of the first piece given to a slot whose rate is unknown, at least 1
	Shape   string // work of equal shape runs at equal rates on one slot
	Barrier bool   // starts only when every earlier stage is complete
}

// Job is a submitted job as the ledger keeps it. Fields up to Stages are fixed
// when it is submitted.
type Job struct {
	ID          JobID
	Seq         uint64 // number of this submission, from 1
	Key         string // idempotency key
	Name        string
	Kind        Kind
	Spec        []byte // opaque to the ledger
	ChunkTimeMS uint64 // intended length of a piece
	Attempts    uint32 // attempts that a piece may take in all
	TimeoutMS   uint64 // longest run of one claim, 0 for none
	Expected    float64
	SubmittedAt Instant
	Submitter   string
	Terms       // of a script job

	Priority   int32
	State      JobState
	StartedAt  Instant
	FinishedAt Instant
	Failures   uint64 // failed attempts
	Reclaimed  uint64 // claims that were ended because their node was lost
	Survivors  uint64
	Pieces     uint64 // committed pieces, however many have merged since
	Busy       uint64 // slot milliseconds spent on committed pieces
	LastError  string

	Stages []*Stage
}

// A Stage is one range of a job with what has become of each part of it. Every
// unit of the range is, at every moment, in exactly one of Open, Done, Failed
// or under a claim.
type Stage struct {
	StageSpec
	Account Account // sum of the executors' own accounts of the committed pieces
	Open    []Open
	Done    []Piece
	Failed  []FailedRange
	Traces  []Trace  // of failed attempts at tasks, the oldest first
	claims  []*Claim // by first unit, then fence
}

// Open is a range that nobody holds.
type Open struct {
	Range
	Attempts  uint32  // failed attempts so far
	NotBefore Instant // log time before which it is not given out; heldBack for tasks that need others
	Avoid     SlotID  // slot of the last failure
}

// A Piece is a committed range. Pieces without survivors have no blob.
type Piece struct {
	Range
	Survivors uint64
	Blob      Digest
	Bytes     uint64
	Holders   []NodeID // in rising order
}

// FailedRange is a range whose attempts are used up.
type FailedRange struct {
	Range
	Attempts uint32
	Class    string
	Message  string
}

// A Claim is one slot's exclusive right to work on one range of a job. It is
// current as long as the ledger lists it; whatever comes under a fence that is
// not listed is refused with [StaleClaim].
type Claim struct {
	Fence       uint64 // number of this grant, from 1, rising over the whole ledger
	Job         JobID
	Stage       uint32
	Range       Range
	Slot        SlotID
	Incarnation uint64
	Attempts    uint32 // failed attempts of the range before this claim
	Speculative bool   // a second claim on a range that another slot holds
	Twin        uint64 // fence of the other claim on the same range, or 0
	GrantedAt   Instant
	StartedAt   Instant // when it became the slot's first claim; -1 while it is reserved
}

// notStarted is Claim.StartedAt of a reserved claim.
const notStarted Instant = -1

// ShapeRate is a slot's measured rate for work of one shape.
type ShapeRate struct {
	Shape string
	Rate  uint64 // units in 1000 seconds, so that tasks of minutes have one
}

// Slot is a unit of hardware that works on one claim at a time, with a second
// one reserved so that it need not wait for the network.
type Slot struct {
	Device string
	Label  string      // words with commas between
	Rates  []ShapeRate // most recently measured last
	Claims []uint64    // fences, oldest first: the running one, then the reserved one
}

// Role is what a member may do.
type Role uint8

// The roles.
const (
	Voter  Role = 1 // may be given a Raft vote
	Worker Role = 2 // follows the log and works
	Client Role = 3 // submits and reads; runs nothing
)

func (r Role) String() string {
	names := [...]string{"", "voter", "worker", "client"}
	if int(r) >= len(names) {
		return "unknown"
	}
	return names[r]
}

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	for _, r := range []Role{Voter, Worker, Client} {
		if s == r.String() {
			return r, nil
		}
	}
	return 0, fmt.Errorf("jobs: %q is not a role: voter, worker or client", s)
}

// Node is a member of the mesh.
type Node struct {
	ID          NodeID
	Name        string
	Role        Role
	Incarnation uint64 // of its last Hello; 0 before the first
	Alive       bool
	Since       Instant // when Alive last changed
	Addr        string
	Version     string
	Slots       []*Slot
}

// Token admits new members. Only its hash is kept.
type Token struct {
	Hash       Digest
	Role       Role
	ExpiresMS  int64 // wall clock, Unix milliseconds
	Uses       uint32
	Spent      []NodeID // members it admitted, in order
	CreatedFor string   // who asked for it
}
