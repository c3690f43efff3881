package erasure_test

// XXH3-64 over all shards, in order, of the chunk {i*i} of 100k bytes.
const (
	pinned1_0 = 0x739150ba5b20c691
	pinned2_0 = 0x1d3aebce8b8a2fc9
	pinned2_1 = 0x705a64d2c42efa01
	pinned3_1 = 0x49d44bbe934d4da3
	pinned4_1 = 0xd4b46cd5605b0ce1
	pinned8_1 = 0x37eb5dcb7dfc2740
	pinned8_2 = 0xb7ddb6b6f63d3509
)
