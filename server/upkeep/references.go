package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// ReferenceBook is the part of the catalog that knows of copies by reference.
type ReferenceBook interface {
	Releases(ctx context.Context, g replica.GroupID, page metadata.RefPage) ([]metadata.Reference, error)
	DropReleases(ctx context.Context, g replica.GroupID, refs []metadata.Reference) error
	DropReferences(ctx context.Context, home replica.GroupID, ids []metadata.RefID) error
	PendingReferences(ctx context.Context, home replica.GroupID, page metadata.RefPage) ([]metadata.PendingReference, error)
	JudgeReferences(ctx context.Context, to replica.GroupID, refs []metadata.PendingReference) ([]metadata.RefState, error)
	ConfirmReferences(ctx context.Context, home replica.GroupID, ids []metadata.RefID) error
}

// ReferenceKeeper ends references that hold blobs for nothing. The leader of each
// partition brings the releases that are queued there to the homes of the blobs, and
// asks about references to its own blobs whose time to be used is over. An error never
// ends a reference: only the word of the partition that it was made for does. A
// partition that does not answer holds up nothing but what concerns it.
type ReferenceKeeper struct {
	Book       ReferenceBook
	Partitions int
	Leads      func(replica.GroupID) bool
	Every      time.Duration
	Logger     *slog.Logger
	Now        func() time.Time

	silent silences[replica.GroupID]
}

// Run works until ctx ends.
func (k *ReferenceKeeper) Run(ctx context.Context) error {
	t := time.NewTicker(k.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for g := replica.GroupID(1); int(g) <= k.Partitions && ctx.Err() == nil; g++ {
			if !k.Leads(g) {
				continue
			}
			if err := errors.Join(k.release(ctx, g), k.judge(ctx, g)); err != nil && ctx.Err() == nil {
				k.Logger.Debug("some references are left for later", "group", g, "err", err)
			}
		}
	}
}

// release brings queued releases home. A partition drops none whose time has not come
// by its own clock: they are brought again in the next round.
func (k *ReferenceKeeper) release(ctx context.Context, g replica.GroupID) error {
	return goThrough(ctx, k, g, k.Book.Releases,
		func(r metadata.Reference) (metadata.RefPlace, replica.GroupID) {
			return metadata.RefPlace{Until: r.Until, ID: r.ID}, replica.GroupID(r.Home)
		},
		func(home replica.GroupID, refs []metadata.Reference) (func() error, error) {
			ids := make([]metadata.RefID, len(refs))
			for i, r := range refs {
				ids[i] = r.ID
			}
			if err := k.Book.DropReferences(ctx, home, ids); err != nil {
				return nil, fmt.Errorf("drop %d references of partition %d: %w", len(ids), home, err)
			}
			return func() error { return k.Book.DropReleases(ctx, g, refs) }, nil
		})
}

// judge asks what became of references that should be in use by now.
func (k *ReferenceKeeper) judge(ctx context.Context, g replica.GroupID) error {
	return goThrough(ctx, k, g, k.Book.PendingReferences,
		func(r metadata.PendingReference) (metadata.RefPlace, replica.GroupID) {
			return metadata.RefPlace{Until: r.Until, ID: r.ID}, replica.GroupID(r.To)
		},
		func(to replica.GroupID, refs []metadata.PendingReference) (func() error, error) {
			states, err := k.Book.JudgeReferences(ctx, to, refs)
			if err == nil && len(states) != len(refs) {
				err = fmt.Errorf("%w: %d answers", metadata.ErrMalformed, len(states))
			}
			if err != nil {
				return nil, fmt.Errorf("ask partition %d about %d references: %w", to, len(refs), err)
			}
			return func() error { return k.settle(ctx, g, refs, states) }, nil
		})
}

// settle tells the home of references what became of them.
func (k *ReferenceKeeper) settle(ctx context.Context, home replica.GroupID, refs []metadata.PendingReference, states []metadata.RefState) error {
	var used, gone []metadata.RefID
	for i, s := range states {
		switch s {
		case metadata.RefUsed:
			used = append(used, refs[i].ID)
		case metadata.RefGone:
			gone = append(gone, refs[i].ID)
		}
	}
	if len(used) > 0 {
		if err := k.Book.ConfirmReferences(ctx, home, used); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		return k.Book.DropReferences(ctx, home, gone)
	}
	return nil
}

// goThrough goes once through a list of group g, page by page. Of each page it has ask
// called for every partition that is concerned (of), but those that lately did not
// answer, and then, in g itself, what that has come to. What g says no to ends it.
func goThrough[R any](ctx context.Context, k *ReferenceKeeper, g replica.GroupID,
	list func(context.Context, replica.GroupID, metadata.RefPage) ([]R, error),
	of func(R) (metadata.RefPlace, replica.GroupID),
	ask func(replica.GroupID, []R) (func() error, error)) error {
	var failed error
	page := metadata.RefPage{Before: k.Now().UnixNano(), Limit: metadata.MaxReferences}
	for more := true; more && ctx.Err() == nil && k.Leads(g); {
		refs, err := list(ctx, g, page)
		if err != nil {
			return errors.Join(failed, err)
		}
		if more = len(refs) == page.Limit; more {
			page.After, _ = of(refs[len(refs)-1])
		}
		var order []replica.GroupID
		by := map[replica.GroupID][]R{}
		for _, r := range refs {
			_, other := of(r)
			if by[other] == nil {
				order = append(order, other)
			}
			by[other] = append(by[other], r)
		}
		for _, other := range order {
			if k.silent.rests(other, k.Now()) {
				continue
			}
			then, err := ask(other, by[other])
			if ctx.Err() != nil {
				return errors.Join(failed, ctx.Err())
			}
			k.silent.heard(other, err == nil, k.Now(), k.Every)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			if err := then(); err != nil {
				return errors.Join(failed, err)
			}
		}
	}
	return failed
}

// maxSilence bounds how long a partition that does not answer is left alone.
const maxSilence = 2 * time.Minute

// silences are those, partitions for instance, that did not answer when they were asked last.
type silences[K comparable] map[K]silence

type silence struct {
	wait  time.Duration
	until time.Time
}

func (s silences[K]) rests(k K, now time.Time) bool { return now.Before(s[k].until) }

// heard notes how a question ended. Each that failed makes the rest until the next twice
// as long.
func (s *silences[K]) heard(k K, answered bool, now time.Time, every time.Duration) {
	if answered {
		delete(*s, k)
		return
	}
	if *s == nil {
		*s = silences[K]{}
	}
	wait := min(max(every, 2*(*s)[k].wait), maxSilence)
	(*s)[k] = silence{wait, now.Add(wait)}
}
