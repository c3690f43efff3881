package chaos

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// Contents are the bodies that clients have made: each is unique and has a name,
// so that whoever reads one tells which write it came from. One that was uploaded
// in parts has another ETag, and counts as another content: its name ends in a star.
type Contents struct {
	mu    sync.Mutex
	bySum map[[sha256.Size]byte]string
	byTag map[string]string
	tags  map[string]string // by name
}

const star = "*"

// NewContents knows none.
func NewContents() *Contents {
	return &Contents{bySum: map[[sha256.Size]byte]string{}, byTag: map[string]string{}, tags: map[string]string{}}
}

// Make is the body of a name, always the same, entered before anybody can read it.
func (c *Contents) Make(name string, size int) []byte {
	body := Noise(name, size)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bySum[sha256.Sum256(body)] = name
	for name, tag := range map[string]string{name: Tag(body), name + star: WholeTag(body)} {
		c.byTag[tag], c.tags[name] = name, tag
	}
	return body
}

// Is tells whether it is a body of this name.
func (c *Contents) Is(name string, body []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, ok := c.bySum[sha256.Sum256(body)]
	return ok && by == strings.TrimSuffix(name, star)
}

// OfTag is the content that has an ETag; "" when none has.
func (c *Contents) OfTag(tag string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byTag[tag]
}

// TagOf is the ETag of a content, without its quotes.
func (c *Contents) TagOf(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tags[name]
}

// Noise is size bytes that depend on the name alone. It begins with the name where
// there is room, so that bodies of the shortest sizes differ too.
func Noise(name string, size int) []byte {
	body := make([]byte, max(size, len(name)))
	n := copy(body, name)
	rng := rand.NewChaCha8(sha256.Sum256([]byte(name)))
	_, _ = rng.Read(body[n:]) // it never fails
	return body
}

// Tag is the ETag of a body that was put at once.
func Tag(body []byte) string {
	sum := md5.Sum(body)
	return hex.EncodeToString(sum[:])
}

// WholeTag is the ETag of a body that was uploaded as these parts.
func WholeTag(parts ...[]byte) string {
	h := md5.New()
	for _, p := range parts {
		sum := md5.Sum(p)
		h.Write(sum[:])
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(parts))
}
