package s3api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// postPolicy is what a signed form may do.
type postPolicy struct {
	expires    time.Time
	conditions []postCondition
	min, max   int64 // of the file
}

type postCondition struct {
	operator, field, value string // eq or starts-with; field in lower case
}

func invalidPolicy(text string) error {
	return failf("InvalidPolicyDocument", "Invalid Policy: %s", text)
}

// parsePolicy is strict where encoding/json is not: each member is named exactly
// and once, and nothing follows.
func parsePolicy(encoded string) (*postPolicy, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, invalidPolicy("it is not base64.")
	}
	members, err := jsonObject(raw)
	if err != nil {
		return nil, err
	}
	p := &postPolicy{max: math.MaxInt64}
	expiration, ok := members["expiration"]
	var at string
	if !ok || json.Unmarshal(expiration, &at) != nil {
		return nil, invalidPolicy("Policy missing expiration.")
	}
	if p.expires, err = time.Parse("2006-01-02T15:04:05.999Z", at); err != nil {
		return nil, invalidPolicy("Invalid 'expiration' value.")
	}
	var list []json.RawMessage
	if c, ok := members["conditions"]; !ok || json.Unmarshal(c, &list) != nil || len(list) == 0 {
		return nil, invalidPolicy("Policy missing conditions.")
	}
	if len(members) != 2 {
		return nil, invalidPolicy("Unexpected member.")
	}
	for _, c := range list {
		if err := p.add(c); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add takes one condition: {"field": "value"}, ["eq", "$field", "value"],
// ["starts-with", "$field", "value"] or ["content-length-range", least, most].
func (p *postPolicy) add(raw json.RawMessage) error {
	if raw[0] == '{' {
		members, err := jsonObject(raw)
		if err != nil {
			return err
		}
		if len(members) != 1 {
			return invalidPolicy("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
		}
		for name, v := range members {
			var value string
			if json.Unmarshal(v, &value) != nil || v[0] != '"' {
				return invalidPolicy("Invalid Simple-Condition value.")
			}
			p.conditions = append(p.conditions, postCondition{"eq", strings.ToLower(name), value})
		}
		return nil
	}
	var list []any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&list) != nil || len(list) != 3 {
		return invalidPolicy("Invalid Condition: a list of three is expected.")
	}
	operator, ok := list[0].(string)
	if !ok {
		return invalidPolicy("Invalid Condition: the operator must be a string.")
	}
	switch operator = strings.ToLower(operator); operator {
	case "content-length-range":
		least, ok := jsonSize(list[1])
		most, ok2 := jsonSize(list[2])
		if !ok || !ok2 {
			return invalidPolicy("Invalid content-length-range.")
		}
		p.min, p.max = max(p.min, least), min(p.max, most)
		return nil
	case "eq", "starts-with":
		field, ok := list[1].(string)
		value, ok2 := list[2].(string)
		if !ok || !ok2 || len(field) < 2 || field[0] != '$' {
			return invalidPolicy("Invalid " + operator + " condition.")
		}
		p.conditions = append(p.conditions, postCondition{operator, strings.ToLower(field[1:]), value})
		return nil
	}
	return invalidPolicy("Invalid Condition: unknown operator.")
}

// jsonSize reads a number of bytes, as a number or as a string.
func jsonSize(v any) (int64, bool) {
	s, ok := v.(string)
	if n, isNumber := v.(json.Number); isNumber {
		s, ok = n.String(), true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, ok && err == nil && n >= 0
}

// jsonObject takes one object apart; a member given twice, or anything behind the
// object, is an error.
func jsonObject(raw []byte) (map[string]json.RawMessage, error) {
	bad := invalidPolicy("it is not a JSON object.")
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return nil, bad
		}
		if _, twice := out[name]; twice {
			return nil, invalidPolicy("a member is given twice.")
		}
		out[name] = value
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return nil, bad
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad
	}
	return out, nil
}

// free are fields that no condition has to name.
func freeField(name string) bool {
	return name == "policy" || name == "x-amz-signature" || name == "file" || strings.HasPrefix(name, "x-ignore-")
}

// check holds the fields of a form, with its bucket among them, against the
// policy: every condition is met and every field is named by one.
func (p *postPolicy) check(fields map[string]string, now time.Time) error {
	denied := func(text string) error { return failf("AccessDenied", "Invalid according to Policy: %s", text) }
	if !now.Before(p.expires) {
		return denied("Policy expired.")
	}
	named := map[string]bool{}
	for _, c := range p.conditions {
		named[c.field] = true
		value, there := fields[c.field]
		if !there || !c.holds(value) {
			return denied("Policy Condition failed: [\"" + c.operator + "\", \"$" + c.field + "\", \"" + c.value + "\"]")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !named[name] && !freeField(name) {
			return denied("Extra input fields: " + name)
		}
	}
	return nil
}

// holds compares one value. A list of content types must begin with it each.
func (c postCondition) holds(value string) bool {
	switch {
	case c.operator == "eq":
		return value == c.value
	case c.field != "content-type":
		return strings.HasPrefix(value, c.value)
	}
	for one := range strings.SplitSeq(value, ",") {
		if !strings.HasPrefix(strings.TrimSpace(one), c.value) {
			return false
		}
	}
	return true
}
