//go:build e2e

package server_test

import (
	"bytes"
	"fmt"
	"testing"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server"
	"bivalve/server/servertest"
)

// crossed is how many bytes have gone between the zones for a cause.
func crossed(t *testing.T, r *servertest.Region, cause string) int64 {
	t.Helper()
	c := status(t, r, "a1").Traffic[cause]
	return c.Out + c.In
}

// TestBytesBetweenZones: with the relay a PUT moves the user's bytes between the
// zones once, give or take the framing; without it every shard of the other zone;
// and a GET moves none in either zone.
func TestBytesBetweenZones(t *testing.T) {
	for _, c := range []struct {
		relay       server.RelayMode
		least, most float64 // of the user's bytes
	}{{server.RelayOn, 1, 1.05}, {server.RelayOff, 1.5, 1.575}} {
		t.Run(string(c.relay), func(t *testing.T) {
			r := servertest.Start(t, servertest.Options{Relay: c.relay}) // k=2, m=1
			_, err := r.Node("a1").Stores().Buckets.CreateBucket(t.Context(), "bucket")
			fatal(t, err)
			total := 64 << 20
			if testing.Short() || c.relay == server.RelayOff {
				total = 16 << 20
			}
			objects, user := map[string][]byte{}, int64(0)
			before := crossed(t, r, "put")
			for i, sizes := 0, []int{64 << 10, 4 << 20, 100_000, 1 << 20, 9<<20 + 1, 17 << 10, 2 << 20}; user < int64(total); i++ {
				via := []cluster.NodeID{"a1", "b2", "a3", "b1", "a2", "b3"}[i%6]
				key := fmt.Sprint("o", i)
				objects[key] = content(sizes[i%len(sizes)], key)
				_, err := r.Node(via).Stores().Objects.PutObject(t.Context(), s3api.PutRequest{
					Bucket: "bucket", Key: key, Bytes: int64(len(objects[key])), Body: s3test.NewBody(objects[key])})
				fatal(t, err)
				user += int64(len(objects[key]))
			}
			objects["parts"] = putInParts(t, r, "b2", "parts", 3)
			user += int64(len(objects["parts"]))
			moved := crossed(t, r, "put") - before
			ratio := float64(moved) / float64(user)
			t.Logf("%d objects, %d bytes, %d between the zones: %.4f", len(objects), user, moved, ratio)
			if ratio < c.least || ratio > c.most {
				t.Errorf("a PUT moved %.4f of the user's bytes between the zones, want %v to %v", ratio, c.least, c.most)
			}
			// A disk that stalls for a third of a second may be stood in for by the other
			// zone; that is not to happen in each of three passes.
			for pass := range 3 {
				before := crossed(t, r, "get")
				for _, via := range []cluster.NodeID{"a2", "b3"} {
					for key, want := range objects {
						got, err := read(t.Context(), r.Node(via).Stores(), "bucket", key)
						if err != nil || !bytes.Equal(got, want) {
							t.Fatalf("%s through %s: %d bytes, %v", key, via, len(got), err)
						}
					}
				}
				moved := crossed(t, r, "get") - before
				if t.Logf("GETs in both zones: %d bytes between them", moved); moved == 0 {
					break
				}
				if pass == 2 {
					t.Error("GETs moved bytes between the zones in each pass")
				}
			}
			if p := status(t, r, "b1").Protected; p.UnderProtected != 0 || p.Unknown {
				t.Errorf("%+v", p)
			}
		})
	}
}

// putInParts uploads an object in parts of 5 MiB through one node.
func putInParts(t *testing.T, r *servertest.Region, via cluster.NodeID, key string, n int) []byte {
	t.Helper()
	up := r.Node(via).Stores().Uploads
	u, err := up.CreateUpload(t.Context(), s3api.CreateUploadRequest{Bucket: "bucket", Key: key})
	fatal(t, err)
	var whole []byte
	var parts []metadata.Part
	for i := 1; i <= n; i++ {
		data := content(5<<20, fmt.Sprint(key, i))
		p, err := up.PutPart(t.Context(), s3api.PutPartRequest{Bucket: "bucket", Key: key, Upload: u.ID, Number: i, Bytes: int64(len(data)), Body: s3test.NewBody(data)})
		fatal(t, err)
		whole, parts = append(whole, data...), append(parts, p)
	}
	_, err = up.CompleteUpload(t.Context(), s3api.CompleteRequest{Bucket: "bucket", Key: key, Upload: u.ID, Parts: parts})
	fatal(t, err)
	return whole
}
