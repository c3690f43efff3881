package s3api_test

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

const corsDoc = `<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<CORSRule><ID>exact</ID><AllowedOrigin>https://app.example.com</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><AllowedMethod>POST</AllowedMethod>
<AllowedHeader>x-amz-*</AllowedHeader><AllowedHeader>Content-Type</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>300</MaxAgeSeconds></CORSRule>
<CORSRule><AllowedOrigin>https://*.example.org</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>
<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod><AllowedHeader>*</AllowedHeader></CORSRule></CORSConfiguration>`

func TestCORSConfiguration(t *testing.T) {
	h := open(t)
	h.bucket("web")
	h.want(h.do("GET", "/web?cors", ""), 404, "NoSuchCORSConfiguration")
	h.want(h.do("PUT", "/web?cors", corsDoc), 200, "")
	a := h.do("GET", "/web?cors", "")
	for _, want := range []string{"<ID>exact</ID>", "<AllowedHeader>x-amz-*</AllowedHeader>", "<AllowedMethod>POST</AllowedMethod>", "<AllowedOrigin>https://*.example.org</AllowedOrigin>",
		"<ExposeHeader>ETag</ExposeHeader>", "<MaxAgeSeconds>300</MaxAgeSeconds>"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s is not in %s", want, a.body)
		}
	}
	rule := func(inner string) string {
		return "<CORSConfiguration><CORSRule>" + inner + "</CORSRule></CORSConfiguration>"
	}
	const o, m = "<AllowedOrigin>*</AllowedOrigin>", "<AllowedMethod>GET</AllowedMethod>"
	for body, code := range map[string]string{
		"": "MissingRequestBodyError", "<CORSConfiguration/>": "MalformedXML", rule(o): "MalformedXML", rule(m): "MalformedXML",
		rule(o + "<AllowedMethod>PATCH</AllowedMethod>"):                                                     "InvalidRequest",
		rule("<AllowedOrigin>http://*.*</AllowedOrigin>" + m):                                                "InvalidRequest",
		rule(o + m + "<AllowedHeader>*a*</AllowedHeader>"):                                                   "InvalidRequest",
		rule(o + m + "<ExposeHeader>x-*</ExposeHeader>"):                                                     "InvalidRequest",
		rule(o + m + "<MaxAgeSeconds>-1</MaxAgeSeconds>"):                                                    "MalformedXML",
		rule(o + m + "<MaxAgeSeconds>1</MaxAgeSeconds><MaxAgeSeconds>2</MaxAgeSeconds>"):                     "MalformedXML",
		rule(m + "<AllowedOrigin>http://a&#13;&#10;Set-Cookie: b</AllowedOrigin>"):                           "MalformedXML", // row 121
		rule(o + m + "<ExposeHeader>a&#10;b</ExposeHeader>"):                                                 "MalformedXML",
		rule(o + m + "<Alowed/>"):                                                                            "MalformedXML",
		"<CORSConfiguration>" + strings.Repeat("<CORSRule>"+o+m+"</CORSRule>", 101) + "</CORSConfiguration>": "MalformedXML",
		rule(o + m + "<ID>" + strings.Repeat("i", 256) + "</ID>"):                                            "InvalidArgument",
	} {
		if a := h.do("PUT", "/web?cors", body); a.code() != code {
			t.Errorf("%.80s: %q, want %q", body, a.code(), code)
		}
	}
	if a := h.do("GET", "/web?cors", ""); !strings.Contains(a.body, "exact") {
		t.Error("a refused configuration changed the rules")
	}
	h.want(h.do("DELETE", "/web?cors", ""), 204, "")
	h.want(h.do("GET", "/web?cors", ""), 404, "NoSuchCORSConfiguration")
	h.want(h.do("PUT", "/absent?cors", corsDoc), 404, "NoSuchBucket")
}

func TestCORSPreflight(t *testing.T) {
	h := open(t)
	h.bucket("web")
	ask := func(headers ...string) answer {
		return h.send(h.request("OPTIONS", "/web/some/key?uploads", "", headers...))
	}
	app := []string{"Origin: https://app.example.com", "Access-Control-Request-Method: PUT"}
	h.want(ask(app...), 403, "AccessForbidden")
	h.want(h.do("PUT", "/web?cors", corsDoc), 200, "")
	a := ask(append(app, "Access-Control-Request-Headers: X-Amz-Date, content-type")...)
	h.want(a, 200, "")
	for name, want := range map[string]string{"Allow-Origin": "https://app.example.com", "Allow-Methods": "PUT, POST", "Allow-Headers": "x-amz-date, content-type",
		"Expose-Headers": "ETag", "Max-Age": "300", "Allow-Credentials": "true"} {
		if got := a.Header.Get("Access-Control-" + name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(a.Header.Get("Vary"), "Origin") {
		t.Error("no Vary")
	}
	if a := ask("Origin: https://x.example.org", "Access-Control-Request-Method: GET"); a.StatusCode != 200 || a.Header.Get("Access-Control-Allow-Origin") != "https://x.example.org" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	// A rule for everybody reflects nobody and allows no credentials.
	if a := ask("Origin: https://evil.example", "Access-Control-Request-Method: HEAD", "Access-Control-Request-Headers: anything"); a.StatusCode != 200 ||
		a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	for name, headers := range map[string][]string{
		"other origin": {"Origin: https://evil.example", "Access-Control-Request-Method: PUT"},
		"other method": {"Origin: https://app.example.com", "Access-Control-Request-Method: DELETE"},
		"other header": append(app, "Access-Control-Request-Headers: x-other"),
		"bare domain":  {"Origin: https://example.org", "Access-Control-Request-Method: GET"},
		"longer name":  {"Origin: https://app.example.com.evil.example", "Access-Control-Request-Method: PUT"},
	} {
		a := ask(headers...)
		h.want(a, 403, "AccessForbidden")
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s: %q is reflected", name, got)
		}
	}
	h.want(ask("Access-Control-Request-Method: PUT"), 400, "BadRequest")
	h.want(ask("Origin: https://app.example.com"), 400, "BadRequest")
	h.want(ask("Origin: https://app.example.com", "Access-Control-Request-Method: TRACE"), 400, "BadRequest")
	h.want(h.send(h.request("OPTIONS", "/absent/x", "", app...)), 403, "AccessForbidden")
	h.want(ask(app[0], "Access-Control-Request-Method: BREW"), 400, "BadRequest")
	if a := ask(app[0], "Access-Control-Request-Method: \xff"); a.StatusCode != 400 || !utf8.ValidString(a.body) {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	h.bucket("closed") // nothing is allowed there, whatever is asked
	for _, asked := range [][]string{app[:1], {app[0], "Access-Control-Request-Method: BREW"}} {
		a := h.send(h.request("OPTIONS", "/closed", "", asked...))
		if h.want(a, 403, "AccessForbidden"); a.element("ResourceType") != "BUCKET" || a.element("Method") == "" {
			t.Error(a.body)
		}
	}
	if a := h.do("GET", "/closed?cors", ""); a.element("BucketName") != "closed" {
		t.Error(a.body)
	}
	h.want(h.send(h.request("OPTIONS", "/", "", app...)), 405, "MethodNotAllowed")
}

// The answer itself tells the browser as well, also when it is an error.
func TestCORSAnswers(t *testing.T) {
	h := open(t)
	h.bucket("web")
	h.want(h.do("PUT", "/web?cors", corsDoc), 200, "")
	h.want(h.do("PUT", "/web/x", "data"), 200, "")
	allowed := func(a answer) string { return a.Header.Get("Access-Control-Allow-Origin") }
	const org = "Origin: https://x.example.org"
	if a := h.do("GET", "/web/x", "", org); a.body != "data" || allowed(a) != "https://x.example.org" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	if a := h.do("GET", "/web/absent", "", org); a.StatusCode != 404 || allowed(a) != "https://x.example.org" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := h.send(h.request("GET", "/web/x", "", org)); a.StatusCode != 403 || allowed(a) != "https://x.example.org" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := h.do("DELETE", "/web/none", "", org); a.StatusCode != 204 || allowed(a) != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := h.do("GET", "/web/x", ""); allowed(a) != "" || a.StatusCode != http.StatusOK {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := h.do("GET", "/web/x", "", "Origin: https://evil.example"); a.body != "data" || allowed(a) != "" {
		t.Errorf("%q %v", a.body, a.Header)
	}
}
