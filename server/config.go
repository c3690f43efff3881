package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"

	"go.yaml.in/yaml/v3"
)

// Config is one node's configuration file. docs/operations.md lists every key. What
// is zero is not written.
type Config struct {
	Node     cluster.NodeID `yaml:"node,omitempty"`
	Region   string         `yaml:"region,omitempty"`   // path of the region file, the same on all nodes
	Identity string         `yaml:"identity,omitempty"` // directory of ca.crt, node.crt, node.key
	Secrets  string         `yaml:"secrets,omitempty"`  // path of the secrets file, mode 0600
	Keyring  string         `yaml:"keyring,omitempty"`  // path of the keyring, mode 0600, the same on all nodes
	Data     string         `yaml:"data,omitempty"`     // directory of the metadata
	Disks    []string       `yaml:"disks,omitempty"`    // one directory per disk, each its own file system

	Listen    Listen    `yaml:"listen,omitempty"`
	Transport Transport `yaml:"transport,omitempty"`
	S3        S3        `yaml:"s3,omitempty"`
	Limits    Limits    `yaml:"limits,omitempty"`
	Scrub     Scrub     `yaml:"scrub,omitempty"`
	Heal      Heal      `yaml:"heal,omitempty"`
	Log       Log       `yaml:"log,omitempty"`

	GarbageGrace Duration `yaml:"garbage_grace,omitempty"` // from when a blob is garbage until its shards are removed [15m]
	// ReplaceVoters is how long the node of a metadata voter is dead, or its data
	// lost, until another takes its place.
	ReplaceVoters Duration `yaml:"replace_voters,omitempty"` // [15m]
	// LifecycleDay is what lifecycle rules call a day. Anything but 24h is for tests.
	LifecycleDay Duration `yaml:"lifecycle_day,omitempty"` // [24h]
	Drain        Duration `yaml:"drain,omitempty"`         // how long SIGTERM waits for requests under way [20s]

	Faults *Faults `yaml:"-"` // for tests in one process
	// OrphanAge is how old shards are that may be taken for orphans, and how often they
	// are looked for. Anything but 24h is for tests: a write in progress is younger.
	OrphanAge Duration `yaml:"-"` // [24h]

	file string // it was read from, "" if there is none
	dir  string // relative paths are taken from the file's directory
}

// Listen is where the node listens, when that differs from what the region file
// tells the others (all interfaces in a container, for instance).
type Listen struct {
	Transport string `yaml:"transport,omitempty"`
	Gossip    string `yaml:"gossip,omitempty"`
	S3        string `yaml:"s3,omitempty"`
	Admin     string `yaml:"admin,omitempty"`
}

// Transport is the traffic between nodes.
type Transport struct {
	Encrypt transport.EncryptMode `yaml:"encrypt,omitempty"` // auto, on, off (shard payloads only)
	Relay   RelayMode             `yaml:"relay,omitempty"`   // auto, on, off
}

// S3 is the door.
type S3 struct {
	Domains []string `yaml:"domains,omitempty"` // suffixes for virtual-host addressing
	TLS     TLSFiles `yaml:"tls,omitempty"`     // none: plain HTTP
}

// TLSFiles are the PEM files of a listener's certificate.
type TLSFiles struct {
	Cert string `yaml:"cert,omitempty"` // with its chain
	Key  string `yaml:"key,omitempty"`
}

// Limits of this node. All are finite.
type Limits struct {
	Budget      Size `yaml:"budget,omitempty"`       // memory for chunks in flight [256MiB]
	DiskReserve Size `yaml:"disk_reserve,omitempty"` // free space that writes leave [max(1GiB, 5%)]
	Segment     Size `yaml:"segment,omitempty"`      // size of a segment file [1GiB]
	Requests    int  `yaml:"requests,omitempty"`     // S3 requests at a time [1024]
}

// Scrub is how the shards on disks are verified.
type Scrub struct {
	Period Duration `yaml:"period,omitempty"` // every shard is verified once in it [720h]
	Rate   Size     `yaml:"rate,omitempty"`   // bytes read of one disk in a second, at most [64MiB]
}

// Heal is how shards that are missing or damaged are made again.
type Heal struct {
	Rate     Size     `yaml:"rate,omitempty"`     // bytes that a node reads for it in a second, at most [64MiB]
	Parallel int      `yaml:"parallel,omitempty"` // chunks that a node has in hand at a time [4]
	After    Duration `yaml:"after,omitempty"`    // a disk away for so long counts as lost [15m]
}

// Log is where the node's own words go: standard error.
type Log struct {
	Level  string `yaml:"level,omitempty"`  // debug, info, warn, error
	Format string `yaml:"format,omitempty"` // text, json
}

// LoadConfig reads and checks a configuration file; all faults are in the error.
func LoadConfig(path string) (*Config, error) {
	c := &Config{}
	if err := loadYAML(path, c); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", path, err)
	}
	c.dir, c.file = dir, path
	c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("config %s:\n%w", path, err)
	}
	return c, nil
}

func (c *Config) withDefaults() {
	setDefault(&c.Region, "region.yaml")
	setDefault(&c.Identity, "identity")
	setDefault(&c.Secrets, "secrets.yaml")
	setDefault(&c.Keyring, "keyring.yaml")
	setDefault(&c.Data, "data")
	setDefault(&c.Transport.Encrypt, transport.EncryptAuto)
	setDefault(&c.Transport.Relay, RelayAuto)
	setDefault(&c.Limits.Budget, 256<<20)
	setDefault(&c.Limits.Requests, 1024)
	setDefault(&c.Scrub.Period, Duration(30*24*time.Hour))
	setDefault(&c.Scrub.Rate, 64<<20)
	setDefault(&c.Heal.Rate, 64<<20)
	setDefault(&c.Heal.Parallel, 4)
	setDefault(&c.Heal.After, Duration(15*time.Minute))
	setDefault(&c.GarbageGrace, Duration(15*time.Minute))
	setDefault(&c.LifecycleDay, Duration(24*time.Hour))
	setDefault(&c.ReplaceVoters, Duration(15*time.Minute))
	setDefault(&c.Drain, Duration(20*time.Second))
	setDefault(&c.Log.Level, "info")
	setDefault(&c.Log.Format, "text")
	for _, p := range []*string{&c.Region, &c.Identity, &c.Secrets, &c.Keyring, &c.Data} {
		*p = c.path(*p)
	}
	for _, p := range []*string{&c.S3.TLS.Cert, &c.S3.TLS.Key} {
		if *p != "" {
			*p = c.path(*p)
		}
	}
	for i := range c.Disks {
		c.Disks[i] = c.path(c.Disks[i])
	}
}

func (c *Config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

var nodeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("  "+format, args...)) }
	if !nodeName.MatchString(string(c.Node)) {
		fault("node: %q is not a name of lower-case letters, digits and '-', up to 32", c.Node)
	}
	for key, addr := range map[string]string{"transport": c.Listen.Transport, "gossip": c.Listen.Gossip, "s3": c.Listen.S3, "admin": c.Listen.Admin} {
		if addr != "" {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				fault("listen.%s: %v", key, err)
			}
		}
	}
	switch c.Transport.Encrypt {
	case transport.EncryptAuto, transport.EncryptOn, transport.EncryptOff:
	default:
		fault("transport.encrypt: %q, want auto, on or off", c.Transport.Encrypt)
	}
	if (c.S3.TLS.Cert == "") != (c.S3.TLS.Key == "") {
		fault("s3.tls: cert and key go together")
	}
	if err := c.Transport.Relay.validate(); err != nil {
		fault("transport.relay: %v", err)
	}
	if c.Limits.Budget < 64<<20 {
		fault("limits.budget: %d bytes, want at least 64MiB", c.Limits.Budget)
	}
	if c.Limits.Segment != 0 && c.Limits.Segment < 16<<20 || c.Limits.Segment > 1<<30 {
		fault("limits.segment: %d bytes, want 16MiB to 1GiB", c.Limits.Segment)
	}
	if c.Limits.DiskReserve < 0 {
		fault("limits.disk_reserve: negative")
	}
	if c.Limits.Requests < 1 || c.Limits.Requests > 1<<16 {
		fault("limits.requests: %d, want 1 to 65536", c.Limits.Requests)
	}
	c.validateUpkeep(fault)
	if c.Drain < 0 {
		fault("drain: negative")
	}
	if _, err := c.Log.level(); err != nil {
		fault("log.level: %v", err)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		fault("log.format: %q, want text or json", c.Log.Format)
	}
	seen := map[string]bool{}
	for _, d := range c.Disks {
		if seen[d] {
			fault("disks: %s is listed twice", d)
		}
		seen[d] = true
	}
	return errors.Join(errs...)
}

// validateUpkeep is about what goes on in the background.
func (c *Config) validateUpkeep(fault func(format string, args ...any)) {
	if c.Scrub.Period < Duration(time.Minute) {
		fault("scrub.period: %s, want at least 1m", time.Duration(c.Scrub.Period))
	}
	if c.Scrub.Rate < 1<<20 {
		fault("scrub.rate: %d bytes, want at least 1MiB", c.Scrub.Rate)
	}
	if c.Heal.Rate < 1<<20 {
		fault("heal.rate: %d bytes, want at least 1MiB", c.Heal.Rate)
	}
	if c.Heal.Parallel < 1 || c.Heal.Parallel > 64 {
		fault("heal.parallel: %d, want 1 to 64", c.Heal.Parallel)
	}
	if c.Heal.After < Duration(time.Second) {
		fault("heal.after: %s, want at least 1s", time.Duration(c.Heal.After))
	}
	if c.GarbageGrace < Duration(time.Second) {
		fault("garbage_grace: %s, want at least 1s", time.Duration(c.GarbageGrace))
	}
	if c.LifecycleDay < Duration(time.Second) {
		fault("lifecycle_day: %s, want at least 1s", time.Duration(c.LifecycleDay))
	}
	if c.ReplaceVoters < Duration(time.Second) {
		fault("replace_voters: %s, want at least 1s", time.Duration(c.ReplaceVoters))
	}
}

// loadYAML reads one document and refuses keys that it does not know.
func loadYAML(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Duration is written as Go writes them: 15m, 1h30m.
type Duration time.Duration

// UnmarshalYAML reads "15m".
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes it back.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// Size is a number of bytes, written with an optional KiB, MiB, GiB or TiB.
type Size int64

// UnmarshalYAML reads "256MiB".
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseSize(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*s = v
	return nil
}

// MarshalYAML writes plain bytes.
func (s Size) MarshalYAML() (any, error) { return int64(s), nil }

// ParseSize reads a number of bytes with an optional binary unit.
func ParseSize(text string) (Size, error) {
	number, shift := strings.TrimSpace(text), 0
	for unit, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40} {
		if rest, ok := strings.CutSuffix(number, unit); ok {
			number, shift = strings.TrimSpace(rest), bits
			break
		}
	}
	var v int64
	if _, err := fmt.Sscanf(number, "%d", &v); err != nil || fmt.Sprint(v) != number || v < 0 || v > 1<<62>>shift {
		return 0, fmt.Errorf("size %q: want a whole number of bytes, KiB, MiB, GiB or TiB", text)
	}
	return Size(v << shift), nil
}
