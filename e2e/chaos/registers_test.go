//go:build e2e

package chaos

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	slots = 8 // keys in use at a time
	// perGeneration is after how many of its own turns a client goes on to fresh
	// keys: a history of too many operations cannot be judged.
	perGeneration = 80
)

// draw is one turn's choices. All are drawn before anything is asked, so that the
// sequence of a client does not depend on what it is answered.
type draw struct {
	node, slot, verb, size, from int
}

var registerSizes = []int{60, 60, 60, 60, 3000, 20_000, 20_000, 100_000, 100_000, 4<<20 + 10}

// register is one operation on a contended key.
func (w *worker) register(n int) {
	d := draw{w.rng.IntN(len(w.nodes)), w.rng.IntN(slots), w.rng.IntN(100), w.rng.IntN(len(registerSizes)), w.rng.IntN(slots)}
	node := w.nodes[d.node]
	key := registerKey(n/perGeneration, d.slot)
	size := registerSizes[d.size]
	if size > 1<<20 && n%4 != 0 { // large ones are rare
		size = 200_000
	}
	name := fmt.Sprintf("c%d.%d", w.id, n)
	seen := w.seen(key)
	switch v := d.verb; {
	case v < 30:
		w.get(node, key)
	case v < 38:
		w.head(node, key)
	case v < 45:
		w.listOne(node, key)
	case v < 62:
		w.put(node, Ask{Verb: "PUT", Key: key, Content: name}, size)
	case v < 70:
		w.put(node, Ask{Verb: "PUT", Key: key, Content: name, Absent: true}, size)
	case v < 80:
		w.put(node, Ask{Verb: "PUT", Key: key, Content: name, Match: seen}, size)
	case v < 87:
		w.remove(node, key)
	case v < 93:
		w.copy(node, registerKey(n/perGeneration, d.from), key)
	default:
		w.multipart(node, key, name, size)
	}
}

func registerKey(generation, slot int) string { return fmt.Sprintf("r/%03d/%d", generation, slot) }

func (c *crowd) seen(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[key]
}

func (c *crowd) see(key, content string) {
	if content == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[key] = content
}

// send asks for a key of the registers and tells when.
func (w *worker) send(n *node, key string, r request) (a answer, call, end time.Duration) {
	r.path = "/" + registerBucket + "/" + key
	call = w.now()
	a = w.client.do(context.Background(), n, r)
	return a, call, w.now()
}

// read enters what a read has found, if it was answered.
func (w *worker) read(n *node, verb, key string, a answer, content string, call, end time.Duration) (told bool) {
	if !w.count(w.zone, false, verb+" "+key, a) || a.Outcome != Done && a.Outcome != Missing {
		return false
	}
	w.see(key, content)
	w.history.Add(w.id, Ask{Kind: Read, Verb: verb, Key: key, Via: n.id}, Saw{Content: content}, call, end)
	return true
}

func (w *worker) get(n *node, key string) (told bool) {
	a, call, end := w.send(n, key, request{method: http.MethodGet})
	content := w.tagged(n, "GET", key, a.Outcome, a.tag())
	if a.Outcome == Done && !w.contents.Is(content, a.body) {
		w.broken("GET %s via %s: %d bytes that are not those of %q", key, n.id, len(a.body), content)
	}
	return w.read(n, "GET", key, a, content, call, end)
}

func (w *worker) head(n *node, key string) {
	a, call, end := w.send(n, key, request{method: http.MethodHead})
	w.read(n, "HEAD", key, a, w.tagged(n, "HEAD", key, a.Outcome, a.tag()), call, end)
}

// tagged finds the content of an ETag.
func (w *worker) tagged(n *node, verb, key string, o Outcome, tag string) string {
	if o != Done {
		return ""
	}
	content := w.contents.OfTag(tag)
	if content == "" {
		w.broken("%s %s via %s: ETag %q, which nobody's bytes have", verb, key, n.id, tag)
	}
	return content
}

// listOne reads a key by listing it.
func (w *worker) listOne(n *node, key string) {
	call := w.now()
	p, a := w.client.list(context.Background(), n, registerBucket, key, "", 2)
	end := w.now()
	content := ""
	switch {
	case a.Outcome == Done && len(p.Contents) == 1 && p.Contents[0].Key == key:
		content = w.tagged(n, "LIST", key, Done, trimQuotes(p.Contents[0].ETag))
	case a.Outcome == Done && len(p.Contents) > 0:
		w.broken("LIST %s via %s: %d keys, the first %q", key, n.id, len(p.Contents), p.Contents[0].Key)
		return
	}
	w.read(n, "LIST", key, a, content, call, end)
}

func trimQuotes(tag string) string {
	if len(tag) > 1 && tag[0] == '"' {
		return tag[1 : len(tag)-1]
	}
	return tag
}

// write enters what came of a write.
func (w *worker) write(n *node, ask Ask, a answer, call, end time.Duration) {
	if !w.count(w.zone, true, ask.Verb+" "+ask.Key, a) {
		return
	}
	ask.Via = n.id
	saw := Saw{Unknown: a.Outcome == Unknown}
	switch a.Outcome {
	case Nothing:
		return
	case Unmet, Missing:
		// If-Match where nothing is answers NoSuchKey.
		if !ask.Absent && ask.Match == "" || a.Outcome == Missing && ask.Match == "" {
			w.broken("%s %s via %s: %s", ask.Verb, ask.Key, n.id, a)
			return
		}
		saw.Unmet = true
	}
	w.history.Add(w.id, ask, saw, call, end)
}

func (w *worker) put(n *node, ask Ask, size int) {
	ask.Kind = Write
	body := w.contents.Make(ask.Content, size)
	header := map[string]string{}
	if ask.Absent {
		header["If-None-Match"] = "*"
	}
	if ask.Match != "" {
		header["If-Match"] = `"` + w.contents.TagOf(ask.Match) + `"`
	}
	a, call, end := w.send(n, ask.Key, request{method: http.MethodPut, header: header, body: body})
	if a.Outcome == Done && a.tag() != Tag(body) {
		w.broken("PUT %s via %s: ETag %s for a body of ETag %s", ask.Key, n.id, a.tag(), Tag(body))
	}
	w.write(n, ask, a, call, end)
}

func (w *worker) remove(n *node, key string) {
	a, call, end := w.send(n, key, request{method: http.MethodDelete})
	w.write(n, Ask{Kind: Remove, Verb: "DELETE", Key: key}, a, call, end)
}

// copy copies what was last seen at another key, if it is still there: a read of
// the one and a write of the other.
func (w *worker) copy(n *node, from, to string) {
	content := w.seen(from)
	if content == "" || from == to || strings.HasSuffix(content, star) { // a copy of parts has another ETag
		return
	}
	a, call, end := w.send(n, to, request{method: http.MethodPut, header: map[string]string{
		"X-Amz-Copy-Source":          "/" + registerBucket + "/" + from,
		"X-Amz-Copy-Source-If-Match": `"` + w.contents.TagOf(content) + `"`,
	}})
	source := Ask{Kind: Read, Verb: "COPY from", Key: from, Via: n.id}
	switch a.Outcome {
	case Missing:
		w.history.Add(w.id, source, Saw{}, call, end)
		return
	case Unmet:
		source.Kind, source.Match = Differ, content
		w.history.Add(w.id, source, Saw{}, call, end)
		return
	case Done:
		w.history.Add(w.id, source, Saw{Content: content}, call, end)
		w.copied(n, to, content, a)
	}
	w.write(n, Ask{Kind: Write, Verb: "COPY", Key: to, Content: content}, a, call, end)
}

// copied checks the ETag that a copy was given.
func (w *worker) copied(n *node, to, content string, a answer) {
	var result struct{ ETag string }
	if err := xml.Unmarshal(a.body, &result); err != nil {
		w.broken("COPY to %s via %s: %v", to, n.id, err)
		return
	}
	if by := w.contents.OfTag(trimQuotes(result.ETag)); by != content {
		w.broken("COPY of %s to %s via %s: the ETag of %q", content, to, n.id, by)
	}
}

// multipart uploads in one part and completes: that is the write.
func (w *worker) multipart(n *node, key, name string, size int) {
	body := w.contents.Make(name, size)
	id, ok := w.upload(n, registerBucket, key, body)
	if !ok {
		return
	}
	call := w.now()
	a := w.client.complete(context.Background(), n, registerBucket, key, id, body)
	w.write(n, Ask{Kind: Write, Verb: "COMPLETE", Key: key, Content: name + star}, a, call, w.now())
}

// upload begins a multipart upload and sends its parts.
func (w *worker) upload(n *node, bucket, key string, parts ...[]byte) (id string, ok bool) {
	path := "/" + bucket + "/" + key
	a := w.client.do(context.Background(), n, request{method: http.MethodPost, path: path, query: url.Values{"uploads": {""}}})
	var begun struct{ UploadId string }
	if !w.count(w.zone, true, "CREATE UPLOAD "+key, a) || a.Outcome != Done {
		return "", false
	}
	if err := xml.Unmarshal(a.body, &begun); err != nil || begun.UploadId == "" {
		w.broken("CREATE UPLOAD %s via %s: %v %s", key, n.id, err, a.body)
		return "", false
	}
	for i, part := range parts {
		a := w.client.do(context.Background(), n, request{method: http.MethodPut, path: path, body: part,
			query: url.Values{"uploadId": {begun.UploadId}, "partNumber": {fmt.Sprint(i + 1)}}})
		if !w.count(w.zone, true, "UPLOAD PART "+key, a) || a.Outcome != Done {
			return "", false
		}
	}
	return begun.UploadId, true
}

// complete makes the uploaded parts an object.
func (c *client) complete(ctx context.Context, n *node, bucket, key, id string, parts ...[]byte) answer {
	list := "<CompleteMultipartUpload>"
	for i, p := range parts {
		list += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, Tag(p))
	}
	list += "</CompleteMultipartUpload>"
	return c.do(ctx, n, request{method: http.MethodPost, path: "/" + bucket + "/" + key, query: url.Values{"uploadId": {id}}, body: []byte(list)})
}
