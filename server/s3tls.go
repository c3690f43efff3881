package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certCheck is how often the files of a certificate are looked at, at most.
const certCheck = 10 * time.Second

// s3Cert is the certificate that clients of the S3 listener see. Its files are read
// again when they have changed, so that it can be renewed under a running node.
type s3Cert struct {
	files  TLSFiles
	logger *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	cert    *tls.Certificate
	stamp   [2]fileStamp
	checked time.Time
}

// fileStamp tells one content of a file from another.
type fileStamp struct {
	at   time.Time
	size int64
}

func loadS3Cert(files TLSFiles, logger *slog.Logger) (*s3Cert, error) {
	c := &s3Cert{files: files, logger: logger, now: time.Now}
	stamp, err := c.stamps()
	if err != nil {
		return nil, fmt.Errorf("s3.tls: %w", err)
	}
	if err := c.load(stamp); err != nil {
		return nil, err
	}
	c.checked = c.now()
	return c, nil
}

func (c *s3Cert) stamps() (out [2]fileStamp, err error) {
	for i, name := range []string{c.files.Cert, c.files.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return out, err
		}
		out[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return out, nil
}

// load reads both files. The caller holds mu, or nobody else knows c.
func (c *s3Cert) load(stamp [2]fileStamp) error {
	cert, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("s3.tls: %w", err)
	}
	c.cert, c.stamp = &cert, stamp
	return nil
}

// get is the certificate for a handshake. What cannot be read, or does not fit
// together while it is being replaced, leaves the one before in use.
func (c *s3Cert) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= certCheck {
		c.checked = now
		stamp, err := c.stamps()
		if err == nil && stamp != c.stamp {
			if err = c.load(stamp); err == nil {
				c.logger.Info("the certificate of the S3 listener was read again", "cert", c.files.Cert)
			}
		}
		if err != nil {
			c.logger.Error("the certificate of the S3 listener cannot be read; the one before stays in use", "err", err)
		}
	}
	return c.cert, nil
}

// config is what the S3 listener offers: HTTP/1.1 alone, as without TLS.
func (c *s3Cert) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.get}
}
