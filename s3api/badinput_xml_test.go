package s3api_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"bivalve/s3api"
)

func TestBadInputXML(t *testing.T) {
	p := openWatched(t)
	const one = "<Object><Key>x</Key></Object>"
	for row, doc := range map[string]string{
		"117 doctype":           `<!DOCTYPE d [<!ENTITY x "x">]><Delete><Object><Key>&x;</Key></Object></Delete>`,
		"117 external entity":   `<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>`,
		"117 undeclared entity": `<Delete><Object><Key>&x;</Key></Object></Delete>`,
		"117 key twice":         "<Delete><Object><Key>x</Key><Key>y</Key></Object></Delete>",
		"117 quiet twice":       "<Delete><Quiet>true</Quiet><Quiet>false</Quiet>" + one + "</Delete>",
		"117 trailing element":  "<Delete>" + one + "</Delete><Delete/>",
		"117 trailing bytes":    "<Delete>" + one + "</Delete>tail",
		"117 leading bytes":     "head<Delete>" + one + "</Delete>",
		"117 UTF-16":            "\xff\xfe<\x00D\x00e\x00l\x00e\x00t\x00e\x00/\x00>\x00",
		"117 says UTF-16":       `<?xml version="1.0" encoding="UTF-16"?><Delete>` + one + "</Delete>",
		"117 declared twice":    `<?xml version="1.0"?><?xml version="1.0"?><Delete>` + one + "</Delete>",
		"117 instruction":       `<?php x?><Delete>` + one + "</Delete>",
		"117 root":              "<delete>" + one + "</delete>",
		"117 namespace":         `<Delete xmlns="http://example.com/">` + one + "</Delete>",
		"117 unknown element":   "<Delete>" + one + "<Force>true</Force></Delete>",
		"117 text beside":       "<Delete>text" + one + "</Delete>",
		"117 unclosed":          "<Delete>" + one,
		"117 deep":              strings.Repeat("<a>", 200_000),
		"117 long attribute":    `<Delete a="` + strings.Repeat("a", 1<<20) + `">` + one,
		"117 entity bomb":       `<!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>`,
		"116 1001 keys":         "<Delete>" + strings.Repeat(one, 1001) + "</Delete>",
	} {
		began := time.Now()
		a := p.do("POST", "/bad?delete", doc, "Content-MD5: "+md5of(doc))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("row %s took %s", row, took)
		}
		p.refused(row, a, 400, "MalformedXML")
	}
	p.refused("117 empty", p.do("POST", "/bad?delete", "", "Content-MD5: "+md5of("")), 400, "MissingRequestBodyError")
	p.refusedRaw("117 a document of 1 GiB", p.raw(wire(p.signed("POST", "/bad?delete", "Content-MD5: "+md5of("")), "<Delete a='", "Content-Length: 1073741824")), "400", "MaxMessageLengthExceeded")
}

// Row 117: refusing a bomb takes little memory.
func TestBadInputXMLMemory(t *testing.T) {
	p := openWatched(t)
	doc := "<Delete>" + strings.Repeat("<a>", 300_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.refused("117", p.do("POST", "/bad?delete", doc, "Content-MD5: "+md5of(doc)), 400, "MalformedXML")
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 10<<20 {
		t.Errorf("%d bytes allocated for a document of %d", n, len(doc))
	}
}

// Row 116: one key that is refused does not spoil the others.
func TestBadInputDeniedKey(t *testing.T) {
	h := open(t)
	h.bucket("some")
	for _, k := range []string{"a", "b"} {
		h.want(h.do("PUT", "/some/"+k, ""), 200, "")
	}
	h.memory.Hook = func(op, _, key string) error {
		if op == "DeleteObject" && key == "a" {
			return s3api.ErrAccessDenied
		}
		return nil
	}
	doc := "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"
	a := h.do("POST", "/some?delete", doc, "Content-MD5: "+md5of(doc))
	if a.StatusCode != 200 || !strings.Contains(a.body, "<Error><Key>a</Key><Code>AccessDenied</Code>") || !strings.Contains(a.body, "<Deleted><Key>b</Key></Deleted>") {
		t.Error(a.StatusCode, a.body)
	}
	h.want(h.do("HEAD", "/some/a", ""), 200, "")
}
