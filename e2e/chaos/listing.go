package chaos

import (
	"fmt"
	"strings"
	"time"
)

// Walk is one listing, page by page, of all keys under a prefix.
type Walk struct {
	Prefix   string
	From, To time.Duration
	Pages    [][]string
}

// Listed says what is wrong with a walk: keys out of order or twice, keys that must
// be there and are not, keys that must not be there and are.
func (l *Ledger) Listed(w Walk) []string {
	var wrong []string
	seen := map[string]bool{}
	last := ""
	for i, page := range w.Pages {
		for _, key := range page {
			switch {
			case !strings.HasPrefix(key, w.Prefix):
				wrong = append(wrong, fmt.Sprintf("page %d has %q, which is not under %q", i, key, w.Prefix))
			case key == last || seen[key]:
				wrong = append(wrong, fmt.Sprintf("page %d has %q again", i, key))
			case key < last:
				wrong = append(wrong, fmt.Sprintf("page %d has %q after %q", i, key, last))
			}
			seen[key], last = true, key
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range seen {
		if e := l.entries[key]; e.during(w.From, w.To) == absent {
			wrong = append(wrong, fmt.Sprintf("%s is listed, and must not be: %s", key, e))
		}
	}
	for key, e := range l.entries {
		if strings.HasPrefix(key, w.Prefix) && !seen[key] && e.during(w.From, w.To) == present {
			wrong = append(wrong, fmt.Sprintf("%s is not listed, and was acknowledged: %s", key, e))
		}
	}
	return wrong
}
