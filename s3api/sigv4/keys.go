package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"
)

// maxKeys bounds the cache of signing keys; when it is full it starts afresh.
const maxKeys = 1024

type keyID struct{ secret, date, region, service string }

// keyCache keeps derived signing keys: four HMACs per access key and day. The
// secret itself is part of the id, so a rotated secret never meets an old key.
type keyCache struct {
	mu   sync.RWMutex
	keys map[keyID][32]byte
}

func (c *keyCache) get(id keyID) [32]byte {
	c.mu.RLock()
	k, ok := c.keys[id]
	c.mu.RUnlock()
	if ok {
		return k
	}
	k = deriveKey(id.secret, id.date, id.region, id.service)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxKeys {
		c.keys = make(map[keyID][32]byte)
	}
	c.keys[id] = k
	return k
}

func mac(key []byte, data string) (out [32]byte) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	h.Sum(out[:0])
	return out
}

func deriveKey(secret, date, region, service string) [32]byte {
	k := mac([]byte("AWS4"+secret), date)
	k = mac(k[:], region)
	k = mac(k[:], service)
	return mac(k[:], "aws4_request")
}
