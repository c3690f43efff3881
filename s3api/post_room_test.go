package s3api_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// slowForms is how many forms may trickle at a time, with a MiB each.
const slowForms = 64

// TestTricklingForms: forms that begin and then hardly come hold half of the memory for
// forms at most, whatever they have sent. Others are stored, and of those that trickle
// there are always some that go on; the rest is told so.
func TestTricklingForms(t *testing.T) {
	for name, sent := range map[string]int{"hardly begun": 1000, "a small piece": 1<<20 - 1, "more than that": 1<<20 + 100_000} {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			h.bucket("forms")
			whole := h.form("forms", upload{file: blob(9 << 20)})
			body, err := io.ReadAll(whole.Body)
			if err != nil {
				t.Fatal(err)
			}
			head := wire(whole, "", fmt.Sprintf("Content-Length: %d", len(body)))
			const n = 100
			var mu sync.Mutex
			said := map[string]int{}
			var conns []net.Conn
			var ended sync.WaitGroup
			defer func() {
				for _, c := range conns {
					_ = c.Close()
				}
				ended.Wait()
			}()
			told := make(chan struct{}, n)
			for range n {
				c, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
				ended.Go(func() {
					if _, err := io.WriteString(c, head+string(body[:2000+sent])); err != nil {
						return
					}
					answer, _ := io.ReadAll(c) // until it is closed at either end
					mu.Lock()
					_, code, _ := strings.Cut(string(answer), "<Code>")
					code, _, _ = strings.Cut(code, "<")
					said[code]++
					mu.Unlock()
					told <- struct{}{}
				})
			}
			for range n - slowForms {
				<-told
			}
			for range 3 {
				h.want(h.send(h.form("forms", upload{file: blob(9 << 20)})), 204, "")
			}
			mu.Lock()
			defer mu.Unlock()
			t.Log(said)
			if ended := said["RequestTimeout"] + said["SlowDown"]; ended < n-slowForms || said["RequestTimeout"] == 0 || len(said) > 2 {
				t.Errorf("they were told %v", said)
			}
		})
	}
}
