package s3api

import (
	"strconv"

	"bivalve/s3api/s3xml"
)

// moveTargets are the storage classes that S3 moves objects to.
var moveTargets = map[string]bool{"GLACIER": true, "STANDARD_IA": true, "ONEZONE_IA": true, "INTELLIGENT_TIERING": true, "DEEP_ARCHIVE": true, "GLACIER_IR": true}

// checkTransitions tells what is wrong with the transitions of a rule; one that is
// as it should be is not implemented.
func checkTransitions(n *s3xml.Node) error {
	found := false
	for i := range n.Children {
		var err error
		switch child := &n.Children[i]; child.Name {
		case "Transition":
			err = checkTransition(child)
		case "NoncurrentVersionTransition":
			err = checkOldTransition(child)
		default:
			continue
		}
		if err != nil {
			return err
		}
		found = true
	}
	if found {
		return notImplemented("Transition")
	}
	return nil
}

// Which objects are too small to be moved by rules that say nothing of it. As no rule moves
// anything, S3's default is as true as the other choice, but what was chosen is not kept:
// tools that wait until they read back what they wrote would wait for ever.
const (
	smallestMoved        = "X-Amz-Transition-Default-Minimum-Object-Size"
	smallestMovedDefault = "all_storage_classes_128K"
)

// checkSmallestMoved reads the choice.
func (c *call) checkSmallestMoved() error {
	switch v := c.header(smallestMoved); v {
	case "", smallestMovedDefault:
		return nil
	case "varies_by_storage_class":
		return notImplemented("x-amz-transition-default-minimum-object-size: " + v)
	default:
		return failf("InvalidRequest", "Invalid TransitionDefaultMinimumObjectSize found: %s", v)
	}
}

func checkTransition(n *s3xml.Node) error {
	if err := n.Check([]string{"Days", "Date", "StorageClass"}, nil); err != nil {
		return err
	}
	if class, _ := n.Value("StorageClass"); !moveTargets[class] || (n.Child("Days") == nil) == (n.Child("Date") == nil) {
		return fail("MalformedXML")
	}
	if n.Child("Date") != nil {
		_, err := midnight(n)
		return err
	}
	return checkMoveDays(n, "Days", "Transition")
}

func checkOldTransition(n *s3xml.Node) error {
	if err := n.Check([]string{"NoncurrentDays", "NewerNoncurrentVersions", "StorageClass"}, nil); err != nil {
		return err
	}
	if class, _ := n.Value("StorageClass"); !moveTargets[class] {
		return fail("MalformedXML")
	}
	if n.Child("NewerNoncurrentVersions") != nil {
		if _, err := positive(n, "NewerNoncurrentVersions", "NoncurrentVersionTransition"); err != nil {
			return err
		}
	}
	return checkMoveDays(n, "NoncurrentDays", "NoncurrentVersionTransition")
}

// checkMoveDays reads a number of 0 and more.
func checkMoveDays(n *s3xml.Node, name, action string) error {
	text, _ := n.Value(name)
	days, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return fail("MalformedXML")
	}
	if days < 0 {
		return argument(name, text, "'"+name+"' in "+action+" action must be nonnegative")
	}
	return nil
}
