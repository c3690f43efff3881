package sigv4

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"time"
)

// Form is what the fields of a POST form say about its signature. The policy is
// what is signed, as it was sent.
type Form struct {
	Policy, Algorithm, Credential, Date, Signature string
}

// VerifyForm answers the identity that signed a form's policy. What the policy
// allows, and until when, is the caller's to check.
func (v *Verifier) VerifyForm(ctx context.Context, f Form) (*Auth, error) {
	if f.Algorithm+f.Credential+f.Date+f.Signature == "" {
		return nil, ErrNoAuth
	}
	for _, field := range [][2]string{{"X-Amz-Algorithm", f.Algorithm}, {"X-Amz-Credential", f.Credential}, {"X-Amz-Date", f.Date}, {"X-Amz-Signature", f.Signature}} {
		if name, value := field[0], field[1]; value == "" {
			return nil, &Detail{ErrMalformedForm, "Bucket POST must contain a field named '" + name + "'.  If it is specified, please check the order of the fields.",
				map[string]string{"ArgumentName": name, "ArgumentValue": ""}}
		}
	}
	if f.Algorithm != algorithm {
		return nil, detail(ErrMalformedForm, "X-Amz-Algorithm only supports \""+algorithm+"\"")
	}
	c := &claim{signature: f.Signature, date: f.Date}
	if err := v.setScope(c, f.Credential); err != nil {
		return nil, detail(ErrMalformedForm, err.Error())
	}
	if _, err := time.Parse(timeFormat, c.date); err != nil || len(c.date) != len(timeFormat) || c.date[:8] != c.day {
		return nil, detail(ErrMalformedForm, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\" and of the day of the credential")
	}
	if c.region != v.Region {
		return nil, detail(ErrMalformedForm, "the region '"+c.region+"' is wrong; expecting '"+v.Region+"'")
	}
	secret, secretErr := v.Secret(ctx, c.accessKey)
	if secretErr != nil {
		if !errors.Is(secretErr, ErrUnknownAccessKey) {
			return nil, secretErr
		}
		secret = unknownSecret
	}
	key := v.keys.get(keyID{secret, c.day, c.region, c.service})
	sum := mac(key[:], f.Policy)
	equal := hmac.Equal(hex.AppendEncode(nil, sum[:]), []byte(f.Signature))
	if secretErr != nil {
		return nil, secretErr
	}
	if !equal {
		return nil, ErrMismatch
	}
	return &Auth{AccessKey: c.accessKey, Payload: Payload{Mode: ModeUnsigned}, date: c.date, scope: c.scope, seed: c.signature, key: key}, nil
}
