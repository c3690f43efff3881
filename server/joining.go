package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/metadata"
	"bivalve/server/admin"
	"bivalve/server/keyring"

	"github.com/fxamacker/cbor/v2"
)

// keyNumbers holds the highest replica number that was given to a node.
const keyNumbers = "numbers"

// NodeReplaced answers an order to give the share of a lost node to another.
type NodeReplaced struct {
	State *StateChange `json:"state"`
	Plan  *LayoutPlan  `json:"layout"`
}

// AddNode takes a storage node into the region: from now on the others know it and
// accept its certificate. It gets a replica number that no node ever had. Given again
// with the same addresses, the order answers the same.
func (n *Node) AddNode(ctx context.Context, m SeedMember) (*SeedMember, error) {
	v, err := n.agreedView(ctx)
	if err != nil {
		return nil, err
	}
	m.Role = cluster.RoleStorage
	if known, ok := v.members[m.ID]; ok {
		was := seedOf(known)
		if m.Replica = was.Replica; was != m || v.NodeState(m.ID) == cluster.StateRemoved {
			return nil, fmt.Errorf("%w: node %s is or was there already, with other addresses or another zone; a node that was removed comes back under another name", admin.ErrRefused, m.ID)
		}
		return &was, nil
	}
	if err := n.checkJoining(v, m); err != nil {
		return nil, err
	}
	if m.Replica, err = n.newNumber(ctx, v); err != nil {
		return nil, err
	}
	value, err := cbor.Marshal(cluster.Member{ID: m.ID, Zone: m.Zone, Role: m.Role, Replica: m.Replica, Addr: m.Addr, Gossip: m.Gossip, S3: m.S3, Admin: m.Admin})
	if err != nil {
		return nil, err
	}
	_, err = n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyMemberPrefix + string(m.ID), Value: value})
	if errors.Is(err, metadata.ErrConflict) {
		return nil, fmt.Errorf("%w: node %s was added meanwhile", admin.ErrRefused, m.ID)
	}
	if err == nil {
		err = n.region.refresh()
	}
	return &m, err
}

// checkJoining looks at a node that is to join as the region file would at it.
func (n *Node) checkJoining(v *view, m SeedMember) error {
	file := *n.file
	file.Joined = slices.Clone(n.file.Joined)
	m.Replica = n.lastNumber(v) + 1 // the real one is not given yet
	file.Joined = append(file.Joined, m)
	for _, o := range v.members {
		for _, a := range []string{o.Addr, o.Gossip, o.S3} {
			if v.NodeState(o.ID) != cluster.StateRemoved && a != "" && slices.Contains([]string{m.Addr, m.Gossip, m.S3}, a) {
				return fmt.Errorf("%w: address %s is that of node %s", admin.ErrBad, a, o.ID)
			}
		}
	}
	if err := file.Validate(); err != nil {
		return fmt.Errorf("%w:\n%w", admin.ErrBad, err)
	}
	return nil
}

// lastNumber is the highest among the nodes that are or were there.
func (n *Node) lastNumber(v *view) (last uint64) {
	for _, o := range v.members {
		last = max(last, o.Replica)
	}
	for _, o := range n.file.Members {
		last = max(last, o.Replica)
	}
	return last
}

// newNumber takes the next replica number, which nobody takes a second time.
func (n *Node) newNumber(ctx context.Context, v *view) (uint64, error) {
	last := n.lastNumber(v)
	values, err := n.catalog.GetConfig(ctx, keyNumbers)
	if err != nil {
		return 0, err
	}
	var revision uint64
	for _, value := range values {
		var given uint64
		if value.Key != keyNumbers {
			continue
		}
		if err := json.Unmarshal(value.Value, &given); err != nil {
			return 0, err
		}
		revision, last = value.Revision, max(last, given)
	}
	raw, err := json.Marshal(last + 1)
	if err != nil {
		return 0, err
	}
	_, err = n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyNumbers, Value: raw, Expect: revision})
	if errors.Is(err, metadata.ErrConflict) {
		return 0, fmt.Errorf("%w: another node is being added; try again", admin.ErrRefused)
	}
	return last + 1, err
}

// ReplaceNode declares a node lost that is dead, and lets the layout give its share
// to who is there: to the node that joined for it, which has nothing yet.
func (n *Node) ReplaceNode(ctx context.Context, old, by cluster.NodeID) (*NodeReplaced, error) {
	v, err := n.agreedView(ctx)
	if err != nil {
		return nil, err
	}
	gone, ok := v.members[old]
	next, joined := v.members[by]
	switch {
	case !ok || !joined:
		return nil, fmt.Errorf("%w: no node %q or no node %q", admin.ErrBad, old, by)
	case old == by || gone.Zone != next.Zone || v.NodeState(by) != cluster.StateActive:
		return nil, fmt.Errorf("%w: node %s of zone %s cannot take the place of node %s of zone %s", admin.ErrBad, by, next.Zone, old, gone.Zone)
	case len(next.Disks) == 0 || by != n.self.ID && !n.gossip.Alive(by):
		return nil, fmt.Errorf("%w: node %s is not there yet with its disks; start it first", admin.ErrRefused, by)
	case v.NodeState(old) != cluster.StateRemoved && (old == n.self.ID || n.gossip.Alive(old)):
		return nil, fmt.Errorf("%w: node %s is alive; drain it instead", admin.ErrRefused, old)
	}
	out := &NodeReplaced{}
	if out.State, err = n.SetNode(ctx, old, cluster.StateRemoved, true); err != nil {
		return nil, err
	}
	out.Plan, err = n.ApplyLayout(ctx, "")
	return out, err
}

// addNodeOrder serves POST /v1/nodes.
func (n *Node) addNodeOrder(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	return n.AddNode(ctx, SeedMember{ID: cluster.NodeID(q.Get("id")), Zone: cluster.Zone(q.Get("zone")),
		Addr: q.Get("transport"), Gossip: q.Get("gossip"), S3: q.Get("s3"), Admin: q.Get("admin")})
}

// NodeFolder describes the folder of a node that joins.
type NodeFolder struct {
	Out    string // must not exist
	CA     string // folder of the region's CA
	Like   string // folder of a node of the region, whose region file, secrets and keyring it gets
	Member SeedMember
	Config Config // its disks, data, listeners and limits; paths are relative to Out
}

// Check tells beforehand what would keep Write from making the folder.
func (f NodeFolder) Check() error {
	var errs []error
	if _, err := os.Lstat(f.Out); err == nil {
		errs = append(errs, fmt.Errorf("%s is there already", f.Out))
	}
	_, err := transport.LoadCA(f.CA)
	errs = append(errs, err)
	_, err = LoadRegion(filepath.Join(f.Like, "region.yaml"))
	errs = append(errs, err)
	_, err = LoadSecrets(filepath.Join(f.Like, "secrets.yaml"))
	errs = append(errs, err)
	_, err = keyring.Load(filepath.Join(f.Like, "keyring.yaml"))
	return errors.Join(append(errs, err)...)
}

// Write makes everything that the node needs, with a certificate of the region's CA.
func (f NodeFolder) Write() error {
	if err := f.Check(); err != nil {
		return err
	}
	ca, err := transport.LoadCA(f.CA)
	if err != nil {
		return err
	}
	file, err := LoadRegion(filepath.Join(f.Like, "region.yaml"))
	if err != nil {
		return err
	}
	secrets, err := LoadSecrets(filepath.Join(f.Like, "secrets.yaml"))
	if err != nil {
		return err
	}
	keys, err := keyring.Load(filepath.Join(f.Like, "keyring.yaml"))
	if err != nil {
		return err
	}
	file.Joined = []SeedMember{f.Member}
	if err := file.Validate(); err != nil {
		return fmt.Errorf("node %s:\n%w", f.Member.ID, err)
	}
	return initNode(f.Out, ca, file, secrets, keys, InitMember{SeedMember: f.Member, Config: f.Config})
}
