//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server"
	"bivalve/server/servertest"
)

// ledger is what was acknowledged.
type ledger struct {
	t    *testing.T
	r    *servertest.Region
	m    map[string][]byte
	open map[string][]byte // of unknown outcome: the next check settles whether they are there
}

func newLedger(t *testing.T, r *servertest.Region) *ledger {
	t.Helper()
	_, err := r.Node("a1").Stores().Buckets.CreateBucket(t.Context(), "ledger")
	fatal(t, err)
	return &ledger{t, r, map[string][]byte{}, map[string][]byte{}}
}

func content(n int, seed string) []byte {
	return bytes.Repeat([]byte(seed+" "), n/(len(seed)+1)+1)[:n]
}

// put writes objects of many sizes through one node. It tries again as a client
// would: a zone may be failing over.
func (l *ledger) put(via cluster.NodeID, round string) {
	l.t.Helper()
	for i, n := range []int{0, 10, 16 << 10, 16<<10 + 1, 100_000, 1 << 20, 4<<20 + 1, 9 << 20} {
		key := fmt.Sprintf("%s-%d", round, i)
		data := content(n, key)
		l.r.Until("put "+key, func(context.Context) error {
			_, err := l.r.Node(via).Stores().Objects.PutObject(l.t.Context(), s3api.PutRequest{
				Bucket: "ledger", Key: key, Bytes: int64(n), Body: s3test.NewBody(data)})
			return err
		})
		l.m[key] = data
	}
}

// attempt tries once to put an object where that cannot be done now, but may be yet.
func (l *ledger) attempt(via cluster.NodeID, key string) {
	l.t.Helper()
	data := content(100, key)
	_, err := l.r.Node(via).Stores().Objects.PutObject(l.t.Context(), s3api.PutRequest{
		Bucket: "ledger", Key: key, Bytes: int64(len(data)), Body: s3test.NewBody(data)})
	if err == nil {
		l.t.Fatalf("%s was put through %s", key, via)
	}
	if errors.Is(err, metadata.ErrUnknownOutcome) {
		l.open[key] = data
	}
}

// check reads everything back through one node, and lists it.
func (l *ledger) check(via cluster.NodeID) {
	l.t.Helper()
	s := l.r.Node(via).Stores()
	for key, want := range l.m {
		l.r.Until("get "+key, func(context.Context) error {
			got, err := read(l.t.Context(), s, "ledger", key)
			if err == nil && !bytes.Equal(got, want) {
				l.t.Fatalf("%s through %s: %d bytes differ from the %d that were put", key, via, len(got), len(want))
			}
			if errors.Is(err, metadata.ErrNoSuchKey) {
				l.t.Fatalf("%s through %s: an acknowledged object is gone", key, via)
			}
			return err
		})
	}
	var page s3api.ListPage
	l.r.Until("list", func(context.Context) (err error) {
		page, err = s.Lister.ListObjects(l.t.Context(), s3api.ListRequest{Bucket: "ledger", Limit: 1000})
		return err
	})
	var listed, put []string
	settled := 0
	for _, o := range page.Objects {
		listed = append(listed, o.Key)
		if data, ok := l.open[o.Key]; ok {
			l.m[o.Key] = data
			settled++
		}
	}
	clear(l.open) // what is not there now never will be
	if put = slices.Sorted(maps.Keys(l.m)); !slices.Equal(listed, put) {
		l.t.Fatalf("through %s are listed\n%q\nand these were put\n%q", via, listed, put)
	}
	if settled > 0 {
		l.check(via) // that what came of it is whole
	}
}

func read(ctx context.Context, s s3test.Stores, bucket, key string) ([]byte, error) {
	v, err := s.Objects.HeadObject(ctx, bucket, key, "")
	if err != nil {
		return nil, err
	}
	rd, err := s.Objects.OpenObject(ctx, v, 0, v.Bytes)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(rd)
	return got, errors.Join(err, rd.Close())
}

func status(t testing.TB, r *servertest.Region, via cluster.NodeID) *server.Status {
	t.Helper()
	s, err := r.Node(via).Status(t.Context())
	fatal(t, err)
	return s.(*server.Status)
}

// answered is a status in which every node has told of itself: one that has just
// started may not have.
func answered(t *testing.T, r *servertest.Region, via cluster.NodeID) (s *server.Status) {
	t.Helper()
	r.Until("all nodes tell of themselves", func(context.Context) error {
		s = status(t, r, via)
		for _, n := range s.Nodes {
			if n.Local == nil {
				return fmt.Errorf("%s does not", n.ID)
			}
		}
		return nil
	})
	return s
}

// disksOf is what a node tells of its disks, once it does.
func disksOf(t *testing.T, r *servertest.Region, via, id cluster.NodeID) (disks []server.DiskReport) {
	t.Helper()
	r.Until(fmt.Sprintf("%s tells of its disks", id), func(context.Context) error {
		n := node(status(t, r, via), id)
		if n.Local == nil {
			return errors.New("it does not")
		}
		disks = n.Local.Disks
		return nil
	})
	return disks
}

// TestLosses: a zone is killed and comes back, then everything at once is.
func TestLosses(t *testing.T) {
	r := servertest.Start(t, servertest.Options{})
	l := newLedger(t, r)
	l.put("a2", "whole")
	l.check("b1")
	s := r.Node("b3").Stores()
	u, err := s.Uploads.CreateUpload(t.Context(), s3api.CreateUploadRequest{Bucket: "ledger", Key: "parts"})
	fatal(t, err)
	part := func(n, size int) metadata.Part {
		data := content(size, fmt.Sprint("part", n))
		var p metadata.Part
		r.Until("put part", func(context.Context) (err error) {
			p, err = s.Uploads.PutPart(t.Context(), s3api.PutPartRequest{Bucket: "ledger", Key: "parts", Upload: u.ID, Number: n,
				Bytes: int64(size), Body: s3test.NewBody(data)})
			return err
		})
		l.m["parts"] = append(l.m["parts"], data...)
		return p
	}
	parts := []metadata.Part{part(1, 5<<20)}

	r.Kill(r.Nodes(servertest.ZoneA)...)
	l.put("b2", "without-a")
	parts = append(parts, part(2, 300_000))
	_, err = s.Uploads.CompleteUpload(t.Context(), s3api.CompleteRequest{Bucket: "ledger", Key: "parts", Upload: u.ID, Parts: parts, ETag: "e-2"})
	fatal(t, err)
	l.check("b1")
	// Five objects with bytes on disks and the one of two parts lack their shards in a.
	st := status(t, r, "b1")
	if st.Protected.UnderProtected != 6 || st.Zones[1].Lost != 11 || !st.Zones[0].Down {
		t.Errorf("%+v %+v", st.Protected, st.Zones)
	}

	r.Start(r.Nodes(servertest.ZoneA)...)
	r.WaitReady(r.Nodes()...)
	r.Until("zone a is up", func(context.Context) error {
		if st = status(t, r, "a1"); st.Zones[0].Down {
			return errors.New("zone a is down")
		}
		return nil
	})
	protected(t, r, "a1")
	l.put("a1", "again")
	l.check("a3")

	r.Kill(r.Nodes()...)
	r.Start(r.Nodes()...)
	r.WaitReady(r.Nodes()...)
	l.check("a1")
	l.check("b3")
}

// TestReclaim: what was overwritten, deleted or given up leaves the disks.
func TestReclaim(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	l := newLedger(t, r)
	l.put("a1", "k")
	l.put("b1", "k") // over itself
	s := r.Node("a2").Stores()
	u, err := s.Uploads.CreateUpload(t.Context(), s3api.CreateUploadRequest{Bucket: "ledger", Key: "parts"})
	fatal(t, err)
	for _, n := range []int{1, 1, 2} {
		_, err := s.Uploads.PutPart(t.Context(), s3api.PutPartRequest{Bucket: "ledger", Key: "parts", Upload: u.ID, Number: n,
			Bytes: 50_000, Body: s3test.NewBody(content(50_000, "x"))})
		fatal(t, err)
	}
	bad := s3test.NewBody(content(5<<20, "y"))
	bad.Err = errors.New("hash differs")
	if _, err := s.Objects.PutObject(t.Context(), s3api.PutRequest{Bucket: "ledger", Key: "bad", Bytes: 5 << 20, Body: bad}); !errors.Is(err, bad.Err) {
		t.Error(err)
	}
	l.check("b2")
	empty(t, s)
	r.Until("the disks are empty", func(context.Context) error {
		for _, n := range status(t, r, "a1").Nodes {
			if n.Local == nil {
				return fmt.Errorf("%s does not answer", n.ID)
			}
			for _, d := range n.Local.Disks {
				if d.Shards > 0 {
					return fmt.Errorf("%d shards on a disk of %s", d.Shards, n.ID)
				}
			}
		}
		return nil
	})
	if st := status(t, r, "a1"); st.Protected != (server.Protection{}) {
		t.Errorf("%+v", st.Protected)
	}
}
