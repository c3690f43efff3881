package catalog

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// Recovery tells what forced recoveries have left to be done in a group.
func (c *Catalog) Recovery(ctx context.Context, g replica.GroupID) (metadata.Recovery, error) {
	var out metadata.Recovery
	err := c.read(ctx, g, metadata.QueryRecovery, struct{}{}, &out)
	return out, err
}

// RecoveryLocal is Recovery as this node's copy has it.
func (c *Catalog) RecoveryLocal(g replica.GroupID) (metadata.Recovery, error) {
	var out metadata.Recovery
	return out, c.readCopy(g, metadata.QueryRecovery, struct{}{}, &out)
}

// FenceHome has group g name no more references that were made in earlier epochs of a home.
func (c *Catalog) FenceHome(ctx context.Context, g replica.GroupID, f metadata.FenceHome) error {
	return c.change(ctx, g, metadata.CmdFenceHome, f, nil)
}

// Namings lists references to a home that records of group g name.
func (c *Catalog) Namings(ctx context.Context, g replica.GroupID, page metadata.NamingPage) (metadata.Namings, error) {
	var out metadata.Namings
	err := c.read(ctx, g, metadata.QueryNamings, page, &out)
	return out, err
}

// AssertReferences tells a home which references another partition's records name.
func (c *Catalog) AssertReferences(ctx context.Context, home replica.GroupID, a metadata.AssertReferences) (metadata.Asserted, error) {
	var out metadata.Asserted
	err := c.change(ctx, home, metadata.CmdAssertReferences, a, &out)
	return out, err
}

// DoubtReferences has a home ask again about references that were made for a partition.
func (c *Catalog) DoubtReferences(ctx context.Context, home replica.GroupID, d metadata.DoubtReferences) (metadata.Doubted, error) {
	var out metadata.Doubted
	err := c.change(ctx, home, metadata.CmdDoubtReferences, d, &out)
	return out, err
}

// ToldHome notes in group g what a home answered.
func (c *Catalog) ToldHome(ctx context.Context, g replica.GroupID, t metadata.ToldHome) error {
	return c.change(ctx, g, metadata.CmdToldHome, t, nil)
}
