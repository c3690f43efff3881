package s3xml

import (
	"strconv"
	"time"
)

// Declaration opens every document.
const Declaration = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// Writer builds a document in memory.
type Writer struct{ b []byte }

// NewWriter starts a document with its declaration.
func NewWriter() *Writer {
	w := &Writer{b: make([]byte, 0, 1024)}
	w.b = append(w.b, Declaration...)
	return w
}

// Root opens the root element with S3's namespace.
func (w *Writer) Root(name string) {
	w.b = append(w.b, '<')
	w.b = append(w.b, name...)
	w.b = append(w.b, ` xmlns="`+Namespace+`">`...)
}

// Open opens an element, Close ends it.
func (w *Writer) Open(name string) {
	w.b = append(append(append(w.b, '<'), name...), '>')
}

// Raw appends what is XML already.
func (w *Writer) Raw(xml string) { w.b = append(w.b, xml...) }

// Close ends an element.
func (w *Writer) Close(name string) {
	w.b = append(append(append(w.b, "</"...), name...), '>')
}

// Text writes an element with text, even if it is empty.
func (w *Writer) Text(name, text string) {
	w.Open(name)
	w.b = appendEscaped(w.b, text)
	w.Close(name)
}

// Optional writes the element unless text is empty.
func (w *Writer) Optional(name, text string) {
	if text != "" {
		w.Text(name, text)
	}
}

// Int writes a number.
func (w *Writer) Int(name string, v int64) {
	w.Open(name)
	w.b = strconv.AppendInt(w.b, v, 10)
	w.Close(name)
}

// Bool writes true or false.
func (w *Writer) Bool(name string, v bool) { w.Text(name, strconv.FormatBool(v)) }

// Time writes Unix nanoseconds as S3 does, with milliseconds.
func (w *Writer) Time(name string, unixNano int64) {
	w.Open(name)
	w.b = time.Unix(0, unixNano).UTC().AppendFormat(w.b, "2006-01-02T15:04:05.000Z")
	w.Close(name)
}

// Bytes is the document.
func (w *Writer) Bytes() []byte { return w.b }

const hexDigits = "0123456789ABCDEF"

// appendEscaped writes control characters as references, as S3 does: not legal
// XML 1.0, but it never turns one key into another. Clients that have such keys
// ask for encoding-type=url.
func appendEscaped(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '&':
			b = append(b, "&amp;"...)
		case c == '<':
			b = append(b, "&lt;"...)
		case c == '>':
			b = append(b, "&gt;"...)
		case c == '"':
			b = append(b, "&quot;"...)
		case c < 0x20 || c == 0x7f:
			b = append(b, "&#x"...)
			if c >= 16 {
				b = append(b, hexDigits[c>>4])
			}
			b = append(b, hexDigits[c&15], ';')
		default:
			b = append(b, c)
		}
	}
	return b
}

// EscapeURL is S3's encoding-type=url: percent-encoding that leaves slashes.
func EscapeURL(s string) string {
	b := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '*' || c == '/' {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}
