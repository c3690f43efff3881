// Package keyring keeps the master keys of a region: with the active one new data
// keys are sealed, with any of them old ones are opened. The keys lie in a file
// beside the node's configuration, mode 0600, the same on all nodes, and are
// themselves sealed with keyring_key of the secrets file: the one file without the
// other tells nothing.
//
// Rotation needs no restart and no bytes rewritten: add a key, bring the file to
// every node, activate the key, bring the file to every node again. A node reads
// the file anew when it has changed. A key is never removed, for as long as an
// object is sealed with it that object is lost without it.
package keyring
