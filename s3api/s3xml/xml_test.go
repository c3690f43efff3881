package s3xml

import (
	"encoding/xml"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestParseRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"empty":          "",
		"doctype":        `<!DOCTYPE x []><Delete/>`,
		"entity":         `<Delete>&foo;</Delete>`,
		"xxe":            `<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete>&x;</Delete>`,
		"wrong root":     `<Delet/>`,
		"two roots":      `<Delete/><Delete/>`,
		"trailing text":  `<Delete/>x`,
		"leading text":   `x<Delete/>`,
		"unclosed":       `<Delete><a>`,
		"namespace":      `<Delete xmlns="http://example.com/"/>`,
		"prefix":         `<a:Delete xmlns:a="http://example.com/"/>`,
		"mixed":          `<Delete>x<a/></Delete>`,
		"mixed 2":        `<Delete><a/>x</Delete>`,
		"utf-16":         "\xff\xfe<\x00D\x00",
		"declared other": `<?xml version="1.0" encoding="UTF-16"?><Delete/>`,
		"instruction":    `<?php x?><Delete/>`,
		"deep":           strings.Repeat("<Delete>", 40) + strings.Repeat("</Delete>", 40),
	} {
		if _, err := Parse([]byte(doc), "Delete"); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	for name, doc := range map[string]string{
		"plain":     `<Delete/>`,
		"namespace": `<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="` + Namespace + `"> <Object><Key>a</Key></Object> </Delete> `,
		"bom":       "\xef\xbb\xbf<Delete/>",
		"comment":   `<!-- x --><Delete><!-- y --></Delete>`,
	} {
		if _, err := Parse([]byte(doc), "Delete"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDeepNestingIsCheap(t *testing.T) {
	doc := []byte(strings.Repeat("<a>", 300_000))
	start := time.Now()
	if _, err := Parse(doc, "a"); err == nil {
		t.Error("accepted")
	}
	if d := time.Since(start); d > 100*time.Millisecond {
		t.Errorf("took %v", d)
	}
}

// Text that comments cut into pieces is not copied once for each of them.
func TestTextInPiecesIsCheap(t *testing.T) {
	const pieces = 20_000
	doc := []byte("<Delete><Key>" + strings.Repeat("a<!---->", pieces) + "</Key></Delete>")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := Parse(doc, "Delete")
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := n.Value("Key"); !ok || key != strings.Repeat("a", pieces) {
		t.Errorf("%d bytes of text, want %d", len(key), pieces)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 20<<20 {
		t.Errorf("%d bytes allocated for a document of %d", got, len(doc))
	}
}

func TestCheck(t *testing.T) {
	n, err := Parse([]byte(`<V><Status>Enabled</Status><Status>Suspended</Status></V>`), "V")
	if err != nil {
		t.Fatal(err)
	}
	if n.Check([]string{"Status"}, nil) == nil {
		t.Error("a repeated element was accepted")
	}
	if n.Check(nil, []string{"Status"}) != nil || n.Check([]string{"Other"}, nil) == nil {
		t.Error("Check of names")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<Delete xmlns="` + Namespace + `"><Object><Key>a&amp;b</Key></Object></Delete>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		n, err := Parse(doc, "Delete")
		if err == nil && n.Name != "Delete" {
			t.Error("wrong root")
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("a&b<c>\"'\r\n\t")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := url.QueryUnescape(EscapeURL(s)); err != nil || got != s {
			t.Errorf("url: %q, %v", got, err)
		}
		for _, c := range s {
			if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0xfffd || c == 0xfffe || c == 0xffff {
				return // not XML 1.0
			}
		}
		var got string
		if err := xml.Unmarshal(append(append([]byte("<a>"), appendEscaped(nil, s)...), "</a>"...), &got); err != nil || got != s {
			t.Errorf("xml: %q, %v; want %q", got, err, s)
		}
	})
}
