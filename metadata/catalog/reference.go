package catalog

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// AddReference makes a reference to blobs that group home holds; see
// metadata.AddReference. It answers what the parts of the copy are to say.
func (c *Catalog) AddReference(ctx context.Context, home replica.GroupID, a metadata.AddReference) (metadata.Reference, error) {
	var done metadata.Added
	err := c.change(ctx, home, metadata.CmdAddReference, a, &done)
	return metadata.Reference{ID: a.ID, Home: uint16(home), Until: done.Until, Epoch: done.Epoch}, err
}

// DropReferences ends references at the home of their blobs; those that are not there
// are passed over.
func (c *Catalog) DropReferences(ctx context.Context, home replica.GroupID, ids []metadata.RefID) error {
	for len(ids) > 0 {
		var done metadata.Dropped
		n := min(len(ids), metadata.MaxReferences)
		if err := c.change(ctx, home, metadata.CmdDropReferences, metadata.RefIDs{IDs: ids[:n]}, &done); err != nil {
			return err
		}
		ids = ids[min(n, max(1, done.Done)):] // it always comes at least one further
	}
	return nil
}

// ConfirmReferences notes at their home that references are in use.
func (c *Catalog) ConfirmReferences(ctx context.Context, home replica.GroupID, ids []metadata.RefID) error {
	return c.change(ctx, home, metadata.CmdConfirmReferences, metadata.RefIDs{IDs: ids}, nil)
}

// PendingReferences lists references that home is not sure of, the oldest first.
func (c *Catalog) PendingReferences(ctx context.Context, home replica.GroupID, page metadata.RefPage) ([]metadata.PendingReference, error) {
	var out metadata.PendingReferences
	err := c.read(ctx, home, metadata.QueryPending, page, &out)
	return out.Refs, err
}

// JudgeReferences asks the group that references were made for what became of them.
func (c *Catalog) JudgeReferences(ctx context.Context, to replica.GroupID, refs []metadata.PendingReference) ([]metadata.RefState, error) {
	var out metadata.RefStates
	err := c.change(ctx, to, metadata.CmdJudgeReferences, metadata.JudgeReferences{Refs: refs}, &out)
	return out.States, err
}

// Releases lists references that no record of a group names any more.
func (c *Catalog) Releases(ctx context.Context, g replica.GroupID, page metadata.RefPage) ([]metadata.Reference, error) {
	var out metadata.Releases
	err := c.read(ctx, g, metadata.QueryReleases, page, &out)
	return out.Refs, err
}

// DropReleases forgets those that their homes know of.
func (c *Catalog) DropReleases(ctx context.Context, g replica.GroupID, refs []metadata.Reference) error {
	return c.change(ctx, g, metadata.CmdDropReleases, metadata.DropReleases{Refs: refs}, nil)
}
