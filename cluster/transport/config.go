package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"bivalve/cluster"
)

// EncryptMode says which connections stay encrypted after the handshake. All of
// them are authenticated. Where the two ends differ, encryption wins.
type EncryptMode string

const (
	// EncryptAuto encrypts all but what stays between loopback addresses.
	EncryptAuto EncryptMode = "auto"
	// EncryptOn encrypts everything.
	EncryptOn EncryptMode = "on"
	// EncryptOff leaves shard payloads in the clear; the rest is as in auto.
	EncryptOff EncryptMode = "off"
)

// Pool is the purpose of a connection.
type Pool uint8

const (
	PoolShards Pool = iota
	PoolMeta
	poolRaft
	poolStream
	poolCount
)

// Config is shared by the client and the server of one node.
type Config struct {
	// Identity is this node's certificate and the CA it trusts. Required.
	Identity *Identity
	// Encrypt defaults to EncryptAuto.
	Encrypt EncryptMode
	// Addr tells where a node listens (host:port). Required for a client.
	// Called at every dial, concurrently.
	Addr func(cluster.NodeID) (string, bool)
	// Zone is this node's; ZoneOf that of a peer ("" if unknown). Only metrics
	// use them. Without ZoneOf bytes between zones are not counted.
	Zone   cluster.Zone
	ZoneOf func(cluster.NodeID) cluster.Zone
	// Errors are further sentinels that cross the wire by kind, from
	// FirstFreeErrorCode on. Both sides need the same table.
	Errors map[uint16]error
	// Wrap stands between the client and a connection that it has dialled, before
	// a byte is sent: faults for tests. Nil leaves connections as they are.
	Wrap func(to cluster.NodeID, c net.Conn) net.Conn
	// Buffers lends memory for shard bodies; default NewBuffers().
	Buffers Buffers
	// Metrics is shared by client and server; nil counts into nothing visible.
	Metrics *Metrics
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	Limits Limits
}

// Limits are all finite; zero means the default in brackets.
type Limits struct {
	DialTimeout      time.Duration // TCP connect [1 s]
	HandshakeTimeout time.Duration // TLS and hello, either side [5 s]
	CallTimeout      time.Duration // of a call whose context has no deadline [30 s]
	DownFor          time.Duration // calls fail fast after a failed dial [100 ms]
	ClientIdle       time.Duration // an unused pooled connection is closed [60 s]
	ServerIdle       time.Duration // the same at the server, longer [150 s]
	ReadTimeout      time.Duration // for one frame to arrive whole [30 s]
	WriteTimeout     time.Duration // for one frame to leave [30 s]
	DrainTimeout     time.Duration // handlers get this long after Serve is told to end [5 s]
	ConnsPerPool     int           // client: connections per peer in pools shards and metadata [64]
	MaxConns         int           // server: connections of these pools in all [8192]
	MaxHandshakes    int           // server: connections not yet authenticated [512]
	ShardBytes       int64         // server: shard bodies in memory [256 MiB]
	MetaBytes        int64         // server: metadata bodies in memory [128 MiB]
	RelayBytes       int64         // server: chunks being relayed, with the shards made of them [128 MiB]
	RaftQueue        int           // client: messages waiting per peer [4096]
	RaftQueueBytes   int           // client: their bytes [64 MiB]
}

func (l Limits) withDefaults() Limits {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&l.DialTimeout, time.Second)
	def(&l.HandshakeTimeout, 5*time.Second)
	def(&l.CallTimeout, 30*time.Second)
	def(&l.DownFor, 100*time.Millisecond)
	def(&l.ClientIdle, 60*time.Second)
	def(&l.ServerIdle, 150*time.Second)
	def(&l.ReadTimeout, 30*time.Second)
	def(&l.WriteTimeout, 30*time.Second)
	def(&l.DrainTimeout, 5*time.Second)
	defInt := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	defInt(&l.ConnsPerPool, 64)
	defInt(&l.MaxConns, 8192)
	defInt(&l.MaxHandshakes, 512)
	defInt(&l.RaftQueue, 4096)
	defInt(&l.RaftQueueBytes, 64<<20)
	if l.ShardBytes == 0 {
		l.ShardBytes = 256 << 20
	}
	if l.MetaBytes == 0 {
		l.MetaBytes = 128 << 20
	}
	if l.RelayBytes == 0 {
		l.RelayBytes = 128 << 20
	}
	return l
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Identity == nil {
		errs = append(errs, errors.New("transport: Identity is required"))
	}
	switch c.Encrypt {
	case "", EncryptAuto, EncryptOn, EncryptOff:
	default:
		errs = append(errs, fmt.Errorf("transport: encrypt mode %q: want auto, on or off", c.Encrypt))
	}
	l := c.Limits.withDefaults()
	// A single frame must fit, or it would wait for ever.
	if l.ShardBytes < MaxBodyBytes || l.MetaBytes < MaxMetaBytes {
		errs = append(errs, fmt.Errorf("transport: memory limits below one frame (%d, %d)", l.ShardBytes, l.MetaBytes))
	}
	if l.ClientIdle >= l.ServerIdle {
		errs = append(errs, errors.New("transport: the client must give up an idle connection before the server does"))
	}
	if _, err := newErrorCodec(c.Errors); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// withDefaults fills what is left out; the Config has been validated.
func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	if c.Encrypt == "" {
		c.Encrypt = EncryptAuto
	}
	if c.Buffers == nil {
		c.Buffers = NewBuffers()
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// plainWanted tells whether this side would leave TLS for the connection.
func (m EncryptMode) plainWanted(pool Pool, local, remote net.Addr) bool {
	switch m {
	case EncryptOn:
		return false
	case EncryptOff:
		if pool == PoolShards {
			return true
		}
	}
	return isLoopback(local) && isLoopback(remote)
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}
