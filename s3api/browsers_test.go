package s3api_test

import "testing"

// What a browser would run is shown in a sandbox, and no browser guesses.
func TestBrowsersRunNothing(t *testing.T) {
	h := open(t)
	h.bucket("pages")
	for kind, boxed := range map[string]bool{"text/html": true, "Text/HTML; charset=utf-8": true, "image/svg+xml": true, "application/xml": true,
		"text/plain, text/html": true, "text/html (x)": true, "text/html x": true, "text/xsl": true, "TEXT/HTML;charset=x": true,
		"image/png": false, "text/plain": false, "": false} {
		h.want(h.do("PUT", "/pages/x", "<script>", "Content-Type: "+kind), 200, "")
		for _, m := range []string{"GET", "HEAD"} {
			a := h.do(m, "/pages/x", "")
			if got := a.Header.Get("Content-Security-Policy"); a.Header.Get("X-Content-Type-Options") != "nosniff" || (got == "sandbox") != boxed {
				t.Errorf("%s of %q: %v", m, kind, a.Header)
			}
		}
	}
	if a := h.do("GET", "/pages/x?response-content-type=text%2Fhtml", ""); a.Header.Get("Content-Security-Policy") != "sandbox" {
		t.Errorf("by override: %v", a.Header)
	}
	if a := h.do("GET", "/pages/absent", ""); a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("an error: %v", a.Header)
	}
}
