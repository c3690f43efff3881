package s3api

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"unicode/utf8"
)

const (
	// maxFormFields bounds all that comes before the file, as S3 does.
	maxFormFields = 20 << 10
	// maxFormRest bounds all that comes behind it: it counts for nothing, but the reader of
	// parts holds the header of each in memory, and takes one of 10 MiB.
	maxFormRest = 1 << 20
)

// form is a POST form, read up to the beginning of its file.
type form struct {
	fields   map[string]string // names in lower case
	tags     map[string]string // of the object to be
	filename string            // without its path
	named    bool              // the file has a name, perhaps an empty one
	file     *multipart.Part
	rest     *multipart.Reader
	bound    *boundedReader
}

// boundedReader ends in an error when too much comes before or behind the file.
type boundedReader struct {
	src  io.Reader
	left int64 // -1: within the file
}

var errFieldsTooLarge = &apiError{code: "MaxPostPreDataLengthExceeded"}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left < 0 {
		return b.src.Read(p)
	}
	if b.left == 0 {
		return 0, errFieldsTooLarge
	}
	n, err := b.src.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// readForm reads the fields of the form in the body.
func (c *call) readForm() (*form, error) {
	kind, params, err := mime.ParseMediaType(c.header("Content-Type"))
	switch {
	case kind != "multipart/form-data":
		return nil, &apiError{code: "PreconditionFailed", fields: map[string]string{"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"}}
	case err != nil || params["boundary"] == "" || len(params["boundary"]) > 70:
		return nil, fail("MalformedPOSTRequest")
	case c.r.ContentLength < 0:
		return nil, fail("MissingContentLength")
	}
	c.input = &timedBody{src: c.r.Body, ctl: c.w.ctl, idle: c.api.BodyIdle, rate: c.api.BodyRate}
	// The reader of parts reads ahead: what it may take is wider than what is allowed.
	f := &form{fields: map[string]string{}, bound: &boundedReader{src: c.input, left: maxFormFields + 16<<10}}
	f.rest = multipart.NewReader(f.bound, params["boundary"])
	size := 0
	for {
		part, err := f.rest.NextRawPart()
		if err == io.EOF {
			return nil, argument("file", "", "POST requires exactly one file upload per request.")
		}
		if err != nil {
			return nil, badForm(err)
		}
		name := strings.ToLower(part.FormName())
		if name == "file" {
			f.file, f.bound.left = part, -1
			f.filename, f.named, err = filename(part)
			return f, err
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, badForm(err)
		}
		if size += len(name) + len(value); size > maxFormFields {
			return nil, errFieldsTooLarge
		}
		_, twice := f.fields[name]
		switch {
		case name == "":
			return nil, fail("MalformedPOSTRequest")
		case twice:
			return nil, argument(name, "", "A field may be given only once")
		case !utf8.Valid(value):
			return nil, argument(name, "", "A field must be UTF-8")
		}
		f.fields[name] = string(value)
	}
}

// filename is the last element of the name that the client gave the file, if it did.
// Names that climb or that hold control characters are refused.
func filename(part *multipart.Part) (last string, named bool, err error) {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return "", false, fail("MalformedPOSTRequest")
	}
	name, named := params["filename"]
	bad := argument("filename", "", "The name of the file is not valid")
	if !printable(name) {
		return "", named, bad
	}
	elements := strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' })
	for _, e := range elements {
		if e == ".." {
			return "", named, bad
		}
	}
	if len(elements) == 0 {
		return "", named, nil
	}
	return elements[len(elements)-1], named, nil
}

// end reads what follows the file: other fields are passed over, another file is
// an error, and the last boundary must be there.
func (f *form) end() error {
	f.bound.left = maxFormRest
	for {
		part, err := f.rest.NextRawPart()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, errFieldsTooLarge):
			return failf("MalformedPOSTRequest", "What follows the file in your POST request was too large.")
		case err != nil:
			return badForm(err)
		}
		if strings.EqualFold(part.FormName(), "file") {
			return argument("file", "", "POST requires exactly one file upload per request.")
		}
	}
}

// badForm keeps what the wire had to say; the rest is a malformed form.
func badForm(err error) error {
	var a *apiError
	if errors.As(err, &a) {
		return a
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &apiError{code: "IncompleteBody", cause: err}
	}
	return &apiError{code: "MalformedPOSTRequest", cause: err}
}
