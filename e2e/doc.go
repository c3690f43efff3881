// Package e2e shows the promises of Bivalve on real processes: it runs regions
// with `bivalve demo`, drives them with the clients that people use, and kills
// what can be killed. `make e2e` runs it.
//
// Words: a region is one running demo (region_test.go); its ledger is what
// clients were told is stored, and must read back byte-equal (ledger_test.go); a
// probe is a client that asks at a steady pace and notes when it was answered
// (probe_test.go). A loop disk is a disk directory on a small file system of its
// own, to which happens what happens to disks (loopdisk_test.go); that needs root,
// and is skipped, with the reason, on a machine that refuses it.
//
// Clients from outside (aws, python3 with boto3, docker-registry, skopeo, PostgreSQL
// with pgBackRest, restic, rclone, s3cmd) come from install.sh. A missing one is a reported skip, or a failure where
// BIVALVE_E2E_STRICT=1. Further variables:
//
//	BIVALVE_E2E_ROUNDS=n   lose each zone n times, not once, and print the distribution
//	BIVALVE_E2E_CUTS=n     cut the power below a disk n times, not five
//	BIVALVE_E2E_BIG=1      5 GiB in the memory test, not 1 GiB
//	BIVALVE_E2E_KEEP=1     leave the folders of regions for inspection
//	TMPDIR                 where the regions live; some 10 GiB, on a real file system
//
// Faults of the network, and schedules of all sorts of faults, are in ./chaos.
//
// Start reading at TestZoneLoss.
package e2e
