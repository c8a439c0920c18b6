package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"seedmesh/jobs"
	"seedmesh/kernels"
	"seedmesh/node/slot"
	"seedmesh/scripts"
)

// Config is all that can be said about a node. The zero value is not useful:
// begin with [DefaultConfig].
type Config struct {
	Dir    string       `toml:"-"` // data directory, made by Init or Join
	Logger *slog.Logger `toml:"-"`
	Seams  Seams        `toml:"-"`
	Rest   func(bool)   `toml:"-"` // told when the mesh comes to rest, and when that ends: the process may save power then

	Node    NodeConfig    `toml:"node"`
	Raft    RaftConfig    `toml:"raft"`
	Gossip  GossipConfig  `toml:"gossip"`
	Session SessionConfig `toml:"session"`
	Storage StorageConfig `toml:"storage"`
	Search  SearchConfig  `toml:"search"`
	Scripts ScriptsConfig `toml:"scripts"`
}

// NodeConfig is about this machine. A table [node.NAME] overrides it for one node.
type NodeConfig struct {
	Listen    string       `toml:"listen"`    // HOST:PORT of the one UDP port; empty for what init or join was told
	Advertise string       `toml:"advertise"` // HOST:PORT that others reach this node at; empty for listen
	Slots     []SlotConfig `toml:"slot"`      // empty: one CPU slot over all cores
	NoSlots   bool         `toml:"no_slots"`  // the machine works on nothing: it votes and keeps results
	Labels    []string     `toml:"labels"`    // by which script jobs select this machine
	// MemoryFraction is how much of its memory an accelerator may be used to, up to 1;
	// 0 for 0.8 on AMD and 0.9 on others.
	MemoryFraction float64 `toml:"memory_fraction"`
	// MaxScripts is how many slots, the first ones, run tasks of script jobs; 0 for all.
	MaxScripts int `toml:"max_concurrent_script_jobs"`
	// GPUVendor says how tasks are shown the GPU of their slot alone: nvidia or amd;
	// empty for a machine whose GPUs, if it has any, are not divided.
	GPUVendor string   `toml:"gpu_vendor"`
	ScriptEnv []string `toml:"script_env"` // NAME=VALUE of every task, before its process starts
	// PreloadDirs are the directories below which preloads may be; none allows no preloads.
	PreloadDirs []string `toml:"preload_dirs"`
}

// SlotConfig is one unit of the machine that works on one claim at a time.
type SlotConfig struct {
	Device  string  `toml:"device"`   // cpu, cuda, hip, opencl or sim
	Number  int     `toml:"number"`   // of an accelerator, from 0 over all devices of its interface
	Threads int     `toml:"threads"`  // of a cpu slot; 0 for all cores
	SimRate float64 `toml:"sim_rate"` // seeds a second of a sim slot
	// Libraries is a directory in which an accelerator's libraries are looked for first.
	Libraries string `toml:"libraries"`
	// GFX is what AMD's runtime takes a slot's GPU for; empty for what it needs.
	GFX    string `toml:"gfx"`
	Shared bool   `toml:"shared"` // others on the machine may use the same accelerator
	GPU    string `toml:"gpu"`    // number, UUID or PCI id of the GPU that its tasks see; empty for none. One named by UUID or PCI id is also that of its searches
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

// SearchConfig is about searches.
type SearchConfig struct {
	CheckShare float64 `toml:"check_share"` // of the pieces, from 0 to 1, that another slot searches too
}

// ScriptsConfig is about script jobs.
type ScriptsConfig struct {
	// Trusted lets scripts run as the node's own user, where they can read its keys.
	// It has no effect for root, whose scripts run as another user.
	Trusted bool   `toml:"trusted"`
	User    string `toml:"user"` // whose groups root's scripts have, where there is one of that name
	// FirstUser is the number that scripts of root's slot 0 run as, those of the other
	// slots under the numbers behind it; 0 for numbers that the data directory decides.
	FirstUser int    `toml:"first_user"`
	Memory    uint64 `toml:"memory_mib"` // MiB that tasks may use together; 0 for nine tenths of the machine's
	Dir       string `toml:"dir"`        // of working directories and inputs; empty for one below /var/tmp
	// Directories of scripts that tasks may name by their path though they were not sent along.
	Directories []string `toml:"directories"`
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
		Raft:    RaftConfig{Duration(150 * time.Millisecond), Duration(150 * time.Millisecond), Duration(150 * time.Millisecond), Duration(time.Second), 5, 8192},
		Gossip:  GossipConfig{Duration(500 * time.Millisecond), 3},
		Session: SessionConfig{Duration(250 * time.Millisecond), Duration(2 * time.Second)},
		Storage: StorageConfig{Duration(time.Second), Duration(10 * time.Minute)},
		Scripts: ScriptsConfig{Directories: []string{}, User: "seedmesh-run"},
		Search:  SearchConfig{CheckShare: 0.002},
		Node:    NodeConfig{PreloadDirs: []string{"/dev/shm/seedmesh"}},
	}
}

// maxConfigBytes bounds cluster.toml.
const maxConfigBytes = 1 << 20

// LoadConfig reads cluster.toml for the node of the given name: the file's
// values over the defaults, then those of [node.NAME]. An unknown key is an
// error that names the nearest known one.
func LoadConfig(path, name string) (Config, error) {
	c := DefaultConfig()
	b, err := readConfig(path)
	if err != nil {
		return c, err
	}
	if err := c.decode(b, name); err != nil {
		return c, fmt.Errorf("configuration: %s: %w", path, err)
	}
	return c, c.Validate()
}

// readConfig reads a file of at most maxConfigBytes, whatever it is.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("configuration: %w", err)
	case len(b) > maxConfigBytes:
		return nil, &InputError{
			fmt.Sprintf("configuration: %s has more than %d bytes, which is the limit", path, maxConfigBytes),
			"give a cluster.toml: seedmesh config show prints one",
		}
	}
	return b, nil
}

// decode reads the file twice: as it stands, without the nodes' own tables, and
// then the table of this node over it.
func (c *Config) decode(b []byte, name string) error {
	var whole map[string]any
	if err := toml.Unmarshal(b, &whole); err != nil {
		return tomlError(err, true)
	}
	if err := toml.Unmarshal(b, new(Config)); err != nil { // which still knows the lines
		return tomlError(err, true)
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
	return tomlError(d.Decode(into), false)
}

// tomlError words a decoding error for a person: an unknown key with the nearest
// known one, and where the text is that of the file, the line.
func tomlError(err error, lines bool) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) && len(missing.Errors) > 0 {
		key := strings.Join(missing.Errors[0].Key(), ".")
		known := configKeys()
		if !strings.Contains(key, ".") {
			known = tables()
		}
		return &UnknownKeyError{key, kernels.Nearest(key, known)}
	}
	var decode *toml.DecodeError
	if !errors.As(err, &decode) {
		return err
	}
	row, _ := decode.Position()
	key := strings.Join(decode.Key(), ".")
	what := strings.TrimPrefix(decode.Error(), "toml: ")
	if form := valueForm(key); form != "" {
		what = fmt.Sprintf("the value of %s must be %s", key, form)
	}
	if lines {
		what = fmt.Sprintf("line %d: %s", row, what)
	}
	return &InputError{what, "seedmesh config show prints a cluster.toml with every key at its default"}
}

// valueForm says what the value of a key looks like; empty for an unknown key.
func valueForm(key string) string {
	form := ""
	eachKey(func(name string, t reflect.Type) {
		switch {
		case key != "" && strings.HasPrefix(name, key+"."):
			form = fmt.Sprintf("a table: write [%s] above its keys", key)
			if key == "node.slot" {
				form = "a list of tables: write [[node.slot]] above the keys of each"
			}
		case name != key:
		case t == reflect.TypeFor[Duration]():
			form = `a positive duration, such as "250ms" or "2s"`
		case t.Kind() == reflect.String:
			form = "text in quotation marks"
		case t.Kind() == reflect.Int:
			form = "a whole number"
		case t.Kind() == reflect.Uint64:
			form = "a whole number from 0 on"
		case t.Kind() == reflect.Bool:
			form = "true or false"
		case t.Kind() == reflect.Slice:
			form = `a list, such as ["a", "b"]`
		case t.Kind() == reflect.Float64:
			form = "a number"
		}
	})
	return form
}

// An InputError is an argument or a setting that cannot be used.
type InputError struct{ What, Do string }

func (e *InputError) Error() string { return e.What }

// Remedy says what to write instead.
func (e *InputError) Remedy() string { return e.Do }

// UnknownKeyError is a key that no setting has. Nearest may be empty.
type UnknownKeyError struct{ Key, Nearest string }

func (e *UnknownKeyError) Error() string { return fmt.Sprintf("there is no key %q", e.Key) }

// Remedy names the nearest key.
func (e *UnknownKeyError) Remedy() string {
	if e.Nearest == "" {
		return "seedmesh config show lists all keys"
	}
	return fmt.Sprintf("did you mean %q? seedmesh config show lists all keys", e.Nearest)
}

// configKeys lists every key of cluster.toml with dots.
func configKeys() []string {
	var keys []string
	eachKey(func(key string, _ reflect.Type) { keys = append(keys, key) })
	return keys
}

// tables lists the tables of cluster.toml.
func tables() []string {
	var names []string
	for _, key := range configKeys() {
		table, _, _ := strings.Cut(key, ".")
		names = append(names, table)
	}
	return slices.Compact(names)
}

// eachKey visits every key of cluster.toml with the type of its value.
func eachKey(visit func(key string, t reflect.Type)) {
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for i := range t.NumField() {
			tag := t.Field(i).Tag.Get("toml")
			if tag == "-" || tag == "" {
				continue
			}
			key, kind := prefix+tag, t.Field(i).Type
			one := kind
			if kind.Kind() == reflect.Slice {
				one = kind.Elem()
			}
			if one.Kind() == reflect.Struct {
				walk(key+".", one)
				continue
			}
			visit(key, kind)
		}
	}
	walk("", reflect.TypeFor[Config]())
}

// Bounds of the timings: shorter ones are mistakes, such as a number without a
// unit, and longer ones would never be waited for.
const (
	minTiming = time.Millisecond
	maxTiming = 24 * time.Hour
)

// maxLabelBytes bounds the labels of a node together: what a slot announces has room for them.
const maxLabelBytes = jobs.MaxTextBytes - 64

// maxDevices of one kind are in a machine.
const maxDevices = 256

// Validate checks what types cannot say. It fails with an [*InputError].
func (c Config) Validate() error {
	if err := errors.Join(c.checkSearch(), c.checkTimings()); err != nil {
		return err
	}
	if c.Raft.Lease > c.Raft.Heartbeat || c.Raft.Heartbeat > c.Raft.Election {
		return invalidConfig("raft timings must satisfy lease <= heartbeat <= election", "the defaults are lease 150ms, heartbeat 150ms, election 150ms")
	}
	if !slices.Contains([]int{1, 3, 5}, c.Raft.Voters) {
		return invalidConfig(fmt.Sprintf("raft.voters is %d", c.Raft.Voters), "use 1, 3 or 5")
	}
	if c.Raft.SnapshotEvery < 16 || c.Raft.SnapshotEvery > 1<<20 {
		return invalidConfig(fmt.Sprintf("raft.snapshot_every is %d", c.Raft.SnapshotEvery), fmt.Sprintf("use 16 to %d", 1<<20))
	}
	if c.Gossip.Suspicion < 1 || c.Gossip.Suspicion > 20 {
		return invalidConfig(fmt.Sprintf("gossip.suspicion is %d", c.Gossip.Suspicion), "use 1 to 20")
	}
	for _, addr := range []struct{ key, value string }{{"node.listen", c.Node.Listen}, {"node.advertise", c.Node.Advertise}} {
		if addr.value == "" {
			continue
		}
		if err := checkAddress(addr.value); err != nil {
			return invalidConfig(fmt.Sprintf("%s %q %v", addr.key, addr.value, err), "write HOST:PORT, such as 10.0.0.5:7946")
		}
	}
	if len(c.Node.Slots) > jobs.MaxSlots {
		return invalidConfig(fmt.Sprintf("there are %d slots", len(c.Node.Slots)), fmt.Sprintf("a node has at most %d", jobs.MaxSlots))
	}
	if c.Node.MaxScripts < 0 || c.Node.MaxScripts > jobs.MaxSlots {
		return invalidConfig(fmt.Sprintf("node.max_concurrent_script_jobs is %d", c.Node.MaxScripts), fmt.Sprintf("use 0 to %d; 0 is no limit of its own", jobs.MaxSlots))
	}
	if f := c.Scripts.FirstUser; f < 0 || f > 0 && f < 1000 || f > 1<<31-1-jobs.MaxSlots {
		return invalidConfig(fmt.Sprintf("scripts.first_user is %d", f), "use 0, or the first of 256 numbers of users, from 1000 on, that nobody else has")
	}
	for _, dir := range c.Scripts.Directories {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			return invalidConfig(fmt.Sprintf("scripts.directories has %q", dir), `write each directory's whole path, such as "/opt/jobs"`)
		}
	}
	if err := errors.Join(c.Node.checkGPUs(), c.Node.checkPreloadDirs()); err != nil {
		return err
	}
	if f := c.Node.MemoryFraction; !(f >= 0 && f <= 1) {
		return invalidConfig(fmt.Sprintf("node.memory_fraction is %g", f), "use a share from 0 to 1")
	}
	if c.Node.NoSlots && len(c.Node.Slots) > 0 {
		return invalidConfig("node.no_slots is set, and there are slots", "take one of them out")
	}
	if err := c.Node.checkShared(); err != nil {
		return err
	}
	for i, s := range c.Node.Slots {
		switch {
		case !slices.Contains(slot.Devices(), s.Device):
			return invalidConfig(fmt.Sprintf("node.slot %d: the device %q is unknown", i, s.Device), "use one of: "+strings.Join(slot.Devices(), ", "))
		case s.Number < 0 || s.Number >= maxDevices:
			return invalidConfig(fmt.Sprintf("node.slot %d: number is %d", i, s.Number), fmt.Sprintf("the devices of a machine are counted from 0 and end before %d", maxDevices))
		case s.Threads < 0 || s.Threads > 4096:
			return invalidConfig(fmt.Sprintf("node.slot %d: threads is %d", i, s.Threads), "use 0 to 4096; 0 is all cores")
		case s.GFX != "" && !kernels.IsGFX(s.GFX):
			return invalidConfig(fmt.Sprintf("node.slot %d: gfx is %q", i, s.GFX), `such as gfx = "10.3.0"`)
		case s.Libraries != "" && !filepath.IsAbs(s.Libraries):
			return invalidConfig(fmt.Sprintf("node.slot %d: libraries is %q", i, s.Libraries), "write the directory's whole path")
		case s.Device == "sim" && !(s.SimRate > 0):
			return invalidConfig(fmt.Sprintf("node.slot %d: a sim slot needs a rate", i), "such as sim_rate = 1e6, in seeds a second")
		}
	}
	return nil
}

// checkShared refuses two slots on one accelerator that do not say so.
func (n NodeConfig) checkShared() error {
	type device struct {
		kind   string
		number int
		gpu    string // where it is chosen by that
	}
	first := map[device]int{}
	for i, s := range n.Slots {
		d := device{s.Device, s.Number, s.GPU}
		if !slices.Contains(kernels.Accelerators(), s.Device) {
			continue
		}
		if k, taken := first[d]; taken && !(s.Shared && n.Slots[k].Shared) {
			return invalidConfig(fmt.Sprintf("node.slot %d and %d are both on %s %d", k, i, s.Device, s.Number), "take one out, or write shared = true in both")
		}
		first[d] = i
	}
	return nil
}

// checkGPUs refuses what would show tasks other GPUs than those of their slots.
func (n NodeConfig) checkGPUs() error {
	if n.GPUVendor != "" && !slices.Contains(scripts.Vendors(), n.GPUVendor) {
		return invalidConfig(fmt.Sprintf("node.gpu_vendor %q is unknown", n.GPUVendor), "use one of: "+strings.Join(scripts.Vendors(), ", "))
	}
	for _, kv := range n.ScriptEnv {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" || strings.ContainsRune(kv, 0) {
			return invalidConfig(fmt.Sprintf("node.script_env has %q", kv), `write "NAME=VALUE"`)
		}
		if scripts.IsMask(kv) {
			return invalidConfig("node.script_env sets "+name, "say which GPU a slot's tasks see with gpu_vendor, and gpu in [[node.slot]]")
		}
	}
	bytes := 0
	for _, l := range n.Labels {
		if bytes += len(jobs.LabelPrefix) + len(l) + 1; l == "" || strings.ContainsAny(l, ", :\t\n\x00") || bytes > maxLabelBytes {
			return invalidConfig(fmt.Sprintf("node.labels has %q", l), fmt.Sprintf("use words of letters, digits, - and _, of %d bytes together", maxLabelBytes))
		}
	}
	taken := map[string]bool{}
	for i, s := range n.Slots {
		switch {
		case s.GPU == "":
		case n.GPUVendor == "":
			return invalidConfig(fmt.Sprintf("node.slot %d has the gpu %q, and there is no node.gpu_vendor", i, s.GPU), `such as gpu_vendor = "amd"`)
		case strings.ContainsAny(s.GPU, ", \t\n\x00"):
			return invalidConfig(fmt.Sprintf("node.slot %d: the gpu %q is not one", i, s.GPU), `use a number, a UUID or a PCI id, such as gpu = "0000:03:00.0"; seedmesh devices lists them`)
		case taken[s.GPU]:
			return invalidConfig(fmt.Sprintf("two slots have the gpu %q", s.GPU), "give each its own")
		}
		taken[s.GPU] = true
	}
	return nil
}

// scriptEnv is what the tasks of a slot find in their environment.
func (n NodeConfig) scriptEnv(slot uint32) []string {
	if n.GPUVendor == "" {
		return n.ScriptEnv
	}
	gpu := ""
	if int(slot) < len(n.Slots) {
		gpu = n.Slots[slot].GPU
	}
	return append(slices.Clone(n.ScriptEnv), scripts.Mask(n.GPUVendor, gpu))
}

func invalidConfig(what, do string) error { return &InputError{"configuration: " + what, do} }

func (c Config) checkSearch() error {
	if share := c.Search.CheckShare; !(share >= 0 && share <= 1) {
		return invalidConfig(fmt.Sprintf("search.check_share is %v", share), "write a share of the pieces from 0 to 1")
	}
	return nil
}

func (c Config) checkTimings() error {
	for _, t := range []struct {
		key   string
		value Duration
	}{
		{"raft.heartbeat", c.Raft.Heartbeat}, {"raft.election", c.Raft.Election}, {"raft.lease", c.Raft.Lease}, {"raft.commit", c.Raft.Commit},
		{"gossip.probe", c.Gossip.Probe}, {"session.ping", c.Session.Ping}, {"session.silence", c.Session.Silence},
		{"storage.push_timeout", c.Storage.PushTimeout},
	} {
		if d := time.Duration(t.value); d < minTiming || d > maxTiming {
			return invalidConfig(fmt.Sprintf("%s is %v", t.key, d), fmt.Sprintf(`write a duration from %v to %v with its unit, such as "250ms"`, minTiming, maxTiming))
		}
	}
	return nil
}

// checkAddress says what is wrong with HOST:PORT.
func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	n, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || host == "":
		return errors.New("is not HOST:PORT")
	case portErr != nil || n == 0:
		return fmt.Errorf("has the port %q, which is not a number from 1 to 65535", port)
	}
	return nil
}

// slots is what the node offers: the configured slots, or one over all cores, or none.
func (c Config) slots() []SlotConfig {
	if len(c.Node.Slots) == 0 && !c.Node.NoSlots {
		return []SlotConfig{{Device: "cpu", Threads: runtime.NumCPU()}}
	}
	return c.Node.Slots
}

// TOML writes the configuration in effect as cluster.toml would say it.
func (c Config) TOML() ([]byte, error) { return toml.Marshal(c) }
