// Package chaos is the thrasher: a real region of processes, each node in a
// network namespace of its own, clients in both zones, and a seeded schedule of
// faults. `make chaos` runs it, as root on Linux.
//
// Its words: a history is what clients asked of a few contended keys and what
// they were answered; it must fit one order of events for each key (history.go). The
// ledger is what clients were told of many keys that are written once and
// perhaps deleted once; it says what a read or a listing may show (ledger.go,
// listing.go). A plan is the schedule: which fault, for how long, with which seed
// of its own (plan.go). An outcome is what an answer says about whether the
// request was done (outcome.go).
//
// These parts are plain code with tests of their own, which break what they judge
// on purpose. The rest is behind the build tag e2e: the network (network_test.go), the
// processes (region_test.go), the faults (faults_test.go) and the round that puts
// them together (chaos_test.go). Start reading there, at TestChaos.
//
// A round ends when every object has all its shards, everything that there ever was
// was read back from both zones, and a census has compared all records with all disks
// and with the counters.
//
// The thrasher itself is checked with programs that leave something out, by build
// tags. Drawn faults find them in time; TestAimed does to each what it cannot survive
// without the check, and `make chaoscheckers` sees to it that every one is noticed.
//
// A failure prints its seed; the same seed gives the same schedule with the same
// targets, and every client asks the same in the same order. When a request meets
// a fault is the machine's.
package chaos
