package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/cluster/membership"
	"bivalve/cluster/reach"
	"bivalve/cluster/transport"
	"bivalve/metadata/catalog"
	"bivalve/metadata/incarnation"
	"bivalve/metadata/replica"
	"bivalve/s3api"
	"bivalve/server/admin"
	"bivalve/server/keyring"
	"bivalve/server/object"
	"bivalve/server/upkeep"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
)

// Version of the program; the build sets it.
var Version = "0.1.0-dev"

// Node is one running node. New builds it, Run runs it, Close releases what Run
// did not.
type Node struct {
	cfg     *Config
	file    *RegionFile
	self    SeedMember
	secrets *Secrets
	logger  *slog.Logger
	metrics *prometheus.Registry
	started time.Time

	slots    slotList       // one for each configured disk
	adding   sync.Mutex     // held while a new disk is taken
	newSlots chan *diskSlot // of disks that were added while the node runs
	seen     *incarnations
	local    *localShards
	client   *transport.Client
	server   *transport.Server
	traffic  *trafficMeter
	gossip   *membership.Membership
	meta     membership.Meta // what gossip tells of this node; judgePaces keeps it up
	judged   judged
	host     *replica.Host
	life     *incarnation.Book
	router   *replica.Router
	catalog  *catalog.Catalog
	strict   *catalog.Catalog // whose answers are never of a replica that lags, as in read-only mode
	region   *Region
	reach    *reach.Prober
	store    *object.Store
	s3       *http.Server // nil at the witness
	s3cert   *s3Cert      // nil: plain HTTP
	admin    *http.Server

	readOnly atomic.Bool // reads may be answered without a majority

	making sync.Mutex // one replica is made at a time
	noLog  error      // why there is no raft log to be used; guarded by making after New

	lifeDamaged error         // why the number of this life is not known, until it is
	rootChanged chan struct{} // has a token when the root group applied something
	damage      *damageLog
	checks      *checks
	mender      *upkeep.Mender   // nil without disks,
	scrubber    *upkeep.Scrubber // and so are these
	restorer    *upkeep.Restorer
	caretaker   *upkeep.Caretaker // of the groups that this node leads
	mover       *upkeep.Mover
	lifecycle   *upkeep.Lifecycle
	moves       movedSlots
	rebuilder   *upkeep.Rebuilder
	healer      *upkeep.Healer
	absences    *upkeep.AbsenceWatch
	census      *upkeep.Census
	sweeper     *upkeep.Sweeper
	listeners   map[string]net.Listener
	closers     []func() error // in the order of building
}

// Run is the life of a node: it returns after SIGTERM's drain (ctx ended), or
// with the error that ended it.
func Run(ctx context.Context, cfg *Config) error {
	logger, err := cfg.Log.logger(os.Stderr)
	if err != nil {
		return err
	}
	n, err := New(cfg, logger)
	if err != nil {
		return err
	}
	return errors.Join(n.Run(ctx), n.Close())
}

// New opens and introduces all parts, from the disks outwards. Nothing is served
// before Run.
func New(cfg *Config, logger *slog.Logger) (_ *Node, err error) {
	n := &Node{cfg: cfg, logger: logger.With("node", cfg.Node), metrics: prometheus.NewRegistry(), started: time.Now(),
		rootChanged: make(chan struct{}, 1), newSlots: make(chan *diskSlot), listeners: map[string]net.Listener{}}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.damage = newDamageLog(n.logger, n.metrics)
	n.checks = newChecks(n.damage, n.askOwner, n.logger)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	for _, step := range []func() error{
		n.load, n.openDisks, n.openTransport, n.openReach, n.openMetadata, n.openGossip, n.openStore, n.openHealing, n.openCensus, n.openDoors, n.listen,
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("node %s: %w", cfg.Node, err)
		}
	}
	return n, nil
}

// load reads the files that the configuration names.
func (n *Node) load() (err error) {
	if n.file, err = LoadRegion(n.cfg.Region); err != nil {
		return err
	}
	if n.cfg.Faults == nil {
		n.cfg.Faults = &Faults{}
	}
	if n.secrets, err = LoadSecrets(n.cfg.Secrets); err != nil {
		return err
	}
	var ok bool
	if n.self, ok = n.file.Member(n.cfg.Node); !ok {
		return fmt.Errorf("the region file has no member %q", n.cfg.Node)
	}
	if (n.self.Role == cluster.RoleStorage) != (len(n.cfg.Disks) > 0) {
		return fmt.Errorf("a %s node with %d disks", n.self.Role, len(n.cfg.Disks))
	}
	n.region = newRegion(n.cfg.Node, n.logger)
	return os.MkdirAll(n.cfg.Data, 0o700)
}

// openTransport makes both ends of the calls between nodes.
func (n *Node) openTransport() error {
	identity, err := transport.LoadIdentity(n.cfg.Identity)
	if err != nil {
		return err
	}
	counters := transport.NewMetrics(n.metrics)
	n.traffic = newTrafficMeter(counters.Crossed, time.Now)
	cfg := transport.Config{
		Identity: identity,
		Encrypt:  n.cfg.Transport.Encrypt,
		Addr: func(id cluster.NodeID) (string, bool) {
			m, ok := n.peer(id)
			return m.Addr, ok
		},
		Zone: n.self.Zone,
		ZoneOf: func(id cluster.NodeID) cluster.Zone {
			m, _ := n.peer(id)
			return m.Zone
		},
		Wrap:    n.cfg.Faults.Wrap,
		Buffers: pooledBuffers{},
		Metrics: counters,
		Logger:  n.logger,
	}
	if n.client, err = transport.NewClient(cfg); err != nil {
		return err
	}
	n.closers = append(n.closers, n.client.Close)
	if n.server, err = transport.NewServer(cfg); err != nil {
		return err
	}
	n.local = &localShards{slots: &n.slots, region: n.region}
	n.region.localDisk = n.local.failed
	n.server.HandleShards(n.local)
	return nil
}

// pooledBuffers are the disk's aligned ones, so that a shard goes from the socket
// to the disk without a copy.
type pooledBuffers struct{}

func (pooledBuffers) Get(n int) []byte { return disk.GetBuffer(n) }
func (pooledBuffers) Put(b []byte)     { disk.PutBuffer(b) }

// openStore builds the object engine.
func (n *Node) openStore() (err error) {
	keys, err := n.openKeyring()
	if err != nil {
		return err
	}
	var relays object.Relays // nil: off
	if n.relays() {
		relays = transport.Shards{Client: n.client}
	}
	n.store, err = object.New(object.Config{
		Versions: n.catalog, Buckets: n.catalog, Settings: n.catalog, Uploads: n.catalog, References: n.catalog, Usages: n.catalog,
		Shards: n.allShards(), Relays: relays,
		Region: n.region, Damage: n.checks, Buffers: pooledBuffers{}, Keyring: keys, Zone: n.self.Zone, Clock: n.catalog.Now,
		Random:       func(p []byte) error { _, err := rand.Read(p); return err },
		LifecycleDay: time.Duration(n.cfg.LifecycleDay),
		// A reference that no copy uses keeps bytes as garbage does.
		ReferenceLife: min(10*time.Minute, max(5*time.Second, time.Duration(n.cfg.GarbageGrace))),
		BudgetBytes:   int64(n.cfg.Limits.Budget),
		Logger:        n.logger, Registry: n.metrics,
	})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.store.Close)
	n.lifecycle = n.newLifecycle()
	n.server.HandleRelay(n.store)
	return nil
}

// openKeyring opens the master keys. A region made before there were any has none.
func (n *Node) openKeyring() (object.Keyring, error) {
	if n.secrets.KeyringKey == "" {
		return nil, nil
	}
	return keyring.Open(n.cfg.Keyring, n.secrets.KeyringKey, n.logger, time.Now)
}

// openDoors builds what clients and operators talk to.
func (n *Node) openDoors() error {
	n.admin = admin.NewServer(admin.Config{Registry: n.metrics, Ready: n.Ready, Status: n.Status, Scrub: n.Scrub, Orders: n.orders(), Logger: n.logger})
	if n.self.Role != cluster.RoleStorage {
		return nil
	}
	d := door{n.store}
	h, err := s3api.New(s3api.Config{
		Buckets: d, Settings: d, Objects: d, Lister: d, Uploads: d, Copier: d, Sealed: d,
		Credentials: rootCredentials{n.secrets.AccessKey, n.secrets.SecretKey},
		Region:      n.file.Name, Domains: n.cfg.S3.Domains, MaxRequests: n.cfg.Limits.Requests,
		Logger: n.logger, Registry: n.metrics,
	})
	if err != nil {
		return err
	}
	n.s3 = s3api.NewServer("", n.toldDoor(h), n.logger)
	if n.cfg.S3.TLS.Cert != "" {
		n.s3cert, err = loadS3Cert(n.cfg.S3.TLS, n.logger)
	}
	return err
}

// orders are those of the operator beside the status and the scrub.
func (n *Node) orders() map[string]admin.Order {
	out := n.layoutOrders()
	out["POST /v1/read-only"] = n.readOnlyOrder
	n.censusOrders(out)
	n.bucketOrders(out)
	return out
}

// listen takes the ports early, so that a taken one is an error of the start.
func (n *Node) listen() error {
	addrs := map[string]string{
		"transport": orElse(n.cfg.Listen.Transport, n.self.Addr),
		"admin":     orElse(n.cfg.Listen.Admin, n.self.Admin),
	}
	if n.s3 != nil {
		addrs["s3"] = orElse(n.cfg.Listen.S3, n.self.S3)
	}
	for name, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen %s: %w", name, err)
		}
		if name == "s3" && n.s3cert != nil {
			l = tls.NewListener(l, n.s3cert.config())
		}
		n.listeners[name] = l
		n.closers = append(n.closers, func() error {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
	}
	return nil
}

// Run serves until ctx ends, drains, and returns. The parts end in the reverse
// order of what depends on them: first the doors, last the metadata.
func (n *Node) Run(ctx context.Context) error {
	inner, endInner := context.WithCancel(context.WithoutCancel(ctx))
	defer endInner()
	parts, partsCtx := errgroup.WithContext(inner)
	parts.Go(func() error { return n.runMetadata(partsCtx) })
	parts.Go(func() error { return n.server.Serve(partsCtx, n.listeners["transport"]) })
	parts.Go(func() error { return n.gossip.Run(partsCtx) })
	parts.Go(func() error { return n.reach.Run(partsCtx) })
	parts.Go(func() error { return n.watchRegion(partsCtx) })
	parts.Go(func() error { return n.tidyOwn(partsCtx) })
	parts.Go(func() error { return n.watchRecovered(partsCtx) })
	parts.Go(func() error { return n.register(partsCtx) })
	parts.Go(func() error { return n.reportFailed(partsCtx) })
	parts.Go(func() error { return n.reportSlow(partsCtx) })
	parts.Go(func() error { return n.reportMoved(partsCtx) })
	for _, s := range n.slots.all() {
		parts.Go(func() error { return s.Run(partsCtx) })
	}
	parts.Go(func() error {
		for {
			select {
			case <-partsCtx.Done():
				return nil
			case s := <-n.newSlots:
				parts.Go(func() error { return s.Run(partsCtx) })
			}
		}
	})
	parts.Go(func() error { return n.judgePaces(partsCtx) })
	parts.Go(func() error { return n.traffic.Run(partsCtx) })
	for _, task := range n.upkeep() {
		parts.Go(func() error { return task(partsCtx) })
	}
	parts.Go(func() error { return serveHTTP(n.admin, n.listeners["admin"]) })
	if n.s3 != nil {
		// A request that outlives the drain is cut off before the parts it uses.
		n.s3.BaseContext = func(net.Listener) context.Context { return inner }
		parts.Go(func() error { return serveHTTP(n.s3, n.listeners["s3"]) })
	}
	n.logger.Info("node started", "zone", n.self.Zone, "role", n.self.Role, "s3", n.self.S3, "version", Version)
	select {
	case <-ctx.Done():
	case <-partsCtx.Done(): // a part ended the node
	}
	drained := n.drain()
	endInner()
	err := parts.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, drained)
}

// drain lets requests under way finish and takes no new ones.
func (n *Node) drain() error {
	n.logger.Info("draining")
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n.cfg.Drain))
	defer cancel()
	if err := n.gossip.Leave(time.Second); err != nil {
		n.logger.Debug("gossip could not say goodbye", "err", err)
	}
	var errs []error
	for _, s := range []*http.Server{n.s3, n.admin} {
		if s == nil {
			continue
		}
		if err := s.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
			n.logger.Warn("requests were cut off at the end of the drain")
			err = s.Close()
			errs = append(errs, err)
		} else {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func serveHTTP(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close releases everything, in the reverse order of building. It is idempotent.
func (n *Node) Close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}

func (n *Node) dataPath(name string) string { return filepath.Join(n.cfg.Data, name) }
