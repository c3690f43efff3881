// Package s3api is the door of the object store: HTTP as Amazon S3 speaks it on
// one side, the interfaces of store.go on the other. It knows signatures,
// payload framing, checksums, XML and status codes; it knows nothing of shards,
// disks or consensus.
//
// The way of a request: api.ServeHTTP -> checkHeaderSection, parseQuery, locate
// (bucket and key) -> sigv4.Verify (the one way to an identity) -> checkHeaders
// -> the row of the route table -> a handler, one file for each verb. A handler
// returns an error; errors.go turns it into a code and a status. Bodies are read
// through upload (payload.go), which hashes what passes and withholds the last
// bytes when a claim of the client is false.
//
// What is not supported answers 501 NotImplemented: a query parameter outside of
// a route's list or an unknown x-amz header is never ignored.
//
// Laws that live here: L2 (a false claim leaves no version: the Body never
// reaches io.EOF), L7 (an answer that fails midway breaks the connection).
//
// Behaviours learned from the real service; the test of each bears its number
// (TestLearned01 and so on):
//
//  1. CreateBucket of a bucket that one owns is 200 in us-east-1, 409
//     BucketAlreadyOwnedByYou elsewhere.
//  2. GetBucketLocation writes us-east-1 as an empty element.
//  3. GetBucketVersioning of a bucket that never had versioning is an empty
//     document.
//  4. aws-chunked never becomes part of the stored Content-Encoding.
//  5. More than one range, or a range that cannot be read, means the whole
//     object with 200; an unsatisfiable one is 416 with Content-Range: bytes */N. One of
//     the whole object is 206, with its checksum.
//  6. GET of a part number answers 206, even for an object of one part; only
//     multipart objects bear x-amz-mp-parts-count.
//  7. A true If-Match outweighs If-Unmodified-Since; a false If-None-Match
//     outweighs If-Modified-Since, which is passed over if it lies ahead. The error names
//     the condition.
//  8. A copy onto itself without a change is InvalidRequest. To name a storage class is a
//     change, even if it is the same; so is an encryption that the bucket asks for. Copies
//     tell the id of a null version that they make, but not of one that they copy.
//  9. DeleteObjects demands Content-MD5 or a checksum, even on signed bodies. An id that can
//     be no version's is NoSuchVersion there, not InvalidArgument.
//  10. NextMarker of ListObjects stands only in listings with a delimiter.
//  11. User metadata goes out in lower case; clients keep the case that comes.
//  12. An object without a checksum of the client gets CRC64NVME.
//  13. Deleting what is not there is 204.
//  14. A second CompleteMultipartUpload gets the answer of the first.
//  15. A long copy or complete answers 200 and white space; an error then stands
//     in the body.
//  16. Content-Type defaults to binary/octet-stream.
//  17. The trailer of some clients ends in a bare line feed and an empty line.
//  18. max-keys above 1000 is 1000; max-keys=0 is an empty, finished page.
//  19. An upload without x-amz-checksum-algorithm becomes an object with a
//     CRC64NVME of type FULL_OBJECT (or what its parts by reference share). Until
//     then its parts tell of no checksum, and it is completed without a type.
//  20. HEAD errors have no body.
//  21. response-* parameters count only in signed requests, which all are here.
//  22. x-amz-acl private and bucket-owner-full-control are accepted and change
//     nothing, other ACLs are AccessControlListNotSupported.
//  23. A legal hold that was never set is 404, one that was lifted is OFF.
//  24. x-amz-bypass-governance-retention on a delete is 400 in a bucket without
//     object lock, whatever its value.
//  25. A checksum in the query of a presigned request is signed and counts for nothing;
//     one in a header counts.
//  26. Tags of an object whose current version is a delete marker are 405. A bucket whose
//     tags were replaced by an empty set has no tag set.
package s3api
