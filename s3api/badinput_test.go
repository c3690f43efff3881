package s3api_test

// Bad input, by the numbers of the catalogue that the door is held to. Rows that
// are not listed here have their test where the subject has its own file:
//
//	G1, G9, 76-81   TestKeys, TestBadInputKeys        G2, 68-74  TestPostForm*
//	G3, G4, 117     TestXMLInput, TestBadInputXML     G5, G10    TestRawInput
//	G6              TestRawInput, TestBadInputHTTP    G7, 114    TestBadInputQuery
//	G8, 8           TestRawInput                      G11, 9, 10 TestRawInput
//	G12, 82         TestKeys, TestBadInputKeys        G13        TestIdleBody
//	1, 2, 4-6       TestRawInput, TestBadInputHTTP    13         TestBadInputHTTP
//	14              TestRawInput                      16         TestExpectContinueWithBadAuth
//	17, 20          TestBadInputHTTP                  18         TestIdleBody
//	22-32, 34-40    TestHeaderAuth                    33, 42     TestBadInputAuth
//	41              TestBodyClaims                    45-48      TestRoutesNeedAuth, TestBadInputAuth
//	49-59           TestFramesBad, TestBadInputAuth   60         TestLearned04ContentEncoding
//	61-65           TestLearned21Presigned            66         TestBadInputAuth
//	84, 85          TestBadInputKeys                  86         TestRawInput
//	88-90           TestBadInputObjects               92-94      TestLearned05Ranges, TestLearned06PartNumber
//	96, 100, 101    TestUnsupported                   98         TestConditionalWrites
//	102-108         TestMultipartInput                109        TestMultipartInput
//	110             TestBucketNames                   112, 113   TestBadInputQuery
//	116             TestBadInputXML                   121        TestCORS*
//
// Rows of users and policies (97, 120, 124) and of OpenID (44) have no door to
// knock at yet: all requests are those of root, and anonymous ones are refused.

import (
	"encoding/xml"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"bivalve/s3api"
)

// proof is a house that is watched: nothing in it may change, nothing may panic.
type proof struct {
	*house
	before string
	log    *watched
}

type watched struct {
	mu     sync.Mutex
	panics []string
}

func (w *watched) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "msg=panic") {
		w.mu.Lock()
		w.panics = append(w.panics, string(p))
		w.mu.Unlock()
	}
	return len(p), nil
}

// openWatched opens a house with bucket "bad" and the object "bad/x" in it.
func openWatched(t *testing.T, change ...func(*s3api.Config)) *proof {
	t.Helper()
	w := &watched{}
	if os.Getenv(runningRegion) == "" {
		change = append(change, func(c *s3api.Config) { c.Logger = slog.New(slog.NewTextHandler(w, nil)) })
	}
	h := open(t, change...)
	h.bucket("bad")
	h.want(h.do("PUT", "/bad/x", "old"), 200, "")
	p := &proof{house: h, before: h.fingerprint(), log: w}
	t.Cleanup(p.unchanged)
	return p
}

// unchanged proves that no case did anything.
func (p *proof) unchanged() {
	p.Helper()
	if now := p.fingerprint(); now != p.before {
		p.Errorf("the region has changed: it was\n%s\nand is\n%s", p.before, now)
		p.before = now
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	for _, l := range p.log.panics {
		p.Errorf("panic: %s", l)
	}
	p.log.panics = nil
}

// refused demands status, code and a whole S3 error document, and no change.
func (p *proof) refused(row string, a answer, status int, code string) {
	p.Helper()
	if a.StatusCode != status || a.code() != code {
		p.Errorf("row %s: %d %q, want %d %q\n%s", row, a.StatusCode, a.code(), status, code, a.body)
	}
	if a.Request == nil || a.Request.Method != "HEAD" {
		p.errorDocument(row, a.body)
	}
	p.unchanged()
}

// refusedRaw is refused for an answer as it came over the wire; without a code
// the answer is one of net/http itself, before the door.
func (p *proof) refusedRaw(row, out, status, code string) {
	p.Helper()
	_, body, _ := strings.Cut(out, "\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.1 "+status+" ") || (answer{body: body}).code() != code {
		p.Errorf("row %s: want %s %q, got\n%s", row, status, code, out)
	}
	if strings.Count(out, "HTTP/1.1 ") != 1 {
		p.Errorf("row %s: more than one answer:\n%s", row, out)
	}
	if code != "" {
		p.errorDocument(row, body)
	}
	p.unchanged()
}

// errorDocument reads the document with a reader that is not ours.
func (p *proof) errorDocument(row, body string) {
	p.Helper()
	var e struct {
		XMLName                          xml.Name `xml:"Error"`
		Code, Message, RequestId, HostId string
	}
	d := xml.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&e); err != nil || e.Code == "" || e.Message == "" || e.RequestId == "" || e.HostId == "" {
		p.Errorf("row %s: not an S3 error document (%v):\n%s", row, err, body)
		return
	}
	if rest, err := d.Token(); err != io.EOF {
		p.Errorf("row %s: %v behind the document: %s", row, rest, body)
	}
}
