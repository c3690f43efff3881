package s3test

import "testing"

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Stores { return NewMemory().Stores() })
}
