//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bivalve/server"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// client is an SDK client with the SDK's default settings.
func (r *region) client(t testing.TB, endpoint string, opts ...func(*config.LoadOptions) error) *s3.Client {
	t.Helper()
	info := r.info(t)
	opts = append([]func(*config.LoadOptions) error{
		config.WithRegion(info.Region), config.WithBaseEndpoint(endpoint),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(info.AccessKey, info.SecretKey, "")),
	}, opts...)
	cfg, err := config.LoadDefaultConfig(context.Background(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
}

// impatient is one that does not retry, so that the test sees what happens.
func (r *region) impatient(t testing.TB, endpoint string) *s3.Client {
	return r.client(t, endpoint, config.WithRetryMaxAttempts(1), config.WithHTTPClient(newHTTPClient(nil)))
}

// newHTTPClient keeps enough idle connections for many callers.
func newHTTPClient(roots *x509.CertPool) *http.Client {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.Proxy, tr.MaxIdleConnsPerHost, tr.DisableCompression = nil, 64, true
	if roots != nil {
		tr.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{Transport: tr}
}

// makeBucket makes one that is there, for any endpoint, when it returns.
func (r *region) makeBucket(t testing.TB, name string) {
	t.Helper()
	if _, err := r.client(t, r.endpoint(t, "a")).CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
}

// statusOf is the HTTP status and S3 code of an error; 0 when no answer came.
func statusOf(err error) (int, string) {
	var resp interface{ HTTPStatusCode() int }
	var api smithy.APIError
	status, code := 0, ""
	if errors.As(err, &resp) {
		status = resp.HTTPStatusCode()
	}
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	return status, code
}

// fetch reads an object whole and checks nothing but the transfer.
func fetch(ctx context.Context, c *s3.Client, bucket, key string) ([]byte, error) {
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(out.Body)
	return body, errors.Join(err, out.Body.Close())
}

func put(ctx context.Context, c *s3.Client, bucket, key string, body io.Reader) error {
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: body})
	return err
}

// listAll is every key below a prefix, with its size.
func listAll(t testing.TB, c *s3.Client, bucket, prefix string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			out[aws.ToString(o.Key)] = aws.ToInt64(o.Size)
		}
	}
	return out
}

// tlsCert is a certificate of localhost that is its own authority.
type tlsCert struct {
	server.TLSFiles
	roots *x509.CertPool
}

func newTLSCert(t testing.TB, dir string) tlsCert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := tlsCert{server.TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}, x509.NewCertPool()}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	if err := errors.Join(os.WriteFile(c.Cert, certPEM, 0o644), os.WriteFile(c.Key, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	c.roots.AppendCertsFromPEM(certPEM)
	return c
}

// tlsFront ends TLS before an endpoint and passes the bytes on untouched. Over
// TLS the SDKs send what they do not over plain HTTP: unsigned payloads with
// their checksum in a trailer.
type tlsFront struct {
	url   string
	roots *x509.CertPool
	pem   string // path of the certificate, for clients in other languages
}

func newTLSFront(t testing.TB, endpoint string) *tlsFront {
	t.Helper()
	c := newTLSCert(t, t.TempDir())
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	f := &tlsFront{roots: c.roots, pem: c.Cert}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	f.url = "https://" + l.Addr().String()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { pipe(ctx, c, strings.TrimPrefix(endpoint, "http://")) })
		}
	})
	return f
}

// pipe joins a connection to an address until either end, or the test, is done.
// A broken pipe is for the client to notice.
func pipe(ctx context.Context, c net.Conn, addr string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		_ = c.Close()
		return
	}
	context.AfterFunc(ctx, func() { _, _ = c.Close(), up.Close() })
	var wg sync.WaitGroup
	wg.Go(func() { defer cancel(); _, _ = io.Copy(up, c) })
	wg.Go(func() { defer cancel(); _, _ = io.Copy(c, up) })
	wg.Wait()
}
