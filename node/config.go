package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"seedmesh/jobs"
)

// Config is all that can be said about a node. The zero value is not useful:
// begin with [DefaultConfig].
type Config struct {
	Dir    string       `toml:"-"` // data directory, made by Init or Join
	Logger *slog.Logger `toml:"-"`
	Seams  Seams        `toml:"-"`

	Node    NodeConfig    `toml:"node"`
	Raft    RaftConfig    `toml:"raft"`
	Gossip  GossipConfig  `toml:"gossip"`
	Session SessionConfig `toml:"session"`
	Storage StorageConfig `toml:"storage"`
}

// NodeConfig is about this machine. A table [node.NAME] overrides it for one node.
type NodeConfig struct {
	Listen    string       `toml:"listen"`    // HOST:PORT of the one UDP port; empty for what init or join was told
	Advertise string       `toml:"advertise"` // HOST:PORT that others reach this node at; empty for listen
	Slots     []SlotConfig `toml:"slot"`      // empty: one CPU slot over all cores
}

// SlotConfig is one unit of the machine that works on one claim at a time.
type SlotConfig struct {
	Device  string  `toml:"device"`   // cpu or sim
	Threads int     `toml:"threads"`  // of a cpu slot; 0 for all cores
	SimRate float64 `toml:"sim_rate"` // seeds a second of a sim slot
}

// RaftConfig has the timings of the replicated log.
type RaftConfig struct {
	Heartbeat Duration `toml:"heartbeat"`
	Election  Duration `toml:"election"`
	Lease     Duration `toml:"lease"`
	Commit    Duration `toml:"commit"`
	Voters    int      `toml:"voters"` // largest number of voters: 1, 3 or 5

	SnapshotEvery int `toml:"snapshot_every"` // entries between snapshots of the ledger, and kept behind the newest
}

// GossipConfig has the timings of failure detection among the members.
type GossipConfig struct {
	Probe     Duration `toml:"probe"`
	Suspicion int      `toml:"suspicion"` // suspicion multiplier
}

// SessionConfig is about the stream that every node holds to the leader.
type SessionConfig struct {
	Ping    Duration `toml:"ping"`    // interval
	Silence Duration `toml:"silence"` // after which a node that cannot be dialled is expired
}

// StorageConfig is about results on disk.
type StorageConfig struct {
	PushTimeout Duration `toml:"push_timeout"` // wait for a holder before another is tried
	KeepOrphans Duration `toml:"keep_orphans"` // how long a blob that no job names is kept
}

// Duration is a time.Duration that TOML writes as text: "250ms".
type Duration time.Duration

// UnmarshalText reads a duration such as 250ms, 2s or 1m.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q is not a positive duration such as 250ms or 2s", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// DefaultConfig is what holds where cluster.toml says nothing.
func DefaultConfig() Config {
	return Config{
		Logger:  slog.New(slog.DiscardHandler),
		Raft:    RaftConfig{Duration(150 * time.Millisecond), Duration(150 * time.Millisecond), Duration(100 * time.Millisecond), Duration(10 * time.Millisecond), 5, 8192},
		Gossip:  GossipConfig{Duration(500 * time.Millisecond), 3},
		Session: SessionConfig{Duration(250 * time.Millisecond), Duration(2 * time.Second)},
		Storage: StorageConfig{Duration(time.Second), Duration(10 * time.Minute)},
	}
}

// maxConfigBytes bounds cluster.toml.
const maxConfigBytes = 1 << 20

// LoadConfig reads cluster.toml for the node of the given name: the file's
// values over the defaults, then those of [node.NAME]. An unknown key is an
// error that names the nearest known one.
func LoadConfig(path, name string) (Config, error) {
	c := DefaultConfig()
	info, err := os.Stat(path)
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if info.Size() > maxConfigBytes {
		return c, fmt.Errorf("configuration: %s has %d bytes, the limit is %d", path, info.Size(), maxConfigBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if err := c.decode(b, name); err != nil {
		return c, fmt.Errorf("configuration: %s: %w", path, err)
	}
	return c, c.Validate()
}

// decode reads the file twice: as it stands, without the nodes' own tables, and
// then the table of this node over it.
func (c *Config) decode(b []byte, name string) error {
	var whole map[string]any
	if err := toml.Unmarshal(b, &whole); err != nil {
		return tomlError(err)
	}
	var own any
	if table, ok := whole["node"].(map[string]any); ok {
		for key, value := range table {
			if _, isTable := value.(map[string]any); !isTable {
				continue
			}
			if err := decodeStrict(map[string]any{"node": value}, new(Config)); err != nil {
				return fmt.Errorf("[node.%s]: %w", key, err)
			}
			if key == name {
				own = value
			}
			delete(table, key)
		}
	}
	if err := decodeStrict(whole, c); err != nil {
		return err
	}
	if own == nil {
		return nil
	}
	return decodeStrict(map[string]any{"node": own}, c)
}

func decodeStrict(tree map[string]any, into *Config) error {
	b, err := toml.Marshal(tree)
	if err != nil {
		return err
	}
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return tomlError(d.Decode(into))
}

// tomlError words a decoding error for a person: an unknown key with the nearest
// known one.
func tomlError(err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) && len(missing.Errors) > 0 {
		key := strings.Join(missing.Errors[0].Key(), ".")
		return &UnknownKeyError{key, nearest(key, configKeys())}
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		row, _ := decode.Position()
		return fmt.Errorf("line %d, key %s: %w", row, strings.Join(decode.Key(), "."), err)
	}
	return err
}

// UnknownKeyError is a key that no setting has.
type UnknownKeyError struct{ Key, Nearest string }

func (e *UnknownKeyError) Error() string { return fmt.Sprintf("there is no key %q", e.Key) }

// Remedy names the nearest key.
func (e *UnknownKeyError) Remedy() string {
	return fmt.Sprintf("did you mean %q? seedmesh config show lists all keys", e.Nearest)
}

// configKeys lists every key of cluster.toml with dots.
func configKeys() []string {
	var keys []string
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for i := range t.NumField() {
			tag := t.Field(i).Tag.Get("toml")
			if tag == "-" || tag == "" {
				continue
			}
			key, kind := prefix+tag, t.Field(i).Type
			if kind.Kind() == reflect.Slice {
				kind = kind.Elem()
			}
			if kind.Kind() == reflect.Struct {
				walk(key+".", kind)
				continue
			}
			keys = append(keys, key)
		}
	}
	walk("", reflect.TypeFor[Config]())
	return keys
}

// nearest is the candidate with the smallest edit distance to s.
func nearest(s string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int { return editDistance(s, a) - editDistance(s, b) })
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Validate checks what types cannot say.
func (c Config) Validate() error {
	if c.Raft.Lease > c.Raft.Heartbeat || c.Raft.Heartbeat > c.Raft.Election {
		return errors.New("configuration: raft timings must satisfy lease <= heartbeat <= election")
	}
	if !slices.Contains([]int{1, 3, 5}, c.Raft.Voters) {
		return fmt.Errorf("configuration: raft.voters is %d, it must be 1, 3 or 5", c.Raft.Voters)
	}
	if c.Raft.SnapshotEvery < 16 || c.Raft.SnapshotEvery > 1<<20 {
		return fmt.Errorf("configuration: raft.snapshot_every is %d, it must lie in 16..%d", c.Raft.SnapshotEvery, 1<<20)
	}
	if c.Gossip.Suspicion < 1 || c.Gossip.Suspicion > 20 {
		return fmt.Errorf("configuration: gossip.suspicion is %d, it must lie in 1..20", c.Gossip.Suspicion)
	}
	if len(c.Node.Slots) > jobs.MaxSlots {
		return fmt.Errorf("configuration: %d slots, a node has at most %d", len(c.Node.Slots), jobs.MaxSlots)
	}
	for i, s := range c.Node.Slots {
		switch {
		case s.Device != "cpu" && s.Device != "sim":
			return fmt.Errorf("configuration: node.slot %d: device %q is neither cpu nor sim", i, s.Device)
		case s.Threads < 0 || s.Threads > 4096:
			return fmt.Errorf("configuration: node.slot %d: threads is %d, it must lie in 0..4096", i, s.Threads)
		case s.Device == "sim" && s.SimRate <= 0:
			return fmt.Errorf("configuration: node.slot %d: a sim slot needs sim_rate, in seeds a second", i)
		}
	}
	return nil
}

// slots is what the node offers: the configured slots, or one over all cores.
func (c Config) slots() []SlotConfig {
	if len(c.Node.Slots) == 0 {
		return []SlotConfig{{Device: "cpu", Threads: runtime.NumCPU()}}
	}
	return c.Node.Slots
}

// TOML writes the configuration in effect as cluster.toml would say it.
func (c Config) TOML() ([]byte, error) { return toml.Marshal(c) }
