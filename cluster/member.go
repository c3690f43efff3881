package cluster

// Role is what a node is for.
type Role string

const (
	// RoleStorage nodes hold shards and serve S3.
	RoleStorage Role = "storage"
	// RoleWitness nodes vote and keep a full copy of the metadata, no shards.
	RoleWitness Role = "witness"
)

// Disk is one disk as the region knows it.
type Disk struct {
	ID     DiskID `cbor:"1,keyasint" json:"id"`
	Node   NodeID `cbor:"2,keyasint" json:"node"`
	Weight uint32 `cbor:"3,keyasint" json:"weight"` // relative share of shards, in GiB by default
	Path   string `cbor:"4,keyasint" json:"path"`   // on its node, for operators
}

// Member is one node as the root group records it.
type Member struct {
	ID      NodeID `cbor:"1,keyasint" json:"id"`
	Zone    Zone   `cbor:"2,keyasint" json:"zone"`
	Role    Role   `cbor:"3,keyasint" json:"role"`
	Replica uint64 `cbor:"4,keyasint" json:"replica"` // its number, of which the ids of its raft replicas are made; never another node's
	Addr    string `cbor:"5,keyasint" json:"addr"`    // host:port of the node transport
	Gossip  string `cbor:"6,keyasint" json:"gossip"`  // host:port of memberlist
	S3      string `cbor:"7,keyasint" json:"s3"`      // host:port of the S3 listener, "" at the witness
	Admin   string `cbor:"8,keyasint" json:"admin"`   // host:port of the admin listener
	Disks   []Disk `cbor:"9,keyasint" json:"disks"`
}
