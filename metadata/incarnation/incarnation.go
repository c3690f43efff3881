// Package incarnation counts the lives of a node, so that one that was set back to
// an older copy of its data is found out before it votes.
//
// An older copy has an older vote and a shorter log, and everything in it checks.
// But every start of a node takes the next number, durably, and the node tells it
// to its peers, who write down the highest that they have heard of each other. A
// node whose number a peer has heard before has lived that life already: its data
// was set back. That verdict is kept, since more starts would count past it.
//
// Book is the file and the rules; who asks whom and when is the caller's affair.
package incarnation

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/zeebo/xxh3"
)

// Life is one life of a node. Nonce tells two lives of the same number apart from
// one that asks twice.
type Life struct {
	Number uint64 `json:"number"`
	Nonce  uint64 `json:"nonce"`
}

// content of the file: one line of JSON, one with its XXH3-64 in hex.
type content struct {
	Version int             `json:"version"`
	Self    Life            `json:"self"`
	Peers   map[string]Life `json:"peers"`    // the latest life of each
	SetBack string          `json:"set_back"` // the verdict, if it was passed
}

// Book is what a node has written down. Its methods may be called concurrently.
type Book struct {
	path string

	mu sync.Mutex
	c  content
}

// Open begins a life. A file that is damaged or missing counts from the beginning:
// then the peers know better (Outlive).
func Open(path string) (b *Book, damaged error, err error) {
	b = &Book{path: path, c: content{Version: 1, Peers: map[string]Life{}}}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, nil, err
	default:
		var c content
		if damaged = parse(raw, &c); damaged != nil {
			damaged = fmt.Errorf("%s: %w", path, damaged)
		} else {
			b.c = c
		}
	}
	if b.c.SetBack != "" {
		return b, nil, nil // it lives no more
	}
	b.c.Self = Life{b.c.Self.Number + 1, rand.Uint64()}
	return b, damaged, b.save()
}

func parse(raw []byte, c *content) error {
	line, sum, ok := strings.Cut(string(raw), "\n")
	want, err := strconv.ParseUint(strings.TrimSuffix(sum, "\n"), 16, 64)
	if !ok || err != nil || xxh3.HashString(line) != want {
		return errors.New("checksum differs")
	}
	if err := json.Unmarshal([]byte(line), c); err != nil {
		return err
	}
	if c.Version != 1 {
		return fmt.Errorf("version %d is not known", c.Version)
	}
	if c.Peers == nil {
		c.Peers = map[string]Life{}
	}
	return nil
}

// save needs mu, or that nobody else has b.
func (b *Book) save() error {
	line, err := json.Marshal(b.c)
	if err != nil {
		return err
	}
	tmp := b.path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\n%016x\n", line, xxh3.Hash(line))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, b.path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Self is the present life.
func (b *Book) Self() Life {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c.Self
}

// Heard writes a peer's life down, durably, and answers the number of the latest
// one heard before it; 0 if there is none.
func (b *Book) Heard(peer string, l Life) (before uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.c.Peers[peer]
	if known == l {
		return l.Number - 1, nil // it asks again
	}
	if l.Number > known.Number {
		b.c.Peers[peer] = l
		err = b.save()
	}
	return known.Number, err
}

// Judge takes a peer's answer in. An error is the verdict: this life was lived.
func (b *Book) Judge(peer string, before uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if before < b.c.Self.Number {
		return nil
	}
	b.c.SetBack = fmt.Sprintf("the data was set back to an older copy: this is life %d of the node, and %s has heard of life %d",
		b.c.Self.Number, peer, before)
	return errors.Join(errors.New(b.c.SetBack), b.save())
}

// Outlive moves on behind a life that a peer has heard of, where the file was
// damaged and cannot tell. Every peer must be told of the life that follows.
func (b *Book) Outlive(before uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if before < b.c.Self.Number {
		return nil
	}
	b.c.Self.Number = before + 1
	return b.save()
}

// Absolve takes the verdict back, once nothing of the old copy is used any more, and
// moves on behind the latest life that the others have heard of.
func (b *Book) Absolve(heard uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c.SetBack = ""
	b.c.Self = Life{max(b.c.Self.Number, heard) + 1, rand.Uint64()}
	return b.save()
}

// SetBack is the verdict of this life or an earlier one.
func (b *Book) SetBack() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c.SetBack == "" {
		return nil
	}
	return errors.New(b.c.SetBack)
}
