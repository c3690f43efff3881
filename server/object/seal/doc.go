// Package seal encrypts the bytes of objects. Every part has a data key of its
// own, 256 random bits, and is one stream of packages of 64 KiB under AES-256-GCM
// (DARE 2.0, github.com/minio/sio): a range decrypts only the packages that it
// touches, and a flipped bit is an error, never another byte. The data key itself
// is kept beside the part, sealed (Wrap) by a master key of the region or by a key
// that the client brings with each request and that is never kept.
//
// FORMAT.md says it byte by byte. The package knows neither objects nor disks.
package seal
