package server

import (
	"path/filepath"
	"reflect"
	"testing"

	"bivalve/cluster"
)

// TestInitRegionKeepsConfig: every setting of a member is in the file that is made
// for it.
func TestInitRegionKeepsConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "region")
	var members []InitMember
	for _, id := range []string{"a1", "b1", "w1"} {
		m := InitMember{SeedMember: SeedMember{ID: cluster.NodeID(id), Zone: cluster.Zone(id[:1]), Role: cluster.RoleStorage,
			Addr: id + ":1", Gossip: id + ":2", S3: id + ":3", Admin: id + ":4"}}
		if id == "w1" {
			m.Role = cluster.RoleWitness
		}
		fill(t, reflect.ValueOf(&m.Config).Elem())
		m.Config.Transport.Encrypt, m.Config.Transport.Relay, m.Config.Log = "on", "off", Log{"debug", "json"}
		members = append(members, m)
	}
	if _, err := InitRegion(InitOptions{Dir: dir, Name: "r", Partitions: 4, PGs: 64, Members: members}); err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := loadYAML(filepath.Join(dir, "a1", "config.yaml"), &got); err != nil {
		t.Fatal(err)
	}
	want := members[0].Config
	want.Node, want.Region, want.Identity, want.Secrets = "a1", "region.yaml", "identity", "secrets.yaml"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// fill sets every exported field to something that is not its default.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		f, is := v.Field(i), v.Type().Field(i)
		if !is.IsExported() || is.Tag.Get("yaml") == "-" {
			continue
		}
		switch f.Kind() {
		case reflect.Struct:
			fill(t, f)
		case reflect.String:
			f.SetString("x-" + is.Name)
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(100 + i))
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			f.Index(0).SetString("x-" + is.Name)
		default:
			t.Fatalf("%s: what is a %s?", is.Name, f.Kind())
		}
	}
}
