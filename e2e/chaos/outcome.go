package chaos

import (
	"errors"
	"net"
)

// Outcome is what an answer says about whether the request was done.
type Outcome int

// The outcomes.
const (
	Absurd  Outcome = iota // an answer that has no place under any fault, or none at all
	Done                   // it was done, once
	Nothing                // it was certainly not done, and never will be
	Unmet                  // a condition of it did not hold
	Missing                // what it asks for is not there
	Unknown                // it may have been done, or may be yet
)

func (o Outcome) String() string {
	return [...]string{"absurd", "done", "nothing", "unmet", "missing", "unknown"}[o]
}

// Judge reads an answer: an error of the transport, else a status and S3's code.
// 503 and 507 promise that nothing was done; only 500, and an answer that never
// came, leave it open.
func Judge(status int, code string, err error) Outcome {
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return Nothing // nobody heard it
	case err != nil:
		return Unknown
	case status == 200 || status == 204 || status == 206:
		return Done
	case status == 412:
		return Unmet
	case status == 404 && (code == "NoSuchKey" || code == ""): // HEAD has no code
		return Missing
	case status == 503 || status == 507, status == 409 && code == "ConditionalRequestConflict", status == 400 && code == "RequestTimeout":
		return Nothing
	case status == 500:
		return Unknown
	}
	return Absurd
}
