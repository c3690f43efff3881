// Package s3xml reads and writes the XML of S3. Reading is strict, because
// encoding/xml is not: a document type, a repeated element, an element nobody
// asked for, trailing data or a foreign namespace is an error. Writing escapes
// so that every UTF-8 key survives.
package s3xml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Namespace is that of every S3 document.
const Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

const (
	maxDepth    = 32
	maxElements = 100_000
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("malformed XML")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Node is one element. An element has text or children; white space between
// children is dropped.
type Node struct {
	Name     string
	Text     string
	Children []Node
}

// Parse reads a document whose root element is called root.
func Parse(doc []byte, root string) (*Node, error) {
	if !utf8.Valid(doc) {
		return nil, malformed("not UTF-8")
	}
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf"))))
	var top Node // holds the root as its only child
	stack := []*Node{&top}
	// The text of the element that is open comes in as many pieces as comments cut it into:
	// one buffer takes them all, so that the cost follows the document.
	var text []byte
	elements, declared := 0, false
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, malformed("%v", err)
		}
		here := stack[len(stack)-1]
		switch t := tok.(type) {
		case xml.Directive:
			return nil, malformed("document type")
		case xml.ProcInst:
			if t.Target != "xml" || declared || elements > 0 {
				return nil, malformed("processing instruction")
			}
			declared = true
		case xml.StartElement:
			elements++
			if len(stack) > maxDepth || elements > maxElements {
				return nil, malformed("too deep or too many elements")
			}
			if t.Name.Space != "" && t.Name.Space != Namespace {
				return nil, malformed("namespace")
			}
			if here == &top && len(top.Children) > 0 {
				return nil, malformed("more than one root")
			}
			if len(bytes.TrimSpace(text)) > 0 {
				return nil, malformed("text beside elements")
			}
			text = text[:0]
			here.Children = append(here.Children, Node{Name: t.Name.Local})
			stack = append(stack, &here.Children[len(here.Children)-1])
		case xml.EndElement:
			here.Text, text = string(text), text[:0]
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(bytes.TrimSpace(t)) == 0 && (here == &top || len(here.Children) > 0) {
				continue
			}
			if here == &top || len(here.Children) > 0 {
				return nil, malformed("text beside elements")
			}
			text = append(text, t...)
		}
	}
	if len(stack) != 1 || len(top.Children) != 1 || top.Children[0].Name != root {
		return nil, malformed("the root is not %s", root)
	}
	return &top.Children[0], nil
}

// Check demands that every child is named in single, where it may stand once,
// or in many.
func (n *Node) Check(single, many []string) error {
	if len(n.Children) > 0 && n.Text != "" {
		return malformed("text in %s", n.Name)
	}
	seen := 0 // bit i: single[i] was there
next:
	for i := range n.Children {
		name := n.Children[i].Name
		for j, s := range single {
			if s == name {
				if seen&(1<<j) != 0 {
					return malformed("%s twice", name)
				}
				seen |= 1 << j
				continue next
			}
		}
		for _, m := range many {
			if m == name {
				continue next
			}
		}
		return malformed("unexpected element %s", name)
	}
	return nil
}

// Child answers the first child of that name, or nil.
func (n *Node) Child(name string) *Node {
	for i := range n.Children {
		if n.Children[i].Name == name {
			return &n.Children[i]
		}
	}
	return nil
}

// Value answers the text of the first child of that name; ok if there is one
// and it has no elements.
func (n *Node) Value(name string) (text string, ok bool) {
	c := n.Child(name)
	if c == nil || len(c.Children) > 0 {
		return "", false
	}
	return c.Text, true
}
