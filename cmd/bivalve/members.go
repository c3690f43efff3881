package main

import (
	"fmt"
	"net/http"
	"net/url"

	"bivalve/cluster"
	"bivalve/server"

	"github.com/spf13/cobra"
)

func diskCommand() *cobra.Command {
	c := &cobra.Command{Use: "disk", Short: "Drain, remove and replace disks"}
	c.AddCommand(
		stateCommand("disk", cluster.StateDraining, "drain DISK", "Move everything off a disk; it serves what it holds meanwhile"),
		stateCommand("disk", cluster.StateActive, "activate DISK", "Take a drain back: the disk gets its share again"),
		newDiskCommand("add", false, "Take an empty directory of a node as a further disk"),
		newDiskCommand("replace", true, "Give the place of a disk that is lost to the empty one that is there now"),
		removeCommand("disk", "remove DISK", "Take a disk out of the region for good, once it is drained"),
	)
	return c
}

func nodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Drain, remove, add and replace nodes"}
	c.AddCommand(
		stateCommand("node", cluster.StateDraining, "drain NODE", "Move everything off the disks of a node; it serves what they hold meanwhile"),
		stateCommand("node", cluster.StateActive, "activate NODE", "Take a drain back: the node's disks get their share again"),
		addNodeCommand(), replaceNodeCommand(),
		removeCommand("node", "remove NODE", "Take a node out of the region for good, once it is drained"),
	)
	return c
}

// stateCommand sets the state of a disk or node and applies the layout that follows
// from it.
func stateCommand(kind string, to cluster.State, use, short string) *cobra.Command {
	var f applyFlags
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		Long: short + ".\nThe layout that follows from it is applied at once, unless --state-only is given: then `layout plan` previews\n" +
			"it and `layout apply` makes it so. Run it again with --wait to see how far the moves are.",
		RunE: func(cmd *cobra.Command, args []string) error { return f.change(cmd, kind, args[0], to, false) },
	}
	f.add(c)
	c.Flags().BoolVar(&f.only, "state-only", false, "do not change the layout yet")
	return c
}

func removeCommand(kind, use, short string) *cobra.Command {
	var f applyFlags
	var force bool
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		Long: short + ".\nWhat still holds slots is refused, and the answer says what would be lost. With --force that is declared lost:\n" +
			"the slots go to other disks at once and are rebuilt there. There is no way back.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, kind, args[0], cluster.StateRemoved, force)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&force, "force", false, "declare lost what it holds")
	c.Flags().BoolVar(&f.only, "state-only", false, "do not change the layout yet")
	return c
}

func (f *applyFlags) change(cmd *cobra.Command, kind, name string, to cluster.State, force bool) error {
	out := cmd.OutOrStdout()
	s := &server.StateChange{}
	path := fmt.Sprintf("/v1/%ss/%s/%s", kind, url.PathEscape(name), to)
	if _, err := f.at.ask(cmd.Context(), http.MethodPost, path, url.Values{"force": {fmt.Sprint(force)}}, s); err != nil {
		return err
	}
	if !f.asJSON {
		fmt.Fprintf(out, "%s: %s (was %s)\n", s.Of, s.State, s.Before)
		if to == cluster.StateRemoved && s.Before != to && s.Cost.Slots > 0 {
			fmt.Fprintf(out, "declared lost: %s\n", s.Cost)
		}
	}
	if f.only {
		if f.asJSON {
			return writeJSON(out, s)
		}
		return nil
	}
	return f.apply(cmd, "")
}

// newDiskCommand has a node format a directory, in the place of another disk or as a
// further one.
func newDiskCommand(use string, replace bool, short string) *cobra.Command {
	var f applyFlags
	var node, path string
	var force bool
	c := &cobra.Command{
		Use: use + " --node NODE --path DIRECTORY", Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := &server.DiskAdded{}
			query := url.Values{"path": {path}, "replace": {fmt.Sprint(replace)}, "force": {fmt.Sprint(force)}}
			if _, err := f.at.ask(cmd.Context(), http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/disks", query, a); err != nil {
				return err
			}
			return f.added(cmd, a)
		},
	}
	c.Long = short + ".\nThe directory must be among the node's disks in its configuration file; the node need not be restarted. It is\n" +
		"formatted only if it is empty, and if something is mounted there when something is at the node's other disks.\n"
	if replace {
		c.Long += "The new disk takes exactly the slots of the old one, whose shards are rebuilt from the other disks of its zone.\n" +
			"What was left on the old disk counts as lost: one that still works is drained instead."
	} else {
		c.Long += "The layout that gives it its share is applied at once, unless --state-only is given."
		c.Flags().BoolVar(&f.only, "state-only", false, "do not change the layout yet")
	}
	f.add(c)
	c.Flags().StringVar(&node, "node", "", "the node")
	c.Flags().StringVar(&path, "path", "", "the directory on it, as its configuration file names it")
	c.Flags().BoolVar(&force, "force", false, "format it though nothing is mounted there")
	for _, name := range []string{"node", "path"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag
		}
	}
	return c
}

// added reports a new disk and what follows from it: one that replaces another has
// its slots already.
func (f *applyFlags) added(cmd *cobra.Command, a *server.DiskAdded) error {
	out := cmd.OutOrStdout()
	var zero cluster.DiskID
	if !f.asJSON {
		fmt.Fprintf(out, "disk %s at %s of node %s\n", a.Disk, a.Path, a.Node)
		if a.Replaced != zero {
			fmt.Fprintf(out, "it takes the place of disk %s\n", a.Replaced)
		}
	}
	if a.Replaced == zero && !f.only {
		return f.apply(cmd, "")
	}
	if a.Replaced != zero && f.wait {
		return f.report(cmd.Context(), out, nil)
	}
	if f.asJSON {
		return writeJSON(out, a)
	}
	return nil
}
