package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
)

// Forced recovery of the metadata, on the files of nodes that are stopped. The order:
//
//  1. every node's files are looked at, and nothing is written;
//  2. for each group one survivor is chosen, and the operator is told what that may
//     lose, and asked;
//  3. each node gets the verdicts as a file, RECOVERY: while it is there the node does
//     not start, and the recovery is gone on with when it is run again;
//  4. the survivors' logs are applied, and the other replicas set aside;
//  5. the file goes.

// recoveryFile holds what is to be done to a node, until it is done.
const recoveryFile = "RECOVERY"

// RecoveryReport is what one stopped node has.
type RecoveryReport struct {
	Version int                `json:"version"` // 1
	Cluster string             `json:"cluster"`
	Node    cluster.NodeID     `json:"node"`
	Groups  []replica.Survivor `json:"groups"`
}

// RecoveryPlan is what is to be done, by group.
type RecoveryPlan struct {
	Version  int               `json:"version"` // 1
	Cluster  string            `json:"cluster"`
	Nodes    []cluster.NodeID  `json:"nodes"` // whose reports were heard
	Verdicts []replica.Verdict `json:"verdicts"`
	Reports  []RecoveryReport  `json:"-"`
	Names    map[string]string `json:"names"` // nodes, by number
}

// Forced tells whether anything is forced at all.
func (p *RecoveryPlan) Forced() bool {
	return slices.ContainsFunc(p.Verdicts, func(v replica.Verdict) bool { return v.Winner != 0 || len(v.Archive) > 0 })
}

// Name is the node that a replica lies on.
func (p *RecoveryPlan) Name(id replica.ReplicaID) string {
	if n := p.Names[fmt.Sprint(uint64(id.Host()))]; n != "" {
		return n
	}
	return fmt.Sprintf("node %d", id.Host())
}

// Recovery works on the nodes whose configurations are given, all of them stopped.
type Recovery struct {
	nodes []*stoppedNode
	file  *RegionFile
}

type stoppedNode struct {
	cfg  *Config
	file *RegionFile
	self SeedMember
	log  *replica.BoltLog
}

// OpenRecovery opens the logs of stopped nodes of one region; one that runs has its
// log locked.
func OpenRecovery(configs []string) (_ *Recovery, err error) {
	r := &Recovery{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, path := range configs {
		cfg, err := LoadConfig(path)
		if err != nil {
			return nil, err
		}
		file, err := LoadRegion(cfg.Region)
		if err != nil {
			return nil, err
		}
		if r.file == nil {
			r.file = file
		} else if r.file.Cluster != file.Cluster {
			return nil, fmt.Errorf("%s is of another region", path)
		}
		self, ok := file.Member(cfg.Node)
		if !ok {
			return nil, fmt.Errorf("the region file has no member %q", cfg.Node)
		}
		raft := filepath.Join(cfg.Data, "raft.db")
		if _, err := os.Stat(raft); err != nil {
			return nil, fmt.Errorf("node %s: %w", cfg.Node, err)
		}
		log, err := replica.OpenBoltLog(raft)
		if err != nil {
			return nil, fmt.Errorf("node %s (does it still run?): %w", cfg.Node, err)
		}
		r.nodes = append(r.nodes, &stoppedNode{cfg, file, self, log})
	}
	return r, nil
}

// Close releases the files.
func (r *Recovery) Close() error {
	var errs []error
	for _, n := range r.nodes {
		errs = append(errs, n.log.Close())
	}
	r.nodes = nil
	return errors.Join(errs...)
}

func (s *stoppedNode) group(g replica.GroupID) string {
	return filepath.Join(s.cfg.Data, "groups", fmt.Sprintf("%d.db", g))
}

func (s *stoppedNode) open(g replica.GroupID) (replica.StateMachine, error) {
	if _, err := os.Stat(s.group(g)); err != nil {
		return nil, fmt.Errorf("%w: %w", replica.ErrDamaged, err)
	}
	return catalog.OpenStateMachine(s.group(g), nil)
}

// Reports says what the nodes have.
func (r *Recovery) Reports() ([]RecoveryReport, error) {
	var out []RecoveryReport
	for _, n := range r.nodes {
		groups, err := replica.Inspect(n.log, replica.ReplicaID(n.self.Replica), n.open)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.self.ID, err)
		}
		out = append(out, RecoveryReport{Version: 1, Cluster: r.file.Cluster, Node: n.self.ID, Groups: groups})
	}
	return out, nil
}

// Plan decides from the reports of all survivors, those of other hosts among them.
// What an interrupted recovery had decided stands.
func (r *Recovery) Plan(reports []RecoveryReport) (*RecoveryPlan, error) {
	for _, n := range r.nodes {
		if p, err := n.unfinished(); err != nil || p != nil {
			return p, err
		}
	}
	p := &RecoveryPlan{Version: 1, Cluster: r.file.Cluster, Names: map[string]string{}, Reports: reports}
	for _, n := range r.nodes {
		for _, m := range slices.Concat(n.file.Members, n.file.Joined) {
			p.Names[fmt.Sprint(m.Replica)] = string(m.ID)
		}
	}
	for _, rep := range reports {
		if rep.Version != 1 || rep.Cluster != r.file.Cluster {
			return nil, fmt.Errorf("the report of node %s is of another region or version", rep.Node)
		}
		if slices.Contains(p.Nodes, rep.Node) {
			return nil, fmt.Errorf("node %s is reported twice", rep.Node)
		}
		p.Nodes = append(p.Nodes, rep.Node)
		for _, s := range rep.Groups { // of a node that joined later, which no file here may name
			p.Names[fmt.Sprint(uint64(s.Self.Host()))] = string(rep.Node)
		}
	}
	for g := catalog.Root; int(g) <= r.file.Partitions; g++ {
		var have []replica.Survivor
		for _, rep := range reports {
			for _, s := range rep.Groups {
				if s.Group == g {
					have = append(have, s)
				}
			}
		}
		p.Verdicts = append(p.Verdicts, replica.JudgeRecovery(g, have))
	}
	return p, nil
}

// unfinished is the plan of a recovery that was interrupted.
func (s *stoppedNode) unfinished() (*RecoveryPlan, error) {
	raw, err := os.ReadFile(filepath.Join(s.cfg.Data, recoveryFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &RecoveryPlan{}
	if err := json.Unmarshal(raw, p); err != nil || p.Version != 1 {
		return nil, fmt.Errorf("node %s: %s cannot be read: %w", s.self.ID, recoveryFile, err)
	}
	return p, nil
}

// RecoveryProgress is how far the recovery is.
type RecoveryProgress struct {
	Node    cluster.NodeID  `json:"node"`
	Group   replica.GroupID `json:"group"`
	Groups  int             `json:"groups"`  // of the node, in all
	Entries uint64          `json:"entries"` // of the group's log
	Of      uint64          `json:"of"`
}

// Execute carries a plan out on the nodes here.
func (r *Recovery) Execute(p *RecoveryPlan, progress func(RecoveryProgress)) error {
	for _, n := range r.nodes {
		if err := n.note(p); err != nil {
			return err
		}
	}
	for _, n := range r.nodes {
		for _, v := range p.Verdicts {
			tell := func(done, total uint64) {
				progress(RecoveryProgress{Node: n.self.ID, Group: v.Group, Groups: len(p.Verdicts), Entries: done, Of: total})
			}
			if err := n.carryOut(v, tell); err != nil {
				return fmt.Errorf("node %s: group %d: %w", n.self.ID, v.Group, err)
			}
		}
	}
	for _, n := range r.nodes {
		if err := errors.Join(os.Remove(filepath.Join(n.cfg.Data, recoveryFile)), syncDir(n.cfg.Data)); err != nil {
			return err
		}
	}
	return nil
}

// note writes the plan down, durably, before anything is changed.
func (s *stoppedNode) note(p *RecoveryPlan) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(s.cfg.Data, recoveryFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(s.cfg.Data)
}

// carryOut does what a verdict says of this node's replica, if it has one.
func (s *stoppedNode) carryOut(v replica.Verdict, progress func(done, total uint64)) (err error) {
	st, err := s.log.InitialState(v.Group)
	if errors.Is(err, replica.ErrNoGroup) {
		return nil
	}
	if err != nil && !errors.Is(err, replica.ErrCorrupt) {
		return err
	}
	self := st.Mark.Self
	if self == 0 {
		self = replica.ReplicaID(s.self.Replica)
	}
	switch {
	case self == v.Winner && st.Mark.Epoch < v.Epoch:
		sm, err := s.open(v.Group)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sm.Close()) }()
		last, err := s.lastCommand(v)
		if err != nil {
			return err
		}
		return replica.Recover(s.log, sm, v, last, progress)
	case slices.Contains(v.Archive, self):
		// The state first: after a crash between, the log still says that it is to go.
		aside := fmt.Sprintf("%s.before-%s", s.group(v.Group), time.Now().UTC().Format("20060102T150405"))
		if err := os.Rename(s.group(v.Group), aside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := syncDir(filepath.Dir(aside)); err != nil {
			return err
		}
		return s.log.Drop(v.Group)
	}
	return nil
}

// lastCommand has a partition compare what it knows of copies with all others. It carries
// no time: log time goes on from where it was, whatever the clock of this host shows.
func (s *stoppedNode) lastCommand(v replica.Verdict) ([]byte, error) {
	if v.Group == catalog.Root {
		return nil, nil
	}
	var id metadata.RequestID
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	return metadata.NewCommand(metadata.Level, metadata.CmdRecovered, id, 0,
		metadata.Recovered{Epoch: v.Epoch, Partitions: uint16(s.file.Partitions)})
}

// checkRecovered refuses to start a node in the middle of a recovery.
func (n *Node) checkRecovered() error {
	_, err := os.Stat(n.dataPath(recoveryFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s is there: a forced recovery was begun and not ended; run `bivalve admin recover --force-quorum` again", n.dataPath(recoveryFile))
	}
	return err
}
