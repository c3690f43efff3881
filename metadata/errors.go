package metadata

import "errors"

// Sentinels that commands and queries answer. Each has a stable code in
// errorCodes, by which it crosses the wire.
var (
	ErrNoSuchBucket       = errors.New("no such bucket")
	ErrBucketExists       = errors.New("bucket already exists")
	ErrBucketNotEmpty     = errors.New("bucket is not empty")
	ErrTooManyBuckets     = errors.New("too many buckets")
	ErrNoSuchKey          = errors.New("no such key")
	ErrNoSuchVersion      = errors.New("no such version")
	ErrNoSuchUpload       = errors.New("no such upload")
	ErrInvalidPart        = errors.New("a listed part was not uploaded or its ETag differs")
	ErrInvalidPartOrder   = errors.New("parts are not in ascending order")
	ErrPartTooSmall       = errors.New("a part that is not the last is smaller than the minimum")
	ErrPartChanged        = errors.New("a part changed while the upload was being completed")
	ErrConditionFailed    = errors.New("a precondition does not hold")
	ErrConditionConflict  = errors.New("a conflicting operation ran at the same time")
	ErrConflict           = errors.New("a conflicting operation is in progress")
	ErrInvalidBucketState = errors.New("the request is not valid with the current state of the bucket")
	ErrLocked             = errors.New("the version is protected by object lock")
	ErrNoObjectLock       = errors.New("the bucket has no object lock")
	ErrIsMarker           = errors.New("the version is a delete marker")
	// ErrMustSeal: the bucket has its new objects encrypted, and whoever made this one did
	// not know it yet.
	ErrMustSeal      = errors.New("the bucket has its objects encrypted")
	ErrQuotaExceeded = errors.New("the bucket would exceed its quota")
	// ErrRecovering: the partition was recovered by force, and does not know yet which of
	// its blobs others need.
	ErrRecovering         = errors.New("the partition waits for others after a forced recovery")
	ErrUnsupportedCommand = errors.New("command or query of an unknown kind or version")
	ErrMalformed          = errors.New("malformed command or query")

	// ErrUnknownOutcome (law L5): the change may or may not have happened.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrUnavailable: no quorum could be had; certainly nothing changed.
	ErrUnavailable = errors.New("metadata is unavailable")
)

// errorCodes are part of the format of results: never renumber.
var errorCodes = []struct {
	code uint16
	err  error
}{
	{1, ErrNoSuchBucket},
	{2, ErrBucketExists},
	{3, ErrBucketNotEmpty},
	{4, ErrTooManyBuckets},
	{5, ErrNoSuchKey},
	{6, ErrNoSuchVersion},
	{7, ErrNoSuchUpload},
	{8, ErrInvalidPart},
	{9, ErrInvalidPartOrder},
	{10, ErrPartTooSmall},
	{11, ErrPartChanged},
	{12, ErrConditionFailed},
	{13, ErrConditionConflict},
	{14, ErrConflict},
	{15, ErrUnsupportedCommand},
	{16, ErrMalformed},
	{17, ErrInvalidBucketState},
	{18, ErrLocked},
	{19, ErrNoObjectLock},
	{20, ErrIsMarker},
	{21, ErrMustSeal},
	{22, ErrQuotaExceeded},
	{23, ErrRecovering},
}

func codeOf(err error) uint16 {
	for _, e := range errorCodes {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	return 0
}

func errorOf(code uint16) error {
	for _, e := range errorCodes {
		if e.code == code {
			return e.err
		}
	}
	return nil
}

// IsAnswer tells an error that is the answer to a command or query, alike on
// every replica, from one that says the replica itself is in trouble.
func IsAnswer(err error) bool { return codeOf(err) != 0 }
