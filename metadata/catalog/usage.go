package catalog

import (
	"context"
	"fmt"

	"bivalve/metadata"
	"bivalve/metadata/replica"

	"golang.org/x/sync/errgroup"
)

// PartitionUsage is what each partition has of a bucket; [i] is that of group i+1.
func (c *Catalog) PartitionUsage(ctx context.Context, bucket metadata.BucketID) ([]metadata.Usage, error) {
	out := make([]metadata.Usage, c.cfg.Partitions)
	err := c.usage(ctx, []metadata.BucketID{bucket}, func(g int, u []metadata.Usage) { out[g-1] = u[0] })
	return out, err
}

// Usage is what buckets have in all partitions together, in the order of the ids,
// metadata.MaxUsages at most.
func (c *Catalog) Usage(ctx context.Context, buckets []metadata.BucketID) ([]metadata.Usage, error) {
	each := make([][]metadata.Usage, c.cfg.Partitions)
	err := c.usage(ctx, buckets, func(g int, u []metadata.Usage) { each[g-1] = u })
	out := make([]metadata.Usage, len(buckets))
	if err != nil {
		return nil, err
	}
	for _, usages := range each {
		for i, u := range usages {
			out[i].Add(u)
		}
	}
	return out, nil
}

// usage asks every partition; take is called once for each, concurrently.
func (c *Catalog) usage(ctx context.Context, buckets []metadata.BucketID, take func(g int, u []metadata.Usage)) error {
	work, wctx := errgroup.WithContext(ctx)
	work.SetLimit(spreadAtOnce)
	for g := 1; g <= c.cfg.Partitions; g++ {
		work.Go(func() error {
			var got metadata.Usages
			err := c.read(wctx, replica.GroupID(g), metadata.QueryUsage, metadata.UsageOf{Buckets: buckets}, &got)
			if err == nil {
				err = complete(got, buckets)
			}
			if err == nil {
				take(g, got.Usages)
			}
			return err
		})
	}
	return work.Wait()
}

// UsageLocal is what buckets have in one partition, in the order of the ids, as this
// node's copy has it.
func (c *Catalog) UsageLocal(g replica.GroupID, buckets []metadata.BucketID) ([]metadata.Usage, error) {
	var got metadata.Usages
	if err := c.readCopy(g, metadata.QueryUsage, metadata.UsageOf{Buckets: buckets}, &got); err != nil {
		return nil, err
	}
	return got.Usages, complete(got, buckets)
}

func complete(got metadata.Usages, buckets []metadata.BucketID) error {
	if len(got.Usages) != len(buckets) {
		return fmt.Errorf("%w: usage of %d buckets, asked for %d", metadata.ErrMalformed, len(got.Usages), len(buckets))
	}
	return nil
}
